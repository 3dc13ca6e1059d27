"""What the workflows do with files, for arrays: movies, seeds, widths, progress. Host side."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Real, Shaped

from jaxdenoise.config import PRETRAINED_MOVIES, PRETRAINED_VOLUMES, TrainConfig
from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.exposure import Exposure, measure_exposure
from jaxdenoise.network.guides import FEWEST
from jaxdenoise.prediction.forward import Denoised
from jaxdenoise.report.content import Channel, ReportContent
from jaxdenoise.report.guard import GuardVerdict, judge_frames
from jaxdenoise.report.html import write_html
from jaxdenoise.report.verdict import Verdict
from jaxdenoise.system.errors import RequestError
from jaxdenoise.system.keys import Key, as_key
from jaxdenoise.training import fit as fit_
from jaxdenoise.training.epochs import Snapshot
from jaxdenoise.workflows.instant import instant_model
from jaxdenoise.workflows.stacks import TrainingStack


def fit(
    key: Key,
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    psf: Real[Array | np.ndarray, "..."] | float | Sequence[float],
    config: TrainConfig = TrainConfig(),
    axes: str | None = None,
    progress: bool = False,
    devices: Sequence[jax.Device] | None = None,
    resume: Snapshot | None = None,
    on_epoch: Callable[[Snapshot], object] | None = None,
) -> Denoiser:
    """Train on noisy images alone. Host side.

    Args:
        key: random key, or a seed; the same key, data and settings give the same model on the same
            device and versions.
        stack: as of `training.fit.fit`.
        psf: as of `training.fit.fit`; or the sigma of a Gaussian in pixels, or one an axis.
        config: the request; default: the preset "fast".
        axes: what the first axis of a stack (N, H, W) is: "T" of a movie, "Z" of a volume, which
            are denoised with their other frames if the estimated error says that this helps; None:
            frames by themselves.
        progress: print the epoch, the losses and the time left to standard error.
        devices: as of `training.fit.fit`.
        resume: as of `training.fit.fit`.
        on_epoch: as of `training.fit.fit`.

    Raises:
        ValueError: as `training.fit.fit`; axes that are none of these.
    """
    if _in_a_row(stack, axes) and not config.network.neighbours:
        own = TrainConfig(network=replace(_SHAPE, stride="auto"))
        model, _ = _chosen(stack, axes, None, own)
        if model.config.network.neighbours:
            shipped = PRETRAINED_VOLUMES if axes == "Z" else PRETRAINED_MOVIES
            seen = {name: getattr(shipped, name) for name in _OF_ROWS}
            config = replace(config, network=replace(config.network, **seen))
    tell = _Progress(config.epochs) if progress else None

    def after_epoch(snapshot):
        if tell is not None:
            tell(snapshot)
        if on_epoch is not None:
            on_epoch(snapshot)

    return fit_.fit(
        as_key(key),
        stack,
        psf=_as_psf(psf),
        config=config,
        devices=devices,
        resume=resume,
        on_epoch=after_epoch,
    )


_SHAPE = TrainConfig().network
# What a network that sees other frames has of the shipped one.
_OF_ROWS = ("space_to_depth", "neighbours", "guided", "planes")


def _as_psf(psf: Any) -> Any:
    """Numbers are widths; an array is a PSF."""
    if isinstance(psf, int | float):
        return gaussian_psf(psf)
    widths = isinstance(psf, tuple | list) and np.ndim(psf) == 1
    return gaussian_psf(tuple(psf)) if widths else psf


def instant(
    stack: Shaped[Array | np.ndarray, "..."],
    *,
    noise_std: float | None = None,
    config: TrainConfig = TrainConfig(),
    exposure: Exposure | None = None,
    axes: str | None = None,
) -> Denoiser:
    """Return the pretrained network, scaled to the images but not trained on them. Host side.

    Args:
        stack: as of `training.fit.instant`.
        noise_std: as of `training.fit.instant`.
        config: as of `training.fit.instant`.
        exposure: as of `training.fit.instant`.
        axes: as of `fit`; the network for movies or for volumes is taken if it is the better one.

    Returns:
        `Denoiser`, as of `training.fit.instant`.

    Raises:
        ValueError: as `training.fit.instant`; axes that are none of these.
    """
    if not _in_a_row(stack, axes):
        return fit_.instant(stack, noise_std=noise_std, config=config, exposure=exposure)
    return _chosen(stack, axes, noise_std, config, exposure)[0]


def verdict(
    image: Real[Array | np.ndarray, "*batch H W"],
    denoised: Real[Array | np.ndarray, "..."],
    *,
    denoiser: Denoiser | None = None,
) -> GuardVerdict:
    """Judge a result against its noisy image, frame by frame, without a clean one. Host side.

    Args:
        image: (H, W) or (N, H, W) noisy, in grey levels; what is not finite does not count.
        denoised: the same shape and unit.
        denoiser: the model, for which pixels it took to share their noise; None: none do.

    Returns:
        `report.guard.GuardVerdict`: its ``text`` is one line, its ``findings`` are the worst ones.

    Raises:
        ValueError: the shapes differ.
    """
    if np.shape(image) != np.shape(denoised):
        raise ValueError(f"image and denoised differ: {np.shape(image)} and {np.shape(denoised)}")
    noisy, result = _frames(image), _frames(denoised)
    return judge_frames(noisy, result, reach=_reach_of(denoiser))


def report(
    image: Real[Array | np.ndarray, "*batch H W"],
    result: Denoised,
    denoiser: Denoiser,
    *,
    path: str | Path = "report.html",
    title: str = "Arrays",
    overwrite: bool = False,
) -> Verdict:
    """Write the report on a result that is in memory, and return its verdict. Host side.

    Args:
        image: (H, W) or (N, H, W) noisy, in grey levels.
        result: what `denoise` made of it.
        denoiser: the model.
        path: of the HTML file.
        title: one line.
        overwrite: whether an existing file may be replaced.

    Raises:
        ValueError: the file exists, or the shapes differ.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise RequestError(f"{path}: the file exists; overwrite=True replaces it")
    channel = Channel(
        noisy=_frames(image),
        denoised=_frames(result.denoised),
        deconvolved=_frames(result.deconvolved),
        denoiser=denoiser,
        guard=verdict(image, result.denoised, denoiser=denoiser),
    )
    return write_html(path, ReportContent(title=title, channels=[channel]))


