import numpy as np
import pytest
from scipy import ndimage

from jaxdenoise.imaging.scan_lines import line_offset


def scene(rng, *, sigma=1.5, photons=40, shape=(128, 128), lines=False):
    """A noisy image of spots, or of slanted lines."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    sharp = np.zeros(shape)
    if lines:
        for angle, place in zip(rng.uniform(0, np.pi, 8), rng.uniform(-60, 60, 8), strict=True):
            across = (y - 64) * np.cos(angle) + (x - 64) * np.sin(angle)
            sharp += abs(across - place) < 1
    else:
        sharp[tuple(rng.integers(0, n, 80) for n in shape)] = 1
    clean = ndimage.gaussian_filter(sharp, sigma)
    return photons * clean / clean.max() + 1


def moved(clean, offset):
    """Every other line, moved to the right."""
    result = clean.copy()
    result[1::2] = ndimage.shift(clean[1::2], (0, offset), order=3, mode="nearest")
    return np.maximum(result, 0.1)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("offset", [2.0, -1.0, 3.5])
def test_the_offset_is_found(offset, lines):
    rng = np.random.default_rng(0)
    frames = rng.poisson([moved(scene(rng, lines=lines), offset)] * 2).astype(np.float32)
    assert line_offset(frames) == pytest.approx(offset, abs=0.25)


def test_lines_that_meet_have_none():
    rng = np.random.default_rng(1)
    found = []
    for number in range(400):
        sigma, photons = rng.uniform(0.5, 3), 10 ** rng.uniform(-0.5, 3)
        clean = scene(rng, sigma=sigma, photons=photons, shape=(128, 96), lines=number % 2 > 0)
        noisy = rng.poisson(clean) + rng.normal(0, rng.choice([0.1, 3]), clean.shape)
        if number % 4 == 3:  # rows with offsets of their own
            noisy += rng.normal(0, 3, (128, 1))
        found.append(line_offset(noisy[None].astype(np.float32)))
    assert not any(found)


def test_what_is_too_small_or_flat_has_none():
    assert line_offset(np.zeros((1, 16, 64), np.float32)) == 0
    assert line_offset(np.zeros((1, 64, 64), np.float32)) == 0
