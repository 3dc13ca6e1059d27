"""Checks of the filters' arguments: image, border mode, and sizes or sigmas along each axis.

Each error begins with the name of the filter that was called.
"""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Integer, Real

from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.imaging.windows import BORDER_MODES

# One number for all axes, or one an axis. A size is a whole number of pixels.
PerAxis = (
    Scalar | list[Scalar] | tuple[Scalar, ...] | Real[Array, "_axes"] | Real[np.ndarray, "_axes"]
)
Size = (
    int
    | np.integer
    | list[int]
    | list[np.integer]
    | tuple[int | np.integer, ...]
    | Integer[Array, "..."]
    | Integer[np.ndarray, "..."]
)


def checked_image(
    name: str,
    image: Real[ArrayLike, "*shape"],
    mode: str,
    cval: Scalar,
    dtype: DTypeLike | None,
) -> tuple[Real[Array, "*shape"], jnp.dtype]:
    """Return the image as an array, and the dtype of the result.

    Args:
        name: Of the filter.
        image: The filter's image.
        mode: The filter's border mode.
        cval: The grey level beyond the border for ``constant``; not checked if it is traced.
        dtype: Of the result; None for the image's.

    Raises:
        ValueError: The image is empty or a scalar, a dtype is not one that the filters work on,
            the mode is unknown, or the image's integer dtype does not hold `cval`.
    """
    image = jnp.asarray(image)
    if image.ndim == 0 or image.size == 0:
        raise ValueError(f"{name}: expected an image, got shape {image.shape}")
    dtype = image.dtype if dtype is None else jnp.dtype(dtype)
    for kind in (image.dtype, dtype):
        whole = jnp.issubdtype(kind, jnp.integer) and kind.itemsize <= 2
        if not whole and not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(
                f"{name}: works on floats and on integers of at most 16 bits, not {kind}; "
                "convert the image to float32"
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
    return image, dtype


def per_axis(name: str, what: str, value: Any, ndim: int, neutral: int | float) -> list[Any]:
    """Return one value an axis; leading axes that a shorter sequence leaves out get `neutral`."""
    several = isinstance(value, list | tuple) or (
        isinstance(value, jax.Array | np.ndarray) and value.ndim > 0
    )
    values = list(value) if several else [value] * ndim
    if len(values) > ndim or not values:
        raise ValueError(
            f"{name}: {what} has {len(values)} values for {ndim} axes; "
            "give one number, or one an axis"
        )
    return [neutral] * (ndim - len(values)) + values


def window_sizes(name: str, size: Any, ndim: int) -> tuple[int, ...]:
    """Return one odd number of pixels an axis, 1 for the axes that `size` leaves out."""
    sizes = whole_numbers(name, "size", size, ndim, 1)
    for side in sizes:
        if side % 2 == 0:
            raise ValueError(
                f"{name}: a size must be an odd number of pixels, "
                f"so that the window has a centre, not {side}"
            )
    return sizes


def whole_numbers(name: str, what: str, value: Any, ndim: int, least: int) -> tuple[int, ...]:
    """Return one whole number of pixels an axis, `least` for the axes that `value` leaves out."""
    values = per_axis(name, what, value, ndim, least)
    for number in values:
        if isinstance(number, jax.core.Tracer):
            raise ValueError(
                f"{name}: a {what} cannot be traced, because the program depends on it; "
                "mark it static"
            )
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < least:
            raise ValueError(
                f"{name}: a {what} must be a whole number of pixels >= {least}, not {number}"
            )
    return tuple(map(operator.index, values))


def is_traced_or_at_least_0(value: Scalar) -> bool:
    """Tell whether a number is finite and >= 0, or traced and so unknown."""
    return isinstance(value, jax.core.Tracer) or bool(0 <= value < math.inf)
