"""The exposure of images: their grey level without light, and how strong their noise is. Host side.

Images of one exposure look alike to a network. Those of another one are mapped to it: a model that
was trained on one file denoises the next, whose lamp was brighter, in units of its own noise.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.microscope.noise_level import noise_level_of

_SMALLEST = 5  # pixels a side that `noise_level_of` needs
_PIXELS = 2**22  # from which an exposure is measured: evenly spread frames


class Exposure(NamedTuple):
    """The exposure of images.

    Attributes:
        darkest: the lowest mean of a 5 x 5 window, in grey levels.
        noise: standard deviation of the noise in grey levels, the root of its mean variance; 0 if
            it is not known.
    """

    darkest: float
    noise: float


def measure_exposure(stack: Float[np.ndarray, "N H W"]) -> Exposure:
    """Measure the exposure of a stack, of whose frames an even sample counts.

    Args:
        stack: (N, H, W) in grey levels; NaN where there is no data.
    """
    count = max(1, min(len(stack), _PIXELS // max(1, stack[0].size)))
    numbers = np.unique(np.linspace(0, len(stack) - 1, count).round().astype(int))
    sample, _ = fill_stack(stack if count == len(stack) else stack[numbers])
    measured = estimate_background(sample), noise_std(sample)
    return Exposure(*(float(np.float32(value)) for value in measured))  # as a `Scale` keeps them


def noise_std(stack: Float[np.ndarray, "N H W"]) -> float:
    """Return the standard deviation of the noise in grey levels; 0 if it cannot be measured."""
    if min(stack.shape[1:]) < _SMALLEST:
        return 0.0
    variance, _ = noise_level_of(stack)
    return math.sqrt(max(variance, 0.0))


def estimate_background(stack: Real[np.ndarray, "N H W"]) -> float:
    """Estimate the grey level without light: the lowest mean of a 5x5 window.

    It is never above the darkest signal.

    Args:
        stack: (N, H, W) in grey levels.
    """
    side_y, side_x = min(5, stack.shape[1]), min(5, stack.shape[2])
    return min(_lowest_window(frame, side_y, side_x) for frame in stack)


def _lowest_window(frame, side_y, side_x):
    sums = np.pad(frame.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    totals = (
        sums[side_y:, side_x:]
        - sums[:-side_y, side_x:]
        - sums[side_y:, :-side_x]
        + sums[:-side_y, :-side_x]
    )
    return float(totals.min()) / (side_y * side_x)
