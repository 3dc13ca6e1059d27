"""What a training is given: images checked, put on the device and split, and settings decided.

`prepare` makes a `Plan` of a request (`config.TrainConfig`) and the images. Host side.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real, Shaped, UInt8

from jaxdenoise.config import TrainConfig
from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.imaging.hotpixels import replaced
from jaxdenoise.microscope.psf import check_psf_fits, in_plane, normalized_psf, square
from jaxdenoise.microscope.psf_volumes import shallow
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.exposure import Exposure, measure_exposure
from jaxdenoise.network.guides import stack_guides
from jaxdenoise.network.settings import Settings, settle, shape_of
from jaxdenoise.network.stacks import LARGEST, checked_stack, frames_beside, row_length
from jaxdenoise.system import meshes
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.targets.repeats import Found, Repeats, find_repeats, search_repeats
from jaxdenoise.targets.slabs import Slabs, slab_table
from jaxdenoise.training import streams
from jaxdenoise.training.noise_sharing import decide

DEEPEST = 8  # planes on each side of the middle one that a PSF may have: each costs a prediction
_DARK_PLANES = 0.01  # of a PSF's light: so much may lie in planes that are left out
_EXTRA = 2  # planes on each side of the middle one of a slab that are scored too
_SLAB_SIDE = 2 / 3  # of the patch size: a slab of about ten planes takes so many times longer


class Problem(NamedTuple):
    """The data of a training, on the device.

    Attributes:
        frames: (N, H, W) float32 above the background, in grey levels.
        held_out: (N, H, W) uint8 from `patches.held_out_masks`, not 0 for pixels that are never
            targets of the training, `patches.NO_TARGET` for those that do not validate either;
            None when whole frames are held out.
        validation: (V, H, W) float32, the frames that validate (the training frames themselves when
            pixels are held out).
        scale: `Scale`.
        psf: (h, w) float32, square, sum 1; (d, h, w) of volumes, whose planes it mixes.
        beside: `patches.Beside` of the frames, for a network that sees neighbours; else None.
        repeats: `repeats.Repeats` of the frames; None where no frame shows the scene of another, or
            where that is not to count.
        validation_repeats: the same of the frames that validate.
        slabs: the windows of planes from which the samples of volumes are cut; None of images.
        deep_psf: (d, h, w), the PSF that is fitted to the denoised volume; None: there is none.
    """

    frames: Float[Array, "N H W"]
    held_out: UInt8[Array, "N H W"] | None
    validation: Float[Array, "V H W"]
    scale: Scale
    psf: Float[Array, "*d h w"]
    beside: patches.Beside | None = None
    repeats: Repeats | None = None
    validation_repeats: Repeats | None = None
    slabs: Slabs | None = None
    deep_psf: Float[Array, "d h w"] | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training that was prepared: its data on the device, and its settings, all decided.

    Attributes:
        problem: `Problem`.
        settings: `Settings`, static for compiled functions.
        request: the `TrainConfig` that was asked for.
        evidence: a line for each choice that was made, what it is and why.
    """

    problem: Problem
    settings: Settings
    request: TrainConfig
    evidence: tuple[str, ...] = ()


