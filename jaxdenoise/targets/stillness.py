"""Whether frames show one still scene, beyond what their noise explains. Host side.

The frames are compared with their mean. What is left of each must be noise: it must not be shared
further than noise is, not last from frame to frame, and not gather anywhere in the image. Each
question allows for noise that neighbours share and that depends on brightness; none for contrast.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.windows import correlate

# Sigma in pixels of the Gaussian filter that removes most of the noise.
BLUR = 2.0
# Sigmas in pixels at which changes are looked for: points, cells, and what is out of focus.
_SCALES = (1.2, 3.0, 6.0)
_TILE = 16  # pixels a side of the parts of the image that standard errors are taken from
# Pixels a side of the blocks in which changes are looked for at each scale but the last, whose
# blocks would be too few.
_BLOCKS = (8, 16)
_FEWEST_BLOCKS = 64
_MEMORY = 0.8  # of a running mean over time, which shows what lasts for some frames
_BINS = 16  # levels of brightness at which the noise is measured
# The variance of a pixel's noise is at least this fraction of the mean variance.
_LEAST_VARIANCE = 0.01
_CLIP = 5.0  # standard deviations beyond which a single pixel counts no more: hot pixels

# Noise is shared up to the lag at which its autocorrelation has fallen below this; what is shared
# further is change. At most this many pixels (wide-field captures of FMD: 7).
_SHARED, _FURTHEST, _LAGS = 0.05, 8, 4
# The correlation without noise is lower than 1 by at most the first and two standard errors; and,
# lest weak signals tell nothing, by at most the second less a standard error.
_LACKING, _DOUBT = 0.02, 0.1
# The share of what is left that lasts to the next frame, at each scale, is at most the larger of
# this and four standard errors. Movies of calcium have 0.03 to 0.1 and 0.1 to 0.3.
_LASTING = (0.015, 0.03, 0.05)
# Frames are shifted by at most this many pixels.
_MOST_SHIFT = 0.3
# A pixel of a frame has changed if its blurred difference exceeds this many standard deviations in
# four frames, and more in long stacks, in which rare counts have more chances.
_CHANGED, _CHANGED_PER_DECADE = 5.5, 0.8
# From this many times that on, change shows in full; of what is less, only the middle stands out.
_IN_FULL = 2.0
# At most this share of the image has changed in any frame.
_MOST_CHANGED = 0.006
# Blocks whose variance over time is more than so many standard deviations above the usual: the
# share that noise may raise so far, as it has long tails, and the share that is too many, beyond
# three standard errors of the former.
_RAISED = ((2.5, 0.02, 0.02), (4.0, 0.001, 0.004))


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
    correlation, error, why = _correlation(lags / (count - 1), reference)
    if not why:
        why = _moved(fits, lags / (count - 1), reference)
    if not why:
        why = _changed(frames, members, fits, levels, variance, reference)
    return Stillness(not why, correlation, error, why, fits, reference, variance, levels)


def residual(frame, fit, reference, variance):
    """The frame less the reference in standard deviations of the pixels' noise, (H, W). On device.

    Args:
        frame: (H, W).
        fit: (4,), of `Stillness.fits`.
        reference: `Reference`.
        variance: (H, W), of the frame's noise.
    """
    return _left(frame, fit, reference) / jnp.sqrt(variance)


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
    return finest**2, _lagged(_without_lines(left), reference.weight), jnp.mean(jnp.abs(finest))


def _without_lines(image):
    """Rows and columns may have offsets of their own, which is noise."""
    image = image - image.mean(axis=1, keepdims=True)
    return image - image.mean(axis=0, keepdims=True)


def _lagged(image, weight):
    """Mean products of pixels 0 to `_FURTHEST` + `_LAGS` apart along y and x, a value a tile."""
    image = image * weight
    found = []
    for lag in range(_FURTHEST + _LAGS):
        height, width = image.shape
        found.append(tile_means(image[lag:] * image[: height - lag], _TILE))
        found.append(tile_means(image[:, lag:] * image[:, : width - lag], _TILE))
    least = min(x.size for x in found)
    # The last tile of an axis loses pixels to the lag, and with it the whole tile.
    return jnp.stack([x.ravel()[:least] for x in found]).reshape(-1, 2, least)


def tile_means(image, side):
    """The means of square tiles of an image, (H // side, W // side). On the device."""
    height, width = (size // side for size in image.shape)
    image = image[: height * side, : width * side]
    return image.reshape(height, side, width, side).mean(axis=(1, 3))


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


def _correlation(lags, reference):
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
    changing, spread = changes.mean(), changes.std() / np.sqrt(changes.size)
    total = signal + max(changing, 0)
    correlation, error = 1 - changing / max(total, 1e-30), spread / max(total, 1e-30)
    if changing > 0 and 1 - correlation > _LACKING + 2 * error:
        return correlation, error, "the scenes differ"
    if not signal > 5 * spread or 1 - correlation + error > _DOUBT:
        return correlation, min(error, 1.0), "there is too little signal to tell"
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
    """Whether the frames are shifted, in words."""
    shifts = fits[:, 2:] / np.maximum(fits[:, :1], 1e-3)
    slopes = np.stack(np.gradient(np.asarray(reference.level)))
    slopes = (slopes * np.asarray(reference.weight)).reshape(2, -1).astype(np.float64)
    # Slopes are smooth: their error has the noise of low frequencies, the sum over all lags.
    means = np.asarray(lags, np.float64).mean(axis=2)
    density = np.prod([x[0] + 2 * np.maximum(x[1:5], 0).sum() for x in means.T]) / means[0].mean()
    products = slopes @ slopes.T
    products += 1e-6 * np.trace(products) * np.eye(2) + 1e-30 * np.eye(2)
    error = np.sqrt(density * np.linalg.inv(products).trace() / 2)
    parts = np.array([x.mean(axis=0) for x in np.array_split(shifts, min(len(shifts), 4))])
    apart = np.linalg.norm(np.ptp(parts, axis=0))
    part_error = error / np.sqrt(len(shifts) / len(parts))
    if part_error > _MOST_SHIFT:
        return "there is too little signal to tell"
    if apart > _MOST_SHIFT + 2 * part_error:
        return f"the scene moves by {apart:.1f} pixels"
    jitter = np.sqrt(max(shifts.var(axis=0).max() - error**2, 0))
    if jitter > _MOST_SHIFT / 2 and jitter > 2 * error:
        return f"the scene moves by {jitter:.1f} pixels"
    return ""


def _changed(frames, members, fits, levels, variance, reference):
    """Whether anything in the scene changes, in words."""
    count = len(members)
    most = _CHANGED + _CHANGED_PER_DECADE * np.log10(max(count, 4) / 4)
    shape = (len(_SCALES), *reference.mean.shape)
    state = _Changes(*(jnp.zeros(shape) for _ in range(4)), jnp.zeros(shape[1:], bool))
    for n, fit, level in zip(members, fits, levels, strict=True):
        state = _add(state, frames[n], fit, level * variance, reference, most)
    weight = np.asarray(reference.weight)
    changed = float(np.asarray(state.changed)[weight > 0].mean())
    if changed > _MOST_CHANGED:
        return f"{100 * changed:.1f} % of the image changes"
    for scale, usual in enumerate(_LASTING):
        if count > 2:
            share, error = _share(
                *(np.asarray(tile_means(x[scale], _TILE)) for x in (state.lasting, state.squares))
            )
            share += 1 / count
            if share > max(usual, 4 * error):
                return f"{100 * share:.0f} % of what differs lasts from frame to frame"
        if scale < len(_BLOCKS):
            raised = _raised(state, scale, count, weight)
            if raised:
                return f"{100 * raised:.1f} % of the image varies more than its noise"
    return ""


class _Changes(NamedTuple):
    """Sums over the frames so far, at each scale."""

    previous: jax.Array  # the last frame's residual, blurred
    running: jax.Array  # the running mean of the blurred residuals
    squares: jax.Array  # the sum of their squares
    lasting: jax.Array  # the sum of the products of each one and the one before
    changed: jax.Array  # (H, W) bool


@jax.jit
def _add(state, frame, fit, variance, reference, most):
    left = residual(frame, fit, reference, variance)
    usual = jnp.mean(left**2)
    for _ in range(3):  # without hot pixels
        usual = jnp.mean(jnp.minimum(left**2, _CLIP**2 * usual))
    left = _without_lines(jnp.clip(left / jnp.sqrt(usual + 1e-30), -_CLIP, _CLIP))
    blurred = jnp.stack([gaussian_filter(left, (sigma, sigma)) for sigma in _SCALES])
    blurred /= jnp.sqrt(_gains(frame.shape))
    running = _MEMORY * state.running + (1 - _MEMORY) * blurred
    scores = jnp.maximum(_scores(blurred[:-1]), _scores(running[:-1])).max(axis=0)
    strong = _near(scores > _IN_FULL * most, 1e-3)
    weak = _near((scores > most) & ~strong, 1e-2)
    return _Changes(
        blurred,
        running,
        state.squares + blurred**2,
        state.lasting + blurred * state.previous,
        state.changed | weak | ((scores > most) & strong),
    )


def _scores(images):
    """Pixels over their usual standard deviation; the median of a squared normal one is 0.455."""
    usual = jnp.median(images[:, ::2, ::2] ** 2, axis=(1, 2), keepdims=True) / 0.455
    return jnp.abs(images) / jnp.sqrt(usual + 1e-30)


def _near(chosen, least):
    return gaussian_filter(chosen.astype(jnp.float32), (3.0, 3.0)) > least


def _gains(shape):
    """What the filters leave of the variance of white noise: more at the border, (scales, H, W)."""
    return jnp.stack(
        [
            jnp.outer(*(jnp.sum(_along(length, sigma) ** 2, axis=0) for length in shape))
            for sigma in _SCALES
        ]
    )


def _along(length, sigma):
    return gaussian_filter(jnp.eye(length), (sigma, 0.0))


def _share(parts, wholes):
    """A ratio of sums over tiles, and its standard error."""
    whole = max(wholes.mean(), 1e-30)
    share = parts.mean() / whole
    return share, (parts - share * wholes).std() / np.sqrt(parts.size) / whole


def _raised(state, scale, count, weight):
    """The share of blocks whose variance is above the usual one, 0 if noise explains it.

    The cube root of a mean of squares is nearly normal; those below the median measure how it
    spreads, since change only adds. It is at least what white noise has.

    Source: Wilson and Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    """
    side = _BLOCKS[scale]
    blocks = np.asarray(tile_means(jnp.where(state.changed, jnp.nan, state.squares[scale]), side))
    blocks = blocks[(np.asarray(tile_means(jnp.asarray(weight), side)) > 0.99) & ~np.isnan(blocks)]
    if blocks.size < _FEWEST_BLOCKS:
        return 0.0
    roots = np.cbrt(blocks)
    usual = np.median(roots)
    freedom = (count - 1) * side**2 / (2 * np.pi * _SCALES[scale] ** 2)
    spread = max(usual - np.quantile(roots, 0.16), usual * np.sqrt(2 / 9 / freedom))
    for deviations, by_noise, most in _RAISED:
        share = float(np.mean(roots > usual + deviations * spread))
        if share > max(most, by_noise + 3 * np.sqrt(by_noise / blocks.size)):
            return share
    return 0.0
