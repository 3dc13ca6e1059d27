"""Prediction: whole images of any size through one compiled tile shape, on one device or several.

Host side, but for `denoise_image`. `tiling` says where the tiles lie.
"""

import dataclasses
import itertools
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Real

from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.imaging.hotpixels import replaced
from jaxdenoise.io.frames import ReadableFrames
from jaxdenoise.microscope.psf import check_psf_fits, trimmed
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.guides import GuideFrames
from jaxdenoise.network.stacks import check_levels, checked_stack, frames_beside, row_length
from jaxdenoise.prediction import forward, tiling, volume_fits, volumes
from jaxdenoise.prediction.forward import Denoised
from jaxdenoise.prediction.light import with_light
from jaxdenoise.system import errors, meshes

_RUNS = 8  # of the network in one call of the device
_AHEAD = 2  # calls that each device is given before the results of the first are read


def denoise(
    denoiser: Denoiser,
    stack: Real[Array | np.ndarray, "*batch H W"],
    *,
    tile_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_tile: Callable[[int, int], object] | None = None,
    keep_light: bool = True,
) -> Denoised:
    """Denoise images with a trained model. Host side: a few tiles are on each device at a time.

    Hot pixels are replaced first, by the rule of the training (`hotpixels.find_hot_pixels`).

    Args:
        denoiser: `denoiser.Denoiser`.
        stack: (N, H, W), (H, W) or, as in `problem.prepare`, (S, N, H, W) array of any real dtype,
            in grey levels. NaN marks pixels without data, and stays NaN.
        tile_size: side in pixels of the square that the network sees at a time, its overlap
            included. It bounds the memory and does not change the result. Default: the image, at
            most 512 pixels and the overlap.
        devices: the devices of this process, such as ``jax.local_devices()``, that share the tiles;
            default: the default device alone. The result is the same.
        on_tile: called with (tiles done, tiles in all) after each tile.
        keep_light: add what the network lost or invented on average at each brightness, see
            `light`; else the results are the network's own.

    Returns:
        `Denoised` of NumPy arrays.

    Raises:
        ValueError: not such a stack, infinite pixels, a tile size that leaves nothing beside the
            overlap, or too few frames for the neighbours.
    """
    frames, gaps = fill_stack(replaced(checked_stack(stack)))
    results = Denoised(np.empty_like(frames), np.empty_like(frames))
    tiles = denoise_tiles(
        denoiser,
        frames,
        sequence=row_length(stack),
        tile_size=tile_size,
        devices=devices,
        on_tile=on_tile,
        marked=marked_by(frames, gaps) if keep_light else None,
    )
    for place, tile in tiles:
        for result, values in zip(results, tile, strict=True):
            result[place] = values
    if gaps is not None:
        for result in results:
            result[gaps] = np.nan
    return Denoised(*(result.reshape(np.shape(stack)) for result in results))


