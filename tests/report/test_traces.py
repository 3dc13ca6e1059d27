"""Traces at the places of a movie that change most, and their spectra."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxdenoise.report.movie_section import movie_section
from jaxdenoise.report.traces import find_traces, spectra

PLACES = ((20, 30), (50, 12))


@pytest.fixture(scope="module")
def movie():
    random = np.random.default_rng(0)
    clean = np.full((100, 64, 64), 100.0)
    for (row, column), period, size in zip(PLACES, (20, 50), (80, 40), strict=True):
        wave = size * (1 + np.sin(2 * np.pi * np.arange(100) / period))
        spot = np.zeros((64, 64))
        spot[row, column] = 1
        clean += wave[:, None, None] * gaussian_filter(spot, 2.0) / gaussian_filter(spot, 2.0).max()
    return clean + 20 * random.normal(size=clean.shape), clean


def traces_of(noisy, denoised, interval=None):
    return find_traces(lambda n: (noisy[n], denoised[n]), range(len(noisy)), interval)


def test_the_places_that_change_most_are_followed(movie):
    found = traces_of(*movie)
    assert found.places == PLACES
    np.testing.assert_allclose(found.noise, 20 / 3, rtol=0.4)
    row, column = PLACES[0]
    np.testing.assert_allclose(
        found.denoised[0], movie[1][:, row - 1 : row + 2, column - 1 : column + 2].mean((1, 2))
    )


def test_a_still_movie_has_none(movie):
    noisy = movie[0] - movie[1]
    assert traces_of(noisy, 0.2 * noisy) is None


def test_spectra_show_the_period_and_what_was_removed(movie):
    found = spectra(traces_of(*movie, interval=0.5))
    assert found.frequency[np.argmax(found.denoised)] == pytest.approx(0.1, abs=0.02)
    fast = found.frequency > 0.6  # of at most 1 hertz
    # White noise of a variance of 400 / 9, over 1 hertz.
    assert found.noisy[fast].mean() == pytest.approx(400 / 9, rel=0.5)
    assert found.denoised[fast].mean() < 1


def test_the_section_says_where_and_how_high(movie):
    html = movie_section(traces_of(*movie))
    assert html.count("<svg") == 3
    assert "row 20, column 30: the noise of the mean was" in html
    assert "time in seconds" not in html
    assert "time in seconds" in movie_section(traces_of(*movie, interval=0.5))
    assert movie_section(None) == ""
