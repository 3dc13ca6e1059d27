"""Whether the network for movies is taken, by the error without truth."""

import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic_movies import calcium_movie, noisy_movie
from jaxdenoise.training import fit, other_frames
from jaxdenoise.training.other_frames import choose


def models(frames):
    plan = fit.prepare_instant(frames, config=jd.TrainConfig(symmetries=1))
    return fit.instant_of(plan), fit.instant_of(plan, guided=True)


@pytest.fixture(scope="module")
def movie():
    signal = calcium_movie(7, frames=24, size=64).signal
    return signal, noisy_movie(8, signal, psnr=16).frames


@pytest.mark.slow
def test_a_movie_is_denoised_better_with_its_other_frames(movie):
    signal, noisy = movie
    alone, guided = models(noisy)
    choice = choose(alone, guided, noisy.astype(np.float32))
    assert choice.together
    assert "they help" in choice.text
    errors = [
        np.mean((jd.denoise(model, noisy).denoised - 500 - signal) ** 2)
        for model in (alone, guided)
    ]
    assert errors[1] < errors[0] / 2


def test_noise_that_neighbours_share_does_not_speak_against_other_frames(movie):
    noisy = noisy_movie(8, movie[0], psnr=16, row_noise=True).frames
    noisy, _ = jd.remove_line_noise(noisy.astype(np.float32))
    assert choose(*models(noisy), noisy).together


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_frames_that_have_nothing_in_common_are_left_alone(shared):
    scenes = [calcium_movie(20 + n, frames=1, size=64).signal[0] for n in range(10)]
    noisy = noisy_movie(9, np.stack(scenes), psnr=16, row_noise=shared).frames
    choice = choose(*models(noisy), noisy.astype(np.float32))
    assert not choice.together
    assert "none" in choice.text


def test_in_doubt_about_the_noise_frames_are_left_alone(movie, monkeypatch):
    monkeypatch.setattr(other_frames, "_errors", lambda *_: np.array([[-1.0, -2.0], [-1.0, -2.5]]))
    choice = choose(*models(movie[1]), movie[1].astype(np.float32))
    assert not choice.together
    assert choice.text == "other frames: none, the noise is not known well enough"


def test_a_few_frames_are_left_alone(movie):
    noisy = movie[1][:4]
    assert not choose(*models(noisy), noisy.astype(np.float32)).together


def test_tiles_do_not_change_what_a_guided_network_sees(movie):
    guided = models(movie[1])[1]
    whole = jd.denoise(guided, movie[1][:8]).denoised
    tiles = jd.denoise(guided, movie[1][:8], tile_size=128).denoised
    np.testing.assert_allclose(tiles, whole, atol=1e-3 * np.ptp(whole))
