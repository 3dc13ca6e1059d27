"""The noise's autocorrelation against noise whose autocorrelation is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope import correlation, synthetic
from jaxdenoise.microscope.correlation import (
    correlated_reach,
    noise_stride,
    residual_reach,
)
from jaxdenoise.training.problem import prepare

# Compiled as a whole, once a shape and dtype.
noise_autocorrelation = jax.jit(correlation.noise_autocorrelation, static_argnames="lags")


def white(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def filtered(noise, sigmas):
    """Noise of standard deviation 1 that was blurred."""
    noise = scipy.ndimage.gaussian_filter(noise, (0, *sigmas), mode="wrap")
    return noise / noise.std()


def cells(*shape):
    """A smooth scene: bright blobs that fill a part of it."""
    scene = np.maximum(scipy.ndimage.gaussian_filter(white(*shape, seed=1), (0, 6, 6)), 0)
    return 100 * scene / scene.max()


@pytest.mark.parametrize(
    ("sigmas", "off"), [((0, 0), 0.02), ((0.5, 0.5), 0.06), ((0, 0.8), 0.1), ((1, 1), 0.25)]
)
def test_known_noise(sigmas, off):
    """The surfaces remove more of wider noise: never more is found than there is."""
    noise = filtered(white(4, 256, 256), sigmas)
    expected = np.array(
        [[np.mean(noise * np.roll(noise, lag, axis)) for lag in range(1, 6)] for axis in (1, 2)]
    )
    found = np.asarray(noise_autocorrelation(noise))
    np.testing.assert_allclose(found, expected, atol=off)
    assert np.all(found < expected + 0.02)


@pytest.mark.parametrize("level", [5, 20])
def test_a_smooth_scene_does_not_matter(level):
    found = noise_autocorrelation(
        cells(2, 256, 256) + level * filtered(white(2, 256, 256), (0.6, 0.6))
    )
    expected = noise_autocorrelation(filtered(white(2, 256, 256), (0.6, 0.6)))
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize(
    ("sigmas", "reach"),
    [
        ((0, 0), (0, 0)),
        ((0.4, 0.4), (0, 0)),
        ((0.7, 0.7), (1, 1)),
        ((0, 0.7), (0, 1)),
        ((1.2, 0), (3, 0)),
    ],
)
def test_the_reach_follows_the_noise(sigmas, reach):
    image = cells(2, 256, 256) + 10 * filtered(white(2, 256, 256), sigmas)
    assert correlated_reach(image.astype(np.float32)) == reach
    assert correlated_reach((3000 + 40 * image).astype(np.uint16)) == reach
    assert noise_stride(image.astype(np.float32)) == 1 + max(reach)


@pytest.mark.parametrize(
    ("sigmas", "reach"),
    [
        ((0, 0), (0, 0)),
        ((0.7, 0.7), (2, 2)),
        ((0, 0.7), (0, 2)),
        ((0.7, 1.2), (2, 4)),
        ((6, 6), (8, 8)),
    ],
)
def test_the_reach_of_a_residual(sigmas, reach):
    assert residual_reach(jnp.asarray(filtered(white(2, 512, 512), sigmas), jnp.float32)) == reach


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:neighbouring pixels share their noise")
def test_blind_spots_hide_a_weak_correlation_too():
    """More is hidden of noise that is also weakly correlated further away."""
    short = filtered(white(2, 256, 256), (0.7, 0.7))
    hidden = [
        prepare(
            jax.random.key(0),
            cells(2, 256, 256) + 10 * noise,
            psf=np.ones((1, 1)),
            config=TrainConfig(targets="own"),
        ).settings.blind
        for noise in (short, short + 0.8 * filtered(white(2, 256, 256, seed=3), (1.3, 1.3)))
    ]
    assert hidden[0] == (2, 2)
    assert min(hidden[1]) >= 3


def test_blocks_without_noise_do_not_count():
    image = white(1, 128, 128)
    image[:, :64] = 7
    np.testing.assert_allclose(noise_autocorrelation(image), 0, atol=0.08)
    np.testing.assert_array_equal(noise_autocorrelation(np.full((1, 64, 64), 7)), 0)


@pytest.mark.parametrize("side", [96, pytest.param(64, marks=pytest.mark.robustness)])
def test_structure_in_small_images_is_not_taken_for_noise(side):
    for seed in range(3):
        noisy = synthetic.static_scene(jax.random.key(seed), frames=4, shape=(side, side)).noisy
        assert correlated_reach(np.asarray(noisy)) == (0, 0)


def test_what_is_too_small():
    assert correlated_reach(white(3, 31, 400)) == (0, 0)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        noise_autocorrelation(white(15, 15))
    assert noise_autocorrelation(white(16, 16)).shape == (2, correlation._LAGS)
