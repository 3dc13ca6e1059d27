"""Judge denoised images by the protocol of their data set."""

import numpy as np

import jaxdenoise as jd


def qualities(images, truth, protocol):
    """Return PSNR by the protocol, scale-invariant PSNR and SSIM: lists with one value an image.

    FMD: images are clamped to [0, 255], the data range is 255. Others: the range of the truth.
    """
    low, high = (0, 255) if protocol.startswith("fmd") else (-np.inf, np.inf)
    data_range = 255.0 if protocol.startswith("fmd") else float(truth.max() - truth.min())
    images = np.clip(np.asarray(images, np.float32), low, high)
    scores = {"psnr": jd.psnr, "si_psnr": jd.si_psnr, "ssim": jd.ssim}
    return {
        name: [float(score(truth, image, data_range=data_range)) for image in images]
        for name, score in scores.items()
    }


def quality(images, truth, protocol):
    """Return the means of `qualities` over the images."""
    return {
        name: float(np.mean(values)) for name, values in qualities(images, truth, protocol).items()
    }


def criterion(protocol):
    """Return which PSNR counts: scale-invariant for W2S, whose images were stretched apart."""
    return "si_psnr" if protocol.startswith("w2s") else "psnr"


def mean_and_error(runs, key):
    """Return mean and standard error over seeds, and over images where a run has one value each.

    Args:
        runs: {seed: {key: value or list of values}}.
        key: which values.
    """
    values = np.concatenate([np.atleast_1d(run[key]) for run in runs.values()])
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return float(values.mean()), error