def prepare(
    key: PRNGKeyArray,
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    psf: Real[Array | np.ndarray, "..."],
    config: TrainConfig,
    targets: Bool[np.ndarray, "..."] | None = None,
    exposure: Exposure | None = None,
    clean: bool = False,
    masks: int = 1,
    whole: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Plan:
    """Check the images, put them on the device, hold out what validates, and decide every "auto".

    Args:
        key: random key.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels, NaN where there is no
            data; for a network that sees neighbouring frames N in a row, or (S, N, H, W) for
            several such sequences. For a PSF of volumes the sequences are volumes (Z, H, W).
        psf: (h, w) array with odd sides, or (d, h, w), which mixes the planes of volumes. Of that
            the planes with the last percent of the light are left out, and those further than
            `DEEPEST` from the middle one.
        config: the request.
        targets: the pixels that may be targets, of the stack's shape; default: all. The network
            sees the others too. Pixels that are NaN never are.
        exposure: of the images; default: measured on the stack.
        clean: whether hot pixels are replaced already.
        masks: number of disjoint masks of held-out pixels, see `patches.held_out_masks`. The first
            validates. 0: nothing is trained.
        whole: whether sequences of planes are whole volumes: then they are reflected at their ends.
        devices: that will train; default: the default device.

    Raises:
        ValueError: infinite pixels, a constant stack, frames too small to train on, a PSF that is
            no PSF or does not fit, no repeats where the request wants them, a guided network for
            volumes.
    """
    sequence = row_length(stack)
    with meshes.computing_on(devices):
        stack = checked_stack(stack) if clean else replaced(checked_stack(stack))
        rows = sequence, whole
        return _prepared(key, stack, rows, psf, config, targets, exposure, masks, devices)


def _prepared(key, stack, rows, psf, config, targets, exposure, masks, devices):
    sequence, whole = rows
    stack, gaps = fill_stack(stack)
    valid = None if gaps is None else ~gaps
    targets = _both(valid, None if targets is None else targets.reshape(stack.shape))
    psf, said = _usable(psf, sequence)
    if psf.ndim == 3 and config.network.guided:
        raise ValueError("a guided network is for movies, a PSF that mixes planes for volumes")
    psf, deep_psf = _learned_with(psf, config)
    volumes = psf.ndim == 3
    exposure = measure_exposure(stack) if exposure is None else exposure
    frames, scale = _above_background(stack, valid, exposure, config)
    network = shape_of(config.network)
    wanted = round(config.patch_size * _SLAB_SIDE) if volumes else config.patch_size
    patch_size = _patch_size(wanted, network, stack.shape[1:], psf.shape[-2:])
    complete = targets is None and not volumes
    training, validation = _split(jnp.asarray(frames), config, whole=complete)
    known = None if valid is None else jnp.asarray(valid)
    repeats, validation_repeats, evidence = _repeats(
        training, validation, known, config, planes=volumes
    )
    sharing = _sharing(frames, scale, config, patch_size, repeats, devices)
    network, blind = dataclasses.replace(network, stride=sharing.stride), sharing.blind
    patch_size = _patch_size(wanted, network, stack.shape[1:], psf.shape[-2:])
    settings = settle(
        config,
        devices=devices,
        network=network,
        patch_size=patch_size,
        blind=blind,
        axial="trained" if deep_psf is None else "fitted",
        targets="own" if repeats is None else "repeats",
        validation="pixels" if validation is None else "frames",
    )
    if any(blind) and blindspot.spacing(settings.density, blind) > patch_size:
        raise ValueError(
            f"blind spots that hide {blind} pixels on each side do not fit into patches of "
            f"{patch_size} pixels"
        )
    some = validation is None and masks > 0
    held_out = _hold_out(key, training, settings, masks) if some else None
    if held_out is not None and targets is not None:
        held_out = jnp.where(jnp.asarray(targets), held_out, jnp.uint8(patches.NO_TARGET))
    problem = Problem(
        frames=training,
        held_out=held_out,
        validation=training if validation is None else validation,
        scale=scale,
        psf=jnp.asarray(psf),
        beside=_beside(frames, sequence, network) if network.beside else None,
        repeats=repeats,
        validation_repeats=validation_repeats,
        slabs=_slabs(len(frames), sequence, psf, whole) if volumes else None,
        deep_psf=None if deep_psf is None else jnp.asarray(deep_psf),
    )
    evidence = (*said, *evidence, *([sharing.text] if sharing.text else []))
    return Plan(meshes.on_single(problem, devices), settings, config, evidence)


def _beside(frames, sequence, network):
    guides = jnp.asarray(stack_guides(frames, sequence)) if network.guided else None
    return patches.Beside(jnp.asarray(frames_beside(network, len(frames), sequence)), guides)


def _usable(psf, sequence):
    """The PSF, square, of a volume without the planes that hold hardly any light; and what to say.

    What the first and last planes hold is not modelled: then less is deconvolved than could be.
    """
    psf = square(normalized_psf(psf))
    if psf.ndim == 2:
        return psf, ()
    kept, lost = shallow(psf, most=min(DEEPEST, max(sequence - 1, 1)), share=_DARK_PLANES)
    if len(kept) == 1:
        return normalized_psf(kept[0]), ("PSF: it has one plane of light, and mixes none",)
    line = (
        f"PSF: {len(kept)} of its {len(psf)} planes are used; the others hold {lost:.0%} of "
        "the light, which is not modelled"
    )
    return square(normalized_psf(kept)), (line,) if lost > _DARK_PLANES else ()


def _learned_with(psf, config):
    """The PSF of the training, and that which is fitted to the denoised volume, if one is."""
    fitted = config.axial == "fitted" or (config.axial == "auto" and config.network.planes)
    return (in_plane(psf), psf) if psf.ndim == 3 and fitted else (psf, None)


def _slabs(count, sequence, psf, whole):
    found = slab_table(count, sequence, len(psf) // 2, extra=_EXTRA, whole=whole)
    return Slabs(*map(jnp.asarray, found))


def _both(one, other):
    """Pixels for which both hold; None stands for all."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _above_background(stack, valid, exposure, config):
    """The frames above the background, and their `Scale`, to which pixels without data add nothing.

    Args:
        stack: (N, H, W), filled.
        valid: (N, H, W) bool, where there is data; None: everywhere.
        exposure: of the images.
        config: the request.
    """
    background = exposure.darkest if config.background == "auto" else config.background
    frames = stack - np.float32(background)
    values = frames if valid is None else frames[valid]
    if values.size == 0:
        raise ValueError("the images hold no data: every pixel is NaN")
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not std > 0:
        raise ValueError(
            f"the images are constant (every pixel is {values.flat[0] + background:g}): there is "
            "nothing to learn"
        )
    if std < 1 / LARGEST:
        raise ValueError(
            f"the pixels' standard deviation of {std:.3g} is too small for the squares of "
            "float32; multiply the images"
        )
    return frames, Scale(*map(jnp.float32, (background, mean, std, *exposure)))


def _sharing(frames, scale, config, patch_size, repeats, devices):
    """Decide what is done against noise that neighbours share; warn of blind spots that hide."""
    everywhere = repeats is not None and bool(jnp.all(repeats.counts > 0))
    sharing = decide(
        frames,
        scale=scale,
        network=config.network,
        # Frames of one scene need no blind spots.
        blind=(0, 0) if config.blind == "auto" and everywhere else config.blind,
        patch_size=patch_size,
        devices=devices,
    )
    if config.blind == "auto" and any(sharing.blind):
        rows, columns = (2 * n + 1 for n in sharing.blind)
        warnings.warn(
            "neighbouring pixels share their noise: each blind spot hides "
            f"{rows} x {columns} pixels",
            stacklevel=5,
        )
    return sharing


def _split(frames, config, *, whole):
    """Return the frames that train, and those that validate; None where pixels are held out.

    Frames validate only if they are ``whole``, that is, if each of their pixels may be a target.
    """
    count = len(frames)
    spare = count >= config.FRAMES_TO_SPARE and not config.network.neighbours
    wanted = config.validation == "frames" or (config.validation == "auto" and spare)
    if count == 1 or not (wanted and whole):
        return frames, None
    training = count - max(1, round(config.validation_fraction * count))
    return frames[:training], frames[training:]


def _repeats(frames, validation, valid, config, *, planes):
    """Return the `Repeats` of the frames that train and of those that validate, and lines on them.

    Both are None unless both are found: else the validation would judge blind spots that no
    training has seen. Planes of a volume are no repeats of each other.
    """
    required = config.targets == "repeats"
    # A request that says what blind spots hide is one for blind spots.
    wanted = required or (
        config.targets == "auto" and config.blind == "auto" and not config.network.neighbours
    )
    if planes and required:
        raise ValueError("planes of a volume show no scene twice; leave the targets to 'auto'")
    wanted = wanted and not planes
    found = search_repeats(frames, valid=valid) if wanted and len(frames) > 1 else Found(None, "")
    repeats, evidence = found.repeats, (found.text,) if found.text else ()
    if validation is None:
        validation_repeats = repeats
    else:
        validation_repeats = None if repeats is None else find_repeats(validation)
        if repeats is not None and validation_repeats is None:
            evidence = ("frames: those that validate show different scenes",)
    if validation_repeats is None and required:
        which = "frames" if validation is None else "frames that train, or of those that validate,"
        raise ValueError(
            f"no two of the {which} show the same scene with noise of their own; "
            "leave the targets to 'auto'"
        )
    both = (None, None) if validation_repeats is None else (repeats, validation_repeats)
    return *both, evidence


def _hold_out(key, frames, settings, masks):
    box, regular = blindspot.spacing(settings.density, settings.blind), any(settings.blind)
    key = streams.stream_key(key, streams.HELD_OUT)
    return patches.held_out_masks(key, frames.shape, box=box, masks=masks, regular=regular)


def _patch_size(size, network, frame_shape, psf_shape):
    """Return a patch size that fits the frames, and the PSF where that is possible.

    In a patch smaller than the PSF, most of what is seen would be the PSF's reflected border.
    """
    check_psf_fits(psf_shape, frame_shape)
    multiple = network.multiple
    largest = min(frame_shape) // multiple * multiple
    wanted = -(-max(size, *psf_shape) // multiple) * multiple
    if largest < max(8, 2 * multiple):
        raise ValueError(
            f"frames of {frame_shape[0]}x{frame_shape[1]} pixels are too small to train on; "
            "at least 8x8 are needed"
        )
    return min(wanted, largest)
