"""Prediction: whole images of any size through one compiled tile shape, on one device or several. `tiling` says where the tiles lie."""

import dataclasses
import itertools
import warnings
from collections import deque
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.hotpixels import replace_hot_pixels
from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry, undo_symmetry
from jaxdenoise.microscope.psf import check_psf_fits, convolve, trimmed
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.network.stacks import check_levels, checked_stack, row_length, table
from jaxdenoise.prediction import tiling
from jaxdenoise.system import errors, meshes

_RUNS = 8  # of the network in one call of the device
_AHEAD = 2  # calls that each of several devices is given before the results of the first are read


class Denoised(NamedTuple):
    """Both results, in grey levels, of the shape of the input, float32.

    Attributes:
        denoised: the estimate of the noise-free image, z * PSF.
        deconvolved: z, the estimate before the microscope's blur.
    """

    denoised: jax.Array
    deconvolved: jax.Array


def denoise(denoiser, stack, *, tile_size=None, devices=None, on_tile=None):
    """Denoise images with a trained model. Host side: NumPy in and out, a few tiles on each device at a time.

    Args:
        denoiser: `denoiser.Denoiser`.
        stack: (N, H, W), (H, W) or, as in `problem.prepare`, (S, N, H, W) array of any real dtype,
            in grey levels.
        tile_size: side in pixels of the square that the network sees at a time, its overlap
            included. It bounds the memory and does not change the result. Default: the image, at
            most 512 pixels and the overlap.
        devices: sequence of `jax.Device` of this process, such as ``jax.local_devices()``, that
            share the tiles; default: the default device alone. The result is the same.
        on_tile: called with (tiles done, tiles in all) after each tile.

    Returns:
        `Denoised` of NumPy arrays.

    Raises:
        ValueError: not such a stack, NaN, a tile size that leaves nothing beside the overlap, or
            too few frames for the neighbours.
    """
    shape = np.shape(stack)
    frames = checked_stack(stack)
    results = Denoised(np.empty_like(frames), np.empty_like(frames))
    options = {"tile_size": tile_size, "devices": devices, "on_tile": on_tile}
    for place, tile in tiles(denoiser, frames, sequence=row_length(stack), **options):
        for result, values in zip(results, tile, strict=True):
            result[place] = values
    return Denoised(*(result.reshape(shape) for result in results))


