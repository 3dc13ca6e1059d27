"""The parameter of a filter, chosen without the clean image, against the best one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import calibrate_denoiser

import jaxdenoise as jd
from jaxdenoise.microscope import calibration, synthetic
from jaxdenoise.microscope.calibration import SIGMAS, calibrate, calibrate_gaussian
from jaxdenoise.microscope.noise_level import (
    _LAGS,
    _SOLUTION,
    CORRELATED,
    noise_level,
    noise_level_of,
)

SIGMA_CANDIDATES = jnp.geomspace(0.4, 4, 8)
level_of = jax.jit(noise_level)


@pytest.fixture(scope="module")
def stack():
    """One frame of 128x128 pixels at 20 dB, with its truth."""
    return synthetic.static_scene(
        jax.random.key(1), frames=1, shape=(128, 128), psf_sigma=1.0, psnr=20.0
    )


def blur(image, sigma):
    return jd.gaussian_filter(image, (sigma, sigma), radius=12)


@jax.jit
def calibrated(image, noise_variance=None):
    """Compiled as a whole, instead of operation by operation."""
    return calibrate(blur, image, SIGMA_CANDIDATES, noise_variance=noise_variance)


@pytest.mark.parametrize("shape", [(5, 5), (40, 33), (3, 17, 64), (2, 3, 16, 16)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_numpy_measures_the_noise_level_that_jax_does(shape, dtype):
    rng = np.random.default_rng(0)
    image = (100 + 20 * rng.normal(size=shape)).astype(dtype)
    expected = [float(value) for value in level_of(image.astype(np.float32))]
    np.testing.assert_allclose(noise_level_of(image), expected, rtol=1e-4, atol=1e-4)


def test_a_constant_image_has_no_noise():
    assert noise_level_of(np.full((9, 9), 1000, np.uint16)) == (0, 0)


def mean_filter(image, size):
    return jd.box_filter(image, (size, size))


def median(image, size):
    return jd.median_filter(image, (size, size))


def true_errors(function, stack, candidates):
    return np.array(
        [
            jnp.mean((function(stack.noisy, candidate) - stack.clean) ** 2)
            for candidate in candidates
        ]
    )


def decibels(errors, chosen):
    """How far the choice is behind the best candidate."""
    return 10 * np.log10(errors[chosen] / errors.min())


@pytest.mark.parametrize(
    ("psf_sigma", "psnr", "side", "step"),
    [
        (1.0, 10.0, 96, 4),
        *(
            pytest.param(psf_sigma, psnr, 256, 1, marks=pytest.mark.slow)
            for psf_sigma in (1.0, 2.0)
            for psnr in (10.0, 20.0, 30.0)
        ),
    ],
)
def test_the_choice_is_nearly_the_best(monkeypatch, psf_sigma, psnr, side, step):
    sigmas = SIGMAS[::step]
    monkeypatch.setattr(calibration, "SIGMAS", sigmas)
    stack = synthetic.static_scene(
        jax.random.key(2), frames=1, shape=(side, side), psf_sigma=psf_sigma, psnr=psnr
    )
    found = jax.jit(calibrate_gaussian)(stack.noisy)

    @jax.jit
    def true_error(sigma):
        filtered = jd.gaussian_filter(stack.noisy, (sigma, sigma), radius=(32, 32))
        return jnp.mean((filtered - stack.clean) ** 2)

    errors = np.array([true_error(sigma) for sigma in sigmas])
    assert decibels(errors, int(jnp.argmin(found.risk))) < 0.25
    assert found.best == sigmas[int(jnp.argmin(found.risk))]
    assert found.correlation < CORRELATED


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (median, [1, 3]),
        *(
            pytest.param(function, [1, 3, 5, 7], marks=pytest.mark.robustness)
            for function in (mean_filter, median)
        ),
    ],
)
def test_sizes_are_chosen_as_they_will_run(function, sizes, stack):
    found = calibrate(function, stack.noisy, sizes)
    assert found.best in sizes
    assert decibels(true_errors(function, stack, sizes), sizes.index(found.best)) < 0.25
    # Blind to the pixel, a window of one pixel is the mean of the neighbours; when it runs, it does
    # nothing.
    assert found.risk[0] > found.risk[sizes.index(found.best)]


def test_the_risk_is_the_error_against_the_clean_image(stack):
    variance = jnp.mean((stack.noisy - stack.clean) ** 2)
    found = calibrated(stack.noisy, variance)
    np.testing.assert_allclose(found.risk, true_errors(blur, stack, SIGMA_CANDIDATES), rtol=0.25)


def test_the_blind_spot_loss_is_that_of_scikit_image(stack):
    """scikit-image blinds every fourth pixel too, but fills it from four neighbours, not eight."""
    image = np.asarray(stack.noisy[0])
    candidates = [0.6, 2.0]
    denoise_jax = jax.jit(blur)

    def denoise(image, *, sigma):
        return np.asarray(denoise_jax(image.astype(np.float32), sigma))

    parameters = {"sigma": candidates}
    _, (_, losses) = calibrate_denoiser(
        image, denoise, parameters, stride=4, approximate_loss=False, extra_output=True
    )
    found = calibrate(blur, image, candidates)
    np.testing.assert_allclose(found.blind_spot_loss, losses, rtol=0.04)


def test_a_blind_spot_sees_nothing_of_its_pixel():
    """The identity becomes the mean of the neighbours."""
    image = jax.random.normal(jax.random.key(0), (24, 32))
    found = calibrate(lambda x, factor: factor * x, image, [1.0])
    kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    padded = np.pad(np.asarray(image), 1, mode="symmetric")
    neighbours = sum(
        kernel[i, j] * padded[i : i + 24, j : j + 32] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(
        found.blind_spot_loss[0], np.mean((neighbours - image) ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.risk[0], found.noise_variance, rtol=1e-4
    )  # all of the noise stays


def test_arrays_are_mapped_and_lists_looped_to_the_same_end():
    image = jax.random.normal(jax.random.key(0), (24, 32))
    mapped = jax.jit(lambda image: calibrate(blur, image, SIGMA_CANDIDATES[:2]))(image)
    looped = calibrate(blur, image, SIGMA_CANDIDATES[:2].tolist())
    np.testing.assert_allclose(mapped.risk, looped.risk, rtol=1e-4)
    np.testing.assert_allclose(mapped.blind_spot_loss, looped.blind_spot_loss, rtol=1e-4)
    assert looped.best == pytest.approx(float(mapped.best))


@jax.jit
def level_of_white_noise(seed, std, offset):
    return noise_level(offset + std * jax.random.normal(jax.random.key(seed), (2, 256, 256)))


@settings(deadline=None, max_examples=6)
@given(st.sampled_from([0.5, 2.0, 30.0]), st.sampled_from([0.0, 1000.0]), st.integers(0, 2**31 - 1))
def test_the_level_of_white_noise(std, offset, seed):
    variance, correlation = level_of_white_noise(seed, std, offset)
    assert float(variance) == pytest.approx(std**2, rel=0.05)
    assert abs(correlation) < 0.03


def test_the_level_of_noise_hardly_depends_on_the_scene(stack):
    variance, correlation = level_of(stack.noisy)
    assert float(variance) == pytest.approx(
        float(jnp.mean((stack.noisy - stack.clean) ** 2)), rel=0.15
    )
    assert correlation < CORRELATED


@pytest.mark.parametrize("axis", [1, 2])
def test_correlated_noise_is_noticed(axis):
    white = jax.random.normal(jax.random.key(3), (1, 128, 128))
    noise = white + 0.6 * jnp.roll(white, 1, axis)
    _, correlation = level_of(noise)
    assert float(correlation) == pytest.approx(0.6 / (1 + 0.6**2), abs=0.05)
    assert calibrated(noise).correlation > CORRELATED


def test_frames_of_integers(stack):
    frames = jnp.round(stack.noisy).astype(jnp.uint16)
    assert calibrated(frames).best == calibrated(stack.noisy).best


@pytest.mark.wrong_types
def test_wrong_input():
    with pytest.raises(ValueError, match="at least 5 x 5"):
        calibrate(blur, np.zeros((4, 20)), SIGMA_CANDIDATES)
    with pytest.raises(ValueError, match="at least 5 x 5"):
        noise_level(np.zeros(20))
    with pytest.raises(ValueError, match=r"noise_level: .* got shape \(4, 9\)"):
        noise_level_of(np.zeros((4, 9)))
    with pytest.raises(ValueError, match="no candidates"):
        calibrate(blur, np.zeros((20, 20)), [])


def test_a_constant_image_stays_finite():
    candidates = SIGMA_CANDIDATES[:3]
    found = calibrate(blur, np.full((24, 32), 7.0), candidates)
    assert found.candidates is candidates
    assert all(
        np.isfinite(values).all()
        for values in (found.risk, found.blind_spot_loss, found.noise_variance, found.correlation)
    )


def test_the_solution_is_exact_for_noise_that_is_correlated_between_neighbours():
    """Autocovariances computed from the definition give back the noise's."""
    mask = np.outer([1, -2, 1], [1, -2, 1])
    truth = {(0, 0): 5.0, (1, 0): 0.7, (-1, 0): 0.7, (0, 1): -0.4, (0, -1): -0.4}
    measured = [
        sum(
            mask[a, b] * mask[c, d] * truth.get((c - a + down, d - b + right), 0)
            for a in range(3)
            for b in range(3)
            for c in range(3)
            for d in range(3)
        )
        for down, right in _LAGS
    ]
    np.testing.assert_allclose(_SOLUTION @ measured, [5.0, 0.7, -0.4], atol=1e-9)
