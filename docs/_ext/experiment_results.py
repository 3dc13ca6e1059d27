"""Pages of results, generated when the documentation is built from ``experiments/results/*.json``.

Every file becomes a section of the page of its "group"; ``index.md`` begins with ``_index.md``.
"""

import json
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent


GROUPS = {
    "quality": "Quality",
    "pieces": "What each piece gains",
    "psf": "The PSF",
    "filters": "Classical filters",
    "speed": "Speed and memory",
    "devices": "Many devices",
    "robustness": "Robustness",
    "parity": "Parity with PyTorch",
    "movies": "Movies and volumes",
}  # in the order of the pages; other groups follow, titled by their names


def write_pages(results, target, tables):
    """Write one Markdown page for each group of results, and the index of the pages.

    Args:
        results: folder of the JSON files.
        target: folder of the pages, with ``_index.md``, the beginning of the index.
        tables: function from the path of a JSON file to its tables as Markdown.

    Returns:
        list[Path]: the pages, in order, then the index.
    """
    groups = {group: [] for group in GROUPS}
    for path in sorted(Path(results).glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        groups.setdefault(found.get("group", "others"), []).append((path, found))
    groups = {group: members for group, members in groups.items() if members}
    contents = {
        group: "\n".join(
            [f"# {_title(group)}\n", *(_section(*member, tables) for member in members)]
        )
        for group, members in groups.items()
    }
    beginning = (Path(target) / "_index.md").read_text(encoding="utf-8")
    toctree = "\n".join(["```{toctree}", ":maxdepth: 2", "", *groups, "```", ""])
    contents["index"] = f"{beginning}\n{toctree}"
    pages = []
    for name, content in contents.items():
        page = Path(target) / f"{name}.md"
        if not page.exists() or page.read_text(encoding="utf-8") != content:
            page.write_text(content, encoding="utf-8")  # a new date would make Sphinx read it anew
        pages.append(page)
    return pages


def _section(path, found, tables):
    lines = [f"## {found['title']}\n"]
    if found.get("command"):
        lines.append(f"```text\n{found['command']}\n```\n")
    facts = {
        "Machine": found.get("machine"),
        "date": found.get("date"),
        "commit": found.get("commit"),
    }
    known = "; ".join(f"{name}: {value}" for name, value in facts.items() if value)
    return "\n".join(
        [
            *lines,
            f"*{known}.*\n" if known else "",
            f"{tables(path).strip()}\n",
            f"{found['note']}\n" if found.get("note") else "",
        ]
    )


def _title(group):
    words = group.replace("_", " ").replace("-", " ")
    return GROUPS.get(group, words[:1].upper() + words[1:])


def _generate(app, config):
    sys.path.insert(0, str(ROOT / "experiments"))
    from common.tables import markdown_tables

    target = DOCS / "results"
    pages = write_pages(ROOT / "experiments" / "results", target, markdown_tables)
    for page in {*target.glob("*.md")} - {*pages, target / "_index.md"}:
        page.unlink()  # of a group that is no more


def setup(app):
    """Generate the pages before Sphinx looks for its sources."""
    app.connect("config-inited", _generate)
    return {"parallel_read_safe": True}
