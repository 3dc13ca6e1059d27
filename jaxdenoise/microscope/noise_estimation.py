"""Noise from the noisy images alone. On the device.

`estimate_noise` finds the gain and the read noise of the camera; `noise_level` the variance and the
correlation of the noise, whatever its source.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Real

from jaxdenoise.imaging.levels import Scalar, as_float
from jaxdenoise.imaging.windows import correlate

__all__ = [
    "CORRELATED",
    "NoiseEstimate",
    "checked_images",
    "estimate_noise",
    "noise_level",
    "noise_level_of",
]

# Lag-1 autocorrelation of the noise from which a blind spot of one pixel is not to be trusted.
CORRELATED = 0.12

_SIDE = 16  # pixels, the smallest frame to estimate noise from
_BINS = 32  # grey levels at which the variance is measured
_PIXELS, _WINDOWS = 2**22, 2**20  # of larger stacks an even sample is used
_MASK = np.array([1, -4, 6, -4, 1]) / math.sqrt(70)  # fourth difference, squares of sum 1
_MARGIN = 2  # pixels around the mask's window from which its grey level is measured
_RING_PIXELS = (len(_MASK) + 2 * _MARGIN) ** 2 - len(_MASK) ** 2
# Standard deviations; the second for single pixels, whose shot noise has longer tails.
_OUTLIERS = (4.0, 5.0)
_SATURATED = 0.01  # share of the pixels of a grey level
# The scene moves if the variance between frames exceeds that within a frame by more than this
# factor.
_STATIC = 1.15
# Shifts (down, right) at which the residual's autocovariance is measured: the half-plane, since a
# shift and its opposite are one.
_LAGS = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))
_COMPILED = 2**20  # pixels from which `noise_level_of` compiles a program


class NoiseEstimate(NamedTuple):
    """Noise of a camera, as `poisson_gaussian_noise` takes it.

    The variance of a pixel is ``gain * (mean - offset) + read_std^2``.

    Attributes:
        gain: float32 scalar >= 0, grey levels per photon.
        read_std: float32 scalar >= 0, standard deviation of the read noise in grey levels.
    """

    gain: Float32[Array, ""]
    read_std: Float32[Array, ""]


def estimate_noise(stack: Real[ArrayLike, "*N H W"], *, offset: Scalar = 0.0) -> NoiseEstimate:
    """Estimate the gain and the read noise of a camera from its noisy images alone.

    The images may show one static scene, a moving one or different ones, with dark and bright
    areas: a single grey level cannot tell the two noises apart. The variance is measured at grey
    levels across the images' range (`_windows` explains how), and a line is fitted to it. Outliers
    (hot pixels, cosmic rays: up to about 0.2 % of the pixels) and levels at which pixels saturate
    do not count. Mean and variance cannot tell an offset from read noise (the line's intercept is
    ``read_std^2 - gain * offset``), so the offset must be given.

    Where shot noise prevails, one frame gives the gain with a standard deviation of 3 % at
    256 x 256 pixels and of 15 % at 64 x 64; a read noise far below the shot noise of the darkest
    area is not found. The noise must be independent between pixels: in images that were smoothed,
    resized or compressed it looks weaker than it is. Without frames of a static scene, sharp and
    nearly noise-free images (a PSF of sigma < 1 pixel) give too high a gain. Clipping at black
    lowers the read noise, and that of integer images contains their rounding.

    Source: Foi et al. (2008, see `poisson_gaussian_noise`) for the model and its fit to an image.

    Args:
        stack: (N, H, W) noisy frames, or one image (H, W), at least 16 x 16 pixels, any real dtype,
            in grey levels, finite.
        offset: What the camera adds to every pixel, a scalar in grey levels. It may be traced.

    Raises:
        ValueError: `stack` has another number of dimensions, its frames are too small, it is
            constant, or `offset` is not a scalar.
    """
    stack = jnp.asarray(stack, jnp.float32)
    frames = stack[None] if stack.ndim == 2 else stack
    if frames.ndim != 3 or len(frames) == 0 or min(frames.shape[1:]) < _SIDE:
        raise ValueError(
            f"stack must be (N, H, W) or (H, W) with at least {_SIDE} x {_SIDE} pixels a frame, "
            f"got shape {stack.shape}"
        )
    if not isinstance(frames, jax.core.Tracer) and jnp.all(frames == frames[0, 0, 0]):
        raise ValueError(
            f"stack must not be constant, got {frames[0, 0, 0]} everywhere: "
            "give images as the camera took them"
        )
    if jnp.ndim(offset) != 0:
        raise ValueError(
            f"offset must be a scalar, got shape {jnp.shape(offset)}: "
            "subtract an offset that differs between pixels"
        )
    return _estimate_noise(frames, jnp.asarray(offset, jnp.float32))


@jax.jit
def _estimate_noise(frames, offset):
    centre = jnp.mean(frames)  # squares of large grey levels would lose the noise to rounding
    windows = _windows(frames - centre)
    bins = min(_BINS, max(4, windows[0].size // 32))
    count = windows[0].size // bins
    _, saturated, *windows = (
        x[-bins * count :].reshape(bins, count) for x in jax.lax.sort(windows)
    )
    means, squares = windows[::2], windows[1::2]
    usual = _usual((means[0] - jnp.median(means[0], axis=1, keepdims=True)) ** 2, _OUTLIERS[0])
    for square, deviations in zip(squares, _OUTLIERS, strict=False):
        usual &= _usual(square, deviations)
    signals = [_mean(x, usual) + centre - offset for x in means]
    counts = usual.any(axis=1) & (jnp.mean(saturated, axis=1) < _SATURATED)
    weight = jnp.where(counts.any(), counts, True).astype(frames.dtype)
    within, *between = (
        _fit_line(x, _mean(square, usual), weight)
        for x, square in zip(signals, squares, strict=True)
    )
    return _unless_moving(between[0], within, signals[0]) if between else within


def _unless_moving(between, within, signals):
    """The estimate between frames, or that within them if the former is larger.

    They are compared at the mean and at the brightest signal.
    """
    signal = jnp.stack([jnp.mean(signals), jnp.max(signals)])
    between_variance, within_variance = (x.gain * signal + x.read_std**2 for x in (between, within))
    static = jnp.all(between_variance <= _STATIC * within_variance)
    return jax.tree.map(lambda x, y: jnp.where(static, x, y), between, within)


def _windows(frames):
    """Measure the windows of a stack: arrays (M,), one value a window.

    They are the brightness around each window, whether its centre is saturated, and one or two
    pairs of a mean and the squared residual there. Structure and motion only ever add to what
    counts as noise, so the residuals hold little of either. The first one is a fourth difference
    within a frame, or within the difference of consecutive frames. The second one, if there are
    several frames, is the plain difference of consecutive frames; it counts only where the first
    one agrees that the scene is static. Windows are grouped by the brightness around them, whose
    noise is independent: grouped by their own mean, the dark ones would be those that noise made
    dark.

    Source: Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64
        (1996), for the residuals within a frame (there of second differences); Janesick, "Photon
        transfer", SPIE Press (2007), for those between frames; Wald, "The fitting of straight lines
        if both variables are subject to error", Annals of Mathematical Statistics 11 (1940), for
        the groups.
    """
    step = -(-frames.size // _PIXELS)
    mean = residual = peak = frames
    if len(frames) > 1:
        first, second = frames[:-1:step], frames[1::step]
        mean, residual, peak = (
            (first + second) / 2,
            (second - first) / math.sqrt(2),
            jnp.maximum(first, second),
        )
    # Without the compression a few hot pixels would decide which windows are the bright ones.
    brightness = _ring(jnp.arcsinh(mean / jnp.maximum(jnp.mean(jnp.abs(mean)), 1e-30)))
    saturated = (_centre(peak) >= jnp.max(frames)).astype(frames.dtype)
    # Weighted by the mask's squares, a window's mean is the grey level that the variance of its
    # residual belongs to.
    windows = [brightness, saturated, _inside(mean, _MASK**2), _inside(residual, _MASK) ** 2]
    if len(frames) > 1:
        change = _ring(residual)  # the change of the brightness, as by bleaching
        windows += [_centre(mean), (_centre(residual) - change) ** 2 / (1 + 1 / _RING_PIXELS)]
    stride = math.ceil(math.sqrt(brightness.size / _WINDOWS))
    return [x[:, ::stride, ::stride].ravel() for x in windows]


def _centre(images):
    radius = _MARGIN + len(_MASK) // 2
    return images[:, radius:-radius, radius:-radius]


def _ring(images):
    return (
        _weighted(images, np.ones(len(_MASK) + 2 * _MARGIN)) - _inside(images, np.ones(len(_MASK)))
    ) / _RING_PIXELS


def _inside(images, weights):
    return _weighted(images, weights)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _weighted(images, weights):
    return correlate(correlate(images, weights.tolist(), 1), weights.tolist(), 2)


def _usual(squares, deviations):
    """Tell which squares are no outliers in their bin, a row."""

    def fewer(_, usual):
        return squares <= deviations**2 * _mean(squares, usual)[:, None]

    # It begins with all squares: where photons are rare they would be outliers of the rest.
    return jax.lax.fori_loop(0, 10, fewer, jnp.ones_like(squares, dtype=bool))


def _mean(values, weights):
    return jnp.sum(weights * values, axis=-1) / jnp.maximum(jnp.sum(weights, axis=-1), 1e-30)


def _fit_line(signal, variance, weight):
    """The line ``variance = gain * signal + read_std^2`` with both coefficients >= 0."""
    scale = jnp.maximum(jnp.mean(variance), 1e-30)
    fitted = jnp.ones_like(variance)
    for _ in range(5):
        # The error of a mean of squares is proportional to its true value, so the next fit is
        # weighted by the inverse square of that.
        gain, read_variance = _line(signal, variance / scale, weight / fitted**2)
        fitted = jnp.maximum(gain * signal + read_variance, 0.01)
    return NoiseEstimate(scale * gain, jnp.sqrt(scale * read_variance))


def _line(x, y, weight):
    """Slope >= 0 and intercept >= 0 of weighted least squares."""
    x_mean, y_mean = _mean(x, weight), _mean(y, weight)
    slope = _mean((x - x_mean) * (y - y_mean), weight) / jnp.maximum(
        _mean((x - x_mean) ** 2, weight), 1e-30
    )
    below = y_mean < slope * x_mean
    slope = jnp.where(
        below, _mean(x * y, weight) / jnp.maximum(_mean(x**2, weight), 1e-30), slope
    )  # through the origin
    slope = jnp.maximum(slope, 0)
    return slope, jnp.where(below & (slope > 0), 0, jnp.maximum(y_mean - slope * x_mean, 0))


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
    if np.size(image) > _COMPILED:
        variance, correlation = _compiled_noise_level(image)
        return float(variance), float(correlation)
    image = np.asarray(image)
    _check_sides("noise_level", image.shape)
    measured = _autocovariances(image.astype(np.result_type(image.dtype, np.float32), copy=False))
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
