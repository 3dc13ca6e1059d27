"""Structured noise of scanners and cameras: what is found and taken out, and what is left alone."""

import numpy as np
import pytest
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.imaging.line_noise import find_line_noise, remove_line_noise
from jaxdenoise.imaging.scan_lines import join_lines

SIDE, NOISE = 128, 5.0


def cells(seed=0, side=SIDE):
    """Discs of up to 80 grey levels on a background of 100, blurred by a PSF."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:side, :side]
    light = np.zeros((side, side))
    for _ in range(12):
        cy, cx, radius = *rng.uniform(0, side, 2), rng.uniform(4, 10)
        light += rng.uniform(20, 80) * ((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    return 100 + ndimage.gaussian_filter(light, 1.2)


def noisy(clean, seed=1):
    return clean + np.random.default_rng(seed).normal(0, NOISE, clean.shape)


def offsets(shape, strength, seed=2):
    """Random ones; of mean 0 in each frame, because the mean of a frame is kept."""
    drawn = np.random.default_rng(seed).normal(0, strength * NOISE, shape)
    return drawn - drawn.mean(axis=(-2, -1), keepdims=True)


def left(cleaned, spoilt, clean_noisy, axis):
    """The share of the offsets' standard deviation that is left."""
    return np.std((cleaned - clean_noisy).mean(axis)) / np.std((spoilt - clean_noisy).mean(axis))


@pytest.mark.parametrize("strength", [0.5, 1, 3])
def test_offsets_of_the_rows_of_one_image_are_taken_out(strength):
    image = noisy(cells())
    spoilt = image + offsets((SIDE, 1), strength)
    cleaned, found = remove_line_noise(spoilt)
    assert found.columns is None
    assert found.shift == 0
    assert left(cleaned, spoilt, image, 1) < 0.2 / strength
    assert "line noise: an offset of each row, " in found.evidence[0]


@pytest.mark.parametrize(("shape", "axis"), [((4, SIDE, 1), 2), ((4, 1, SIDE), 1)])
def test_offsets_that_change_in_a_movie_are_taken_out(shape, axis):
    frames = noisy(np.stack([np.roll(cells(), 2 * n, axis=1) for n in range(4)]))
    spoilt = frames + offsets(shape, 0.5)
    cleaned, found = remove_line_noise(spoilt)
    assert (found.rows is None, found.columns is None) == (axis == 1, axis == 2)
    assert left(cleaned, spoilt, frames, axis) < 0.35


def test_columns_that_are_the_same_in_all_frames_are_taken_out():
    frames = noisy(np.stack([np.roll(cells(), 3 * n, axis=1) for n in range(6)]))
    spoilt = frames + offsets((1, 1, SIDE), 1.0)
    cleaned, found = remove_line_noise(spoilt)
    assert left(cleaned, spoilt, frames, 1) < 0.2
    assert np.ptp(found.columns, axis=0).max() == 0
    assert "each column that is the same in all frames" in found.evidence[0]


def test_noise_that_neighbours_share_does_not_hide_the_rows():
    """Rows of 0.2 of the noise, as in a two-photon movie: what changes from row to row goes."""
    rng, frames = np.random.default_rng(3), 24
    scene = np.stack([cells() * (1 + 0.05 * np.sin(n)) for n in range(frames)])
    noise = ndimage.convolve1d(rng.normal(0, NOISE, scene.shape), [0.3, 1, 0.3], mode="wrap")
    noise += 0.2 * noise.std() * rng.normal(size=(frames, SIDE, 1))
    cleaned, found = remove_line_noise(scene + noise)
    assert found is not None

    def fine(noise):
        rows = noise.mean(axis=2)
        return np.diff(rows - rows.mean(axis=0), axis=1).std()

    assert fine(cleaned - scene) < 0.1 * fine(noise)


