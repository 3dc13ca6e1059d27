"""Point spread functions (PSFs): kernels of sum 1, their sizes, and their convolution.

A Gaussian's width is given as its standard deviation sigma in pixels everywhere; `widths` converts
to and from the full width at half maximum. PSFs have odd sides, so that the centre is a pixel.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.signal import fftconvolve
from jaxtyping import Array, ArrayLike, Float, Float32, Shaped

from jaxdenoise.imaging.arguments import PerAxis, Size
from jaxdenoise.imaging.windows import gaussian_radius, gaussian_weights


def gaussian_psf(sigma: PerAxis, *, size: Size | None = None) -> Float32[Array, "h w"]:
    """Return a Gaussian PSF, sampled at the pixel centres.

    Args:
        sigma: Standard deviation in pixels, a number or a pair (y, x); 0 means no blur. It may be
            traced if `size` is given.
        size: Odd side length in pixels, a number or a pair (y, x), static. Default:
            2 * round(4 sigma) + 1, so that the kernel is what ``scipy.ndimage.gaussian_filter``
            makes of a single bright pixel.

    Returns:
        (h, w) float32, non-negative, sum 1.

    Raises:
        ValueError: PerAxis is negative, not finite, or traced without a size, or a size is even or
            not positive.
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
            "gaussian_psf: size must be an odd number of pixels, "
            f"so that the PSF has a centre, not {size}"
        )
    _check_sigma(sigma)
    return gaussian_weights(sigma, int(size) // 2)


def normalized_psf(psf: Shaped[ArrayLike, "..."]) -> Float32[np.ndarray, "h w"]:
    """Check a measured PSF and scale it to sum 1. Host side.

    Args:
        psf: (h, w) array with odd sides, centred, the background subtracted; bool or any real
            dtype.

    Returns:
        (h, w) float32 with sum 1.

    Raises:
        ValueError: The PSF is not 2-D, has even sides or values that are not finite, or its sum is
            not positive.
    """
    psf = np.asarray(psf)
    if psf.ndim != 2:
        raise ValueError(f"PSF: expected one 2-D image, got shape {psf.shape}; give a single plane")
    _check_odd(psf.shape)
    psf = psf.astype(np.float64)
    if not np.isfinite(psf).all():
        raise ValueError("PSF: it holds NaN or infinite values")
    if psf.sum() <= 0:
        raise ValueError("PSF: its sum must be positive; was too much background subtracted?")
    return (psf / psf.sum()).astype(np.float32)


def trimmed(psf: Float[ArrayLike, "h w"]) -> Float[np.ndarray, "_ _"]:
    """Cut off the rim of a PSF that float32 does not resolve. Host side.

    Opposite rows, and columns, are cut in pairs: in all they weigh at most 1e-8 of the PSF on each
    axis. The published 81x81 pixels of a Gaussian of sigma 1 become 13x13.
    """
    psf = np.asarray(psf)
    for axis in (0, 1):
        weights = np.abs(psf).sum(axis=1 - axis, dtype=np.float64)
        rims = np.cumsum(weights + weights[::-1])[: len(weights) // 2]
        rim = np.count_nonzero(rims <= 1e-8 * weights.sum())
        psf = psf.take(range(rim, psf.shape[axis] - rim), axis)
    return psf


def padded(psf: Float[ArrayLike, "h w"], shape: tuple[int, int]) -> Float[np.ndarray, "_ _"]:
    """Add a rim of zeros around a PSF, so that its centre stays the centre. Host side.

    Args:
        psf: (h, w) array with odd sides.
        shape: Odd sides (y, x) of the result in pixels, none shorter than the PSF's.

    Raises:
        ValueError: A side is even, or shorter than the PSF's.
    """
    psf = np.asarray(psf)
    for sides in (psf.shape, shape):
        _check_odd(sides)
    if shape[0] < psf.shape[0] or shape[1] < psf.shape[1]:
        raise ValueError(
            f"PSF of {_by(psf.shape)} pixels is larger than the {_by(shape)} to pad it to"
        )
    rims = [(side - length) // 2 for side, length in zip(shape, psf.shape, strict=True)]
    return np.pad(psf, [(rim, rim) for rim in rims])


def square(psf: Float[ArrayLike, "h w"]) -> Float[np.ndarray, "side side"]:
    """Add rows or columns of zeros to a PSF with odd sides to make it square. Host side."""
    side = max(np.shape(psf))
    return padded(psf, (side, side))


def psf_sigma(psf: Float[ArrayLike, "h w"]) -> float:
    """Return the sigma in pixels of the Gaussian with a PSF's variance. Host side.

    The variance is the mean of those along y and x.

    Args:
        psf: (h, w) of sum 1.
    """
    psf = np.asarray(psf, np.float64)
    variances = []
    for axis in (0, 1):
        weights, place = psf.sum(axis=1 - axis), np.arange(psf.shape[axis])
        variances.append(weights @ (place - weights @ place) ** 2)
    return float(np.sqrt(max(np.mean(variances), 0)))


def convolve(image: Float[ArrayLike, "H W"], psf: Float[ArrayLike, "h w"]) -> Float[Array, "H W"]:
    """Blur an image with a PSF, the border reflected without repeating the edge pixel.

    The border is NumPy's and PyTorch's "reflect", scipy's "mirror" and OpenCV's BORDER_REFLECT_101,
    as in the published DecoNoising.

    Args:
        image: (H, W) float array.
        psf: (h, w) float array with odd sides, not larger than the image.

    Returns:
        (H, W), the dtype of the image. The convolution runs through FFTs, so a result that should
        be 0 may differ from it by about 1e-7 times the image's maximum, in either direction.

    Raises:
        ValueError: The image or the PSF is not 2-D, or the PSF has even sides or is larger than the
            image.
    """
    image, psf = jnp.asarray(image), jnp.asarray(psf)
    check_psf_fits(psf.shape, image.shape)
    if psf.shape == (1, 1):
        return (image * psf[0, 0]).astype(image.dtype)
    radius = psf.shape[0] // 2, psf.shape[1] // 2
    extended = jnp.pad(image, [(radius[0],) * 2, (radius[1],) * 2], mode="reflect")
    return fftconvolve(extended, psf, mode="valid").astype(image.dtype)


def check_psf_fits(psf_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> None:
    """Check that a PSF can be applied to an image.

    Raises:
        ValueError: One of both is not 2-D, a side of the PSF is even, or it is longer than the
            image's.
    """
    if len(psf_shape) != 2 or len(image_shape) != 2:
        raise ValueError(
            f"convolve: expected image (H, W) and psf (h, w), got shapes {image_shape} and "
            f"{psf_shape}; vmap over the rest"
        )
    _check_odd(psf_shape)
    if psf_shape[0] > image_shape[0] or psf_shape[1] > image_shape[1]:
        raise ValueError(
            f"PSF of {_by(psf_shape)} pixels is larger than the image of {_by(image_shape)}; "
            "give a larger image or a smaller PSF"
        )


def _check_odd(shape):
    if shape[0] % 2 == 0 or shape[1] % 2 == 0:
        raise ValueError(
            "PSF: sides must be odd so that there is a centre pixel, "
            f"got {_by(shape)}; jaxdenoise.clean_psf pads and centres it"
        )


def _by(shape):
    return "x".join(map(str, shape))
