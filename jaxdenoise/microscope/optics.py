"""The PSF of a fluorescence microscope from its optics, as the sigma of a Gaussian.

Sigma is the standard deviation, not the full width at half maximum (`widths` converts). All lengths
are in micrometres, and the pixel size is that in the sample: the camera's pixel divided by the
magnification, as `ImageInfo.pixel_size_um` has it.

The Gaussians fit the PSF of ideal, paraxial, scalar optics in focus: the Airy pattern (2 J1(v) /
v)^2 with v = 2 pi NA r / wavelength. They leave out its rings, 16 % of the light. Real PSFs are
wider: polarisation adds up to 15 % at NA 1.49 (Richards and Wolf, 1959), and aberrations, defocus
and the pixels themselves (1/12 of a squared pixel to the variance) add more. A measured PSF
(`beads.measure_psf`) includes all of that.

Along the optical axis the intensity is sinc^2 with ``(n - sqrt(n^2 - NA^2)) z / wavelength``, the
path by which the rim of the pupil runs ahead of its middle. That holds at large angles too, where
the paraxial form ``NA^2 z / (2 n wavelength)`` makes the PSF up to 1.5 times as long. A mismatch of
refractive indices, which adds spherical aberration with depth, is left out; and of a wide-field
microscope the light that each plane gets from all others far away, which no Gaussian holds.

Arguments are numbers, or traced by JAX; traced ones are not checked.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.arguments import PerAxis
from jaxdenoise.imaging.levels import Scalar

__all__ = [
    "confocal_axial_sigma",
    "confocal_sigma",
    "widefield_axial_sigma",
    "widefield_sigma",
]

# Times wavelength / NA: the Gaussian of peak 1 with the least squared difference to the Airy
# pattern over the plane.
_AIRY_SIGMA = 0.2103
# Times wavelength / (n - sqrt(n^2 - NA^2)): the Gaussian of peak 1 with the least squared
# difference to sinc^2 along the axis.
_AXIAL_SIGMA = 0.3645
# How much the pinhole shortens the PSF: the least squares fits to the products of excitation and
# emission through the pinhole, of wavelengths 0.488 and 0.52, 0.4 and 0.7, and two equal ones,
# computed by quadrature for pinholes of 0 to 8 Airy units, are met within 3 % of sigma.
_CLOSED, _HALF_OPEN, _STEEPNESS = 0.85, 1.09, 4  # share, Airy units, power
_AIRY_UNIT = 1.22  # times wavelength / NA: diameter of the Airy pattern's first dark ring
_LIMITS = {
    "wavelength": (0.2, 2.0),
    "excitation": (0.2, 2.0),
    "emission": (0.2, 2.0),
    "pixel_size": (0.001, 10.0),
    "z_step": (0.001, 100.0),
}  # micrometres


def widefield_sigma(
    numerical_aperture: Scalar, wavelength: Scalar, *, pixel_size: PerAxis
) -> PerAxis:
    """Return the PSF's sigma of a wide-field, light-sheet or TIRF microscope.

    It is 0.21 wavelength / NA. The Gaussian is within 0.03 of the Airy pattern's peak everywhere.
    The pattern's own FWHM is 0.514 wavelength / NA, 4 % more than the Gaussian's.

    Source: Zhang, Zerubia and Olivo-Marin, "Gaussian approximations of fluorescence microscope
        point-spread function models", Applied Optics 46 (2007): the least squares fit. Their
        sqrt(2) / (k NA) = 0.225 wavelength / NA has the peak's curvature instead.

    Args:
        numerical_aperture: Of the objective, above 0 and up to 1.6.
        wavelength: Of the emission in micrometres, 0.2 to 2.
        pixel_size: In the sample, in micrometres, 0.001 to 10; a number or a pair (y, x).

    Returns:
        Sigma (not FWHM) in pixels: a number, or a pair (y, x) for a pair of pixel sizes.

    Raises:
        ValueError: A value out of its range, such as nanometres given for micrometres.
    """
    _check_aperture("widefield_sigma", numerical_aperture)
    _check_length("widefield_sigma", "wavelength", wavelength)
    return _in_pixels("widefield_sigma", _AIRY_SIGMA * wavelength / numerical_aperture, pixel_size)


def confocal_sigma(
    numerical_aperture: Scalar,
    excitation: Scalar,
    emission: Scalar,
    *,
    pixel_size: PerAxis,
    pinhole: Scalar = 1.0,
) -> PerAxis:
    """Return the PSF's sigma of a laser scanning confocal microscope with a round pinhole.

    The PSF is the Airy pattern of the excitation times that of the emission, summed over the
    pinhole. Both are taken as Gaussians, and the emission's sum over the pinhole as a Gaussian
    again, with the same curvature at its centre: ``1 / sigma^2 = 1 / s_excitation^2 + (q / (e^q -
    1)) / s_emission^2`` with ``q = radius^2 / (2 s_emission^2)``. Against the Gaussian that fits
    the product of the Airy patterns with the least squares, sigma is between 3.5 % too small
    (closed pinhole) and 1.5 % too large (0.8 Airy units).

    With a pinhole of 1 Airy unit the PSF is nearly the excitation's pattern. Two-photon excitation
    follows the square of the pattern and needs no pinhole: give its wavelength for both, and
    ``pinhole=0``.

    Source: Zhang, Zerubia and Olivo-Marin, Applied Optics 46 (2007), for the pinhole.

    Args:
        numerical_aperture: Of the objective, above 0 and up to 1.6, its back aperture filled by the
            laser.
        excitation: Wavelength in micrometres, 0.2 to 2.
        emission: Wavelength in micrometres, 0.2 to 2, not shorter than the excitation.
        pixel_size: In the sample, in micrometres, 0.001 to 10; a number or a pair (y, x).
        pinhole: Diameter in Airy units of the emission, 0 to 20. One unit is 1.22 emission / NA in
            the sample, the diameter of the first dark ring, and the magnification times that in the
            pinhole's plane.

    Returns:
        Sigma (not FWHM) in pixels: a number, or a pair (y, x) for a pair of pixel sizes.

    Raises:
        ValueError: A value out of its range, such as nanometres given for micrometres, or emission
            and excitation swapped.
    """
    _check_aperture("confocal_sigma", numerical_aperture)
    _check_beams("confocal_sigma", excitation, emission, pinhole)
    relative = pinhole * _AIRY_UNIT / 2 / _AIRY_SIGMA  # the radius in sigmas of the emission
    through = _slope_ratio(relative * relative / 2)
    squares = excitation**-2 + through * emission**-2
    return _in_pixels("confocal_sigma", _AIRY_SIGMA / numerical_aperture / squares**0.5, pixel_size)


def widefield_axial_sigma(
    numerical_aperture: Scalar, wavelength: Scalar, *, refractive_index: Scalar, z_step: Scalar
) -> Scalar:
    """Return the PSF's sigma along the optical axis of a wide-field microscope.

    It is 0.3645 wavelength / (n - sqrt(n^2 - NA^2)), within 3 % of the least squares fit to the
    scalar Debye integral of an aplanatic objective up to NA 1.45 in oil. The FWHM of the pattern
    itself is 0.886 wavelength / (n - sqrt(n^2 - NA^2)), 3 % more than the Gaussian's.

    Of a light-sheet microscope the sheet's own width counts, and of TIRF the depth of its field.

    Source: Zhang, Zerubia and Olivo-Marin, "Gaussian approximations of fluorescence microscope
        point-spread function models", Applied Optics 46 (2007), whose 2 sqrt(6) n / (k NA^2) has
        the peak's curvature in the paraxial limit; here with the least squares fit, and the exact
        path in place of its paraxial form.

    Args:
        numerical_aperture: Of the objective, above 0, at most 1.6 and below the refractive index.
        wavelength: Of the emission in micrometres, 0.2 to 2.
        refractive_index: Of the immersion, 1 to 1.8, which the sample should have too.
        z_step: Distance between planes in the sample in micrometres, 0.001 to 100.

    Returns:
        Sigma (not FWHM) in planes.

    Raises:
        ValueError: A value out of its range.
    """
    name = "widefield_axial_sigma"
    _check_length(name, "wavelength", wavelength)
    return _AXIAL_SIGMA * wavelength / _path(name, numerical_aperture, refractive_index, z_step)


def confocal_axial_sigma(
    numerical_aperture: Scalar,
    excitation: Scalar,
    emission: Scalar,
    *,
    refractive_index: Scalar,
    z_step: Scalar,
    pinhole: Scalar = 1.0,
) -> Scalar:
    """Return the PSF's sigma along the optical axis of a laser scanning confocal microscope.

    ``1 / sigma^2 = 1 / s_excitation^2 + t / s_emission^2`` with the sigmas of
    `widefield_axial_sigma` and ``t`` from 0.85 (closed pinhole) over 0.5 (1 Airy unit) to 0 (open).
    That is within 3 % of the least squares fit to the paraxial PSF, and within 4 % of that to the
    Debye integrals of an objective of NA 1.4. Two-photon excitation: give its wavelength for both,
    and ``pinhole=0``.

    Source: Zhang, Zerubia and Olivo-Marin, Applied Optics 46 (2007), for the product of both; t is
        fitted to integrals over the pinhole.

    Args:
        numerical_aperture: As of `widefield_axial_sigma`.
        excitation: Wavelength in micrometres, 0.2 to 2.
        emission: Wavelength in micrometres, 0.2 to 2, not shorter than the excitation.
        refractive_index: As of `widefield_axial_sigma`.
        z_step: As of `widefield_axial_sigma`.
        pinhole: Diameter in Airy units, as of `confocal_sigma`.

    Returns:
        Sigma (not FWHM) in planes.

    Raises:
        ValueError: As `confocal_sigma`; a value out of its range.
    """
    name = "confocal_axial_sigma"
    _check_beams(name, excitation, emission, pinhole)
    through = _CLOSED / (1 + (pinhole / _HALF_OPEN) ** _STEEPNESS)
    squares = excitation**-2 + through * emission**-2
    path = _path(name, numerical_aperture, refractive_index, z_step)
    return _AXIAL_SIGMA / path / squares**0.5


def _path(name, numerical_aperture, refractive_index, z_step):
    """By how much the light from the pupil's rim runs ahead of that from its middle, a plane."""
    _check_aperture(name, numerical_aperture)
    _check_length(name, "z_step", z_step)
    if _known(refractive_index) and not 1 <= refractive_index <= 1.8:
        raise ValueError(
            f"{name}: refractive_index must be 1 (air) to 1.8, not {refractive_index:g}; water has "
            "1.33, oil 1.515"
        )
    if _known(numerical_aperture, refractive_index) and numerical_aperture >= refractive_index:
        raise ValueError(
            f"{name}: numerical_aperture ({numerical_aperture:g}) must be below the "
            f"refractive_index of the immersion ({refractive_index:g})"
        )
    ahead = refractive_index - (refractive_index**2 - numerical_aperture**2) ** 0.5
    return ahead * z_step


