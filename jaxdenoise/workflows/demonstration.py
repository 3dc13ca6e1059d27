"""The demonstration: a synthetic stack, denoised by filters and networks, compared. Host side."""

import itertools
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdenoise.config import TrainConfig
from jaxdenoise.imaging import filters, metrics
from jaxdenoise.imaging.metrics import mean_over_frames
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope import synthetic
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.report import pictures
from jaxdenoise.report.content import Channel, ReportContent
from jaxdenoise.report.html import write_html
from jaxdenoise.system.errors import RequestError
from jaxdenoise.system.files import new_files
from jaxdenoise.training import fit
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows.other_requests import DemoRequest
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.reports import settings_of

FRAMES, SIDE, PSF_SIGMA = 8, 256, 1.0
# The preset "best" in fewer epochs: the demonstration should take about a minute. A time lapse does
# not repeat its scene as these frames do, so each learns from itself.
CONFIG = TrainConfig.best(epochs=8, targets="own")
INSTANT, BEST = "instant", "best"
FILTERS = {
    "median 3x3": partial(filters.median_filter, size=(3, 3)),
    "Gaussian 5x5": partial(filters.gaussian_filter, size=(5, 5), mode="mirror"),
    "box 3x3": partial(filters.box_filter, size=(3, 3)),
}
# chosen with the truth, which no microscopist has: the filter's upper bound
BEST_GAUSSIAN = "Gaussian, best sigma"
SIGMAS = np.arange(0.5, 3.01, 0.1)  # among which it is


@dataclass(frozen=True)
class DemoResult:
    """What `demo` has made.

    Attributes:
        methods: name of each method to its mean "psnr" and "ssim" over the frames.
        training_seconds: of wall time.
        frames: how many.
        shape: of a frame.
        output: the folder with the pictures and TIFFs.
        denoiser: the model.
    """

    methods: dict[str, dict[str, float]]
    training_seconds: float
    frames: int
    shape: tuple[int, int]
    output: Path
    denoiser: Denoiser

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "methods": self.methods,
            "training_seconds": self.training_seconds,
            "frames": self.frames,
            "shape": list(self.shape),
        }


def demo(request: DemoRequest, reporter: Reporter = SILENT) -> DemoResult:
    """Make a stack, denoise it in several ways, compare them with its truth, write it all.

    Args:
        request: what is asked for. If the default folder is there, the next free name is taken.
        reporter: hears of the progress; it may stop the training after an epoch.

    Raises:
        Cancelled: the reporter asked to stop; nothing was written.
        JaxdenoiseError: a file is there already, or cannot be written.
    """
    request = _in_free_folder(request)
    targets = _targets(request)
    key_scene, key_training = jax.random.split(jax.random.key(request.seed))
    stack = synthetic.static_scene(
        key_scene, frames=FRAMES, shape=(SIDE, SIDE), psf_sigma=PSF_SIGMA
    )
    noisy, clean = np.asarray(stack.noisy), np.asarray(stack.clean)
    began = time.monotonic()
    denoiser = run_.fit_model(
        key_training, noisy, psf=gaussian_psf(PSF_SIGMA), config=CONFIG, reporter=reporter
    )
    seconds = time.monotonic() - began
    results = denoise(denoiser, noisy, on_tile=reporter.predicting("the stack"))

    methods = {"raw": noisy}
    methods |= {name: np.asarray(function(noisy)) for name, function in FILTERS.items()}
    methods |= {
        BEST_GAUSSIAN: _best_gaussian(noisy, clean),
        INSTANT: np.asarray(denoise(fit.instant(noisy), noisy).denoised),
        BEST: np.asarray(results.denoised),
    }
    scores = {name: _scores(clean, frames) for name, frames in methods.items()}
    files = {
        "noisy": noisy,
        "ground_truth": clean[None],
        "denoised": results.denoised,
        "deconvolved": results.deconvolved,
    }
    about = {"settings": settings_of(request), "denoiser": denoiser}
    output = Path(request.output)
    _write_all(output, targets, files, methods, clean, scores, about)
    return DemoResult(scores, round(seconds, 1), FRAMES, (SIDE, SIDE), output, denoiser)


def _in_free_folder(request):
    """The request with the next free name, where the default folder is taken."""
    if request.overwrite or Path(request.output) != Path(DemoRequest().output):
        return request
    names = itertools.chain([request.output], (f"{request.output}-{n}" for n in itertools.count(2)))
    return replace(request, output=next(Path(name) for name in names if not Path(name).exists()))


def _targets(request):
    """The files that are written, by name; they must not exist, unless they are overwritten."""
    output = Path(request.output)
    images.check_directory(output)
    names = ("noisy", "ground_truth", "denoised", "deconvolved")
    targets = {name: output / f"{name}.tif" for name in names}
    targets |= {"picture": output / "comparison.png"}
    targets |= {"report": output / "report.html"} if request.report else {}
    for target in targets.values():
        if target.exists() and not request.overwrite:
            raise RequestError(
                f"{target}: the file exists; overwrite=True replaces it, or name another folder"
            )
    return targets


def _scores(clean, frames):
    options = {"data_range": clean.max() - clean.min()}
    return {
        "psnr": mean_over_frames(metrics.psnr, clean[None], frames, **options),
        "ssim": mean_over_frames(metrics.ssim, clean[None], frames, **options),
    }


def _best_gaussian(noisy, clean):
    candidates = (np.asarray(filters.gaussian_filter(noisy, (sigma, sigma))) for sigma in SIGMAS)
    return min(candidates, key=lambda frames: np.mean((frames - clean) ** 2))


def _write_all(directory, targets, files, methods, clean, scores, about):
    """Write all files, or none if the demonstration is interrupted."""
    with new_files(directory) as folder:
        for name, frames in files.items():
            info = ImageInfo("TYX", frames.shape, np.dtype(np.float32), "imagej")
            images.write(folder / targets[name].name, frames, info)
        shown = {name: frames[0] for name, frames in methods.items()} | {"ground truth": clean}
        captions = {name: f"{values['psnr']:.2f} dB" for name, values in scores.items()}
        zoom = pictures.busiest_window(clean, SIDE // 4)
        pictures.save_comparison(
            folder / targets["picture"].name, shown, zoom=zoom, captions=captions
        )
        if "report" in targets:
            stacks = {name: files[name] for name in ("noisy", "denoised", "deconvolved")}
            channel = Channel(**stacks, denoiser=about["denoiser"], truth=clean)
            content = ReportContent(
                title="jaxdenoise demonstration", channels=[channel], settings=about["settings"]
            )
            write_html(folder / targets["report"].name, content)
