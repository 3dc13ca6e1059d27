"""The methods that `movies` compares: filters, other packages, and the command line's defaults.

Each runs in a process of its own, so that its peak memory is its own. Only the methods named "best"
of a filter look at the truth, to choose their widths; block matching is told the camera's gain and
read noise. What is measured of the package is what a user gets: the command line with no option but
the one that the method names.
"""

import concurrent.futures
import functools
import importlib.util
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.ndimage
import tifffile

from common import memory, movie_scores
from common.movie_cases import case_of, scores_of
from jaxdenoise.microscope.synthetic_movies import OFFSET, READ_STD

# Sigmas of Gaussians, along y and x in pixels, and along t or z in frames.
SIGMAS = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
ACROSS = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0, 32.0)  # frames
WINDOWS = (3, 5, 9, 15, 25)  # frames of the running median
PACKAGES = {"bm4d": "bm4d", "bm4d anscombe": "bm4d", "careamics n2v": "careamics"}


def command_options(name, seed):
    """Return the options of a method of the command line, or None for another method.

    "instant" and "best" are the defaults; "best 2" has two neighbours on each side, "best 0" and
    "instant 0" none.
    """
    found = re.fullmatch(r"(best|fast) ?(\d+)?|instant ?(0)?", name)
    if found is None:
        return None
    preset, neighbours, none = found.groups()
    options = ["--preset", preset, "--seed", str(seed)] if preset else ["--instant"]
    neighbours = neighbours or none
    return [*options, "--neighbours", neighbours] if neighbours else options


def missing_package(name):
    """Return the name of the package that a method needs and that is not there, else None."""
    package = PACKAGES.get(name)
    return package if package and importlib.util.find_spec(package) is None else None


def measured(name, row, seed, **scene):
    """Return scores, "seconds", "memory" in bytes and perhaps "parameter" of a method on a case.

    Args:
        name: of the method: one of `RIVALS`, or what `command_options` knows.
        row: the case.
        seed: of the case and of the method.
        **scene: `frames` and `size` of the case.
    """
    options = command_options(name, seed)
    if options is None and name not in RIVALS:
        raise ValueError(
            f"unknown method {name}: one of {', '.join(RIVALS)}, instant, best, best K"
        )
    if options is not None:
        return _of_command(options, row, seed, scene)
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(of_rival, name, row, seed, scene).result()


def of_rival(name, row, seed, scene):
    """Return what `measured` returns, of a method of `RIVALS`, in this process."""
    case = case_of(row, seed, **scene)
    images, seconds, told = RIVALS[name](case)
    peak = memory.peak_of_this_process()
    return scores_of(case, images) | {"seconds": seconds, "memory": peak} | told


def _of_command(options, row, seed, scene):
    case = case_of(row, seed, **scene)
    axes = "ZYX" if case.movie is None else "TYX"
    with tempfile.TemporaryDirectory() as folder:
        noisy = Path(folder) / "noisy.tif"
        tifffile.imwrite(noisy, case.frames, imagej=True, metadata={"axes": axes})
        command = [sys.executable, "-m", "jaxdenoise", "denoise", str(noisy), "-o", folder]
        began = time.monotonic()
        process = subprocess.Popen([*command, *options, "--no-report", "--quiet"])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        if status:
            raise SystemExit(f"failed: {' '.join([*command[1:], *options])}")
        images = tifffile.imread(Path(folder) / "noisy_denoised.tif")
    images = images.reshape(case.truth.shape)
    return scores_of(case, images) | {"seconds": seconds, "memory": memory.peak_of(usage)}


def _raw(case):
    return case.frames, 0.0, {}


