"""Whether the network for volumes is the better one for some stack, by pixels that it did not see.

Planes may lie so far apart that they have nothing in common.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.guides import FEWEST
from jaxdenoise.training.movies import Choice, held_out_error, hide, middle

_SIDE, _PLANES, _LOOKS = 256, 128, 24  # pixels a side, planes of the run, planes that are compared
# Noise is most of what is missed, so small planes are looked at with several sets of blind spots:
# as many as make up a large plane.
_MOST_MASKS = 16
# Of the error, by which the network must be better; and in its standard errors.
_BETTER, _ERRORS = 0.002, 3.0


def choose_for_volume(
    alone: Denoiser, together: Denoiser, planes: Float[np.ndarray, "Z H W"]
) -> Choice:
    """Compare two networks by blind spots in some planes of a stack. Host side, deterministic.

    Each plane counts alike, however bright it is.

    Args:
        alone: the model for single frames.
        together: the model for volumes.
        planes: of one stack, in grey levels, finite; what is beyond 128 planes or the middle
            256 x 256 pixels does not count.
    """
    if len(planes) < FEWEST:
        return Choice(False, f"other planes: none, {len(planes)} in a row are too few")
    multiple = alone.config.network.multiple
    rows, columns = (middle(length, multiple) for length in planes.shape[1:])
    run = jnp.asarray(planes[:_PLANES, rows, columns], jnp.float32)
    beside = stacks.frames_beside(together.config.network, len(run), len(run))
    lit = np.flatnonzero(np.ptp(run, axis=(1, 2)))  # a plane without light has nothing to miss
    if len(lit) < FEWEST:
        return Choice(False, f"other planes: none, {len(lit)} of them show something")
    numbers = lit[np.unique(np.linspace(0, len(lit) - 1, _LOOKS).round().astype(int))]
    masks = int(np.clip(_SIDE**2 // run[0].size, 1, _MOST_MASKS))
    errors = np.zeros((len(numbers), 2))
    for row, n in enumerate(map(int, numbers)):
        for number in range(n * masks, (n + 1) * masks):
            mask, visible = hide(run[n], number, hidden=(0, 0))
            errors[row] += [
                float(held_out_error(model, run[n], mask, visible, others))
                for model, others in ((alone, None), (together, run[beside[n]]))
            ]
    gained = 1 - errors[:, 1] / np.maximum(errors[:, 0], 1e-30)
    mean, error = gained.mean(), gained.std(ddof=1) / np.sqrt(len(gained))
    better = bool(mean > _ERRORS * error and mean > _BETTER)
    words = "they help" if better else "none, that they help is not sure"
    ratio = f"{1 - mean:.3f} +- {error:.3f}"
    return Choice(
        better, f"other planes: {words} (error of held-out pixels {ratio} of that without)"
    )
