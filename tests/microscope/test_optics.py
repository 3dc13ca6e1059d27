"""Sigmas from optics, against the Airy pattern and diffraction integrals computed with scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from jaxdenoise.microscope.optics import (
    confocal_axial_sigma,
    confocal_sigma,
    widefield_axial_sigma,
    widefield_sigma,
)
from jaxdenoise.microscope.widths import fwhm_from_sigma

apertures, waves, pixels = st.floats(0.05, 1.6), st.floats(0.2, 2.0), st.floats(0.001, 10)


def airy(r):
    """The pattern for NA = wavelength = 1, r in micrometres."""
    v = np.maximum(2 * np.pi * r, 1e-9)
    return (2 * special.j1(v) / v) ** 2


def fitted_sigma(profile, r):
    """Of the Gaussian of peak 1 with the least squared difference over the plane."""

    def cost(sigma):
        return np.sum(r * (profile - np.exp(-(r**2) / (2 * sigma**2))) ** 2)

    return optimize.minimize_scalar(
        cost, bounds=(0.02, 1), method="bounded", options={"xatol": 1e-8}
    ).x


def through_pinhole(r, radius):
    """The emission's Airy pattern around r, summed over a disc."""
    if radius == 0:
        return airy(r)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    rho, angle = radius * (nodes[:, None] + 1) / 2, np.pi * (np.arange(48) + 0.5) / 48
    distance = np.sqrt(r[:, None, None] ** 2 + rho**2 + 2 * r[:, None, None] * rho * np.cos(angle))
    summed = airy(distance).mean(-1) @ (weights * rho[:, 0])
    return summed / summed[0]


# widefield_sigma


def test_the_widefield_sigma_is_the_least_squares_fit_to_the_airy_pattern():
    r = np.linspace(0, 6, 6001)
    sigma = widefield_sigma(1.0, 1.0, pixel_size=1.0)
    assert sigma == pytest.approx(fitted_sigma(airy(r), r), rel=1e-3)
    assert np.abs(airy(r) - np.exp(-(r**2) / (2 * sigma**2))).max() < 0.03


def test_its_fwhm_is_4_percent_below_the_airy_patterns():
    half = optimize.brentq(lambda r: airy(r) - 0.5, 0.1, 0.5)
    assert 2 * half == pytest.approx(0.5145, abs=1e-4)
    assert fwhm_from_sigma(widefield_sigma(1.0, 1.0, pixel_size=1.0)) / (2 * half) == pytest.approx(
        0.9625, abs=1e-3
    )


@pytest.mark.parametrize(
    ("aperture", "index"), [(0.3, 1.0), (0.95, 1.0), (1.2, 1.33), (1.4, 1.518), (1.49, 1.518)]
)
def test_high_apertures_stay_within_what_is_promised(aperture, index):
    """Scalar Debye and vectorial Richards-Wolf integrals, unpolarised: -6 % to 16 % in width."""
    r = np.linspace(0, 5 / aperture, 601)
    angle = np.linspace(0, np.arcsin(aperture / index), 201)
    x = 2 * np.pi * index * r[:, None] * np.sin(angle)
    weight = np.sqrt(np.cos(angle)) * np.sin(angle)
    scalar = np.trapezoid(special.j0(x) * weight, angle) ** 2
    parts = [
        np.trapezoid(special.jv(order, x) * weight * factor, angle) ** 2
        for order, factor in (
            (0, 1 + np.cos(angle)),
            (1, np.sqrt(2) * np.sin(angle)),
            (2, 1 - np.cos(angle)),
        )
    ]
    ours = widefield_sigma(aperture, 1.0, pixel_size=1.0)
    assert 0.94 < fitted_sigma(scalar / scalar[0], r) / ours < 1
    assert 1 < fitted_sigma(sum(parts) / sum(parts)[0], r) / ours < 1.16


def test_two_numbers_from_practice():
    assert widefield_sigma(1.4, 0.52, pixel_size=0.065) == pytest.approx(1.2, abs=0.01)
    assert widefield_sigma(0.8, 0.6, pixel_size=(0.1, 0.2)) == pytest.approx(
        (1.577, 0.789), abs=1e-3
    )


@given(apertures, waves, pixels)
def test_the_widefield_sigma_scales_as_diffraction_does(aperture, wave, pixel):
    sigma = widefield_sigma(aperture, wave, pixel_size=pixel)
    assert sigma == pytest.approx(
        widefield_sigma(1.0, 1.0, pixel_size=1.0) * wave / aperture / pixel
    )
    assert widefield_sigma(aperture, wave, pixel_size=(pixel, pixel)) == (sigma, sigma)


