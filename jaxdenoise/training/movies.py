"""Whether the network for movies is the better one for some movie, by the error without truth.

Frames that follow each other need not show one scene: what the file calls time may be anything.

Noise that is added to a frame, and the same noise taken from it with another factor, give two
frames of which neither tells anything of the other's noise: what a network makes of the first one
is judged by the second one, its own pixel included. Blind spots would judge a network that does not
see the pixel, which is worse off without other frames than it is when it denoises.

Source: Oliveira, Lei and Tibshirani, "Unbiased risk estimation in the normal means problem via
    coupled bootstrap techniques", 2021; Pang et al., "Recorrupted-to-recorrupted", CVPR 2021.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.imaging.low_rank import second_differences
from jaxdenoise.microscope.noise_estimation import NoiseEstimate, estimate_noise
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser, network_output
from jaxdenoise.network.guides import FEWEST, guides_of

_SIDE, _FRAMES, _LOOKS = 256, 128, 24  # pixels a side, frames of the run, frames that are compared
_ADDED = 0.5  # of the noise of a frame, how much is added to what a network sees
_BLUR = 2.0  # sigma in pixels of the brightness by which noise is added
# Pixels on each side that share their noise where that of direct neighbours correlates by more.
_SHARING, _SHARED = 2, 0.1
# Of its error, by which the other network must be better; and in standard errors.
_BETTER, _ERRORS = 0.02, 3.0


class Choice(NamedTuple):
    """Which network is the better one for a movie.

    Attributes:
        guided: the one for movies.
        text: one line that says so, with the evidence.
        shared: pixels on each side along y and x that were taken to share a pixel's noise.
    """

    guided: bool
    text: str
    shared: tuple[int, int] = (0, 0)


def choose(alone: Denoiser, guided: Denoiser, frames: Float[np.ndarray, "T H W"]) -> Choice:
    """Compare two networks by their errors at some frames of a movie. Host side, deterministic.

    Args:
        alone: the model for single frames.
        guided: the model for movies.
        frames: a run of the movie's frames in grey levels, finite; what is beyond 128 frames or the
            middle 256 x 256 pixels does not count.
    """
    count = len(frames)
    if count < FEWEST:
        return Choice(False, f"other frames: none, {count} in a row are too few")
    multiple = alone.config.network.multiple
    rows, columns = (middle(length, multiple) for length in frames.shape[1:])
    run = jnp.asarray(frames[:_FRAMES, rows, columns], jnp.float32)
    noise = estimate_noise(run, offset=alone.scale.background)
    beside = stacks.table(len(run), len(run), guided.config.network.neighbours)
    numbers = np.unique(np.linspace(0, len(run) - 1, _LOOKS).round().astype(int))
    pairs, seen = {}, run
    for n in map(int, numbers):
        pairs[n] = pair_of(run[n], n, noise, alone.scale.background)
        seen = seen.at[n].set(pairs[n].seen)
    # The guides see the same noise.
    guides = guides_of(np.asarray(seen))
    errors = np.array(
        [
            [
                float(error_of(model, pair, others))
                for model, others in (
                    (alone, None),
                    (guided, jnp.stack([*seen[beside[n]], guides[n]])),
                )
            ]
            for n, pair in pairs.items()
        ]
    )
    differences = errors[:, 1] - errors[:, 0]
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    usual = max(errors[:, 0].mean(), 1e-30)
    better = bool(mean < -_ERRORS * error and mean < -_BETTER * usual)
    ratio = f"{max(1 + mean / usual, 0):.2f} +- {error / usual:.2f}"
    words = "they help" if better else "none, that they help is not sure"
    text = f"other frames: {words} (estimated error {ratio} of that without)"
    return Choice(better, text, _shared_by(run))


def _shared_by(frames):
    """How many pixels along y and x on each side share a pixel's noise."""
    changes = second_differences(frames)
    power = jnp.maximum(jnp.mean(changes**2), 1e-30)
    down = jnp.mean(changes[:, 1:] * changes[:, :-1]) / power
    right = jnp.mean(changes[:, :, 1:] * changes[:, :, :-1]) / power
    return int(_SHARING * (down > _SHARED)), int(_SHARING * (right > _SHARED))


def middle(length: int, multiple: int) -> slice:
    """Return the middle 256 pixels of a side, or all of a shorter one, in multiples of some."""
    side = min(length, _SIDE) // multiple * multiple
    start = (length - side) // 2
    return slice(start, start + side)


class Pair(NamedTuple):
    """Two frames of one scene whose noise is independent.

    Attributes:
        seen: (h, w) what a network sees.
        judge: (h, w) what its result is compared with.
        variance: mean variance of the noise of the latter.
    """

    seen: Float[Array, "h w"]
    judge: Float[Array, "h w"]
    variance: Float[Array, ""]


@jax.jit
def pair_of(
    frame: Float[Array, "h w"], number: Scalar, noise: NoiseEstimate, offset: Scalar
) -> Pair:
    """Add noise to a frame, and take it away from another copy. Pure JAX.

    Args:
        frame: in grey levels.
        number: of the frame; the same one gives the same noise.
        noise: of the frame.
        offset: grey level without light, at which `noise` was estimated.
    """
    level = jnp.maximum(gaussian_filter(frame, (_BLUR, _BLUR)) - offset, 0)
    variance = noise.gain * level + noise.read_std**2
    key = jax.random.fold_in(jax.random.key(0), number)
    drawn = jnp.sqrt(variance) * jax.random.normal(key, frame.shape)
    judged_by = (1 + 1 / _ADDED**2) * jnp.mean(variance)
    return Pair(frame + _ADDED * drawn, frame - drawn / _ADDED, judged_by)


@jax.jit
def error_of(
    denoiser: Denoiser, pair: Pair, beside: Float[Array, "c h w"] | None
) -> Float[Array, ""]:
    """Return the mean squared error of a network at one frame, without bias if the noise is right.

    Args:
        denoiser: the model.
        pair: of the frame.
        beside: what else the network sees, in grey levels; None: nothing.
    """
    background = denoiser.scale.background
    others = None if beside is None else (beside - background)[None]
    deconvolved = network_output(
        denoiser.params, (pair.seen - background)[None], denoiser.scale, denoiser.config, others
    )[0]
    missed = convolve(deconvolved, denoiser.psf) - (pair.judge - background)
    return jnp.mean(missed**2) - pair.variance
