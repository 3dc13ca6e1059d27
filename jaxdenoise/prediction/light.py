"""Keep the light: what a denoised frame is on average at each brightness is what was measured.

Host side: NumPy and SciPy. A network is biased by a few per cent of the noise where images are
unlike those that it learned from: single photons in the dark, or small spots, whose totals a short
training moves by some per cent. Each pixel's bias is far below its noise, but pixels of one
brightness share it, and of a frame with thousands of them the mean of noisy less denoised pixels is
known to a few thousandths of the noise. That mean, as a function of brightness, is added back. It
is least squares with a dozen coefficients a frame, so noise comes back by a dozen parts in the
number of pixels: nothing to see, nothing to choose, and the frame's mean is kept exactly.

Brightness is that of the blurred denoised image, which noise hardly moves. The function is constant
where brightness differs by noise alone: among the darker half of the pixels, and beyond the
brightest 200. Where it bends, steps are several standard deviations of the noise apart. Otherwise
a pixel that noise made bright would get its own noise back. `experiments/quantities.py` measures
what is kept and what that costs.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Real
from scipy.ndimage import gaussian_filter

from jaxdenoise.prediction.tiling import Place

# Chosen on synthetic spots of sigma 1 to 2.5 pixels, 100 to 10,000 photons, and on discs, with the
# package's network and a training. A blur of 3 pixels mixes the flanks of bright spots with dim
# ones (a ratio of 0.200 became 0.196). Half a step lets the rims of bright discs say what dim ones
# lose (0.93 of their light became 0.77). A polygon that goes on to the brightest pixel gives spots
# of 500 photons their noise back (0.3 dB).
_BLUR = 2.0  # pixels, times the network's stride
_STEP = 8.0  # standard deviations of the brightness's noise between two corners of the function
_FIRST = 0.25  # of such a step lies between the median and the first corner
_GROWTH = 1.5  # and a corner lies at least so many times as far above the median as the one before
_LEAST = 200  # pixels between two corners, and beyond the last one
_MOST = 16  # corners
_SAMPLE = 2**16  # pixels from which the corners are found

_AXES: tuple[Literal[1], Literal[2]] = (1, 2)  # of the slices in a place

_Tile = TypeVar("_Tile", bound=tuple)


def lost_light(
    noisy: Real[np.ndarray, "H W"],
    denoised: Float[np.ndarray, "H W"],
    *,
    stride: int = 1,
) -> Float32[np.ndarray, "H W"]:
    """Return what to add to a denoised frame, and to the deconvolved one, so that light is kept.

    Its mean over the pixels with data is that of noisy less denoised pixels.

    Args:
        noisy: in grey levels; NaN where there is no data.
        denoised: in grey levels; nothing is added to one that is not finite.
        stride: of the network: noise that it took to be shared by so many pixels along each axis.
    """
    valid = np.isfinite(noisy)
    # A result that is not finite is refused when it is written.
    if not valid.any() or not np.isfinite(denoised).all():
        return np.zeros(noisy.shape, np.float32)
    everywhere = bool(valid.all())
    data = slice(None) if everywhere else valid
    level = denoised[data].mean(dtype=np.float64)
    above = (denoised - np.float32(level)).astype(np.float32)
    removed = (noisy - denoised).astype(np.float32)
    if not everywhere:
        removed[~valid] = 0
    blur = _BLUR * stride
    bright = _blurred(above, valid, everywhere, blur)
    if everywhere and bright.size >= 4 * _SAMPLE:
        # Of large images a quarter of the pixels tells as well where the function may bend.
        sampled, variance = bright[::2, ::2], gaussian_filter(_binned(removed**2), blur)
    else:
        sampled, variance = bright[data], _blurred(removed**2, valid, everywhere, 2 * blur)[data]
    pixels = bright.size if everywhere else np.count_nonzero(valid)
    corners = _corners(sampled.ravel(), _deviation(variance.ravel(), stride, blur), pixels)
    if len(corners) < 2:
        return np.full(noisy.shape, removed[data].mean(dtype=np.float64), np.float32)
    values = _fit(bright[data].ravel(), removed[data].ravel(), corners)
    added = np.full(noisy.shape, values[0], np.float32)
    brighter = bright > corners[0]
    added[brighter] = np.interp(bright[brighter], corners, values)
    return added


def _binned(image):
    """Means of 2 x 2 pixels; at the end of an odd side of those that are there."""
    padded = np.pad(image, [(0, length % 2) for length in image.shape], mode="edge")
    lines = padded[::2] + padded[1::2]
    return (lines[:, ::2] + lines[:, 1::2]) * np.float32(0.25)


def _blurred(image, valid, everywhere, sigma):
    """Blur, without what the gaps hold."""
    if everywhere:
        return gaussian_filter(image, sigma)
    weight = gaussian_filter(valid.astype(np.float32), sigma)
    return gaussian_filter(np.where(valid, image, 0), sigma) / np.maximum(weight, 1e-6)


def _deviation(variance, stride, blur):
    """Standard deviation of the brightness's noise: of pixels that do not share it, their mean."""
    return np.sqrt(np.maximum(variance, 0)) * (stride / (2 * np.sqrt(np.pi) * blur))


