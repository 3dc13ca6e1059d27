"""One scene for all tests of reports: of one shape, so that each program is compiled once."""

import numpy as np
import pytest

from jaxdenoise.imaging.filters import gaussian_filter

SHAPE = (3, 192, 192)  # enough pixels for a training


@pytest.fixture(scope="session")
def blobs():
    """Blobs of a sigma in pixels between 100 and 400 grey levels, from an image of points."""

    def make(points, sigma):
        image = np.asarray(gaussian_filter(points.astype(np.float32), (sigma, sigma)))
        return (100 + 300 * image / image.max()).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def static(blobs):
    """Three equal frames of one scene of blobs of sigma 1.5 pixels."""
    points = np.random.default_rng(0).uniform(size=SHAPE[1:]) < 0.02
    return blobs(np.broadcast_to(points, SHAPE), 1.5)


@pytest.fixture(scope="session")
def white():
    """White noise of standard deviation 1."""
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
