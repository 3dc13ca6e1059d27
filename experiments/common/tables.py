"""Show tables as Markdown: row by row while an experiment runs, or from a file of results."""

import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass
class Table:
    """A table of results. Cells are texts or numbers as they are to be shown, or None for none."""

    title: str
    columns: list
    rows: list = dataclasses.field(default_factory=list)

    def start(self):
        """Print title and header; `add` then prints row by row. Return the table."""
        print(f"\n{_head(self.title, self.columns)}", flush=True)
        return self

    def add(self, *cells, show=True):
        """Append a row and print it, so that a long run shows how far it is."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns: {cells}")
        self.rows.append(list(cells))
        if show:
            print(_row(cells), flush=True)

    def markdown(self):
        """Return title, header and rows as Markdown."""
        return "\n".join([_head(self.title, self.columns), *map(_row, self.rows)])


def markdown_tables(path):
    """Return all tables of a file of results as Markdown, each under its title in bold."""
    tables = json.loads(Path(path).read_text(encoding="utf-8"))["tables"]
    return "\n\n".join(Table(**table).markdown() for table in tables)


def markdown_section(path, *, heading="##"):
    """Return a file of results as a section of Markdown: title, command, provenance, note, tables.

    Args:
        path: a JSON file that `common.store.write` wrote.
        heading: the marks before the title.
    """
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    provenance = f"{record['machine']}. Commit {record['commit']}, {record['date']}."
    command = f"```sh\n{record['command']}\n```"
    parts = [f"{heading} {record['title']}", command, provenance, record["note"]]
    return "\n\n".join(part for part in [*parts, markdown_tables(path)] if part) + "\n"


def _head(title, columns):
    return f"**{title}**\n\n{_row(columns)}\n{'|---' * len(columns)}|"


def _row(cells):
    texts = ["-" if cell is None else str(cell).replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(texts)} |"
