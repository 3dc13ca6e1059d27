"""The noise of each pixel by its brightness, so that residuals can be told in units of it. NumPy.

Photon noise is stronger where there is more light. A residual in grey levels shows the sample for
that reason alone; in units of the noise it shows only what should not have been removed.
"""

import numpy as np
from jaxtyping import Float32, Real

from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.report.cells import CELL, means
from jaxdenoise.report.diagnostics import Input
from jaxdenoise.report.guard_measures import Noise

_BINS = 16  # levels of brightness at which the noise is measured
_FEWEST = 16  # cells in a bin
_FLAT = 0.5  # share of a bin's cells, those of least contrast, that the noise is measured in
_LEAST = 0.01  # of the mean variance


def noise_by_brightness(
    noisy: Real[np.ndarray, "N H W"], denoised: Real[np.ndarray, "N H W"], found: Input
) -> Noise:
    """Return the variance of the noise by the denoised grey level.

    It is that of the second differences of the noisy images where the denoised ones are flattest;
    noise that neighbours share is scaled to the whole.

    Args:
        noisy: in grey levels.
        denoised: the same shape and unit.
        found: what `diagnostics.examine_input` measured.
    """
    whole = np.array([float(found.mean)]), np.array([max(found.noise_std**2, 1e-30)])
    columns = [_cells(*pair) for pair in zip(noisy, denoised, strict=True)]
    fine, level, contrast = np.concatenate(columns, axis=1)
    count = min(_BINS, level.size // _FEWEST)
    if count < 2:
        return Noise(*whole)
    order = np.argsort(level, kind="stable")
    found_levels, found_variances = [], []
    for own in np.array_split(order, count):
        flat = own[np.argsort(contrast[own], kind="stable")[: max(1, round(_FLAT * own.size))]]
        found_levels.append(level[own].mean())
        found_variances.append(fine[flat].mean())
    levels, variances = np.array(found_levels), np.array(found_variances)
    if found.noise_correlation > CORRELATED:
        variances *= whole[1] / max(variances.mean(), 1e-30)
    variances = np.maximum(variances, _LEAST * variances.mean() + 1e-30)
    levels, first = np.unique(levels, return_index=True)
    return Noise(levels, variances[first])


def in_units(
    residual: Real[np.ndarray, "N H W"], denoised: Real[np.ndarray, "N H W"], noise: Noise
) -> Float32[np.ndarray, "N H W"]:
    """Return a residual over the noise's standard deviation at each pixel's brightness."""
    return (residual / np.sqrt(noise.at(denoised))).astype(np.float32)


def _cells(noisy, denoised):
    """Variance of the finest detail, brightness and contrast of cells, (3, cells)."""
    inside = tuple(slice(0, length // CELL * CELL) for length in noisy.shape)
    noisy, denoised = (np.asarray(image, np.float32) for image in (noisy, denoised))
    lines = noisy[:-2] - 2 * noisy[1:-1] + noisy[2:]
    detail = lines[:, :-2] - 2 * lines[:, 1:-1] + lines[:, 2:]
    fine = np.pad(detail**2 / np.float32(36), 1, mode="edge")
    level, square = means(denoised[inside]), means(denoised[inside] ** 2)
    return np.stack([means(fine[inside]), level, square - level**2]).reshape(3, -1)
