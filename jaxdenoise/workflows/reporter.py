"""What a workflow tells its caller while it runs, and how the caller stops it. Needs no JAX."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol, runtime_checkable

from jaxdenoise.config import TrainConfig

OnEpoch = Callable[[Mapping[str, float]], None]
OnTile = Callable[[int, int], None]


class Cancelled(Exception):
    """The reporter asked to stop. The message says how to go on, if states were kept."""


@runtime_checkable
class Reporter(Protocol):
    """Hears of the progress of a workflow; warnings go through `warnings.warn`."""

    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> AbstractContextManager[OnEpoch]:
        """Return a context manager that is open while models are trained.

        Args:
            config: settings of the training.
            done: epochs that were trained before, where a training is resumed.
            total: epochs of all models that are trained; None for those of one model.

        Returns:
            Context manager that gives the function to call after each epoch, with its row of the
            history: "epoch", "train_loss", "validation_loss" and more.
        """
        ...

    def predicting(self, name: str) -> OnTile:
        """Return the function to call with (tiles done, tiles in all) of the file ``name``."""
        ...

    def say(self, text: str) -> None:
        """Take a message: one line, such as which file was written."""
        ...

    def insist(self, text: str) -> None:
        """Take a message that must be seen, even by those who asked for quiet: one line."""
        ...

    def cancelled(self) -> bool:
        """Return whether to stop: a training then ends after its epoch with `Cancelled`."""
        ...


class Silent:
    """A `Reporter` that says nothing and never stops."""

    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> AbstractContextManager[OnEpoch]:
        """Return a context manager of a function that does nothing."""
        return nullcontext(lambda row: None)

    def predicting(self, name: str) -> OnTile:
        """Return a function that does nothing."""
        return lambda done, total: None

    def say(self, text: str) -> None:
        """Drop a message."""

    def insist(self, text: str) -> None:
        """Drop a message."""

    def cancelled(self) -> bool:
        """Return False."""
        return False


SILENT = Silent()


class Several:
    """A `Reporter` that tells several others all that it hears; any of them may stop.

    Args:
        *reporters: the others, such as one for the screen and one that keeps the losses.
    """

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    @contextmanager
    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> Iterator[OnEpoch]:
        """As `Reporter.training`."""
        with ExitStack() as stack:
            heard = [
                stack.enter_context(one.training(config, done=done, total=total))
                for one in self._reporters
            ]
            yield lambda row: _call_all(heard, row)

    def predicting(self, name: str) -> OnTile:
        """As `Reporter.predicting`."""
        heard = [one.predicting(name) for one in self._reporters]
        return lambda done, total: _call_all(heard, done, total)

    def say(self, text: str) -> None:
        """As `Reporter.say`."""
        _call_all([one.say for one in self._reporters], text)

    def insist(self, text: str) -> None:
        """As `Reporter.insist`."""
        _call_all([one.insist for one in self._reporters], text)

    def cancelled(self) -> bool:
        """As `Reporter.cancelled`."""
        return any(one.cancelled() for one in self._reporters)


def _call_all(functions: Iterable[Callable[..., object]], *values: object) -> None:
    for function in functions:
        function(*values)
