"""Which frames a report shows, the worst first, and where their pixels come from. Host side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.report.content import Shown
from jaxdenoise.report.findings import FINE
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.workflows.applying import Arrays
from jaxdenoise.workflows.parts import Part

PIXELS = 2**21  # of the frames that a report is about: eight frames of 512 x 512
SIDE = 2**10  # pixels of the longest side that is shown of a single channel


class Window(NamedTuple):
    """Which frames are shown, and which part of them.

    Attributes:
        numbers: of the frames of a part, the first one shown first.
        why: of each.
        rows: of the part.
        columns: of the part.
    """

    numbers: Sequence[int]
    why: Sequence[str]
    rows: slice
    columns: slice

    def shown(self, part: Part) -> list[Shown]:
        """Return what a report says of the frames."""
        names = [part.frame_names[n] for n in self.numbers]
        return [Shown(*of) for of in zip(map(int, self.numbers), names, self.why, strict=True)]


def window(
    shape: tuple[int, ...], ordinary: Sequence[int], verdicts: Sequence[GuardVerdict] = ()
) -> Window:
    """Choose frames: the worst by their verdict, the first, the last, and evenly between them.

    Their number is even where there are several, for the two halves of the stack. Of large frames
    the middle is shown.

    Args:
        shape: (N, H, W) of a part.
        ordinary: the numbers of its frames with which nothing is wrong.
        verdicts: of the guard on the channels.
    """
    numbers = list(ordinary) or list(range(shape[0]))
    channels = max(len(verdicts), 1)
    most = math.isqrt(SIDE**2 // channels)  # a page holds all channels
    rows, columns = (
        slice(max(0, (length - most) // 2), max(0, (length - most) // 2) + min(most, length))
        for length in shape[1:]
    )
    pixels = min(most, shape[1]) * min(most, shape[2])
    count = min(len(numbers), max(1, PIXELS // channels // pixels))
    count -= count % 2 if count > 1 else 0
    levels: dict[int, int] = {}
    for verdict in verdicts:
        for n, level in verdict.levels.items():
            levels[n] = max(level, levels.get(n, FINE))
    # The findings are the worst first.
    told = [finding.frame for verdict in verdicts for finding in verdict.findings]
    rank = {n: place for place, n in reversed(list(enumerate(told)))}
    bad = sorted((n for n in numbers if n in levels), key=lambda n: (-levels[n], rank.get(n, 1e9)))
    # Half of the places at most: what is usual is to be seen, too.
    chosen = dict.fromkeys(bad[: max(1, count // 2)], "the worst")
    chosen = {n: why if n == bad[0] else "among the worst" for n, why in chosen.items()}
    evenly = np.linspace(0, len(numbers) - 1, count).round().astype(int)
    ends = {numbers[0]: "the first", numbers[-1]: "the last"} if len(numbers) > 1 else {}
    for n in [*ends, *(numbers[place] for place in evenly), *numbers]:
        if len(chosen) < count:
            chosen.setdefault(n, ends.get(n, "evenly chosen"))
    return Window(list(chosen), list(chosen.values()), rows, columns)


class Results:
    """The results of a part: in memory, or read from what was written."""

    def __init__(self, part: Part, arrays: Arrays | None, files: Mapping[str, Path]) -> None:
        """Take results.

        Args:
            part: that was denoised.
            arrays: field of `ensemble.Combined`, or "random_start", to (N, H, W); None: they are
                read.
            files: the same to the file that was written.
        """
        self._part, self._arrays, self._files = part, arrays, files
        self._opened: dict[str, ImageFile] = {}

    def names(self) -> set[str]:
        """Return which there are."""
        return set(self._files if self._arrays is None else self._arrays)

    def frame(self, name: str, number: int) -> Float32[np.ndarray, "H W"]:
        """Return a frame of a result; pixels without data are those of the input."""
        return self.part(name, number, slice(None), slice(None))

    def part(
        self, name: str, number: int, rows: slice, columns: slice
    ) -> Float32[np.ndarray, "h w"]:
        """Return a part of a frame of a result; pixels without data are those of the input."""
        if self._arrays is not None:
            values = self._arrays[name][number, rows, columns]
        else:
            if name not in self._opened:
                axes = self._part.file.info.axes
                self._opened[name] = images.open_image(self._files[name], axes=axes)
            frames = self._opened[name].frames.with_gaps()
            values = frames[self._part.frames.numbers[number], rows, columns]
        gaps = ~np.isfinite(values)
        if not gaps.any():
            return values
        return np.where(gaps, self._part.frames[number, rows, columns], values)

    def stack(self, name: str, shown: Window) -> Float32[np.ndarray, "M h w"] | None:
        """Return what is shown of a result, None where there is none."""
        if name not in self.names():
            return None
        parts = [self.part(name, n, shown.rows, shown.columns) for n in shown.numbers]
        return np.stack(parts)
