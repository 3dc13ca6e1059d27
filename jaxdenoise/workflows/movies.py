"""Movies among files: which of their frames follow each other in time. Host side."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from jaxdenoise.io.images import ImageFile
from jaxdenoise.network.guides import FEWEST
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.settings import Training

_FRAMES, _SIDE = 128, 256  # of a run that tells whether the network for movies is the better one


def is_movie(file: ImageFile) -> bool:
    """Return whether a file has an axis of time with at least `guides.FEWEST` frames."""
    sizes = dict(zip(file.info.axes, file.info.shape, strict=True))
    return sizes.get("T", 1) >= FEWEST


def for_movies(training: Training, files: Sequence[ImageFile], along: str | None) -> Training:
    """Return the settings with which files are trained on: movies with guides, if nothing else is.

    Args:
        training: what is asked for.
        files: all that are trained on.
        along: the axis of neighbouring frames that is asked for.
    """
    left_open = training.neighbours is None and training.guided is None
    if not left_open or training.preset not in ("fast", "best") or along not in (None, "T"):
        return training
    if training.targets == "repeats" or not all(map(is_movie, files)):
        return training
    return replace(training, neighbours=1, guided=True)


def run_of(part: Part, numbers: Sequence[int]) -> Float32[np.ndarray, "T h w"] | None:
    """Return frames of a part that follow each other in time, the middle of each.

    Args:
        part: whose frames stand in rows along the time if it is a movie.
        numbers: of the frames that one model denoises.

    Returns:
        None if it is no movie, or if of several rows some frames are missing.
    """
    row = part.frames.row if len(numbers) == len(part.frames) else len(numbers)
    several = part.frames.row < len(part.frames)
    if not is_movie(part.file) or (several and len(numbers) < len(part.frames)) or row < FEWEST:
        return None
    first = len(numbers) // row // 2 * row  # of the row in the middle
    rows, columns = (
        slice((length - side) // 2, (length - side) // 2 + side)
        for length, side in ((n, min(n, _SIDE)) for n in part.frames.shape[1:])
    )
    run = numbers[first : first + min(row, _FRAMES)]
    return np.stack([part.frames[n, rows, columns] for n in run])
