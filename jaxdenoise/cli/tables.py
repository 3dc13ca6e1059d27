"""Tables on standard output."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WHOLE = 100_000  # characters: more than any table has
_DIGITS = {"ssim": 3, "score": 4, "score_se": 4, "epochs": 0, "seconds": 0}


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print a table to standard output.

    Args:
        title: one line.
        rows: name of the row to name of the column to number (None prints as "-"); other keys are
            left out.
        columns: names of the columns, in order.
    """
    cells = [
        (name, *(_cell(values[column], column) for column in columns))
        for name, values in rows.items()
    ]
    print_cells(title, ("", *columns), cells, numbers=True)


def print_cells(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False
) -> None:
    """Print a table of text to standard output.

    On a terminal cells are folded to its width; into a pipe or a file they go whole.

    Args:
        title: one line.
        columns: their names.
        rows: cells, as many as columns.
        numbers: whether all columns but the first hold numbers.
    """
    # As `Text`, because brackets in the names of files are no markup.
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        right = numbers and index > 0
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console() if sys.stdout.isatty() else Console(width=_WHOLE)
    console.print(table)


def _cell(value, column):
    return "-" if value is None else f"{value:.{_DIGITS.get(column, 2)}f}"
