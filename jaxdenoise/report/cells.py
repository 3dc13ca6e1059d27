"""Means over cells of 4 x 4 pixels of noisy and denoised tiles. Host side: NumPy, SciPy.

A frame becomes a grid of cells with a few numbers each, so that a frame of any size is judged as a
whole from a sixteenth of its size, whichever tiles it came in.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Real
from scipy.ndimage import binary_dilation, uniform_filter

CELL = 4  # pixels a side
NAMES = (
    *("noisy", "denoised", "noisy2", "denoised2"),
    *("power", "fine", "shape", "fit", "along"),
    *("top", "full"),
)
_FURTHEST = 8  # pixels: a noise that reaches further is taken to fill rows or columns

_Tile = Float32[np.ndarray, "h w"]


class Tile(NamedTuple):
    """A tile of a frame and what is derived from it, in grey levels.

    Attributes:
        noisy: less the level of reference.
        denoised: less the level of reference.
        valid: where both are finite.
        ring: mean of the noisy pixels around each pixel, itself and those that share its noise
            left out; NaN where they are not all inside the tile.
    """

    noisy: _Tile
    denoised: _Tile
    valid: np.ndarray
    ring: _Tile


def make_tile(
    noisy: Real[np.ndarray, "h w"],
    denoised: Real[np.ndarray, "h w"],
    level: float,
    reach: tuple[int, int],
) -> Tile:
    """Return a `Tile`; pixels that are not finite take the mean of the others.

    Args:
        noisy: in grey levels.
        denoised: the same shape and unit.
        level: of reference, which is subtracted: squares of large numbers lose digits.
        reach: how many pixels along y and x share a pixel's noise.
    """
    pair = [np.asarray(image, np.float32) - np.float32(level) for image in (noisy, denoised)]
    valid = np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not valid.all():
        pair = [np.where(valid, image, _mean_of(image[valid])) for image in pair]
    ring, margin = _ring(pair[0], reach)
    outside = ~valid if valid.all() else binary_dilation(~valid, np.ones((3, 3)), max(margin))
    ring[outside] = np.nan
    for axis, width in enumerate(margin):
        edge = np.moveaxis(ring, axis, 0)
        edge[:width] = edge[len(edge) - width :] = np.nan
    return Tile(pair[0], pair[1], valid, ring)


def cell_means(
    tile: Tile, corner: tuple[int, int]
) -> tuple[tuple[slice, slice], dict[str, Float32[np.ndarray, "rows columns"]]]:
    """Return the means over the cells that lie inside a tile, and their place in the frame's grid.

    Args:
        tile: a `Tile`.
        corner: its first row and column in the frame.

    Returns:
        Place of the cells, and by name (rows, columns) each; NaN where a pixel is not valid:
        "noisy" and "denoised", the means; "noisy2" and "denoised2", their squares; "power", the
        squared residual; "fine", the noisy image's variance at its finest detail, as of white
        noise; "shape", the square of the denoised image's fine detail; "fit", that of the
        residual times it; "along", the residual times its right and
        lower neighbours, their mean; "top", the brightest noisy pixel; "full", the share of the
        pixels that are as bright.
    """
    noisy, denoised = tile.noisy, tile.denoised
    residual = noisy - denoised
    detail = denoised - _box(denoised, (1, 1))
    images = {
        "noisy": noisy,
        "denoised": denoised,
        "noisy2": noisy * noisy,
        "denoised2": denoised * denoised,
        "power": residual * residual,
        "fine": _fine_variance(noisy),
        "shape": detail * detail,
        "fit": (residual - _box(residual, (1, 1))) * detail,
        "along": _neighbours(residual),
    }
    starts = [-(-start // CELL) * CELL - start for start in corner]
    counts = [
        max(length - start, 0) // CELL for start, length in zip(starts, noisy.shape, strict=True)
    ]
    inside = tuple(
        slice(start, start + CELL * count) for start, count in zip(starts, counts, strict=True)
    )
    place = tuple(
        slice((first + start) // CELL, (first + start) // CELL + count)
        for first, start, count in zip(corner, starts, counts, strict=True)
    )
    sums = {name: means(image[inside]) for name, image in images.items()}
    sums |= _brightest(noisy[inside])
    if not tile.valid.all():
        holes = means((~tile.valid[inside]).astype(np.float32)) > 0
        holes = binary_dilation(holes, np.ones((3, 3)))
        sums = {name: np.where(holes, np.nan, values) for name, values in sums.items()}
    return (place[0], place[1]), sums


def _brightest(image):
    """Brightest pixel of each cell, and the share of its pixels that are as bright."""
    rows, columns = (length // CELL for length in image.shape)
    parts = image.reshape(rows, CELL, columns, CELL)
    top = parts.max(axis=1, initial=-np.inf).max(axis=2, initial=-np.inf)
    full = parts == top[:, None, :, None]
    return {"top": top, "full": means(full.reshape(image.shape).astype(np.float32))}


def means(image: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "rows columns"]:
    """Return the means of the cells of an image whose sides are multiples of `CELL`."""
    rows, columns = (length // CELL for length in image.shape)
    lines = image.reshape(-1, CELL) @ np.full(CELL, 1 / CELL**2, np.float32)
    return lines.reshape(rows, CELL, columns).sum(axis=1)


def _ring(noisy, reach):
    """Mean around each pixel beyond the reach of its noise, and the margin without a result."""
    hole = [min(side, _FURTHEST) for side in reach]
    outer = [side + 1 for side in hole]
    if min(reach) <= _FURTHEST < max(reach):  # noise of whole rows or columns: ask the others
        axis = int(reach[1] > _FURTHEST)
        hole[axis] = outer[axis] = 1
    areas = [np.prod([2 * side + 1 for side in sides]) for sides in (outer, hole)]
    sums = areas[0] * _box(noisy, outer) - areas[1] * _box(noisy, hole)
    return sums / np.float32(areas[0] - areas[1]), outer


def _box(image, reach):
    return uniform_filter(image, [2 * side + 1 for side in reach], mode="nearest")


def _fine_variance(image):
    """Square of the second difference along y and x, as the variance of white noise."""
    if min(image.shape) < 3:
        return np.full_like(image, np.nan)
    lines = image[:-2] - 2 * image[1:-1] + image[2:]
    found = lines[:, :-2] - 2 * lines[:, 1:-1] + lines[:, 2:]
    # The edge takes its neighbours' values.
    return np.pad(found * found / np.float32(36), 1, mode="edge")


def _neighbours(residual):
    products = np.zeros_like(residual)
    products[:, :-1] = residual[:, :-1] * residual[:, 1:]
    products[:-1] += residual[:-1] * residual[1:]
    return products / 2


def _mean_of(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if values.size else 0.0
