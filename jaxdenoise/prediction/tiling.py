"""Where the tiles of images lie: their cores, their overlap, and which process denoises which.

Host side, NumPy; no pixel is computed here.

A tile overlaps its neighbours by the receptive field and the PSF's radius, and starts on the grid
of the pooled levels. So each pixel is computed from the same values whether the image is cut into
tiles or not, and there are no seams beyond the rounding of the precision.
"""

import dataclasses
import itertools
import math
from typing import TypeAlias, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Int, Real, Shaped

from jaxdenoise.io.frames import ReadableFrames
from jaxdenoise.network.settings import NetworkShape

Corner: TypeAlias = tuple[int, int, int]  # (n, y, x) of the first pixel of a tile's core
Place: TypeAlias = tuple[int, slice, slice]  # (n, rows, columns) of a tile's core

_TILE = 512  # pixels of the result a side, by default
_IN_SQUARE = 2  # such tiles along each side of a square


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of the tiles that one of several processes denoises.

    Attributes:
        index: number of the process, 0-based.
        count: number of processes.
        square: side in pixels of the squares of the frames (or a multiple of it) that go to one
            process as a whole. If chunks of a Zarr array are as large, no two processes write into
            one chunk.
    """

    index: int
    count: int
    square: int


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How frames are cut into tiles.

    Attributes:
        shape: (N, H, W) of the frames.
        core: side in pixels of the part of a tile that is kept.
        margin: pixels of overlap on each side.
        square: side in pixels of the squares at whose corners the tiles begin anew, and in each of
            which the light is kept, see `light`.
    """

    shape: tuple[int, ...]
    core: int
    margin: int
    square: int

    def corners(self, share: Share | None = None) -> list[Corner]:
        """Return the corners (n, y, x) of the cores of all tiles, or of those of a `Share`."""
        squares = itertools.product(
            *(
                range(0, length, step)
                for length, step in zip(self.shape, (1, self.square, self.square), strict=True)
            )
        )
        mine = itertools.islice(squares, share.index, None, share.count) if share else squares
        return [
            (n, row, column)
            for n, top, left in mine
            for row in self._starts(top, self.shape[1])
            for column in self._starts(left, self.shape[2])
        ]

    def _starts(self, square, length):
        return range(square, min(square + self.square, length), self.core)

    def cut(self, corners: list[Corner], size: int) -> list[Corner]:
        """Return the corners of the tiles with cores of ``size`` that cover some larger tiles."""
        steps = range(0, self.core, size)
        return [
            (n, row + down, column + right)
            for n, row, column in corners
            for down in steps
            for right in steps
            if row + down < self._end(row, self.core, 1)
            and column + right < self._end(column, self.core, 2)
        ]

    def place(self, corner: Corner, size: int) -> Place:
        """Return (n, rows, columns) of the core at a corner.

        Its sides are ``size``, or less at the end of its square or frame.
        """
        n, row, column = corner
        return n, slice(row, self._end(row, size, 1)), slice(column, self._end(column, size, 2))

    def _end(self, start, size, axis):
        return min(start + size, (start // self.square + 1) * self.square, self.shape[axis])

    def pixels(
        self,
        frames: Real[Array | np.ndarray, "N H W"] | ReadableFrames,
        n: int | np.integer,
        corner: Corner,
        size: int,
    ) -> Real[Array | np.ndarray, "S S"]:
        """Return the pixels (S, S) of frame n that the tile at a corner needs.

        S is ``size`` + 2 ``margin``; the frame is reflected at its borders without repeating the
        edge.
        """
        rows, columns = (
            reflected_indices(corner[axis], size, self.margin, self.shape[axis]) for axis in (1, 2)
        )
        (top, bottom), (left, right) = ((span.min(), span.max() + 1) for span in (rows, columns))
        return frames[n, top:bottom, left:right][np.ix_(rows - top, columns - left)]


def make_tiling(
    shape: tuple[int, ...],
    tile_size: int | None,
    network: NetworkShape,
    psf: Shaped[Array | np.ndarray, "h w"],
    share: Share | None = None,
) -> Tiling:
    """Return the `Tiling` of frames (N, H, W).

    The other arguments and the errors are those of `core_size` and `tiles.denoise_tiles`.
    """
    square = _IN_SQUARE * _usual_core(network)
    if share:
        square = math.lcm(_IN_SQUARE * _TILE, share.square, network.multiple)
    core = min(core_size(shape[1:], tile_size, network, psf), square)
    return Tiling(tuple(shape), core, halo(network, psf), square)


def halo(network: NetworkShape, psf: Shaped[Array | np.ndarray, "h w"]) -> int:
    """Return the overlap of the tiles in pixels on each side.

    It is the sum of the radii of the hot-pixel filter, the network and the PSF, rounded up to the
    network's multiple.
    """
    reach = 1 + network.radius + max(psf.shape) // 2
    return -(-reach // network.multiple) * network.multiple


def core_size(
    frame_shape: tuple[int, ...],
    tile_size: int | None,
    network: NetworkShape,
    psf: Shaped[Array | np.ndarray, "h w"],
) -> int:
    """Return the side in pixels of the part of a tile that is kept.

    It is a multiple of the network's, so that all tiles start on its pooling grid.

    Args:
        frame_shape: (H, W) of the images.
        tile_size: as in `tiles.denoise`; None for the default.
        network: `settings.NetworkShape`.
        psf: (h, w) array.

    Raises:
        ValueError: the tile size leaves nothing beside the overlap.
    """
    multiple, margin = network.multiple, halo(network, psf)
    needed = _bucket(max(frame_shape), multiple)
    if tile_size is None:
        return min(_usual_core(network), needed)
    core = (int(tile_size) - 2 * margin) // multiple * multiple
    if core < multiple:
        smallest = 2 * margin + multiple
        raise ValueError(
            f"tile size {tile_size} leaves nothing beside the overlap of {margin} pixels a side; "
            f"at least {smallest}"
        )
    return min(core, needed)


def _bucket(length, multiple):
    """The side of the tile for images of about this size, which share a compiled program.

    It is a multiple of the network's, and more than needed by at most a quarter.
    """
    blocks = -(-length // multiple)
    step = max(1, 2 ** (blocks.bit_length() - 3))
    return -(-blocks // step) * step * multiple


def _usual_core(network):
    return max(_TILE // network.multiple, 1) * network.multiple


def reflected_indices(start: int, core: int, margin: int, size: int) -> Int[np.ndarray, " S"]:
    """Return the indices of a tile's rows or columns in the image, reflected at its borders."""
    return reflect(np.arange(start - margin, start + core + margin), size)


_Indices = TypeVar("_Indices", np.ndarray, jax.Array)


def reflect(index: _Indices, size: int | Int[Array, ""]) -> _Indices:
    """Fold any indices into 0 <= index < size as NumPy's "reflect" padding does.

    The edge is not repeated. Works with NumPy and under ``jit``; the size may be traced.
    """
    period = 2 * size - 2 + (size == 1)
    return abs((index + size - 1) % period - (size - 1))
