"""The training loss and its parts. Pure JAX: everything works under jit, vmap and grad.

The parts return a value a pixel or a scalar an image; `total_loss` alone adds them up.

Source: Goncharova, Honigmann, Jug and Krull, "Improving Blind Spot Denoising for Microscopy", 2020,
    and its published code.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float


class LossTerms(NamedTuple):
    """The loss of one image, without unit: scalars. Functions over batches add a leading axis.

    Attributes:
        total: the weighted sum, which training minimises.
        data: mean squared error at the scored pixels over the variance of the data set.
        positivity: mean negativity beyond the margin over the standard deviation of the data set.
        variation: total variation over the standard deviation of the data set.
    """

    total: Float[Array, "*batch"]
    data: Float[Array, "*batch"]
    positivity: Float[Array, "*batch"]
    variation: Float[Array, "*batch"]


def squared_error(
    prediction: Float[Array | np.ndarray, "*shape"], target: Float[Array | np.ndarray, "*shape"]
) -> Float[Array, "*shape"]:
    """Return (prediction - target)^2 a pixel, in the square of their unit.

    Raises:
        ValueError: the shapes differ; nothing is broadcast.
    """
    _check_shapes("prediction", prediction, "target", target)
    return jnp.square(prediction - target)


def masked_mean(
    values: Float[Array | np.ndarray, "*shape"], mask: Bool[Array | np.ndarray, "*shape"]
) -> Float[Array, ""]:
    """Return the mean of the values where the mask is True, a scalar; 0 where it is nowhere True.

    Raises:
        ValueError: the shapes differ; nothing is broadcast.
    """
    _check_shapes("values", values, "mask", mask)
    # Not a product with the mask: 0 times infinity would let an unmasked pixel in.
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask, dtype=values.dtype), 1)


def negativity(image: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Return max(0, -image) a pixel: how far it is below zero. Light cannot be negative."""
    return jnp.maximum(-image, 0)


def total_variation(image: Float[Array | np.ndarray, "*planes H W"]) -> Float[Array, ""]:
    """Return the anisotropic total variation of an image (H, W), a scalar in its unit.

    It is the mean absolute difference of neighbours, summed over both axes. An axis of length 1
    adds 0. Planes (Z, H, W) count by themselves, and their mean is returned.
    """
    steps = jnp.diff(image, axis=-2), jnp.diff(image, axis=-1)
    down, right = (
        jnp.sum(jnp.abs(differences)) / max(differences.size, 1) for differences in steps
    )
    return down + right


def total_loss(
    noisy: Float[Array | np.ndarray, "*planes H W"],
    mask: Bool[Array | np.ndarray, "*planes H W"],
    deconvolved: Float[Array | np.ndarray, "*planes H W"],
    denoised: Float[Array | np.ndarray, "*planes H W"],
    *,
    std: Float[ArrayLike, ""],
    positivity: Float[ArrayLike, ""] = 1.0,
    margin: Float[ArrayLike, ""] = 0.0,
    variation: Float[ArrayLike, ""] = 0.0,
) -> LossTerms:
    """Return the DecoNoising loss of one image, or of planes together, without unit.

    sum(mask (x - s)^2) / sum(mask) / std^2 + positivity * mean(max(0, -z - margin)) / std +
    variation * TV(z) / std

    Args:
        noisy: x (H, W), the noisy image above the background, in grey levels.
        mask: (H, W) bool, True at the blind spots, which are scored.
        deconvolved: z (H, W), the network's output above the background, in grey levels.
        denoised: s = z * PSF (H, W), in grey levels.
        std: standard deviation of the whole data set in grey levels, scalar.
        positivity: weight of the positivity penalty; 1 in the paper's "ours+", 0 in its "ours-".
        margin: how far below zero z may be without a penalty, in grey levels; 0 as published.
            Next to nothing, an estimate errs to both sides: without a margin it is too bright.
        variation: weight of the total variation of z; 0 as published.

    Returns:
        `LossTerms` of scalars: the weighted sum, and its unweighted parts.

    Raises:
        ValueError: the shapes differ.
    """
    data = masked_mean(squared_error(denoised, noisy), mask) / std**2
    negative = jnp.mean(negativity(deconvolved + margin)) / std
    rough = total_variation(deconvolved) / std
    return LossTerms(data + positivity * negative + variation * rough, data, negative, rough)


def _check_shapes(name, values, other_name, other):
    if values.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, got {values.shape} and {other.shape}"
        )