def _slope_ratio(q):
    """``q / (e^q - 1)``, from 1 at q = 0 to 0."""
    xp = np if _known(q) else jnp
    q = xp.maximum(q, 1e-6)  # 0 / 0
    return q * xp.exp(-q) / -xp.expm1(-q)


def _in_pixels(name, sigma, pixel_size):
    if not isinstance(pixel_size, list | tuple) and jnp.ndim(pixel_size) == 0:
        _check_length(name, "pixel_size", pixel_size)
        return sigma / pixel_size
    if len(pixel_size) != 2:
        raise ValueError(
            f"{name}: pixel_size must be a number or a pair (y, x), not {len(pixel_size)} numbers"
        )
    for size in pixel_size:
        _check_length(name, "pixel_size", size)
    return tuple(sigma / size for size in pixel_size)


def _check_beams(name, excitation, emission, pinhole):
    _check_length(name, "excitation", excitation)
    _check_length(name, "emission", emission)
    if _known(excitation, emission) and emission < excitation:
        raise ValueError(
            f"{name}: emission ({emission:g}) must not be shorter than excitation "
            f"({excitation:g}); swap them"
        )
    if _known(pinhole) and not 0 <= pinhole <= 20:
        raise ValueError(
            f"{name}: pinhole must be a diameter of 0 to 20 Airy units, not {pinhole:g}; 1 is usual"
        )


def _check_aperture(name, value):
    if _known(value) and not 0 < value <= 1.6:
        raise ValueError(
            f"{name}: numerical_aperture must be above 0 and at most 1.6, not {value:g}; "
            "it is not the magnification"
        )


def _check_length(name, what, value):
    low, high = _LIMITS[what]
    if _known(value) and not low <= value <= high:
        hint = (
            f"; if it is in nanometres, give {value / 1000:g}"
            if low <= value / 1000 <= high
            else ""
        )
        raise ValueError(
            f"{name}: {what} must be {low:g} to {high:g} micrometres, not {value:g}{hint}"
        )


def _known(*values):
    return not any(isinstance(value, jax.core.Tracer) for value in values)
