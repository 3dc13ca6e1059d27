"""The noise's autocorrelation against noise whose autocorrelation is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope import correlation
from jaxdenoise.microscope.correlation import correlated_noise, noise_covariance, residual_reach
from jaxdenoise.microscope.floor import has_white_floor
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


def covariance(image):
    return noise_covariance(np.asarray(image, np.float32))


@pytest.mark.parametrize("sigmas", [(0, 0), (0.5, 0.5), (0, 0.8), (0.7, 0.7)])
def test_the_covariance_of_known_noise(sigmas):
    """Where noise is all there is, the flattest blocks vary less by chance."""
    noise = filtered(white(4, 256, 256), sigmas)
    found = covariance(cells(4, 256, 256) + 10 * noise)
    expected = np.array(
        [
            [np.mean(noise * np.roll(noise, (down, right), (1, 2))) for right in range(-5, 6)]
            for down in range(-5, 6)
        ]
    )
    np.testing.assert_allclose(found.correlation, expected, atol=0.08)
    np.testing.assert_array_equal(found.correlation, found.correlation[::-1, ::-1])
    assert 65 < found.variance < 105
    assert found.along == (found.correlation[6, 5], found.correlation[5, 6])
    assert 0 < max(found.along_error) < 0.03
    assert abs(found.kurtosis) < 0.15


def test_what_the_subtracted_surfaces_remove_is_restored(monkeypatch):
    monkeypatch.setattr(correlation, "_SHARE", 1.0)
    found = covariance(filtered(white(4, 256, 256), (0.7, 0.7)))
    assert found.variance == pytest.approx(1, rel=0.01)
    assert found.along == pytest.approx((0.6, 0.6), abs=0.03)
    assert found.reach(0.05) == (2, 2)


@pytest.mark.parametrize(
    ("sigmas", "reach"), [((0, 0), (0, 0)), ((0, 0.7), (0, 1)), ((1.2, 0), (3, 0))]
)
def test_the_reach_follows_the_noise(sigmas, reach):
    image = cells(2, 256, 256) + 10 * filtered(white(2, 256, 256), sigmas)
    assert covariance(image).reach(0.15) == reach
    assert covariance(3000 + 40 * image).reach(0.15) == reach


def test_what_stands_still_is_no_noise():
    """A texture fills all frames; their differences hold the noise alone."""
    texture = 3 * filtered(white(1, 192, 192, seed=5), (1.5, 1.5))
    movie = texture + filtered(white(6, 192, 192), (0, 0.7))
    assert covariance(movie[:1]).along[0] > 0.5
    found = covariance(movie)
    assert found.along == pytest.approx((0, 0.6), abs=0.06)
    # Other scenes do not cancel.
    assert covariance(texture + 3 * filtered(white(6, 192, 192), (1.5, 1.5))).along[0] > 0.5


def test_detail_that_is_no_noise_is_not_gaussian():
    spots = np.random.default_rng(0).random((1, 192, 192)) < 0.1
    assert covariance(filtered(spots - 0.1, (0.7, 0.7))).kurtosis > 1


def test_drawn_noise_has_the_covariance():
    noise = covariance(5 * filtered(white(4, 256, 256), (0, 0.7)))
    drawn = correlated_noise(jax.random.key(3), noise, (256, 256))
    assert drawn.var() == pytest.approx(noise.variance, rel=0.05)
    for lag in range(1, 4):
        product = np.mean(drawn * np.roll(drawn, lag, 1)) / drawn.var()
        assert product == pytest.approx(noise.correlation[5, 5 + lag], abs=0.08)
        assert abs(np.mean(drawn * np.roll(drawn, lag, 0))) < 0.05 * drawn.var()


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
    assert min(hidden[1]) >= 2
    assert max(hidden[1]) >= 3


def test_blocks_without_noise_do_not_count():
    image = white(1, 128, 128)
    image[:, :64] = 7
    np.testing.assert_allclose(noise_autocorrelation(image), 0, atol=0.08)
    np.testing.assert_array_equal(noise_autocorrelation(np.full((1, 64, 64), 7)), 0)


def test_what_is_too_small():
    assert covariance(np.ones((2, 64, 64))) is None
    assert covariance(white(1, 16, 31)) is None
    with pytest.raises(ValueError, match="at least 16 x 16"):
        noise_autocorrelation(white(15, 15))
    assert noise_autocorrelation(white(16, 16)).shape == (2, correlation._LAGS)


def test_white_noise_leaves_a_floor_and_smoothed_noise_does_not():
    rng = np.random.default_rng(0)
    for sigma in (1.0, 1.5, 3.0):
        texture = scipy.ndimage.gaussian_filter(rng.normal(size=(192, 192)), sigma)
        texture *= 40 / texture.std()
        white = texture + rng.normal(0, 25, texture.shape)
        assert has_white_floor(white[None])
        smoothed = scipy.ndimage.gaussian_filter(rng.normal(size=(192, 192)), 0.7) * 60
        assert not has_white_floor((texture + smoothed)[None])
        assert not has_white_floor(np.rint(texture)[None])
