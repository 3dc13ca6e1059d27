"""How strong the noise is, and whether neighbouring pixels share it, from noisy images alone.

On the device, or on the host, where small images of many sizes compile no program each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import as_float

__all__ = ["CORRELATED", "checked_images", "noise_level", "noise_level_of"]

# Lag-1 autocorrelation of the noise from which a blind spot of one pixel is not to be trusted.
CORRELATED = 0.12

# Shifts (down, right) at which the residual's autocovariance is measured: the half-plane, since a
# shift and its opposite are one.
_LAGS = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))
COMPILED = 2**20  # pixels from which a program is compiled for a size


def noise_level(
    image: Real[ArrayLike, "*batch H W"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Measure the variance and the lag-1 autocorrelation of the noise.

    They are those of detail that is too fine for the optics to have transmitted it.
    Residuals of second differences along y and x hold the noise and nearly no structure. Their
    autocovariances are weighted sums of the noise's, which are solved for under the assumption that
    only direct neighbours are correlated.

    Source: Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64
        (1996), for the residual.

    Args:
        image: (..., H, W), any real dtype, in grey levels; H and W at least 5 pixels.

    Returns:
        Variance in grey levels squared (the mean over the image where it depends on the signal),
        and the lag-1 autocorrelation, the larger of that along y and that along x.

    Raises:
        ValueError: The image is too small.
    """
    measured = jnp.stack(_autocovariances(checked_images("noise_level", image)))
    variance, along_y, along_x = jnp.asarray(_SOLUTION, measured.dtype) @ measured
    return variance, jnp.maximum(along_y, along_x) / jnp.where(variance > 0, variance, 1)


def noise_level_of(image: Real[ArrayLike, "*batch H W"]) -> tuple[float, float]:
    """Return what `noise_level` does. Host side.

    Small images are measured by NumPy, so that many sizes compile no program each.

    Args:
        image: as of `noise_level`.

    Raises:
        ValueError: as `noise_level`.
    """
    if np.size(image) > COMPILED:
        variance, correlation = _compiled_noise_level(image)
        return float(variance), float(correlation)
    image = np.asarray(image)
    _check_sides("noise_level", image.shape)
    levels = image.astype(np.result_type(image.dtype, np.float32), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # as on the device
        measured = _autocovariances(levels)
    variance, along_y, along_x = map(float, _SOLUTION @ np.array(measured, np.float64))
    return variance, max(along_y, along_x) / (variance if variance > 0 else 1.0)


_compiled_noise_level = jax.jit(noise_level)


def _autocovariances(image):
    """Of the residual, at `_LAGS`; of a NumPy array by NumPy, of a JAX array by JAX."""
    for rows in (True, False):
        first, middle, last = (
            image[..., start : image.shape[-2] - 2 + start, :]
            if rows
            else image[..., start : image.shape[-1] - 2 + start]
            for start in range(3)
        )
        image = -2 * middle + (first + last)
    return [_autocovariance(image, *lag) for lag in _LAGS]


def _autocovariance(residual, down, right):
    height, width = residual.shape[-2:]
    left, right = max(-right, 0), max(right, 0)
    return (
        residual[..., down:, right : width - left]
        * residual[..., : height - down, left : width - right]
    ).mean()


def _autocovariance_solution():
    """Weights that turn the residual's autocovariances at `_LAGS` into the noise's.

    The three rows give the variance, lag 1 along y, and lag 1 along x. They are plain least
    squares: the weights that are best for white noise lean on the shifts at which sharp structure
    shows most.
    """
    once = np.convolve([1, -2, 1], [1, -2, 1])  # a second difference's autocorrelation

    def response(down, right):
        return once[down + 2] * once[right + 2] if max(abs(down), abs(right)) <= 2 else 0

    model = [
        (
            response(a, b),
            response(a - 1, b) + response(a + 1, b),
            response(a, b - 1) + response(a, b + 1),
        )
        for a, b in _LAGS
    ]
    return np.linalg.pinv(np.array(model, float))


_SOLUTION = _autocovariance_solution()


def checked_images(name: str, image: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return images (..., H, W) of at least 5 x 5 pixels as floats to compute with.

    Raises:
        ValueError: The image is too small; the message begins with `name`.
    """
    image = jnp.asarray(image)
    _check_sides(name, image.shape)
    return as_float(image)


def _check_sides(name, shape):
    if len(shape) < 2 or min(shape[-2:]) < 5 or 0 in shape:
        raise ValueError(
            f"{name}: expected images (..., H, W) of at least 5 x 5 pixels, got shape {shape}"
        )
