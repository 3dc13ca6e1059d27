"""README and docs: links, the names and files that they speak of, and the generated pages."""

import argparse
import importlib
import json
import re
from pathlib import Path

import pytest

import jaxdenoise as jd
from jaxdenoise.cli.parser import parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "experiments" / "README.md",
        *sorted((ROOT / ".github").glob("*.md")),
        *sorted(DOCS.rglob("*.md")),
    )
    if "_build" not in page.parts and (page.parent != DOCS / "results" or page.name[0] == "_")
]
GENERATED = {DOCS / "results" / "index.md"}
named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture
def extensions(monkeypatch):
    """The folder of the documentation's own extensions, on the path."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_first_line_of_readme_that_ends_in_pytest_is_the_test_command():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.endswith("pytest"))
    assert command.split(" && ") == [
        "    python3 -m venv .venv",
        ".venv/bin/pip install -e '.[test]'",
        ".venv/bin/python -m pytest",
    ]


@named
def test_links_to_files_hold(page):
    text = page.read_text(encoding="utf-8")
    targets = {
        page.parent / target.split("#")[0]
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"https?:|mailto:|#", target)
    }
    targets |= {
        page.parent / f"{target}.md"
        for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text)
    }
    missing = [
        str(target)
        for target in targets
        if not target.exists() and target.resolve() not in GENERATED
    ]
    assert not missing


@named
def test_files_of_the_repository_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    pattern = (
        r"(?<![\w./])((?:jaxdenoise|tests|experiments|docs|\.github)/[\w./-]*\.(?:py|pyi|md))\b"
    )
    paths = {path for path in re.findall(pattern, text) if not (ROOT / path).exists()}
    assert not paths


@named
def test_names_of_the_package_that_a_page_speaks_of_exist(page):
    if page.name == "changelog.md":  # which names what was, too
        return
    text = page.read_text(encoding="utf-8")
    names = {f"jaxdenoise.{name}" for name in re.findall(r"\bjd\.((?:\w+\.)*\w+)", text)}
    names |= set(re.findall(r"`(jaxdenoise(?:\.\w+)+)`", text))
    assert not {name for name in names if not exists(name)}


def exists(name):
    """Whether a dotted name is a module, or an attribute of one or of a class."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def test_every_public_name_stands_on_its_page_once():
    text = (DOCS / "api" / "public.md").read_text(encoding="utf-8")
    names = " ".join(re.findall(r"^```\{public-names\} (.*)$", text, re.MULTILINE)).split()
    assert sorted([*names, "workflows"]) == sorted(jd.__all__)  # which has a page of its own


def test_every_sub_package_has_a_page_in_the_api():
    folders = {path.parent.name for path in (ROOT / "jaxdenoise").glob("*/__init__.py")}
    pages = {page.stem for page in (DOCS / "api").glob("*.md")}
    assert folders <= pages
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    assert pages - {"index"} <= set(index.splitlines())


def test_every_verb_stands_in_the_table_of_the_command_line(extensions):
    from command_line import verbs

    text = (DOCS / "command_line.md").read_text(encoding="utf-8")
    assert {name for name, *_ in verbs(parser())} == set(
        re.findall(r"^\| `jaxdenoise (\w+)", text, re.M)
    )


def test_the_reference_of_the_command_line_names_every_flag(extensions):
    from command_line import reference, verbs

    text = reference(parser())
    for name, verb, _ in verbs(parser()):
        section = text.split(f"## `jaxdenoise {name}`")[1].split("\n## ")[0]
        for action in verb._actions:
            for flag in action.option_strings:
                assert flag in ("-h", "--help", "--help-all") or f"`{flag}" in section, (name, flag)


def test_the_reference_of_a_parser_is_markdown(extensions):
    from command_line import reference

    top = argparse.ArgumentParser(prog="tool")
    verb = top.add_subparsers().add_parser("run", help="runs <it>")
    verb.add_argument("input", metavar="FILE", help="a *file*")
    verb.add_argument("-n", "--number", default=3, metavar="N", help="as --input")
    verb.add_argument("--secret", help=argparse.SUPPRESS)
    text = reference(top)
    assert "## `tool run`" in text
    assert "Runs \\<it\\>." in text
    assert "`FILE`\n: A \\*file\\*." in text
    assert "`-n N`, `--number N`\n: As `--input`. Default: `3`." in text
    assert "secret" not in text


def test_results_become_a_page_for_each_group(tmp_path, extensions):
    from experiment_results import write_pages

    results, pages = tmp_path / "results", tmp_path / "pages"
    results.mkdir()
    pages.mkdir()
    (pages / "_index.md").write_text("# All\n")
    for name, group in (("a", "speed"), ("b", "new_things"), ("c", "speed")):
        found = {"title": f"Title {name}", "command": f"python {name}.py", "group": group}
        found |= {"machine": "two cores", "commit": "abc", "date": "today", "note": "Noted."}
        (results / f"{name}.json").write_text(json.dumps(found))
    written = write_pages(results, pages, lambda path: f"| table of {path.stem} |")
    assert [page.name for page in written] == ["speed.md", "new_things.md", "index.md"]
    speed, new, index = (page.read_text() for page in written)
    assert speed.startswith("# Speed and memory\n")
    assert speed.index("## Title a") < speed.index("| table of a |") < speed.index("## Title c")
    assert new.startswith("# New things\n")
    for part in ("```text\npython b.py\n```", "two cores", "abc", "today", "Noted."):
        assert part in new
    assert index.startswith("# All\n")
    assert index.index("speed\n") < index.index("new_things\n")


def test_sources_of_a_docstring_become_paragraphs(extensions):
    from packages import join_sources

    lines = ["First.", "  Source: A and B,", "      1999.", "", "Last.", "    kept"]
    joined = ["First.", "", "  Source: A and B,", "  1999.", "", "Last.", "    kept"]
    assert join_sources(lines) == joined


def test_modules_of_a_package_are_found(extensions):
    from packages import module_names

    assert "jaxdenoise.imaging.filters" in module_names("jaxdenoise.imaging")
    assert module_names("jaxdenoise.config") == ["jaxdenoise.config"]
