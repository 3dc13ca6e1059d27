"""Whether anything changes in frames that otherwise show one scene. Host side.

What a fit of the scene leaves of each frame is blurred to look for points, cells and what is out of
focus: what stands out in a frame or in some frames in a row, what lasts from frame to frame, and
where the variance over time is larger than the noise's. Single pixels, hot ones, count little.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.imaging.filters import gaussian_filter

# Sigmas in pixels at which changes are looked for: points, cells, and what is out of focus.
_SCALES = (1.2, 3.0, 6.0)
TILE = 16  # pixels a side of the parts of the image that standard errors are taken from
# Pixels a side of the blocks in which changes are looked for at each scale but the last, whose
# blocks would be too few.
_BLOCKS = (8, 16)
_FEWEST_BLOCKS = 64
_MEMORY = 0.8  # of a running mean over time, which shows what lasts for some frames
_CLIP = 5.0  # standard deviations beyond which a single pixel counts no more: hot pixels

# The share of what is left that lasts to the next frame, at each scale, is at most the larger of
# this and four standard errors. Movies of calcium have 0.03 to 0.1 and 0.1 to 0.3.
_LASTING = (0.015, 0.03, 0.05)
# At most this many of the slowest components of the discrete cosine transform over time are
# compared with the rest.
_SLOWEST = 3
# A pixel of a frame has changed if its blurred difference exceeds this many standard deviations in
# four frames, and more in long stacks, in which noise has more chances.
_CHANGED, _CHANGED_PER_DECADE = 5.2, 0.2
# From this many times that on, change shows in full; of what is less, only the middle stands out.
_IN_FULL = 2.0
# At most this share of the image has changed in any frame.
_MOST_CHANGED = 0.006
# Blocks whose variance over time is more than so many standard deviations above the usual: the
# share that noise may raise so far, as it has long tails, and the share that is too many, beyond
# four standard errors of the former.
_RAISED = ((2.5, 0.02, 0.02), (4.0, 0.001, 0.004))


def what_changes(
    residuals: Iterable[Float[Array, "H W"]], count: int, weight: Float[np.ndarray, "H W"]
) -> str:
    """Say what changes in a scene, "" if nothing does. Host side; memory does not grow with frames.

    Args:
        residuals: of each frame, over the standard deviation of its noise up to a factor, in order.
        count: the number of frames.
        weight: 1 for the pixels to look at, 0 for others.
    """
    most = _CHANGED + _CHANGED_PER_DECADE * np.log10(max(count, 4) / 4)
    zeros = jnp.zeros((len(_SCALES), *weight.shape))
    waves, slow = _slow_waves(count), jnp.zeros((_SLOWEST, *zeros.shape))
    state = _Changes(zeros, zeros, zeros, zeros, slow, jnp.zeros(weight.shape, bool))
    for left, wave in zip(residuals, waves, strict=True):
        state = _add(state, left, wave, weight, most)
    state = _add_slow(state, weight, most)
    changed = float(np.asarray(state.changed)[weight > 0].mean())
    if changed > _MOST_CHANGED:
        return f"{100 * changed:.1f} % of the image changes"
    for scale, usual in enumerate(_LASTING):
        share = max(0.0, *_lasting(state, scale, usual, count, weight))
        if share:
            return f"{100 * share:.0f} % of what differs lasts for some frames"
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
    slow: jax.Array  # (K, scales, H, W), the slowest components over time
    changed: jax.Array  # (H, W) bool


@jax.jit
def _add(state, left, wave, weight, most):
    looked_at = weight > 0
    usual = jnp.mean(left**2, where=looked_at)
    for _ in range(3):  # without hot pixels
        usual = jnp.mean(jnp.minimum(left**2, _CLIP**2 * usual), where=looked_at)
    left /= jnp.sqrt(usual + 1e-30)
    # Few photons are skewed: where a limit cut off many, their mean would no longer be 0.
    skewness = jnp.maximum(jnp.mean(jnp.clip(left, -_CLIP, _CLIP) ** 3, where=looked_at), 0)
    limit = _CLIP * (1 + skewness)
    left = without_lines(jnp.clip(left, -limit, limit))
    blurred = jnp.stack([gaussian_filter(left, (sigma, sigma)) for sigma in _SCALES])
    blurred /= jnp.sqrt(_gains(left.shape))
    running = _MEMORY * state.running + (1 - _MEMORY) * blurred
    scores = jnp.concatenate([_scores(x[:-1], weight) for x in (blurred, running)])
    scores = jnp.max(scores / _allowed(most, skewness), axis=0)
    return _Changes(
        blurred,
        running,
        state.squares + blurred**2,
        state.lasting + blurred * state.previous,
        state.slow + wave[:, None, None, None] * blurred,
        state.changed | _stands_out(scores),
    )


@jax.jit
def _add_slow(state, weight, most):
    scores = jnp.stack([_scores(x[:-1], weight) for x in state.slow]).max(axis=(0, 1)) / most
    return state._replace(changed=state.changed | _stands_out(scores))


def _stands_out(scores):
    """Where change is, from scores over what noise may reach."""
    strong = _near(scores > _IN_FULL, 1e-3)
    return _near((scores > 1) & ~strong, 1e-2) | ((scores > 1) & strong)


def _slow_waves(count):
    """The slowest waves over the frames, of squares of sum 1, (N, K); 0 where frames are few."""
    places = np.pi * (np.arange(count)[:, None] + 0.5) / count
    waves = np.sqrt(2 / count) * np.cos(places * np.arange(1, _SLOWEST + 1))
    return np.float32(waves * (np.arange(_SLOWEST) < _slow_count(count)))


def _slow_count(count):
    return min(_SLOWEST, (count - 1) // 3)


def _lasting(state, scale, usual, count, weight):
    """The shares of what differs that last to the next frame and that vary slowly; 0 by noise."""
    if count < 3:
        return 0.0, 0.0
    squares = np.asarray(tile_means(state.squares[scale], TILE)) / (count - 1)
    # Of white noise: few tiles tell its error badly.
    least = _sharing(scale) / weight.sum()
    found = [(np.asarray(tile_means(state.lasting[scale], TILE)) / (count - 1), 1 / count, 1.0)]
    slow, shares = state.slow[: _slow_count(count), scale], []
    if len(slow):
        power = np.asarray(tile_means(jnp.mean(slow**2, axis=0), TILE))
        found.append((power, -1.0, len(slow) / (count - 1)))
    for (parts, expected, factor), by_noise in zip(
        found, (least / (count - 1), 2 * least / max(len(slow), 1)), strict=False
    ):
        share, error = _share(parts, squares)
        share += expected
        enough = share * factor > usual and share > 4 * max(error, np.sqrt(by_noise))
        shares.append(share * factor if enough else 0.0)
    return shares[0], shares[-1]


def _scores(images, weight):
    """Pixels over their usual standard deviation; the median of a squared normal one is 0.455."""
    squares = jnp.where(weight > 0, images**2, jnp.nan)[:, ::2, ::2]
    usual = jnp.nanmedian(squares, axis=(1, 2), keepdims=True) / 0.455
    return weight * jnp.abs(images) / jnp.sqrt(usual + 1e-30)


def _allowed(most, skewness):
    """Raise a limit for noise that is skewed, as few photons are: (2 scales + 2, 1, 1).

    Source: Cornish and Fisher, "Moments and cumulants in the specification of distributions",
        Revue de l'Institut International de Statistique 5 (1938), the first term; Gaussian weights
        of sigma s leave 0.376 / s of a pixel's skewness, the running mean 0.44 of that.
    """
    left = jnp.array([0.376 / sigma for sigma in _SCALES[:-1]])
    left = jnp.concatenate([left, 0.44 * left])[:, None, None]
    return most + (most**2 - 1) / 6 * skewness * left


def _near(chosen, least):
    return gaussian_filter(chosen.astype(jnp.float32), (3.0, 3.0)) > least


def _gains(shape):
    """What the filters leave of the variance of white noise: more at the border, (scales, H, W)."""
    return jnp.stack(
        [jnp.outer(_along(shape[0], sigma), _along(shape[1], sigma)) for sigma in _SCALES]
    )


def _along(length, sigma):
    return jnp.sum(gaussian_filter(jnp.eye(length), (sigma, 0.0)) ** 2, axis=1)


def without_lines(image: Float[Array, "H W"]) -> Float[Array, "H W"]:
    """Take the means from rows and columns, whose offsets may be noise. On the device."""
    image = image - image.mean(axis=1, keepdims=True)
    return image - image.mean(axis=0, keepdims=True)


def tile_means(image: Float[Array, "H W"], side: int) -> Float[Array, "rows columns"]:
    """The means of square tiles of an image, (H // side, W // side). On the device."""
    height, width = (size // side for size in image.shape)
    image = image[: height * side, : width * side]
    return image.reshape(height, side, width, side).mean(axis=(1, 3))


def _share(parts, wholes):
    """A ratio of sums over tiles, and its standard error."""
    whole = max(wholes.mean(), 1e-30)
    share = parts.mean() / whole
    return share, (parts - share * wholes).std() / np.sqrt(parts.size) / whole


def _sharing(scale):
    """How many pixels share the square of blurred white noise."""
    return 2 * np.pi * _SCALES[scale] ** 2


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
    freedom = (count - 1) * side**2 / _sharing(scale)
    spread = max(usual - np.quantile(roots, 0.16), usual * np.sqrt(2 / 9 / freedom))
    for deviations, by_noise, most in _RAISED:
        share = float(np.mean(roots > usual + deviations * spread))
        if share > max(most, by_noise + 4 * np.sqrt(by_noise / blocks.size)):
            return share
    return 0.0
