"""The leak test: what denoisers of known behaviour make of known transients."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxdenoise.report import movie_checks
from jaxdenoise.report.findings import CARE, FINE, NOT_APPLICABLE
from jaxdenoise.report.transients import measure, plan_spots, with_spots

SHAPE = (24, 80, 96)
NOISE = 10.0


@pytest.fixture(scope="module")
def movie():
    """Still on the left, blinking on the right."""
    random = np.random.default_rng(0)
    still = 100 + 200 * gaussian_filter(random.normal(size=SHAPE[1:]), 3)
    blinks = np.zeros(SHAPE)
    blinks[:, :, 48:] = 60 * gaussian_filter(random.normal(size=(24, 80, 48)), (1, 4, 4)) / 0.05
    return (still + blinks + NOISE * random.normal(size=SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def spots(movie):
    return plan_spots(movie, sigma=1.2)


def leak_of(denoise, movie, spots):
    before, after = (
        dict(enumerate(denoise(frames))) for frames in (movie, with_spots(movie, spots))
    )
    return measure(spots, before, after)


def test_spots_are_ten_deviations_high_apart_and_where_nothing_changes(movie, spots):
    assert len(spots.places) == 6
    assert all(column < 48 for _, _, column in spots.places)
    assert np.mean(spots.heights) == pytest.approx(10 * NOISE, rel=0.1)
    added = with_spots(movie, spots) - movie
    assert {n for n in range(24) if added[n].any()} == {8, 16}
    assert set(spots.needed) == {7, 8, 9, 15, 16, 17}
    for place, height in zip(spots.places, spots.heights, strict=True):
        assert added[place] == pytest.approx(height, rel=0.01)


def test_what_is_left_alone_comes_back_whole(movie, spots):
    found = leak_of(lambda frames: frames, movie, spots)
    np.testing.assert_allclose(found.returned, 1, rtol=0.01)
    assert max(found.leaked) < 0.01
    assert movie_checks.transients(found).level == FINE


def test_a_mean_over_time_is_found_out(movie, spots):
    found = leak_of(lambda frames: gaussian_filter(frames, (0.6, 0, 0)), movie, spots)
    finding = movie_checks.transients(found)
    assert finding.level == CARE
    assert np.mean(found.leaked) == pytest.approx(0.16, abs=0.02)
    assert "66.4% of their size came back (at least 80%" in finding.text
    assert "in the frames beside them (at most 5%" in finding.text


def test_a_leak_alone_is_told(movie, spots):
    def leaks(frames):
        return frames + 0.1 * np.roll(frames, 1, axis=0)

    finding = movie_checks.transients(leak_of(leaks, movie, spots))
    assert finding.title == "Transients leak into the frames beside them"
    assert finding.level == CARE


def test_where_it_cannot_be_tested_it_says_why(movie):
    assert plan_spots(movie[:5], sigma=1) is None
    assert plan_spots(movie[:, :8], sigma=1) is None
    assert plan_spots(np.ones(SHAPE, np.float32), sigma=1) is None
    finding = movie_checks.transients(movie_checks.ALONE)
    assert finding.level == NOT_APPLICABLE
    assert finding.text.startswith("Not applicable: the frames were denoised one by one")
