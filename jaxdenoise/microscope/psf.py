"""Point spread functions (PSFs): kernels of sum 1, their sizes, and their convolution.

A Gaussian's width is given as its standard deviation sigma in pixels everywhere; `widths` converts
to and from the full width at half maximum. PSFs have odd sides, so that the centre is a pixel. The
PSF of an image is an image (h, w), that of a volume of planes (Z, H, W) a volume (d, h, w): light
from out of focus falls on the planes beside.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.signal import fftconvolve
from jaxtyping import Array, ArrayLike, Float, Float32, Int, Shaped

from jaxdenoise.imaging.arguments import PerAxis, Size
from jaxdenoise.imaging.windows import gaussian_radius, gaussian_weights


def gaussian_psf(sigma: PerAxis, *, size: Size | None = None) -> Float32[Array, "*d h w"]:
    """Return a Gaussian PSF, sampled at the pixel centres.

    Args:
        sigma: Standard deviation in pixels: a number or a pair (y, x), or for the PSF of a volume
            three numbers (z, y, x), that of z in planes; 0 means no blur. It may be traced if
            `size` is given.
        size: Odd side length in pixels, a number, or as many as sigma has; static. Default:
            2 * round(4 sigma) + 1, so that the kernel is what ``scipy.ndimage.gaussian_filter``
            makes of a single bright pixel.

    Returns:
        (h, w) or (d, h, w) float32, non-negative, sum 1.

    Raises:
        ValueError: Sigma is negative, not finite, or traced without a size, or a size is even or
            not positive.
    """
    count = max(_count("sigma", sigma), 2)
    if size is not None and _count("sigma", sigma) == 1:
        count = max(_count("size", size), 2)
    sigmas = _per_axis("sigma", sigma, count)
    sizes = [2 * _radius(s) + 1 for s in sigmas] if size is None else _per_axis("size", size, count)
    *planes, rows, columns = (_gaussian_kernel(s, n) for s, n in zip(sigmas, sizes, strict=True))
    image = rows[:, None] * columns[None, :]
    return planes[0][:, None, None] * image if planes else image


def _count(name, value):
    """How many numbers are given: one for all axes, or one an axis."""
    if not isinstance(value, list | tuple) and jnp.ndim(value) == 0:
        return 1
    if len(value) not in (2, 3):
        raise ValueError(
            f"gaussian_psf: {name} must be a number, a pair (y, x) or three numbers (z, y, x), not "
            f"{len(value)} numbers"
        )
    return len(value)


def _per_axis(name, value, count):
    given = _count(name, value)
    if given == 1:
        return [value] * count
    if given != count:
        raise ValueError(
            f"gaussian_psf: {name} has {given} numbers for a PSF of {count} axes; give one number, "
            "or one an axis"
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


def normalized_psf(psf: Shaped[ArrayLike, "..."]) -> Float32[np.ndarray, "*d h w"]:
    """Check a measured PSF and scale it to sum 1. Host side.

    Args:
        psf: (h, w) array, or (d, h, w) of a volume, with odd sides, centred, the background
            subtracted; bool or any real dtype.

    Returns:
        float32 of the same shape with sum 1.

    Raises:
        ValueError: The PSF is not 2-D or 3-D, has even sides or values that are not finite, or its
            sum is not positive.
    """
    psf = np.asarray(psf)
    if psf.ndim not in (2, 3):
        raise ValueError(
            f"PSF: expected one 2-D image or a volume (d, h, w), got shape {psf.shape}; give a "
            "single plane"
        )
    _check_odd(psf.shape)
    psf = psf.astype(np.float64)
    if not np.isfinite(psf).all():
        raise ValueError("PSF: it holds NaN or infinite values")
    if psf.sum() <= 0:
        raise ValueError("PSF: its sum must be positive; was too much background subtracted?")
    return (psf / psf.sum()).astype(np.float32)


def trimmed(psf: Float[ArrayLike, "*d h w"]) -> Float[np.ndarray, "... _ _"]:
    """Cut off the rim of a PSF that float32 does not resolve. Host side.

    Opposite rows, and columns, and planes of a volume, are cut in pairs: in all they weigh at most
    1e-8 of the PSF on each axis. The published 81x81 pixels of a Gaussian of sigma 1 become 13x13.
    """
    psf = np.asarray(psf)
    for axis in range(psf.ndim):
        weights = np.abs(psf).sum(axis=_others(axis, psf.ndim), dtype=np.float64)
        rims = np.cumsum(weights + weights[::-1])[: len(weights) // 2]
        rim = np.count_nonzero(rims <= 1e-8 * weights.sum())
        psf = psf.take(range(rim, psf.shape[axis] - rim), axis)
    return psf


def _others(axis, ndim):
    return tuple(other for other in range(ndim) if other != axis)


def padded(psf: Float[ArrayLike, "*d h w"], shape: Sequence[int]) -> Float[np.ndarray, "... _ _"]:
    """Add a rim of zeros around a PSF, so that its centre stays the centre. Host side.

    Args:
        psf: (h, w) or (d, h, w) array with odd sides.
        shape: Odd sides (y, x), or (z, y, x), of the result in pixels, none shorter than the PSF's.

    Raises:
        ValueError: A side is even, or shorter than the PSF's, or there are not as many.
    """
    psf = np.asarray(psf)
    for sides in (psf.shape, shape):
        _check_odd(sides)
    if len(shape) != psf.ndim:
        raise ValueError(f"PSF of {_by(psf.shape)} pixels cannot be padded to {_by(shape)}")
    if any(side < length for side, length in zip(shape, psf.shape, strict=True)):
        raise ValueError(
            f"PSF of {_by(psf.shape)} pixels is larger than the {_by(shape)} to pad it to"
        )
    rims = [(side - length) // 2 for side, length in zip(shape, psf.shape, strict=True)]
    return np.pad(psf, [(rim, rim) for rim in rims])


def square(psf: Float[ArrayLike, "*d h w"]) -> Float[np.ndarray, "... side side"]:
    """Add rows or columns of zeros to a PSF with odd sides to make it square. Host side.

    The number of planes of a volume stays.
    """
    *depth, height, width = np.shape(psf)
    side = max(height, width)
    return padded(psf, (*depth, side, side))


def psf_sigma(psf: Float[ArrayLike, "*d h w"]) -> float:
    """Return the sigma in pixels of the Gaussian with a PSF's variance. Host side.

    The variance is the mean of those along y and x.

    Args:
        psf: (h, w) or (d, h, w) of sum 1.
    """
    variances = _variances(psf)[-2:]
    return float(np.sqrt(max(np.mean(variances), 0)))


def psf_sigmas(psf: Float[ArrayLike, "*d h w"]) -> tuple[float, ...]:
    """Return the root of a PSF's variance along each axis, (y, x) or (z, y, x). Host side.

    Args:
        psf: (h, w) or (d, h, w) of sum 1.
    """
    return tuple(float(np.sqrt(max(variance, 0))) for variance in _variances(psf))


def _variances(psf):
    psf = np.asarray(psf, np.float64)
    variances = []
    for axis in range(psf.ndim):
        weights, place = psf.sum(axis=_others(axis, psf.ndim)), np.arange(psf.shape[axis])
        variances.append(weights @ (place - weights @ place) ** 2)
    return variances


def in_plane(psf: Float[ArrayLike, "*d h w"]) -> Float[np.ndarray, "h w"]:
    """Return the PSF of the plane in focus, of sum 1: a volume's middle plane. Host side.

    An image (h, w) is returned as it is.
    """
    psf = np.asarray(psf)
    if psf.ndim == 2:
        return psf
    return normalized_psf(psf[len(psf) // 2])


def convolve(
    image: Float[ArrayLike, "*Z H W"], psf: Float[ArrayLike, "*d h w"]
) -> Float[Array, "*Z H W"]:
    """Blur images or a volume with a PSF, the border reflected without repeating the edge pixel.

    The border is NumPy's and PyTorch's "reflect", scipy's "mirror" and OpenCV's BORDER_REFLECT_101,
    as in the published DecoNoising; so are the first and the last plane of a volume.

    Args:
        image: (H, W) float array, or a stack (..., H, W), each image of which is blurred by itself;
            with a PSF of volumes a volume (Z, H, W).
        psf: (h, w) float array with odd sides, not larger than the image; of a volume (d, h, w).
            It may be deeper than the volume: then the planes are reflected more than once.

    Returns:
        The shape and dtype of the image. The convolution runs through FFTs, so a result that should
        be 0 may differ from it by about 1e-7 times the image's maximum, in either direction.

    Raises:
        ValueError: An image has fewer axes than the PSF, a volume more; or the PSF has even sides
            or is larger than the image.
    """
    image, psf = jnp.asarray(image), jnp.asarray(psf)
    if psf.ndim == 2 and image.ndim > 2:
        frames = image.reshape(-1, *image.shape[-2:])
        return jax.vmap(convolve, (0, None))(frames, psf).reshape(image.shape)
    check_psf_fits(psf.shape, image.shape)
    if image.ndim == 3:
        beyond = psf.shape[0] // 2
        planes = reflected(np.arange(-beyond, image.shape[0] + beyond), image.shape[0])
        return convolve_inside(image[planes], psf)
    if psf.shape == (1, 1):
        return (image * psf[0, 0]).astype(image.dtype)
    radius = psf.shape[0] // 2, psf.shape[1] // 2
    extended = jnp.pad(image, [(radius[0],) * 2, (radius[1],) * 2], mode="reflect")
    return fftconvolve(extended, psf, mode="valid").astype(image.dtype)


def convolve_inside(
    planes: Float[ArrayLike, "Z H W"], psf: Float[ArrayLike, "d h w"]
) -> Float[Array, "_ H W"]:
    """Blur the planes of a volume that have all planes beside them that the PSF reaches.

    Args:
        planes: (Z, H, W) float array, at least d planes; reflected along y and x, not along z.
        psf: (d, h, w) float array with odd sides.

    Returns:
        (Z - d + 1, H, W), the dtype of the planes.
    """
    planes, psf = jnp.asarray(planes), jnp.asarray(psf)
    down, right = psf.shape[1] // 2, psf.shape[2] // 2
    extended = jnp.pad(planes, [(0, 0), (down, down), (right, right)], mode="reflect")
    return fftconvolve(extended, psf, mode="valid").astype(planes.dtype)


def reflected(index: Int[np.ndarray, "*n"], size: int) -> Int[np.ndarray, "*n"]:
    """Fold any indices into 0 <= index < size as NumPy's "reflect" padding does. Host side."""
    period = 2 * size - 2 + (size == 1)
    return abs((index + size - 1) % period - (size - 1))


def check_psf_fits(psf_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> None:
    """Check that a PSF can be applied to an image, or to a volume.

    Raises:
        ValueError: They are not both 2-D or both 3-D, a side of the PSF is even, or a row or column
            of it is longer than the image's.
    """
    if len(psf_shape) != len(image_shape) or len(psf_shape) not in (2, 3):
        raise ValueError(
            "convolve: expected image (H, W) and psf (h, w), or volume (Z, H, W) and psf "
            f"(d, h, w), got shapes {image_shape} and {psf_shape}; vmap over the rest"
        )
    _check_odd(psf_shape)
    if any(s > n for s, n in zip(psf_shape[-2:], image_shape[-2:], strict=True)):
        raise ValueError(
            f"PSF of {_by(psf_shape)} pixels is larger than the image of {_by(image_shape)}; "
            "give a larger image or a smaller PSF"
        )


def _check_odd(shape):
    if any(side % 2 == 0 for side in shape):
        raise ValueError(
            "PSF: sides must be odd so that there is a centre pixel, "
            f"got {_by(shape)}; jaxdenoise.clean_psf pads and centres it"
        )


def _by(shape):
    return "x".join(map(str, shape))
