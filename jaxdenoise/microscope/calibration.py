"""A filter's parameter from the noisy image alone, by blind spots. On the device.

Source: Batson and Royer, "Noise2Self: blind denoising by self-supervision", ICML 2019. If the noise
    is independent between pixels, the squared error of a prediction that does not see its pixel is,
    against the noisy pixel, that against the clean one plus the noise's variance.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real, Shaped

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.imaging.windows import correlate, extend, gaussian_radius
from jaxdenoise.microscope.noise_level import checked_images, noise_level

__all__ = ["SIGMAS", "Calibration", "calibrate", "calibrate_gaussian"]

# Candidates for the Gaussian filter in pixels, in steps of 6 %.
SIGMAS = np.geomspace(0.3, 8.0, 57).astype(np.float32)
_STRIDE = 4  # pixels between blind spots


class Calibration(NamedTuple):
    """Result of `calibrate`; risk and loss have one value a candidate.

    Attributes:
        best: The candidate of the lowest risk.
        candidates: As given.
        risk: Estimated mean squared error of the filtered image against the clean one, in grey
            levels squared.
        blind_spot_loss: Mean squared error of the filter's blind predictions against the noisy
            pixels, in grey levels squared.
        noise_variance: Of the image, in grey levels squared.
        correlation: Lag-1 autocorrelation of the noise, the larger of y and x. Above `CORRELATED`
            the choice is not to be trusted: neighbours predict the pixel's noise, and the chosen
            filters are too narrow.
    """

    best: Any
    candidates: Any
    risk: Float[Array, " K"]
    blind_spot_loss: Float[Array, " K"]
    noise_variance: Float[Array, ""]
    correlation: Float[Array, ""]


def calibrate(
    apply_filter: Callable[..., Real[Array, "..."]],
    image: Real[ArrayLike, "*batch H W"],
    candidates: Shaped[Array, "K ..."] | Shaped[np.ndarray, "K ..."] | list | tuple,
    *,
    noise_variance: Scalar | None = None,
) -> Calibration:
    """Choose the parameter of a filter that brings a noisy image closest to the unknown clean one.

    Every pixel is once a blind spot: it (and every fourth pixel along both axes) is replaced by the
    mean of its neighbours, the filter runs, and its result there is compared with the noisy pixel.
    That is the blind-spot (J-invariant) loss of Batson and Royer. It judges a filter that never
    sees the pixel. The filter that will run does see it, and its best parameter is another one: a
    blind window of one pixel gives the mean of the neighbours, but a window of one pixel changes
    nothing. So the choice is by the risk of the filter that will run, ``mean((filtered - noisy)^2)
    + (2 w - 1) * noise_variance``, with w the weight of a pixel in its own result (Mallows' Cp).
    That weight is measured as the slope of (filtered - blindly filtered) against (pixel - its
    replacement).

    Noise that is correlated between neighbours breaks the assumption; see
    `Calibration.correlation`.

    Args:
        apply_filter: Called as ``apply_filter(image, candidate)``; returns the image's shape.
        image: (..., H, W), any real dtype, in grey levels; H and W at least 5 pixels. A filter that
            works on frames must leave the leading axes alone.
        candidates: (K,) array, over which `apply_filter` is mapped (``vmap``). Or a list or tuple
            of values that cannot be traced, such as window sizes, which are tried one by one.
        noise_variance: Variance of the noise in grey levels squared if it is known. By default
            that of `noise_level`, but never above the lowest blind-spot loss, which contains it.

    Raises:
        ValueError: The image is too small or there are no candidates.
    """
    image = checked_images("calibrate", image)
    if len(candidates) == 0:
        raise ValueError("calibrate: there are no candidates; give at least one")
    listed = isinstance(candidates, list | tuple)
    if listed:
        measured = [_measure(apply_filter, image, candidate) for candidate in candidates]
        error, loss, weight = (jnp.stack(values) for values in zip(*measured, strict=True))
    else:
        measure = jax.vmap(lambda candidate: _measure(apply_filter, image, candidate))
        error, loss, weight = measure(candidates)
    variance, correlation = noise_level(image)
    variance = (
        jnp.minimum(variance, loss.min()) if noise_variance is None else jnp.asarray(noise_variance)
    )
    risk = error + (2 * weight - 1) * variance
    best = jnp.argmin(risk)
    return Calibration(
        candidates[int(best)] if listed else candidates[best],
        candidates,
        risk,
        loss,
        variance,
        correlation,
    )


def calibrate_gaussian(
    image: Real[ArrayLike, "*batch H W"], *, axes: int = 2, mode: str = "reflect"
) -> Calibration:
    """Choose the sigma of the Gaussian filter from `SIGMAS`, as `calibrate` does.

    Args:
        image: (..., H, W), any real dtype, in grey levels.
        axes: How many of the last axes are filtered with the sigma: 2 for frames, 3 for volumes.
        mode: Border, as in `filters`.

    Returns:
        A `Calibration` whose `best` is sigma in pixels.

    Raises:
        ValueError: The image is too small.
    """
    radius = gaussian_radius(SIGMAS[-1])

    def blur(image, sigma):
        return gaussian_filter(image, (sigma,) * axes, radius=(radius,) * axes, mode=mode)

    return calibrate(blur, image, jnp.asarray(SIGMAS))


def _measure(apply_filter, image, candidate):
    """Error against the noisy image, blind-spot loss, and weight of a pixel in its own result."""
    filtered, fill = apply_filter(image, candidate), _neighbour_mean(image)
    y, x = (np.arange(size) % _STRIDE for size in image.shape[-2:])

    def look_blindly(seen, phase):
        blind = (y[:, None] == phase[0]) & (x == phase[1])
        filtered_blindly = apply_filter(jnp.where(blind, fill, image), candidate)
        return jnp.where(blind, filtered_blindly, seen), None

    phases = jnp.stack(jnp.meshgrid(jnp.arange(_STRIDE), jnp.arange(_STRIDE)), -1).reshape(-1, 2)
    blindly, _ = jax.lax.scan(look_blindly, image, phases)
    surprise = image - fill
    power = jnp.mean(surprise**2)
    weight = jnp.mean((filtered - blindly) * surprise) / jnp.where(power > 0, power, 1)
    return jnp.mean((filtered - image) ** 2), jnp.mean((blindly - image) ** 2), weight


def _neighbour_mean(image):
    """Mean of the eight neighbours, the four direct ones with twice the weight."""
    axes = (image.ndim - 2, image.ndim - 1)
    total = extend(image, [0] * (image.ndim - 2) + [1, 1], "reflect", 0.0)
    for axis in axes:
        total = correlate(total, (1, 2, 1), axis)
    return (total - 4 * image) / 12
