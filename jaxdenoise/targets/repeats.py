"""Frames that show the same scene again: each is a target for the others (Noise2Noise). Host side.

A network that must predict another frame of the same scene need not be blind to its own: the other
frame's noise is independent. All pixels are targets then, instead of a few blind spots, and noise
that neighbouring pixels share is no obstacle. Whether a frame shows the scene of
another is measured: their difference, blurred, must be noise, wherever it is not it is left out,
and what is finer than optics pass must not repeat, as it does in copies and in the fixed pattern of
a camera.

Source: Lehtinen et al., "Noise2Noise: learning image restoration without clean data", ICML 2018.
"""

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.windows import correlate
from jaxdenoise.microscope.noise_estimation import estimate_noise

MOST = 4  # frames, the nearest in the stack, that each one is compared with
_SMALLEST = 32  # pixels a side: in less there is too little to compare
_BLUR = 2.0  # pixels: sigma of the Gaussian filter that takes most of the noise out of a difference
_LEAST = 0.01  # of the mean variance that a pixel has
_DIFFERS = (
    16.0  # square of a blurred difference over its noise's variance: four standard deviations
)

# Two frames show one scene if, blurred, they
_ALIKE = 0.9  # correlate so far,
_BRIGHTER = 2.0  # are no more than so many times as bright,
_SHIFT = 0.3  # pixels apart at the most,
_ELSEWHERE = 0.01  # differ in so many of their pixels,
_SPREAD = (
    0.8,
    1.2,
    # and if a mean square of the difference is what its median says: 1 for noise, more where something
    # moved;
)
_FIXED = (
    0.1  # and if their finest detail, unblurred, correlates by no more. FMD's do by up to 0.06.
)


class Repeats(NamedTuple):
    """For each of N frames, the others that show its scene, K = `MOST` columns of which the first ``count`` mean something.

    Attributes:
        count: (N,) int32, from 0 to K.
        frame: (N, K) int32, numbers of the others.
        gain: (N, K) float32; gain times the other frame plus offset is as bright as the frame.
        offset: (N, K) float32, in grey levels.
        differs: (N, H, W) uint8, bit k set where the k-th other shows something else.
    """

    count: jax.Array
    frame: jax.Array
    gain: jax.Array
    offset: jax.Array
    differs: jax.Array


def find_repeats(frames):
    """Which frames of a stack show the same scene.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.

    Returns:
        `Repeats` of JAX arrays, or None where no frame does.
    """
    count, *size = frames.shape
    if count < 2 or min(size) < _SMALLEST or not jnp.any(frames != frames[0, 0, 0]):
        return None
    found, seen = [[] for _ in range(count)], deque(maxlen=MOST // 2 if count > MOST else MOST)
    noise = estimate_noise(frames)
    for number in range(count):
        look = _look(frames[number], noise)
        for other, before in seen:
            compared = _compare(look, before)
            if _is_repeat(compared):
                found[number].append((other, compared.gain, compared.offset, compared.differs))
                # The same the other way round: a = g b + o is b = a / g - o / g.
                found[other].append(
                    (number, 1 / compared.gain, -compared.offset / compared.gain, compared.differs)
                )
        seen.append((number, look))
    return _table(found, size) if any(found) else None


def first_targets(frames, repeats):
    """Of each frame another one that shows its scene, as bright as it is, and which pixels of that do: (N, H, W) float32 and bool."""
    other, gain, offset = (values[:, 0] for values in (repeats.frame, repeats.gain, repeats.offset))
    same = (repeats.differs & 1 == 0) & (repeats.count > 0)[:, None, None]
    return gain[:, None, None] * frames[other] + offset[:, None, None], same


class _Look(NamedTuple):
    """A frame: blurred, the variance of the noise up to a factor, and its finest detail."""

    level: jax.Array
    variance: jax.Array
    finest: jax.Array


class _Compared(NamedTuple):
    gain: jax.Array
    offset: jax.Array
    alike: jax.Array
    shift: jax.Array
    spread: jax.Array
    fixed: jax.Array
    differs: jax.Array


@jax.jit
def _look(frame, noise):
    level = gaussian_filter(frame, (_BLUR, _BLUR))
    variance = noise.gain * jnp.maximum(level, 0) + noise.read_std**2
    variance = jnp.maximum(variance, _LEAST * variance.mean())
    finest = correlate(correlate(frame, (1, -2, 1), 0), (1, -2, 1), 1)
    return _Look(level, variance, finest / jnp.maximum(finest.std(), 1e-30))


@jax.jit
def _compare(one, other):
    differs = jnp.zeros(one.level.shape, bool)
    for _ in range(2):  # what differs says nothing of the brightness
        mean, std, other_mean, other_std = (
            f(x.level, where=~differs) for x in (one, other) for f in (jnp.mean, jnp.std)
        )
        gain = std / jnp.maximum(
            other_std, 1e-30
        )  # both have noise: the line that treats them alike
        offset = mean - gain * other_mean
        matched = gain * other.level + offset
        difference = (one.level - matched) ** 2 / jnp.maximum(
            one.variance + gain**2 * other.variance, 1e-30
        )
        # How strong the noise is in what is blurred, be it shared by neighbours or not: the median
        # of a squared normal variable is 0.455.
        difference /= jnp.maximum(jnp.median(difference) / 0.455, 1e-30)
        differs = difference > _DIFFERS
    shift = _shift(one.level, matched)
    alike = jnp.corrcoef(one.level.ravel(), other.level.ravel())[0, 1]
    spread = jnp.minimum(difference, _DIFFERS).mean()
    return _Compared(
        gain, offset, alike, shift, spread, jnp.mean(one.finest * other.finest), differs
    )


def _is_repeat(compared):
    same = (
        compared.alike >= _ALIKE
        and 1 / _BRIGHTER <= compared.gain <= _BRIGHTER
        and compared.shift <= _SHIFT
    )
    same &= compared.differs.mean() <= _ELSEWHERE
    return bool(same and _SPREAD[0] <= compared.spread <= _SPREAD[1] and compared.fixed <= _FIXED)


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
    count = np.array([min(len(others), MOST) for others in found], np.int32)
    frame, gain, offset = (
        np.zeros((len(found), MOST), kind) for kind in (np.int32, np.float32, np.float32)
    )
    differs = np.zeros((len(found), *size), np.uint8)
    for number, others in enumerate(found):
        # The next frame first, so that not all have the same one there.
        nearest = sorted(
            (abs(other - number), -other, place) for place, (other, *_) in enumerate(others)
        )
        for place, (other, scale, shift, elsewhere) in enumerate(
            others[index] for *_, index in nearest[:MOST]
        ):
            frame[number, place], gain[number, place], offset[number, place] = other, scale, shift
            differs[number] |= np.asarray(elsewhere).astype(np.uint8) << place
    return Repeats(*(jnp.asarray(values) for values in (count, frame, gain, offset, differs)))
