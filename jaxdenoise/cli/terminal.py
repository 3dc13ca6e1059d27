"""What a person at a terminal sees: progress and messages on standard error, and tables."""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jaxdenoise.config import TrainConfig
from jaxdenoise.system.crew import current_crew
from jaxdenoise.workflows.reporter import OnEpoch, OnTile

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


class Interrupt:
    """Ctrl-C while models are trained: the first one asks to stop, a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Return a context manager within which Ctrl-C asks; the first one says so in a line."""
        try:
            before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not in the main thread: leave signals to their owner
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("jaxdenoise: stopping after this epoch; Ctrl-C again stops at once", file=sys.stderr)


class Lines:
    """A `Reporter` for pipes and logs: messages as lines on standard error, no bars.

    Args:
        quiet: leave the messages out, too.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._interrupt = quiet, Interrupt()

    @contextmanager
    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> Iterator[OnEpoch]:
        """As `Reporter.training`: shows nothing, but heeds Ctrl-C."""
        with self._interrupt.heard():
            yield lambda row: None

    def predicting(self, name: str) -> OnTile:
        """As `Reporter.predicting`: shows nothing."""
        return lambda done, total: None

    def say(self, text: str) -> None:
        """Print a message to standard error, unless quiet."""
        if not self._quiet:
            print(text, file=sys.stderr)

    def insist(self, text: str) -> None:
        """Print a message to standard error, also if quiet."""
        if current_crew().is_primary:
            print(text, file=sys.stderr)

    def cancelled(self) -> bool:
        """Return whether Ctrl-C was pressed while models were trained."""
        return self._interrupt.asked


class Bars:
    """A `Reporter` with progress bars: epoch, losses, rate and time left. A context manager."""

    def __init__(self) -> None:
        self._console, self._interrupt = Console(stderr=True), Interrupt()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        self._progress = Progress(*columns, console=self._console)

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    @contextmanager
    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> Iterator[OnEpoch]:
        """As `Reporter.training`: shows a bar, and heeds Ctrl-C."""
        task = self._progress.add_task(
            "training", total=total or config.epochs, completed=done, facts="compiling"
        )
        patches = config.steps_per_epoch * config.batch_size

        def on_epoch(row: Mapping[str, float]) -> None:
            self._progress.update(task, advance=1)
            speed = self._progress.tasks[task].speed or 0
            losses = f"loss {row['train_loss']:.4f}  validation {row['validation_loss']:.4f}"
            facts = f"{losses}  {speed * patches:.0f} patches/s"
            self._progress.update(task, facts=facts)

        with self._interrupt.heard():
            yield on_epoch

    def predicting(self, name: str) -> OnTile:
        """As `Reporter.predicting`: shows a bar."""
        task = self._progress.add_task(f"denoising {name}", total=None, facts="")
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a message that stays above the bars."""
        self._console.print(Text(text), soft_wrap=True)

    def insist(self, text: str) -> None:
        """As `say`."""
        self.say(text)

    def cancelled(self) -> bool:
        """Return whether Ctrl-C was pressed while models were trained."""
        return self._interrupt.asked


@contextmanager
def reporter(*, quiet: bool) -> Iterator[Lines | Bars]:
    """Return a context manager of the `Reporter` that suits where standard error goes.

    Of several processes only the first one says something.
    """
    if quiet or not current_crew().is_primary:
        yield Lines(quiet=True)
    elif not sys.stderr.isatty():
        yield Lines(quiet=False)
    else:
        with Bars() as bars:
            yield bars
