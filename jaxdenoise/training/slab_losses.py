"""The loss of slabs: predicted planes, blurred by a PSF that mixes them. Pure JAX."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdenoise.imaging.symmetry import apply_symmetry
from jaxdenoise.microscope.psf import convolve_inside
from jaxdenoise.network.denoiser import Params, Scale, network_output
from jaxdenoise.network.settings import Settings
from jaxdenoise.targets.losses import LossTerms
from jaxdenoise.targets.slabs import SlabBatch
from jaxdenoise.training.objective import objective


def slab_losses(
    params: Params,
    batch: SlabBatch,
    scale: Scale,
    psf: Float[Array, "d h w"],
    config: Settings,
) -> LossTerms:
    """Return `losses.LossTerms` with one value per slab, (B,), of a `slabs.SlabBatch`."""
    shape = batch.visible.shape
    planes = batch.visible.reshape(-1, *shape[-2:])
    beside = None if batch.beside is None else batch.beside.reshape(len(planes), -1, *shape[-2:])
    deconvolved = network_output(params, planes, scale, config, beside).reshape(shape)
    turn = jax.vmap(apply_symmetry, (0, None))
    turned = jax.vmap(turn, (None, 0))(psf, batch.symmetry)
    denoised = jax.vmap(blurred_slab)(deconvolved, batch.sources, turned)
    return jax.vmap(objective(scale, config))(batch.noisy, batch.scored, deconvolved, denoised)


def blurred_slab(
    planes: Float[Array, "W P Q"], sources: Int[Array, " extended"], psf: Float[Array, "d h w"]
) -> Float[Array, "W P Q"]:
    """Blur the planes of a slab, which is reflected at its borders along y and x.

    Args:
        planes: (W, P, Q) float32.
        sources: (W + d - 1,) int32, as of `slabs.Slabs`; what the PSF collects for planes that are
            not scored is not right.
        psf: (d, h, w) float32.
    """
    return convolve_inside(jnp.take(planes, sources, axis=0), psf)
