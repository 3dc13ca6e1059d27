"""Grey levels as files store them."""

import jax.numpy as jnp


def quantize(image, dtype, *, rounding="nearest"):
    """Grey levels as a camera stores them: clipped to the range of `dtype`, then made whole.

    Args:
        image: (H, W) or any shape, any real dtype, in grey levels. NaN becomes 0.
        dtype: An integer dtype of at most 16 bits (float32 does not hold larger integers).
        rounding: ``"nearest"``: to the nearest integer, halves to even. ``"truncate"``: towards
            zero, as NumPy's ``astype`` does.

    Returns:
        The image's shape, `dtype`, in grey levels. Being integers they pass no gradient on.

    Raises:
        ValueError: `dtype` is not an integer dtype of at most 16 bits, or the rounding's name is
            unknown.
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer) or dtype.itemsize > 2:
        raise ValueError(
            f"dtype must be an integer dtype of at most 16 bits, got {dtype}: give for example uint8 or uint16"
        )
    if rounding not in ("nearest", "truncate"):
        raise ValueError(
            f"quantize knows the roundings 'nearest' and 'truncate', got rounding={rounding!r}: choose one of the two"
        )
    image, limits = as_float(image), jnp.iinfo(dtype)
    clipped = jnp.where(jnp.isnan(image), 0, jnp.clip(image, limits.min, limits.max))
    return (jnp.rint(clipped) if rounding == "nearest" else jnp.trunc(clipped)).astype(dtype)


def as_float(image):
    return jnp.asarray(image, dtype=jnp.promote_types(jnp.result_type(image), jnp.float32))
