"""Classical filters as pure functions on the device: Gaussian, median, box, box3d and Wiener.

Every filter works on all axes of the array it is given, as in ``scipy.ndimage``. A size (or sigma)
is one number for all axes or a sequence with one an axis; a sequence shorter than the array speaks
of its last axes and leaves the leading ones alone, so that ``(3, 3)`` filters each frame of a
stack. ``jax.vmap`` does the same. Sizes are odd numbers of pixels, (y, x) where OpenCV says (width,
height).

Borders, here in scipy's words (the default is scipy's for each filter):

============  ==================  ==============================================
mode          beyond ``a b c d``  OpenCV's name
============  ==================  ==============================================
``reflect``   ``d c b a``         ``BORDER_REFLECT``
``mirror``    ``c b a``           ``BORDER_REFLECT_101``, its default (``cv2.blur``,
``cv2.GaussianBlur``) ``nearest``   ``d d d d``         ``BORDER_REPLICATE``, what
``cv2.medianBlur`` always does ``wrap``      ``a b c d``         ``BORDER_WRAP``
``constant``  ``cval``            ``BORDER_CONSTANT``
============  ==================  ==============================================

Images are float16, bfloat16, float32 (float64 where x64 is enabled) or integers of at most 16 bits.
The result has the image's dtype, or
the one given as ``dtype``: ``dtype="float32"`` returns the means of integers unrounded. Integer
results are rounded half to even and saturate. Box filters and Gaussian filters of OpenCV's tables
take integers to integers exactly, as long as the sum over a window is below 2^31 (16-bit images:
windows of up to 32,767 pixels of one weight); all else is computed in float32 (float64 for
float64).
"""

import math
import operator
from functools import partial

import jax
import jax.numpy as jnp

from jaxdenoise.imaging.levels import quantize
from jaxdenoise.imaging.median import window_median
from jaxdenoise.imaging.windows import (
    BORDER_MODES,
    correlate,
    divide_half_even,
    extend,
    gaussian_radius,
    gaussian_weights,
    stored,
    window_sums,
    with_border,
)

__all__ = ["box3d_filter", "box_filter", "gaussian_filter", "median_filter", "wiener_filter"]

_OPENCV_KERNELS = {  # cv2.getGaussianKernel(size, 0): whole numbers over their sum, a power of two
    1: (1,),
    3: (1, 2, 1),
    5: (1, 4, 6, 4, 1),
    7: (2, 7, 14, 18, 14, 7, 2),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}


def gaussian_filter(
    image, sigma=None, *, size=None, radius=None, mode="reflect", cval=0.0, dtype=None
):
    """Gaussian filter, by sigma or by OpenCV's kernel size.

    Args:
        image: (H, W) or any shape, in grey levels.
        sigma: Standard deviation in pixels, >= 0, a number or one an axis. It may be traced
            (learned, mapped over) where `radius` or `size` is given.
        size: Odd kernel size in pixels, a number or one an axis, static. Without `sigma` OpenCV's
            kernel of that size: the one that ``cv2.GaussianBlur(image, (size, size), 0)`` uses,
            with its tables up to 9 pixels ([1, 4, 6, 4, 1] / 16 for 5) and sigma = 0.3 * ((size -
            1) / 2 - 1) + 0.8 beyond.
        radius: Half size: the kernel has 2 * radius + 1 pixels; instead of `size`, static. The
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
    image, dtype, cval = _checked("gaussian_filter", image, mode, cval, dtype)
    if size is not None and radius is not None:
        raise ValueError(
            "gaussian_filter: got both size and radius, which say the same (size = 2 * radius + 1): give one of them"
        )
    sizes = None if size is None else _sizes("gaussian_filter", size, image.ndim)
    if sigma is None:
        if sizes is None:
            raise ValueError(
                "gaussian_filter: needs sigma in pixels, or size for OpenCV's kernel of that size"
            )
        return _by_kernels(image, cval, tuple(map(_opencv_kernel, sizes)), mode, dtype)
    sigmas = _per_axis("gaussian_filter", "sigma", sigma, image.ndim, 0.0)
    for value in sigmas:
        if not _is_traced_or_at_least_0(value):
            raise ValueError(
                f"gaussian_filter: sigma must be a finite number of pixels >= 0, not {value}"
            )
    if sizes is not None:
        radii = [side // 2 for side in sizes]
    elif radius is not None:
        radii = _whole_numbers("gaussian_filter", "radius", radius, image.ndim, 0)
    else:
        radii = [gaussian_radius(value) for value in sigmas]
    return _by_sigma(image, cval, tuple(sigmas), tuple(radii), mode, dtype)


def median_filter(image, size=3, *, mode="reflect", cval=0.0, dtype=None):
    """Median filter: the middle value of each window. In three dimensions give a volume (Z, Y, X) and three sizes.

    Windows of up to 169 pixels (13 x 13) take a sorting network each; larger ones share sorted
    parts with their neighbours, block by block, so that the memory does not grow with window times
    image. Its derivative is a subgradient (see `median.window_median`).

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
    image, dtype, cval = _checked("median_filter", image, mode, cval, dtype)
    return _median(image, cval, _sizes("median_filter", size, image.ndim), mode, dtype)


