"""Stacks against a reference: every metric, as the verbs `evaluate` and `sweep` give them. Host side."""

import math
from typing import NamedTuple

import numpy as np

from jaxdenoise.imaging import metrics
from jaxdenoise.io import images
from jaxdenoise.system.errors import RequestError

METRICS = ("psnr", "si_psnr", "snr_db", "ssim", "mean_over_std")


class Reference(NamedTuple):
    """A clean stack.

    Attributes:
        name: where it was read from.
        frames: (N, H, W) float32; with N = 1 it stands for every frame that is compared with it.
        data_range: of the metrics, in grey levels.
    """

    name: str
    frames: np.ndarray
    data_range: float


def read_reference(path, *, axes=None, data_range="gt"):
    """`Reference` of a file; ``data_range`` is a number of grey levels, or "gt" for the span of the file's own."""
    frames = images.read(path, axes=axes).frames
    if data_range == "gt":
        data_range = float(frames.max() - frames.min())
        if not data_range > 0:
            raise RequestError(f"{path}: is constant, so it gives no data range")
    return Reference(str(path), frames, data_range)


def compare(reference, frames, *, name):
    """The mean of each metric over the frames: dict of float, None where JSON has no number for it.

    Args:
        reference: `Reference`.
        frames: (N, H, W) array.
        name: of the frames, for the RequestError that says that they do not fit the reference.
    """
    clean, data_range = reference.frames, reference.data_range
    if len(clean) not in (1, len(frames)) or clean.shape[1:] != frames.shape[1:]:
        raise RequestError(
            f"{name}: has shape {frames.shape}, the reference {reference.name} {clean.shape}; frames must match or be one"
        )
    return mean(
        [
            _metrics(clean[i if len(clean) > 1 else 0], frame, data_range)
            for i, frame in enumerate(frames)
        ]
    )


def mean(rows):
    """The mean of each metric over dicts of them; None where one is None or infinite (the PSNR of identical images)."""
    return {name: _mean([row[name] for row in rows]) for name in METRICS}


def _metrics(truth, frame, data_range):
    return {
        "psnr": metrics.psnr(truth, frame, data_range=data_range),
        "si_psnr": metrics.si_psnr(truth, frame, data_range=data_range),
        "snr_db": metrics.snr_db(truth, frame),
        "ssim": metrics.ssim(truth, frame, data_range=data_range),
        "mean_over_std": metrics.mean_over_std(frame),
    }


def _mean(numbers):
    value = math.nan if None in numbers else sum(map(float, numbers)) / len(numbers)
    return value if math.isfinite(value) else None
