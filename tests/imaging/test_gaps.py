import numpy as np
import pytest
from scipy import ndimage

from jaxdenoise.imaging.gaps import fill, fill_stack, find_gaps, mark_gaps


def cells(rng, shape=(128, 128), offset=100.0, photons=40.0):
    """A noisy image of blobs, as a camera gives it."""
    sharp = np.zeros(shape)
    sharp[tuple(rng.integers(0, n, 60) for n in shape)] = 1
    clean = ndimage.gaussian_filter(sharp, 4)
    return rng.poisson(photons * clean / clean.max() + 2) * 2 + offset


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rotated(shape, angle):
    y, x = (
        values - n / 2 for values, n in zip(np.mgrid[: shape[0], : shape[1]], shape, strict=True)
    )
    across = abs(y * np.cos(angle) + x * np.sin(angle))
    along = abs(x * np.cos(angle) - y * np.sin(angle))
    return (across < 0.35 * shape[0]) & (along < 0.38 * shape[1])


@pytest.mark.parametrize("angle", [0.05, 0.5])
@pytest.mark.parametrize("value", [0, 117])
def test_what_a_rotation_leaves_empty_is_found(rng, angle, value):
    inside = rotated((128, 128), angle)
    image = np.where(inside, cells(rng), value).astype(np.uint16)
    np.testing.assert_array_equal(find_gaps(image), ~inside)


def test_borders_and_missing_tiles_are_found(rng):
    image, expected = cells(rng).astype(np.float32), np.zeros((128, 128), bool)
    expected[:, :3] = expected[-5:] = True  # a shift that was corrected
    expected[32:64, 64:96] = True  # a tile of a mosaic
    np.testing.assert_array_equal(find_gaps(np.where(expected, 0, image)), expected)
    np.testing.assert_array_equal(find_gaps(np.where(expected, np.nan, image)), expected)


def test_dark_pixels_are_data(rng):
    """Zeros of photon counting, and backgrounds that were clipped to black."""
    dark = np.zeros((256, 256))
    dark[40:110, 60:160] = 0.05
    for rate in (0.0005, 0.01, 0.3):
        assert find_gaps(rng.poisson(dark + rate).astype(np.uint8)) is None
    smooth = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 12) * 900
    clipped = np.clip(smooth - 10 + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
    assert np.mean(clipped == 0) > 0.3
    assert find_gaps(clipped) is None
    assert find_gaps(np.clip(4 * smooth, 0, 255).astype(np.uint8).max() - clipped) is None
    assert find_gaps(np.full((64, 64), 7)) is None


def test_a_gap_is_filled_with_what_lies_beside_it(rng):
    image = rng.normal(50, 4, (96, 96)) + np.linspace(0, 60, 96)
    gaps = ~rotated(image.shape, 0.3)
    filled = fill(np.where(gaps, np.nan, image), gaps)
    np.testing.assert_array_equal(filled[~gaps], image[~gaps])
    assert np.isin(filled, image[~gaps]).all()
    edge = gaps & ndimage.binary_dilation(~gaps, iterations=4)
    assert abs(np.mean((filled - image)[edge])) < 1
    fine = [np.var(np.diff(one, axis=0)) for one in (filled, image)]
    assert fine[0] == pytest.approx(fine[1], rel=0.2)
    np.testing.assert_array_equal(fill(image, np.ones_like(gaps)), 0)


def test_stacks():
    stack = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    assert fill_stack(stack) == (stack, None)
    stack[0, 0, 0], stack[2] = np.nan, np.nan
    filled, gaps = fill_stack(stack)
    assert gaps.sum() == 17
    assert np.isfinite(filled).all()
    assert filled[2, 0, 0] == pytest.approx(filled[:2].mean())
    frame = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert mark_gaps(frame) is frame
