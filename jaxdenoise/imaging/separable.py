"""Separable filters: correlation with one symmetric kernel an axis, compiled as a whole.

The arguments are checked already; `filters` is the public face.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Real

from jaxdenoise.imaging.levels import Scalar, convert, float_dtype
from jaxdenoise.imaging.windows import (
    correlate,
    divide_half_even,
    gaussian_weights,
    stored,
    window_sums,
    with_border,
)

_OPENCV_KERNELS = {  # cv2.getGaussianKernel(size, 0): whole numbers over their sum, a power of two
    1: (1,),
    3: (1, 2, 1),
    5: (1, 4, 6, 4, 1),
    7: (2, 7, 14, 18, 14, 7, 2),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}


def opencv_kernel(size: int) -> tuple[int | float, ...]:
    """Return OpenCV's Gaussian kernel of an odd size, not normalised: whole numbers up to 9."""
    if size in _OPENCV_KERNELS:
        return _OPENCV_KERNELS[size]
    sigma, places = 0.3 * ((size - 1) / 2 - 1) + 0.8, range(-(size // 2), size // 2 + 1)
    return tuple(math.exp(-0.5 * (place / sigma) ** 2) for place in places)


@partial(jax.jit, static_argnums=(3, 4, 5))
def filter_by_sigmas(
    image: Real[Array, "*shape"],
    cval: Scalar,
    sigmas: Sequence[Scalar],
    radii: tuple[int, ...],
    mode: str,
    dtype: DTypeLike,
) -> Real[Array, "*shape"]:
    """Apply a Gaussian filter of one sigma and one radius an axis, both in pixels."""
    work = float_dtype(image.dtype)
    weights = [
        gaussian_weights(sigma, radius, work) if radius else (1,)
        for sigma, radius in zip(sigmas, radii, strict=True)
    ]

    def valid(x):
        return convert(correlate_axes(x, weights, work), dtype)

    return with_border(valid, image, radii, mode, cval)


@partial(jax.jit, static_argnums=(2, 3, 4))
def filter_by_kernels(
    image: Real[Array, "*shape"],
    cval: Scalar,
    kernels: tuple[tuple[int | float, ...], ...],
    mode: str,
    dtype: DTypeLike,
) -> Real[Array, "*shape"]:
    """Correlate with kernels over their sums; kernels of whole numbers keep integers exact."""
    total = math.prod(map(sum, kernels))
    integer = _exact_dtype(total, image.dtype, dtype)
    work = float_dtype(image.dtype) if integer is None else integer

    def valid(x):
        x = correlate_axes(x, kernels, work)
        return convert(
            x * (1 / total) if integer is None else divide_half_even(x, int(total)), dtype
        )

    return with_border(valid, image, [len(kernel) // 2 for kernel in kernels], mode, cval)


def correlate_axes(
    x: Real[Array, "..."], kernels: Sequence, dtype: DTypeLike
) -> Real[Array, "..."]:
    """Correlate the windows that lie wholly inside with one symmetric kernel an axis, in `dtype`.

    Args:
        x: Any shape.
        kernels: A tuple or array of weights an axis; windows of ones are summed.
        dtype: To compute in, and of the result.

    Returns:
        The input's shape less ``len(kernel) - 1`` along each axis, not divided by the sums of the
        kernels.
    """
    for axis, kernel in enumerate(kernels):
        if len(kernel) > 1:
            ones = isinstance(kernel, tuple) and set(kernel) == {1}
            if ones:
                x = window_sums(x, len(kernel), axis, dtype)
            else:
                x = correlate(x, kernel, axis, dtype)
            # Sums of few pixels are cheaper to compute anew for the next axis than to store.
            if len(kernel) > (5 if ones else 3) and any(
                len(later) > 1 for later in kernels[axis + 1 :]
            ):
                x = stored(x, axis)
    return x.astype(dtype)


def _exact_dtype(total, given, asked):
    """The smallest integer dtype that holds all sums of a filter exactly, or None.

    `total` is the sum of all weights, `given` the image's dtype and `asked` the result's.
    """
    integers = jnp.issubdtype(given, jnp.integer) and jnp.issubdtype(asked, jnp.integer)
    if not integers or not isinstance(total, int):
        return None
    limits = jnp.iinfo(given)
    largest = total * max(abs(int(limits.min)), abs(int(limits.max))) + total
    if largest >= 2**31:
        return None
    if jnp.issubdtype(given, jnp.unsignedinteger):
        return jnp.uint16 if largest < 2**16 else jnp.uint32
    return jnp.int32
