"""Grey levels: floats to compute with, integers as cameras and files store them.

Everything is computed in float32, or in float64 where the image is float64 and x64 is enabled.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Integer, Real, Shaped

# A number of Python, NumPy or JAX; it may be traced where a function does not say "static".
Scalar = int | float | np.integer | np.floating | Real[Array, ""] | Real[np.ndarray, ""]


def quantize(
    image: Shaped[ArrayLike, "*shape"], dtype: DTypeLike, *, rounding: str = "nearest"
) -> Integer[Array, "*shape"]:
    """Round grey levels to integers as a camera stores them, clipped to the range of `dtype`.

    Args:
        image: (H, W) or any shape, bool or any real dtype, in grey levels. NaN becomes 0.
        dtype: An integer dtype of at most 16 bits (float32 does not hold larger integers).
        rounding: ``"nearest"``: to the nearest integer, halves to even. ``"truncate"``: towards
            zero, as NumPy's ``astype`` does.

    Returns:
        The image's shape, `dtype`, in grey levels. Integers pass no gradient on.

    Raises:
        ValueError: `dtype` is not an integer dtype of at most 16 bits, or the rounding's name is
            unknown.
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer) or dtype.itemsize > 2:
        raise ValueError(
            f"dtype must be an integer dtype of at most 16 bits, got {dtype}: "
            "give for example uint8 or uint16"
        )
    if rounding not in ("nearest", "truncate"):
        raise ValueError(
            "quantize knows the roundings 'nearest' and 'truncate', "
            f"got rounding={rounding!r}: choose one of the two"
        )
    image, limits = as_float(image), jnp.iinfo(dtype)
    clipped = jnp.where(jnp.isnan(image), 0, jnp.clip(image, limits.min, limits.max))
    return (jnp.rint(clipped) if rounding == "nearest" else jnp.trunc(clipped)).astype(dtype)


def as_float(image: Shaped[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Convert to the dtype that is computed in: float32, or float64 if the image has it."""
    return jnp.asarray(image, dtype=float_dtype(jnp.result_type(image)))


def float_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype to compute in: float32 for half precision and integers, else float64."""
    return jnp.promote_types(dtype, jnp.float32)


def convert(image: Shaped[Array, "*shape"], dtype: DTypeLike) -> Shaped[Array, "*shape"]:
    """Convert grey levels to another dtype; integers are rounded half to even and saturate.

    Args:
        image: Any shape, integers or floats, in grey levels.
        dtype: A float dtype, the image's own, or an integer dtype of at most 16 bits.

    Returns:
        The image's shape, `dtype`.
    """
    dtype = jnp.dtype(dtype)
    if image.dtype == dtype or not jnp.issubdtype(dtype, jnp.integer):
        return image.astype(dtype)
    if jnp.issubdtype(image.dtype, jnp.floating):
        return quantize(image, dtype)
    held, wanted = jnp.iinfo(image.dtype), jnp.iinfo(dtype)
    return jnp.clip(image, max(held.min, wanted.min), min(held.max, wanted.max)).astype(dtype)
