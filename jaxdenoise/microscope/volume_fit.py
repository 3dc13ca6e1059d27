"""Fit light that is nowhere negative to a denoised volume. Pure JAX.

What a microscope shows is light blurred by its PSF. A network that sees a few planes at a time errs
in each of them by itself, so that its volume holds more along z than the PSF lets through. The
nearest volume that the microscope could have shown holds nothing of it.

Source: Richardson, JOSA 62 (1972); Lucy, The Astronomical Journal 79 (1974); with the acceleration
of Biggs and Andrews, Applied Optics 36 (1997).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdenoise.microscope.psf import convolve

STEPS = 100  # with fewer, volumes with little noise lose detail
_DARKEST = 1e-12  # grey levels, of whose squares float32 holds sums
_LEAST = 1e-6  # of the mean: light that counts as none
_FASTEST = 0.98  # of the last step, by which the next one goes further at most


def light_of(
    volume: Float[Array, "Z H W"], psf: Float[Array, "d h w"], *, steps: int = STEPS
) -> Float[Array, "Z H W"]:
    """Return the light z >= 0 whose blur z * PSF comes near a volume.

    Args:
        volume: In grey levels above the background; what is below zero counts as dark.
        psf: With odd sides, sum 1, not negative.
        steps: Of Richardson and Lucy, static. Each brings back finer detail, and what noise is
            left: the blur of the result is what to look at, not its finest detail.

    Returns:
        float32, in grey levels. Its border is reflected, as `convolve` does.
    """
    mirrored = psf[::-1, ::-1, ::-1]
    mean = jnp.maximum(jnp.mean(jnp.maximum(volume, 0)), _DARKEST)
    least = _LEAST * mean
    target = jnp.maximum(volume, least)

    def step(_, state):
        light, ahead, last = state
        ratio = target / jnp.maximum(convolve(ahead, psf), least)
        found = ahead * jnp.maximum(convolve(ratio, mirrored), 0)
        change = found - ahead
        further = jnp.sum(change * last) / jnp.maximum(jnp.sum(last**2), _DARKEST**2)
        further = jnp.clip(further, 0, _FASTEST)
        return found, jnp.maximum(found + further * (found - light), least), change

    flat = jnp.full(volume.shape, mean, jnp.float32)
    return jax.lax.fori_loop(0, steps, step, (flat, flat, jnp.zeros_like(flat)))[0]
