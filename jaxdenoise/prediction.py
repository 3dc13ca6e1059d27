"""Prediction: whole images of any size through one compiled tile shape.

A tile overlaps its neighbours by the receptive field and the PSF's radius, and starts on the grid of the pooled levels; so each pixel is
computed from the same values whether the image is cut into tiles or not, and there are no seams, beyond the rounding of the precision.
"""

import dataclasses
import itertools
import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise import convolution, errors, neighbours, patches
from jaxdenoise.hotpixels import replace_hot_pixels
from jaxdenoise.problem import check_levels, checked_stack, row_length
from jaxdenoise.psf import check_psf_fits, convolve, trimmed
from jaxdenoise.updates import network_output

_TILE = 512  # pixels of the result a side, by default
_RUNS = 8  # of the network in one call of the device


class Denoised(NamedTuple):
    """Both results, in grey levels, of the shape of the input, float32.

    Attributes:
        denoised: the estimate of the noise-free image, z * PSF.
        deconvolved: z, the estimate before the microscope's blur.
    """

    denoised: jax.Array
    deconvolved: jax.Array


def halo(network, psf):
    """Overlap of the tiles in pixels on each side: the radii of hot pixels, network and PSF, up to the network's multiple."""
    reach = 1 + network.radius + max(psf.shape) // 2
    return -(-reach // network.multiple) * network.multiple


def denoise(denoiser, stack, *, tile_size=None, on_tile=None):
    """Denoise images with a trained model. Host side: NumPy in and out, a few tiles on the device at a time, one after the other.

    Args:
        denoiser: `training.Denoiser`.
        stack: (N, H, W), (H, W) or, as in `problem.prepare`, (S, N, H, W) array of any real dtype, in grey levels.
        tile_size: side in pixels of the square that the network sees at a time, its overlap included. It bounds the memory and does
            not change the result. Default: the image, at most 512 pixels and the overlap.
        on_tile: called with (tiles done, tiles in all) after each tile.

    Returns:
        `Denoised` of NumPy arrays.

    Raises:
        ValueError: not such a stack, NaN, a tile size that leaves nothing beside the overlap, or too few frames for the neighbours.
    """
    shape = np.shape(stack)
    frames = checked_stack(stack)
    results = Denoised(np.empty_like(frames), np.empty_like(frames))
    for place, tile in tiles(denoiser, frames, sequence=row_length(stack), tile_size=tile_size, on_tile=on_tile):
        for result, values in zip(results, tile, strict=True):
            result[place] = values
    return Denoised(*(result.reshape(shape) for result in results))


def tiles(denoiser, frames, *, sequence=None, tile_size=None, on_tile=None):
    """`denoise` piece by piece, for images larger than the memory: a generator of (place, `Denoised` of that place).

    A device that runs out of memory gets smaller tiles, with a warning; the result is the same.

    Args:
        denoiser: `training.Denoiser`.
        frames: (N, H, W) array, or what reads like one (`frames.Frames`): ``frames[n, rows, columns]`` is an array of finite grey levels.
        sequence: how many frames stand in a row, for a network that sees neighbours; default: all.
        tile_size: as in `denoise`.
        on_tile: as in `denoise`; counts in tiles of the size that it began with.

    Yields:
        The place of a tile, (n, rows, columns) with two slices, and its NumPy arrays (h, w).

    Raises:
        ValueError: as `denoise`.
    """
    check_psf_fits(denoiser.psf.shape, frames.shape[1:])
    beside = neighbours.table(len(frames), sequence or len(frames), denoiser.config.network.neighbours)
    denoiser = dataclasses.replace(denoiser, psf=trimmed(denoiser.psf))  # a narrower overlap of the tiles
    core = core_size(frames.shape[1:], tile_size, denoiser.config.network, denoiser.psf)
    corners = list(itertools.product(*(range(0, length, step) for length, step in zip(frames.shape, (1, core, core), strict=True))))
    in_turn = len(corners) > 1 and convolution.fast_in_loops(denoiser.config.precision)
    at_once = max(1, _RUNS // denoiser.config.symmetries) if in_turn else 1
    size, numbers = core, itertools.count(1)
    for group in _batched(corners, at_once):
        whole = False
        while not whole:
            try:
                for some in _batched(_cut(group, core, size, frames.shape), at_once):
                    yield from _denoise_places(denoiser, frames, beside, some, size, at_once)
                whole = True
            except jax.errors.JaxRuntimeError as error:  # the group begins anew
                size = _smaller(error, size, denoiser.config.network.multiple)
        for done in itertools.islice(numbers, len(group)):
            if on_tile is not None:
                on_tile(done, len(corners))


def _batched(items, size):
    """`itertools.batched`, which Python 3.11 lacks, of a list."""
    return (items[first : first + size] for first in range(0, len(items), size))


def _cut(corners, core, size, shape):
    """The corners (n, y, x) of the tiles of ``size`` that cover those of ``core``."""
    spans = (0,), range(0, core, size), range(0, core, size)
    cut = (np.add(corner, steps).tolist() for corner in corners for steps in itertools.product(*spans))
    return [corner for corner in cut if corner[1] < shape[1] and corner[2] < shape[2]]


def _denoise_places(denoiser, frames, beside, corners, core, most):
    """For each corner (n, y, x), at most ``most``: its place and both results for it, (core, core) or less at the frame's end."""
    margin, size = halo(denoiser.config.network, denoiser.psf), frames.shape[1:]
    tiles = np.zeros((most, 1 + beside.shape[1], core + 2 * margin, core + 2 * margin), np.float32)
    for tile, (n, *corner) in zip(tiles, corners, strict=False):
        tile[:] = [_tile(frames, seen, corner, core, margin) for seen in (n, *beside[n])]
    starts = np.zeros((most, 2), np.int32)
    starts[: len(corners)] = [corner[1:] for corner in corners]
    results = [np.asarray(values) for values in _denoise_tiles(denoiser, tiles, starts, len(corners), size)]
    for index, (n, *corner) in enumerate(corners):
        place = tuple(slice(start, min(start + core, length)) for start, length in zip(corner, size, strict=True))
        height, width = (span.stop - span.start for span in place)
        yield (n, *place), Denoised(*(values[index, :height, :width] for values in results))


def _tile(frames, n, corner, core, margin):
    """The grey levels that a tile needs, reflected at the frame's borders."""
    rows, columns = (_reflected(start, core, margin, length) for start, length in zip(corner, frames.shape[1:], strict=True))
    (top, bottom), (left, right) = ((span.min(), span.max() + 1) for span in (rows, columns))
    tile = frames[n, top:bottom, left:right][np.ix_(rows - top, columns - left)]
    check_levels(tile)
    return tile


def _smaller(error, size, multiple):
    """Half the size of a tile that the device had no memory for; any other error is raised again."""
    if not errors.is_out_of_memory(error) or size <= multiple:
        raise error
    smaller = max(size // 2 // multiple * multiple, multiple)
    warnings.warn(f"the device has no memory for tiles of {size} pixels; going on with {smaller}", stacklevel=3)
    return smaller


def denoise_image(denoiser, image):
    """Denoise one image (H, W) in one piece. Pure JAX: works under jit, vmap and grad; equals `denoise` to rounding.

    Returns:
        `Denoised` of JAX arrays (H, W), float32, in grey levels.

    Raises:
        ValueError: a PSF that does not fit, or a network that sees neighbouring frames.
    """
    if denoiser.config.network.neighbours:
        raise ValueError("this model sees neighbouring frames: give `denoise` a stack")
    image = jnp.asarray(image, jnp.float32)
    check_psf_fits(denoiser.psf.shape, image.shape)
    network = denoiser.config.network
    margin = halo(network, denoiser.psf)
    core = core_size(image.shape, max(image.shape) + 2 * margin + network.multiple, network, denoiser.psf)
    rows, columns = (_reflected(0, core, margin, size) for size in image.shape)
    results = _denoise_tile(denoiser, image[jnp.ix_(rows, columns)][None], (0, 0), image.shape)
    return Denoised(*(values[: image.shape[0], : image.shape[1]] for values in results))


def core_size(frame_shape, tile_size, network, psf):
    """Side of the part of a tile that is kept: a multiple of the network's, so that all tiles start on its pooling grid.

    Args:
        frame_shape: (H, W) of the images.
        tile_size: as in `denoise`; None for the default.
        network: `config.UNetConfig`.
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
        raise ValueError(f"tile size {tile_size} leaves nothing beside the overlap of {margin} pixels a side; at least {smallest}")
    return min(core, needed)


def _reflected(start, core, margin, size):
    """Indices of a tile's rows or columns in the image, reflected at its borders."""
    return _reflect(np.arange(start - margin, start + core + margin), size)


def _reflect(index, size):
    """Fold any index into 0 <= index < size as NumPy's "reflect" padding does, which does not repeat the edge."""
    period = 2 * size - 2 + (size == 1)
    return abs((index + size - 1) % period - (size - 1))


def _denoise_tiles(denoiser, tiles, corners, count, size):
    """`_denoise_tile` for the first ``count`` of some tiles: (n, core, core) each, of which the others mean nothing."""
    if len(tiles) > 1:
        unused = {name: None for name in ("best", "averaged", "last", "history") if name != denoiser.config.weights}
        return _denoise_in_turn(dataclasses.replace(denoiser, **unused), tiles, corners, count, size)
    return jax.tree.map(lambda values: values[None], _denoise_tile(denoiser, tiles[0], corners[0], size))


@jax.jit
def _denoise_in_turn(denoiser, tiles, corners, count, size):
    """`_denoise_tile` in a loop: it keeps its memory from tile to tile, which a call for each would clear anew."""

    def one(index, results):
        result = _denoise_tile(denoiser, tiles[index], corners[index], size)
        return jax.tree.map(lambda all, values: all.at[index].set(values), results, result)

    core = tiles.shape[-1] - 2 * halo(denoiser.config.network, denoiser.psf)
    return jax.lax.fori_loop(0, count, one, Denoised(*(jnp.zeros((len(tiles), core, core)) for _ in Denoised._fields)))


def _denoise_tile(denoiser, tile, corner, size):
    """Both results for the core of a tile (1 + 2 K, S, S), itself and those beside, whose core's corner is at ``corner`` of ``size``."""
    tile = _without_hot_pixels(tile - denoiser.scale.background, denoiser.scale.std)
    deconvolved = _deconvolved(denoiser, tile)
    margin = halo(denoiser.config.network, denoiser.psf)
    return _finish(deconvolved, denoiser.psf, denoiser.scale, corner, size, margin=margin)


def _deconvolved(denoiser, tile):
    """The mean over the symmetries, which are computed one after the other: eight at once would take eight times the memory."""
    params, scale, config = denoiser.params, denoiser.scale, denoiser.config
    if config.symmetries > 1 and convolution.fast_in_loops(config.precision):
        return _deconvolve_in_turn(params, tile, scale, config=config)
    return sum(_deconvolve(params, tile, scale, symmetry, config=config) for symmetry in _symmetries(config.symmetries)) / config.symmetries


@partial(jax.jit, static_argnames="config")
def _deconvolve_in_turn(params, tile, scale, *, config):
    def add(total, symmetry):
        return total + _deconvolve(params, tile, scale, symmetry, config=config), None

    total, _ = jax.lax.scan(add, jnp.zeros(tile.shape[1:]), jnp.array(_symmetries(config.symmetries)))
    return total / config.symmetries


def _symmetries(count):
    return {1: (0,), 2: (0, 3), 4: (0, 1, 2, 3), 8: range(patches.SYMMETRIES)}[count]


@jax.jit
def _without_hot_pixels(tile, std):
    return jax.vmap(partial(replace_hot_pixels, std=std, background=0))(tile)


@partial(jax.jit, static_argnames="config")
def _deconvolve(params, tile, scale, symmetry, *, config):
    turned = jax.vmap(patches.apply_symmetry, (0, None))(tile, symmetry)[None]
    beside = turned[:, 1:] if config.network.neighbours else None
    return patches.undo_symmetry(network_output(params, turned[:, 0], scale, config, beside)[0], symmetry)


@partial(jax.jit, static_argnames=("margin",))
def _finish(deconvolved, psf, scale, corner, size, *, margin):
    """Blur the tile as if the deconvolved image were reflected at the image's borders, and cut off the overlap."""
    reflected = deconvolved
    for axis in (0, 1):
        span = jnp.arange(deconvolved.shape[axis])
        place = span + corner[axis] - margin
        source = _reflect(place, size[axis]) - corner[axis] + margin
        reflected = jnp.take(reflected, jnp.clip(source, 0, span[-1]), axis=axis)
    denoised = convolve(reflected, psf)
    core = slice(margin, deconvolved.shape[0] - margin), slice(margin, deconvolved.shape[1] - margin)
    return Denoised(denoised[core] + scale.background, deconvolved[core] + scale.background)
