"""Whether frames show one still scene, beyond what their noise explains. Host side.

The frames are compared with their mean. What is left of each must be noise: it must not be shared
further than noise is, not last from frame to frame, and not gather anywhere in the image. Each
question allows for noise that neighbours share and that depends on brightness; none for contrast.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.windows import correlate
from jaxdenoise.targets.changes import TILE, tile_means, what_changes, without_lines

# Sigma in pixels of the Gaussian filter that removes most of the noise.
BLUR = 2.0
_BINS = 16  # levels of brightness at which the noise is measured
# The variance of a pixel's noise is at least this fraction of the mean variance.
_LEAST_VARIANCE = 0.01
# Noise is shared up to the lag at which its autocorrelation has fallen below this; what is shared
# further is change. At most this many pixels (wide-field captures of FMD: 7).
_SHARED, _FURTHEST, _LAGS = 0.05, 8, 4
# The correlation without noise is lower than 1 by at most the first and two standard errors; and,
# lest weak signals tell nothing, by at most the second less a standard error.
_LACKING, _DOUBT = 0.02, 0.1
# Where noise is shared, the scene must reach further: what is left of its correlation there, over
# that to the next pixel. Else noise cannot be told from change of fine structure.
_LEAST_REACH = 0.15
# Frames are shifted by at most this many pixels.
_MOST_SHIFT = 0.3
# The noise is measured between these quantiles of the brightness, and without this share of the
# largest differences. What may move is less than that, and than half of the smallest part.
_LARGEST = 0.01
_BRIGHTNESSES = (0.0, 0.25, 0.5, 0.7, 0.85, 0.93, 0.97, 0.985, 1.0)
_EVERY = 2  # pixels between those that count for it


class Reference(NamedTuple):
    """What the frames are compared with.

    Attributes:
        mean: (H, W), of the frames.
        level: (H, W), the mean, blurred.
        slopes: (2, H, W), of the mean along y and x, in grey levels a pixel.
        inside: (H, W) bool, valid in all frames.
        weight: (H, W) float32, 1 where no invalid pixel is near.
    """

    mean: jax.Array
    level: jax.Array
    slopes: jax.Array
    inside: jax.Array
    weight: jax.Array


class Stillness(NamedTuple):
    """Evidence on whether frames show one scene.

    Attributes:
        still: they do.
        moved: some are shifted.
        correlation: of two frames after allowing for noise.
        error: its standard error.
        why: what speaks against it, in words; "" if nothing does.
        fits: (N, 4) float32, of each frame: gain and offset that make the mean as bright as the
            frame, and the shift along y and x in pixels.
        reference: `Reference`.
        variance: (H, W), of the noise in the mean frame, up to a factor.
        levels: (N,), the noise variance of each frame over the mean one's.
    """

    still: bool
    moved: bool
    correlation: float
    error: float
    why: str
    fits: np.ndarray
    reference: Reference
    variance: jax.Array
    levels: np.ndarray


def measure_stillness(
    frames: Float[Array, "N H W"],
    members: Sequence[int],
    valid: Bool[Array, "N H W"] | None = None,
) -> Stillness:
    """Measure whether some frames of a stack show one still scene. Host side.

    Memory does not grow with the number of frames.

    Args:
        frames: (N, H, W) float32 in grey levels, at least 32 pixels a side.
        members: the numbers of the frames to compare, at least two, in order.
        valid: pixels that hold data; default: all.
    """
    reference = _reference(frames, members, valid)
    fitted = [_fit(frames[n], reference) for n in members]
    fits = np.array(jax.device_get(fitted), np.float32)
    fine, lags, roughness = 0.0, 0.0, []
    for n, fit in zip(members, fits, strict=True):
        found = _spectrum(frames[n], fit, reference)
        fine, lags = fine + found[0], lags + found[1]
        roughness.append(found[2])
    count = len(members)
    levels = np.array(jax.device_get(roughness), np.float32) ** 2
    levels /= max(levels.mean(), 1e-30)
    variance = _noise_variance(fine / (count - 1), reference)
    correlation, error, why = _correlation(lags / (count - 1), count, reference)
    moved, unsteady = _moved(fits, lags / (count - 1), reference)
    why = why or unsteady
    if not why:
        each = zip(members, fits, levels, strict=True)
        left = (_residual(frames[n], fit, reference, level * variance) for n, fit, level in each)
        why = what_changes(left, count, np.asarray(reference.weight))
    return Stillness(not why, moved, correlation, error, why, fits, reference, variance, levels)


def residual(
    frame: Float[Array, "H W"],
    fit: Float[Array, " 4"] | Float[np.ndarray, " 4"],
    reference: Reference,
    variance: Float[Array, "H W"],
) -> Float[Array, "H W"]:
    """The frame less the reference in standard deviations of the pixels' noise, (H, W). On device.

    Args:
        frame: (H, W).
        fit: (4,), of `Stillness.fits`.
        reference: `Reference`.
        variance: (H, W), of the frame's noise.
    """
    return _left(frame, fit, reference) / jnp.sqrt(variance)


_residual = jax.jit(residual)


def _reference(frames, members, valid):
    total, inside = jnp.zeros(frames.shape[1:]), jnp.ones(frames.shape[1:], bool)
    for n in members:
        total = total + frames[n]
        inside = inside if valid is None else inside & valid[n]
    return _reference_of(total / len(members), inside)


@jax.jit
def _reference_of(mean, inside):
    mean = jnp.where(inside, mean, jnp.mean(mean, where=inside))
    slopes = jnp.stack(jnp.gradient(gaussian_filter(mean, (1.0, 1.0))))
    weight = gaussian_filter(inside.astype(jnp.float32), (BLUR, BLUR)) > 0.99
    level = gaussian_filter(mean, (BLUR, BLUR))
    return Reference(mean, level, slopes, inside, weight.astype(jnp.float32))


@jax.jit
def _fit(frame, reference):
    level = gaussian_filter(jnp.where(reference.inside, frame, reference.mean), (BLUR, BLUR))
    shapes = jnp.stack([reference.level, *jnp.gradient(reference.level)])
    weight = reference.weight / jnp.maximum(reference.weight.sum(), 1)
    centre = jnp.sum(weight * shapes, axis=(1, 2))
    level_mean = jnp.sum(weight * level)
    shapes = (shapes - centre[:, None, None]).reshape(3, -1)
    products = (weight.ravel() * shapes) @ shapes.T
    products += 1e-6 * jnp.diag(jnp.diag(products)) + 1e-30 * jnp.eye(3)
    found = jnp.linalg.solve(products, (weight.ravel() * shapes) @ (level - level_mean).ravel())
    # Of a frame moved by +s along an axis the slope's coefficient is -s.
    return jnp.stack([found[0], level_mean - found @ centre, -found[1], -found[2]])


def _left(frame, fit, reference):
    expected = fit[0] * reference.mean + fit[1]
    expected -= fit[2] * reference.slopes[0] + fit[3] * reference.slopes[1]
    return jnp.where(reference.inside, frame - expected, 0)


def _finest(image):
    return correlate(correlate(image, (1, -2, 1), 0), (1, -2, 1), 1) / 6


@jax.jit
def _spectrum(frame, fit, reference):
    """Squares of the finest detail, lagged products in tiles, and the roughness of what is left."""
    left = _left(frame, fit, reference)
    finest = _finest(left)
    return finest**2, _lagged(without_lines(left), reference.weight), jnp.mean(jnp.abs(finest))


def _lagged(image, weight):
    """Mean products of pixels 0 to `_FURTHEST` + `_LAGS` apart along y and x, a value a tile."""
    image = image * weight
    found = []
    for lag in range(_FURTHEST + _LAGS):
        height, width = image.shape
        found.append(tile_means(image[lag:] * image[: height - lag], TILE))
        found.append(tile_means(image[:, lag:] * image[:, : width - lag], TILE))
    least = min(x.size for x in found)
    # The last tile of an axis loses pixels to the lag, and with it the whole tile.
    return jnp.stack([x.ravel()[:least] for x in found]).reshape(-1, 2, least)


def usual_squares(squares: Float[Array, "H W"], reference: Reference) -> Float[Array, "H W"]:
    """Return the squared difference that noise makes at each pixel, be it shared or not.

    It is measured by the median at several brightnesses: dark pixels that were clipped to black
    hardly differ, and tell nothing of the bright ones. The median of rare photons is 0, so it is at
    least the mean of all but the largest.
    """
    level, some = (x[::_EVERY, ::_EVERY] for x in (reference.level, squares))
    inside = reference.inside[::_EVERY, ::_EVERY]
    edges = jnp.nanquantile(jnp.where(inside, level, jnp.nan), jnp.array(_BRIGHTNESSES))

    def median(low, high):
        chosen = inside & (level >= low) & (level <= high)
        return (jnp.nanmedian(jnp.where(chosen, x, jnp.nan)) for x in (level, some))

    levels, medians = zip(*(median(*pair) for pair in pairwise(edges)), strict=True)
    # The median of a squared normal variable is 0.455.
    usual = jnp.interp(reference.level, jnp.stack(levels), jnp.stack(medians)) / 0.455
    largest = jnp.nanquantile(some, 1 - _LARGEST)
    least = jnp.nanmean(jnp.where(some <= largest, some, jnp.nan))
    return jnp.maximum(usual, jnp.maximum(least, 1e-30))


def _noise_variance(fine, reference):
    """The variance of the noise, a function of brightness, from the finest detail."""
    level, fine = np.asarray(reference.level)[1:-1, 1:-1], np.asarray(fine)
    chosen = np.asarray(reference.weight)[1:-1, 1:-1] > 0
    level, fine = level[chosen], fine[chosen]
    order = np.argsort(level, kind="stable")
    places, values = [], []
    for part in np.array_split(order, _BINS):
        usual = squares = fine[part]
        for _ in range(3):  # without hot pixels
            usual = squares[squares <= 8 * max(usual.mean(), 1e-30)] if usual.size else squares
        places.append(level[part].mean())
        values.append(usual.mean() if usual.size else 0.0)
    least = _LEAST_VARIANCE * np.mean(values) + 1e-30
    return jnp.asarray(
        np.maximum(np.interp(np.asarray(reference.level), places, values), least), jnp.float32
    )


def _correlation(lags, count, reference):
    """The correlation without noise, its standard error, and what speaks against one scene."""
    lags = np.asarray(lags, np.float64)  # (lag, axis, tile)
    shared = np.asarray(_lagged_mean(reference), np.float64)
    power = lags[0].mean()
    if not power > 0:
        return 1.0, 0.0, "the frames are copies"
    far = lags.mean(axis=2).max(axis=1) / power
    within = np.flatnonzero(far[1 : _FURTHEST + 1] < _SHARED)
    if not within.size:
        return 0.0, 1.0, "what differs is wider than noise"
    first = 1 + int(within[0])
    lags = lags + _taken(lags, reference)[None, :, None]
    changes = lags[first : first + _LAGS].mean(axis=(0, 1))
    signal = shared[first : first + _LAGS].mean()
    near = shared[1].mean() - lags[1].mean() / count
    if first > 1 and signal < _LEAST_REACH * near:
        return 0.0, 1.0, "the scene is as fine as the noise"
    changing, spread = changes.mean(), changes.std() / np.sqrt(changes.size)
    total = signal + max(changing, 0)
    if not total > spread:
        return 0.0, 1.0, "there is too little signal to tell"
    correlation, error = 1 - changing / total, spread / total
    if changing > 0 and 1 - correlation > _LACKING + 2 * error:
        return correlation, error, "the scenes differ"
    if not signal > 5 * spread or 1 - correlation + error > _DOUBT:
        return correlation, error, "there is too little signal to tell"
    return correlation, error, ""


def _taken(lags, reference):
    """What `_without_lines` takes from the products along each axis: those of a line's mean."""
    means = lags.mean(axis=2)
    return (means[0] + 2 * means[1:5].clip(0).sum(axis=0)) / np.array(reference.mean.shape)


