"""How far a file is denoised: tiles of an image, or frames of a movie and their rate. Host side."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxdenoise.workflows.reporter import OnTile, Reporter

_FIRST, _LONG = 16, 64  # frames after which the first are told of; of movies of at least so many


class Progress:
    """Counts what of a file is denoised, and tells the reporter."""

    def __init__(
        self,
        reporter: Reporter,
        path: Path,
        frames: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing.

        Args:
            reporter: hears of the progress.
            path: of the file that is written.
            frames: how many are denoised, once for each model that is compared.
            clock: tells seconds.
        """
        self._reporter, self._path, self._frames, self._clock = reporter, path, frames, clock
        self._on_tile, self._before, self._told = reporter.predicting(path.name), 0, False
        self._began: float | None = None

    def of_frames(self, count: int) -> OnTile:
        """Return the function to call with (tiles done, tiles in all) of so many frames."""
        before, self._before = self._before, self._before + count
        if self._frames == 1:
            return self._on_tile
        # The first result has waited for the compiler and for the statistics of many frames.
        if self._began is None:
            self._began = self._clock()

        def on_tile(done: int, total: int) -> None:
            frames = before + done * count // total
            self._on_tile(frames, self._frames)
            if frames >= _FIRST and not self._told and self._frames >= _LONG:
                self._told = True
                rest = (self._frames - frames) / self._rate(frames)
                self._reporter.say(
                    f"{self._path.name}: the first {frames} of {self._frames:,} frames are "
                    f"denoised, {self._rate(frames):.2g} frames a second, about {_time(rest)} left"
                )

        return on_tile

    def finish(self) -> None:
        """Tell how long a movie took."""
        if self._began is not None and self._frames >= _LONG:
            seconds = self._clock() - self._began
            self._reporter.say(
                f"{self._path.name}: {self._frames:,} frames in {_time(seconds)}, "
                f"{self._rate(self._frames):.2g} frames a second"
            )

    def _rate(self, frames):
        return frames / max(self._clock() - (self._began or 0.0), 1e-6)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"
