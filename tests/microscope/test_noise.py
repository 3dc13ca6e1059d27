"""Noise models: their moments, their keys, their transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.imaging.levels import quantize
from jaxdenoise.microscope.noise import gaussian_noise, poisson_gaussian_noise

# Compiled as a whole, once a shape, instead of operation by operation.
gaussian = jax.jit(gaussian_noise)
camera = jax.jit(poisson_gaussian_noise)
KEY = jax.random.key(0)
SHAPE = (
    200,
    300,
)  # 60,000 draws: a mean is good to 0.4 % of a standard deviation, a variance to 0.6 % (Gaussian)


def check_moments(noisy, mean, variance):
    """Five standard errors, with room for the heavier tails of few photons."""
    noisy = np.asarray(noisy, np.float64)
    assert abs(noisy.mean() - mean) < 5 * np.sqrt(variance / noisy.size)
    assert abs(noisy.var() / variance - 1) < 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_gaussian_moments(dtype):
    image = np.full(SHAPE, 100, dtype)
    noisy = gaussian(KEY, image, 10)
    assert noisy.dtype == jnp.result_type(image, jnp.float32)  # float64 only where x64 is enabled
    check_moments(noisy, 100, 100)


def test_gaussian_noise_is_not_clipped():
    assert gaussian(KEY, np.zeros(SHAPE, np.uint8), 10).min() < -20


def test_gaussian_std_may_differ_between_pixels():
    noisy = gaussian(KEY, np.zeros((2, 30000)), np.array([[1.0], [5.0]]))
    np.testing.assert_allclose(noisy.std(axis=1), [1, 5], rtol=0.03)


@pytest.mark.parametrize("level", [0.0, 3.0, 40.0, 5000.0])
@pytest.mark.parametrize(("gain", "read_std"), [(1.0, 2.0), (25.0, 4.0)])
def test_poisson_gaussian_moments(level, gain, read_std):
    noisy = camera(
        KEY, np.full(SHAPE, level, np.float32), gain=gain, read_std=read_std, offset=100.0
    )
    assert noisy.dtype == jnp.float32
    check_moments(noisy, level + 100, gain * level + read_std**2)


def test_without_read_noise_the_photons_are_whole():
    noisy = camera(KEY, np.full(SHAPE, 6.0, np.float32), gain=2.0, read_std=0.0, offset=10.0)
    photons = (noisy - 10) / 2
    assert photons.min() == 0
    np.testing.assert_array_equal(photons, np.round(photons))


def test_below_the_offset_there_are_no_photons():
    image = np.array([-5.0, 0.0, -0.1])
    noisy = camera(KEY, image, gain=1.0, read_std=0.0, offset=7.0)
    np.testing.assert_array_equal(noisy, [7, 7, 7])


def test_what_is_not_finite_stays_so():
    image = np.array([np.nan, np.inf, 1.0])
    noisy = camera(KEY, image, gain=1.0, read_std=1.0, offset=0.0)
    np.testing.assert_array_equal(np.isfinite(noisy), [False, False, True])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_key_decides(seed):
    image = np.linspace(1, 50, 30).reshape(5, 6)
    key, other = jax.random.split(jax.random.key(seed))
    for noise in (
        lambda key: gaussian(key, image, 3.0),
        lambda key: camera(key, image, gain=1.0, read_std=3.0, offset=0.0),
    ):
        np.testing.assert_array_equal(noise(key), noise(key))
        assert not np.array_equal(noise(key), noise(other))


def test_pixels_are_independent():
    image = np.full(SHAPE, 20.0, np.float32)
    for noisy in (
        gaussian(KEY, image, 1.0),
        camera(KEY, image, gain=1.0, read_std=1.0, offset=0.0),
    ):
        z = np.asarray((noisy - noisy.mean()) / noisy.std())
        assert abs((z[1:] * z[:-1]).mean()) < 0.02
        assert abs((z[:, 1:] * z[:, :-1]).mean()) < 0.02


def test_transforms():
    image = jnp.linspace(1, 50, 30).reshape(5, 6)
    levels = {"gain": 2.0, "read_std": 1.0, "offset": 3.0}
    keys = jax.random.split(KEY, 4)

    def noise(key):
        return (
            poisson_gaussian_noise(key, image, **levels),
            gaussian_noise(key, image, 2.0),
        )

    single = camera(keys[2], image, **levels), gaussian(keys[2], image, 2.0)
    for frames, expected in zip(jax.jit(jax.vmap(noise))(keys), single, strict=True):
        np.testing.assert_allclose(frames[2], expected, rtol=1e-5)


def test_gradients():
    image = jnp.linspace(1, 50, 30).reshape(5, 6)
    np.testing.assert_array_equal(
        jax.jit(jax.grad(lambda x: gaussian_noise(KEY, x, 2.0).sum()))(image),
        jnp.ones_like(image),
    )

    def total(image, offset, read_std):
        return poisson_gaussian_noise(KEY, image, gain=1.0, read_std=read_std, offset=offset).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    by_image, by_offset, by_read_std = gradient(image, 1.0, 2.0)
    np.testing.assert_array_equal(by_image, jnp.zeros_like(image))  # photons are discrete
    assert by_offset == image.size
    assert jnp.isfinite(by_read_std)


def test_levels_are_checked():
    image = np.ones((5, 6))
    with pytest.raises(ValueError, match=r"std must not be negative, got a minimum of -1"):
        gaussian_noise(KEY, image, -1)
    with pytest.raises(ValueError, match=r"std must .* \(5, 6\), got shape \(3, 5, 6\)"):
        gaussian_noise(KEY, image, np.ones((3, 5, 6)))
    with pytest.raises(ValueError, match="gain must be greater than 0"):
        poisson_gaussian_noise(KEY, image, gain=0, read_std=1)
    with pytest.raises(ValueError, match="read_std must not be negative"):
        poisson_gaussian_noise(KEY, image, gain=1, read_std=-1)
    poisson_gaussian_noise(KEY, image, gain=1, read_std=1, offset=-100)


def test_another_key_implementation_is_explained():
    with pytest.raises(ValueError, match=r"threefry2x32, got one of rbg"):
        poisson_gaussian_noise(jax.random.key(0, impl="rbg"), np.ones((4, 5)), gain=1, read_std=1)


def test_the_noise_of_the_report():
    image = np.full((100, 100, 3), 100, np.uint8)
    noisy = quantize(gaussian(KEY, image, jnp.sqrt(100.0)), jnp.uint8, rounding="truncate")
    assert noisy.dtype == jnp.uint8
    check_moments(noisy, 99.5, 100 + 1 / 12)  # truncation takes half a grey level
    first, second = np.asarray(noisy, np.float64)[..., :2].reshape(-1, 2).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05  # a draw for each channel
