"""The score of a model without ground truth, and the choice of a PSF by it.

It estimates the mean squared error of what it denoises, plus the noise's variance, in units of the
data's variance: if the noise is white, without bias. It is measured on held-out pixels, the same
for every model, each once, and has two parts: the squared difference of the denoised and the noisy
pixel, and twice the covariance of the denoised pixel with its own noise. The latter is measured by
adding a little more noise of the same kind and looking how much of it comes back (Stein's unbiased
risk estimate, by Monte Carlo). The noise of the same kind follows the image's brightness, as shot
noise does: the bright pixels, which carry most of the noise, are also those that models treat
    differently.

The plain masked error of blind-spot training, which is what validation uses, will not do: it judges
a pixel that the model does not see. With a PSF, models make use of the pixel when they see it, the
more the wider the PSF, and the masked error prefers PSFs that are too narrow.

If neighbours share their noise that would reward keeping it: there the score is the masked error,
of blind spots that hide their neighbours (`config.TrainConfig.blind`), as far as the network is
trained to use no others.

Where frames show the same scene, it is the squared difference to another frame, whose noise is
independent of the denoised one's.

What the score cannot see is what the PSF removes: two deconvolved images that differ in nothing
    else score the same.

Source: Ramani, Blu and Unser, "Monte-Carlo SURE", IEEE Transactions on Image Processing 17 (2008).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.microscope.noise_estimation import estimate_noise, noise_level
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.targets.repeats import first_targets

_BLUR = 1.5  # pixels: sigma of the Gaussian filter that tells the brightness


def noise_std(frames, sample):
    """Standard deviation of the noise at each pixel, in grey levels: its mean variance is `noise_level`'s.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        sample: (M, H, W), frames of the same kind, from which the noise is estimated.

    Returns:
        (N, H, W) float32.
    """
    variance, _ = noise_level(sample)
    if min(sample.shape[1:]) < 16:  # too small to tell how it depends on the brightness
        return jnp.full(frames.shape, jnp.sqrt(jnp.maximum(variance, 0)))
    found = estimate_noise(sample)
    expected = jnp.maximum(
        found.gain * gaussian_filter(frames, (_BLUR, _BLUR)) + found.read_std**2, 0
    )
    return jnp.sqrt(expected * jnp.maximum(variance, 0) / jnp.maximum(expected.mean(), 1e-30))


_PLACES = 108  # patches that are scored at the most
# of held-out pixels, where no whole frames are held out: one has too few to tell PSFs apart that
# differ by 0.1 dB
MASKS = 3
_SHARE = 0.5  # of the noise's strength that is added: near a derivative, yet far above rounding
_CHUNK = 16  # patches scored at once


def choose(errors, widths):
    """The widest PSF whose score is within one standard error of the lowest.

    The scores are means of noisy errors. A PSF that is too narrow costs less than one that is too
    wide, so a score that is no worse speaks for the wider one, which forbids more noise.

    Args:
        errors: (K, B) paired errors, see `Model.errors`.
        widths: (K,) of the PSFs; sigma in pixels.

    Returns:
        Index of the choice.
    """
    errors = np.asarray(errors)
    differences = errors - errors[errors.mean(axis=1).argmin()]
    within = [
        k
        for k, difference in enumerate(differences)
        if difference.mean() <= standard_error(difference)
    ]
    return max(within, key=lambda k: widths[k])


class Errors(NamedTuple):
    """What a model does on patches: sums over their scored pixels, (L,), in units of the data's variance.

    Attributes:
        seen: squared difference of denoised and noisy pixel.
        follows: estimate of the covariance of the denoised pixel with its noise.
    """

    seen: jax.Array
    follows: jax.Array


def model_errors(params, psf, patch, scale, config):
    """`Errors` of one patch, scalars. Pure; `jax.vmap` it over patches, PSFs and parameters.

    Args:
        params: network parameters.
        psf: (h, w) float32, sum 1.
        patch: `patches.Covering` of one patch: (P, P) arrays.
        scale: `denoiser.Scale`.
        config: `TrainConfig`, static.
    """
    inputs = jnp.stack([patch.visible, patch.visible + _SHARE * patch.noise])
    beside = None if patch.beside is None else jnp.stack([patch.beside] * 2)
    denoised, noisier = jax.vmap(convolve, (0, None))(
        network_output(params, inputs, scale, config, beside), psf
    )

    def total(values):
        return jnp.sum(jnp.where(patch.scored, values, 0)) / scale.std**2

    return Errors(
        total((denoised - patch.noisy) ** 2), total(patch.noise * (noisier - denoised)) / _SHARE
    )


def errors_of_models(params, psfs, covering, scale, config, *, together):
    """`Errors` of NumPy arrays (L,) for each of K models: at once as one vmapped program, or one after the other. Host side.

    Args:
        params: list of K parameters.
        psfs: (K, h, w) float32.
        covering: `patches.Covering` of L patches.
        scale: `denoiser.Scale`.
        config: `TrainConfig`.
        together: whether at once.
    """
    options = {"scale": scale, "config": config}
    if together:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        measured = _in_chunks(partial(_errors_together, stacked, psfs, **options), covering)
        return [Errors(*values) for values in zip(*measured, strict=True)]
    return [
        _in_chunks(partial(_errors, *model, **options), covering)
        for model in zip(params, psfs, strict=True)
    ]


def summands(measured, covering, ceiling):
    """The scores of models patch by patch: a list of (L,) arrays whose means are the scores.

    Args:
        measured: list of `Errors` of (L,) arrays.
        covering: the `patches.Covering` of which they are.
        ceiling: a mean squared blind error of any model, in grey levels squared. It contains the
            noise's variance: an estimate above it is wrong.
    """
    scored = np.asarray(covering.scored)
    variance = np.mean(np.asarray(covering.noise)[scored] ** 2)
    correction = 2 * min(1.0, ceiling / max(variance, 1e-30))
    return [
        (errors.seen + correction * errors.follows) / (scored.sum() / len(scored))
        for errors in measured
    ]


def covering(key, problem, config):
    """The patches that score every model: `patches.Covering` of the frames that validate.

    Args:
        key: the training's random key.
        problem: `problem.Problem`.
        config: `TrainConfig`.
    """
    frames, key = problem.validation, jax.random.fold_in(key, 2**32 - 2)
    cut = partial(
        patches.covering_patches, beside=problem.beside, patch_size=config.patch_size, limit=_PLACES
    )
    if problem.validation_repeats is not None:
        targets, same = first_targets(frames, problem.validation_repeats)
        if problem.held_out is not None:
            same &= problem.held_out[problem.validation_repeats.frame[:, 0]] > 0
        covering = cut(targets, frames, jnp.zeros_like(frames), same)
        if (
            covering.scored.any()
        ):  # else, of many frames, none that another repeats is among the patches
            return covering
    if any(config.hidden):
        spots, visible = _hidden_neighbours(key, frames, problem.held_out, config)
        return cut(frames, visible, jnp.zeros_like(frames), spots)
    noise = noise_std(frames, problem.frames) * jax.random.normal(key, frames.shape)
    held_out = jnp.ones(frames.shape, bool) if problem.held_out is None else problem.held_out > 0
    return cut(frames, frames, noise, held_out)


def _hidden_neighbours(key, frames, held_out, config):
    """The blind spots of each frame, (N, H, W) bool, and the frames with these and their neighbours replaced."""
    box = blindspot.spacing(config.density, config.hidden)

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
            blind=config.hidden,
            replacement=config.replacement,
        )

    return jax.vmap(one, (0, 0, None if held_out is None else 0))(
        jax.random.split(key, len(frames)), frames, held_out
    )


def standard_error(errors):
    """Of the mean of (B,) values; 0 of a single one."""
    return float(np.std(errors, ddof=1) / len(errors) ** 0.5) if len(errors) > 1 else 0.0


@partial(jax.jit, static_argnames="config")
def _errors(params, psf, covering, *, scale, config):
    return jax.vmap(lambda patch: model_errors(params, psf, patch, scale, config))(covering)


@partial(jax.jit, static_argnames="config")
def _errors_together(params, psfs, covering, *, scale, config):
    return jax.vmap(lambda params, psf: _errors(params, psf, covering, scale=scale, config=config))(
        params, psfs
    )


def _in_chunks(errors, covering):
    """`Errors` of NumPy arrays, from `_CHUNK` patches at a time, the last chunk filled up, so that one shape is compiled."""
    count = len(covering.noisy)
    filled = jax.tree.map(
        lambda leaf: jnp.pad(leaf, [(0, -count % _CHUNK)] + [(0, 0)] * (leaf.ndim - 1)), covering
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