def _frames(image):
    image = np.asarray(image)
    return image.reshape(-1, *image.shape[-2:])


def _reach_of(denoiser):
    """How many pixels along y and x a model took to share a pixel's noise."""
    if denoiser is None:
        return (0, 0)
    rows, columns = (max(denoiser.config.network.stride - 1, n) for n in denoiser.config.blind)
    return rows, columns


def _in_a_row(stack, axes):
    """Whether the stack is a movie or a volume that is long enough to be looked at as one."""
    if axes not in (None, "T", "Z"):
        raise ValueError(
            f'axes={axes!r}: expected "T" or "Z", what the first axis of a movie or a volume '
            "(N, H, W) is, or None"
        )
    if axes is None:
        return False
    if np.ndim(stack) != 3:
        raise ValueError(f'axes="{axes}": expected frames (N, H, W), got shape {np.shape(stack)}')
    return len(stack) >= FEWEST


def _chosen(stack, axes, noise_std, config, exposure=None):
    """The better one of the networks that come with the package, and the evidence."""
    frames, _ = fill_stack(np.asarray(stack, np.float32))
    exposure = measure_exposure(frames) if exposure is None else exposure
    own = TrainingStack(frames, None, exposure)
    planes = axes == "Z"
    return instant_model(own, noise=noise_std, config=config, row=frames, planes=planes)


class _Progress:
    """Prints a line on each epoch, over the one before where there is a terminal."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._began = epochs, time.monotonic()
        self._end = "\r" if sys.stderr.isatty() else "\n"

    def __call__(self, snapshot: Snapshot) -> None:
        done, row = len(snapshot.history), snapshot.history[-1]
        left = (time.monotonic() - self._began) / done * (self._epochs - done)
        losses = f"loss {row['train_loss']:.4f}, validation {row['validation_loss']:.4f}"
        end = self._end if done < self._epochs else "\n"
        print(
            f"epoch {done} of {self._epochs}, {losses}, {left:.0f} s left ",
            end=end,
            file=sys.stderr,
            flush=True,
        )
