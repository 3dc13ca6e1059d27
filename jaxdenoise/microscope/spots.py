"""Spots in an image: where they are, how wide they are, and the Gaussians fitted to them.

NumPy on the host. `beads` measures a PSF from them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Real

from jaxdenoise.microscope.widths import full_width, sigma_from_fwhm

_CONTRAST = 10.0  # times the noise: how far a spot rises above the background
_FAINTEST = 0.02  # of the brightest spot; fainter ones may be its diffraction rings
_ROUNDS = 3  # of finding spots, each smoothed by the width that the last round found


class GaussianFit(NamedTuple):
    """A Gaussian spot with its background, as `fit_gaussian` finds it.

    Attributes:
        height: Of the peak above the background, in grey levels.
        centre: (y, x) in pixels from the middle of the patch.
        sigma: (y, x) standard deviations in pixels.
        background: In grey levels.
    """

    height: float
    centre: Float64[np.ndarray, "2"]
    sigma: Float64[np.ndarray, "2"]
    background: float


def find_spots(
    image: Real[np.ndarray, "H W"],
) -> tuple[Int[np.ndarray, "n 2"], Float64[np.ndarray, " n"], Float64[np.ndarray, "2"]]:
    """Find the spots of an image that rise ten times the noise above the background.

    Args:
        image: (H, W) in grey levels.

    Returns:
        The pixels (y, x) of the spots (n, 2), their heights (n,) after smoothing by their own
        width, and their typical sigma (y, x) in pixels.

    Raises:
        ValueError: There is no spot.
    """
    sigma = np.ones(2)
    for _ in range(_ROUNDS):
        smooth = _blur(image, sigma)
        smooth -= np.median(smooth)
        noise = 1.4826 * np.median(np.abs(smooth))
        limit = max(_CONTRAST * noise, _FAINTEST * smooth.max())
        # The ramp decides between equal neighbours, such as those of a saturated bead.
        ramp = np.linspace(0, 1e-9 * smooth.max(), smooth.size).reshape(smooth.shape)
        spots = np.argwhere(_is_peak(smooth + ramp, sigma, limit))
        widths = [(full_width(smooth[:, x], y), full_width(smooth[y], x)) for y, x in spots]
        fwhm = np.array(widths).reshape(-1, 2)
        fwhm = fwhm[np.isfinite(fwhm).all(axis=1)]
        if not len(fwhm):
            raise ValueError(
                f"measure_psf: no bead found: no spot rises {_CONTRAST:g} times the noise "
                f"({noise:.3g} grey levels after smoothing) above the background; "
                "give an image of bright, separate beads"
            )
        sigma = np.sqrt(np.maximum(sigma_from_fwhm(np.median(fwhm, axis=0)) ** 2 - sigma**2, 0.25))
    return spots, smooth[tuple(spots.T)], sigma


def fit_gaussian(
    patch: Float64[np.ndarray, "h w"], sigma: Float64[np.ndarray, "2"], reach: int
) -> GaussianFit:
    """Fit a Gaussian and a background by least squares (Levenberg-Marquardt).

    Args:
        patch: (h, w) with odd sides around a spot, in grey levels.
        sigma: (y, x) in pixels, where the fit begins.
        reach: Distance in pixels that the centre may have from the middle along each axis.
    """
    background = np.median(patch)
    # The sides are odd, so the middle of the flat patch is the centre.
    fit = np.array([patch.flat[patch.size // 2] - background, 0, 0, *sigma, background])
    widest = max(patch.shape)
    low = [-np.inf, -reach, -reach, 0.1, 0.1, -np.inf]
    high = [np.inf, reach, reach, widest, widest, np.inf]
    residual, slopes = _compare(patch, fit)
    damping = 1e-3
    for _ in range(50):
        scale = np.maximum(np.linalg.norm(slopes, axis=1), 1e-30)
        scaled = slopes / scale[:, None]
        step = np.linalg.solve(scaled @ scaled.T + damping * np.eye(6), scaled @ residual) / scale
        trial = np.clip(fit + step, low, high)
        trial_residual, trial_slopes = _compare(patch, trial)
        if trial_residual @ trial_residual > residual @ residual:
            damping *= 10
            continue
        fit, residual, slopes, damping = trial, trial_residual, trial_slopes, damping / 10
        if np.all(np.abs(step[1:5]) < 1e-6):
            break
    return GaussianFit(fit[0], fit[1:3], fit[3:5], fit[5])


def _compare(patch, fit):
    """The residual of a fit at each pixel, and its slopes by the six parameters."""
    y, x = np.ix_(*(np.arange(n) - n // 2 for n in patch.shape))
    height, y0, x0, sy, sx, background = fit
    v, u = (y - y0) / sy, (x - x0) / sx
    bell = np.exp(-0.5 * (v**2 + u**2))
    slopes = (
        height
        * bell
        * np.stack([v / sy + 0 * u, u / sx + 0 * v, v**2 / sy + 0 * u, u**2 / sx + 0 * v])
    )
    residual = (patch - height * bell - background).ravel()
    return residual, np.reshape([bell, *slopes, np.ones_like(bell)], (6, -1))


def _blur(image, sigma):
    for axis, s in enumerate(sigma):
        radius = int(np.ceil(3 * s))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / s) ** 2)
        weights /= weights.sum()
        image = sum(
            weight * part
            for weight, part in zip(weights, _shifted(image, radius, axis), strict=True)
        )
    return image


def _is_peak(image, sigma, limit):
    highest = image
    for axis, s in enumerate(sigma):
        for part in _shifted(highest, int(np.ceil(s)), axis):
            highest = np.maximum(highest, part)
    return (image == highest) & (image > limit)


def _shifted(image, radius, axis):
    """Copies of the image shifted by -radius to radius pixels along an axis, borders mirrored."""
    extended = np.pad(
        image, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric"
    )
    return [
        extended[i : i + image.shape[0]] if axis == 0 else extended[:, i : i + image.shape[1]]
        for i in range(2 * radius + 1)
    ]
