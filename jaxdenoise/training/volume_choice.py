"""Whether the network for volumes is the better one for some stack, by the error without truth.

Planes may lie so far apart that they have nothing in common. `movies` tells how the error is
estimated.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.microscope.noise_estimation import NoiseEstimate, estimate_noise, noise_level
from jaxdenoise.network import stacks
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.guides import FEWEST
from jaxdenoise.training.movies import Choice, error_of, middle, pair_of

_SIDE, _PLANES, _LOOKS = 256, 128, 24  # pixels a side, planes of the run, planes that are compared
_MOST_DRAWS = 4  # of noise for one plane: small planes are looked at more often
# Of its error, by which the other network must be better; and in standard errors.
_BETTER, _ERRORS = 0.02, 3.0


def choose_for_volume(
    alone: Denoiser, together: Denoiser, planes: Float[np.ndarray, "Z H W"]
) -> Choice:
    """Compare two networks by their errors at some planes of a stack. Host side, deterministic.

    Errors count in units of the noise of each plane, so that dark planes count as bright ones do.

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
    lit = np.flatnonzero(np.ptp(run, axis=(1, 2)))  # a plane without light has nothing to miss
    if len(lit) < FEWEST:
        return Choice(False, f"other planes: none, {len(lit)} of them show something")
    offset = alone.scale.background
    noise = estimate_noise(run[lit], offset=offset)
    beside = stacks.frames_beside(together.config.network, len(run), len(run))
    numbers = lit[np.unique(np.linspace(0, len(lit) - 1, _LOOKS).round().astype(int))]
    draws = int(np.clip(_SIDE**2 // run[0].size, 1, _MOST_DRAWS))
    errors = np.zeros((len(numbers), 2))
    for row, n in enumerate(map(int, numbers)):
        own = _noise_of(run[n], noise, offset)
        for number in range(n * draws, (n + 1) * draws):
            pair = pair_of(run[n], number, own, offset)
            found = [
                float(error_of(model, pair, others))
                for model, others in ((alone, None), (together, run[beside[n]]))
            ]
            errors[row] += np.array(found) / max(float(pair.variance), 1e-30)
    differences = errors[:, 1] - errors[:, 0]
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    usual = max(errors[:, 0].mean(), 1e-30)
    better = bool(mean < -_ERRORS * error and mean < -_BETTER * usual)
    words = "they help" if better else "none, that they help is not sure"
    ratio = f"{max(1 + mean / usual, 0):.2f} +- {error / usual:.2f}"
    return Choice(better, f"other planes: {words} (estimated error {ratio} of that without)")


def _noise_of(
    plane: Float[Array, "h w"], noise: NoiseEstimate, offset: Float[Array, ""] | float
) -> NoiseEstimate:
    """The noise of a stack, as strong as that of one plane: of few photons each is an outlier."""
    measured = NoiseEstimate(jnp.float32(0), jnp.sqrt(jnp.maximum(noise_level(plane)[0], 0)))
    wanted, found = (pair_of(plane, 0, one, offset).variance for one in (measured, noise))
    factor = wanted / jnp.maximum(found, 1e-30)
    return NoiseEstimate(factor * noise.gain, jnp.sqrt(factor) * noise.read_std)
