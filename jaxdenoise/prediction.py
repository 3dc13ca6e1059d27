"""Prediction: whole images of any size through one compiled tile shape.

A tile overlaps its neighbours by the receptive field and the PSF's radius, and starts on the grid of the pooled levels; so each pixel is
computed from the same values whether the image is cut into tiles or not, and there are no seams.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise import patches
from jaxdenoise.problem import checked_stack
from jaxdenoise.psf import check_psf_fits, convolve, trimmed
from jaxdenoise.training import network_output

_TILE = 512  # pixels of the result a side, by default


class Denoised(NamedTuple):
    """Both results, in grey levels, of the shape of the input, float32.

    Attributes:
        denoised: the estimate of the noise-free image, z * PSF.
        deconvolved: z, the estimate before the microscope's blur.
    """

    denoised: jax.Array
    deconvolved: jax.Array


def halo(network, psf):
    """Overlap of the tiles in pixels on each side: receptive field plus PSF radius, up to the network's multiple."""
    reach = network.radius + max(psf.shape) // 2
    return -(-reach // network.multiple) * network.multiple


def denoise(denoiser, stack, *, tile_size=None, on_tile=None):
    """Denoise images with a trained model. Host side: NumPy in and out, one tile on the device at a time.

    Args:
        denoiser: `training.Denoiser`.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels.
        tile_size: side in pixels of the square that the network sees at a time, its overlap included. It bounds the memory and does
            not change the result. Default: the image, at most 512 pixels and the overlap.
        on_tile: called with (tiles done, tiles in all) after each tile.

    Returns:
        `Denoised` of NumPy arrays.

    Raises:
        ValueError: not such a stack, NaN, or a tile size that leaves nothing beside the overlap.
    """
    shape = np.shape(stack)
    frames = checked_stack(stack)
    check_psf_fits(denoiser.psf.shape, frames.shape[1:])
    denoiser = dataclasses.replace(denoiser, psf=trimmed(denoiser.psf))  # a narrower overlap of the tiles
    margin = halo(denoiser.config.network, denoiser.psf)
    core = core_size(frames.shape[1:], tile_size, denoiser.config.network, denoiser.psf)
    corners = [(y, x) for y in range(0, frames.shape[1], core) for x in range(0, frames.shape[2], core)]
    results = Denoised(np.empty_like(frames), np.empty_like(frames))
    for n, frame in enumerate(frames):
        for i, (y, x) in enumerate(corners):
            rows, columns = _reflected(y, core, margin, frame.shape[0]), _reflected(x, core, margin, frame.shape[1])
            tile = _denoise_tile(denoiser, frame[np.ix_(rows, columns)], (y, x), frame.shape)
            for result, values in zip(results, tile, strict=True):
                target = result[n, y : y + core, x : x + core]
                target[...] = np.asarray(values)[: target.shape[0], : target.shape[1]]
            if on_tile is not None:
                on_tile(n * len(corners) + i + 1, len(frames) * len(corners))
    return Denoised(*(result.reshape(shape) for result in results))


def denoise_image(denoiser, image):
    """Denoise one image (H, W) in one piece. Pure JAX: works under jit, vmap and grad; equals `denoise` to float32 rounding.

    Returns:
        `Denoised` of JAX arrays (H, W), float32, in grey levels.
    """
    image = jnp.asarray(image, jnp.float32)
    check_psf_fits(denoiser.psf.shape, image.shape)
    network = denoiser.config.network
    margin = halo(network, denoiser.psf)
    core = core_size(image.shape, max(image.shape) + 2 * margin + network.multiple, network, denoiser.psf)
    rows, columns = (_reflected(0, core, margin, size) for size in image.shape)
    tile = _denoise_tile(denoiser, image[jnp.ix_(rows, columns)], (0, 0), image.shape)
    return Denoised(*(values[: image.shape[0], : image.shape[1]] for values in tile))


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
        return min(_TILE, needed)
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


def _denoise_tile(denoiser, tile, corner, size):
    """Both results for the core of a square tile whose core's corner lies at ``corner`` of an image of ``size``."""
    tile = tile - denoiser.scale.background
    total = 0
    # One program for all symmetries, called in turn: eight at once would take eight times the memory.
    for symmetry in _symmetries(denoiser.config.symmetries):
        total = total + _deconvolve(denoiser.params, tile, denoiser.scale, symmetry, config=denoiser.config)
    margin = halo(denoiser.config.network, denoiser.psf)
    return _finish(total / denoiser.config.symmetries, denoiser.psf, denoiser.scale, corner, size, margin=margin)


def _symmetries(count):
    return {1: (0,), 2: (0, 3), 4: (0, 1, 2, 3), 8: range(patches.SYMMETRIES)}[count]


@partial(jax.jit, static_argnames="config")
def _deconvolve(params, tile, scale, symmetry, *, config):
    turned = patches.apply_symmetry(tile, symmetry)
    return patches.undo_symmetry(network_output(params, turned[None], scale, config)[0], symmetry)


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
