"""Point spread functions (PSFs): kernels of sum 1, and the convolution that applies them. Pure JAX.

A Gaussian's width is given as its standard deviation sigma in pixels everywhere; its full width at
half maximum is 2.355 sigma.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.signal import fftconvolve

from jaxdenoise.imaging.windows import gaussian_radius, gaussian_weights


def gaussian_psf(sigma, *, size=None):
    """Gaussian PSF, sampled at the pixel centres.

    Args:
        sigma: standard deviation in pixels, a scalar or a pair (y, x); 0 means no blur. May be
            traced if ``size`` is given.
        size: odd side length in pixels, an int or a pair (y, x). Default: 2 * round(4 sigma) + 1,
            so that the kernel is what ``scipy.ndimage.gaussian_filter`` makes of a single bright
            pixel.

    Returns:
        (size, size) float32, non-negative, sum 1.

    Raises:
        ValueError: negative or non-finite sigma, even or non-positive size.
    """
    sigmas = _pair("sigma", sigma)
    sizes = [2 * _radius(s) + 1 for s in sigmas] if size is None else _pair("size", size)
    rows, columns = (_gaussian_kernel(s, n) for s, n in zip(sigmas, sizes, strict=True))
    return rows[:, None] * columns[None, :]


def _pair(name, value):
    if not isinstance(value, list | tuple) and jnp.ndim(value) == 0:
        return [value, value]
    if len(value) != 2:
        raise ValueError(
            f"gaussian_psf: {name} must be a number or a pair (y, x), not {len(value)} numbers"
        )
    return list(value)


def _radius(sigma):
    _check_sigma(sigma)
    return gaussian_radius(sigma)


def _check_sigma(sigma):
    if not isinstance(sigma, jax.core.Tracer) and not 0 <= sigma < np.inf:
        raise ValueError(
            f"gaussian_psf: sigma must be a finite number of pixels >= 0, not {sigma:g}"
        )


def _gaussian_kernel(sigma, size):
    if size != int(size) or size < 1 or size % 2 == 0:
        raise ValueError(
            f"gaussian_psf: size must be an odd number of pixels, so that the PSF has a centre, not {size}"
        )
    _check_sigma(sigma)
    return gaussian_weights(sigma, int(size) // 2)


def normalized_psf(psf):
    """A measured PSF, checked and scaled to sum 1. Host side.

    Args:
        psf: (h, w) array with odd sides, centred, background already subtracted; any real dtype.

    Returns:
        (h, w) float32 with sum 1.

    Raises:
        ValueError: not 2-D, even sides, non-finite values, or a sum that is not positive.
    """
    psf = np.asarray(psf)
    if psf.ndim != 2:
        raise ValueError(f"PSF: expected one 2-D image, got shape {psf.shape}; give a single plane")
    if psf.shape[0] % 2 == 0 or psf.shape[1] % 2 == 0:
        raise ValueError(
            f"PSF: sides must be odd so that there is a centre pixel, got {psf.shape[0]}x{psf.shape[1]}; crop or pad it by a pixel"
        )
    psf = psf.astype(np.float64)
    if not np.isfinite(psf).all():
        raise ValueError("PSF: it holds NaN or infinite values")
    if psf.sum() <= 0:
        raise ValueError("PSF: its sum must be positive; was too much background subtracted?")
    return (psf / psf.sum()).astype(np.float32)


def trimmed(psf):
    """A PSF (h, w) without the rows and columns at its rim that float32 does not feel: on each axis they weigh under 1e-8. Host side.

    The published 81x81 pixels of a Gaussian of sigma 1 become 13x13.
    """
    psf = np.asarray(psf)
    for axis in (0, 1):
        weights = np.abs(psf).sum(axis=1 - axis, dtype=np.float64)
        rims = np.cumsum(weights + weights[::-1])[: len(weights) // 2]
        rim = np.count_nonzero(rims <= 1e-8 * weights.sum())
        psf = psf.take(range(rim, psf.shape[axis] - rim), axis)
    return psf


def psf_sigma(psf):
    """Width of a PSF (h, w), of sum 1: the sigma in pixels of the Gaussian with the same variance, the mean over y and x. Host side."""
    psf = np.asarray(psf, np.float64)
    variances = []
    for axis in (0, 1):
        weights, place = psf.sum(axis=1 - axis), np.arange(psf.shape[axis])
        variances.append(weights @ (place - weights @ place) ** 2)
    return float(np.sqrt(max(np.mean(variances), 0)))


def convolve(image, psf):
    """Blur an image with a PSF, the border reflected without repeating the edge pixel.

    This is NumPy's and PyTorch's "reflect", scipy's "mirror" and OpenCV's BORDER_REFLECT_101, the
    border of the published DecoNoising.

    Args:
        image: (H, W) float array.
        psf: (h, w) float array with odd sides, not larger than the image.

    Returns:
        (H, W), the dtype of the image. The convolution runs through FFTs, so a result that should
        be 0 may be about 1e-7 times the image's maximum away from it, on either side.

    Raises:
        ValueError: not 2-D, even sides, or a PSF larger than the image.
    """
    image, psf = jnp.asarray(image), jnp.asarray(psf)
    check_psf_fits(psf.shape, image.shape)
    if psf.shape == (1, 1):
        return (image * psf[0, 0]).astype(image.dtype)
    radius = psf.shape[0] // 2, psf.shape[1] // 2
    padded = jnp.pad(image, [(radius[0],) * 2, (radius[1],) * 2], mode="reflect")
    return fftconvolve(padded, psf, mode="valid").astype(image.dtype)


def check_psf_fits(psf_shape, image_shape):
    """Raise a ValueError unless both are 2-D, the PSF's sides are odd and none is longer than the image's."""
    if len(psf_shape) != 2 or len(image_shape) != 2:
        raise ValueError(
            f"convolve: expected image (H, W) and psf (h, w), got shapes {image_shape} and {psf_shape}; vmap over the rest"
        )
    if psf_shape[0] % 2 == 0 or psf_shape[1] % 2 == 0:
        raise ValueError(
            f"PSF: sides must be odd so that there is a centre pixel, got {psf_shape[0]}x{psf_shape[1]}"
        )
    if psf_shape[0] > image_shape[0] or psf_shape[1] > image_shape[1]:
        raise ValueError(
            f"PSF of {psf_shape[0]}x{psf_shape[1]} pixels is larger than the image of {image_shape[0]}x{image_shape[1]}; crop the PSF"
        )
