"""What a person at a terminal sees while a training or a prediction runs. Standard error only, so that results can be piped."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def print_table(title, rows, columns):
    """Print a table to standard output.

    Args:
        title: one line.
        rows: dict of row name to dict of column name to float (None prints as "-").
        columns: names of the columns, in order.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(
            name,
            *(
                "-" if values[column] is None else f"{values[column]:.{_digits(column)}f}"
                for column in columns
            ),
        )
    Console().print(table)


def _digits(column):
    return {"ssim": 3, "score": 4, "score_se": 4, "epochs": 0, "seconds": 0}.get(column, 2)


class Bars:
    """Progress bars: epoch, losses, rate and time left. A context manager."""

    def __init__(self):
        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        self._progress = Progress(*columns, console=self._console)

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()

    def training(self, config, *, done=0, total=None):
        """A bar for a training; returns the function to call with the `epochs.Snapshot` after each of ``total`` epochs."""
        task = self._progress.add_task(
            "training", total=total or config.epochs, completed=done, facts="compiling"
        )
        patches = config.steps_per_epoch * config.batch_size

        def on_epoch(snapshot):
            row = snapshot.history[-1]
            self._progress.update(task, advance=1)
            speed = self._progress.tasks[task].speed or 0
            facts = f"loss {row['train_loss']:.4f}  validation {row['validation_loss']:.4f}  {speed * patches:.0f} patches/s"
            self._progress.update(task, facts=facts)

        return on_epoch

    def predicting(self, name):
        """A bar for a prediction; returns the function to call with (tiles done, tiles in all)."""
        task = self._progress.add_task(f"denoising {name}", total=None, facts="")
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, text):
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)


class Silence:
    """The same interface without bars, for pipes and logs; with ``quiet`` without lines too."""

    def __init__(self, *, quiet):
        self._quiet = quiet

    def training(self, config, *, done=0, total=None):
        return lambda snapshot: None

    def predicting(self, name):
        return lambda done, total: None

    def say(self, text):
        if not self._quiet:
            print(text, file=sys.stderr)
