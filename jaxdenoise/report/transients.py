"""The leak test: does a known transient come back with its size, and in its own frame? NumPy.

Spots as wide as the PSF, one frame long and ten standard deviations of the noise high, are added to
a noisy movie at places where nothing changes. The movie is denoised with and without them. The
difference of the two results is what became of the spots, free of noise::

    spots = plan_spots(frames, sigma=1.2)
    before, after = denoised(frames), denoised(with_spots(frames, spots))
    found = measure(spots, before, after)
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Real
from scipy.ndimage import gaussian_filter, uniform_filter

SIZE = 10.0  # standard deviations of the noise, the height of a spot
RETURNED, LEAKED = 0.8, 0.05  # share of the size: at least, and at most in the frames beside it
FEWEST = 7  # frames of a movie in which a spot has others on both sides
_SPOTS = 6
_APART = 16  # pixels between two spots of one frame, and from the border
_ROBUST = 1.4826  # times the median of absolute values: standard deviation of normal noise
_WIDE = 4.0  # sigmas of a spot that are looked at


class Spots(NamedTuple):
    """Transients that are added to a movie.

    Attributes:
        places: (frame, row, column) of each.
        heights: in grey levels, of the middle of each.
        sigma: in pixels, of all.
    """

    places: tuple[tuple[int, int, int], ...]
    heights: tuple[float, ...]
    sigma: float

    @property
    def needed(self) -> tuple[int, ...]:
        """The frames that have to be denoised: those with a spot, and those beside."""
        own = {place[0] for place in self.places}
        return tuple(sorted({n + step for n in own for step in (-1, 0, 1)}))


class LeakTest(NamedTuple):
    """What became of the spots, as shares of their size.

    Attributes:
        spots: what was added.
        returned: of each spot, in its own frame.
        leaked: of each spot, in that of the two frames beside it which shows more of it.
    """

    spots: Spots
    returned: tuple[float, ...]
    leaked: tuple[float, ...]


def plan_spots(frames: Real[np.ndarray, "T H W"], *, sigma: float) -> Spots | None:
    """Choose where to add spots: the stillest places of a movie. Deterministic.

    Args:
        frames: noisy, in grey levels, finite.
        sigma: of a spot in pixels.

    Returns:
        Up to six spots in two frames; None where the movie is too short or too small for any.
    """
    count, *size = frames.shape
    margin = min(_APART, min(size) // 3)
    if count < FEWEST or margin < _WIDE:
        return None
    times = sorted({count // 3, 2 * count // 3})
    frames = np.asarray(frames, np.float32)
    noise, changes = _noise_and_changes(frames)
    still = changes / np.maximum(noise, 1e-30)
    inside = np.full(size, np.inf)
    inside[margin : size[0] - margin, margin : size[1] - margin] = still[
        margin : size[0] - margin, margin : size[1] - margin
    ]
    places: list[tuple[int, int, int]] = []
    for number in range(_SPOTS):
        row, column = np.unravel_index(int(np.argmin(inside)), inside.shape)
        if not np.isfinite(inside[row, column]) or noise[row, column] <= 0:
            break
        places.append((times[number % len(times)], int(row), int(column)))
        inside[
            max(row - _APART, 0) : row + _APART + 1, max(column - _APART, 0) : column + _APART + 1
        ] = np.inf
    if not places:
        return None
    heights = tuple(SIZE * float(noise[place[1:]]) for place in places)
    return Spots(tuple(places), heights, sigma)


def with_spots(frames: Real[np.ndarray, "T H W"], spots: Spots) -> Float32[np.ndarray, "T H W"]:
    """Return a movie with the spots added."""
    result = np.array(frames, np.float32)
    for place, height in zip(spots.places, spots.heights, strict=True):
        result[place[0]] += height * _shape(result.shape[1:], place, spots.sigma)
    return result


def measure(
    spots: Spots,
    before: Mapping[int, Real[np.ndarray, "H W"]],
    after: Mapping[int, Real[np.ndarray, "H W"]],
) -> LeakTest:
    """Return what became of the spots: the least-squares height of the difference of two results.

    Args:
        spots: what was added.
        before: number of a frame to the result without the spots, of all `Spots.needed`.
        after: the same with them.
    """
    returned, leaked = [], []
    for place, height in zip(spots.places, spots.heights, strict=True):
        shape = _shape(before[place[0]].shape, place, spots.sigma)
        shape[shape < np.exp(-(_WIDE**2) / 2)] = 0
        beside, own, behind = (
            float(np.sum((after[n] - before[n]) * shape) / np.sum(shape**2) / height)
            for n in (place[0] - 1, place[0], place[0] + 1)
        )
        returned.append(own)
        leaked.append(max(abs(beside), abs(behind)))
    return LeakTest(spots, tuple(returned), tuple(leaked))


def _noise_and_changes(frames):
    """Standard deviation of each pixel's noise, and of what changes in time around it, (H, W)."""
    second = frames[:-2] - 2 * frames[1:-1] + frames[2:]
    noise = _ROBUST * np.median(np.abs(second), axis=0) / np.sqrt(6)
    noise = gaussian_filter(noise, 2.0)
    means = uniform_filter(frames, (0, 5, 5))
    return noise, gaussian_filter(means.std(axis=0), 1.0)


def _shape(size, place, sigma):
    rows, columns = (
        np.exp(-0.5 * ((np.arange(length) - middle) / sigma) ** 2)
        for length, middle in zip(size, place[1:], strict=True)
    )
    return (rows[:, None] * columns).astype(np.float32)
