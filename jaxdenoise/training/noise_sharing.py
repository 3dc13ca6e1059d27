"""Decide on evidence whether neighbouring pixels share their noise, and what to do about it.

Structure that is smooth from pixel to pixel looks like shared noise, and noise that is shared looks
like structure. So nothing is decided by the correlation alone. Where it is high, the candidates
(a stride, hidden neighbours) are compared with stride 1 by estimates of their errors, and another
than stride 1 is taken only if its error is lower by more than can be chance. Host side.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdenoise.config import PRETRAINED, UNetConfig
from jaxdenoise.microscope.blind_risk import blind_spot_risks
from jaxdenoise.microscope.correlation import (
    NoiseCovariance,
    correlated_noise,
    noise_covariance,
    residual_reach,
    squares,
)
from jaxdenoise.network import pretrained
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import shape_of

_SMALLEST = 96  # pixels a side: smaller images have too few flat blocks
_SIDE, _PIXELS = 512, 2**20  # of the images, at most, are measured
_SMALLEST_VIEW = 16  # pixels a side that each interleaved part of an image keeps
_LARGEST_STRIDE = 4
# Correlation of direct neighbours up to which noise is independent without further evidence.
_INDEPENDENT = 0.1
_SHARED = 0.1  # correlation below which pixels further away are not hidden
_WIDEST = 4  # pixels that are tried as hidden on each side
# Another than stride 1 is taken if its mean squared error is lower by more than this many standard
# errors, and by this fraction of that of stride 1.
_ERRORS, _FRACTION = 2.0, 0.05
_LOOK = 240  # pixels a side, at most, that the strides are compared on
_SQUARE = 24  # pixels: errors are compared in squares of this side
_STEP = 0.2  # of the noise's standard deviation, for the derivative of a network


class Sharing(NamedTuple):
    """What was decided.

    Attributes:
        stride: of the network.
        blind: pixels along y and x that a blind spot hides on each side.
        text: one line that tells the choice, its evidence and its margin.
    """

    stride: int
    blind: tuple[int, int]
    text: str


class _Comparison(NamedTuple):
    """Mean squared errors of the harmless candidate and of the best other one."""

    harmless: float
    best: float
    error: float  # standard error of the difference
    choice: int  # which other one

    @property
    def wins(self):
        gain = self.harmless - self.best
        return gain > max(_ERRORS * self.error, _FRACTION * max(self.harmless, 0))

    def __str__(self):
        usual, best = (np.sqrt(max(value, 0)) for value in (self.harmless, self.best))
        error = self.error / max(usual + best, 1e-30)
        return f"estimated error {best:.3g} against {usual:.3g} +- {error:.1g}"


def decide(
    frames: Float[np.ndarray, "N H W"],
    *,
    scale: Scale,
    network: UNetConfig,
    blind: str | tuple[int, int],
    patch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Sharing:
    """Decide the stride and the hidden neighbours. Host side, deterministic.

    Args:
        frames: (N, H, W) float32 above the background, finite, in grey levels.
        scale: `Scale` of the frames.
        network: the request, whose stride may be "auto".
        blind: pixels along y and x to hide on each side, or "auto".
        patch_size: side of a training patch in pixels, into which blind spots must fit.
        devices: that compute; default: the default device.
    """
    shape = shape_of(network)
    asked_stride = network.stride != "auto"
    harmless = shape.stride, (0, 0) if isinstance(blind, str) else blind
    if asked_stride and not isinstance(blind, str):
        return Sharing(*harmless, "noise: stride and hidden neighbours as asked for")
    if min(frames.shape[1:]) < _SMALLEST:
        return Sharing(
            *harmless,
            f"noise: taken as independent from pixel to pixel, images below {_SMALLEST} pixels a "
            "side cannot tell",
        )
    some = _some(frames)
    noise = noise_covariance(some)
    if noise is None:
        return Sharing(*harmless, "noise: taken as independent from pixel to pixel, none was found")
    if _is_independent(noise):
        return Sharing(*harmless, f"noise: independent from pixel to pixel ({_strongest(noise)})")
    largest = max(1, min(frames.shape[1:]) // (_SMALLEST_VIEW * shape.multiple // shape.stride))
    stride, told = shape.stride, None
    if not asked_stride:
        stride, told = _stride(some, noise, scale, min(largest, _LARGEST_STRIDE), devices)
    if isinstance(blind, str):
        multiple = shape.multiple // shape.stride * stride
        fits = min(patch_size, min(frames.shape[1:]) // multiple * multiple)
        most = min((fits - 2) // 4, _WIDEST if stride == 1 else fits)
        if stride > 1:
            blind = _beyond_stride(some, noise, scale, stride, most, devices)
        else:
            blind, hidden = _without_stride(some, noise, most)
            told = hidden if told is None or hidden.wins else told
    return Sharing(stride, blind, _text(noise, stride, blind, told))


def _some(frames):
    """The middle of some frames, of each the next one too, that are spread over the stack."""
    count, *size = frames.shape
    height, width = (min(pixels, _SIDE) for pixels in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    pairs = max(1, _PIXELS // (2 * height * width))
    if count <= 2 * pairs:
        chosen = np.arange(count)
    else:
        first = np.linspace(0, count - 2, pairs).round().astype(int)
        chosen = np.unique(np.concatenate([first, first + 1]))
    return frames[chosen, top : top + height, left : left + width]


def _is_independent(noise):
    surely = (
        value - _ERRORS * error for value, error in zip(noise.along, noise.along_error, strict=True)
    )
    return max(surely) <= _INDEPENDENT


def _strongest(noise):
    value, error = max(zip(noise.along, noise.along_error, strict=True))
    return f"{value:.2f} +- {error:.2f}"


def _compared(errors):
    """Compare the first column of errors (parts, candidates) with the best of the others."""
    mean = errors.mean(axis=0)
    choice = int(np.argmin(mean[1:])) + 1
    gain = errors[:, 0] - errors[:, choice]
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return _Comparison(float(mean[0]), float(mean[choice]), float(error), choice)


def _stride(frames, noise, scale, largest, devices):
    """Return the stride and the comparison that decided it.

    A stride must win twice: as a linear prediction that is fitted to all of the images, and as the
    shipped network on a part of them. The first one judges the loss of detail best, the second one
    what a network makes of the rest.
    """
    strides = range(2, largest + 1)
    if not strides:
        return 1, None
    candidates = [(1, (0, 0)), *((stride, (0, 0)) for stride in strides)]
    risks = blind_spot_risks(frames, noise, candidates)
    winners = [
        stride
        for place, stride in enumerate(strides, start=1)
        if _compared(risks[:, [0, place]]).wins
    ]
    if not winners:
        return 1, _compared(risks)
    told = _compared(_network_errors(frames, noise, scale, [1, *winners], devices))
    return (winners[told.choice - 1] if told.wins else 1), told


def _network_errors(frames, noise, scale, strides, devices):
    """Estimate the squared errors (squares, strides) of the shipped network at each stride.

    It is Stein's unbiased estimate for noise of the measured covariance. How much of the noise
    passes the network is measured with noise that is added.

    Source: Ramani, Blu and Unser, "Monte-Carlo SURE: a black-box optimization of regularization
        parameters for general denoising algorithms", IEEE Trans. Image Processing 17 (2008).
    """
    multiple = shape_of(PRETRAINED).multiple * 12  # of strides 1 to 4
    height, width = (min(size, _LOOK) // multiple * multiple for size in frames.shape[1:])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    noisy = frames[0, top : top + height, left : left + width]
    added = correlated_noise(jax.random.key(0), noise, noisy.shape)
    both = jnp.asarray(np.stack([noisy, noisy + _STEP * added]), jnp.float32)
    errors = []
    for stride in strides:
        first, second = np.asarray(
            pretrained.denoised(both, scale, stride=stride, devices=devices), np.float64
        )
        passed = added * (second - first) / _STEP
        errors.append((noisy - first) ** 2 + 2 * passed - noise.variance)
    parts = squares(np.stack(errors), _SQUARE).mean(axis=(1, 2))
    return parts.reshape(len(strides), -1).T


def _beyond_stride(frames, noise, scale, stride, most, devices):
    """Return what blind spots should hide for a network with a stride above 1.

    It is at least up to the next pixel that the network sees, and as far as what a first look
    leaves is correlated: however weakly the pixels further away share the noise, a training would
    learn it.
    """
    multiple = shape_of(PRETRAINED).multiple * stride
    height, width = (size // multiple * multiple for size in frames.shape[1:])
    some = jnp.asarray(frames[:4, :height, :width])
    far = residual_reach(some - pretrained.denoised(some, scale, stride=stride, devices=devices))
    return tuple(
        min(max(-(-near // stride) * stride, further), most)
        for near, further in zip(noise.reach(_SHARED), far, strict=True)
    )


def _without_stride(frames, noise, most):
    """Return what blind spots should hide for a network without a stride, and the comparison."""
    y, x = (min(n, most) for n in noise.reach(_SHARED))
    tried = {
        pair
        for n in range(1, most + 1)
        for pair in ((min(n, y), min(n, x)), (0, min(n, x)), (min(n, y), 0))
    }
    candidates = [(0, 0), *sorted(tried - {(0, 0)})]
    if len(candidates) == 1:
        return (0, 0), None
    told = _compared(blind_spot_risks(frames, noise, [(1, hidden) for hidden in candidates]))
    return (candidates[told.choice] if told.wins else (0, 0)), told


def _text(noise, stride, blind, told):
    (y, x), (y_error, x_error) = noise.along, noise.along_error
    found = f"correlation {x:.2f} +- {x_error:.2f} along x, {y:.2f} +- {y_error:.2f} along y"
    chosen = [f"stride {stride}"] if stride > 1 else []
    if any(blind):
        rows, columns = (2 * n + 1 for n in blind)
        chosen.append(f"blind spots hide {rows} x {columns} pixels")
    if not chosen:
        return (
            f"noise: taken as independent from pixel to pixel: neighbours are alike ({found}), but "
            f"nothing done against it would lower the error ({told})"
        )
    margin = f"; {told} with stride 1" if told else ""
    return f"noise: neighbouring pixels share it ({found}), {', '.join(chosen)}{margin}"
