"""Guides: quieter than the frames, without delay, and blind to the pixel's own noise."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.microscope.synthetic_movies import OFFSET, calcium_movie, noisy_movie
from jaxdenoise.network.guides import GuideFrames, guides, guides_of, parts_of_row, stack_guides


@pytest.fixture(scope="module")
def movie():
    """60 frames of 64 x 64 pixels: signal and noisy frames, in grey levels above the offset."""
    signal = calcium_movie(3, frames=60, size=64).signal
    noisy = noisy_movie(4, signal, psnr=16).frames
    return signal, noisy.astype(np.float32) - np.float32(OFFSET)


@pytest.fixture(scope="module")
def guided(movie):
    return guides_of(movie[1])


def test_a_guide_is_far_quieter_than_its_frame(movie, guided):
    signal, noisy = movie
    assert np.mean((guided - signal) ** 2) < np.mean((noisy - signal) ** 2) / 10


def test_a_guide_does_not_follow_the_noise_of_its_own_pixel(movie, guided):
    signal, noisy = movie
    noise = noisy - signal
    own = np.mean((guided - signal) * noise) / np.mean(noise**2)
    # The mean of 60 frames alone would follow by 1 / 60.
    assert abs(own) < 0.005


def test_bleaching_and_flicker_are_followed():
    rng = np.random.default_rng(0)
    scene = 50 + 100 * scipy.ndimage.gaussian_filter(rng.standard_normal((48, 48)), 2)
    light = np.linspace(1, 0.6, 40)[:, None, None] * (1 + 0.05 * (np.arange(40) % 2))[:, None, None]
    truth = scene * light
    found = guides_of(np.float32(truth + rng.normal(0, 5, truth.shape)))
    np.testing.assert_allclose(found.mean(axis=(1, 2)), truth.mean(axis=(1, 2)), rtol=0.01)
    assert np.sqrt(np.mean((found - truth) ** 2)) < 2


def test_drift_is_taken_out_and_put_back():
    rng = np.random.default_rng(1)
    scene = scipy.ndimage.gaussian_filter(rng.standard_normal((90, 90)), 1.5)
    scene = 100 + 60 * scene / scene.std()
    path = np.cumsum(rng.normal(0, 0.3, (30, 2)), axis=0)
    truth = np.stack([scipy.ndimage.shift(scene, step, order=3)[13:77, 13:77] for step in path])
    noisy = np.float32(truth + rng.normal(0, 30, truth.shape))
    still = np.asarray(guides(jnp.asarray(noisy)))
    moved = guides_of(noisy)
    inside = (slice(None), slice(8, -8), slice(8, -8))
    errors = [np.mean((found - truth)[inside] ** 2) for found in (moved, still)]
    assert errors[0] < errors[1] / 3


def test_frames_are_guided_row_by_row(movie):
    _, noisy = movie
    rows = np.concatenate([noisy[:20], noisy[40:]])
    found = stack_guides(rows, 20)
    np.testing.assert_array_equal(found[:20], guides_of(noisy[:20]))
    np.testing.assert_array_equal(found[20:], guides_of(noisy[40:]))
    frames = GuideFrames(rows, 20)
    assert len(frames) == 40
    np.testing.assert_array_equal(frames[25, 3:9, 4:6], found[25, 3:9, 4:6])


def test_long_rows_are_cut_into_equal_parts():
    assert parts_of_row(300, 128**2) == [0, 150]
    assert parts_of_row(128, 512**2) == [0, 64]
    assert parts_of_row(256, 128**2) == [0]
    assert parts_of_row(100, 2048**2)[:3] == [0, 5, 10]
    assert parts_of_row(3, 10**9) == [0]
