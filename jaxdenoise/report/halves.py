"""Down to which detail two halves of a stack agree, as far as its frames show one static scene. Host side: NumPy in and out."""

from typing import NamedTuple

import jax
import numpy as np

from jaxdenoise.imaging.resolution import RingCorrelation, fourier_ring_correlation
from jaxdenoise.report.diagnostics import BLOCK, block_means, identical_frames, noise_of

_SMALLEST = 16  # pixels a side that `resolution.fourier_ring_correlation` needs
_FRAMES = 8  # evenly spaced, that are compared with each other: enough to notice movement
_NOISE_ERROR, _SCENE = (
    1.5,
    0.01,
    # frames show one scene if the noise, that many times over, and a share of 1 % explain how they
    # differ
)
_TOO_NOISY = (
    0.5  # share of the blocks' variance that is noise, from which on frames cannot be compared
)


class Halves(NamedTuple):
    """The FRC between the mean of the even and the mean of the odd frames: two `resolution.RingCorrelation`, or None and the `reason`."""

    noisy: RingCorrelation | None
    denoised: RingCorrelation | None
    reason: str


def compare_halves(noisy, denoised, *, neighbours=0):
    """Fourier ring correlation between the mean of the even and the mean of the odd frames, if all frames show one static scene.

    That of the noisy halves is a measurement: their noise is independent. The denoised halves share
    one network and its prior, so what it invents it invents in both; their FRC is an upper bound.

    Args:
        noisy: (N, H, W) real, in grey levels.
        denoised: the same shape and unit.
        neighbours: how many frames on each side the network saw: then each denoised half holds what
            is in the other.

    Returns:
        `Halves`.
    """
    mixed = (
        "the network saw neighbouring frames, so that each denoised half holds the other's noise."
        if neighbours
        else ""
    )
    reason = mixed or why_not_comparable(noisy)
    if reason:
        return Halves(None, None, reason)
    correlate = jax.jit(fourier_ring_correlation)
    rings = [
        correlate(stack[::2].mean(axis=0), stack[1::2].mean(axis=0)) for stack in (noisy, denoised)
    ]
    return Halves(*(RingCorrelation(*map(np.asarray, ring)) for ring in rings), "")


def why_not_comparable(noisy):
    """Why the frames cannot be taken for independent captures of one static scene; the empty string if they can.

    The means of blocks of 8 x 8 pixels are compared between frames, where noise is weak: ``1 -
    correlation`` of two frames of one scene is the share of noise in the blocks' variance, which is
    known. A change of brightness, as by bleaching, does not count.

    Args:
        noisy: (N, H, W) real, in grey levels.
    """
    if len(noisy) < 2:
        return "it compares two halves of a stack, and there is a single frame."
    if min(noisy.shape[1:]) < _SMALLEST:
        return f"the frames are smaller than {_SMALLEST} x {_SMALLEST} pixels."
    frames = np.asarray(noisy, np.float32)[
        np.linspace(0, len(noisy) - 1, min(len(noisy), _FRAMES)).round().astype(int)
    ]
    if identical_frames(frames):
        return "two frames hold the same pixels, so the halves would agree in their noise, too."
    variance, correlation = noise_of(frames)
    blocks, count = block_means(frames)
    blocks = blocks.reshape(len(frames), -1)
    # Noise that neighbours share is averaged away more slowly; (1 + 2 r)^2 is exact for correlation
    # between direct neighbours.
    noise = variance / count * (1 + 2 * max(correlation, 0)) ** 2
    share = noise / max(float(blocks.var(axis=1).mean()), 1e-30)
    if share > _TOO_NOISY:
        return (
            "the frames are too noisy, or too uniform, to tell whether they show one static scene."
        )
    agreement = float(np.corrcoef(blocks).min())
    if 1 - agreement > _NOISE_ERROR * share + _SCENE:
        return (
            f"the frames do not show one static scene. Averaged over {BLOCK} x {BLOCK} pixels, two of them correlate with {agreement:.3f} "
            f"where noise alone would leave {1 - share:.3f}; movement, or the planes and channels of a stack, would count as blur."
        )
    return ""