def _corners(bright, deviation, pixels):
    """The brightness at which the function may bend, rising; fewer than two: it is constant.

    Args:
        bright: of some of the pixels.
        deviation: of the brightness's noise, there.
        pixels: how many there are.
    """
    every = max(1, bright.size // _SAMPLE)
    order = np.argsort(bright[::every])
    levels, deviation = bright[::every][order], deviation[::every][order]
    least = max(1, _LEAST * len(levels) // pixels)
    sums = np.concatenate([[0.0], np.cumsum(deviation, dtype=np.float64)])

    def step(place):
        first, last = max(0, place - least // 2), min(len(levels), place + least // 2 + 1)
        return _STEP * (sums[last] - sums[first]) / (last - first)

    middle = float(levels[len(levels) // 2])
    nearest = (float(levels[-1]) - middle) / 2**_MOST
    level = middle + max(step(len(levels) // 2) * _FIRST, nearest)
    corners: list[float] = []
    while len(corners) < _MOST:
        place = int(np.searchsorted(levels, level))
        if len(levels) - place < least:
            break
        corners.append(level)
        filled = float(levels[min(place + least, len(levels) - 1)])
        level = max(level + step(place), middle + _GROWTH * (level - middle), filled)
    return np.array(corners)


def _fit(bright, removed, corners):
    """Least squares: the values at the corners of a polygon that is constant beyond its ends."""
    count = len(corners)
    # Most pixels are as dark as the first corner or darker.
    brighter = bright > corners[0]
    dark = bright.size - np.count_nonzero(brighter)
    below = removed.sum(dtype=np.float64)
    bright, removed = bright[brighter], removed[brighter]
    below -= removed.sum(dtype=np.float64)
    first = np.clip(np.searchsorted(corners, bright, side="right") - 1, 0, count - 2)
    share = np.clip((bright - corners[first]) / np.diff(corners)[first], 0, 1).astype(np.float64)

    def total(values, places=first):
        return np.bincount(places, values, count)

    wanted = total((1 - share) * removed) + total(share * removed, first + 1)
    own = total((1 - share) ** 2) + total(share**2, first + 1)
    shared = total(share * (1 - share))[:-1]
    wanted[0], own[0] = wanted[0] + below, own[0] + dark
    normal = np.diag(own) + np.diag(shared, 1) + np.diag(shared, -1)
    return np.linalg.lstsq(normal, wanted, rcond=None)[0]


def with_light(
    tiles: Iterable[tuple[Place, _Tile]],
    marked: Callable[[Place], Real[np.ndarray, "h w"]],
    *,
    square: int,
    stride: int,
) -> Iterator[tuple[Place, _Tile]]:
    """Add the lost light to tiles; the function is fitted anew in each square of the frames.

    The tiles of a square are kept until all of them have come.

    Args:
        tiles: places and results with fields ``denoised`` and ``deconvolved``, the tiles of a
            square together, as of `tiling.Tiling.corners`.
        marked: returns the noisy pixels at a place, NaN where there is no data.
        square: as of `tiling.Tiling`.
        stride: as of `lost_light`.
    """

    def home(piece):
        (n, rows, columns), _ = piece
        return int(n), rows.start // square, columns.start // square

    for (n, _, _), group in itertools.groupby(tiles, key=home):
        pieces: list[Any] = list(group)
        top, left = (min(place[axis].start for place, _ in pieces) for axis in _AXES)
        bottom, right = (max(place[axis].stop for place, _ in pieces) for axis in _AXES)
        whole = np.empty((bottom - top, right - left), np.float32)
        inside = [
            (slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left))
            for (_, y, x), _ in pieces
        ]
        for at, (_, tile) in zip(inside, pieces, strict=True):
            whole[at] = tile.denoised
        added = lost_light(
            marked((n, slice(top, bottom), slice(left, right))), whole, stride=stride
        )
        for at, (place, tile) in zip(inside, pieces, strict=True):
            names = ("denoised", "deconvolved")
            yield place, tile._replace(**{name: getattr(tile, name) + added[at] for name in names})
