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
    correlated_noise,
    noise_covariance,
    residual_reach,
    squares,
)
from jaxdenoise.microscope.floor import has_white_floor
from jaxdenoise.network import pretrained
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import shape_of

_SMALLEST = 96  # pixels a side: smaller images have too few flat blocks
_SIDE, _PIXELS = 512, 2**20  # of the images, at most, are measured
_SMALLEST_VIEW = 16  # pixels a side that each interleaved part of an image keeps
_LARGEST_STRIDE = 4
# Correlation of direct neighbours up to which noise is independent without further evidence.
_INDEPENDENT = 0.1
# Optics treat both axes alike. Where the smaller of the correlations along y and x is at least this
# fraction of the larger one, neighbours may be alike because of the optics.
_ALIKE = 0.5
# Structure, white as it may be, is passed by optics with a correlation of 0.78 at a PSF of sigma 1
# (0.90 at 1.5). Cameras that share noise measure 0.6.
_SMOOTHEST = 0.75
# Excess kurtosis beyond which the finest detail is no noise: smoothed noise of one photon a pixel
# has 0.3 to 0.9, wide-field captures have 0.3. Textures of spots, lines, patches and cells without
# noise, through a PSF of sigma 0.6 to 0.8, have 0.7 to 7.
_GAUSSIAN = 0.6
_SHARED = 0.1  # correlation below which pixels further away are not hidden
_WEAKLY_SHARED = 0.05  # the same for a network with a stride, whose blind spots lose less
_WIDEST = 4  # pixels that are tried as hidden on each side
# Another than stride 1 is taken if its mean squared error is lower by more than this many standard
# errors, and by this fraction of that of stride 1.
_ERRORS, _FRACTION = 2.0, 0.05
_FEWEST_PARTS = 4  # of the images, in which errors are compared: fewer do not tell
_LOOK = 240  # pixels a side, at most, that the strides are compared on
_SQUARE = 24  # pixels: errors are compared in squares of this side
_TAKEN = "taken as independent from pixel to pixel"
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
    hidden = (0, 0) if isinstance(blind, str) else blind

    def harmless(text):
        return Sharing(shape.stride, hidden, f"noise: {text}")

    if network.stride != "auto" and blind != "auto":
        return Sharing(shape.stride, hidden, "")
    if min(frames.shape[1:]) < _SMALLEST:
        return harmless(f"{_TAKEN}, images below {_SMALLEST} pixels a side cannot tell")
    some = _some(frames)
    noise = noise_covariance(some)
    if noise is None:
        return harmless(f"{_TAKEN}, none was found")
    if _is_independent(noise):
        return harmless(f"independent from pixel to pixel ({_strongest(noise)})")
    if _is_like_structure(noise):
        return harmless(f"{_TAKEN} ({_found(noise)}; they are as alike as those of structure)")
    if _are_alike(noise) and has_white_floor(some):
        return harmless(f"{_TAKEN} ({_found(noise)}; but the finest detail is white)")
    stride, told = shape.stride, None
    if network.stride == "auto":
        largest = min(min(frames.shape[1:]) // (_SMALLEST_VIEW * shape.multiple), _LARGEST_STRIDE)
        stride, told = _stride(some, noise, scale, largest, devices)
    if isinstance(blind, str):
        multiple = shape.multiple // shape.stride * stride
        most = (min(patch_size, min(frames.shape[1:]) // multiple * multiple) - 2) // 4
        if stride > 1:
            hidden = _beyond_stride(some, noise, scale, stride, most, devices)
        else:
            hidden, tried = _without_stride(some, noise, min(most, _WIDEST))
            told = tried if told is None or any(hidden) else told
    return Sharing(stride, hidden, f"noise: {_text(noise, stride, hidden, told)}")


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


def _are_alike(noise):
    return min(noise.along) >= _ALIKE * max(noise.along)


def _is_like_structure(noise):
    """Whether optics may have made neighbours alike, or structure shows in the finest detail."""
    if not _are_alike(noise):
        return False
    return max(noise.along) > _SMOOTHEST or noise.kurtosis > _GAUSSIAN


def _strongest(noise):
    value, error = max(zip(noise.along, noise.along_error, strict=True))
    return f"{value:.2f} +- {error:.2f}"


def _compared(errors):
    """Compare the first column of errors (parts, candidates) with the best of the others.

    The best one is the first that is not worse than any other by more than a standard error.
    """
    mean = errors.mean(axis=0)
    lowest = int(np.argmin(mean[1:])) + 1
    excess = errors - errors[:, [lowest]]
    near = excess.mean(axis=0) <= _standard_error(excess)
    choice = int(np.argmax(near[1:])) + 1
    error = _standard_error(errors[:, 0] - errors[:, choice])
    return _Comparison(float(mean[0]), float(mean[choice]), float(error), choice)


def _standard_error(values):
    if len(values) < _FEWEST_PARTS:
        return np.full(values.shape[1:], np.inf)
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _stride(frames, noise, scale, largest, devices):
    """Return the stride and the comparison that decided it.

    A stride must win twice: as a linear prediction that is fitted to all of the images, and as the
    shipped network on a part of them. The first one judges the loss of detail best, the second one
    what a network makes of the rest.
    """
    strides = range(2, largest + 1)
    if not strides:
        return 1, None
    candidates = [(stride, (0, 0)) for stride in (1, *strides)]
    told = _compared(blind_spot_risks(frames, noise, candidates))
    if not told.wins:
        return 1, told
    stride = strides[told.choice - 1]
    told = _compared(_network_errors(frames, noise, scale, (1, stride), devices))
    return (stride if told.wins else 1), told


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
    measured = zip(noise.reach(_SHARED), noise.reach(_WEAKLY_SHARED), far, strict=True)
    return tuple(
        min(max(stride, weak, further) if near else further, most)
        for near, weak, further in measured
    )


def _without_stride(frames, noise, most):
    """Return what blind spots should hide for a network without a stride, and the comparison."""
    y, x = (min(n, most) for n in noise.reach(_SHARED))
    tried = {
        pair
        for n in range(1, most + 1)
        for pair in ((min(n, y), min(n, x)), (0, min(n, x)), (min(n, y), 0))
    }
    candidates = [(0, 0), *sorted(tried - {(0, 0)}, key=lambda pair: (sum(pair), pair))]
    if len(candidates) == 1:
        return (0, 0), None
    told = _compared(blind_spot_risks(frames, noise, [(1, hidden) for hidden in candidates]))
    return (candidates[told.choice] if told.wins else (0, 0)), told


def _text(noise, stride, hidden, told):
    chosen = [f"stride {stride}"] if stride > 1 else []
    if any(hidden):
        rows, columns = (2 * n + 1 for n in hidden)
        chosen.append(f"blind spots hide {rows} x {columns} pixels")
    if not chosen:
        reason = f"another choice would not lower the error: {told}" if told else "nothing to try"
        return f"{_TAKEN} ({_found(noise)}; {reason})"
    margin = f"; {told} with stride 1" if told else ""
    return f"neighbouring pixels share it ({_found(noise)}), {', '.join(chosen)}{margin}"


def _found(noise):
    (y, x), (y_error, x_error) = noise.along, noise.along_error
    return f"correlation {x:.2f} +- {x_error:.2f} along x, {y:.2f} +- {y_error:.2f} along y"
