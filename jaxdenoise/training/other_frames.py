"""Whether a network that sees other frames is the better one, by the error without truth.

Frames that follow each other need not show one scene: what a file calls time may be anything, and
planes may lie so far apart that they have nothing in common.

Noise that is added to a frame, and the same noise taken from it with another factor, give two
frames of which neither tells anything of the other's noise: what a network makes of the first one
is judged by the second one, its own pixel included. Blind spots would judge a network that does not
see the pixel, which is worse off without other frames than it is when it denoises. Noise that
neighbours share is added as they share it: else a network that leaves it would look the better one.

Source: Oliveira, Lei and Tibshirani, "Unbiased risk estimation in the normal means problem via
    coupled bootstrap techniques", 2021; Pang et al., "Recorrupted-to-recorrupted", CVPR 2021.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.low_rank import second_differences
from jaxdenoise.microscope.correlation import correlated_noise, noise_covariance
from jaxdenoise.microscope.noise_estimation import NoiseEstimate, estimate_noise
from jaxdenoise.microscope.noise_level import noise_level
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser, network_output
from jaxdenoise.network.guides import FEWEST, guides_of

_SIDE, _FRAMES, _LOOKS = 256, 128, 24  # pixels a side, frames of the run, frames that are compared
_MOST_ROUNDS = 4  # of noise: small frames are looked at more often
_ADDED = 0.5  # of the noise of a frame, how much is added to what a network sees
_ALIKE = 1.4  # factor between variances that may be one
_BLUR = 2.0  # sigma in pixels of the brightness by which noise is added
# Pixels on each side that share their noise where that of direct neighbours correlates by more.
_SHARING, _SHARED = 2, 0.1
# Of its error, by which the other network must be better; and in standard errors.
_BETTER, _ERRORS = 0.02, 3.0


class Choice(NamedTuple):
    """Which network is the better one for a movie or a volume.

    Attributes:
        together: the one that sees other frames.
        text: one line that says so, with the evidence.
        shared: pixels on each side along y and x that were taken to share a pixel's noise.
    """

    together: bool
    text: str
    shared: tuple[int, int] = (0, 0)


def choose(alone: Denoiser, together: Denoiser, frames: Float[np.ndarray, "N H W"]) -> Choice:
    """Compare two networks by their errors at some frames. Host side, deterministic.

    Errors count in units of each frame's noise, so that dark planes count as bright ones do.

    Args:
        alone: the model for single frames.
        together: the model for movies or for volumes.
        frames: a run of the movie's frames or the volume's planes in grey levels, finite; what is
            beyond 128 of them or the middle 256 x 256 pixels does not count.
    """
    network = together.config.network
    word = "planes" if network.planes else "frames"
    if len(frames) < FEWEST:
        return Choice(False, f"other {word}: none, {len(frames)} in a row are too few")
    rows, columns = (_middle(length, network.multiple) for length in frames.shape[1:])
    run = jnp.asarray(frames[:_FRAMES, rows, columns], jnp.float32)
    lit = np.flatnonzero(np.ptp(run, axis=(1, 2)))  # without light, there is nothing to miss
    if len(lit) < FEWEST:
        return Choice(False, f"other {word}: none, {len(lit)} of them show something")
    noise = estimate_noise(run[lit], offset=alone.scale.background)
    numbers = lit[np.unique(np.linspace(0, len(lit) - 1, _LOOKS).round().astype(int))]
    # Smooth structure in the flattest places of a volume looks like noise that neighbours share.
    shared = None if network.planes else _covariance(run[lit])
    _, rounds = looks(len(lit), run[0].size)
    every = [_errors(alone, together, run, numbers, noise, shared, n) for n in range(rounds)]
    errors = np.sum(every, axis=0)
    differences = errors[:, 1] - errors[:, 0]
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    usual = errors[:, 0].mean()
    if not usual > 0:
        # The noise is overestimated, which speaks for whatever follows a pixel least.
        return Choice(False, f"other {word}: none, the noise is not known well enough")
    better = bool(mean < -_ERRORS * error and mean < -_BETTER * usual)
    ratio = f"{max(1 + mean / usual, 0):.2f} +- {error / usual:.2f}"
    words = "they help" if better else "none, that they help is not sure"
    text = f"other {word}: {words} (estimated error {ratio} of that without)"
    return Choice(better, text, (0, 0) if network.planes else _shared_by(run))


def looks(frames: int, pixels: int) -> tuple[int, int]:
    """Return how many frames `choose` compares, and how often.

    Args:
        frames: of the run.
        pixels: of a frame.
    """
    return min(frames, _LOOKS), int(np.clip(_SIDE**2 // pixels, 1, _MOST_ROUNDS))


def _errors(alone, together, run, numbers, noise, shared, number):
    """The errors of both networks at some frames, in units of their noise, (M, 2)."""
    network, offset = together.config.network, alone.scale.background
    beside = stacks.frames_beside(network, len(run), len(run))
    pairs = []
    for n in numbers:
        unit = _unit_noise(_MOST_ROUNDS * int(n) + number, shared, run[n].shape)
        # Within a frame, noise that neighbours share looks weaker than it is.
        least = 0.0 if shared is None else shared.variance
        own = _noise_of(run[n], noise, offset, least)
        pairs.append(_pair(run[n], unit, own, offset))
    guides = None
    if network.guided:
        # The guides see the same noise, and nothing of what judges.
        seen = run.at[numbers].set(jnp.stack([pair.seen for pair in pairs]))
        guides = guides_of(np.asarray(seen))
    found = []
    for n, pair in zip(numbers, pairs, strict=True):
        others = run[beside[n]]
        if guides is not None:
            others = jnp.concatenate([others, guides[n][None]])
        both = [float(_error(*model, pair)) for model in ((alone, None), (together, others))]
        found.append(np.array(both) / max(float(pair.variance), 1e-30))
    return np.array(found)


def _covariance(frames):
    """The noise's covariance where neighbours share it, else None."""
    found = noise_covariance(np.asarray(frames))
    if found is None:
        return None
    surely = np.array(found.along) - _ERRORS * np.array(found.along_error)
    return found if surely.max() > _SHARED else None


