"""Profiles along the optical axis: where they have their middle, and how wide they are.

NumPy and SciPy on the host. `bead_volumes` and `psf_volumes` measure with them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Real
from scipy.optimize import least_squares


class AxialFit(NamedTuple):
    """A Gaussian with a background, fitted to a profile along the optical axis.

    Attributes:
        centre: In planes from the middle of the first one.
        sigma: In planes.
        height: Of the peak above the background, in grey levels.
        background: In grey levels.
    """

    centre: float
    sigma: float
    height: float
    background: float


def fit_profile(profile: Real[np.ndarray, " Z"]) -> AxialFit:
    """Fit a Gaussian and a background to a profile by least squares. Host side.

    Args:
        profile: (Z,) of at least five planes with one peak, in grey levels.
    """
    values = np.asarray(profile, np.float64)
    level, top = float(values.min()), int(np.argmax(values))
    height = max(float(values[top]) - level, 1e-30)
    sigma = max(np.count_nonzero(values - level > height / 2) / 2.355, 0.4)
    z = np.arange(len(values))

    def difference(fit):
        centre, width, peak, background = fit
        bell = np.exp(-0.5 * ((z - centre) / width) ** 2)
        return peak * bell + background - (values - level) / height

    low = [top - 1.5, 0.1, 0.1, -1.0]
    high = [top + 1.5, 2.0 * len(values), 3.0, 1.0]
    start = np.clip([top, sigma, 1.0, 0.0], low, high)
    centre, width, peak, background = least_squares(difference, start, bounds=(low, high)).x
    return AxialFit(
        float(centre), float(width), float(peak * height), float(background * height + level)
    )


def profile_at(
    volume: Real[np.ndarray, "Z H W"],
    centre: Real[np.ndarray, "2"],
    sigma: Real[np.ndarray, "2"],
) -> Float64[np.ndarray, " Z"]:
    """Return the profile of a volume along z through a place, the mean over the PSF's middle.

    Args:
        volume: (Z, H, W) in grey levels.
        centre: (y, x) in pixels from the middle of the first pixel.
        sigma: (y, x) of the Gaussian that weighs the pixels, in pixels.
    """
    y, x = np.ix_(
        *(
            (np.arange(n) - c) / max(s, 0.3)
            for n, c, s in zip(volume.shape[1:], centre, sigma, strict=True)
        )
    )
    weights = np.exp(-0.5 * (y**2 + x**2))
    return np.tensordot(np.asarray(volume, np.float64), weights / weights.sum(), axes=2)
