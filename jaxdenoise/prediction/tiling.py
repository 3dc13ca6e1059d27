"""Where the tiles of images lie: their cores, their overlap, and which process denoises which. NumPy; no pixel is computed here.

A tile overlaps its neighbours by the receptive field and the PSF's radius, and starts on the grid
of the pooled levels; so each pixel is computed from the same values whether the image is cut into
tiles or not, and there are no seams, beyond the rounding of the precision.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

_TILE = 512  # pixels of the result a side, by default


class Share(NamedTuple):
    """The part of the tiles that one of several processes denoises.

    Attributes:
        index: of the process, 0-based.
        count: how many there are.
        square: whole squares of the frames, of so many pixels a side or a multiple, go to one
            process. If chunks of a Zarr array are as large, no two processes write into one.
    """

    index: int
    count: int
    square: int


class Tiling(NamedTuple):
    """How frames are cut into tiles.

    Attributes:
        shape: (N, H, W) of the frames.
        core: side in pixels of the part of a tile that is kept.
        margin: pixels of overlap on each side.
        square: side of the squares in which tiles begin anew.
    """

    shape: tuple
    core: int
    margin: int
    square: int

    def corners(self, share=None):
        """The corners (n, y, x) of the cores of all tiles, or of those of a `Share`."""
        found = itertools.product(
            *(
                range(0, length, step)
                for length, step in zip(self.shape, (1, self.square, self.square), strict=True)
            )
        )
        mine = itertools.islice(found, share.index, None, share.count) if share else found
        return [
            corner
            for n, *place in mine
            for corner in itertools.product((n,), *map(self._starts, place, self.shape[1:]))
        ]

    def _starts(self, square, length):
        return range(square, min(square + self.square, length), self.core)

    def cut(self, corners, size):
        """The corners of the smaller tiles, of cores of ``size``, that cover those of some corners."""
        steps = range(0, self.core, size)
        smaller = (
            (corner, (corner[0], corner[1] + y, corner[2] + x))
            for corner in corners
            for y in steps
            for x in steps
        )
        return [
            new
            for old, new in smaller
            if all(new[axis] < self._end(old[axis], self.core, axis) for axis in (1, 2))
        ]

    def place(self, corner, size):
        """(n, rows, columns) of the core at a corner, of ``size`` or less at the end of its square or frame."""
        return (
            corner[0],
            *(slice(corner[axis], self._end(corner[axis], size, axis)) for axis in (1, 2)),
        )

    def _end(self, start, size, axis):
        return min(start + size, (start // self.square + 1) * self.square, self.shape[axis])

    def pixels(self, frames, n, corner, size):
        """The pixels (S, S) of a frame that the tile at a corner needs, S = ``size`` + 2 ``margin``, reflected at the frame's borders."""
        rows, columns = (
            reflected(corner[axis], size, self.margin, self.shape[axis]) for axis in (1, 2)
        )
        (top, bottom), (left, right) = ((span.min(), span.max() + 1) for span in (rows, columns))
        return frames[n, top:bottom, left:right][np.ix_(rows - top, columns - left)]


def tiling(shape, tile_size, network, psf, share=None):
    """The `Tiling` of frames (N, H, W); arguments and errors as of `core_size` and `tiles.tiles`."""
    square = math.lcm(share.square, network.multiple) if share else max(shape[1:])
    return Tiling(
        tuple(shape), core_size(shape[1:], tile_size, network, psf), halo(network, psf), square
    )


def halo(network, psf):
    """Overlap of the tiles in pixels on each side: the radii of hot pixels, network and PSF, up to the network's multiple."""
    reach = 1 + network.radius + max(psf.shape) // 2
    return -(-reach // network.multiple) * network.multiple


def core_size(frame_shape, tile_size, network, psf):
    """Side of the part of a tile that is kept: a multiple of the network's, so that all tiles start on its pooling grid.

    Args:
        frame_shape: (H, W) of the images.
        tile_size: as in `tiles.denoise`; None for the default.
        network: `settings.NetworkShape`.
        psf: (h, w) array.

    Raises:
        ValueError: the tile size leaves nothing beside the overlap.
    """
    multiple, margin = network.multiple, halo(network, psf)
    needed = -(-max(frame_shape) // multiple) * multiple
    if tile_size is None:
        return min(max(_TILE // multiple, 1) * multiple, needed)
    core = (int(tile_size) - 2 * margin) // multiple * multiple
    if core < multiple:
        smallest = 2 * margin + multiple
        raise ValueError(
            f"tile size {tile_size} leaves nothing beside the overlap of {margin} pixels a side; at least {smallest}"
        )
    return min(core, needed)


def reflected(start, core, margin, size):
    """Indices of a tile's rows or columns in the image, reflected at its borders."""
    return reflect(np.arange(start - margin, start + core + margin), size)


def reflect(index, size):
    """Fold any index into 0 <= index < size as NumPy's "reflect" padding does, which does not repeat the edge."""
    period = 2 * size - 2 + (size == 1)
    return abs((index + size - 1) % period - (size - 1))
