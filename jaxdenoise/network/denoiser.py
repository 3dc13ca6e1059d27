"""A trained model, and what its network computes."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax

from jaxdenoise.config import TrainConfig
from jaxdenoise.network import unet


class Scale(NamedTuple):
    """How grey levels relate to what the network sees: x = (grey - background - mean) / std. Scalars, in grey levels."""

    background: jax.Array
    mean: jax.Array
    std: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["best", "averaged", "last", "psf", "scale", "history"],
    meta_fields=["config"],
)
@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A trained model: a pytree with all that prediction needs.

    Attributes:
        best: the averaged parameters that validation chose, see `is_chosen`.
        averaged: exponential moving average of the parameters at the end (the same as ``last`` when
            ``config.averaging`` is 0).
        last: parameters after the last step.
        psf: (h, w) float32.
        scale: `Scale`: background, mean and standard deviation in grey levels.
        history: dict of (epochs,) float arrays: epoch, learning_rate, train_loss, data_loss,
            positivity_loss, validation_loss, chosen (1 where the epoch's parameters became
            ``best``).
        config: `TrainConfig`, static; ``config.weights`` says which parameters denoise.
    """

    best: dict
    averaged: dict
    last: dict
    psf: jax.Array
    scale: Scale
    history: dict
    config: TrainConfig

    @property
    def params(self):
        """The parameters that denoise."""
        return getattr(self, self.config.weights)


def network_output(params, images, scale, config, beside=None):
    """The deconvolved images z above the background: grey levels in, grey levels out.

    Args:
        params: network parameters.
        images: (B, H, W) float32 above the background; H and W multiples of
            ``config.network.multiple``.
        scale: `Scale`.
        config: `TrainConfig`, static.
        beside: (B, 2 K, H, W) float32, the frames beside the images, for a network that sees K
            neighbours on each side.

    Returns:
        (B, H, W) float32.
    """
    images, beside = jax.tree.map(
        lambda levels: (levels - scale.mean) / scale.std, (images, beside)
    )
    output = unet.apply(params, images, config.network, beside=beside, precision=config.precision)
    return output * (config.output_scale * scale.std) + scale.mean
