"""The estimated error of linear predictions against their error with the truth."""

import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.microscope import blind_risk
from jaxdenoise.microscope.blind_risk import blind_spot_risks
from jaxdenoise.microscope.correlation import noise_covariance

NOTHING = (1, (0, 0))


def filtered(seed, sigmas, size=256):
    values = np.random.default_rng(seed).normal(size=(1, size, size))
    values = scipy.ndimage.gaussian_filter(values, (0, *sigmas), mode="wrap")
    return values / values.std()


def risks(image, noise, *candidates):
    """Risks of an image, with the covariance of noise that is known to have variance 1."""
    known = noise_covariance(np.asarray(noise, np.float32))._replace(variance=1.0)
    return blind_spot_risks(np.asarray(image, np.float32), known, candidates)


@pytest.mark.parametrize("chosen", [NOTHING, (1, (0, 2)), (1, (2, 2)), (2, (0, 0))])
def test_it_is_the_error_of_the_prediction(chosen):
    """The prediction is fitted here by least squares to the pixels, and compared with the truth."""
    clean, noise = filtered(0, (1.5, 1.5), 192), filtered(1, (0, 0.7), 192)
    noisy = clean + noise
    stride, (down, right) = chosen
    shifts = [
        (y, x)
        for y in range(-5, 6)
        for x in range(-5, 6)
        if (abs(y) > down or abs(x) > right) and y % stride == x % stride == 0 and (y or x)
    ]
    seen = np.stack([np.roll(noisy, shift, (1, 2)).ravel() for shift in shifts], axis=1)
    weights = np.linalg.lstsq(seen, noisy.ravel(), rcond=None)[0]
    error = np.mean((seen @ weights - clean.ravel()) ** 2)
    # The tiles lack their surroundings: of smooth scenes they tell too large an error.
    assert risks(noisy, noise, chosen).mean() == pytest.approx(error, rel=0.3)


def test_hiding_loses_detail_in_white_noise():
    clean, noise = 5 * filtered(0, (2, 2)), filtered(1, (0, 0))
    seen, hidden, strided = risks(clean + noise, noise, NOTHING, (1, (1, 1)), (2, (0, 0))).T
    assert np.all(hidden > seen)
    assert np.all(strided > seen)


def test_hiding_removes_noise_that_is_shared():
    clean, noise = 2 * filtered(0, (6, 6)), filtered(1, (0, 0.7))
    tried = NOTHING, (1, (0, 2)), (1, (2, 0))
    seen, rows, columns = risks(clean + noise, noise, *tried).mean(axis=0)
    assert rows < 0.6 * seen
    assert rows < columns


def test_tiles():
    image = np.zeros((1, 160, 160))
    image[:, :, 70:] = filtered(0, (0, 0), 160)[:, :, 70:]
    noise = filtered(0, (0, 0), 96)
    assert risks(image, noise, NOTHING).shape == (2, 1)  # two of the four vary
    assert risks(noise, noise, NOTHING, (1, (1, 1))).shape == (4, 2)
    many = np.tile(filtered(0, (0, 0), 640), (2, 1, 1))
    assert len(risks(many, noise, (4, (0, 0)))) == blind_risk._TILES
