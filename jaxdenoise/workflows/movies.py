"""Movies and volumes among files: which of their frames are seen together. Host side."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from jaxdenoise.config import PRETRAINED_MOVIES, PRETRAINED_VOLUMES, UNetConfig
from jaxdenoise.io.axes import time_axis
from jaxdenoise.io.images import ImageFile
from jaxdenoise.network.guides import FEWEST
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.psfs import mixes_planes
from jaxdenoise.workflows.settings import Training

_FRAMES, _SIDE = 128, 256  # of a run that tells whether the network for movies is the better one


def axis_seen(file: ImageFile, *, mixed: bool = False) -> str | None:
    """Return the axis along which a network sees other frames, if nothing else is asked for.

    It is "T" or "Z", of which a file has at least `guides.FEWEST` frames: the longer one, and of
    two that are as long "Z". Pages without a name count as "T" (`axes.time_axis`). None: there is
    no such axis.

    Args:
        file: the opened file.
        mixed: whether the PSF mixes planes: then it is "Z" or none.
    """
    sizes = dict(zip(file.info.axes, file.info.shape, strict=True))
    times = 1 if mixed else sizes.get(time_axis(file.info.axes) or "T", 1)
    lengths = {"Z": sizes.get("Z", 1), "T": times}
    axis = max(lengths, key=lengths.__getitem__)
    return axis if lengths[axis] >= FEWEST else None


def for_movies(training: Training, files: Sequence[ImageFile], along: str | None) -> Training:
    """Return the settings with which movies and volumes are trained on, if nothing else is asked.

    Movies are trained on with guides, volumes with planes above and below.

    Args:
        training: what is asked for.
        files: all that are trained on.
        along: the axis of neighbouring frames that is asked for.
    """
    mixed = mixes_planes(training, files)
    axis, *others = {axis_seen(file, mixed=mixed) for file in files}
    if axis is None or others or along not in (None, axis):
        return training
    return for_axis(training, axis)


def for_axis(training: Training, axis: str) -> Training:
    """Return `for_movies` of files that are all movies, "T", or volumes, "Z"."""
    left_open = training.neighbours is training.guided is training.planes is None
    if not left_open or training.preset not in ("fast", "best") or training.targets == "repeats":
        return training
    if axis == "Z":
        return replace(training, neighbours=PRETRAINED_VOLUMES.neighbours, planes=True)
    return replace(training, neighbours=PRETRAINED_MOVIES.neighbours, guided=True)


def axis_of(network: UNetConfig, along: str | None) -> str | None:
    """Return the axis along which a network's frames stand in rows.

    Args:
        network: its shape.
        along: the axis that is asked for; None: that of the network, or the only one.
    """
    if along is None and network.planes:
        return "Z"
    return "T" if along is None and network.guided else along


def longest_run(row: int, sides: Sequence[int]) -> tuple[int, list[int]]:
    """Return how many frames `run_of` returns of a row of them, and their sides in pixels."""
    return min(row, _FRAMES), [min(side, _SIDE) for side in sides]


def run_of(part: Part, numbers: Sequence[int]) -> Float32[np.ndarray, "T h w"] | None:
    """Return frames of a part that follow each other in time or depth, the middle of each.

    Args:
        part: whose frames stand in rows along `axis_seen`, if it has such an axis.
        numbers: of the frames that one model denoises.

    Returns:
        None if it has none, or if of several rows some frames are missing.
    """
    row = part.frames.row if len(numbers) == len(part.frames) else len(numbers)
    several = part.frames.row < len(part.frames)
    missing = several and len(numbers) < len(part.frames)
    if axis_seen(part.file) is None or missing or row < FEWEST:
        return None
    first = len(numbers) // row // 2 * row  # of the row in the middle
    rows, columns = (
        slice((length - side) // 2, (length - side) // 2 + side)
        for length, side in ((n, min(n, _SIDE)) for n in part.frames.shape[1:])
    )
    run = numbers[first : first + min(row, _FRAMES)]
    return np.stack([part.frames[n, rows, columns] for n in run])
