"""Where the frames of a file stand in time and depth, and what they are called. Host side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxdenoise.io.axes import time_axis
from jaxdenoise.io.images import ImageFile

_NAMES = {"T": "frame", "Z": "plane"}


def coordinates(file: ImageFile) -> dict[str, Int[np.ndarray, " N"]]:
    """Return the place of each frame along each axis but Y and X: dict of its letter to numbers."""
    others = [(a, n) for a, n in zip(file.info.axes, file.info.shape, strict=True) if a not in "YX"]
    numbers = np.asarray(file.frames.numbers)
    places = np.unravel_index(numbers, [n for _, n in others]) if others else ()
    return {axis: place for (axis, _), place in zip(others, places, strict=True)}


class FrameNames:
    """Words for the frames of a file, by their numbers: "frame 3", "plane 18", "frame 3, plane 18".

    Frames count from 1. Where a file has other axes, or neither time nor depth, its frames are
    counted as they come.
    """

    def __init__(self, file: ImageFile) -> None:
        """Look at the axes of a file."""
        places = coordinates(file)
        several = {axis: place for axis, place in places.items() if np.ptp(place) > 0}
        known = set(several) <= set(_NAMES)
        self._places = {axis: several[axis] for axis in "TZ" if axis in several} if known else {}
        self._order = np.argsort(np.argsort(np.asarray(file.frames.numbers)))

    def __getitem__(self, number: int) -> str:
        """Return the words for a frame."""
        words = [f"{_NAMES[axis]} {place[number] + 1}" for axis, place in self._places.items()]
        return ", ".join(words) or f"frame {self._order[number] + 1}"


def in_time(file: ImageFile) -> Sequence[int]:
    """Return the frames of the first row, if rows are frames that follow each other in time.

    Those are what a network sees beside each other. Empty where they are something else.
    """
    row, places, time = range(file.frames.row), coordinates(file), time_axis(file.info.axes)
    if time is None:
        return ()
    apart = {axis: np.diff(place[: len(row)]) for axis, place in places.items()}
    follow = all(np.all(steps == (axis == time)) for axis, steps in apart.items())
    return row if follow else ()


def of_one_plane(file: ImageFile) -> Sequence[int]:
    """Return the frames of the plane in the middle, in the order of time."""
    places, time = coordinates(file), time_axis(file.info.axes)
    own = np.ones(len(file.frames), bool)
    for axis, place in places.items():
        if axis != time:
            own &= place == np.unique(place)[len(np.unique(place)) // 2]
    numbers = np.flatnonzero(own)
    order = slice(None) if time is None else np.argsort(places[time][numbers])
    return [int(n) for n in numbers[order]]
