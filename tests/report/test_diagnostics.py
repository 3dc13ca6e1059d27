import numpy as np
import pytest

from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.report import diagnostics
from jaxdenoise.report.diagnostics import (
    REACH,
    autocorrelation,
    examine_input,
    examine_residual,
    modulation,
    smoothed_residual,
)

SHAPE = (3, 192, 192)


@pytest.fixture(scope="module")
def clean(blobs):
    """Frames of blobs of sigma 2 pixels between 100 and 400 grey levels."""
    rng = np.random.default_rng(0)
    return blobs((rng.uniform(size=SHAPE) < 0.01) * rng.uniform(0.2, 1, SHAPE), 2.0)


@pytest.fixture(scope="module")
def noisy(clean):
    rng = np.random.default_rng(1)
    photons = rng.poisson((clean - 100) / 4)
    return (100 + 4 * photons + 5 * rng.normal(size=SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def found(noisy):
    return examine_input(noisy, background=100.0)


def test_the_residual_of_the_truth_is_noise(clean, noisy):
    found = examine_residual(noisy, clean)
    assert found.structure < 1.1
    assert abs(found.correlation) < 0.02
    assert abs(found.mean) < 0.2
    np.testing.assert_allclose(found.spectrum.power, 1, atol=0.3)
    np.testing.assert_allclose(found.levels.mean, 0, atol=1)
    np.testing.assert_allclose(
        found.levels.spread, np.sqrt(4 * (found.levels.level - 100) + 25), rtol=0.1
    )
    assert found.contrast == pytest.approx(clean.std(), rel=1e-3)
    assert found.outliers == 0


def test_a_denoiser_that_averages_leaves_no_structure(noisy):
    assert examine_residual(noisy, gaussian_filter(noisy, (0.7, 0.7))).structure < 1.1


def test_lost_signal_is_structure_of_its_size(clean, noisy):
    found = examine_residual(noisy, gaussian_filter(clean, (3.0, 3.0)))
    assert found.structure > 2
    assert found.correlation > 0.1
    assert 6 < found.structure_size < 20


def test_autocorrelation_by_numpy():
    residual = np.random.default_rng(2).normal(size=(2, 20, 24)) + np.arange(24) / 10
    found = autocorrelation(residual)
    centred = residual - residual.mean(axis=(1, 2), keepdims=True)
    for y, x in ((0, 0), (0, 1), (3, 0), (5, -8), (8, 8)):
        here = centred[:, y:, max(x, 0) : 24 + min(x, 0)]
        there = centred[:, : 20 - y, max(-x, 0) : 24 - max(x, 0)]
        assert found[REACH + y, REACH + x] == pytest.approx(
            np.mean(here * there) / centred.var(), abs=1e-6
        )
        assert found[REACH - y, REACH - x] == pytest.approx(found[REACH + y, REACH + x])
    assert not autocorrelation(np.ones((1, 20, 20))).any()


def test_the_smoothed_residual_of_noise_is_standard_normal():
    residual = np.random.default_rng(3).normal(size=SHAPE)
    found = smoothed_residual(residual.astype(np.float32))
    assert found[..., :64].std() == pytest.approx(1, abs=0.15)
    assert found[..., -64:].std() == pytest.approx(1, abs=0.15)


def test_the_input(noisy, found):
    assert found.pixels == noisy.size
    assert found.noise_std == pytest.approx(np.sqrt(4 * (noisy.mean() - 100) + 25), rel=0.1)
    assert abs(found.noise_correlation) < 0.05
    assert found.gain == pytest.approx(4, rel=0.2)
    assert (found.saturated, found.clipped, found.below_background, found.step) == (0, 0, 0, 0)
    assert (found.constant_frames, found.identical_frames) == (0, ())


def test_noise_that_neighbours_share_is_measured():
    noise = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    shared = np.asarray(gaussian_filter(noise, (0.6, 0.6)))
    assert examine_input(shared, background=0.0).noise_correlation > 0.12


def test_pixels_that_pile_up_at_the_ends(noisy):
    whole = np.rint(noisy)
    # One pixel is the brightest, but none is cut off.
    assert examine_input(whole, background=100.0).saturated == 0
    cut = np.clip(whole, 95, 200)
    found = examine_input(cut, background=90.0)
    assert found.saturated == pytest.approx(np.mean(cut == 200))
    assert found.clipped == pytest.approx(np.mean(cut == 95))


@pytest.mark.parametrize("step", [1, 16, 0.25])
def test_the_step_of_the_grey_scale(noisy, step):
    assert examine_input(np.rint(noisy / step) * step, background=100.0).step == step


def test_frames_that_tell_nothing(noisy):
    found = examine_input(np.stack([noisy[0], noisy[0], np.full_like(noisy[0], 7)]), background=0.0)
    assert found.identical_frames == ((1, 2),)
    assert found.constant_frames == 1


def test_all_repetitions_of_a_frame_are_named():
    first, second = np.zeros((2, 4, 4)), np.ones((2, 4, 4))
    stack = np.concatenate([first[:1], second, first[:1]])
    assert diagnostics.identical_frames(stack) == ((2, 3), (1, 4))


def test_hot_pixels_are_outliers(clean, noisy):
    hot = noisy.copy()
    hot[:, 16::32, 16::32] += 2000
    assert examine_residual(hot, clean).outliers == pytest.approx(1 / 32**2)


def test_a_background_above_the_image(noisy):
    assert examine_input(noisy, background=130.0).below_background > 0.3


def test_small_frames():
    frames = np.random.default_rng(5).normal(size=(1, 8, 6)).astype(np.float32)
    found, residual = (
        examine_input(frames, background=0.0),
        examine_residual(frames, np.zeros_like(frames)),
    )
    assert found.gain is None
    assert all(
        np.isfinite(values).all()
        for values in (residual.autocorrelation, *residual.spectrum, *residual.levels)
    )
    assert residual.structure < diagnostics.BLOCK
    assert examine_input(np.ones_like(frames), background=0.0).step == 0


def test_nothing_removed(noisy):
    found = examine_residual(noisy, noisy)
    assert (found.std, found.structure, found.correlation) == (0, 0, 0)


def test_modulation_of_a_gaussian_is_its_fourier_transform():
    for frequency in (0.0, 0.1, 0.25):
        assert modulation(gaussian_psf(1.3), frequency) == pytest.approx(
            np.exp(-2 * (np.pi * 1.3 * frequency) ** 2), abs=1e-3
        )
    assert modulation(np.ones((1, 1)), 0.5) == 1
