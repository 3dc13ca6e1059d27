"""Denoise microscopy images without clean data: DecoNoising in JAX, beside the classical filters.

The names below are loaded when they are first used, so that ``import jaxdenoise`` and ``jaxdenoise
--help`` do not wait for JAX.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "box3d_filter": "imaging.filters",
    "box_filter": "imaging.filters",
    "calibrate": "microscope.calibration",
    "confocal_sigma": "microscope.optics",
    "convolve": "microscope.psf",
    "denoise": "prediction.tiles",
    "Denoised": "prediction.tiles",
    "Denoiser": "network.denoiser",
    "estimate_noise": "microscope.noise_estimation",
    "fit": "training.fit",
    "fourier_ring_correlation": "imaging.resolution",
    "gaussian_filter": "imaging.filters",
    "gaussian_noise": "microscope.noise",
    "gaussian_psf": "microscope.psf",
    "instant": "training.fit",
    "load": "runs.models",
    "mean_over_std": "imaging.metrics",
    "measure_psf": "microscope.beads",
    "median_filter": "imaging.filters",
    "noise_level": "microscope.noise_estimation",
    "poisson_gaussian_noise": "microscope.noise",
    "psnr": "imaging.metrics",
    "quantize": "imaging.levels",
    "read": "io.images",
    "save": "runs.models",
    "si_psnr": "imaging.metrics",
    "snr_db": "imaging.metrics",
    "ssim": "imaging.metrics",
    "sweep": "training.sweep",
    "TrainConfig": "config",
    "UNetConfig": "config",
    "widefield_sigma": "microscope.optics",
    "wiener_filter": "imaging.filters",
    "write": "io.images",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