def _unit_noise(number, shared, shape):
    """Noise of variance 1, which neighbours share as that of the frames."""
    key = jax.random.fold_in(jax.random.key(0), number)
    if shared is None:
        return jax.random.normal(key, shape)
    return jnp.asarray(correlated_noise(key, shared, shape) / np.sqrt(shared.variance), jnp.float32)


def _shared_by(frames):
    """How many pixels along y and x on each side share a pixel's noise."""
    changes = second_differences(frames)
    power = jnp.maximum(jnp.mean(changes**2), 1e-30)
    down = jnp.mean(changes[:, 1:] * changes[:, :-1]) / power
    right = jnp.mean(changes[:, :, 1:] * changes[:, :, :-1]) / power
    return int(_SHARING * (down > _SHARED)), int(_SHARING * (right > _SHARED))


def _middle(length, multiple):
    side = min(length, _SIDE) // multiple * multiple
    start = (length - side) // 2
    return slice(start, start + side)


class _Pair(NamedTuple):
    """Two copies of a frame whose noise is independent: seen, and judged by."""

    seen: Float[Array, "h w"]
    judge: Float[Array, "h w"]
    variance: Float[Array, ""]  # of the noise of the latter, on average


def _variance(frame, noise, offset):
    level = jnp.maximum(gaussian_filter(frame, (_BLUR, _BLUR)) - offset, 0)
    return noise.gain * level + noise.read_std**2


@jax.jit
def _noise_of(frame, noise, offset, least):
    """The noise of all frames, unless that of one is of another strength: photons may be few.

    It has at least a variance that was measured in the flattest places.
    """
    found = jnp.mean(_variance(frame, noise, offset))
    factor = jnp.maximum(noise_level(frame)[0], 0) / jnp.maximum(found, 1e-30)
    factor = jnp.where((factor > 1 / _ALIKE) & (factor < _ALIKE), 1.0, factor)
    factor = jnp.maximum(factor, least / jnp.maximum(found, 1e-30))
    return NoiseEstimate(factor * noise.gain, jnp.sqrt(factor) * noise.read_std)


@jax.jit
def _pair(frame, unit, noise, offset):
    variance = _variance(frame, noise, offset)
    drawn = jnp.sqrt(variance) * unit
    judged_by = (1 + 1 / _ADDED**2) * jnp.mean(variance)
    return _Pair(frame + _ADDED * drawn, frame - drawn / _ADDED, judged_by)


@jax.jit
def _error(denoiser, beside, pair):
    """The mean squared error of a network at one frame, without bias if the noise is right."""
    background = denoiser.scale.background
    others = None if beside is None else (beside - background)[None]
    deconvolved = network_output(
        denoiser.params, (pair.seen - background)[None], denoiser.scale, denoiser.config, others
    )[0]
    missed = convolve(deconvolved, denoiser.psf) - (pair.judge - background)
    return jnp.mean(missed**2) - pair.variance