# confocal_sigma


@pytest.mark.parametrize("ratio", [1.0, 1.066, 1.4])  # emission over excitation
@pytest.mark.parametrize("pinhole", [0, 0.2, 0.5, 0.8, 1.0, 1.5, 3.0])
def test_the_confocal_sigma_fits_the_product_of_the_airy_patterns(pinhole, ratio):
    r = np.linspace(0, 2, 401)
    profile = airy(r * ratio) * through_pinhole(r, pinhole * 0.61)
    ours = confocal_sigma(1.0, 1 / ratio, 1.0, pixel_size=1.0, pinhole=pinhole)
    assert -0.036 < ours / fitted_sigma(profile, r) - 1 < 0.015


@given(apertures, waves, waves, pixels, st.floats(0, 20))
def test_the_confocal_sigma_lies_between_its_limits(aperture, one, other, pixel, pinhole):
    excitation, emission = sorted((one, other))
    alone = widefield_sigma(aperture, excitation, pixel_size=pixel)
    with_emission = 1 / np.hypot(
        1 / alone, 1 / widefield_sigma(aperture, emission, pixel_size=pixel)
    )
    sigma = confocal_sigma(aperture, excitation, emission, pixel_size=pixel, pinhole=pinhole)
    assert with_emission * (1 - 1e-9) <= sigma <= alone * (1 + 1e-9)
    assert sigma <= confocal_sigma(
        aperture, excitation, emission, pixel_size=pixel, pinhole=min(20, pinhole + 1)
    ) * (1 + 1e-9)


def test_a_pair_of_pixel_sizes_gives_a_pair():
    both = confocal_sigma(1.3, 0.488, 0.52, pixel_size=(0.05, 0.1))
    assert both == (
        confocal_sigma(1.3, 0.488, 0.52, pixel_size=0.05),
        confocal_sigma(1.3, 0.488, 0.52, pixel_size=0.1),
    )


# both


