"""Frames that show the same scene again: each is a target for the others (Noise2Noise).

A network that must predict another frame of the same scene need not be blind to its own frame: the
noise of the other frame is independent. So all pixels are targets instead of a few blind spots, and
noise that neighbouring pixels share is no obstacle.

Whether two frames show one scene is measured. Their difference, blurred, must be noise; pixels
where it is more are left out. Detail that is finer than optics can transmit must not repeat, as it
does in copies and in the fixed pattern of a camera.

Source: Lehtinen et al., "Noise2Noise: learning image restoration without clean data", ICML 2018.
"""

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.windows import correlate
from jaxdenoise.microscope.noise_estimation import estimate_noise

# The most frames, the nearest in the stack, that each one is compared with.
MOST = 4
# Pixels a side: smaller frames have too few pixels to compare.
_SMALLEST = 32
# Sigma in pixels of the Gaussian filter that removes most of the noise before frames are compared.
_BLUR = 2.0
# The variance of a pixel's noise is at least this fraction of the mean variance.
_LEAST_VARIANCE = 0.01
# A pixel differs if the square of the blurred difference exceeds this many times the variance of
# its noise: four standard deviations.
_DIFFERS = 16.0

# Two frames show one scene if all of these hold.
# The blurred frames correlate by at least this much.
_LEAST_CORRELATION = 0.9
# Neither is more than this many times as bright as the other.
_MOST_GAIN = 2.0
# They are shifted by at most this many pixels.
_MOST_SHIFT = 0.3
# At most this fraction of the pixels differs.
_MOST_DIFFERING = 0.01
# The mean square of the difference over what its median predicts for noise lies in this range. It
# is 1 for noise, and more where something moved.
_SPREAD = (0.8, 1.2)
# The finest detail of the frames, not blurred, correlates by at most this much. In the images of
# FMD it does by up to 0.06.
_MOST_FIXED = 0.1


class Repeats(NamedTuple):
    """For each of N frames, the others that show its scene.

    K is `MOST`; of the K columns of a frame the first ``counts`` are valid.

    Attributes:
        counts: (N,) int32, the number of others, from 0 to K.
        frame: (N, K) int32, numbers of the others.
        gain: (N, K) float32; gain times the other frame plus offset is as bright as the frame.
        offset: (N, K) float32, in grey levels.
        differs: (N, H, W) uint8, bit k set where the k-th other shows something else.
    """

    counts: Int[Array, " N"]
    frame: Int[Array, "N K"]
    gain: Float[Array, "N K"]
    offset: Float[Array, "N K"]
    differs: UInt8[Array, "N H W"]


