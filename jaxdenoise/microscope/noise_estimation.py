"""The gain and the read noise of a camera, from its noisy images alone.

On the device, or on the host, where small images of many sizes compile no program each. The same
functions do both: they use JAX for JAX arrays and NumPy for NumPy arrays.
"""

import math
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, Real

from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.microscope.noise_level import COMPILED

__all__ = ["NoiseEstimate", "estimate_noise", "estimate_noise_of"]

_SIDE = 16  # pixels, the smallest frame to estimate noise from
_BINS = 32  # grey levels at which the variance is measured
_PIXELS, _WINDOWS = 2**22, 2**20  # of larger stacks an even sample is used
_MASK = np.array([1, -4, 6, -4, 1]) / math.sqrt(70)  # fourth difference, squares of sum 1
_MARGIN = 2  # pixels around the mask's window from which its grey level is measured
_RING_PIXELS = (len(_MASK) + 2 * _MARGIN) ** 2 - len(_MASK) ** 2
# Standard deviations; the second for single pixels, whose shot noise has longer tails.
_OUTLIERS = (4.0, 5.0)
_ROUNDS = 10  # of leaving outliers out
_SATURATED = 0.01  # share of the pixels of a grey level
# The scene moves if the variance between frames exceeds that within a frame by more than this
# factor.
_STATIC = 1.15


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
    frames = _checked(jnp.asarray(stack, jnp.float32), offset)
    return _compiled(frames, jnp.asarray(offset, jnp.float32))


def estimate_noise_of(
    stack: Real[ArrayLike, "*N H W"], *, offset: Scalar = 0.0
) -> tuple[float, float]:
    """Return the gain and the read noise of `estimate_noise`. Host side.

    Small images are measured by NumPy, so that many sizes compile no program each. Arguments and
    errors are those of `estimate_noise`.
    """
    if np.size(stack) > COMPILED:
        found = estimate_noise(stack, offset=offset)
    else:
        frames = _checked(np.asarray(stack, np.float32), offset)
        with np.errstate(over="ignore", invalid="ignore"):  # as on the device
            found = _estimate(frames, np.float32(offset), np)
    return float(found.gain), float(found.read_std)


def _checked(stack, offset):
    """The frames (N, H, W) of a stack."""
    frames = stack[None] if stack.ndim == 2 else stack
    if frames.ndim != 3 or len(frames) == 0 or min(frames.shape[1:]) < _SIDE:
        raise ValueError(
            f"stack must be (N, H, W) or (H, W) with at least {_SIDE} x {_SIDE} pixels a frame, "
            f"got shape {stack.shape}"
        )
    if not isinstance(frames, jax.core.Tracer) and (frames == frames[0, 0, 0]).all():
        raise ValueError(
            f"stack must not be constant, got {frames[0, 0, 0]} everywhere: "
            "give images as the camera took them"
        )
    if jnp.ndim(offset) != 0:
        raise ValueError(
            f"offset must be a scalar, got shape {jnp.shape(offset)}: "
            "subtract an offset that differs between pixels"
        )
    return frames


@jax.jit
def _compiled(frames, offset):
    return _estimate(frames, offset, jnp)


