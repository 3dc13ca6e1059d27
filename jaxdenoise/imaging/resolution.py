"""Resolution by Fourier ring correlation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.imaging.pairs import centred, float_pair

ONE_SEVENTH = 1 / 7  # Nieuwenhuizen et al. (2013): the fixed threshold of `ring_resolution`
# The window falls to 0 over 1 / _TAPER of each side, as in the published code of Nieuwenhuizen et
# al.
_TAPER = 8
# Rings averaged before the curve is compared with a threshold: single rings of few pixels dip below
# it by chance.
_RINGS_AVERAGED = 3


class RingCorrelation(NamedTuple):
    """Result of `fourier_ring_correlation`: one value a ring, from coarse to fine detail.

    Attributes:
        frequency: (R,) float32, the rings' spatial frequencies in cycles per pixel, up to 0.5.
        correlation: (R,) from -1 to 1.
        half_bit: (R,) float32, the correlation at which a pixel of the mean of both images carries
            half a bit of information.
    """

    frequency: Float[Array, " R"]
    correlation: Float[Array, " R"]
    half_bit: Float[Array, " R"]


def fourier_ring_correlation(
    first: Real[ArrayLike, "H W"], second: Real[ArrayLike, "H W"]
) -> RingCorrelation:
    """Measure by Fourier ring correlation (FRC) down to which detail two images agree.

    The images' Fourier coefficients are correlated ring by ring of equal spatial frequency.
    Identical images give 1 everywhere, independent ones about 0, with a standard deviation of
    sqrt(2 / pixels of the ring). The result is symmetric in the arguments, and no change of an
    image's brightness or contrast (``a * image + b``, a > 0) changes it. Whatever the two images
    share besides the scene (a fixed pattern of the camera, or the prior of one denoiser) counts as
    agreement.

    The mean is subtracted, and a window falls to 0 as a cosine over an eighth of each side (a Tukey
    window): the image's opposite borders differ, and that step would show as a cross through all
    rings.

    Source: van Heel and Schatz, "Fourier shell correlation threshold criteria", J. Structural
        Biology 151 (2005), for the half-bit curve (with the ring's independent coefficients, half
        of its pixels, because an image's spectrum is symmetric); Nieuwenhuizen et al., "Measuring
        image resolution in optical nanoscopy", Nature Methods 10 (2013), for images, the window,
        and the threshold of 1/7.

    Args:
        first: (H, W), at least 16 x 16 pixels, any real dtype, any unit.
        second: (H, W), an image of the same scene with noise of its own, any real dtype, any unit.

    Returns:
        `RingCorrelation` of R = min(H, W) // 2 rings, each ``1 / min(H, W)`` cycles per pixel wide.
        A ring without power in one of the images has a correlation of 0.

    Raises:
        ValueError: The shapes differ, are not 2-D, or are too small.
    """
    first, second = float_pair(first, second)
    if first.ndim != 2 or min(first.shape) < 2 * _TAPER:
        raise ValueError(
            f"fourier_ring_correlation needs images (H, W) of at least {2 * _TAPER} x "
            f"{2 * _TAPER} pixels, got {first.shape}"
        )
    ring, weight, frequency, half_bit = _rings(first.shape)
    spectra = [
        jnp.fft.rfft2(centred(image) * _tukey_window(first.shape)) for image in (first, second)
    ]

    def ring_sums(products):
        return jax.ops.segment_sum(
            (weight * products).ravel(), ring.ravel(), num_segments=len(frequency) + 2
        )[1:-1]

    powers = [ring_sums(jnp.abs(spectrum) ** 2) for spectrum in spectra]
    # One square root each: the product of two powers could overflow.
    scale = jnp.sqrt(jnp.where(powers[0] > 0, powers[0], 1)) * jnp.sqrt(
        jnp.where(powers[1] > 0, powers[1], 1)
    )
    shared = ring_sums((spectra[0] * jnp.conj(spectra[1])).real)
    return RingCorrelation(jnp.asarray(frequency), shared / scale, jnp.asarray(half_bit))


def ring_resolution(
    rings: RingCorrelation,
    *,
    threshold: Scalar | Float[Array, " R"] | Float[np.ndarray, " R"] = ONE_SEVENTH,
) -> Float[Array, ""]:
    """Return the resolution: the period at which an FRC first falls below a threshold.

    The curve is averaged over three rings first and interpolated linearly between rings.

    Args:
        rings: `RingCorrelation`.
        threshold: A scalar or one value a ring, such as ``rings.half_bit``.

    Returns:
        A scalar in pixels: infinite if the images agree on nothing, ``1 / rings.frequency[-1]`` (2
        pixels, all that the sampling can hold) if the curve never falls below the threshold.
    """
    kernel = np.ones(_RINGS_AVERAGED, np.float32)
    count = np.convolve(np.ones(len(rings.frequency), np.float32), kernel, "same")
    above = jnp.convolve(rings.correlation, kernel, mode="same") / count - threshold
    below = above < 0
    k = jnp.argmax(below)
    before = jnp.maximum(k - 1, 0)
    step = rings.frequency[k] - rings.frequency[before]
    crossing = rings.frequency[before] + step * above[before] / jnp.where(
        k > 0, above[before] - above[k], 1
    )
    return jnp.where(below.any(), jnp.where(k > 0, 1 / crossing, jnp.inf), 1 / rings.frequency[-1])


def _rings(shape):
    """Ring and weight of each coefficient of an ``rfft2``; frequency and half-bit of each ring."""
    side = min(shape)
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    # Ring 0 is the mean, the last one the corners: both are left out.
    ring = np.minimum(np.rint(radius * side).astype(int), side // 2 + 1)
    weight = np.full(ring.shape, 2.0, np.float32)  # the half of the spectrum that rfft2 leaves out
    weight[:, 0] = 1
    if shape[1] % 2 == 0:
        weight[:, -1] = 1
    root = np.sqrt(np.bincount(ring.ravel(), weight.ravel())[1 : side // 2 + 1] / 2)
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return (
        ring,
        weight,
        (np.arange(1, side // 2 + 1) / side).astype(np.float32),
        half_bit.astype(np.float32),
    )


def _tukey_window(shape):
    """1 inside, falling to 0 as a cosine over an eighth of each side."""
    rows, columns = (
        np.clip((np.arange(n) + 0.5) / n, None, 1 - (np.arange(n) + 0.5) / n) for n in shape
    )
    rows, columns = (
        0.5 - 0.5 * np.cos(np.pi * np.minimum(_TAPER * place, 1)) for place in (rows, columns)
    )
    return np.outer(rows, columns).astype(np.float32)
