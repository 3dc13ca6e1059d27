"""Frames of a movie moved onto each other, and where they then still differ.

`drift` measures by how much. A frame is never moved itself: what its neighbours show is moved into
its position, for the whole frame (`shift_image`) or for a part of it (`shifted_patch`).
"""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.levels import Scalar, as_float

Shift: TypeAlias = Real[Array, "2"] | Real[np.ndarray, "2"] | tuple[float, float]
Corner: TypeAlias = Int[Array, "2"] | Int[np.ndarray, "2"] | tuple[int, int]

_BEFORE, _AFTER = 2, 3  # pixels beside the pixel left of a place that its value is computed from
# Standard errors of a mean of differences, or of their squares, that are taken for noise. Of pixels
# of white noise, 1.9 % then get a weight below 0.9 and 0.5 % one below 0.7; the mean is 0.995.
_NOISE = 2.5


def shift_image(image: Real[ArrayLike, "H W"], shift: Shift) -> Float[Array, "H W"]:
    """Move an image's content by a fraction of pixels, with a reflected border.

    As ``scipy.ndimage.shift`` does, with an interpolation that needs no filter before it: six
    pixels along each axis, by polynomials of degree 3, so that the error falls with the fourth
    power of the pixel's size. A noise-free edge overshoots by at most 1.2 % of its height if a PSF
    of a sigma of 0.5 pixels or more has blurred it, and by 9.2 % if it is a step. Whole numbers of
    pixels move the grey levels unchanged; a shift of zero returns them bit for bit. Interpolation
    averages noise: half a pixel along both axes leaves 0.7 of its standard deviation.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP
        29 (1981), section V, for the kernel.

    Args:
        image: (H, W), any real dtype, any unit, finite (`gaps.fill` fills what is not).
        shift: (y, x) in pixels, positive ones move the content down and to the right; it may be
            traced, and the result can be differentiated by it.

    Returns:
        (H, W), float. What comes from outside is reflected; `valid_after_shift` tells where.
    """
    image = as_float(image)
    if image.ndim != 2:
        raise ValueError(f"shift_image needs an image (H, W), got {image.shape}")
    height, width = image.shape
    return shifted_patch(image, (0, 0), (height, width), shift)


def shifted_patch(
    image: Real[ArrayLike, "H W"],
    corner: Corner,
    size: int | tuple[int, int],
    shift: Shift,
) -> Float[Array, "h w"]:
    """Cut a patch out of an image whose content is moved, without moving all of it.

    It is the same part of `shift_image`, to the bit.

    Args:
        image: (H, W), any real dtype, any unit, finite.
        corner: (y, x) of the patch's first pixel, whole numbers; may be traced. Parts outside the
            image are reflected.
        size: Of the patch in pixels, one number or (h, w), static.
        shift: (y, x) in pixels, as in `shift_image`; may be traced.

    Returns:
        (h, w), float.
    """
    image = as_float(image)
    height, width = (size, size) if isinstance(size, int) else size
    (rows, down), (columns, right) = (
        _places(jnp.asarray(corner)[axis], length, _axis_shift(shift, axis, image.dtype), total)
        for axis, (length, total) in enumerate(zip((height, width), image.shape, strict=True))
    )
    patch = image[rows[:, None], columns[None, :]]
    taps = range(_BEFORE + _AFTER + 1)
    patch = sum(down[n] * patch[n : n + height] for n in taps)
    return sum(right[n] * patch[:, n : n + width] for n in taps)


def valid_after_shift(
    shape: tuple[int, int],
    shift: Shift,
    *,
    corner: Corner = (0, 0),
    size: int | tuple[int, int] | None = None,
) -> Bool[Array, "h w"]:
    """Tell where a moved image shows what was inside it before, not its reflected border.

    Args:
        shape: (H, W) of the image, static.
        shift: (y, x) in pixels; may be traced.
        corner: Of the patch, as in `shifted_patch`.
        size: Of the patch, static; None for the whole image.

    Returns:
        (h, w), True where the pixel lies between those of the image.
    """
    height, width = shape if size is None else (size, size) if isinstance(size, int) else size
    inside = []
    for axis, length in enumerate((height, width)):
        place = jnp.asarray(corner)[axis] + jnp.arange(length) - _axis_shift(shift, axis)
        inside.append((place >= 0) & (place <= shape[axis] - 1))
    return inside[0][:, None] & inside[1][None, :]


def local_agreement(
    frame: Real[ArrayLike, "H W"],
    neighbour: Real[ArrayLike, "H W"],
    noise_std: Scalar | Float[Array, "H W"] | Float[np.ndarray, "H W"],
    *,
    sigma: float = 1.5,
) -> Float[Array, "H W"]:
    """Weigh a neighbour by how far it shows the same as the frame, beyond noise.

    The mean difference and the mean squared difference around each pixel are compared with what
    noise makes of them. Their excess estimates the squared difference d^2 of the signals, and the
    weight is s^2 / (s^2 + d^2) with the noise's variance s^2: by so much less counts a neighbour
    that is off by d, if both are averaged with the least squared error. Where the two differ by
    noise only it is 1, for all but a few per cent of the pixels. The noise is taken to be
    independent from pixel to pixel; if it is not, or if `noise_std` is too low, neighbours count
    less than they could.

    Args:
        frame: (H, W), any real dtype, in grey levels, finite.
        neighbour: (H, W), moved into the frame's position and as bright as the frame.
        noise_std: Of a pixel of one frame in grey levels, > 0, a scalar or (H, W).
        sigma: Of the Gaussian mean around each pixel, in pixels, static.

    Returns:
        (H, W), float from 0 to 1. Where a difference is larger than any noise it is near 0.
    """
    frame, neighbour = as_float(frame), as_float(neighbour)
    variance = jnp.broadcast_to(jnp.asarray(noise_std, frame.dtype), frame.shape) ** 2
    difference = frame - neighbour
    expected = gaussian_filter(2 * variance, sigma)
    pixels = 4 * np.pi * sigma**2  # independent ones that the mean is made of
    threshold = _NOISE * np.sqrt(2 / pixels)
    squares = gaussian_filter(difference**2, sigma) - expected * (1 + threshold)
    mean = gaussian_filter(difference, sigma) ** 2 - expected * _NOISE**2 / pixels
    excess = jnp.maximum(jnp.maximum(squares, mean), 0)
    return expected / (expected + 2 * excess)


def _axis_shift(shift, axis, dtype=jnp.float32):
    return jnp.asarray(shift, dtype)[axis]


def _places(corner, length, shift, total):
    """Indices (length + 5,) of the pixels that are needed along one axis, and their six weights."""
    whole = jnp.floor(-shift)
    indices = corner + jnp.arange(-_BEFORE, length + _AFTER) + whole.astype(jnp.int32)
    indices = indices % (2 * total)
    return jnp.where(indices < total, indices, 2 * total - 1 - indices), _weights(-shift - whole)


def _weights(t):
    """Weights of six pixels for a place `t` from 0 to 1 behind the third of them.

    Each polynomial is written with its zeros as factors, so that whole pixels are exact.
    """

    def side(t, u):
        return (
            t * u**2 / 12,
            -7 / 12 * t * u * (8 / 7 - t),
            u * (1 + t - 4 / 3 * t**2),
        )

    u = 1 - t
    return (*side(t, u), *side(u, t)[::-1])
