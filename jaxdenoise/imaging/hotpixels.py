"""Hot pixels: single pixels that are stuck, or that a cosmic ray hit. Host side.

One at 65,535 in an image of 150 +- 20 grey levels would set the scale of all the others, dominate
the loss, and blot the network's output around it. So hot pixels are replaced by the median of
their neighbours, before the training and before the prediction, by the same rule. `isolated` says
what no light explains. Images without such pixels stay as they are, to the bit; where single bright
pixels are the signal (photons that are counted, images sampled too coarsely), none is replaced.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Real

from jaxdenoise.imaging.isolated import SMALLEST, Defects, find_defects, patches
from jaxdenoise.imaging.threads import mapped

# Share of the pixels that are hot at most; where more stand out alone, they are the signal. Cameras
# have up to 0.1 % of them.
_MOST = 2e-3
_MOST_STUCK = 5e-3  # of those that are hot in most of the frames
# The same where the image does not show its shot noise, so that they may be photons.
_MOST_UNKNOWN, _AT_LEAST = 2e-4, 2
_BETWEEN = 0.5  # pixels that are neither alone nor a PSF wide, for each hot one
# Share of the frames in which a stuck pixel stands out by at least that share of its mean.
_MOST_FRAMES, _EACH = 0.6, 0.3
_ASKED = 256  # evenly spread frames, at most, in which a stuck pixel has to stand out
_TELLING = 8  # frames, at least, that tell photons from a constant by its variance
_ROUNDS = 2  # a hot pixel beside another stands alone when that one is gone


@runtime_checkable
class Framed(Protocol):
    """Frames (N, H, W), an array or a file: ``frames[n, rows, columns]`` is a part of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W)."""

    def __getitem__(self, place: Any, /) -> Any:
        """Return a part of a frame as a NumPy array."""


class HotPixels(NamedTuple):
    """Hot pixels, ordered by frame, and what replaces them.

    Attributes:
        frames, rows, columns: the places of the K pixels.
        values: the medians of their neighbours, in grey levels.
        shape: (N, H, W) of the frames.
        stuck: how many places are hot again and again; they are replaced in every frame.
    """

    frames: Int[np.ndarray, " K"]
    rows: Int[np.ndarray, " K"]
    columns: Int[np.ndarray, " K"]
    values: Float[np.ndarray, " K"]
    shape: tuple[int, ...]
    stuck: int

    def replaced_in(
        self, part: Real[np.ndarray, "h w"], n: int, rows: slice, columns: slice
    ) -> Real[np.ndarray, "h w"]:
        """Replace the hot pixels in a part of frame ``n``, given by its rows and columns.

        Returns:
            The part itself if it has none, else a copy.
        """
        first, last = np.searchsorted(self.frames, (n, n + 1))
        y, stop_y, _ = rows.indices(self.shape[1])
        x, stop_x, _ = columns.indices(self.shape[2])
        places = self.rows[first:last] - y, self.columns[first:last] - x
        inside = (places[0] >= 0) & (places[0] < stop_y - y)
        inside &= (places[1] >= 0) & (places[1] < stop_x - x)
        if not inside.any():
            return part
        part = np.array(part)
        part[places[0][inside], places[1][inside]] = self.values[first:last][inside]
        return part


def find_hot_pixels(frames: Framed) -> HotPixels:
    """Find the hot pixels of the frames of one file. Host side: it reads a frame at a time.

    A pixel is hot if it is so in most of the frames (of two or more), or stands out in a single one
    beyond what noise and light allow; see `isolated`. Where more pixels stand out than a camera has
    defects, none is hot.

    Args:
        frames: (N, H, W) array in grey levels, or anything that reads ``frames[n, rows, columns]``.
            Pixels that are not finite are no data.
    """
    shape = tuple(frames.shape)
    if min(shape) == 0 or min(shape[1:]) < SMALLEST:
        return _hot_pixels([], shape, 0)
    mean = _Mean(shape)

    def read():
        for n in range(shape[0]):
            frame = _frame(frames, n)
            mean.add(frame)
            yield frame

    # What is beyond the range of float32 when squared is refused elsewhere.
    with np.errstate(over="ignore", invalid="ignore"):
        single = list(mapped(_defects, read()))
        stuck = _stuck(mean, frames)
    everywhere = np.zeros(shape[1:], bool)
    everywhere[stuck] = True
    rare = _rare(single, everywhere, shape)
    found = []
    for n, defects in enumerate(single):
        chosen = rare[defects.known.astype(int)] & ~everywhere[defects.rows, defects.columns]
        alone = defects.rows[chosen], defects.columns[chosen]
        rows, columns = (np.append(*both) for both in zip(alone, stuck, strict=True))
        if len(rows):
            values = _medians(_frame(frames, n), rows, columns)
            found.append((n, rows, columns, values))
    return _hot_pixels(found, shape, len(stuck[0]))


def replace_hot_pixels(
    frames: Real[np.ndarray, "N H W"], hot: HotPixels
) -> Real[np.ndarray, "N H W"]:
    """Replace hot pixels; return the frames themselves if there are none, else a copy."""
    if len(hot.frames) == 0:
        return frames
    frames = np.array(frames)
    frames[hot.frames, hot.rows, hot.columns] = hot.values
    return frames


def replaced(stack: Real[np.ndarray, "N H W"]) -> Real[np.ndarray, "N H W"]:
    """Find and replace the hot pixels of a stack in memory; the stack itself if it has none."""
    return replace_hot_pixels(stack, find_hot_pixels(stack))


def describe(hot: HotPixels) -> str | None:
    """Say in one line how many pixels are replaced; None if none is."""
    if len(hot.frames) == 0:
        return None
    repeated = f" ({hot.stuck:,} in every frame at the same place)" if hot.stuck else ""
    return (
        f"hot pixels: {len(hot.frames):,} of {int(np.prod(hot.shape)):,} replaced by their "
        f"neighbours' median{repeated}"
    )


def _frame(frames, n):
    return np.asarray(frames[n, :, :], np.float32)


def _hot_pixels(found, shape, stuck):
    """`HotPixels` of a list of (frame, rows, columns, values)."""
    numbers = [np.full(len(rows), n) for n, rows, _, _ in found]
    parts = numbers, *([frame[index] for frame in found] for index in (1, 2, 3))
    frames, rows, columns, values = (
        np.concatenate([np.zeros(0), *part]).astype(dtype)
        for part, dtype in zip(parts, (np.int32, np.int32, np.int32, np.float32), strict=True)
    )
    return HotPixels(frames, rows, columns, values, shape, stuck)


def _defects(frame, variance=None):
    """The defects of one frame, also those beside another."""
    with np.errstate(over="ignore", invalid="ignore"):  # each thread has its own
        found = [find_defects(frame, variance=variance)]
        while len(found[-1].rows) and len(found) < _ROUNDS:
            frame = frame.copy()
            places = found[-1].rows, found[-1].columns
            frame[places] = _medians(frame, *places)
            found.append(find_defects(frame, variance=variance))
    rows, columns, known = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[:3])
    return Defects(rows, columns, known, found[0].between)


def _rare(single, everywhere, shape):
    """Whether the defects that are not known, and those that are, are few enough to be hot."""
    known, unknown, between = 0, 0, 0
    for defects in single:
        alone = ~everywhere[defects.rows, defects.columns]
        known += int((alone & defects.known).sum())
        unknown += int((alone & ~defects.known).sum())
        between += defects.between
    pixels = int(np.prod(shape))
    told = between <= _BETWEEN * (known + unknown)
    few = max(_MOST_UNKNOWN * pixels, _AT_LEAST)
    return np.array([told and unknown <= few, told and known <= max(_MOST * pixels, _AT_LEAST)])


def _medians(frame, rows, columns):
    """The medians of the neighbours that are data and not among the places themselves."""
    hidden = np.where(np.isfinite(frame), frame, np.nan)
    hidden[rows, columns] = np.nan
    around = patches(hidden, rows, columns, 1).reshape(len(rows), 9)
    around[np.isnan(around).all(1)] = np.nanmedian(hidden)
    return np.nanmedian(around, axis=1)


class _Mean:
    """Mean and variance over the frames, which are given one by one."""

    def __init__(self, shape):
        self.count = 0
        self.base, self.total, self.squares = (np.zeros(shape[1:], np.float32) for _ in range(3))

    def add(self, frame):
        """Add a frame."""
        if self.count == 0:
            self.base = frame  # sums of differences keep their digits
        self.count += 1
        with np.errstate(over="ignore", invalid="ignore"):
            difference = frame - self.base
            self.total += difference
            self.squares += difference * difference

    def mean(self):
        """Return the mean."""
        return self.base + self.total / np.float32(self.count)

    def variance_at_most(self):
        """Return an upper bound of the variance of the mean; None for few frames.

        One photon in each of a few frames would look like a constant.
        """
        if self.count < _TELLING:
            return None
        # The upper limit by Wilson and Hilferty's approximation to the distribution of chi squared,
        # three standard deviations.
        degrees = self.count - 1
        of = 2 / (9 * degrees)
        with np.errstate(over="ignore", invalid="ignore"):
            own = (self.squares - self.total**2 / self.count) / degrees
        own = np.nan_to_num(np.maximum(own, 0), nan=np.inf) / self.count
        return (own / (1 - of - 3 * np.sqrt(of)) ** 3).astype(np.float32)


def _stuck(mean, frames):
    """Rows and columns of the pixels that are hot in most of the frames."""
    none = np.zeros(0, int), np.zeros(0, int)
    if mean.count == 1:
        return none
    whole = mean.mean()
    defects = _defects(whole, mean.variance_at_most())
    if len(defects.rows) == 0:
        return none
    places = defects.rows, defects.columns
    least = _EACH * (whole[places] - _medians(whole, *places))
    often = np.zeros(len(least), int)
    asked = np.unique(np.linspace(0, mean.count - 1, min(mean.count, _ASKED)).round().astype(int))
    for n in map(int, asked):
        frame = _frame(frames, n)
        often += (frame[places] - _medians(frame, *places)) / least > 1
    chosen = often >= max(2, _MOST_FRAMES * len(asked))
    if chosen.sum() > max(_MOST_STUCK * mean.base.size, _AT_LEAST):
        return none
    return defects.rows[chosen], defects.columns[chosen]