def _best_gaussian(case, across):
    """The Gaussian with the widths along t or z and along y and x that the truth chooses.

    The widths are improved in turn until neither can be, since their quality has one maximum.
    """
    frames = case.frames.astype(np.float32)

    @functools.cache
    def quality(first, sigma):
        images = _smoothed(frames, (first, sigma, sigma))
        return movie_scores.psnr(case.truth, images - np.float32(OFFSET))

    chosen, before = (across[len(across) // 2], 1.0), None
    while chosen != before:
        before = chosen
        sigma = max(SIGMAS, key=lambda sigma: quality(before[0], sigma))
        chosen = max(across, key=lambda first: quality(first, sigma)), sigma
    began = time.monotonic()
    images = _smoothed(frames, (chosen[0], chosen[1], chosen[1]))
    told = f"{chosen[1]:g}" if across == (0.0,) else f"{chosen[0]:g}, {chosen[1]:g}"
    return images, time.monotonic() - began, {"parameter": told}


def _smoothed(frames, sigmas):
    return scipy.ndimage.gaussian_filter(frames, sigmas, mode="mirror") if any(sigmas) else frames


def _running_median(case):
    """The median over time or depth, of the window that the truth chooses."""
    found = []
    for window in WINDOWS:
        began = time.monotonic()
        images = scipy.ndimage.median_filter(case.frames, (window, 1, 1), mode="mirror")
        seconds = time.monotonic() - began
        quality = movie_scores.psnr(case.truth, images - OFFSET)
        found.append((quality, window, seconds, images))
    _, window, seconds, images = max(found, key=lambda row: row[0])
    return images, seconds, {"parameter": str(window)}


def _block_matching(case, *, stabilised):
    """BM4D with the noise's mean variance, or after a transform that makes the noise uniform."""
    import bm4d  # its licence allows research only, so nothing else of the project needs it

    signal, variance = case.frames.astype(float) - OFFSET, READ_STD**2
    began = time.monotonic()
    if stabilised:
        images = from_uniform(bm4d.bm4d(to_uniform(signal, case.gain), 1.0), case.gain)
    else:
        images = bm4d.bm4d(signal, float(np.sqrt(case.gain * case.truth.mean() + variance)))
    return images + OFFSET, time.monotonic() - began, {}


def to_uniform(signal, gain):
    """Anscombe's transform for Poisson-Gaussian noise: a standard deviation near 1 everywhere."""
    return 2 / gain * np.sqrt(np.maximum(gain * signal + 3 / 8 * gain**2 + READ_STD**2, 0))


def from_uniform(images, gain):
    """Its exact unbiased inverse, in closed form; the asymptotic one is far off below 4 photons.

    Source: Mäkitalo, Foi, "Optimal inversion of the generalized Anscombe transformation for
        Poisson-Gaussian noise", IEEE Trans. Image Processing 22 (2013).
    """
    least = 2 * np.sqrt(3 / 8 + (READ_STD / gain) ** 2)  # of no photon
    d = np.maximum(images, least)
    root = np.sqrt(3 / 2)
    photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return gain * np.maximum(photons - (READ_STD / gain) ** 2, 0)


def _noise2void(case):
    """CAREamics' Noise2Void in three dimensions, with its defaults."""
    from careamics import CAREamist
    from careamics.config import create_n2v_config

    frames = case.frames.astype(np.float32)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        patch = [16, *(min(64, size) for size in frames.shape[1:])]
        patches = np.prod([size // side for size, side in zip(frames.shape, patch, strict=True)])
        config = create_n2v_config(
            "movie",
            data_type="array",
            axes="ZYX",
            patch_size=patch,
            batch_size=4,
            n_val_patches=int(np.clip(patches // 8, 1, 8)),
        )
        network = CAREamist(config, work_dir=folder, enable_progress_bar=False)
        network.train(train_data=frames)
        images, _ = network.predict(frames, tile_size=(32, *patch[1:]), tile_overlap=(8, 16, 16))
    return np.reshape(images[0], frames.shape), time.monotonic() - began, {}


RIVALS = {
    "raw": _raw,
    "gaussian 2d best": lambda case: _best_gaussian(case, (0.0,)),
    "gaussian 3d best": lambda case: _best_gaussian(case, ACROSS),
    "running median best": _running_median,
    "bm4d": lambda case: _block_matching(case, stabilised=False),
    "bm4d anscombe": lambda case: _block_matching(case, stabilised=True),
    "careamics n2v": _noise2void,
}
