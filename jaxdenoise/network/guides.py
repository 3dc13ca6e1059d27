"""Guides: what all frames of a movie together say about each frame. A network sees them beside it.

The guide of a frame is the movie's mean image, as bright as the frame, and the courses of what
changes that stand out from noise (`low_rank`). Each course is measured frame by frame, so a guide
follows its frame without delay: what flashes is not smeared into the frames before and after. What
is too weak or too rare to stand out, or moves, is not in the guide; the network sees it in the
frame itself. The guide of a pixel does not follow that pixel's own noise, so that a training with
blind spots may see it.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from jaxdenoise.imaging.drift import measure_drift
from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.imaging.low_rank import local_low_rank, second_differences
from jaxdenoise.imaging.motion import shift_image
from jaxdenoise.io.frames import FramePlace, ReadableFrames

FEWEST = 5  # frames in a row: fewer say little more than those beside a frame
# Frames and pixels of a movie that are looked at together, at most: 67 MB in float32. Guides take
# eight times the memory of their frames while they are computed.
_MOST_FRAMES, _MOST_PIXELS = 256, 2**24
_MOST_AHEAD = 2**24  # pixels of those that are computed beside the network
_BLUR = 2.0  # sigma in pixels that removes most of the noise from the mean image
_BINS = 16  # levels of brightness at which the noise is measured
_LEAST_VARIANCE = 0.01  # of a pixel's noise over the mean variance
_MOST_FOLLOWED = 0.9


def guides_of(frames: Float[np.ndarray, "T H W"]) -> Float[np.ndarray, "T H W"]:
    """Return the guides of the frames of a movie, whose drift is measured. Host side.

    Args:
        frames: (T, H, W) float32 in grey levels, finite, at least `FEWEST` frames.
    """
    drift = measure_drift(frames)
    shifts = jnp.asarray(drift.shifts) if drift.found else None
    copy = jnp.asarray(frames, jnp.float32)
    del frames  # the memory is needed, if no one else keeps them
    return np.asarray(guides(copy, shifts))


@jax.jit
def guides(
    frames: Float[Array, "T H W"], shifts: Float[Array, "T 2"] | None = None
) -> Float[Array, "T H W"]:
    """Return the guides of the frames of a movie. Pure JAX.

    Args:
        frames: (T, H, W) float32 in grey levels, finite, at least two frames.
        shifts: (T, 2) pixels by which the content of each frame is displaced, as of `drift.Drift`;
            None: the frames lie on each other.
    """
    count, seen = frames.shape[0], frames
    if shifts is not None:
        frames = _moved(frames, -shifts)
    mean = frames.mean(axis=0)
    base = _as_bright(frames, mean)
    left = frames - base
    deviation = jnp.sqrt(_noise_variance(left, mean))
    changes, followed = local_low_rank(left / deviation)
    guide = base + deviation * changes
    followed = jnp.minimum(followed + 1 / count, _MOST_FOLLOWED)
    if shifts is not None:
        guide, followed = _moved(guide, shifts), _moved(followed, shifts).clip(0, _MOST_FOLLOWED)
    # What a sum of observations says without one of them, if that has the weight `followed`.
    return (guide - followed * seen) / (1 - followed)


def _moved(frames, shifts):
    return jax.lax.map(lambda one: shift_image(*one), (frames, shifts))


class GuideFrames:
    """The guides of frames that are read piece by piece, as `frames.ReadableFrames`. Host side.

    They are computed for the frames of a row, or of an equal part of a long one, when the first of
    them is asked for; the latest are kept. Where frames are asked for in their order, those of the
    next part are computed in the background meanwhile, if its frames are small.

    Attributes:
        shape: (N, H, W).
    """

    def __init__(
        self,
        frames: Real[Array | np.ndarray, "N H W"] | ReadableFrames,
        sequence: int | None = None,
        *,
        in_order: bool = False,
    ) -> None:
        """Take frames of which ``sequence`` stand in a row; default: all.

        Args:
            frames: (N, H, W), finite.
            sequence: how many stand in a row.
            in_order: whether all are asked for, one after the other.
        """
        self.shape = frames.shape
        self._frames = frames
        row = sequence or len(frames)
        parts = parts_of_row(row, self.shape[1] * self.shape[2])
        starts = [first + start for first in range(0, len(frames), row) for start in parts]
        self._starts = np.array([*starts, len(frames)])
        self._part, self._guides = -1, np.empty((0, 0, 0), np.float32)
        longest = int(np.diff(self._starts).max(initial=0)) * self.shape[1] * self.shape[2]
        ahead = in_order and len(starts) > 1 and longest <= _MOST_AHEAD
        self._worker = ThreadPoolExecutor(1) if ahead else None
        self._next: tuple[int, Future[np.ndarray]] | None = None

    def __len__(self) -> int:
        """Return how many frames there are."""
        return int(self.shape[0])

    def __getitem__(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        """Return a part of the guide of one frame."""
        number = index[0].__index__()
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        if part != self._part:
            self._guides = np.empty((0, 0, 0), np.float32)  # its memory is needed
            self._guides, self._part = self._of(part), part
        return self._guides[number - int(self._starts[part]), *index[1:]]

    def _of(self, part):
        """The guides of a part; those of the next one are begun."""
        begun, self._next = self._next, None
        guides = begun[1].result() if begun and begun[0] == part else guides_of(self._read(part))
        if self._worker is not None and part + 2 < len(self._starts):
            # Not every file may be read by two threads at once.
            self._next = part + 1, self._worker.submit(guides_of, self._read(part + 1))
        return guides

    def _read(self, part):
        start, end = int(self._starts[part]), int(self._starts[part + 1])
        frames = np.empty((end - start, *self.shape[1:]), np.float32)
        for n in range(start, end):
            frames[n - start] = self._frames[n, : self.shape[1], : self.shape[2]]
        return frames


def parts_of_row(row: int, pixels: int) -> list[int]:
    """Return where equal parts of a row of frames begin that are looked at together.

    Args:
        row: frames in a row.
        pixels: of a frame.
    """
    most = max(FEWEST, min(_MOST_FRAMES, _MOST_PIXELS // pixels))
    count = max(1, -(-row // most))
    return [row * part // count for part in range(count)]


def stack_guides(frames: Float[np.ndarray, "N H W"], sequence: int) -> Float[np.ndarray, "N H W"]:
    """Return the guides of all frames of a stack. Host side.

    Args:
        frames: (N, H, W), finite.
        sequence: how many stand in a row.
    """
    found = GuideFrames(frames, sequence)
    whole = slice(0, found.shape[1]), slice(0, found.shape[2])
    return np.stack([found[n, *whole] for n in range(len(found))])


def _as_bright(frames, mean):
    """The mean image, as bright as each frame: bleaching and flicker change no scene."""
    level = _blurred(mean)
    level = level - level.mean()
    power = jnp.maximum(jnp.mean(level**2), 1e-30)
    # A blurred frame times the level has the same sum as the frame times the blurred level.
    gains = jnp.einsum("thw,hw->t", frames, _blurred(level)) / (level.size * power)
    gains = gains / jnp.maximum(gains.mean(), 1e-3)
    # A weak image tells little of its gain: the variance beyond what noise gives decides.
    noise = jnp.mean(_differences_squared(frames)) / frames[0].size / power
    varying = jnp.maximum(jnp.var(gains) - noise, 0)
    gains = 1 + (gains - 1) * varying / (varying + noise + 1e-12)
    means = frames.mean(axis=(1, 2))
    return gains[:, None, None] * (mean - mean.mean()) + means[:, None, None]


def _differences_squared(images):
    """The mean square of each pixel's `second_differences`, without room for all of them."""
    reach = min(3, len(images))

    def add(first, total):
        some = jax.lax.dynamic_slice_in_dim(images, first, reach)
        return total + second_differences(some)[0] ** 2

    count = len(images) - reach + 1
    return jax.lax.fori_loop(0, count, add, jnp.zeros_like(images[0])) / count


def _blurred(image, sigma=_BLUR):
    return gaussian_filter(image, (sigma, sigma))


def _noise_variance(left, mean):
    """The variance of each pixel's noise, by its brightness, (H, W)."""
    squares = _blurred(_differences_squared(left), 1.0).ravel()
    level = _blurred(mean, 1.0).ravel()
    order = jnp.argsort(level)[: level.size // _BINS * _BINS].reshape(_BINS, -1)
    variances = jnp.median(squares[order], axis=1)
    least = _LEAST_VARIANCE * variances.mean() + 1e-12
    found = jnp.interp(level, level[order].mean(axis=1), variances)
    return jnp.maximum(found, least).reshape(mean.shape)
