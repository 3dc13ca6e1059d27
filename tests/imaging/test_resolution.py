"""Fourier ring correlation against NumPy, and the resolution of known curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_pairs import SHAPE, pair

from jaxdenoise.imaging import resolution
from jaxdenoise.imaging.resolution import RingCorrelation, ring_resolution

# Compiled as a whole, once a shape, instead of operation by operation.
fourier_ring_correlation = jax.jit(resolution.fourier_ring_correlation)
seeds = st.integers(0, 2**32 - 1)


def rings_by_numpy(first, second):
    """FRC from the full spectrum, ring by ring; the window written out from its definition."""
    window = 1.0
    for axis, length in enumerate(first.shape):
        line = np.array(
            [
                0.5 - 0.5 * np.cos(np.pi * min(1, 8 * min(i + 0.5, length - i - 0.5) / length))
                for i in range(length)
            ]
        )
        window = window * (line[:, None] if axis == 0 else line)
    spectra = [
        np.fft.fft2((image.astype(float) - image.astype(float).mean()) * window)
        for image in (first, second)
    ]
    side = min(first.shape)
    radius = np.hypot(np.fft.fftfreq(first.shape[0])[:, None], np.fft.fftfreq(first.shape[1]))
    correlation, half_bit = [], []
    for number in range(1, side // 2 + 1):
        a, b = (spectrum[np.rint(radius * side) == number] for spectrum in spectra)
        correlation.append(
            np.sum(a * b.conj()).real / np.sqrt(np.sum(abs(a) ** 2) * np.sum(abs(b) ** 2))
        )
        root = np.sqrt(len(a) / 2)
        half_bit.append((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))
    return np.arange(1, side // 2 + 1) / side, correlation, half_bit


@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [((40, 40), np.float32, 0), ((37, 50), np.uint16, 60000), ((52, 31), np.uint16, 60000)],
)
def test_fourier_ring_correlation_by_numpy(shape, dtype, offset):
    images = [
        pair(seed, dtype=dtype, scale=3000, offset=offset, shape=shape)[1] for seed in range(2)
    ]
    for found, expected in zip(
        fourier_ring_correlation(*images), rings_by_numpy(*images), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@settings(deadline=None, max_examples=10)
@given(seeds, st.floats(0.01, 100), st.floats(-1000, 1000))
def test_fourier_ring_correlation_laws(seed, slope, intercept):
    first, second = (image.astype(np.float64) for image in pair(seed))
    plain = fourier_ring_correlation(first, second).correlation
    tolerance = 1e-3 + 1e-4 * abs(intercept) / slope  # of float32, see above
    np.testing.assert_allclose(
        fourier_ring_correlation(second, first).correlation, plain, atol=1e-5
    )
    np.testing.assert_allclose(
        fourier_ring_correlation(first, slope * second + intercept).correlation,
        plain,
        atol=tolerance,
    )
    np.testing.assert_allclose(
        fourier_ring_correlation(first, -second).correlation, -plain, atol=1e-5
    )
    np.testing.assert_allclose(fourier_ring_correlation(second, second).correlation, 1, atol=1e-5)


def test_independent_noise_does_not_agree():
    first, second = np.random.default_rng(1).normal(size=(2, 96, 128)).astype(np.float32)
    rings = fourier_ring_correlation(first, second)
    pixels = 2 * np.pi * 96 * 128 / 96 * np.arange(1, 49) / 96  # of each ring, about
    assert np.all(abs(rings.correlation) < 5 * np.sqrt(2 / pixels))
    assert abs(np.mean(rings.correlation)) < 0.05
    assert float(ring_resolution(rings, threshold=rings.half_bit)) > 20


def test_opposite_borders_that_differ_leave_no_cross():
    rng, ramp = np.random.default_rng(2), 20 * np.arange(128) / 128
    images = [(ramp + rng.normal(size=(128, 128))).astype(np.float32) for _ in range(2)]
    rings = fourier_ring_correlation(*images)
    assert np.all(abs(rings.correlation[20:]) < 0.25)


def test_the_resolution_is_where_the_signal_ends():
    rng = np.random.default_rng(3)
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    signal = np.fft.ifft2(np.fft.fft2(rng.normal(size=(128, 128))) * (radius < 0.2)).real
    images = [signal + 0.5 * rng.normal(size=signal.shape) for _ in range(2)]
    rings = fourier_ring_correlation(*(image.astype(np.float32) for image in images))
    for threshold in (1 / 7, rings.half_bit):
        # Two rings: the average over three of them rounds the cliff off.
        assert 1 / ring_resolution(rings, threshold=threshold) == pytest.approx(0.2, abs=2 / 128)


def test_the_resolution_of_simple_curves():
    frequency = jnp.arange(1, 51) / 100
    line = RingCorrelation(frequency, 1 - 2 * frequency, jnp.full(50, 0.2))
    assert ring_resolution(line, threshold=0.4) == pytest.approx(1 / 0.3, rel=1e-3)
    assert ring_resolution(line, threshold=line.half_bit) == pytest.approx(1 / 0.4, rel=1e-3)
    assert ring_resolution(line._replace(correlation=jnp.ones(50))) == pytest.approx(2)
    assert ring_resolution(line._replace(correlation=jnp.zeros(50))) == jnp.inf


def test_fourier_ring_correlation_of_nothing():
    image, constant = pair()[0], np.full(SHAPE, 7.0, np.float32)
    rings = fourier_ring_correlation(image, constant)
    np.testing.assert_array_equal(rings.correlation, 0)
    gradient = jax.jit(jax.grad(lambda x: fourier_ring_correlation(image, x).correlation.sum()))
    assert jnp.isfinite(gradient(constant)).all()


@pytest.mark.wrong_types
def test_fourier_ring_correlation_needs_an_image():
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, got \(15, 40\)"):
        fourier_ring_correlation(np.ones((15, 40)), np.ones((15, 40)))
    with pytest.raises(ValueError, match="at least 16 x 16"):
        fourier_ring_correlation(np.ones((2, 40, 40)), np.ones((2, 40, 40)))
    with pytest.raises(ValueError, match="same shape"):
        fourier_ring_correlation(np.ones((20, 40)), np.ones((40, 20)))
