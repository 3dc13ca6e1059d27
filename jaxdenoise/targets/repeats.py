"""Frames that show the same scene again: each is a target for the others (Noise2Noise).

A network that must predict another frame of the same scene need not be blind to its own frame: the
noise of the other frame is independent. So all pixels are targets instead of a few blind spots, and
noise that neighbouring pixels share is no obstacle.

Frames that resemble each other form a group. A group shows one scene only if `stillness` finds
nothing in any of its frames that changes, so two frames of a movie that happen to look alike are no
repeats. Detail that is finer than optics can transmit must not repeat, as it does in copies and in
the fixed pattern of a camera.

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
from jaxdenoise.targets.changes import TILE, tile_means
from jaxdenoise.targets.stillness import BLUR, Stillness, measure_stillness, residual, usual_squares

# The most frames, the nearest in the stack, that each one is compared with.
MOST = 4
# Pixels a side: smaller frames have too few pixels to compare.
_SMALLEST = 32
# Pixels between the samples of the blurred frames that tell which frames resemble each other; a
# blurred pixel shares its noise with about 50 pixels.
_STEP, _SHARING = 4, 50
# Frames resemble each other if, noise allowed for, they correlate by at least this much and beyond
# this many standard errors, and neither is more than this many times as bright.
_LEAST_CORRELATION, _LEAST_SIGNAL, _MOST_GAIN = 0.5, 2.5, 2.0
# At most this share of a group may lie apart, by more than this many pixels, and is left out.
_MOST_APART, _APART = 0.25, 0.3
# A pixel differs if the square of the blurred difference exceeds this many times the variance of
# its noise: four standard deviations; a single pixel, six of them.
_DIFFERS, _SINGLE_DIFFERS = 16.0, 36.0
# The finest detail of the frames correlates by at most this much in half of the tiles: a fixed
# pattern is everywhere, hot pixels and sharp structure are not.
_MOST_FIXED = 0.1
# Fourth differences: of what optics transmit, they leave much less than of single pixels.
_FINEST = (1, -4, 6, -4, 1)
# Frames whose blurred difference is less than this part of them are copies.
_COPY = 1e-8


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


class Found(NamedTuple):
    """What a search for repeats found.

    Attributes:
        repeats: `Repeats`, or None.
        text: one line that says so, with the evidence.
    """

    repeats: Repeats | None
    text: str


def find_repeats(
    frames: Float[Array, "N H W"], *, valid: Bool[Array, "N H W"] | None = None
) -> Repeats | None:
    """Find the frames of a stack that show the same scene. Host side.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        valid: True for the pixels that hold data; the others count nowhere and differ from all.
            Default: all.

    Returns:
        `Repeats` of JAX arrays; None if no two frames show one scene, or if they have fewer than 32
        pixels a side.
    """
    return search_repeats(frames, valid=valid).repeats


def search_repeats(
    frames: Float[Array, "N H W"], *, valid: Bool[Array, "N H W"] | None = None
) -> Found:
    """Find repeats as `find_repeats` does, and say on what evidence. Host side.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        valid: True for the pixels that hold data; default: all.
    """
    count, *size = frames.shape
    if count < 2:
        return Found(None, "frames: one")
    if min(size) < _SMALLEST or not jnp.any(frames != frames[0, 0, 0]):
        return Found(None, "frames: too small, or too dark, to tell whether they show one scene")
    groups, copies, best = _groups(frames, valid)
    found: list[list[_Repeat]] = [[] for _ in range(count)]
    texts: list[str] = []
    still = 0
    for group in groups:
        members, evidence = _still_part(frames, group, valid)
        if evidence.still and _pair(frames, members, evidence, copies, valid, found):
            still += sum(bool(found[n]) for n in _with_copies(members, copies))
            texts.insert(0, _measured(evidence))
        elif evidence.still:
            texts.append("copies, or a pattern that the camera repeats")
        else:
            texts.append(f"{evidence.why} ({_measured(evidence)})")
    if still:
        text = f"frames: {still} of {count} show one scene again ({texts[0]}): they are targets"
        return Found(_table(found, size, valid), text)
    return Found(None, f"frames: no repeats: {texts[0] if texts else best}")


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


class _Level(NamedTuple):
    """Samples of a blurred frame, on the host, and which of them hold data."""

    number: int
    values: np.ndarray
    usable: np.ndarray


class _Repeat(NamedTuple):
    """One other frame that shows a frame's scene; the fields are those of `Repeats`."""

    frame: int
    gain: float
    offset: float
    differs: jax.Array


def _groups(frames, valid):
    """Frames that resemble each other.

    Returns:
        Lists of the numbers of at least two frames, without copies; a dict from each copy to its
        original; and in words how much the others resemble each other.
    """
    count = len(frames)
    group, best = list(range(count)), 0.0
    copies: dict[int, int] = {}
    recent: deque[_Level] = deque(maxlen=MOST)
    for number in range(count):
        level = _level(frames, valid, number)
        for other in recent:
            correlation, linked, copy = _resemblance(level, other)
            best = max(best, correlation)
            if copy and number not in copies:
                copies[number] = copies.get(other.number, other.number)
            if linked:
                old, new = group[number], group[other.number]
                group = [new if x == old else x for x in group]
        recent.append(level)
    numbers = [n for n in range(count) if n not in copies]
    groups = [[n for n in numbers if group[n] == which] for which in dict.fromkeys(group)]
    words = f"different scenes (correlation without noise {best:.2f})"
    return [g for g in groups if len(g) > 1], copies, "copies" if copies else words


