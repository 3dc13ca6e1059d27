import dataclasses

import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.network.exposure import Exposure, measure_exposure


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:144, :120]
    return (100 + 30 * np.sin(y / 9) * np.cos(x / 8) + rng.normal(0, 5, y.shape)).astype(np.float32)


def test_the_noise_and_the_darkest_window_are_measured(image):
    exposure = measure_exposure(image[None])
    assert exposure.noise == pytest.approx(5, rel=0.1)
    assert 65 < exposure.darkest < 75
    brighter = measure_exposure(3 * image[None] + 1000)
    assert brighter.noise == pytest.approx(3 * exposure.noise, rel=1e-3)
    assert brighter.darkest == pytest.approx(3 * exposure.darkest + 1000, rel=1e-4)


def test_pixels_without_data_count_nowhere(image):
    masked = image.copy()
    masked[:, :36] = np.nan
    exposure = measure_exposure(masked[None])
    assert exposure.noise == pytest.approx(5, rel=0.15)
    assert exposure.darkest > 60
    assert measure_exposure(np.full((1, 3, 4), 7, np.float32)) == Exposure(7, 0)


def test_a_model_is_mapped_to_the_exposure_of_other_images(image, make_denoiser):
    denoiser = make_denoiser()
    own = measure_exposure(image[None])
    scale = denoiser.scale._replace(darkest=np.float32(own.darkest), noise=np.float32(own.noise))
    denoiser = dataclasses.replace(denoiser, scale=scale)
    assert denoiser.for_exposure(own) is denoiser
    other = 3 * image + 1000
    mapped = denoiser.for_exposure(measure_exposure(other[None]))
    expected = 3 * jd.denoise(denoiser, image).denoised + 1000
    np.testing.assert_allclose(jd.denoise(mapped, other).denoised, expected, rtol=1e-3)


def test_a_model_that_does_not_know_its_exposure_stays(make_denoiser):
    denoiser = make_denoiser()
    assert denoiser.for_exposure(Exposure(5, 2)) is denoiser
