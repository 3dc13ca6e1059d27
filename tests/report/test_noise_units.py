"""Residuals in units of the noise do not show the sample, unless signal was removed."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxdenoise.report.diagnostics import examine_input, smoothed_residual
from jaxdenoise.report.noise_units import in_units, noise_by_brightness

GAIN, READ = 4.0, 5.0


@pytest.fixture(scope="module")
def sample(static):
    """Blobs with photon noise, whose standard deviation is six times as strong in the light."""
    photons = np.random.default_rng(5).poisson((static - 100) / GAIN)
    noise = READ * np.random.default_rng(6).normal(size=static.shape)
    return (100 + GAIN * photons + noise).astype(np.float32), static


def units_of(noisy, denoised):
    noise = noise_by_brightness(noisy, denoised, examine_input(noisy, background=100))
    return in_units(noisy - denoised, denoised, noise)


def test_the_noise_is_known_at_each_brightness(sample):
    noisy, clean = sample
    noise = noise_by_brightness(noisy, clean, examine_input(noisy, background=100))
    levels = np.array([102.0, 120.0, 180.0])
    expected = np.sqrt(GAIN * (levels - 100) + READ**2)
    np.testing.assert_allclose(np.sqrt(noise.at(levels)), expected, rtol=0.15)


def test_stronger_noise_in_the_light_does_not_show_the_sample(sample):
    noisy, clean = sample
    bright = clean > np.quantile(clean, 0.9)
    grey = noisy - clean
    assert grey[bright].std() > 2 * grey[~bright].std()
    units = units_of(noisy, clean)
    smooth = smoothed_residual(units)
    for found in (units, smooth):
        assert found[~bright].std() == pytest.approx(1, abs=0.12)
        assert found[bright].std() == pytest.approx(1, abs=0.15)


def test_removed_signal_shows(sample):
    noisy, clean = sample
    blurred = np.stack([gaussian_filter(frame, 2) for frame in clean])
    assert abs(smoothed_residual(units_of(noisy, blurred))).max() > 8


def test_a_tiny_frame_has_one_noise():
    noisy = 100 + 10 * np.random.default_rng(0).normal(size=(1, 12, 12)).astype(np.float32)
    noise = noise_by_brightness(noisy, np.full_like(noisy, 100), examine_input(noisy, background=0))
    assert len(noise.level) == 1
