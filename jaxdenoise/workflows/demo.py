"""The demonstration: a synthetic stack with known truth, a training on its noisy frames alone, compared with classical filters."""

import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxdenoise.config import TrainConfig
from jaxdenoise.imaging import filters, metrics
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope import synthetic
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.report import pictures
from jaxdenoise.report.html import ReportContent, write_html
from jaxdenoise.system.files import new_files
from jaxdenoise.training.fit import fit

FRAMES, SIDE, PSF_SIGMA = 8, 256, 1.0
EPOCHS = 10  # of the preset's 22: the demonstration should take about a minute
FILTERS = {
    "median 3x3": partial(filters.median_filter, size=(3, 3)),
    "Gaussian 5x5": partial(filters.gaussian_filter, size=(5, 5), mode="mirror"),
    "box 3x3": partial(filters.box_filter, size=(3, 3)),
}
# chosen with the truth, which no microscopist has: the filter's upper bound
BEST_GAUSSIAN = "Gaussian, best sigma"


def run(directory, *, seed, overwrite, bars, settings=None):
    """Make the stack, train, compare, write.

    Args:
        directory: where the TIFFs and comparison.png go; they appear all at once, at the end.
        seed: of the scene, the noise and the training.
        overwrite: replace the files of an earlier demonstration.
        bars: `terminal.Bars` or `terminal.Silence`.
        settings: dict for the report, report.html; no report without it.

    Returns:
        Dict for JSON: "methods" (name to mean psnr and ssim over the frames), "training_seconds",
            "frames", "shape".
    """
    directory = Path(directory)
    images.check_directory(directory)
    names = ("noisy", "ground_truth", "denoised", "deconvolved")
    targets = {name: directory / f"{name}.tif" for name in names} | {
        "picture": directory / "comparison.png"
    }
    targets |= {"report": directory / "report.html"} if settings else {}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise images.ImageError(
                f"{target}: the file exists; say --overwrite to replace it, or -o for another folder"
            )
    key_scene, key_training = jax.random.split(jax.random.key(seed))
    stack = synthetic.static_scene(
        key_scene, frames=FRAMES, shape=(SIDE, SIDE), psf_sigma=PSF_SIGMA
    )
    noisy, clean = np.asarray(stack.noisy), np.asarray(stack.clean)

    config = TrainConfig(
        epochs=EPOCHS, targets="own"
    )  # a time lapse does not repeat its scene as these frames do
    began = time.monotonic()
    on_epoch = bars.training(config)
    denoiser = fit(
        key_training, noisy, psf=gaussian_psf(PSF_SIGMA), config=config, on_epoch=on_epoch
    )
    seconds = time.monotonic() - began
    results = denoise(denoiser, noisy, on_tile=bars.predicting("the stack"))

    methods = {"raw": noisy}
    methods |= {name: np.asarray(function(noisy)) for name, function in FILTERS.items()}
    methods |= {BEST_GAUSSIAN: _best_gaussian(noisy, clean), "DecoNoising": results.denoised}
    scores = {name: _scores(clean, frames) for name, frames in methods.items()}
    files = {
        "noisy": noisy,
        "ground_truth": clean[None],
        "denoised": results.denoised,
        "deconvolved": results.deconvolved,
    }
    about = {
        "title": "jaxdenoise demonstration",
        "settings": settings,
        "denoiser": denoiser,
        "truth": clean,
    }
    _write_all(directory, targets, files, methods, clean, scores, about)
    return {
        "methods": scores,
        "training_seconds": round(seconds, 1),
        "frames": FRAMES,
        "shape": [SIDE, SIDE],
    }


def _scores(clean, frames):
    data_range = clean.max() - clean.min()
    psnr = jax.vmap(lambda frame: metrics.psnr(clean, frame, data_range=data_range))(frames)
    ssim = jax.vmap(lambda frame: metrics.ssim(clean, frame, data_range=data_range))(frames)
    return {"psnr": float(psnr.mean()), "ssim": float(ssim.mean())}


def _best_gaussian(noisy, clean):
    sigmas = np.arange(0.5, 3.01, 0.1)
    candidates = (np.asarray(filters.gaussian_filter(noisy, (sigma, sigma))) for sigma in sigmas)
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
            write_html(folder / targets["report"].name, ReportContent(**stacks, **about))
