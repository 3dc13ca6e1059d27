"""Images against a reference: every metric, as a mean over the frames. Host side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Real

from jaxdenoise.imaging import metrics
from jaxdenoise.imaging.metrics import mean_over_frames
from jaxdenoise.io import images
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.other_requests import EvaluateRequest
from jaxdenoise.workflows.partition import channels_of
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.settings import Number

METRICS = ("psnr", "si_psnr", "snr_db", "ssim", "mean_over_std")


class Reference(NamedTuple):
    """A clean stack.

    Attributes:
        name: where it was read from.
        frames: (N, H, W) float32; with N = 1 it stands for every frame that is compared with it.
        data_range: of the metrics, in grey levels.
    """

    name: str
    frames: Float32[np.ndarray, "N H W"]
    data_range: float


@dataclass(frozen=True)
class EvaluateResult:
    """What `evaluate` has found.

    Attributes:
        images: a row an image: "file", "frames" and the means of `METRICS` over its frames; None
            where JSON has no number for it, such as the PSNR of identical images.
        mean: of the rows.
        data_range: of the metrics, in grey levels.
    """

    images: list[dict[str, Any]]
    mean: dict[str, float | None]
    data_range: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"images": self.images, "mean": self.mean, "data_range": self.data_range}


def evaluate(request: EvaluateRequest, reporter: Reporter = SILENT) -> EvaluateResult:
    """Compare images with a reference.

    Args:
        request: what is asked for.
        reporter: for calls like those of the other workflows; it hears nothing.

    Raises:
        ImageError: a file cannot be read.
        RequestError: an image does not fit the reference, or that is constant.
    """
    reference = read_reference(request.reference, axes=request.axes, data_range=request.data_range)
    rows = []
    for path in map(str, request.inputs):
        frames = images.read(path, axes=request.axes, gaps=False).frames
        found = compare(reference, frames, name=path)
        rows.append({"file": path, "frames": len(frames), **found})
    return EvaluateResult(rows, mean(rows), reference.data_range)


def read_reference(
    path: str | Path,
    *,
    axes: str | None = None,
    data_range: Number | str = "gt",
    channel: int | None = None,
) -> Reference:
    """Return the `Reference` in a file.

    Args:
        path: of the file.
        axes: overrules what the file says.
        data_range: in grey levels; "gt": the span of what is returned.
        channel: number of the one that is returned; None: all.

    Raises:
        ImageError: it cannot be read.
        RequestError: it is constant, or has not that channel.
    """
    frames = images.read(path, axes=axes, gaps=False).frames
    if channel is not None:
        own = channels_of(path, images.open_image(path, axes=axes))
        if channel >= len(own):
            raise RequestError(f"{path}: has {len(own)} channels, and no channel {channel}")
        frames = np.asarray(own[channel].frames, np.float32)
    if data_range == "gt":
        data_range = float(frames.max() - frames.min())
        if not data_range > 0:
            raise RequestError(f"{path}: is constant, so it gives no data range")
    return Reference(str(path), frames, float(data_range))


def compare(
    reference: Reference, frames: Real[np.ndarray, "_ _ _"], *, name: str | Path
) -> dict[str, float | None]:
    """Return the mean of each metric over the frames, None where JSON has no number for it.

    Args:
        reference: the clean frames.
        frames: (N, H, W) in grey levels.
        name: of the frames, for messages.

    Raises:
        RequestError: the frames do not fit the reference.
    """
    clean, data_range = reference.frames, reference.data_range
    if len(clean) not in (1, len(frames)) or clean.shape[1:] != frames.shape[1:]:
        raise RequestError(
            f"{name}: has shape {frames.shape}, the reference {reference.name} {clean.shape}; "
            "frames must match or be one"
        )
    ranged = {"data_range": data_range}
    found = {
        "psnr": mean_over_frames(metrics.psnr, clean, frames, **ranged),
        "si_psnr": mean_over_frames(metrics.si_psnr, clean, frames, **ranged),
        "snr_db": mean_over_frames(metrics.snr_db, clean, frames),
        "ssim": mean_over_frames(metrics.ssim, clean, frames, **ranged),
        "mean_over_std": mean_over_frames(metrics.mean_over_std, None, frames),
    }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each metric over rows; None where one of them has none."""
    return {name: _mean([row[name] for row in rows]) for name in METRICS}


def _mean(numbers):
    return None if None in numbers else sum(numbers) / len(numbers)