def box_filter(image, size=3, *, mode="reflect", cval=0.0, dtype=None):
    """Box filter: the mean of each window (scipy's ``uniform_filter``, OpenCV's ``blur``).

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
    image, dtype, cval = _checked("box_filter", image, mode, cval, dtype)
    return _by_kernels(
        image,
        cval,
        tuple((1,) * side for side in _sizes("box_filter", size, image.ndim)),
        mode,
        dtype,
    )


def box3d_filter(volume, size=3, *, mode="reflect", cval=0.0, dtype=None):
    """Box filter of volumes: a true mean over Z, Y and X.

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
            f"box3d_filter: expected a volume (Z, Y, X), got shape {jnp.shape(volume)}; box_filter is for images"
        )
    return box_filter(
        volume, _per_axis("box3d_filter", "size", size, 3, 1), mode=mode, cval=cval, dtype=dtype
    )


def wiener_filter(image, size=3, *, noise=None, mode="constant", cval=0.0, dtype=None):
    """Adaptive Wiener filter: strong where the local variance is that of the noise, weak where it is larger.

    ``mean + (1 - noise / variance) * (image - mean)`` with the mean and variance of each window,
    and the mean where the variance is below the noise's. With the defaults it is
    ``scipy.signal.wiener``, zeros beyond the border included, which darken the edges of the result:
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
    image, dtype, cval = _checked("wiener_filter", image, mode, cval, dtype)
    if noise is not None and (jnp.ndim(noise) or not _is_traced_or_at_least_0(noise)):
        raise ValueError(
            f"wiener_filter: noise must be one variance >= 0 in grey levels squared, not {noise}"
        )
    return _wiener(image, cval, noise, _sizes("wiener_filter", size, image.ndim), mode, dtype)


# --- the computations, each compiled as a whole
# ------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(3, 4, 5))
def _by_sigma(image, cval, sigmas, radii, mode, dtype):
    work = _float_for(image.dtype)
    weights = [
        gaussian_weights(sigma, radius, work) if radius else (1,)
        for sigma, radius in zip(sigmas, radii, strict=True)
    ]

    def valid(x):
        return _as_dtype(_axis_by_axis(x, weights, work), dtype)

    return with_border(valid, image, radii, mode, cval)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _by_kernels(image, cval, kernels, mode, dtype):
    """Correlation with kernels over their sums; with kernels of whole numbers integers become integers without an error."""
    total = math.prod(map(sum, kernels))
    exact = (
        isinstance(total, int)
        and jnp.issubdtype(image.dtype, jnp.integer)
        and jnp.issubdtype(dtype, jnp.integer)
    )
    largest = (
        total
        * max(abs(int(limit)) for limit in (jnp.iinfo(image.dtype).min, jnp.iinfo(image.dtype).max))
        if exact
        else 0
    )
    exact = exact and largest + total < 2**31
    work = _integer_for(largest + total, image.dtype) if exact else _float_for(image.dtype)

    def valid(x):
        x = _axis_by_axis(x, kernels, work)
        return _as_dtype(divide_half_even(x, total) if exact else x * (1 / total), dtype)

    return with_border(valid, image, [len(kernel) // 2 for kernel in kernels], mode, cval)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _median(image, cval, sizes, mode, dtype):
    radii = [side // 2 for side in sizes]

    def valid(x):
        return _as_dtype(window_median(x, sizes), dtype)

    # Compiling a large network once for each edge would cost more than the copy that it saves.
    return (
        with_border(valid, image, radii, mode, cval)
        if math.prod(sizes) <= 27
        else valid(extend(image, radii, mode, cval))
    )


@partial(jax.jit, static_argnums=(3, 4, 5))
def _wiener(image, cval, noise, sizes, mode, dtype):
    image = image.astype(_float_for(image.dtype))
    # Large offsets would cancel in mean(x^2) - mean(x)^2, so take them away first; of a constant
    # image exactly.
    first = image.ravel()[0]
    level = first + jnp.mean(image - first)
    x = extend(image, [side // 2 for side in sizes], mode, cval) - level
    ones = [(1,) * side for side in sizes]
    mean, square = (
        _axis_by_axis(values, ones, x.dtype) * (1 / math.prod(sizes)) for values in (x, x * x)
    )
    variance = jnp.maximum(square - mean**2, 0)
    noise = jnp.mean(variance) if noise is None else jnp.asarray(noise, image.dtype)
    above = variance > noise
    # The inner `where` keeps the unused 0/0 out of the gradient.
    gain = jnp.where(above, 1 - noise / jnp.where(above, variance, 1), 0)
    return _as_dtype(level + mean + gain * (image - level - mean), dtype)


def _axis_by_axis(x, kernels, dtype):
    """Correlation of the windows that lie wholly inside with one kernel an axis, in `dtype`; kernels of ones are summed."""
    for axis, kernel in enumerate(kernels):
        if len(kernel) > 1:
            ones = isinstance(kernel, tuple) and set(kernel) == {1}
            x = (
                window_sums(x, len(kernel), axis, dtype)
                if ones
                else correlate(x, kernel, axis, dtype)
            )
            # Few sums are cheaper computed anew for the next axis than stored.
            if len(kernel) > (5 if ones else 3) and any(
                len(later) > 1 for later in kernels[axis + 1 :]
            ):
                x = stored(x, axis)
    return x.astype(dtype)


def _opencv_kernel(size):
    if size in _OPENCV_KERNELS:
        return _OPENCV_KERNELS[size]
    sigma, places = 0.3 * ((size - 1) / 2 - 1) + 0.8, range(-(size // 2), size // 2 + 1)
    return tuple(math.exp(-0.5 * (place / sigma) ** 2) for place in places)


def _integer_for(largest, dtype):
    if jnp.issubdtype(dtype, jnp.unsignedinteger):
        return jnp.uint16 if largest < 2**16 else jnp.uint32
    return jnp.int32


def _float_for(dtype):
    # Half precision holds neither the sums nor the results of integers.
    return jnp.promote_types(
        dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32, jnp.float32
    )


def _as_dtype(x, dtype):
    if x.dtype == dtype or not jnp.issubdtype(dtype, jnp.integer):
        return x.astype(dtype)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return quantize(x, dtype)
    ranges = jnp.iinfo(x.dtype), jnp.iinfo(dtype)
    return jnp.clip(
        x, max(range.min for range in ranges), min(range.max for range in ranges)
    ).astype(dtype)


# --- checks
# ------------------------------------------------------------------------------------------------------------------------------


def _checked(name, image, mode, cval, dtype):
    image = jnp.asarray(image)
    if image.ndim == 0 or image.size == 0:
        raise ValueError(f"{name}: expected an image, got shape {image.shape}")
    dtype = image.dtype if dtype is None else jnp.dtype(dtype)
    for kind in (image.dtype, dtype):
        whole = jnp.issubdtype(kind, jnp.integer) and kind.itemsize <= 2
        if not whole and not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(
                f"{name}: works on floats and on integers of at most 16 bits, not {kind}; convert the image to float32"
            )
    if mode not in BORDER_MODES:
        raise ValueError(
            f"{name}: unknown border mode {mode!r}; choose one of {', '.join(BORDER_MODES)}"
        )
    if jnp.issubdtype(image.dtype, jnp.integer) and not isinstance(cval, jax.core.Tracer):
        limits = jnp.iinfo(image.dtype)
        if not limits.min <= cval <= limits.max or cval != int(cval):
            raise ValueError(
                f"{name}: cval must be a whole number that {image.dtype} holds, not {cval}"
            )
    return image, dtype, cval


def _per_axis(name, what, value, ndim, neutral):
    """One value an axis; leading axes that a shorter sequence leaves out get the neutral one."""
    values = list(value) if isinstance(value, list | tuple) or jnp.ndim(value) else [value] * ndim
    if len(values) > ndim or not values:
        raise ValueError(
            f"{name}: {what} has {len(values)} values for {ndim} axes; give one number, or one an axis"
        )
    return [neutral] * (ndim - len(values)) + values


def _sizes(name, size, ndim):
    sizes = _whole_numbers(name, "size", size, ndim, 1)
    for side in sizes:
        if side % 2 == 0:
            raise ValueError(
                f"{name}: a size must be an odd number of pixels, so that the window has a centre, not {side}"
            )
    return sizes


def _whole_numbers(name, what, value, ndim, least):
    """One whole number an axis, `least` for the axes that `value` leaves out."""
    values = _per_axis(name, what, value, ndim, least)
    for number in values:
        if isinstance(number, jax.core.Tracer):
            raise ValueError(
                f"{name}: a {what} cannot be traced, it decides the program; mark it static"
            )
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < least:
            raise ValueError(
                f"{name}: a {what} must be a whole number of pixels >= {least}, not {number}"
            )
    return tuple(map(operator.index, values))


def _is_traced_or_at_least_0(value):
    return isinstance(value, jax.core.Tracer) or 0 <= value < math.inf
