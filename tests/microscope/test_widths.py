"""Widths: sigma, full width at half maximum, and profiles that are measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.microscope.widths import full_width, full_widths, fwhm_from_sigma, sigma_from_fwhm


def test_a_gaussians_fwhm():
    assert np.exp(-((fwhm_from_sigma(1.0) / 2) ** 2) / 2) == pytest.approx(0.5)
    np.testing.assert_allclose(sigma_from_fwhm(np.array([2.3548, 4.7096])), [1, 2], rtol=1e-4)


@given(st.floats(1e-3, 1e3))
def test_sigma_and_fwhm_are_each_others_inverse(sigma):
    assert sigma_from_fwhm(fwhm_from_sigma(sigma)) == pytest.approx(sigma)


def test_a_triangle_is_half_as_wide_as_its_base():
    line = np.maximum(0, 1 - np.abs(np.arange(21) - 10.0) / 7)
    assert full_width(line, 10) == pytest.approx(7)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_a_gaussian_profile_is_measured_exactly_by_the_gaussian_between_pixels(sigma):
    line = np.exp(-0.5 * ((np.arange(31) - 15) / sigma) ** 2)
    width = fwhm_from_sigma(sigma)
    assert full_width(line, 15, interpolation="gaussian") == pytest.approx(width, rel=0.02)
    assert full_width(line, 15) == pytest.approx(width, rel=0.2)


@pytest.mark.parametrize("interpolation", ["linear", "gaussian"])
def test_a_profile_that_ends_before_half_has_no_width(interpolation):
    line = np.array([0.0, 1.0, 2.0, 1.5])
    assert np.isnan(full_width(line, 2, interpolation=interpolation))
    assert np.isnan(full_width(line[::-1].copy(), 1, interpolation=interpolation))


def test_the_full_widths_of_a_psf():
    np.testing.assert_allclose(
        full_widths(gaussian_psf((0.7, 2.0))), [2.3548 * 0.7, 2.3548 * 2.0], rtol=1e-3
    )
    # It falls off somewhere beyond the outermost centres.
    assert full_widths(np.ones((3, 5))) == pytest.approx((3, 5), abs=0.8)
