"""The loss of an image with the weights that a training asks for. Pure JAX."""

from collections.abc import Callable
from functools import partial

from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import Settings
from jaxdenoise.targets.losses import LossTerms, total_loss


def objective(scale: Scale, config: Settings) -> Callable[..., LossTerms]:
    """Return `losses.total_loss` in the units of some images.

    Args:
        scale: of the images.
        config: the settings.
    """
    return partial(
        total_loss,
        std=scale.std,
        positivity=config.positivity,
        margin=config.positivity_margin * scale.noise,
        variation=config.variation,
    )