def test_traced_values_give_the_same_and_have_slopes():
    def sigmas(aperture, emission, pinhole):
        confocal = confocal_sigma(aperture, 0.4, emission, pixel_size=(0.1, 0.2), pinhole=pinhole)
        return jnp.stack([*confocal, widefield_sigma(aperture, emission, pixel_size=0.1)])

    traced, jacobian = jax.jit(sigmas), jax.jit(jax.jacobian(sigmas, (0, 1, 2)))
    for arguments in [(1.3, 0.52, 0.0), (0.9, 0.6, 1.0), (0.9, 0.6, 20.0)]:
        np.testing.assert_allclose(traced(*arguments), sigmas(*arguments), rtol=1e-5)
        assert np.isfinite(jacobian(*arguments)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: widefield_sigma(1.4, 520, pixel_size=0.1),
            "widefield_sigma: wavelength must be 0.2 to 2 micrometres, not 520; if it is in "
            "nanometres, give 0.52",
        ),
        (
            lambda: widefield_sigma(1.4, 0.52, pixel_size=(0.1, 65.0)),
            "widefield_sigma: pixel_size must be 0.001 to 10 micrometres, not 65; if it is in "
            "nanometres, give 0.065",
        ),
        (
            lambda: widefield_sigma(1.4, 5.2e-7, pixel_size=0.1),
            "widefield_sigma: wavelength must be 0.2 to 2 micrometres, not 5.2e-07",
        ),
        (
            lambda: widefield_sigma(1.4, float("nan"), pixel_size=1),
            "widefield_sigma: wavelength must be 0.2 to 2 micrometres, not nan",
        ),
        (
            lambda: widefield_sigma(1.4, 0.52, pixel_size=0),
            "widefield_sigma: pixel_size must be 0.001 to 10 micrometres, not 0",
        ),
        (
            lambda: widefield_sigma(1.4, 0.52, pixel_size=(1, 1, 1)),
            "widefield_sigma: pixel_size must be a number or a pair (y, x), not 3 numbers",
        ),
        (
            lambda: widefield_sigma(63, 0.52, pixel_size=0.1),
            "widefield_sigma: numerical_aperture must be above 0 and at most 1.6, not 63; it is "
            "not the magnification",
        ),
        (
            lambda: confocal_sigma(-1, 0.4, 0.5, pixel_size=0.1),
            "confocal_sigma: numerical_aperture must be above 0 and at most 1.6, not -1; it is "
            "not the magnification",
        ),
        (
            lambda: confocal_sigma(1.4, 488, 0.52, pixel_size=0.1),
            "confocal_sigma: excitation must be 0.2 to 2 micrometres, not 488; if it is in "
            "nanometres, give 0.488",
        ),
        (
            lambda: confocal_sigma(1.4, 0.488, 520, pixel_size=0.1),
            "confocal_sigma: emission must be 0.2 to 2 micrometres, not 520; if it is in "
            "nanometres, give 0.52",
        ),
        (
            lambda: confocal_sigma(1.4, 0.52, 0.488, pixel_size=0.1),
            "confocal_sigma: emission (0.488) must not be shorter than excitation (0.52); swap "
            "them",
        ),
        (
            lambda: confocal_sigma(1.4, 0.488, 0.52, pixel_size=0.1, pinhole=50),
            "confocal_sigma: pinhole must be a diameter of 0 to 20 Airy units, not 50; 1 is usual",
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        call()
    assert str(error.value) == message


# Along the axis, against the scalar Debye integral of an aplanatic objective (which in the paraxial
# limit is that of Born and Wolf)


def debye(z, r, aperture, index, wavelength):
    """The intensity at depth z and radius r, (len(z), len(r)), without unit."""
    edge = np.arcsin(aperture / index)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    angle, k = edge * (nodes + 1) / 2, 2 * np.pi * index / wavelength
    pupil = np.sqrt(np.cos(angle)) * np.sin(angle) * weights
    rings = special.j0(k * r[:, None] * np.sin(angle)) * pupil
    return np.abs(np.exp(1j * k * z[:, None] * (np.cos(angle) - 1)) @ rings.T) ** 2


def axial_fit(profile, z):
    """Of the Gaussian of peak 1 with the least squared difference along the axis."""

    def cost(sigma):
        return np.sum((profile / profile[0] - np.exp(-(z**2) / (2 * sigma**2))) ** 2)

    return optimize.minimize_scalar(cost, bounds=(0.02, 30), method="bounded").x


OBJECTIVES = [(0.3, 1.0), (0.8, 1.0), (1.2, 1.333), (1.4, 1.515)]


@pytest.mark.parametrize(("aperture", "index"), OBJECTIVES)
def test_the_widefield_axial_sigma_fits_the_debye_integral(aperture, index):
    z = np.linspace(0, 4 * 0.52 / (index - np.sqrt(index**2 - aperture**2)), 400)
    exact = axial_fit(debye(z, np.zeros(1), aperture, index, 0.52)[:, 0], z)
    found = widefield_axial_sigma(aperture, 0.52, refractive_index=index, z_step=0.2)
    assert found * 0.2 == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("pinhole", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("aperture", "index"), OBJECTIVES[::3])
def test_the_confocal_axial_sigma_fits_the_product_through_the_pinhole(aperture, index, pinhole):
    excitation, emission = 0.488, 0.52
    z = np.linspace(0, 2.5 * 0.52 / (index - np.sqrt(index**2 - aperture**2)), 250)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    r = pinhole * 1.22 * emission / aperture / 4 * (nodes + 1)
    seen = debye(z, r, aperture, index, emission) @ (weights * (r if pinhole else 1))
    exact = axial_fit(debye(z, np.zeros(1), aperture, index, excitation)[:, 0] * seen, z)
    found = confocal_axial_sigma(
        aperture, excitation, emission, refractive_index=index, z_step=1.0, pinhole=pinhole
    )
    assert found == pytest.approx(exact, rel=0.045)


def test_two_photons_shorten_the_psf_by_root_2():
    one = widefield_axial_sigma(0.9, 0.9, refractive_index=1.33, z_step=0.5)
    two = confocal_axial_sigma(0.9, 0.9, 0.9, refractive_index=1.33, z_step=0.5, pinhole=0)
    assert two == pytest.approx(one / np.sqrt(1.85))
    traced = jax.jit(lambda na: widefield_axial_sigma(na, 0.9, refractive_index=1.33, z_step=0.5))(
        0.9
    )
    assert float(traced) == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refractive_index": 1.0}, "must be below the refractive_index"),
        ({"refractive_index": 2.5}, "1 .air. to 1.8"),
        ({"z_step": 200.0}, "z_step must be .* if it is in nanometres, give 0.2"),
    ],
)
def test_axial_values_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        widefield_axial_sigma(1.2, 0.52, **({"refractive_index": 1.33, "z_step": 0.2} | change))
