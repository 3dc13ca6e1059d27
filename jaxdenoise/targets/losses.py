"""The training loss and its parts. Pure JAX; each part returns values a pixel or a scalar an image, `total_loss` alone adds them up.

Source: Goncharova, Honigmann, Jug and Krull, "Improving Blind Spot Denoising for Microscopy", 2020,
    and its published code.
"""

from typing import NamedTuple

import jax.numpy as jnp


class LossTerms(NamedTuple):
    """Scalars of one image; `total` is what training minimises."""

    total: object
    data: object
    positivity: object
    variation: object


def squared_error(prediction, target):
    """(prediction - target)^2 a pixel, in the square of their unit. Shapes must be equal, so that nothing broadcasts by accident."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {prediction.shape} and {target.shape}"
        )
    return jnp.square(prediction - target)


def masked_mean(values, mask):
    """Mean of the values where the mask is True; 0 where it is nowhere True. Equal shapes; scalar."""
    if values.shape != mask.shape:
        raise ValueError(
            f"values and mask must have one shape, got {values.shape} and {mask.shape}"
        )
    # Not a product with the mask: 0 times infinity would let an unmasked pixel in.
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask, dtype=values.dtype), 1)


def negativity(image):
    """max(0, -image) a pixel: how far it is below zero. Light cannot be negative."""
    return jnp.maximum(-image, 0)


def total_variation(image):
    """Anisotropic total variation of an image (H, W): the mean absolute difference of neighbours, summed over both axes; scalar."""
    differences = jnp.diff(image, axis=0), jnp.diff(image, axis=1)
    return sum(
        jnp.sum(jnp.abs(d)) / max(d.size, 1) for d in differences
    )  # a single row or column has none


def total_loss(noisy, mask, deconvolved, denoised, *, std, positivity=1.0, variation=0.0):
    """The DecoNoising loss of one image, without unit.

    sum(mask (x - s)^2) / sum(mask) / std^2 + positivity * mean(max(0, -z)) / std + variation *
    TV(z) / std

    Args:
        noisy: x (H, W), the noisy image above the background, in grey levels.
        mask: (H, W) bool, the blind spots that are scored.
        deconvolved: z (H, W), the network's output above the background, in grey levels.
        denoised: s = z * PSF (H, W), in grey levels.
        std: standard deviation of the whole data set in grey levels, scalar.
        positivity: weight of the positivity penalty; 1 in the paper's "ours+", 0 in its "ours-".
        variation: weight of the total variation of z; 0 as published.

    Returns:
        `LossTerms` of scalars: the weighted sum, and its unweighted parts.
    """
    data = masked_mean(squared_error(denoised, noisy), mask) / std**2
    negative = jnp.mean(negativity(deconvolved)) / std
    rough = total_variation(deconvolved) / std
    return LossTerms(data + positivity * negative + variation * rough, data, negative, rough)
