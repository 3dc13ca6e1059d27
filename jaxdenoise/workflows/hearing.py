"""A reporter that keeps what was chosen for an image, and says the verdict last. Host side."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from jaxdenoise.config import TrainConfig
from jaxdenoise.workflows.reporter import OnEpoch, OnTile, Reporter
from jaxdenoise.workflows.results import FileRow


class Hearing:
    """A reporter that keeps what was chosen; another one hears of the progress.

    Args:
        reporter: the other one.
        aloud: whether it hears the messages, too, the verdict at the end.
    """

    def __init__(self, reporter: Reporter, *, aloud: bool) -> None:
        self._reporter, self._aloud = reporter, aloud
        self._last: list[Callable[[], None]] = []  # what is said at the end
        self.choices: list[str] = []

    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> AbstractContextManager[OnEpoch]:
        return self._reporter.training(config, done=done, total=total)

    def predicting(self, name: str) -> OnTile:
        return self._reporter.predicting(name)

    def say(self, text: str) -> None:
        if text.startswith("verdict: "):
            self._last.append(partial(self._reporter.say, text))
        elif self._aloud:
            self._reporter.say(text)
        if not text.startswith(("wrote ", "verdict: ", "estimate: ")):
            self.choices.append(text)

    def insist(self, text: str) -> None:
        self._last.append(partial(self._reporter.insist, text))

    def cancelled(self) -> bool:
        return self._reporter.cancelled()

    def sum_up(self, row: FileRow) -> None:
        """Say what was chosen, how long it took, and last the verdict."""
        gists = list(dict.fromkeys(map(_gist, row.choices)))
        if gists:
            self._reporter.say(f"chosen: {'; '.join(gists)}")
        wrote = len(row.outputs) + len(row.reports)
        self._reporter.say(f"done: {wrote} files in {row.seconds:.1f} s")
        for tell in self._last:
            tell()


def _gist(line):
    """What was chosen, without the evidence."""
    return line.split("; ")[0].split(" (")[0]
