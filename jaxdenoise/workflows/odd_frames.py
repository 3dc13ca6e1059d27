"""Frames with which something is wrong: flashes among them, and what is said of them. Host side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdenoise.io.images import ImageFile

# A flash, or a frame without light: its mean is this many robust standard deviations, and this
# share of the usual mean above the darkest pixels, off the median of the frames around it in time.
_OFF, _OFF_SHARE = 10.0, 0.5
DARK = 0.01
_AROUND = 5  # frames
_MOST_ODD = 0.1  # of the frames: more are no accident


def flashes(file: ImageFile, means: Any, dark: Any, good: Any) -> list[int]:
    """Return the frames of a series in time whose mean is far off that of those around them."""
    others = [
        (letter, size)
        for letter, size in zip(file.info.axes, file.info.shape, strict=True)
        if letter not in "YX"
    ]
    letters = "".join(letter for letter, _ in others)
    if "T" not in letters or len(good) < _AROUND:
        return []
    places = np.stack(
        np.unravel_index(np.array(file.frames.numbers)[good], [size for _, size in others]), axis=1
    )
    beside = np.delete(places, letters.index("T"), axis=1)
    found: list[int] = []
    for one in np.unique(beside, axis=0):
        series = good[(beside == one).all(axis=1)]
        if len(series) >= _AROUND:
            signal = float(np.median(means[series]) - np.median(dark[series]))
            found += series[_off(means[series], signal)].tolist()
    return found if len(found) <= max(1, _MOST_ODD * len(good)) else []


def _off(means, signal):
    """Whether each mean of a series is off: (N,) bool."""
    half = _AROUND // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(means, half, "reflect"), _AROUND)
    middle = np.median(windows, axis=1)
    off = np.abs(means - middle)
    usual = 1.4826 * np.median(off)
    return off > max(_OFF * usual, _OFF_SHARE * signal)


_SEVERAL = {  # what is wrong with one frame, said of several
    "holds no data": "hold no data",
    "holds a single grey level": "hold a single grey level",
    "is over-exposed": "are over-exposed",
    "flashes or is dark": "flash or are dark",
}


def told(what: str, numbers: Sequence[int]) -> str:
    """Return the line on frames, by their numbers from 1 on, with which the same is wrong."""
    if len(numbers) == 1:
        return f"frame {numbers[0]} {what}; it trains nothing and is written as it is"
    few = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return (
        f"{len(numbers)} frames ({few}) {_SEVERAL[what]}; they train nothing and are written as "
        "they are"
    )
