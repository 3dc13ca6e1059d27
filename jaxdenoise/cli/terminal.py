"""What a person at a terminal sees of a run: progress and messages on standard error."""

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from jaxdenoise.config import TrainConfig
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.event_files import EventFiles
from jaxdenoise.workflows.reporter import OnEpoch, OnTile, Reporter, Several

_FILES = "files"  # what `batches` calls the progress of a whole batch
_PAUSE = 30  # seconds between two lines of progress where there is no terminal
# Columns of a terminal from which on it shows the bar, and the losses.
_FOR_BAR, _FOR_LOSSES = 64, 112
_COUNT, _BAR, _LOSSES = 24, 20, 56  # columns that count and time left, bar, and losses take


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
    """A `Reporter` for pipes and logs: messages as lines, and one on the progress every 30 seconds.

    Args:
        quiet: leave out all but what must be seen.
        write: takes a line; default: standard error.
        interrupt: hears Ctrl-C while models are trained; None: nobody does.
        words: turns options in a message, such as ``psf="auto"``, into flags.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        write: Callable[[str], None] | None = None,
        interrupt: Interrupt | None = None,
        words: Callable[[str], str] = str,
    ) -> None:
        self._quiet, self._interrupt, self._words = quiet, interrupt, words
        self._write = write or _to_stderr
        self._last = time.monotonic()

    @contextmanager
    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> Iterator[OnEpoch]:
        """As `Reporter.training`: a line now and then, and heeds Ctrl-C."""
        began, count, number = time.monotonic(), total or config.epochs, itertools.count(done + 1)

        def on_epoch(row: Mapping[str, float]) -> None:
            epoch = next(number)
            rest = (time.monotonic() - began) / (epoch - done) * (count - epoch)
            self._progress(f"training: epoch {epoch} of {count}", rest, _losses(row))

        with nullcontext() if self._interrupt is None else self._interrupt.heard():
            yield on_epoch

    def predicting(self, name: str) -> OnTile:
        """As `Reporter.predicting`: a line now and then."""
        began = time.monotonic()

        def on_tile(done: int, total: int) -> None:
            rest = (time.monotonic() - began) / max(done, 1) * (total - done)
            self._progress(f"denoising {name}: {done} of {total}", rest)

        return on_tile

    def _progress(self, text, rest, more=""):
        now = time.monotonic()
        if not self._quiet and now - self._last >= _PAUSE:
            self._last = now
            self._write(f"{text}, {clock(rest)} left{more and f', {more}'}")

    def say(self, text: str) -> None:
        """Write a message, unless quiet."""
        if not self._quiet:
            self._write(self._words(text))

    def insist(self, text: str) -> None:
        """Write a message, also if quiet."""
        if current_crew().is_primary:
            self._write(self._words(text))

    def cancelled(self) -> bool:
        """Return whether Ctrl-C was pressed while models were trained."""
        return self._interrupt is not None and self._interrupt.asked


def _to_stderr(text):
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, such as "1:05", or with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _losses(row):
    return f"loss {row['train_loss']:.4f}, validation {row['validation_loss']:.4f}"


class _OfWidth(ProgressColumn):
    """A column that wide terminals show alone."""

    def __init__(self, column: ProgressColumn, console: Console, least: int) -> None:
        super().__init__()
        self._column, self._console, self._least = column, console, least

    def render(self, task: Task) -> RenderableType:
        return self._column.render(task) if self._console.width >= self._least else Text("")


class _Name(ProgressColumn):
    """The description, cut so that the count and the time left have room."""

    def __init__(self, console: Console) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        text, width = Text(task.description), self._console.width
        taken = _COUNT + (_BAR + 1) * (width >= _FOR_BAR) + _LOSSES * (width >= _FOR_LOSSES)
        text.truncate(max(8, width - taken), overflow="ellipsis")
        return text


class Bars:
    """A `Reporter` with progress bars: epoch, losses, rate and time left. A context manager.

    On a narrow terminal the losses go first, then the bar; the count and the time left stay.
    """

    def __init__(self, console: Console | None = None, words: Callable[[str], str] = str) -> None:
        self._console, self._words = console or Console(stderr=True), words
        self._interrupt = Interrupt()
        self._tile: TaskID | None = None
        columns = (
            _Name(self._console),
            _OfWidth(BarColumn(bar_width=_BAR), self._console, _FOR_BAR),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            _OfWidth(TextColumn("{task.fields[facts]}"), self._console, _FOR_LOSSES),
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
            speed = self._progress.tasks[self._progress.task_ids.index(task)].speed or 0
            self._progress.update(task, facts=f"{_losses(row)}, {speed * patches:.0f} patches/s")

        with self._interrupt.heard():
            yield on_epoch

    def predicting(self, name: str) -> OnTile:
        """As `Reporter.predicting`: shows a bar, in place of that of the file before."""
        if name != _FILES and self._tile is not None:
            self._progress.remove_task(self._tile)
        task = self._progress.add_task(f"denoising {name}", total=None, facts="")
        if name != _FILES:
            self._tile = task
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a message that stays above the bars."""
        self._console.print(Text(self._words(text)), soft_wrap=True)

    def insist(self, text: str) -> None:
        """As `say`."""
        self.say(text)

    def cancelled(self) -> bool:
        """Return whether Ctrl-C was pressed while models were trained."""
        return self._interrupt.asked


class Log:
    """A file that keeps what is said, a line each, with date and time; without one, nothing.

    Args:
        path: of the file, to which is appended; None for none.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        if path is not None and current_crew().is_primary:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).open("a").close()
            except OSError as error:
                reason = f"{path}: the log cannot be written ({error.strerror})"
                raise RequestError(f"{reason}; name another file") from error

    def write(self, text: str) -> None:
        """Append a line."""
        if self._path is not None and current_crew().is_primary:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def reporters(self, words: Callable[[str], str]) -> list[Lines]:
        """Return a `Reporter` that writes here, if there is a file; ``words`` as of `Lines`."""
        return [] if self._path is None else [Lines(write=self.write, words=words)]


@contextmanager
def reporter(
    *,
    quiet: bool,
    log: Log | None = None,
    tensorboard: str | None = None,
    words: Callable[[str], str] = str,
) -> Iterator[Reporter]:
    """Return a context manager of the `Reporter` that suits where standard error goes.

    Of several processes only the first one says something.

    Args:
        quiet: say only what must be seen.
        log: keeps what is said, too.
        tensorboard: the folder of event files with the losses of trainings; None: none.
        words: as of `Lines`.
    """
    primary = current_crew().is_primary
    others: list[Reporter] = [*log.reporters(words)] if log is not None and primary else []
    others += [EventFiles(tensorboard)] if tensorboard is not None and primary else []
    if not quiet and primary and sys.stderr.isatty():
        with Bars(words=words) as bars:
            yield Several(bars, *others) if others else bars
        return
    lines = Lines(quiet=quiet or not primary, interrupt=Interrupt(), words=words)
    yield Several(lines, *others) if others else lines
