"""What a training is given: images checked, put on the device, split into what trains and what validates."""

import dataclasses
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.config import PRETRAINED
from jaxdenoise.imaging.hotpixels import replaced
from jaxdenoise.microscope.correlation import correlated_reach, noise_stride, residual_reach
from jaxdenoise.microscope.psf import check_psf_fits, normalized_psf
from jaxdenoise.network import pretrained
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.stacks import LARGEST, checked_stack, row_length, table
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.targets.repeats import Repeats, find_repeats

_LOOKED_AT, _SIDE = (
    4,
    512,
)  # frames and pixels a side, at the most, that tell how far neighbours share their noise


class Problem(NamedTuple):
    """What training is given, on the device.

    Attributes:
        frames: (N, H, W) float32 above the background, in grey levels.
        held_out: (N, H, W) uint8 from `patches.held_out_masks`, not 0 for pixels that are never
            targets; None when whole frames are held out.
        validation: (V, H, W) float32, the frames that validate (the training frames themselves when
            pixels are held out).
        scale: `Scale`.
        psf: (h, w) float32, square, sum 1.
        beside: (N, 2 K) int32, the frames beside each one, for a network that sees K neighbours on
            each side; None for K = 0.
        repeats: `repeats.Repeats` of the frames; None where no frame shows the scene of another, or
            where that is not to count.
        validation_repeats: the same of the frames that validate.
    """

    frames: jax.Array
    held_out: jax.Array | None
    validation: jax.Array
    scale: Scale
    psf: jax.Array
    beside: jax.Array | None = None
    repeats: Repeats | None = None
    validation_repeats: Repeats | None = None


def prepare(key, stack, *, psf, config, masks=1):
    """Check the data, put it on the device, hold out what validates.

    Args:
        key: random key.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels; for a network that sees
            neighbouring frames N in a row, or (S, N, H, W) for several such sequences.
        psf: (h, w) array with odd sides.
        config: `TrainConfig`.
        masks: how many disjoint masks of held-out pixels, see `patches.held_out_masks`. The first
            validates.

    Returns:
        `Problem`, and the config with its patch size made to fit the frames, and with what is
        "auto" of targets, blind spots and stride.
    """
    sequence = row_length(stack)
    stack = replaced(checked_stack(stack))
    psf = _square(normalized_psf(psf))
    background = estimate_background(stack) if config.background == "auto" else config.background
    frames = stack - np.float32(background)
    mean, std = float(frames.mean(dtype=np.float64)), float(frames.std(dtype=np.float64))
    if not std > 0:
        raise ValueError(
            f"the images are constant (every pixel is {stack.flat[0]:g}): there is nothing to learn"
        )
    if std < 1 / LARGEST:
        raise ValueError(
            f"the pixels' standard deviation of {std:.3g} is too small for the squares of float32; multiply the images"
        )
    config = dataclasses.replace(config, network=strided(config.network, frames))
    config = _fit_patch(config, stack.shape[1:], psf.shape)
    scale = Scale(*(jnp.float32(v) for v in (background, mean, std)))
    training, apart = _split(jnp.asarray(frames), config)
    repeats, apart_repeats, config = _repeats(training, apart, config)
    if config.blind == "auto":
        everywhere = repeats is not None and bool(jnp.all(repeats.counts > 0))
        reach = (0, 0) if everywhere else _correlated_reach(frames, scale, config)
        config = dataclasses.replace(config, blind=reach)
    if blindspot.spacing(config.density, config.hidden) > config.patch_size and any(config.hidden):
        raise ValueError(
            f"blind spots that hide {config.hidden} pixels on each side do not fit into patches of {config.patch_size} pixels"
        )
    held_out = _hold_out(key, training, config, masks) if apart is None else None
    reach = config.network.neighbours
    beside = jnp.asarray(table(len(frames), sequence, reach)) if reach else None
    validation = training if apart is None else apart
    return Problem(
        training, held_out, validation, scale, jnp.asarray(psf), beside, repeats, apart_repeats
    ), config


