"""Sliding windows of the filters, on the device: borders, weighted sums, Gaussian weights.

Arrays have any number of dimensions. `filters` is the public face and explains the border modes.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer, Num, Real

from jaxdenoise.imaging.levels import Scalar

# scipy's names: NumPy's
BORDER_MODES: dict[str, Literal["symmetric", "reflect", "edge", "wrap", "constant"]] = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}
TRUNCATE = 4.0  # a Gaussian is cut at this many sigmas, as scipy.ndimage does
_LONGEST_DIRECT = 65  # weights of a kernel; longer ones go through the Fourier transform
_NARROW = 16  # times the radius: a narrower image gets its whole border at once
_LONGEST_SUM = 16  # pixels; sums of more are stored before they are added up to longer ones


def gaussian_radius(sigma: Scalar) -> int:
    """Return the pixels on each side at which scipy cuts a Gaussian of `sigma` pixels, not traced.

    Raises:
        ValueError: `sigma` is traced.
    """
    if isinstance(sigma, jax.core.Tracer):
        raise ValueError(
            "a traced sigma needs a static size, for example size=9 (that is radius=4)"
        )
    return int(TRUNCATE * float(sigma) + 0.5)


def gaussian_weights(
    sigma: Scalar, radius: int, dtype: DTypeLike = jnp.float32
) -> Float[Array, " size"]:
    """Return a Gaussian kernel of sum 1, sampled at the pixel centres from -radius to radius.

    Args:
        sigma: Standard deviation in pixels, >= 0; it may be traced.
        radius: In pixels, static.
        dtype: Of the weights.
    """
    x = jnp.arange(-radius, radius + 1, dtype=dtype)
    # Dividing by a tiny sigma instead of zero leaves exp(-0) = 1 at the centre and 0 elsewhere: no
    # blur.
    weights = jnp.exp(-0.5 * (x / jnp.maximum(jnp.asarray(sigma, dtype), 1e-6)) ** 2)
    return weights / weights.sum()


def with_border(
    valid: Callable[[Array], Array],
    x: Real[Array, "*shape"],
    radii: Sequence[int],
    mode: str,
    cval: Scalar,
) -> Real[Array, "*shape"]:
    """Apply a function of the windows wholly inside as if the array had `radii` pixels of border.

    The interior is computed from the array itself and each edge from a strip, because a copy of the
    whole array with its border costs more than a small window's arithmetic. `valid` is traced once
    for the interior and once for each edge.
    """
    if any(length < _NARROW * radius for length, radius in zip(x.shape, radii, strict=True)):
        return valid(extend(x, radii, mode, cval))
    inner = valid(x)
    result = jax.lax.pad(
        inner, jnp.zeros((), inner.dtype), [(radius, radius, 0) for radius in radii]
    )
    for axis, radius in enumerate(radii):
        places, others = (
            _places(x.shape[axis], radius, mode),
            [0 if other == axis else width for other, width in enumerate(radii)],
        )
        for part, start in (
            (places[: 3 * radius], 0),
            (places[-3 * radius :], x.shape[axis] - radius),
        ):
            if radius:
                edge = valid(_join_borders(_take(x, part, axis, cval), others, mode, cval))
                result = jax.lax.dynamic_update_slice(
                    result, edge, [start if other == axis else 0 for other in range(x.ndim)]
                )
    return result


def extend(
    x: Real[Array, "..."], radii: Sequence[int], mode: str, cval: Scalar
) -> Real[Array, "..."]:
    """Add `radii` pixels of border before and behind each axis."""
    result = jax.lax.pad(x, jnp.asarray(cval, x.dtype), [(radius, radius, 0) for radius in radii])
    for axis, radius in enumerate(radii):
        if radius and mode != "constant":
            places, earlier = (
                _places(x.shape[axis], radius, mode),
                [width if other < axis else 0 for other, width in enumerate(radii)],
            )
            for part, start in ((places[:radius], 0), (places[-radius:], x.shape[axis] + radius)):
                border = _join_borders(_take(x, part, axis, cval), earlier, mode, cval)
                at = [0 if other < axis else width for other, width in enumerate(radii)]
                result = jax.lax.dynamic_update_slice(
                    result, border, [*at[:axis], start, *at[axis + 1 :]]
                )
    # Fused with what follows, the border would be decided anew for every pixel of every window.
    return jax.lax.optimization_barrier(result)


def _join_borders(x, radii, mode, cval):
    """As `extend`, for small arrays."""
    for axis, radius in enumerate(radii):
        if radius:
            places = _places(x.shape[axis], radius, mode)
            x = jnp.concatenate(
                [_take(x, places[:radius], axis, cval), x, _take(x, places[-radius:], axis, cval)],
                axis,
            )
    return x


def _places(length, radius, mode):
    """Indices of the pixels that fill an axis with its border; -1 stands for cval."""
    if mode == "constant":
        return np.pad(np.arange(length), radius, constant_values=-1)
    # NumPy handles borders wider than the image, too.
    return np.pad(np.arange(length), radius, mode=BORDER_MODES[mode])


def _take(x, places, axis, cval):
    taken = jnp.take(x, np.maximum(places, 0), axis)
    if (places >= 0).all():
        return taken
    inside = np.expand_dims(places >= 0, [other for other in range(x.ndim) if other != axis])
    return jnp.where(inside, taken, jnp.asarray(cval, x.dtype))


def correlate(
    x: Real[Array, "..."],
    weights: Sequence[int | float] | Float[Array, " size"],
    axis: int,
    dtype: DTypeLike | None = None,
) -> Real[Array, "..."]:
    """Correlate the windows wholly inside with a symmetric kernel of odd size along one axis.

    Args:
        x: Any shape.
        weights: The kernel.
        axis: From 0.
        dtype: To compute in, and of the result; the array's by default.
    """
    dtype = x.dtype if dtype is None else dtype
    radius, count = len(weights) // 2, x.shape[axis] - len(weights) + 1
    if len(weights) > _LONGEST_DIRECT:
        # A cyclic convolution is wrong in the first len(weights) - 1 pixels only.
        length = x.shape[axis]
        spectrum = jnp.expand_dims(
            jnp.fft.rfft(jnp.asarray(weights, dtype), length),
            [other for other in range(x.ndim) if other != axis],
        )
        cyclic = jnp.fft.irfft(jnp.fft.rfft(x.astype(dtype), axis=axis) * spectrum, length, axis)
        return jax.lax.slice_in_dim(cyclic, len(weights) - 1, None, axis=axis).astype(dtype)

    def shifted(start):
        # Cut before the conversion: XLA would convert the whole array in a pass of its own.
        return jax.lax.slice_in_dim(x, start, start + count, axis=axis).astype(dtype)

    pairs = (
        weights[radius + i] * (shifted(radius - i) + shifted(radius + i))
        for i in range(1, radius + 1)
    )
    return sum(pairs, weights[radius] * shifted(radius))


def window_sums(
    x: Real[Array, "..."], size: int, axis: int, dtype: DTypeLike | None = None
) -> Real[Array, "..."]:
    """Sum the windows that lie wholly inside along one axis.

    The sums are made of sums of 1, 2, 4, ... pixels, so the number of additions grows as the
    logarithm of the size.

    Args:
        x: Any shape.
        size: Of the window in pixels, >= 1.
        axis: From 0.
        dtype: To compute in, and of the result; the array's by default.
    """
    dtype = x.dtype if dtype is None else dtype
    total = jnp.zeros((), dtype)
    count, start, length = x.shape[axis] - size + 1, 0, 1
    while True:
        if size & length:
            total = total + jax.lax.slice_in_dim(x, start, start + count, axis=axis).astype(dtype)
            start += length
        if 2 * length > size:
            return total
        end = x.shape[axis] - length
        x = jax.lax.slice_in_dim(x, 0, end, axis=axis).astype(dtype) + jax.lax.slice_in_dim(
            x, length, None, axis=axis
        ).astype(dtype)
        length *= 2
        if length >= _LONGEST_SUM:
            x = stored(x, axis)


def stored(x: Num[Array, "*shape"], axis: int) -> Num[Array, "*shape"]:
    """Return the array unchanged, but computed once.

    XLA would fuse it with its uses and compute it anew for every pixel of every window. It ignores
    a barrier there, but it cannot fuse through a padding by one pixel along `axis`.
    """
    longer = jax.lax.pad(
        x, jnp.zeros((), x.dtype), [(0, int(other == axis), 0) for other in range(x.ndim)]
    )
    return jax.lax.slice_in_dim(jax.lax.optimization_barrier(longer), 0, x.shape[axis], axis=axis)


def divide_half_even(x: Integer[Array, "*shape"], divisor: int) -> Integer[Array, "*shape"]:
    """Divide integers and round to the nearest, ties to even, without leaving the dtype."""
    below = (x + (divisor - 1) // 2) // divisor  # ties are rounded down
    if divisor % 2:  # no ties
        return below
    tie = x - below * divisor == divisor // 2
    return below + jnp.where(tie, below & 1, 0).astype(x.dtype)
