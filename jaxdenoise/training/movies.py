"""Whether the network for movies is the better one for some movie, by pixels that it did not see.

Frames that follow each other need not show one scene: what the file calls time may be anything.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdenoise.imaging.low_rank import second_differences
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser, network_output
from jaxdenoise.network.guides import FEWEST, guides_of
from jaxdenoise.targets import blindspot

_SIDE, _FRAMES, _LOOKS = 256, 128, 24  # pixels a side, frames of the run, frames that are compared
_BOX = 6  # pixels a side of the boxes that hold one blind spot each
# Pixels on each side that are hidden, too, where the noise of direct neighbours correlates by more.
_HIDDEN, _SHARED = 2, 0.1
# Of the error, by which the other network must be better; and in its standard errors. By 1.5, four
# of twelve stacks whose frames have nothing in common were taken (experiments/movie_choice.py).
_BETTER, _ERRORS = 0.002, 3.0


class Choice(NamedTuple):
    """Which network is the better one for a movie.

    Attributes:
        guided: the one for movies.
        text: one line that says so, with the evidence.
        hidden: pixels on each side along y and x that were taken to share a pixel's noise.
    """

    guided: bool
    text: str
    hidden: tuple[int, int] = (0, 0)


def choose(alone: Denoiser, guided: Denoiser, frames: Float[np.ndarray, "T H W"]) -> Choice:
    """Compare two networks by blind spots in some frames of a movie. Host side, deterministic.

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
    rows, columns = (_middle(length, multiple) for length in frames.shape[1:])
    run = jnp.asarray(frames[:_FRAMES, rows, columns], jnp.float32)
    hidden = _shared_by(run)
    beside = stacks.table(len(run), len(run), guided.config.network.neighbours)
    numbers = np.unique(np.linspace(0, len(run) - 1, _LOOKS).round().astype(int))
    masks, seen = {}, run
    for n in map(int, numbers):
        masks[n], visible = _hide(run[n], n, hidden=hidden)
        seen = seen.at[n].set(visible)
    # Not even the guides see the hidden pixels.
    guides = guides_of(np.asarray(seen))
    errors = np.array(
        [
            [
                float(_error(model, run[n], mask, seen[n], others))
                for model, others in (
                    (alone, None),
                    (guided, jnp.stack([*seen[beside[n]], guides[n]])),
                )
            ]
            for n, mask in masks.items()
        ]
    )
    differences = errors[:, 1] - errors[:, 0]
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    usual = max(errors[:, 0].mean(), 1e-30)
    better = bool(mean < -_ERRORS * error and mean < -_BETTER * usual)
    ratio = f"{1 + mean / usual:.3f} +- {error / usual:.3f}"
    words = "they help" if better else "none, that they help is not sure"
    text = f"other frames: {words} (error of held-out pixels {ratio} of that without)"
    return Choice(better, text, hidden)


def _shared_by(frames):
    """How many pixels along y and x a blind spot has to hide, because they share its noise."""
    changes = second_differences(frames)
    power = jnp.maximum(jnp.mean(changes**2), 1e-30)
    down = jnp.mean(changes[:, 1:] * changes[:, :-1]) / power
    right = jnp.mean(changes[:, :, 1:] * changes[:, :, :-1]) / power
    return int(_HIDDEN * (down > _SHARED)), int(_HIDDEN * (right > _SHARED))


def _middle(length, multiple):
    side = min(length, _SIDE) // multiple * multiple
    start = (length - side) // 2
    return slice(start, start + side)


@partial(jax.jit, static_argnames="hidden")
def _hide(frame, number, *, hidden):
    """The blind spots of a frame, and the frame with these replaced."""
    spots, fill = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
    box = blindspot.spacing(1 / _BOX**2, hidden)
    mask = blindspot.stratified_mask(spots, frame.shape, box=box, regular=any(hidden))
    return mask, blindspot.replace_from_neighbourhood(fill, frame, mask, blind=hidden)


@jax.jit
def _error(denoiser, frame, mask, visible, beside):
    """The mean square of what is missed at the blind spots of one frame."""
    background = denoiser.scale.background
    seen = None if beside is None else (beside - background)[None]
    deconvolved = network_output(
        denoiser.params, (visible - background)[None], denoiser.scale, denoiser.config, seen
    )[0]
    missed = convolve(deconvolved, denoiser.psf) - (frame - background)
    return jnp.sum(jnp.where(mask, missed**2, 0)) / mask.sum()