@jax.jit
def _lagged_mean(reference):
    centre = jnp.sum(reference.mean * reference.weight) / jnp.maximum(reference.weight.sum(), 1)
    return _lagged(reference.mean - centre, reference.weight)


def _moved(fits, lags, reference):
    """Whether the frames are shifted, and in words what speaks against one scene."""
    shifts = fits[:, 2:] / np.maximum(fits[:, :1], 1e-3)
    slopes = np.stack(np.gradient(np.asarray(reference.level)))
    weight = np.asarray(reference.weight)
    slopes = (slopes * weight).reshape(2, -1).astype(np.float64)
    # Slopes are smooth: their error has the noise of low frequencies, the sum over all lags.
    means = np.asarray(lags, np.float64).mean(axis=2)
    density = np.prod([x[0] + 2 * np.maximum(x[1:5], 0).sum() for x in means.T]) / means[0].mean()
    products = slopes @ slopes.T
    # The slopes of noise of this density, blurred, have a variance of 1 / (8 pi sigma^4) of it.
    by_noise = weight.sum() * density / (8 * np.pi * BLUR**4) / len(shifts)
    if np.linalg.eigvalsh(products)[0] < 1.5 * by_noise:
        return False, "there is too little signal to tell"
    error = np.sqrt(density * np.linalg.inv(products - by_noise * np.eye(2)).trace() / 2)
    parts = np.array([x.mean(axis=0) for x in np.array_split(shifts, min(len(shifts), 4))])
    apart = np.linalg.norm(np.ptp(parts, axis=0))
    part_error = error / np.sqrt(len(shifts) / len(parts))
    if part_error > 2 * _MOST_SHIFT:
        return False, "there is too little signal to tell"
    if apart > _MOST_SHIFT + 3 * part_error:
        return True, f"the scene moves by {apart:.1f} pixels"
    jitter = np.sqrt(max(shifts.var(axis=0).max() - error**2, 0))
    if jitter > _MOST_SHIFT / 2 and jitter > 2 * error:
        return True, f"the scene moves by {jitter:.1f} pixels"
    return False, ""
