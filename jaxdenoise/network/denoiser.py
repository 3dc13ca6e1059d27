"""A trained model, and what its network computes."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.config import TrainConfig
from jaxdenoise.network import unet
from jaxdenoise.network.exposure import Exposure
from jaxdenoise.network.settings import Settings
from jaxdenoise.network.unet import Params
from jaxdenoise.system import meshes


class Scale(NamedTuple):
    """How grey levels become what the network sees: x = (grey - background - mean) / std.

    Attributes:
        background: grey level without light.
        mean: of the images above the background, in grey levels.
        std: standard deviation of the images, in grey levels.
        darkest: `exposure.Exposure.darkest` of the images. It is the background, unless another one
            was given.
        noise: `exposure.Exposure.noise` of the images; 0 if it is not known.
    """

    background: float | Float[Array | np.ndarray | np.float32, ""]
    mean: float | Float[Array | np.ndarray | np.float32, ""]
    std: float | Float[Array | np.ndarray | np.float32, ""]
    darkest: float | Float[Array | np.ndarray | np.float32, ""] = 0.0
    noise: float | Float[Array | np.ndarray | np.float32, ""] = 0.0


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["best", "averaged", "last", "psf", "scale", "history"],
    meta_fields=["config"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Denoiser:
    """A trained model: a pytree with all that prediction needs.

    Attributes:
        best: the averaged parameters that validation chose, see `selection.is_chosen`.
        averaged: exponential moving average of the parameters at the end (the same as ``last`` when
            ``config.averaging`` is 0).
        last: parameters after the last step.
        psf: (h, w) float32; (d, h, w) of a model of volumes.
        scale: `Scale`: background, mean and standard deviation in grey levels.
        history: dict of (epochs,) float arrays: epoch, learning_rate, train_loss, data_loss,
            positivity_loss, validation_loss, chosen (1 where the epoch's parameters became
            ``best``).
        config: `Settings`, static; ``config.weights`` says which parameters denoise.
    """

    # As of any pytree, the arrays may be replaced by other leaves, such as shapes or None.
    best: Any
    averaged: Any
    last: Any
    psf: Any
    scale: Any
    history: Any
    config: Settings

    def __repr__(self) -> str:
        """Return what the model is in one line, without its weights."""
        network, columns = self.config.network, jax.tree.leaves(self.history)
        count = sum(getattr(leaf, "size", 0) for leaf in jax.tree.leaves(self.last))
        trained = f"{np.size(columns[0])} epochs" if columns else "not trained"
        sides = " x ".join(map(str, getattr(self.psf, "shape", ())))
        return (
            f"Denoiser({trained}, {count:,} weights, depth {network.depth}, filters "
            f"{network.filters}, stride {network.stride}, neighbours {network.neighbours}, PSF "
            f"{sides} pixels, weights {self.config.weights!r}, targets {self.config.targets!r})"
        )

    @property
    def params(self) -> Params:
        """The parameters that denoise."""
        return getattr(self, self.config.weights)

    def request(self) -> TrainConfig:
        """Return the request that decides this model's settings and background, for JSON."""
        return self.config.request(background=float(self.scale.background))

    def for_exposure(self, exposure: Exposure) -> "Denoiser":
        """Return the model for images of another exposure, in units of their own noise.

        A model of the same exposure stays as it is, and so does one that does not know its own.

        Args:
            exposure: what `exposure.measure_exposure` measured on the images.
        """
        own = self.scale
        factor = exposure.noise / float(own.noise) if float(own.noise) > 0 else 0.0
        if factor <= 0 or Exposure(float(own.darkest), float(own.noise)) == exposure:
            return self
        above = float(own.background) - float(own.darkest)
        values = (
            exposure.darkest + above * factor,
            float(own.mean) * factor,
            float(own.std) * factor,
            exposure.darkest,
            exposure.noise,
        )
        return dataclasses.replace(self, scale=Scale(*map(np.float32, values)))

    def for_devices(self, devices: Sequence[jax.Device] | None) -> "Denoiser":
        """Return the model for computing on some devices; None is the default device."""
        config = self.config.for_platform(meshes.platform_of(devices))
        return dataclasses.replace(self, config=config)


def network_output(
    params: Params,
    images: Float[Array | np.ndarray, "B H W"],
    scale: Scale,
    config: Settings,
    beside: Float[Array | np.ndarray, "B beside H W"] | None = None,
    *,
    padded: bool = True,
) -> Float[Array, "B H2 W2"]:
    """Return the deconvolved images z above the background: grey levels in, grey levels out.

    Args:
        params: network parameters.
        images: (B, H, W) float32 above the background; H and W multiples of
            ``config.network.multiple``.
        scale: `Scale`.
        config: `Settings`, static.
        beside: (B, `NetworkShape.beside`, H, W) float32, the K neighbours on each side of the
            images, and last their guides, which the network corrects.
        padded: as of `unet.apply`, static.

    Returns:
        (B, H, W) float32, or without the network's ``rim``.
    """
    images, beside = jax.tree.map(
        lambda levels: (levels - scale.mean) / scale.std, (images, beside)
    )
    arithmetic = {"precision": config.precision, "platform": config.platform}
    options: dict[str, Any] = arithmetic | {"beside": beside, "padded": padded}
    output = unet.apply(params, images, config.network, **options)
    start = scale.mean
    if beside is not None and config.network.guided:
        rim = (images.shape[1] - output.shape[1]) // 2
        inside = slice(rim, rim + output.shape[1]), slice(rim, rim + output.shape[2])
        start += scale.std * beside[:, -1, *inside]
    return output * (config.output_scale * scale.std) + start