def tiles(
    denoiser, frames, *, sequence=None, tile_size=None, devices=None, share=None, on_tile=None
):
    """`denoise` piece by piece, for images larger than the memory: a generator of (place, `Denoised` of that place).

    A device that runs out of memory gets smaller tiles, with a warning; the result is the same.

    Args:
        denoiser: `denoiser.Denoiser`.
        frames: (N, H, W) array, or what reads like one (`frames.Frames`): ``frames[n, rows,
            columns]`` is an array of finite grey levels.
        sequence: how many frames stand in a row, for a network that sees neighbours; default: all.
        tile_size: as in `denoise`.
        devices: as in `denoise`.
        share: `tiling.Share` of the tiles that is wanted; default: all.
        on_tile: as in `denoise`; counts in tiles of the size that it began with.

    Yields:
        The place of a tile, (n, rows, columns) with two slices, and its NumPy arrays (h, w).

    Raises:
        ValueError: as `denoise`.
    """
    check_psf_fits(denoiser.psf.shape, frames.shape[1:])
    beside = table(len(frames), sequence or len(frames), denoiser.config.network.neighbours)
    denoiser = dataclasses.replace(
        denoiser.for_devices(devices), psf=trimmed(denoiser.psf), history={}
    )  # a narrower overlap of the tiles
    layout = tiling.tiling(frames.shape, tile_size, denoiser.config.network, denoiser.psf, share)
    corners = layout.corners(share)
    copies = itertools.cycle(
        [jax.device_put(denoiser, device) for device in meshes.chosen(devices)]
    )
    ahead = 1 if devices is None or len(devices) == 1 else _AHEAD * len(devices)
    in_turn = len(corners) > 1 and denoiser.config.fast_in_loops
    at_once = max(1, _RUNS // denoiser.config.symmetries) if in_turn else 1
    size, begun, done = layout.core, deque(), 0

    def calls(group, copy):
        return [
            (some, _begin(copy, frames, beside, layout, some, size, at_once))
            for some in _batched(layout.cut(group, size), at_once)
        ]

    def finished(group, copy, called):
        nonlocal size
        while True:
            try:
                for some, results in called or calls(group, copy):
                    yield from _places(layout, some, results)
                return
            except jax.errors.JaxRuntimeError as error:  # the group begins anew
                size, called = _smaller(error, size, denoiser.config.network.multiple), None

    groups = iter(_batched(corners, at_once))
    while True:
        for group in itertools.islice(groups, ahead - len(begun)):
            copy, called = next(copies), None
            with suppress(jax.errors.JaxRuntimeError):  # raised again when its turn comes
                called = calls(group, copy)
            begun.append((group, copy, called))
        if not begun:
            return
        group, copy, called = begun.popleft()
        yield from finished(group, copy, called)
        for _ in group:
            done += 1
            if on_tile is not None:
                on_tile(done, len(corners))


def _batched(items, size):
    """`itertools.batched`, which Python 3.11 lacks, of a list."""
    return (items[first : first + size] for first in range(0, len(items), size))


def _begin(denoiser, frames, beside, layout, corners, core, most):
    """Both results for the tiles of some corners, at most ``most``, on the device, which may still be computing them."""
    side = core + 2 * layout.margin
    tiles, starts = (
        np.zeros((most, 1 + beside.shape[1], side, side), np.float32),
        np.zeros((most, 2), np.int32),
    )
    for tile, start, corner in zip(tiles, starts, corners, strict=False):
        tile[:] = [
            layout.pixels(frames, seen, corner, core) for seen in (corner[0], *beside[corner[0]])
        ]
        check_levels(tile)
        start[:] = corner[1:]
    return _denoise_tiles(denoiser, tiles, starts, len(corners), frames.shape[1:])


def _places(layout, corners, results):
    """For each corner its place and both results for it, as NumPy arrays."""
    results = [np.asarray(values) for values in results]
    for index, corner in enumerate(corners):
        n, rows, columns = layout.place(corner, results[0].shape[-1])
        height, width = rows.stop - rows.start, columns.stop - columns.start
        yield (n, rows, columns), Denoised(*(values[index, :height, :width] for values in results))


def _smaller(error, size, multiple):
    """Half the size of a tile that the device had no memory for; any other error is raised again."""
    if not errors.is_out_of_memory(error) or size <= multiple:
        raise error
    smaller = max(size // 2 // multiple * multiple, multiple)
    warnings.warn(
        f"the device has no memory for tiles of {size} pixels; going on with {smaller}",
        stacklevel=3,
    )
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
    margin = tiling.halo(network, denoiser.psf)
    core = tiling.core_size(
        image.shape, max(image.shape) + 2 * margin + network.multiple, network, denoiser.psf
    )
    rows, columns = (tiling.reflected(0, core, margin, size) for size in image.shape)
    results = _denoise_tile(denoiser, image[jnp.ix_(rows, columns)][None], (0, 0), image.shape)
    return Denoised(*(values[: image.shape[0], : image.shape[1]] for values in results))


def _denoise_tiles(denoiser, tiles, corners, count, size):
    """`_denoise_tile` for the first ``count`` of some tiles: (n, core, core) each, of which the others mean nothing."""
    if len(tiles) > 1:
        unused = {
            name: None
            for name in ("best", "averaged", "last", "history")
            if name != denoiser.config.weights
        }
        return _denoise_in_turn(
            dataclasses.replace(denoiser, **unused), tiles, corners, count, size
        )
    return jax.tree.map(
        lambda values: values[None], _denoise_tile(denoiser, tiles[0], corners[0], size)
    )


@jax.jit
def _denoise_in_turn(denoiser, tiles, corners, count, size):
    """`_denoise_tile` in a loop: it keeps its memory from tile to tile, which a call for each would clear anew."""

    def one(index, results):
        result = _denoise_tile(denoiser, tiles[index], corners[index], size)
        return jax.tree.map(lambda all, values: all.at[index].set(values), results, result)

    core = tiles.shape[-1] - 2 * tiling.halo(denoiser.config.network, denoiser.psf)
    return jax.lax.fori_loop(
        0, count, one, Denoised(*(jnp.zeros((len(tiles), core, core)) for _ in Denoised._fields))
    )


def _denoise_tile(denoiser, tile, corner, size):
    """Both results for the core of a tile (1 + 2 K, S, S), itself and those beside, whose core's corner is at ``corner`` of ``size``."""
    tile = _without_hot_pixels(tile - denoiser.scale.background, denoiser.scale.std)
    deconvolved = _deconvolved(denoiser, tile)
    margin = tiling.halo(denoiser.config.network, denoiser.psf)
    return _finish(deconvolved, denoiser.psf, denoiser.scale, corner, size, margin=margin)


def _deconvolved(denoiser, tile):
    """The mean over the symmetries, which are computed one after the other: eight at once would take eight times the memory."""
    params, scale, config = denoiser.params, denoiser.scale, denoiser.config
    if config.symmetries > 1 and config.fast_in_loops:
        return _deconvolve_in_turn(params, tile, scale, config=config)
    return (
        sum(
            _deconvolve(params, tile, scale, symmetry, config=config)
            for symmetry in _symmetries(config.symmetries)
        )
        / config.symmetries
    )


@partial(jax.jit, static_argnames="config")
def _deconvolve_in_turn(params, tile, scale, *, config):
    def add(total, symmetry):
        return total + _deconvolve(params, tile, scale, symmetry, config=config), None

    total, _ = jax.lax.scan(
        add, jnp.zeros(tile.shape[1:]), jnp.array(_symmetries(config.symmetries))
    )
    return total / config.symmetries


def _symmetries(count):
    return {1: (0,), 2: (0, 3), 4: (0, 1, 2, 3), 8: range(SYMMETRIES)}[count]


@jax.jit
def _without_hot_pixels(tile, std):
    return jax.vmap(partial(replace_hot_pixels, std=std, background=0))(tile)


@partial(jax.jit, static_argnames="config")
def _deconvolve(params, tile, scale, symmetry, *, config):
    turned = jax.vmap(apply_symmetry, (0, None))(tile, symmetry)[None]
    beside = turned[:, 1:] if config.network.neighbours else None
    return undo_symmetry(network_output(params, turned[:, 0], scale, config, beside)[0], symmetry)


@partial(jax.jit, static_argnames=("margin",))
def _finish(deconvolved, psf, scale, corner, size, *, margin):
    """Blur the tile as if the deconvolved image were reflected at the image's borders, and cut off the overlap."""
    reflected = deconvolved
    for axis in (0, 1):
        span = jnp.arange(deconvolved.shape[axis])
        place = span + corner[axis] - margin
        source = tiling.reflect(place, size[axis]) - corner[axis] + margin
        reflected = jnp.take(reflected, jnp.clip(source, 0, span[-1]), axis=axis)
    denoised = convolve(reflected, psf)
    core = (
        slice(margin, deconvolved.shape[0] - margin),
        slice(margin, deconvolved.shape[1] - margin),
    )
    return Denoised(denoised[core] + scale.background, deconvolved[core] + scale.background)