def test_the_mean_of_each_frame_is_kept():
    spoilt = noisy(np.stack([cells()] * 3)) + offsets((3, SIDE, 1), 1.0)
    cleaned, _ = remove_line_noise(spoilt)
    np.testing.assert_allclose(cleaned.mean(axis=(1, 2)), spoilt.mean(axis=(1, 2)), rtol=1e-4)


def fibres(rng):
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    return sum(
        np.exp(-((y - rng.uniform(0, SIDE)) ** 2)) * (1 + 0.5 * np.sin(x / rng.uniform(5, 50)))
        for _ in range(30)
    )


def grating(rng):
    y = np.mgrid[:SIDE, :SIDE][0]
    return 0.5 + 0.5 * np.sin(2 * np.pi * y / rng.uniform(2, 12))


def text(rng):
    letters = np.kron(rng.random((SIDE // 8, SIDE)) < 0.5, np.ones((8, 1)))
    letters[np.arange(SIDE) % 8 > 5] = 0
    return letters[:SIDE]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("structure", [fibres, grating, text, lambda rng: cells() / 100])
def test_structure_along_the_rows_is_left_alone(structure, frames):
    for seed in range(3):
        light = 100 + 60 * structure(np.random.default_rng(seed))
        for scene in (light, light.T):
            stack = noisy(np.stack([scene] * frames), seed).astype(np.float32)
            before = stack.copy()
            cleaned, found = jd.remove_line_noise(stack)
            assert found is None
            assert cleaned is stack
            np.testing.assert_array_equal(stack, before)


def test_pixels_without_data_stay_so_and_small_images_as_they_are():
    spoilt = (noisy(cells()) + offsets((SIDE, 1), 1.0)).astype(np.float32)
    spoilt[:20, :30] = np.nan
    cleaned, found = remove_line_noise(spoilt)
    assert found is not None
    np.testing.assert_array_equal(np.isnan(cleaned), np.isnan(spoilt))
    assert find_line_noise(spoilt[None, 30:80, 30:80]) is None
    assert find_line_noise(np.zeros((2, 0, 70), np.float32)) is None
    assert find_line_noise(np.full((2, 70, 70), 7.0)) is None


def test_frames_that_are_not_looked_at_stay_as_they_are():
    spoilt = noisy(np.stack([cells()] * 4)) + offsets((4, SIDE, 1), 1.0)
    found = find_line_noise(spoilt, numbers=[0, 1, 3])
    assert not found.rows[2].any()
    assert found.rows[3].any()
    some = found.of_frames([3, 2])
    np.testing.assert_array_equal(some.rows, found.rows[[3, 2]])


@pytest.mark.parametrize("offset", [2.0, -3.0, 1.5, -0.6])
def test_odd_lines_are_moved_back(offset):
    wide = ndimage.gaussian_filter(np.random.default_rng(4).normal(0, 9, (64, 96)), (3, 2))
    comb = wide.copy()
    comb[1::2] = ndimage.shift(wide[1::2], (0, offset), order=5, mode="mirror")
    joined = join_lines(comb, offset)
    np.testing.assert_array_equal(joined[::2], comb[::2])
    assert np.abs(joined - wide)[:, 8:-8].max() < 0.02 * wide.std()
    # At the edge there is what the lines above and below show, no light of elsewhere.
    assert np.abs(joined - wide).max() < wide.std()


def test_lines_that_do_not_meet_are_found_and_moved():
    scene = cells()
    comb = scene.copy()
    comb[1::2] = np.roll(scene[1::2], 2, axis=1)
    cleaned, found = remove_line_noise(noisy(comb).astype(np.float32))
    assert found.shift == pytest.approx(2, abs=0.15)
    assert found.rows is None
    error = np.abs(ndimage.gaussian_filter(cleaned - scene, 2)).max()
    assert error < 0.5 * np.abs(ndimage.gaussian_filter(comb - scene, (0, 1))).max()
    assert "odd lines were 2.1 pixels to the right" in found.evidence[0]
