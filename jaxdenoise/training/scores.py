"""The score of a model without ground truth.

It estimates the mean squared error of the denoised image, plus the noise's variance, in units of
the data's variance; if the noise is white, without bias. It is measured on held-out pixels, the
same for every model, each once, and has two parts: the squared difference of the denoised and the
noisy pixel, and twice the covariance of the denoised pixel with its own noise. To measure the
latter, a little more noise of the same kind is added, and the part of it that comes back is
estimated (Stein's unbiased risk estimate, by Monte Carlo). Noise of the same kind follows the
image's brightness, as shot noise does: models treat the bright pixels, which carry most of the
noise, differently from others.

The masked error of blind-spot training, which validation uses, will not do: it judges a pixel that
the model does not see. With a PSF, models make use of a pixel that they see, the more the wider the
PSF is, and the masked error prefers PSFs that are too narrow.

If neighbours share their noise, this score would reward keeping it. There the score is the masked
error of blind spots that hide their neighbours (`config.TrainConfig.blind`), as far as the network
is trained to use no others.

Where frames show the same scene, the score is the squared difference from another frame, whose
noise is independent of that of the denoised one.

The score cannot see what the PSF removes: two deconvolved images that differ in nothing else score
the same.

Source: Ramani, Blu and Unser, "Monte-Carlo SURE", IEEE Transactions on Image Processing 17 (2008).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.microscope.noise_estimation import estimate_noise
from jaxdenoise.microscope.noise_level import noise_level
from jaxdenoise.network.denoiser import Params, Scale, network_output
from jaxdenoise.network.settings import Settings
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.targets.repeats import first_targets
from jaxdenoise.training import streams
from jaxdenoise.training.problem import Problem
from jaxdenoise.training.step import blurred

# Masks of held-out pixels, where no whole frames are held out: a single mask has too few pixels to
# tell PSFs apart that differ by 0.1 dB.
MASKS = 3
_PLACES = 108  # patches that are scored, at most
_CHUNK = 16  # patches that are scored at once
_BLUR = 1.5  # pixels: sigma of the Gaussian filter that estimates the brightness
_SMALLEST = 16  # pixels a side: in less there is too little to see how noise follows brightness
_SHARE = 0.5  # of the noise's strength that is added: near a derivative, yet far above rounding


class Errors(NamedTuple):
    """The errors of a model on patches: sums over scored pixels, in units of the data's variance.

    Attributes:
        seen: (L,) squared difference of denoised and noisy pixel.
        follows: (L,) estimate of the covariance of the denoised pixel with its noise.
    """

    seen: Float[Array | np.ndarray, "*L"]
    follows: Float[Array | np.ndarray, "*L"]


def noise_std(
    frames: Float[Array, "N H W"], sample: Float[Array, "M H W"]
) -> Float[Array, "N H W"]:
    """Estimate the standard deviation of the noise at each pixel, in grey levels.

    The mean of its square is the variance of `noise_level`.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        sample: (M, H, W), frames of the same kind, from which the noise is estimated.

    Returns:
        (N, H, W) float32.
    """
    variance, _ = noise_level(sample)
    if min(sample.shape[1:]) < _SMALLEST:
        return jnp.full(frames.shape, jnp.sqrt(jnp.maximum(variance, 0)))
    found = estimate_noise(sample)
    expected = jnp.maximum(
        found.gain * gaussian_filter(frames, (_BLUR, _BLUR)) + found.read_std**2, 0
    )
    return jnp.sqrt(expected * jnp.maximum(variance, 0) / jnp.maximum(expected.mean(), 1e-30))


def covering(key: PRNGKeyArray, problem: Problem, config: Settings) -> patches.Covering:
    """Return the patches that score every model, of the frames that validate.

    Args:
        key: the training's random key.
        problem: `problem.Problem`.
        config: `Settings`.
    """
    frames, key = problem.validation, streams.stream_key(key, streams.COVERING)
    cut = partial(
        patches.covering_patches, beside=problem.beside, patch_size=config.patch_size, limit=_PLACES
    )
    if problem.validation_repeats is not None:
        targets, same = first_targets(frames, problem.validation_repeats)
        if problem.held_out is not None:
            same &= patches.is_held_out(problem.held_out[problem.validation_repeats.frame[:, 0]])
        repeated = cut(targets, frames, jnp.zeros_like(frames), same)
        # Of many frames, it may be that none of those with a repeat is among the patches.
        if repeated.scored.any():
            return repeated
    if any(config.blind):
        spots, visible = _hidden_neighbours(key, frames, problem.held_out, config)
        return cut(frames, visible, jnp.zeros_like(frames), spots)
    noise = noise_std(frames, problem.frames) * jax.random.normal(key, frames.shape)
    held_out = (
        jnp.ones(frames.shape, bool)
        if problem.held_out is None
        else patches.is_held_out(problem.held_out)
    )
    return cut(frames, frames, noise, held_out)


def _hidden_neighbours(
    key: PRNGKeyArray,
    frames: Float[Array, "N H W"],
    held_out: UInt8[Array, "N H W"] | None,
    config: Settings,
) -> tuple[Bool[Array, "N H W"], Float[Array, "N H W"]]:
    """Return blind spots of each frame, and the frames with these and their neighbours replaced."""
    box = blindspot.spacing(config.density, config.blind)

    def one(key, frame, held_out):
        drawn = (
            blindspot.stratified_mask(key, frame.shape, box=box, regular=True)
            if held_out is None
            else held_out == 1
        )
        return drawn, blindspot.replace_from_neighbourhood(
            key,
            frame,
            drawn,
            radius=config.radius,
            blind=config.blind,
            replacement=config.replacement,
        )

    return jax.vmap(one, (0, 0, None if held_out is None else 0))(
        jax.random.split(key, len(frames)), frames, held_out
    )


def model_errors(
    params: Params,
    psf: Float[Array, "h w"],
    patch: patches.Covering,
    scale: Scale,
    config: Settings,
) -> Errors:
    """Return the `Errors` of one patch, scalars.

    Pure; `jax.vmap` it over patches, PSFs and parameters.

    Args:
        params: network parameters.
        psf: (h, w) float32, sum 1.
        patch: `patches.Covering` of one patch: (P, P) arrays.
        scale: `denoiser.Scale`.
        config: `Settings`, static.
    """
    inputs = jnp.stack([patch.visible, patch.visible + _SHARE * patch.noise])
    beside = None if patch.beside is None else jnp.stack([patch.beside] * 2)
    denoised, noisier = jax.vmap(blurred, (0, None))(
        network_output(params, inputs, scale, config, beside), psf
    )

    def total(values):
        return jnp.sum(jnp.where(patch.scored, values, 0)) / scale.std**2

    return Errors(
        total((denoised - patch.noisy) ** 2), total(patch.noise * (noisier - denoised)) / _SHARE
    )


def errors_of_models(
    params: Sequence[Params],
    psfs: Float[Array, "K h w"],
    cover: patches.Covering,
    *,
    scale: Scale,
    config: Settings,
    together: bool,
) -> list[Errors]:
    """Return `Errors` of NumPy arrays (L,) for each of K models. Host side.

    Args:
        params: list of K parameters.
        psfs: (K, h, w) float32.
        cover: `patches.Covering` of L patches.
        scale: `denoiser.Scale`.
        config: `Settings`.
        together: whether all models are one vmapped program; else they run one after the other.
    """
    options = {"scale": scale, "config": config}
    if together:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        measured = _in_chunks(partial(_errors_together, stacked, psfs, **options), cover)
        return [Errors(*values) for values in zip(*measured, strict=True)]
    return [
        _in_chunks(partial(_errors, *model, **options), cover)
        for model in zip(params, psfs, strict=True)
    ]


def summands(
    measured: Sequence[Errors], cover: patches.Covering, ceiling: float | Float[Array, ""]
) -> list[Float[np.ndarray, " L"]]:
    """Return the scores of models patch by patch: (L,) arrays whose means are the scores.

    Args:
        measured: `Errors` of (L,) arrays of each model.
        cover: the `patches.Covering` on which they were measured.
        ceiling: a mean squared blind error of any model, in grey levels squared. It contains the
            noise's variance: an estimate above it is wrong.
    """
    scored = np.asarray(cover.scored)
    variance = np.mean(np.asarray(cover.noise)[scored] ** 2)
    correction = 2 * min(1.0, ceiling / max(variance, 1e-30))
    return [
        (errors.seen + correction * errors.follows) / (scored.sum() / len(scored))
        for errors in measured
    ]


@partial(jax.jit, static_argnames="config")
def _errors(params, psf, cover, *, scale, config):
    return jax.vmap(lambda patch: model_errors(params, psf, patch, scale, config))(cover)


@partial(jax.jit, static_argnames="config")
def _errors_together(params, psfs, cover, *, scale, config):
    return jax.vmap(lambda params, psf: _errors(params, psf, cover, scale=scale, config=config))(
        params, psfs
    )


def _in_chunks(errors: Callable[[patches.Covering], Errors], cover: patches.Covering) -> Errors:
    """Return `Errors` of NumPy arrays, measured on `_CHUNK` patches at a time.

    The last chunk is filled up, so that one shape is compiled.
    """
    count = len(cover.noisy)
    filled = jax.tree.map(
        lambda leaf: jnp.pad(leaf, [(0, -count % _CHUNK)] + [(0, 0)] * (leaf.ndim - 1)), cover
    )
    parts = [
        errors(jax.tree.map(lambda leaf: leaf[i : i + _CHUNK], filled))  # noqa: B023
        for i in range(0, count, _CHUNK)
    ]
    return Errors(
        *(
            np.concatenate(values, axis=-1)[..., :count].astype(np.float64)
            for values in zip(*parts, strict=True)
        )
    )
