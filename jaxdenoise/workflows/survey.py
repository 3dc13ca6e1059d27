"""A first look at each frame of a file: its noise, its gaps, and what is wrong with it. Host side.

All frames are read for it, one after the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxdenoise.imaging.gaps import fill, mark_gaps
from jaxdenoise.imaging.threads import mapped
from jaxdenoise.io.images import ImageFile
from jaxdenoise.network.exposure import noise_std
from jaxdenoise.workflows.odd_frames import DARK, flashes

# Pixels of a frame that is looked at as a whole. Of larger ones only a square in the middle is, and
# each tile is searched for gaps by itself.
WHOLE = 2**26
SIDE = 2048  # pixels of the square in which a frame's noise is measured
_SATURATED = 0.5  # share of the pixels at the detector's last grey level
_MOST_EXPOSED = 0.5  # share of the frames that are so
_FULL = [2**bits - 1 for bits in (8, 10, 11, 12, 13, 14, 15, 16)]  # last levels of detectors


class Survey(NamedTuple):
    """What was seen of each frame of a part.

    Attributes:
        noise: (N,) standard deviation of its noise in grey levels.
        gaps: (N,) whether it has pixels without data.
        odd: dict of the frame's number to what is wrong with it: it holds a single grey level, is
            over-exposed, or is a flash.
    """

    noise: Float[np.ndarray, " N"]
    gaps: Bool[np.ndarray, " N"]
    odd: dict[int, str]


class _Seen(NamedTuple):
    """What is seen of one frame."""

    gaps: bool
    noise: float = 0.0
    odd: str | None = None
    mean: float = 0.0
    dark: float = 0.0
    full: tuple[float, float] = (0.0, 0.0)  # share of the pixels at the highest level; the level


def survey(file: ImageFile) -> Survey:
    """Look at each frame of a file."""
    frames = file.frames.with_gaps()
    count, height, width = frames.shape
    large = height * width > WHOLE
    rows, columns = middle((height, width))
    place = (rows, columns) if large else (slice(None), slice(None))

    def look(frame):
        marked = mark_gaps(frame)
        invalid = np.isnan(marked)
        gaps = bool(large or invalid.any())
        data = marked[~invalid] if invalid.any() else marked.ravel()
        if data.size == 0 or data.min() == data.max():
            text = "holds no data" if data.size == 0 else "holds a single grey level"
            return _Seen(gaps, odd=text)
        top, whole = data.max(), fill(marked, invalid) if invalid.any() else marked
        return _Seen(
            gaps,
            noise_std((whole if large else whole[rows, columns])[None]),
            mean=float(data.mean(dtype=np.float64)),
            dark=float(np.quantile(data, DARK)),
            full=(float(np.mean(data == top)), float(top)),
        )

    seen = list(mapped(look, (frames[n, *place] for n in range(count))))
    odd = {n: one.odd for n, one in enumerate(seen) if one.odd is not None}
    exposed = [n for n, one in enumerate(seen) if n not in odd and _is_full(*one.full)]
    # Where most frames are so, a white background is what the images show.
    if file.info.dtype.kind in "iu" and len(exposed) <= _MOST_EXPOSED * count:
        odd |= dict.fromkeys(exposed, "is over-exposed")
    good = np.array([n for n in range(count) if n not in odd], int)
    means, dark = np.array([[one.mean, one.dark] for one in seen]).reshape(-1, 2).T
    odd |= {int(n): "flashes or is dark" for n in flashes(file, means, dark, good)}
    noise, gaps = np.array([one.noise for one in seen]), np.array([one.gaps for one in seen], bool)
    return Survey(noise, gaps, dict(sorted(odd.items())))


def middle(shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the square in the middle of a large image in which its noise is measured."""
    return tuple(
        slice((n - SIDE) // 2, (n + SIDE) // 2) if n > SIDE else slice(None) for n in shape
    )


def _is_full(share, level):
    return share > _SATURATED and level in _FULL
