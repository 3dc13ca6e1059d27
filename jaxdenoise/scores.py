"""The score of a model without ground truth, and the choice of a PSF by it.

It estimates the mean squared error of what it denoises, plus the noise's variance, in units of the data's variance: if
the noise is white, without bias. It is measured on held-out pixels, the same for every model, each once, and has two parts: the squared
difference of the denoised and the noisy pixel, and twice the covariance of the denoised pixel with its own noise. The latter is how
strongly the denoised pixel follows its noisy one, found by hiding it, times the noise's variance (Stein's unbiased risk estimate).

The plain masked error of blind-spot training, which is what validation uses, will not do: it judges a pixel that the model does not see.
With a PSF, models make use of the pixel when they see it, the more the wider the PSF, and the masked error prefers PSFs that are too
narrow.

What the score cannot see is what the PSF removes: two deconvolved images that differ in nothing else score the same. If neighbours share
their noise it rewards keeping the noise.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise import blindspot, patches, training
from jaxdenoise.calibration import noise_level
from jaxdenoise.psf import convolve

_PLACES = 108  # patches that are scored at the most
_MASKS = 4  # held-out masks at the most
_CHUNK = 16  # patches scored at once


def choose(errors, widths):
    """The widest PSF whose score is within one standard error of the lowest.

    The scores are means of noisy errors. A PSF that is too narrow costs less than one that is too wide, so a score that is no worse speaks
    for the wider one, which forbids more noise.

    Args:
        errors: (K, B) paired errors, see `Model.errors`.
        widths: (K,) of the PSFs; sigma in pixels.

    Returns:
        Index of the choice.
    """
    errors = np.asarray(errors)
    differences = errors - errors[errors.mean(axis=1).argmin()]
    within = [k for k, difference in enumerate(differences) if difference.mean() <= standard_error(difference)]
    return max(within, key=lambda k: widths[k])


class Errors(NamedTuple):
    """What a model does on patches: means over all scored pixels if averaged over the patches, (B,), in units of the data's variance.

    Attributes:
        seen: squared difference of denoised and noisy pixel.
        blind: the same where the model does not see the pixel.
        follows: product of what hiding the pixel changes in the denoised and in the noisy one.
        hidden: square of what hiding the pixel changes in the noisy one.
    """

    seen: jax.Array
    blind: jax.Array
    follows: jax.Array
    hidden: jax.Array


def model_errors(params, psf, patch, scale, config):
    """`Errors` of one patch, scalars: sums over its scored pixels. Pure; `jax.vmap` it over patches, PSFs and parameters.

    Args:
        params: network parameters.
        psf: (h, w) float32, sum 1.
        patch: `patches.Covering` of one patch: (P, P), (M, P, P), (M, P, P).
        scale: `problem.Scale`.
        config: `TrainConfig`, static.
    """
    inputs = jnp.concatenate([patch.noisy[None], patch.visible])
    denoised = jax.vmap(convolve, (0, None))(training.network_output(params, inputs, scale, config), psf)
    seen, blind, replaced = denoised[0], denoised[1:], patch.noisy - patch.visible

    def total(values):
        return jnp.sum(jnp.where(patch.scored, values, 0)) / scale.std**2

    return Errors(*map(total, ((seen - patch.noisy) ** 2, (blind - patch.noisy) ** 2, (seen - blind) * replaced, replaced**2)))


def errors_of_models(params, psfs, covering, scale, config, *, together):
    """`Errors` of NumPy arrays (L,) for each of K models: at once as one vmapped program, or one after the other. Host side.

    Args:
        params: list of K parameters.
        psfs: (K, h, w) float32.
        covering: `patches.Covering` of L patches.
        scale: `problem.Scale`.
        config: `TrainConfig`.
        together: whether at once.
    """
    options = {"scale": scale, "config": config}
    if together:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        measured = _in_chunks(partial(_errors_together, stacked, psfs, **options), covering)
        return [Errors(*values) for values in zip(*measured, strict=True)]
    return [_in_chunks(partial(_errors, *model, **options), covering) for model in zip(params, psfs, strict=True)]


def summands(measured, covering, problem):
    """The scores of models patch by patch: a list of (L,) arrays whose means are the scores.

    Args:
        measured: list of `Errors` of (L,) arrays.
        covering: the `patches.Covering` of which they are.
        problem: `problem.Problem`.
    """
    per_patch = np.asarray(covering.scored).sum() / len(covering.noisy)
    variance = float(noise_level(problem.frames)[0] / problem.scale.std**2)
    # Each blind error contains the noise: an estimate above the lowest of them is wrong.
    variance = min(variance, *(errors.blind.mean() / per_patch for errors in measured))
    correction = [2 * variance * errors.follows / (errors.hidden.mean() / per_patch) for errors in measured]
    return [(errors.seen + added) / per_patch for errors, added in zip(measured, correction, strict=True)]


def covering(key, problem, config, masks):
    """The patches that score every model: `patches.Covering` of the frames that validate.

    Args:
        key: the training's random key.
        problem: `problem.Problem`, made with as many ``masks``.
        config: `TrainConfig`.
        masks: how many masks of held-out pixels.
    """
    box, held_out = blindspot.box_size(config.density), problem.held_out
    if held_out is None:
        held_out = patches.held_out_masks(jax.random.fold_in(key, 2**32 - 1), problem.validation.shape, box=box, masks=masks)
    options = {"patch_size": config.patch_size, "masks": masks, "radius": config.radius, "limit": _PLACES}
    return patches.covering_patches(jax.random.fold_in(key, 2**32 - 2), problem.validation, held_out, **options)


def mask_count(shape, config):
    """How many masks of pixels to hold out of a stack of this shape: small data need more pixels for the same standard error."""
    places = math.prod(shape[:-2]) * math.prod(-(-side // config.patch_size) for side in shape[-2:])
    return min(_MASKS, max(1, _PLACES // max(1, places)))


def standard_error(errors):
    """Of the mean of (B,) values; 0 of a single one."""
    return float(np.std(errors, ddof=1) / len(errors) ** 0.5) if len(errors) > 1 else 0.0


@partial(jax.jit, static_argnames="config")
def _errors(params, psf, covering, *, scale, config):
    return jax.vmap(lambda patch: model_errors(params, psf, patch, scale, config))(covering)


@partial(jax.jit, static_argnames="config")
def _errors_together(params, psfs, covering, *, scale, config):
    return jax.vmap(lambda params, psf: _errors(params, psf, covering, scale=scale, config=config))(params, psfs)


def _in_chunks(errors, covering):
    """`Errors` of NumPy arrays, from `_CHUNK` patches at a time, the last chunk filled up, so that one shape is compiled."""
    count = len(covering.noisy)
    filled = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, -count % _CHUNK)] + [(0, 0)] * (leaf.ndim - 1)), covering)
    parts = [errors(jax.tree.map(lambda leaf: leaf[i : i + _CHUNK], filled)) for i in range(0, count, _CHUNK)]  # noqa: B023
    return Errors(*(np.concatenate(values, axis=-1)[..., :count].astype(np.float64) for values in zip(*parts, strict=True)))