def denoise_tiles(
    denoiser: Denoiser,
    frames: Real[Array | np.ndarray, "N H W"] | ReadableFrames,
    *,
    sequence: int | None = None,
    tile_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    share: tiling.Share | None = None,
    on_tile: Callable[[int, int], object] | None = None,
    marked: Callable[[tiling.Place], Real[np.ndarray, "h w"]] | None = None,
    only: Collection[int] | None = None,
) -> Iterator[tuple[tiling.Place, Denoised]]:
    """Denoise tile by tile, for images larger than the memory. Host side.

    A device that runs out of memory gets smaller tiles, with a warning; the result is the same, and
    so are the places that are yielded. No hot pixel is replaced.

    Args:
        denoiser: `denoiser.Denoiser`.
        frames: (N, H, W) array of finite grey levels, or `frames.ReadableFrames`, read a few tiles
            a time.
        sequence: frames that follow each other in time or depth, for neighbours, or planes of a
            volume; default: all.
        tile_size: as in `denoise`.
        devices: as in `denoise`.
        share: the tiles to denoise; default: all.
        on_tile: as in `denoise`.
        marked: returns the pixels at a place, NaN where there is no data, to keep the light by;
            None: the results are the network's own.
        only: numbers of the frames to denoise; default, and if the PSF mixes planes: all.

    Yields:
        The place of a tile, (n, rows, columns) with two slices, and its NumPy arrays (h, w).

    Raises:
        ValueError: as `denoise`; a model of volumes and a share of the tiles or of the frames.
    """
    _check_size(denoiser.psf.shape[-2:], frames.shape[1:])
    network, sequence = denoiser.config.network, sequence or len(frames)
    beside = frames_beside(network, len(frames), sequence)
    # A narrower PSF needs a narrower overlap of the tiles.
    psf = trimmed(denoiser.psf)
    own = volumes.psf_of_tiles(psf, share, fitted=denoiser.config.axial == "fitted")
    denoiser = dataclasses.replace(denoiser.for_devices(devices), psf=own, history={})
    layout = tiling.make_tiling(frames.shape, tile_size, network, denoiser.psf, share)
    corners = layout.corners(share)
    if only is not None and psf.ndim == 2:
        corners = [corner for corner in corners if corner[0] in only]
    in_turn = len(corners) > 1 and denoiser.config.fast_in_loops
    at_once = max(1, _RUNS // denoiser.config.symmetries) if in_turn else 1
    guides = GuideFrames(frames, sequence, in_order=only is None) if network.guided else None
    calls = _Calls(frames, beside, guides, layout, at_once, layout.core)
    copies, ahead = _on_devices(denoiser, devices)
    groups = _in_order(calls, _batched(corners, at_once), copies, ahead)
    tiles = _results(calls, groups, len(corners), on_tile)
    if psf.ndim == 3:
        tiles = volume_fits.mixed_planes(tiles, denoiser, psf, marked, layout, sequence)
    elif marked is not None:
        tiles = with_light(tiles, marked, square=layout.square, stride=network.stride)
    yield from tiles


def marked_by(
    frames: Real[np.ndarray, "N H W"], gaps: Bool[np.ndarray, "N H W"] | None
) -> Callable[[tiling.Place], Real[np.ndarray, "h w"]]:
    """Return a function of a place that returns its pixels, NaN in the gaps."""
    if gaps is None:
        return lambda place: frames[place]
    return lambda place: np.where(gaps[place], np.float32(np.nan), frames[place])


def _results(calls, groups, total, on_tile):
    """The places and the results of all tiles."""
    done = 0
    for group in groups:
        yield from calls.results(group)
        for _ in group.corners:
            done += 1
            if on_tile is not None:
                on_tile(done, total)


def _check_size(psf_shape, image_shape):
    if psf_shape[0] > image_shape[0] or psf_shape[1] > image_shape[1]:
        (rows, columns), (height, width) = psf_shape, image_shape
        raise ValueError(
            f"the model's PSF of {rows}x{columns} pixels is larger than the image of "
            f"{height}x{width}; this model needs images of at least {rows}x{columns}"
        )
    check_psf_fits(psf_shape, image_shape)


def _on_devices(denoiser, devices):
    """An endless cycle of the model's copies on the devices, and how many calls to begin ahead."""
    chosen = meshes.chosen(devices)
    copies = itertools.cycle([jax.device_put(denoiser, device) for device in chosen])
    return copies, _AHEAD * len(chosen)


def _in_order(calls, groups, copies, ahead):
    """Begin groups of tiles on the devices in turn, some ahead; yield each when its turn comes."""
    begun: deque[_Group] = deque()
    while True:
        for corners in itertools.islice(groups, ahead - len(begun)):
            begun.append(calls.begin(next(copies), corners))
        if not begun:
            return
        yield begun.popleft()


def _batched(items, size):
    """`itertools.batched`, which Python 3.11 lacks, of a list."""
    return (items[first : first + size] for first in range(0, len(items), size))


class _Group(NamedTuple):
    """Tiles that one device denoises in one call, or in several if they had to become smaller."""

    denoiser: Denoiser
    corners: list[tiling.Corner]
    calls: list | None  # the corners and the results of each call; None if it failed


@dataclasses.dataclass
class _Calls:
    """Calls of devices with up to ``at_once`` tiles each; ``core`` shrinks if memory is short."""

    frames: Any
    beside: np.ndarray
    guides: GuideFrames | None
    layout: tiling.Tiling
    at_once: int
    core: int

    def begin(self, denoiser, corners):
        """Begin to denoise the tiles at some corners, which need not end before this returns."""
        calls = None
        with suppress(jax.errors.JaxRuntimeError):  # raised again when its turn comes
            calls = self._begin(denoiser, corners)
        return _Group(denoiser, corners, calls)

    def results(self, group):
        """Return the place and both results of each tile of a group, in smaller tiles if need be.

        The smaller ones are put together again: of several models only one may lack memory.
        """
        calls, places = (
            group.calls,
            [self.layout.place(at, self.layout.core) for at in group.corners],
        )
        while True:
            try:
                pieces = [
                    piece
                    for corners, results in calls or self._begin(group.denoiser, group.corners)
                    for piece in _places(self.layout, corners, results)
                ]
                return pieces if len(pieces) == len(places) else _assembled(pieces, places)
            except jax.errors.JaxRuntimeError as error:  # the group begins anew
                multiple = group.denoiser.config.network.multiple
                self.core, calls = _smaller(error, self.core, multiple), None

    def _begin(self, denoiser, corners):
        smaller = self.layout.cut(corners, self.core)
        return [(some, self._call(denoiser, some)) for some in _batched(smaller, self.at_once)]

    def _call(self, denoiser, corners):
        """Both results for the tiles at some corners, which the device may still be computing."""
        side = self.core + 2 * self.layout.margin
        seen = 1 + denoiser.config.network.beside
        tiles = np.zeros((self.at_once, seen, side, side), np.float32)
        starts = np.zeros((self.at_once, 2), np.int32)
        for tile, start, corner in zip(tiles, starts, corners, strict=False):
            sources = [(self.frames, n) for n in (corner[0], *self.beside[corner[0]])]
            if self.guides is not None:
                sources.append((self.guides, corner[0]))
            tile[:] = [self.layout.pixels(of, n, corner, self.core) for of, n in sources]
            check_levels(tile)
            start[:] = corner[1:]
        return forward.denoise_batch(denoiser, tiles, starts, len(corners), self.frames.shape[1:])


def _places(layout, corners, results):
    """For each corner its place and both results for it, as NumPy arrays."""
    results = [np.asarray(values) for values in results]
    for index, corner in enumerate(corners):
        n, rows, columns = layout.place(corner, results[0].shape[-1])
        height, width = rows.stop - rows.start, columns.stop - columns.start
        yield (n, rows, columns), Denoised(*(values[index, :height, :width] for values in results))


def _assembled(pieces, places):
    """Larger tiles from smaller ones, which may overlap beyond a larger one's end."""
    wholes = []
    for n, rows, columns in places:
        shape = rows.stop - rows.start, columns.stop - columns.start
        whole = Denoised(*(np.empty(shape, np.float32) for _ in Denoised._fields))
        for (of, down, right), piece in pieces:
            top, left = down.start - rows.start, right.start - columns.start
            if of == n and 0 <= top < shape[0] and 0 <= left < shape[1]:
                for result, values in zip(whole, piece, strict=True):
                    target = result[top : top + len(values), left : left + values.shape[1]]
                    target[:] = values[: target.shape[0], : target.shape[1]]
        wholes.append(((n, rows, columns), whole))
    return wholes


def _smaller(error, core, multiple):
    """Half the size of a core that the device had no memory for; raise any other error again."""
    if not errors.is_out_of_memory(error) or core <= multiple:
        raise error
    smaller = max(core // 2 // multiple * multiple, multiple)
    warnings.warn(
        f"the device has no memory for tiles of {core} pixels; going on with {smaller}",
        stacklevel=3,
    )
    return smaller


def denoise_image(denoiser: Denoiser, image: Real[Array | np.ndarray, "H W"]) -> Denoised:
    """Denoise one image in one piece. Pure JAX: works under jit, vmap and grad.

    The result equals that of ``denoise(..., keep_light=False)`` to rounding where the image has no
    hot pixels. It replaces none: `hotpixels.find_hot_pixels` looks at all pixels on the host.

    Args:
        denoiser: `denoiser.Denoiser`, of a network that sees no neighbouring frames.
        image: (H, W) array, in grey levels.

    Returns:
        `Denoised` of JAX arrays (H, W), float32, in grey levels.

    Raises:
        ValueError: a PSF that does not fit or mixes planes, or a network that sees neighbouring
            frames.
    """
    if denoiser.config.network.neighbours:
        raise ValueError("this model sees neighbouring frames: give `denoise` a stack")
    if denoiser.psf.ndim == 3:
        raise ValueError("this model's PSF mixes planes: give `denoise` a volume")
    image = jnp.asarray(image, jnp.float32)
    check_psf_fits(denoiser.psf.shape, image.shape)
    network = denoiser.config.network
    margin = tiling.halo(network, denoiser.psf)
    core = tiling.core_size(
        image.shape, max(image.shape) + 2 * margin + network.multiple, network, denoiser.psf
    )
    rows, columns = (tiling.reflected_indices(0, core, margin, size) for size in image.shape)
    results = forward.denoise_tile(
        denoiser, image[jnp.ix_(rows, columns)][None], (0, 0), image.shape
    )
    return Denoised(*(values[: image.shape[0], : image.shape[1]] for values in results))
