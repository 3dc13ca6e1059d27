"""Structured noise of scanners and cameras: found, said, and taken out. Host side.

- An offset of each row, or column, that changes from frame to frame (line noise of a scanner).
- An offset of each row, or column, that is the same in all frames (the amplifiers of an sCMOS).
- Odd lines of a bidirectional scan that are moved against the even ones.

Frames in which none of it is found stay as they are, to the bit. `row_offsets` says what counts as
evidence. Of many frames a sample decides; where something is found, each is read once more, and
compared with the mean of the frames around it, which removes the scene.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Real

from jaxdenoise.imaging.gaps import fill
from jaxdenoise.imaging.hotpixels import Framed
from jaxdenoise.imaging.row_offsets import (
    SMALLEST,
    estimate_offsets,
    find_offsets,
    mean_noise,
    mean_without_scene,
    noise_of,
    rough_offsets,
    without_scene,
)
from jaxdenoise.imaging.scan_lines import join_lines, line_offset

_PAIRS = 4  # pairs of frames in a row whose differences are looked at
_FRAMES = 32  # evenly spread frames whose mean is looked at for what is the same in all
_LINES = 8  # the same, for lines that do not meet
_SIDE, _SINGLE = 512, 1024  # pixels of the square in the middle that decides, of a single frame
_AROUND = 8  # frames on each side whose mean stands for the scene
_TOLD = 8  # frames that tell which of two measurements errs less
_PIXELS = 2**25  # of these frames in memory, at most


class LineNoise(NamedTuple):
    """What structured noise frames have.

    Attributes:
        rows: (N, H) the offset of each row in grey levels, of mean 0 in each frame; None: none.
        columns: (N, W) the same of the columns.
        shift: pixels that the odd lines are to the right of the even ones.
        evidence: a line for each kind that was found.
    """

    rows: Float[np.ndarray, "N H"] | None
    columns: Float[np.ndarray, "N W"] | None
    shift: float
    evidence: tuple[str, ...]

    def of_frames(self, numbers: Sequence[int]) -> "LineNoise":
        """Return that of some of the frames, by their numbers."""
        rows, columns = (
            None if one is None else one[np.asarray(numbers, int)]
            for one in (self.rows, self.columns)
        )
        return LineNoise(rows, columns, self.shift, self.evidence)

    def without_offsets(
        self, part: Float[np.ndarray, "h w"], n: int, rows: slice, columns: slice
    ) -> Float[np.ndarray, "h w"]:
        """Subtract the offsets from a part of frame ``n``, given by its rows and columns."""
        if self.rows is not None:
            part = part - self.rows[n, rows, None]
        return part if self.columns is None else part - self.columns[n, columns]

    def removed_from(self, frame: Float[np.ndarray, "H W"], n: int) -> Float[np.ndarray, "H W"]:
        """Take all of it out of the whole frame ``n``; NaN, where there is no data, stays NaN."""
        frame = self.without_offsets(frame, n, slice(None), slice(None))
        if not self.shift:
            return frame
        gaps = np.isnan(frame)
        if not gaps.any():
            return join_lines(frame, self.shift)
        moved = join_lines(fill(frame, gaps), self.shift)
        gone = gaps | (join_lines(gaps.astype(np.float32), round(self.shift)) > 0)
        return np.where(gone, np.float32(np.nan), moved)


def remove_line_noise(
    stack: Real[ArrayLike, "*frames H W"],
) -> tuple[Real[ArrayLike, "*frames H W"], LineNoise | None]:
    """Find structured noise of scanners and cameras in the frames of one movie, and take it out.

    Looked for are an offset of each row or column of each frame, one that is the same in all
    frames, and odd lines of a bidirectional scan that do not meet the even ones. Each is taken out
    only on evidence that no scene explains, such as fibres or gratings along x.

    Args:
        stack: (N, H, W) in grey levels, or one image (H, W); NaN where there is no data. Frames of
            less than 64 pixels a side are left as they are.

    Returns:
        The stack without it, float32, and what was found; the stack itself and None if nothing was.
        The mean of each frame is kept where offsets are taken out.
    """
    frames = np.asarray(stack)
    found = find_line_noise(frames if frames.ndim == 3 else frames[None])
    if found is None:
        return stack, None
    own = frames.astype(np.float32).reshape(-1, *frames.shape[-2:])
    cleaned = np.stack([found.removed_from(frame, n) for n, frame in enumerate(own)])
    return cleaned.reshape(frames.shape), found


def find_line_noise(
    frames: Framed, *, row: int | None = None, numbers: Sequence[int] | None = None
) -> LineNoise | None:
    """Find the structured noise of frames, which may stay on disk. Reads a frame at a time.

    Args:
        frames: (N, H, W) array in grey levels, or anything that reads ``frames[n, rows, columns]``;
            NaN where there is no data.
        row: how many frames follow each other before the next such row begins; None: all.
        numbers: of the frames that are looked at; the others count as free of it. None: all.

    Returns:
        What was found; None if nothing was.
    """
    count, height, width = frames.shape
    usable = list(range(count) if numbers is None else numbers)
    if not usable or min(height, width) < SMALLEST:
        return None
    found = _Search(frames, usable, row or count)
    found.look_for_changing()
    if len(usable) > 1:
        found.look_for_fixed()
    found.look_for_shift()
    return found.result() if found.evidence else None


class _Measured(NamedTuple):
    """The offsets of a frame alone and against those around it, and how far its halves disagree."""

    own: Float[np.ndarray, " H"]
    offsets: Float[np.ndarray, " H"]
    own_apart: float | None
    apart: float


class _Search:
    """Goes through the kinds of noise; what was found is taken out before the next is looked for.

    Axis 0 has the offsets of rows, axis 1 those of columns.
    """

    def __init__(self, frames: Framed, numbers: list[int], row: int) -> None:
        self._frames, self._numbers, self._row = frames, numbers, row
        self._offsets: list[Any] = [None, None]
        self._fixed: list[Any] = [None, None]
        self._shift = 0.0
        self.evidence: list[str] = []

    def result(self) -> LineNoise:
        """Return what was found."""
        both: list[Any] = []
        for axis in (0, 1):
            shape = self._frames.shape[0], self._frames.shape[1 + axis]
            each = self._offsets[axis]
            if self._fixed[axis] is not None:
                fixed = np.zeros(shape, np.float32)
                fixed[self._numbers] = self._fixed[axis]
                each = fixed if each is None else each + fixed
            both.append(each)
        return LineNoise(both[0], both[1], self._shift, tuple(self.evidence))

    def look_for_changing(self) -> None:
        """Look for offsets that each frame has of its own."""
        deciding = self._deciding()
        found = [find_offsets([_along(one, axis) for one in deciding]) for axis in (0, 1)]
        for axis in (0, 1):
            if found[axis].beats(found[1 - axis]):
                self._offsets[axis] = self._changing(axis)
                self._say(axis, found[axis].strength)

    def look_for_fixed(self) -> None:
        """Look for offsets that are the same in all frames, in their mean."""
        chosen = _spread(self._numbers, _FRAMES)
        middle = self._middle(_SINGLE)
        noise = mean_noise([noise_of(self._read(n)[middle]) for n in chosen[:_PAIRS]])
        mean = np.zeros(self._frames.shape[1:], np.float64)
        for n in chosen:
            mean += self._read(n) / len(chosen)
        found = [find_offsets([_along(mean[middle], axis)], noise=noise) for axis in (0, 1)]
        for axis in (0, 1):
            if found[axis].beats(found[1 - axis]):
                self._fixed[axis] = self._same_in(chosen, axis)
                self._say(axis, found[axis].strength, " that is the same in all frames")

    def _same_in(self, numbers, axis):
        """The mean over frames of the offsets that each shows: the scene, if it moves, averages."""
        found = [estimate_offsets(_along(self._read(n), axis)) for n in numbers]
        return np.mean(found, axis=0).astype(np.float32)

    def _say(self, axis, strength, kind=""):
        self.evidence.append(
            f"line noise: an offset of each {('row', 'column')[axis]}{kind}, {strength:.2g} of the "
            "noise, was taken out"
        )

    def look_for_shift(self) -> None:
        """Look for odd lines that do not meet the even ones."""
        middle = self._middle(2 * _SINGLE)
        chosen = _spread(self._numbers, _LINES)
        self._shift = line_offset(np.stack([self._read(n)[middle] for n in chosen]))
        if self._shift:
            self.evidence.append(
                f"bidirectional scan: odd lines were {abs(self._shift):.1f} pixels to the "
                f"{'right' if self._shift > 0 else 'left'} of the even ones, and were moved back "
                '(line noise "keep" leaves them)'
            )

    def _deciding(self) -> list[Float[np.ndarray, "h w"]]:
        """The middle of a single frame; of several, differences of frames that follow another."""
        if len(self._numbers) == 1:
            return [self._read(self._numbers[0])[self._middle(_SINGLE)]]
        middle = self._middle(_SIDE)
        places = _spread(range(len(self._numbers) - 1), _PAIRS)
        pairs = [(self._numbers[place], self._numbers[place + 1]) for place in places]
        return [self._read(n)[middle] - self._read(other)[middle] for n, other in pairs]

    def _changing(self, axis):
        """The offsets (N, H) or (N, W) of all frames; 0 of those that are not looked at."""
        shape = self._frames.shape[0], self._frames.shape[1 + axis]
        result = np.zeros(shape, np.float32)
        if len(self._numbers) == 1:
            n = self._numbers[0]
            result[n] = estimate_offsets(_along(self._read(n), axis))
            return result
        found = list(self._measured(axis))
        # What moves is better measured in each frame alone, what is still by its mean over time.
        told = [(one.own_apart, one.apart) for one in found if one.own_apart is not None]
        alone, around = np.mean(told, axis=0) if told else (0.0, 1.0)
        chosen = [one.own if alone < around else one.offsets for one in found]
        result[self._numbers] = without_scene(np.stack(chosen))
        return result

    def _measured(self, axis: int) -> Iterator["_Measured"]:
        """Yield the offsets of each frame, alone and against the mean of those around it.

        From that mean, the mean of their own offsets is taken out, as each of them alone shows it.
        """
        told = 0
        pixels = self._frames.shape[1] * self._frames.shape[2]
        most = max(1, min(_AROUND, _PIXELS // (2 * pixels)))
        for series in self._series():
            window: deque[Any] = deque()  # (frame, its offsets)
            total, first, ahead = 0.0, 0, 0
            for place in range(len(series)):
                while ahead < min(len(series), place + most + 1):
                    frame = _along(self._read(series[ahead]), axis).astype(np.float64)
                    window.append((frame, estimate_offsets(frame)))
                    total, ahead = total + frame, ahead + 1
                if place - first > most:
                    total, first = total - window.popleft()[0], first + 1
                frame, own = window[place - first]
                if len(window) == 1:
                    yield _Measured(own, own, None, 0.0)
                    continue
                others = np.stack([one for at, (_, one) in enumerate(window, first) if at != place])
                mean = (total - frame) / len(others)
                mean -= mean_without_scene(others.mean(axis=0), others)[:, None]
                difference = frame - mean
                offsets, apart = _by_halves(rough_offsets, difference - np.median(difference))
                told += 1
                own_apart = _by_halves(estimate_offsets, frame)[1] if told <= _TOLD else None
                yield _Measured(own, offsets, own_apart, apart)

    def _series(self):
        """The numbers of the frames that follow each other, a list a row."""
        rows: dict[int, list[int]] = {}
        for n in self._numbers:
            rows.setdefault(n // self._row, []).append(n)
        return rows.values()

    def _read(self, n):
        """A frame without gaps and without what was found so far."""
        frame = np.asarray(self._frames[n, :, :], np.float32)
        gaps = np.isnan(frame)
        frame = fill(frame, gaps) if gaps.any() else frame
        for axis in (0, 1):
            for offsets in (self._offsets[axis], self._fixed[axis]):
                if offsets is not None:
                    own = offsets if offsets.ndim == 1 else offsets[n]
                    frame = frame - (own[:, None] if axis == 0 else own)
        return frame

    def _middle(self, side):
        """Two slices; the first row is an even one."""
        rows, columns = (
            slice(start := max(0, (length - side) // 2) // 2 * 2, start + side)
            for length in self._frames.shape[1:]
        )
        return rows, columns


def _along(image, axis):
    return image if axis == 0 else np.ascontiguousarray(image.T)


def _by_halves(measure, image):
    """The mean of what both halves of the rows show, and the mean square of their difference."""
    one, other = (measure(half) for half in np.array_split(image, 2, axis=1))
    return (one + other) / 2, float(np.var(one - other))


def _spread(numbers, count):
    """Evenly spread ones of some numbers."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round())
    return [numbers[int(place)] for place in places]