def find_repeats(frames: Float[Array, "N H W"]) -> Repeats | None:
    """Find the frames of a stack that show the same scene. Host side.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.

    Returns:
        `Repeats` of JAX arrays; None if no two frames show one scene, or if they have fewer than 32
        pixels a side.
    """
    count, *size = frames.shape
    if count < 2 or min(size) < _SMALLEST or not jnp.any(frames != frames[0, 0, 0]):
        return None
    found: list[list[_Repeat]] = [[] for _ in range(count)]
    recent: deque = deque(maxlen=MOST // 2 if count > MOST else MOST)
    noise = estimate_noise(frames)
    for number in range(count):
        features = _features(frames[number], noise)
        for other, other_features in recent:
            comparison = _compare(features, other_features)
            if _is_repeat(comparison):
                gain, offset, differs = comparison.gain, comparison.offset, comparison.differs
                found[number].append(_Repeat(other, gain, offset, differs))
                # The same the other way round: a = g b + o is b = a / g - o / g.
                found[other].append(_Repeat(number, 1 / gain, -offset / gain, differs))
        recent.append((number, features))
    return _table(found, size) if any(found) else None


def first_targets(
    frames: Float[Array, "N H W"], repeats: Repeats
) -> tuple[Float[Array, "N H W"], Bool[Array, "N H W"]]:
    """Return for each frame the first other that shows its scene, and where it shows the same.

    Pure JAX, for ``jit`` and ``vmap``.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        repeats: `Repeats` of them.

    Returns:
        The other frames, made as bright as the frames, (N, H, W) float32; and (N, H, W) bool, True
        where they show the same, nowhere for a frame without repeats.
    """
    other, gain, offset = (values[:, 0] for values in (repeats.frame, repeats.gain, repeats.offset))
    same = (repeats.differs & 1 == 0) & (repeats.counts > 0)[:, None, None]
    return gain[:, None, None] * frames[other] + offset[:, None, None], same


class _Features(NamedTuple):
    """What is compared of a frame."""

    level: jax.Array  # the blurred frame
    variance: jax.Array  # of the noise, up to a factor
    finest: jax.Array  # the finest detail, of standard deviation 1


class _Comparison(NamedTuple):
    gain: jax.Array
    offset: jax.Array
    correlation: jax.Array
    shift: jax.Array
    spread: jax.Array
    fixed: jax.Array
    differs: jax.Array


class _Repeat(NamedTuple):
    """One other frame that shows a frame's scene; the fields are those of `Repeats`."""

    frame: int
    gain: jax.Array
    offset: jax.Array
    differs: jax.Array


@jax.jit
def _features(frame, noise):
    level = gaussian_filter(frame, (_BLUR, _BLUR))
    variance = noise.gain * jnp.maximum(level, 0) + noise.read_std**2
    variance = jnp.maximum(variance, _LEAST_VARIANCE * variance.mean())
    finest = correlate(correlate(frame, (1, -2, 1), 0), (1, -2, 1), 1)
    return _Features(level, variance, finest / jnp.maximum(finest.std(), 1e-30))


@jax.jit
def _compare(one, other):
    differs = jnp.zeros(one.level.shape, bool)
    for _ in range(2):  # the second time without the pixels that differ
        mean, std, other_mean, other_std = (
            f(x.level, where=~differs) for x in (one, other) for f in (jnp.mean, jnp.std)
        )
        # Both frames have noise: this line treats them alike.
        gain = std / jnp.maximum(other_std, 1e-30)
        offset = mean - gain * other_mean
        matched = gain * other.level + offset
        difference = (one.level - matched) ** 2 / jnp.maximum(
            one.variance + gain**2 * other.variance, 1e-30
        )
        # The median measures the noise that is left after blurring, be it shared by neighbours or
        # not. The median of a squared normal variable is 0.455.
        difference /= jnp.maximum(jnp.median(difference) / 0.455, 1e-30)
        differs = difference > _DIFFERS
    shift = _shift(one.level, matched)
    correlation = jnp.corrcoef(one.level.ravel(), other.level.ravel())[0, 1]
    spread = jnp.minimum(difference, _DIFFERS).mean()
    fixed = jnp.mean(one.finest * other.finest)
    return _Comparison(gain, offset, correlation, shift, spread, fixed, differs)


def _is_repeat(comparison):
    return bool(
        comparison.correlation >= _LEAST_CORRELATION
        and 1 / _MOST_GAIN <= comparison.gain <= _MOST_GAIN
        and comparison.shift <= _MOST_SHIFT
        and comparison.differs.mean() <= _MOST_DIFFERING
        and _SPREAD[0] <= comparison.spread <= _SPREAD[1]
        and comparison.fixed <= _MOST_FIXED
    )


def _shift(one, other):
    """How many pixels apart two images of one scene are, to first order."""
    slopes = jnp.stack(jnp.gradient((one + other) / 2)).reshape(2, -1)
    products = slopes @ slopes.T
    return jnp.linalg.norm(
        jnp.linalg.solve(
            products + 1e-6 * jnp.trace(products) * jnp.eye(2), slopes @ (one - other).ravel()
        )
    )


def _table(found, size):
    """`Repeats` of lists of `_Repeat`s, one list a frame."""
    counts = np.array([min(len(others), MOST) for others in found], np.int32)
    frame, gain, offset = (
        np.zeros((len(found), MOST), kind) for kind in (np.int32, np.float32, np.float32)
    )
    differs = np.zeros((len(found), *size), np.uint8)
    for number, others in enumerate(found):
        # Of two equally near frames the later one comes first, so that frames differ in their
        # first target.
        nearest = sorted(others, key=lambda other: (abs(other.frame - number), -other.frame))
        for place, other in enumerate(nearest[:MOST]):
            frame[number, place] = other.frame
            gain[number, place], offset[number, place] = other.gain, other.offset
            differs[number] |= np.asarray(other.differs).astype(np.uint8) << place
    return Repeats(*(jnp.asarray(values) for values in (counts, frame, gain, offset, differs)))
