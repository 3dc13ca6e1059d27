"""Whether whole grey levels can hold a result: what rounding costs, and what was gained. Host side.

Of a frame, the cost is the mean square of what rounding to the dtype changes, saturation included;
where results spread over many levels it is 1/12 of a squared level. The gain is the mean square of
what the processing removed. JAX is never imported here.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Real

# Of what was gained; a tenth of the removed error is 0.4 dB at most, and less than the difference
# between two trainings.
_COST = 0.1
_MEAN = 0.005  # of a frame's mean: half of the hundredth that means may move by in all


class Kept(NamedTuple):
    """The dtype for a result.

    Attributes:
        dtype: the one that was asked about, or float32.
        text: one line that says why it is float32; None where the dtype is kept.
    """

    dtype: np.dtype
    text: str | None


class Rounding:
    """Adds up, tile by tile, what the rounding of results to a dtype costs each frame.

    Frames that are constant count for nothing: nothing can be gained in them. Pixels that are not
    finite are left out.
    """

    def __init__(self, dtype: npt.DTypeLike, frames: int) -> None:
        """Begin with no pixels.

        Args:
            dtype: that would hold the results: the input's.
            frames: how many frames there are.
        """
        self.dtype = np.dtype(dtype)
        # float32 is no better than other floats of its size.
        self._matters = self.dtype.kind in "iu" or self.dtype.itemsize < 4
        self._cost, self._gain, self._moved, self._light = np.zeros((4, frames))
        self._least, self._most = np.full(frames, np.inf), np.full(frames, -np.inf)

    def add(self, n: int, noisy: Real[np.ndarray, "h w"], result: Real[np.ndarray, "h w"]) -> None:
        """Add a tile of frame `n`, from 0 on: of the input, and of the result, not rounded."""
        if not self._matters:
            return
        noisy, result = np.asarray(noisy, np.float64), np.asarray(result, np.float64)
        valid = np.isfinite(noisy) & np.isfinite(result)
        noisy, result = noisy[valid], result[valid]
        changed = stored(result, self.dtype) - result
        self._cost[n] += np.sum(changed**2)
        self._gain[n] += np.sum((noisy - result) ** 2)
        self._moved[n] += np.sum(changed)
        self._light[n] += np.sum(np.abs(result))
        self._least[n] = np.min(noisy, initial=self._least[n])
        self._most[n] = np.max(noisy, initial=self._most[n])

    def decision(self) -> Kept:
        """Return the dtype for the results of all frames that were added.

        It is float32 if whole levels cost a frame more than a tenth of what was gained, or move its
        mean by more than 0.5 %.
        """
        varied = self._most > self._least
        cost = _ratio(self._cost, self._gain, varied)
        moved = _ratio(np.abs(self._moved), self._light, varied)
        if cost.max(initial=0) <= _COST and moved.max(initial=0) <= _MEAN:
            return Kept(self.dtype, None)
        levels = "whole grey levels" if self.dtype.kind in "iu" else f"the levels of {self.dtype}"
        reasons = []
        if cost.max() > _COST:
            reasons.append(f"cost {_percent(cost.max())} of what was gained{_frame(cost)}")
        if moved.max() > _MEAN:
            reasons.append(f"move the mean by {_percent(moved.max())}{_frame(moved)}")
        return Kept(np.dtype(np.float32), f"float32: {levels} would {' and '.join(reasons)}")


def dtype_for(
    noisy: Real[np.ndarray, "*N H W"], result: Real[np.ndarray, "*N H W"], dtype: npt.DTypeLike
) -> Kept:
    """Return the dtype that a result can be stored in: the input's, or float32. Host side.

    Args:
        noisy: (N, H, W) or (H, W), the input in grey levels.
        result: the same shape, not rounded.
        dtype: the input's.

    Returns:
        `dtype`, or float32 where whole levels cost a frame more than a tenth of the error that was
        removed, or move its mean by more than 0.5 %; a float of at least 32 bits always stays.
    """
    frames = np.shape(result)[-2:]
    noisy, result = np.reshape(noisy, (-1, *frames)), np.reshape(result, (-1, *frames))
    rounding = Rounding(dtype, len(result))
    for n, (frame, own) in enumerate(zip(noisy, result, strict=True)):
        rounding.add(n, frame, own)
    return rounding.decision()


def stored(result: Real[np.ndarray, "*shape"], dtype: np.dtype) -> Float[np.ndarray, "*shape"]:
    """Return what a file of the dtype holds of a result, in its own dtype or in float64."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return np.clip(result, limits.min, limits.max).astype(dtype).astype(np.float64)
    whole = np.iinfo(dtype)
    return np.clip(np.rint(result), whole.min, whole.max)


def _ratio(part, whole, counts):
    """Part over whole of the frames that count, 0 of the others."""
    counts = counts & (whole > 0)
    return np.where(counts, part, 0) / np.where(counts, whole, 1)


def _percent(part):
    return f"{100 * part:.2g} %" if part < 0.995 else f"{100 * part:.0f} %"


def _frame(values):
    return f" (frame {np.argmax(values) + 1})" if len(values) > 1 else ""