def _level(frames, valid, number):
    inside = jnp.ones(frames.shape[1:], bool) if valid is None else valid[number]
    values, usable = jax.device_get(_sampled(frames[number], inside))
    return _Level(number, np.asarray(values, np.float64), usable)


@jax.jit
def _sampled(frame, inside):
    frame = jnp.where(inside, frame, jnp.mean(frame, where=inside))
    values = gaussian_filter(frame, (BLUR, BLUR))[::_STEP, ::_STEP]
    usable = gaussian_filter(inside.astype(jnp.float32), (BLUR, BLUR))[::_STEP, ::_STEP] > 0.99
    return values, usable


def _resemblance(one, other):
    """Correlation of two blurred frames without noise, whether it links them, whether one copies.

    The noise is measured by the median of their squared difference, which what moves here and there
    does not change.
    """
    usable = one.usable & other.usable
    if usable.sum() < 32:
        return 0.0, False, False
    a, b = (x.values[usable] - x.values[usable].mean() for x in (one, other))
    variances = a.var(), b.var()
    if min(variances) <= 0:
        return 0.0, False, False
    gain = np.sqrt(variances[0] / variances[1])
    difference = (a - gain * b) ** 2
    # The median of a squared normal variable is 0.455.
    noise = min(np.median(difference) / 0.455 / 2, 0.95 * variances[0])
    raw = np.mean(a * b) / np.sqrt(variances[0] * variances[1])
    correlation = min(raw * variances[0] / (variances[0] - noise), 1.0)
    signal = raw * np.sqrt(usable.sum() * _STEP**2 / _SHARING)
    close = 1 / _MOST_GAIN <= gain <= _MOST_GAIN
    linked = correlation >= _LEAST_CORRELATION and signal > _LEAST_SIGNAL and close
    return correlation, bool(linked), bool(difference.mean() < _COPY * variances[0])


def _still_part(frames, group, valid):
    """The frames of a group without a few that are shifted, and their `Stillness`."""
    evidence = measure_stillness(frames, group, valid)
    if evidence.still or not evidence.moved:
        return group, evidence
    shifts = evidence.fits[:, 2:] - np.median(evidence.fits[:, 2:], axis=0)
    near = np.linalg.norm(shifts, axis=1) <= _APART
    apart = len(group) - near.sum()
    if near.sum() < 2 or not 0 < apart <= _MOST_APART * len(group):
        return group, evidence
    rest = [n for n, keep in zip(group, near, strict=True) if keep]
    return rest, measure_stillness(frames, rest, valid)


def _pair(frames, members, evidence, copies, valid, found):
    """Add to `found` the pairs of near members that share nothing but the scene; tell if any do."""
    members, rows = _with_copies(members, copies), {n: k for k, n in enumerate(members)}
    recent: deque = deque(maxlen=MOST if len(members) <= MOST + 1 else MOST // 2)
    paired = False
    for number in members:
        row = rows[copies.get(number, number)]
        fit = evidence.fits[row]
        variance = evidence.levels[row] * evidence.variance
        features = _features(frames[number], fit, evidence.reference, variance)
        for other, other_fit, other_features in recent:
            differs, fixed = _compare(features, other_features, evidence.reference)
            if fixed > _MOST_FIXED:
                continue
            if valid is not None:
                differs |= ~(valid[number] & valid[other])
            gain = float(fit[0] / other_fit[0])
            offset = float(fit[1] - gain * other_fit[1])
            found[number].append(_Repeat(other, gain, offset, differs))
            # The same the other way round: a = g b + o is b = a / g - o / g.
            found[other].append(_Repeat(number, 1 / gain, -offset / gain, differs))
            paired = True
        recent.append((number, fit, features))
    return paired


def _with_copies(members, copies):
    return sorted([*members, *(n for n, original in copies.items() if original in members)])


@jax.jit
def _features(frame, fit, reference, variance):
    """What is left of a frame, pixel by pixel and blurred, and its finest detail."""
    left = residual(frame, fit, reference, variance)
    finest = correlate(correlate(frame * reference.weight, _FINEST, 0), _FINEST, 1)
    blurred = gaussian_filter(left, (BLUR, BLUR))
    left, blurred = (jnp.where(reference.inside, x, jnp.nan) for x in (left, blurred))
    return left, blurred, finest


@jax.jit
def _compare(one, other, reference):
    """Where two frames differ by more than noise, and how much their finest detail correlates."""
    single, blurred = (((a - b) ** 2) for a, b in zip(one[:2], other[:2], strict=True))
    single, blurred = (x / usual_squares(x, reference) for x in (single, blurred))
    a, b = one[2], other[2]
    products, *squares = (tile_means(x, TILE) for x in (a * b, a * a, b * b))
    fixed = jnp.median(products / jnp.maximum(jnp.sqrt(squares[0] * squares[1]), 1e-30))
    return (blurred > _DIFFERS) | (single > _SINGLE_DIFFERS), fixed


def _measured(evidence: Stillness) -> str:
    correlation = min(evidence.correlation, 1.0)  # noise may raise the estimate above 1
    return f"correlation without noise {correlation:.3f} +- {evidence.error:.3f}"


def _table(found, size, valid):
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
    if valid is not None:
        differs[~np.asarray(valid)] = 2**MOST - 1
    return Repeats(*(jnp.asarray(values) for values in (counts, frame, gain, offset, differs)))
