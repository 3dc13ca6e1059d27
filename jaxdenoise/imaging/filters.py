"""Classical filters as pure functions on the device: Gaussian, median, box, box3d and Wiener.

Every filter works on all axes of its array, as in ``scipy.ndimage``. A size (or sigma) is one
number for all axes or a sequence with one an axis. A sequence shorter than the array applies to
its last axes and leaves the leading ones alone, so that ``(3, 3)`` filters each frame of a stack;
``jax.vmap`` does the same. Sizes are odd numbers of pixels, (y, x) where OpenCV says (width,
height).

Borders, in scipy's words (the default is scipy's for each filter):

============  ==================  =========================================================
mode          beyond ``a b c d``  OpenCV's name
============  ==================  =========================================================
``reflect``   ``d c b a``         ``BORDER_REFLECT``
``mirror``    ``c b a``           ``BORDER_REFLECT_101``, the default of ``cv2.blur`` and
                                  ``cv2.GaussianBlur``
``nearest``   ``d d d d``         ``BORDER_REPLICATE``, which ``cv2.medianBlur`` always uses
``wrap``      ``a b c d``         ``BORDER_WRAP``
``constant``  ``cval``            ``BORDER_CONSTANT``
============  ==================  =========================================================

Images are float16, bfloat16, float32 (float64 where x64 is enabled) or integers of at most 16 bits.
The result has the image's dtype, or the one given as ``dtype``: ``dtype="float32"`` returns the
means of integers unrounded. Integer results are rounded half to even and saturate. Box filters and
Gaussian filters of OpenCV's tables compute integers from integers exactly, as long as the sum over
a window is below 2^31 (16-bit images: windows of up to 32,767 pixels of one weight). All else is
computed in float32 (float64 for float64).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Real

from jaxdenoise.imaging.arguments import (
    PerAxis,
    Size,
    checked_image,
    is_traced_or_at_least_0,
    per_axis,
    whole_numbers,
    window_sizes,
)
from jaxdenoise.imaging.levels import Scalar, convert, float_dtype
from jaxdenoise.imaging.median import window_median
from jaxdenoise.imaging.separable import (
    correlate_axes,
    filter_by_kernels,
    filter_by_sigmas,
    opencv_kernel,
)
from jaxdenoise.imaging.windows import extend, gaussian_radius, with_border

__all__ = ["box3d_filter", "box_filter", "gaussian_filter", "median_filter", "wiener_filter"]


def gaussian_filter(
    image: Real[ArrayLike, "*shape"],
    sigma: PerAxis | None = None,
    *,
    size: Size | None = None,
    radius: Size | None = None,
    mode: str = "reflect",
    cval: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Real[Array, "*shape"]:
    """Filter with a Gaussian, given by sigma or by OpenCV's kernel size.

    Args:
        image: (H, W) or any shape, in grey levels.
        sigma: Standard deviation in pixels, >= 0, a number or one an axis. It may be traced
            (learned, mapped over) where `radius` or `size` is given.
        size: Odd kernel size in pixels, a number or one an axis, static. Without `sigma` the kernel
            is OpenCV's of that size, as ``cv2.GaussianBlur(image, (size, size), 0)`` uses it: from
            its tables up to 9 pixels ([1, 4, 6, 4, 1] / 16 for 5), beyond them with sigma =
            0.3 * ((size - 1) / 2 - 1) + 0.8.
        radius: Half size, static, instead of `size`: the kernel has 2 * radius + 1 pixels. The
            default is scipy's, round(4 * sigma).
        mode: Border, see above, static.
        cval: Grey level beyond the border for ``constant``.
        dtype: Of the result, static; the image's by default.

    Returns:
        The filtered image, the image's shape.

    Raises:
        ValueError: Neither `sigma` nor `size` is given, or both `size` and `radius`; sigma is
            negative, not finite, or traced without a radius; a size is even; or image, mode, cval
            or dtype are not among those above.
    """
    image, dtype = checked_image("gaussian_filter", image, mode, cval, dtype)
    if size is not None and radius is not None:
        raise ValueError(
            "gaussian_filter: got both size and radius, which say the same "
            "(size = 2 * radius + 1): give one of them"
        )
    sizes = None if size is None else window_sizes("gaussian_filter", size, image.ndim)
    if sigma is None:
        if sizes is None:
            raise ValueError(
                "gaussian_filter: needs sigma in pixels, or size for OpenCV's kernel of that size"
            )
        return filter_by_kernels(image, cval, tuple(map(opencv_kernel, sizes)), mode, dtype)
    sigmas = per_axis("gaussian_filter", "sigma", sigma, image.ndim, 0.0)
    for value in sigmas:
        if not is_traced_or_at_least_0(value):
            raise ValueError(
                f"gaussian_filter: sigma must be a finite number of pixels >= 0, not {value}"
            )
    if sizes is not None:
        radii = tuple(side // 2 for side in sizes)
    elif radius is not None:
        radii = whole_numbers("gaussian_filter", "radius", radius, image.ndim, 0)
    else:
        radii = tuple(gaussian_radius(value) for value in sigmas)
    return filter_by_sigmas(image, cval, tuple(sigmas), radii, mode, dtype)


def median_filter(
    image: Real[ArrayLike, "*shape"],
    size: Size = 3,
    *,
    mode: str = "reflect",
    cval: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Real[Array, "*shape"]:
    """Take the median of each window.

    Windows of up to 169 pixels (13 x 13) take a sorting network each. Larger ones share sorted
    parts with their neighbours, block by block, so that the memory does not grow with window times
    image. The derivative is a subgradient (see `median.window_median`).

    Args:
        image: (H, W) or any shape, in grey levels. NaN counts as the largest value.
        size: Odd window size in pixels, a number or one an axis, static.
        mode: Border, see above, static.
        cval: Grey level beyond the border for ``constant``.
        dtype: Of the result, static; the image's by default.

    Returns:
        The filtered image, the image's shape.

    Raises:
        ValueError: A size is even, or image, mode, cval or dtype are not among those above.
    """
    image, dtype = checked_image("median_filter", image, mode, cval, dtype)
    return _median(image, cval, window_sizes("median_filter", size, image.ndim), mode, dtype)


def box_filter(
    image: Real[ArrayLike, "*shape"],
    size: Size = 3,
    *,
    mode: str = "reflect",
    cval: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Real[Array, "*shape"]:
    """Take the mean of each window (scipy's ``uniform_filter``, OpenCV's ``blur``).

    Args:
        image: (H, W) or any shape, in grey levels.
        size: Odd window size in pixels, a number or one an axis, static.
        mode: Border, see above, static.
        cval: Grey level beyond the border for ``constant``.
        dtype: Of the result, static; the image's by default.

    Returns:
        The filtered image, the image's shape.

    Raises:
        ValueError: A size is even, or image, mode, cval or dtype are not among those above.
    """
    image, dtype = checked_image("box_filter", image, mode, cval, dtype)
    return filter_by_kernels(
        image,
        cval,
        tuple((1,) * side for side in window_sizes("box_filter", size, image.ndim)),
        mode,
        dtype,
    )


def box3d_filter(
    volume: Real[ArrayLike, "*shape"],
    size: Size = 3,
    *,
    mode: str = "reflect",
    cval: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Real[Array, "*shape"]:
    """Take the mean of each window of a volume, over Z, Y and X.

    (What the report behind this project calls Box3D is a 3x3x3 median over Y, X and the colour
    channels: ``median_filter(image, (3, 3, 3))`` of an (H, W, 3) array.)

    Args:
        volume: (..., Z, Y, X), in grey levels; leading axes are left alone.
        size: Odd window size in pixels, a number or (z, y, x), static.
        mode: Border, see above, static.
        cval: Grey level beyond the border for ``constant``.
        dtype: Of the result, static; the volume's by default.

    Returns:
        The filtered volume, the volume's shape.

    Raises:
        ValueError: The volume has fewer than three axes, a size is even, or volume, mode, cval or
            dtype are not among those above.
    """
    if jnp.ndim(volume) < 3:
        raise ValueError(
            f"box3d_filter: expected a volume (Z, Y, X), got shape {jnp.shape(volume)}; "
            "box_filter is for images"
        )
    return box_filter(
        volume, per_axis("box3d_filter", "size", size, 3, 1), mode=mode, cval=cval, dtype=dtype
    )


def wiener_filter(
    image: Real[ArrayLike, "*shape"],
    size: Size = 3,
    *,
    noise: Scalar | None = None,
    mode: str = "constant",
    cval: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Real[Array, "*shape"]:
    """Apply an adaptive Wiener filter, which smooths least where the local variance is largest.

    The result is ``mean + (1 - noise / variance) * (image - mean)`` with the mean and variance of
    each window, and the mean where the variance is below the noise's. With the defaults it equals
    ``scipy.signal.wiener``, zeros beyond the border included. Those darken the edges of the result;
    mode="reflect" does not.

    Source: Lim, Two-Dimensional Signal and Image Processing (1990), equation 9.26 and following.

    Args:
        image: (H, W) or any shape, in grey levels.
        size: Odd window size in pixels, a number or one an axis, static.
        noise: Variance of the noise in grey levels squared, >= 0; it may be traced. By default the
            mean of the local variances, which counts structure as noise.
        mode: Border, see above, static.
        cval: Grey level beyond the border for ``constant``.
        dtype: Of the result, static; the image's by default.

    Returns:
        The filtered image, the image's shape.

    Raises:
        ValueError: A size is even, the noise is negative, or image, mode, cval or dtype are not
            among those above.
    """
    image, dtype = checked_image("wiener_filter", image, mode, cval, dtype)
    if noise is not None and (jnp.ndim(noise) or not is_traced_or_at_least_0(noise)):
        raise ValueError(
            f"wiener_filter: noise must be one variance >= 0 in grey levels squared, not {noise}"
        )
    return _wiener(image, cval, noise, window_sizes("wiener_filter", size, image.ndim), mode, dtype)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _median(image, cval, sizes, mode, dtype):
    radii = [side // 2 for side in sizes]

    def valid(x):
        return convert(window_median(x, sizes), dtype)

    # Compiling a large network once for each edge would cost more than the copy that it saves.
    return (
        with_border(valid, image, radii, mode, cval)
        if math.prod(sizes) <= 27
        else valid(extend(image, radii, mode, cval))
    )


@partial(jax.jit, static_argnums=(3, 4, 5))
def _wiener(image, cval, noise, sizes, mode, dtype):
    image = image.astype(float_dtype(image.dtype))
    # Large offsets would cancel in mean(x^2) - mean(x)^2, so take them away first; of a constant
    # image exactly.
    first = image.ravel()[0]
    level = first + jnp.mean(image - first)
    x = extend(image, [side // 2 for side in sizes], mode, cval) - level
    ones = [(1,) * side for side in sizes]
    mean, square = (
        correlate_axes(values, ones, x.dtype) * (1 / math.prod(sizes)) for values in (x, x * x)
    )
    variance = jnp.maximum(square - mean**2, 0)
    noise = jnp.mean(variance) if noise is None else jnp.asarray(noise, image.dtype)
    above = variance > noise
    # The inner `where` keeps the unused 0/0 out of the gradient.
    gain = jnp.where(above, 1 - noise / jnp.where(above, variance, 1), 0)
    return convert(level + mean + gain * (image - level - mean), dtype)
