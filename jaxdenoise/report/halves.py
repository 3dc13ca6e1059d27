"""Fourier ring correlation between two halves of a static stack. Host side: NumPy in and out."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Real

from jaxdenoise.imaging.resolution import RingCorrelation, fourier_ring_correlation
from jaxdenoise.report.diagnostics import BLOCK, block_means, identical_frames, noise_of

_SMALLEST = 16  # pixels a side that `resolution.fourier_ring_correlation` needs
_FRAMES = 8  # evenly spaced frames that are compared with each other: enough to notice movement
# Frames show one scene if their difference is at most this many times what the noise explains, plus
# a share of 1 %.
_NOISE_ERROR, _SCENE = 1.5, 0.01
_TOO_NOISY = 0.5  # share of noise in the blocks' variance above which frames cannot be compared

_compiled_correlation = jax.jit(fourier_ring_correlation)


class Halves(NamedTuple):
    """Fourier ring correlation between the mean of the even frames and that of the odd ones.

    Attributes:
        noisy: of the noisy frames, or None.
        denoised: of the denoised frames, or None.
        reason: why both are None, else empty.
    """

    noisy: RingCorrelation | None
    denoised: RingCorrelation | None
    reason: str


def compare_halves(
    noisy: Real[ArrayLike, "N H W"], denoised: Real[ArrayLike, "N H W"], *, neighbours: int = 0
) -> Halves:
    """Correlate the mean of the even frames with that of the odd ones, if the scene is static.

    The curve of the noisy halves is a measurement: their noise is independent. The denoised halves
    share one network, which invents the same structure in both; their curve is an upper bound.

    Args:
        noisy: (N, H, W) real, in grey levels.
        denoised: the same shape and unit.
        neighbours: how many frames on each side the network saw. If any, each denoised half holds
            noise of the other one, and there is no result.
    """
    noisy, denoised = np.asarray(noisy), np.asarray(denoised)
    if neighbours:
        reason = (
            "the network saw neighbouring frames, so each denoised half holds the other's noise."
        )
    else:
        reason = why_not_comparable(noisy)
    if reason:
        return Halves(None, None, reason)
    of_noisy, of_denoised = (
        _compiled_correlation(stack[::2].mean(axis=0), stack[1::2].mean(axis=0))
        for stack in (noisy, denoised)
    )
    return Halves(of_noisy, of_denoised, "")


def why_not_comparable(noisy: Real[ArrayLike, "N H W"]) -> str:
    """Return why the frames are not independent images of one static scene; empty if they are.

    The means of blocks of 8 x 8 pixels, in which noise is weak, are compared between frames. For
    two frames of one scene, ``1 - correlation`` is the share of noise in the blocks' variance,
    which is known. A change of brightness, such as bleaching, does not count.

    Args:
        noisy: (N, H, W) real, in grey levels.
    """
    frames = np.asarray(noisy, np.float32)
    if len(frames) < 2:
        return "it compares two halves of a stack, and there is a single frame."
    if min(frames.shape[1:]) < _SMALLEST:
        return f"the frames are smaller than {_SMALLEST} x {_SMALLEST} pixels."
    frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES)).round().astype(int)]
    if identical_frames(frames):
        return "two frames hold the same pixels, so the halves would agree in their noise, too."
    variance, correlation = noise_of(frames)
    means, count = block_means(frames)
    blocks = means.reshape(len(frames), -1)
    # Averaging removes less of the noise that neighbours share; (1 + 2 r)^2 is exact for
    # correlation between direct neighbours.
    noise = variance / count * (1 + 2 * max(correlation, 0)) ** 2
    share = noise / max(float(blocks.var(axis=1).mean()), 1e-30)
    if share > _TOO_NOISY:
        return (
            "the frames are too noisy, or too uniform, to tell whether they show one static scene."
        )
    agreement = float(np.corrcoef(blocks).min())
    if 1 - agreement > _NOISE_ERROR * share + _SCENE:
        return (
            f"the frames do not show one static scene. Averaged over {BLOCK} x {BLOCK} pixels, two "
            f"of them have a correlation of {agreement:.3f}, where noise alone would leave "
            f"{1 - share:.3f}. Movement, or the planes and channels of a stack, would look like "
            "blur."
        )
    return ""
