"""The networks that come with the package, as models for images on which nothing is trained."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.training import fit
from jaxdenoise.training.other_frames import choose
from jaxdenoise.workflows.settings import Number, Training
from jaxdenoise.workflows.stacks import TrainingStack


def instant_model(
    stack: TrainingStack,
    *,
    noise: Number | None,
    config: TrainConfig,
    row: Float32[np.ndarray, "T h w"] | None = None,
    planes: bool = False,
) -> tuple[Denoiser, tuple[str, ...]]:
    """Return a network that comes with the package as a model for these images, and evidence.

    Args:
        stack: the images.
        noise: its standard deviation in grey levels; None: it is estimated.
        config: the settings.
        row: frames that follow each other in time or depth, by which the network for movies or
            volumes is tried; None for images that are none.
        planes: whether they do so in depth.
    """
    plan = fit.prepare_instant(stack.frames, config=config, exposure=stack.exposure, clean=True)
    model = fit.instant_of(plan, noise_std=noise)
    if row is None:
        return model, plan.evidence
    together = fit.instant_of(plan, noise_std=noise, guided=not planes, planes=planes)
    choice = choose(model, together, row)
    if choice.together:
        # Nothing is trained, but the guard has to know which pixels share their noise.
        model = replace(together, config=replace(together.config, blind=choice.shared))
    return model, (*plan.evidence, choice.text)


def together_if_better(
    training: Training, stack: TrainingStack, *, mixed: bool = False
) -> tuple[Training, TrainingStack, tuple[str, ...]]:
    """Return a training that sees other frames, or not if the networks that are there say so.

    Args:
        training: of a network for movies or volumes.
        stack: (S, N, H, W), rows of a movie's frames, or of a volume's planes.
        mixed: whether the PSF mixes planes, which stand in rows with any network.

    Returns:
        The training and the stack of it, and a line on the choice.
    """
    middle, _ = fill_stack(stack.frames[len(stack.frames) // 2])
    config = TrainConfig(network=UNetConfig(stride=training.config().network.stride))
    alone = TrainingStack(middle, None, stack.exposure)
    planes = bool(training.planes)
    model, lines = instant_model(alone, noise=None, config=config, row=middle, planes=planes)
    if model.config.network.neighbours:
        return training, stack, lines[-1:]
    training = replace(training, neighbours=0, guided=None, planes=None)
    if mixed:
        return training, stack, lines[-1:]
    height, width = stack.frames.shape[-2:]
    frames = stack.frames.reshape(-1, height, width)
    targets = None if stack.targets is None else stack.targets.reshape(frames.shape)
    return training, TrainingStack(frames, targets, stack.exposure), lines[-1:]
