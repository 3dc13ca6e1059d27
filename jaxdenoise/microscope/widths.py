"""Widths of profiles and PSFs: standard deviation sigma and full width at half maximum (FWHM).

The FWHM of a Gaussian is 2 sqrt(2 ln 2) sigma = 2.355 sigma. `full_width` measures that of any
profile, on the host.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import ArrayLike, Float, Real

_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian of standard deviation 1
_FAINTEST = 1e-3  # of the half maximum: a pixel counts as at least this much in a logarithm


def fwhm_from_sigma(sigma: Real[ArrayLike, "*shape"]) -> Real[ArrayLike, "*shape"]:
    """Return the full width at half maximum of a Gaussian of standard deviation `sigma`.

    Both are numbers or arrays, in the same unit.
    """
    return _FWHM * sigma


def sigma_from_fwhm(fwhm: Real[ArrayLike, "*shape"]) -> Real[ArrayLike, "*shape"]:
    """Return the standard deviation of a Gaussian of full width at half maximum `fwhm`.

    Both are numbers or arrays, in the same unit.
    """
    return fwhm / _FWHM


def full_width(
    profile: Float[np.ndarray, " n"],
    centre: int | np.integer,
    *,
    interpolation: Literal["linear", "gaussian"] = "linear",
) -> float:
    """Measure the full width at half maximum of a profile on a background of 0. Host side.

    Args:
        profile: (n,) values of a line through a spot.
        centre: Index of the spot's centre, whose value is taken as the maximum.
        interpolation: How the place of half the maximum is found between two pixels:
            ``"linear"`` by a straight line, ``"gaussian"`` by a Gaussian around the centre (exact
            for one, however few pixels it covers).

    Returns:
        The width in pixels, NaN if the profile ends on either side before it falls to half.
    """
    half, width = profile[centre] / 2, 0.0
    for side in (profile[centre:], profile[centre::-1]):
        below = np.flatnonzero(side < half)
        if not len(below):
            return math.nan
        k = below[0]
        if interpolation == "linear":
            width += k - 1 + (side[k - 1] - half) / (side[k - 1] - side[k])
        else:
            # The logarithm of a Gaussian is linear in the squared distance.
            last, first = side[k - 1], max(side[k], _FAINTEST * half)
            width += np.sqrt(
                (k - 1) ** 2 + (2 * k - 1) * np.log(last / half) / np.log(last / first)
            )
    return float(width)


def full_widths(psf: Real[ArrayLike, "*d h w"]) -> tuple[float, ...]:
    """Measure the full widths at half maximum of a PSF along the lines through its centre.

    Host side. They are exact for a Gaussian. Beyond its sides the PSF counts as 0.

    Returns:
        (y, x), or (z, y, x) of a volume, in pixels.
    """
    psf = np.pad(np.asarray(psf, float), 1)
    centre = tuple(length // 2 for length in psf.shape)
    return tuple(
        full_width(
            np.moveaxis(psf, axis, -1)[centre[:axis] + centre[axis + 1 :]],
            centre[axis],
            interpolation="gaussian",
        )
        for axis in range(psf.ndim)
    )
