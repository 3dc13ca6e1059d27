"""Scores of denoised movies: known biases are found, and the reference's own figures."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from common import movie_scores

from jaxdenoise.microscope.synthetic_movies import CalciumMovie, Events, calcium_movie, noisy_movie

REFERENCE = Path(__file__).parents[3] / "shared" / "movies" / "sim.py"


@pytest.fixture(scope="module")
def movie():
    return calcium_movie(0, frames=150, size=64)


def test_a_noisy_movie_has_its_psnr_and_no_bias(movie):
    noisy = noisy_movie(1, movie.signal, psnr=22)
    found = movie_scores.scores(movie, noisy.frames - 500.0)
    assert found["psnr"] == pytest.approx(22, abs=0.3)
    assert found["n_soma"] == found["n_fast"] + found["n_slow"] >= 5
    assert found["dF_soma"] == pytest.approx(0, abs=9)
    assert found["leak"] == pytest.approx(0, abs=9)


def test_flattened_transients_lose_their_peaks_and_the_mean_has_no_change(movie):
    mean = movie.signal.mean(axis=0)
    half = movie_scores.scores(movie, mean + 0.5 * (movie.signal - mean))
    assert half["dF_soma"] == pytest.approx(-50, abs=0.1)
    assert half["dF_bouton"] == pytest.approx(-50, abs=0.1)
    assert half["ac"] == pytest.approx(20 * np.log10(2), abs=0.01)
    assert half["r_pixel"] == pytest.approx(1, abs=1e-3)
    still = np.broadcast_to(mean, movie.signal.shape)
    assert movie_scores.changes_snr(movie.signal, still) == pytest.approx(0, abs=1e-6)


def test_smoothing_in_time_leaks_into_the_frames_before(movie):
    smooth = scipy.ndimage.gaussian_filter1d(movie.signal, 2, axis=0)
    later = movie.signal[np.maximum(np.arange(len(movie.signal)) - 2, 0)] + 1
    assert movie_scores.scores(movie, smooth)["leak"] > 10
    assert movie_scores.scores(movie, later)["leak"] < 1


def test_scale_and_level_do_not_count_where_they_should_not(movie):
    images = 3 * movie.signal + 100 + noisy_movie(0, movie.signal, psnr=20).frames
    first, second = (movie_scores.si_psnr(movie.signal, part) for part in (images, 2 * images - 7))
    assert first == pytest.approx(second, abs=1e-6)


def test_only_transients_that_stand_alone_count():
    trace = np.full(100, 100.0)
    for first in (20, 60, 66):
        trace[first:] += 80 * np.exp(-np.arange(100 - first) / 3)
    found = movie_scores.transients(trace, trace, np.array([20, 60, 66]))
    assert [round(one.size) for one in found] == [80]
    assert movie_scores.transients(trace, trace, np.array([20, 20])) == []
    assert movie_scores.transients(trace, trace, np.array([5, 95])) == []


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the reference simulation")
def test_figures_are_those_of_the_reference():
    spec = importlib.util.spec_from_file_location("sim", REFERENCE)
    sim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sim)
    theirs = sim.movie(seed=1, frames=120)
    noisy, _ = sim.noisy(theirs["signal"], 16)
    result = scipy.ndimage.gaussian_filter(noisy.astype(np.float32), (1, 0.8, 0.8))
    expected = sim.score(theirs, result)
    movie = CalciumMovie(
        theirs["signal"],
        theirs["rois"],
        tuple(theirs["kinds"]),
        tuple(Events(*events) for events in theirs["events"]),
        theirs["shift"],
    )
    found = movie_scores.scores(movie, result - sim.OFFSET)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