def _estimate(frames, offset, xp):
    """The estimate by ``xp``, JAX's or NumPy's functions."""
    centre = xp.mean(frames)  # squares of large grey levels would lose the noise to rounding
    windows = _windows(frames - centre, xp)
    bins = min(_BINS, max(4, windows[0].size // 32))
    count = windows[0].size // bins
    _, saturated, *windows = (
        x[-bins * count :].reshape(bins, count) for x in _by_brightness(windows, xp)
    )
    means, squares = windows[::2], windows[1::2]
    usual = _usual((means[0] - xp.median(means[0], axis=1, keepdims=True)) ** 2, _OUTLIERS[0], xp)
    for square, deviations in zip(squares, _OUTLIERS, strict=False):
        usual &= _usual(square, deviations, xp)
    signals = [_mean(x, usual, xp) + centre - offset for x in means]
    counts = usual.any(axis=1) & (xp.mean(saturated, axis=1) < _SATURATED)
    weight = xp.where(counts.any(), counts, True).astype(frames.dtype)
    within, *between = (
        _fit_line(x, _mean(square, usual, xp), weight, xp)
        for x, square in zip(signals, squares, strict=True)
    )
    return _unless_moving(between[0], within, signals[0], xp) if between else within


def _by_brightness(windows, xp):
    """The windows in the order of the first array."""
    if xp is jnp:
        return jax.lax.sort(windows)
    order = np.argsort(windows[0], kind="stable")
    return [x[order] for x in windows]


def _unless_moving(between, within, signals, xp):
    """The estimate between frames, or that within them if the former is larger.

    They are compared at the mean and at the brightest signal.
    """
    signal = xp.stack([xp.mean(signals), xp.max(signals)])
    between_variance, within_variance = (x.gain * signal + x.read_std**2 for x in (between, within))
    static = xp.all(between_variance <= _STATIC * within_variance)
    return NoiseEstimate(*(xp.where(static, x, y) for x, y in zip(between, within, strict=True)))


def _windows(frames, xp):
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
            xp.maximum(first, second),
        )
    # Without the compression a few hot pixels would decide which windows are the bright ones.
    brightness = _ring(xp.arcsinh(mean / xp.maximum(xp.mean(xp.abs(mean)), 1e-30)))
    saturated = (_centre(peak) >= xp.max(frames)).astype(frames.dtype)
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
    """Correlate the windows wholly inside with symmetric weights along y and x."""
    for axis in (1, 2):
        images = _along(images, weights.tolist(), axis)
    return images


def _along(images, weights, axis):
    radius, count = len(weights) // 2, images.shape[axis] - len(weights) + 1

    def shifted(start):
        rows = slice(start, start + count)
        return images[:, rows] if axis == 1 else images[:, :, rows]

    pairs = (
        weights[radius + i] * (shifted(radius - i) + shifted(radius + i))
        for i in range(1, radius + 1)
    )
    return sum(pairs, weights[radius] * shifted(radius))


def _usual(squares, deviations, xp):
    """Tell which squares are no outliers in their bin, a row."""

    def fewer(_, usual):
        return squares <= deviations**2 * _mean(squares, usual, xp)[:, None]

    # It begins with all squares: where photons are rare they would be outliers of the rest.
    usual = xp.ones_like(squares, dtype=bool)
    if xp is jnp:
        return jax.lax.fori_loop(0, _ROUNDS, fewer, usual)
    return reduce(lambda usual, number: fewer(number, usual), range(_ROUNDS), usual)


def _mean(values, weights, xp):
    return xp.sum(weights * values, axis=-1) / xp.maximum(xp.sum(weights, axis=-1), 1e-30)


def _fit_line(signal, variance, weight, xp):
    """The line ``variance = gain * signal + read_std^2`` with both coefficients >= 0."""
    scale = xp.maximum(xp.mean(variance), 1e-30)
    fitted = xp.ones_like(variance)
    for _ in range(5):
        # The error of a mean of squares is proportional to its true value, so the next fit is
        # weighted by the inverse square of that.
        gain, read_variance = _line(signal, variance / scale, weight / fitted**2, xp)
        fitted = xp.maximum(gain * signal + read_variance, 0.01)
    return NoiseEstimate(scale * gain, xp.sqrt(scale * read_variance))


def _line(x, y, weight, xp):
    """Slope >= 0 and intercept >= 0 of weighted least squares."""
    x_mean, y_mean = _mean(x, weight, xp), _mean(y, weight, xp)
    slope = _mean((x - x_mean) * (y - y_mean), weight, xp) / xp.maximum(
        _mean((x - x_mean) ** 2, weight, xp), 1e-30
    )
    below = y_mean < slope * x_mean
    slope = xp.where(
        below, _mean(x * y, weight, xp) / xp.maximum(_mean(x**2, weight, xp), 1e-30), slope
    )  # through the origin
    slope = xp.maximum(slope, 0)
    return slope, xp.where(below & (slope > 0), 0, xp.maximum(y_mean - slope * x_mean, 0))
