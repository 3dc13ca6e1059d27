"""The forward pass for tiles: network, mean over symmetries, blur. Pure JAX.

`tiling` says where the tiles lie, `tiles` makes images of them.
"""

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry, undo_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network.denoiser import Denoiser, Scale, network_output
from jaxdenoise.network.settings import Settings
from jaxdenoise.prediction import tiling


class Denoised(NamedTuple):
    """Both results, in grey levels, of the shape of the input, float32.

    Attributes:
        denoised: the estimate of the noise-free image, z * PSF.
        deconvolved: z, the estimate before the microscope's blur.
    """

    denoised: Float[Array | np.ndarray, "*shape"]
    deconvolved: Float[Array | np.ndarray, "*shape"]


def denoise_batch(
    denoiser: Denoiser,
    tiles: Float[Array | np.ndarray, "n C S S"],
    corners: Int[Array | np.ndarray, "n 2"],
    count: int,
    size: tuple[int, ...],
) -> Denoised:
    """Denoise the first ``count`` of a batch of tiles, one after the other.

    Args:
        denoiser: `denoiser.Denoiser`.
        tiles: each as in `denoise_tile`.
        corners: each as in `denoise_tile`.
        count: number of the tiles that are computed.
        size: as in `denoise_tile`.

    Returns:
        `Denoised`, (n, core, core) each; the first ``count`` are valid.
    """
    if len(tiles) > 1:
        unused: dict[str, Any] = {
            name: None
            for name in ("best", "averaged", "last", "history")
            if name != denoiser.config.weights
        }
        return _denoise_in_turn(
            dataclasses.replace(denoiser, **unused), tiles, corners, count, size
        )
    return jax.tree.map(
        lambda values: values[None], denoise_tile(denoiser, tiles[0], corners[0], size)
    )


@jax.jit
def _denoise_in_turn(denoiser, tiles, corners, count, size):
    """`denoise_tile` in a loop.

    A loop keeps its memory from tile to tile, which a call for each tile would clear anew.
    """

    def one(index, results):
        result = denoise_tile(denoiser, tiles[index], corners[index], size)
        return jax.tree.map(lambda whole, values: whole.at[index].set(values), results, result)

    core = tiles.shape[-1] - 2 * tiling.halo(denoiser.config.network, denoiser.psf)
    return jax.lax.fori_loop(
        0, count, one, Denoised(*(jnp.zeros((len(tiles), core, core)) for _ in Denoised._fields))
    )


def denoise_tile(
    denoiser: Denoiser,
    tile: Float[Array | np.ndarray, "C S S"],
    corner: tuple[int, int] | Int[Array | np.ndarray, "2"],
    size: tuple[int | Int[Array, ""], ...],
) -> Denoised:
    """Denoise the core of one tile.

    Args:
        denoiser: `denoiser.Denoiser`.
        tile: (1 + `NetworkShape.beside`, S, S), in grey levels: the pixels of the frame, of those
            beside it and of its guide, with `tiling.halo` pixels around the core.
        corner: (y, x) of the first pixel of the core in the image.
        size: (H, W) of the image, at whose borders the deconvolved image is reflected.

    Returns:
        `Denoised`, (core, core) each.
    """
    deconvolved = _deconvolved(denoiser, tile - denoiser.scale.background)
    network = denoiser.config.network
    margin = tiling.halo(network, denoiser.psf) - network.rim
    return _finish(deconvolved, denoiser.psf, denoiser.scale, corner, size, margin=margin)


def _deconvolved(denoiser, tile):
    """The mean over the symmetries, without the network's rim.

    They are computed one after the other: eight at once would take eight times the memory.
    """
    params, scale, config = denoiser.params, denoiser.scale, denoiser.config
    if config.symmetries > 1 and config.fast_in_loops:
        return _deconvolve_in_turn(params, tile, scale, config=config)
    return (
        sum(
            deconvolve(params, tile, scale, symmetry, config=config)
            for symmetry in _symmetries(config.symmetries)
        )
        / config.symmetries
    )


@partial(jax.jit, static_argnames="config")
def _deconvolve_in_turn(params, tile, scale, *, config):
    def add(total, symmetry):
        return total + deconvolve(params, tile, scale, symmetry, config=config), None

    sides = [length - 2 * config.network.rim for length in tile.shape[1:]]
    total, _ = jax.lax.scan(add, jnp.zeros(sides), jnp.array(_symmetries(config.symmetries)))
    return total / config.symmetries


def _symmetries(count: int) -> Iterable[int]:
    return {1: (0,), 2: (0, 3), 4: (0, 1, 2, 3), 8: range(SYMMETRIES)}[count]


@partial(jax.jit, static_argnames="config")
def deconvolve(
    params: Any,
    tile: Float[Array | np.ndarray, "C S S"],
    scale: Scale,
    symmetry: int | Int[Array, ""],
    *,
    config: Settings,
) -> Float[Array, "s s"]:
    """Return what the network makes of a turned tile, turned back, without the network's rim.

    Args:
        params: of the network.
        tile: as in `denoise_tile`, above the background.
        scale: `denoiser.Scale`.
        symmetry: its number, as of `symmetry.apply_symmetry`.
        config: `settings.Settings`, static.
    """
    turned = jax.vmap(apply_symmetry, (0, None))(tile, symmetry)[None]
    beside = turned[:, 1:] if config.network.beside else None
    found = network_output(params, turned[:, 0], scale, config, beside, padded=False)
    return undo_symmetry(found[0], symmetry)


@partial(jax.jit, static_argnames=("margin",))
def _finish(deconvolved, psf, scale, corner, size, *, margin):
    """Blur the tile and cut off the overlap; the deconvolved image is reflected at its borders."""
    extended = deconvolved
    for axis in (0, 1):
        span = jnp.arange(deconvolved.shape[axis])
        place = span + corner[axis] - margin
        source = tiling.reflect(place, size[axis]) - corner[axis] + margin
        extended = jnp.take(extended, jnp.clip(source, 0, span[-1]), axis=axis)
    denoised = convolve(extended, psf)
    core = (
        slice(margin, deconvolved.shape[0] - margin),
        slice(margin, deconvolved.shape[1] - margin),
    )
    return Denoised(denoised[core] + scale.background, deconvolved[core] + scale.background)
