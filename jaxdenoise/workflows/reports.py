"""The report of a run: which frames it shows, and what it says of the machine. Host side."""

import math
import sys

import numpy as np

from jaxdenoise import __version__
from jaxdenoise.network import stacks as stacks_
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.report.html import ReportContent, write_html


def versions():
    import importlib.metadata

    import jax

    names = (
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "numpy",
        "tifffile",
        "imagecodecs",
    )
    return {
        "jaxdenoise": __version__,
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in names},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


_PIXELS = 2**21  # of the frames that a report is about: eight frames of 512 x 512


def write_for(path, image, denoiser, *, results=None, truth=None, **options):
    """`write_html` for the frames of a file, or for some of them where they are large.

    Args:
        path: of the report.
        image: `images.Image`.
        denoiser: `denoiser.Denoiser`.
        results: `tiles.Denoised` of all frames; by default those that are shown are denoised here.
        truth: (1, H, W) or (N, H, W), the clean image in grey levels, if there is one.
        **options: of `ReportContent`: title, settings, sweep, commands.
    """
    shown = _shown(image.frames.shape)
    frames, rows, columns = shown
    noisy = np.stack([image.frames[n, rows, columns] for n in frames])
    denoised, deconvolved = (
        (np.asarray(result)[shown] for result in results)
        if results
        else _denoise_shown(denoiser, image.frames, shown)
    )
    if truth is not None:
        truth = truth[
            (
                np.array(image.frames.numbers)[frames] if len(truth) > 1 else slice(None),
                rows,
                columns,
            )
        ]
    stacks = {"noisy": noisy, "denoised": denoised, "deconvolved": deconvolved, "truth": truth}
    about = {"denoiser": denoiser, "pixel_size_um": image.info.pixel_size_um}
    return write_html(path, ReportContent(**about, **stacks, **options))


def _denoise_shown(denoiser, frames, shown):
    """`tiles.Denoised` of the frames that are shown, with those that the network sees beside them."""
    numbers, rows, columns = shown
    beside = stacks_.table(len(frames), frames.row, denoiser.config.network.neighbours)
    windows, places = stacks_.windows(beside, numbers)
    stack = np.stack([[frames[n, rows, columns] for n in window] for window in windows])
    results = denoise(denoiser, stack)
    return [result[np.arange(len(numbers)), places] for result in results]


def _shown(shape):
    """Index of evenly spread frames (an even number, for the two halves of the stack), from the middle of large ones."""
    side = math.isqrt(_PIXELS)
    rows, columns = (
        slice(max(0, (length - side) // 2), max(0, (length - side) // 2) + side)
        for length in shape[1:]
    )
    count = min(shape[0], max(1, _PIXELS // (min(side, shape[1]) * min(side, shape[2]))))
    count -= count % 2 if count > 1 else 0
    return np.linspace(0, shape[0] - 1, count).round().astype(int), rows, columns