def strided(network, frames):
    """The `UNetConfig` with what its stride "auto" is for these frames (N, H, W). Host side."""
    if network.stride != "auto":
        return network
    stride = min(
        noise_stride(frames), max(1, min(frames.shape[1:]) // (16 * network.multiple))
    )  # parts of 16 pixels at least
    return dataclasses.replace(network, stride=stride)


def _correlated_reach(frames, scale, config):
    """What `TrainConfig.blind` should hide: at least up to the next pixel that the network sees, and as far as blind spots fit."""
    stride, near = config.network.apart, correlated_reach(frames)
    if not any(near):
        return 0, 0
    # Weakly as pixels further away share the noise, a training would learn it.
    some = frames[:_LOOKED_AT, :_SIDE, :_SIDE]
    network = dataclasses.replace(PRETRAINED, stride=stride)
    height, width = (size // network.multiple * network.multiple for size in some.shape[1:])
    some = jnp.asarray(some[:, :height, :width])
    far = residual_reach(some - pretrained.denoised(some, scale, network))
    reach = tuple(
        min(max(-(-n // stride) * stride, further), (config.patch_size - 2) // 4)
        for n, further in zip(near, far, strict=True)
    )
    if any(reach):
        rows, columns = (2 * n + 1 for n in reach)
        warnings.warn(
            f"neighbouring pixels share their noise: each blind spot hides {rows} x {columns} pixels",
            stacklevel=4,
        )
    return reach


def estimate_background(stack):
    """The grey level of no light: the lowest mean of a 5x5 window in the stack (N, H, W), never above the darkest signal. NumPy."""
    side_y, side_x = min(5, stack.shape[1]), min(5, stack.shape[2])
    return min(_lowest_window(frame, side_y, side_x) for frame in stack)


def _lowest_window(frame, side_y, side_x):
    sums = np.pad(frame.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    windows = (
        sums[side_y:, side_x:]
        - sums[:-side_y, side_x:]
        - sums[side_y:, :-side_x]
        + sums[:-side_y, :-side_x]
    )
    return float(windows.min()) / (side_y * side_x)


def _split(frames, config):
    """The frames that train, and those that validate; None where pixels of the former do."""
    count = len(frames)
    spare = count >= config.FRAMES_TO_SPARE and not config.network.neighbours
    whole = config.validation == "frames" or (config.validation == "auto" and spare)
    if count == 1 or not whole:
        return frames, None
    training = count - max(1, round(config.validation_fraction * count))
    return frames[:training], frames[training:]


def _repeats(frames, apart, config):
    """`Repeats` of the frames that train and of those that validate, or twice None, and the config with what "auto" of its targets is."""
    asked = config.targets == "repeats"
    # Who says what blind spots hide wants blind spots.
    wanted = asked or (
        config.targets == "auto" and config.blind == "auto" and not config.network.neighbours
    )
    repeats = find_repeats(frames) if wanted else None
    of_apart = repeats if apart is None else repeats and find_repeats(apart)
    if of_apart is None and asked:
        those = "frames" if apart is None else "frames that train, or of those that validate,"
        raise ValueError(
            f"no two of the {those} show the same scene with noise of their own; leave the targets to 'auto'"
        )
    if of_apart is None:  # the validation would judge blind spots that no training has seen
        return None, None, dataclasses.replace(config, targets="own")
    return repeats, of_apart, dataclasses.replace(config, targets="repeats")


def _hold_out(key, frames, config, masks):
    box, regular = blindspot.spacing(config.density, config.hidden), any(config.hidden)
    return patches.held_out_masks(
        jax.random.fold_in(key, 2**31 + 1), frames.shape, box=box, masks=masks, regular=regular
    )


def _fit_patch(config, frame_shape, psf_shape):
    """Patches no larger than the frames, but as large as the PSF, whose reflected border would else be most of what is seen."""
    check_psf_fits(psf_shape, frame_shape)
    multiple = config.network.multiple
    largest = min(frame_shape) // multiple * multiple
    wanted = -(-max(config.patch_size, *psf_shape) // multiple) * multiple
    if largest < max(8, 2 * multiple):
        raise ValueError(
            f"frames of {frame_shape[0]}x{frame_shape[1]} pixels are too small to train on; at least 8x8 are needed"
        )
    return dataclasses.replace(config, patch_size=min(wanted, largest))


def _square(psf):
    side = max(psf.shape)
    pad = [((side - n) // 2,) * 2 for n in psf.shape]
    return np.pad(psf, pad)
