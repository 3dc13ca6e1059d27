"""Denoise microscopy images without clean data: DecoNoising in JAX, beside the classical filters.

The names below are loaded when they are first used, so that ``import jaxdenoise`` and ``jaxdenoise --help`` do not wait for JAX.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "box3d_filter": "filters",
    "box_filter": "filters",
    "calibrate": "calibration",
    "confocal_sigma": "optics",
    "convolve": "psf",
    "denoise": "prediction",
    "Denoised": "prediction",
    "Denoiser": "training",
    "estimate_noise": "noise",
    "fit": "training",
    "fourier_ring_correlation": "metrics",
    "gaussian_filter": "filters",
    "gaussian_noise": "noise",
    "gaussian_psf": "psf",
    "instant": "training",
    "load": "checkpoint",
    "mean_over_std": "metrics",
    "measure_psf": "beads",
    "median_filter": "filters",
    "noise_level": "calibration",
    "poisson_gaussian_noise": "noise",
    "psnr": "metrics",
    "quantize": "noise",
    "read": "images",
    "save": "checkpoint",
    "si_psnr": "metrics",
    "snr_db": "metrics",
    "ssim": "metrics",
    "sweep": "sweeps",
    "TrainConfig": "config",
    "UNetConfig": "config",
    "widefield_sigma": "optics",
    "wiener_filter": "filters",
    "write": "images",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
