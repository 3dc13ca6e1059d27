"""Synthetic calcium movies and volumes: their cells, events, motion, noise and seeds."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxdenoise.microscope.synthetic_movies import (
    OFFSET,
    READ_STD,
    SIGNAL_RANGE,
    calcium_movie,
    noisy_movie,
)
from jaxdenoise.microscope.synthetic_volumes import volume_scene

REFERENCE = Path(__file__).parents[3] / "shared" / "movies" / "sim.py"


@pytest.fixture(scope="module")
def movie():
    return calcium_movie(0, frames=120, size=64)


def test_a_movie_has_its_range_and_is_positive_everywhere(movie):
    assert movie.signal.shape == (120, 64, 64)
    assert np.ptp(movie.signal) == pytest.approx(SIGNAL_RANGE, rel=1e-4)
    assert movie.signal.min() == pytest.approx(0.01 * SIGNAL_RANGE, rel=1e-3)
    assert not movie.shift.any()


def test_cells_have_their_regions_and_are_brighter_than_what_is_around(movie):
    kinds = np.array(movie.kinds)
    assert len(movie.regions) == len(movie.kinds) == len(movie.events)
    assert {"soma", "bouton"} == set(kinds)
    areas = movie.regions.sum(axis=(1, 2))
    assert (areas[kinds == "bouton"] == 9).all()
    assert 60 < np.median(areas[kinds == "soma"]) < 200
    mean = movie.signal.mean(axis=0)
    somata = movie.regions[kinds == "soma"].any(axis=0)
    assert mean[somata].mean() > 1.4 * mean[~somata].mean()


def test_brightness_rises_within_frames_of_an_event(movie):
    rises = []
    for region, kind, (begun, _) in zip(movie.regions, movie.kinds, movie.events, strict=True):
        trace = movie.signal[:, region].mean(axis=1)
        for first in begun[(begun > 2) & (begun < 110)]:
            if kind == "soma" and np.abs(begun - first)[begun != first].min(initial=99) > 20:
                rises.append(trace[first : first + 6].max() / trace[first - 2 : first].mean() - 1)
    assert len(rises) >= 3
    assert np.median(rises) > 0.15


def test_a_seed_gives_one_movie_and_its_motion_stays_in_its_limits(movie):
    again = calcium_movie(0, frames=120, size=64)
    np.testing.assert_array_equal(again.signal, movie.signal)
    moving = calcium_movie(0, frames=40, size=48, motion=1.5)
    assert np.abs(moving.shift).max() == pytest.approx(1.5)
    assert np.diff(moving.shift, axis=0).std() > 0.05


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"size": 8}, {"motion": -1.0}, {"psf": -0.5}], ids=str
)
def test_impossible_movies_are_refused(options):
    with pytest.raises(ValueError, match="expected frames >= 1"):
        calcium_movie(0, **options)


def test_noise_has_the_wanted_level_and_is_white(movie):
    noisy = noisy_movie(1, movie.signal, psnr=16)
    noise = noisy.frames - movie.signal - OFFSET
    found = 10 * np.log10(SIGNAL_RANGE**2 / np.mean(noise**2))
    assert found == pytest.approx(16, abs=0.1)  # clipped at 0 in a few pixels
    np.testing.assert_array_equal(noisy_movie(1, movie.signal, psnr=16).frames, noisy.frames)
    assert abs(_correlation(noise)) < 0.01
    # Its variance is that of photons and of the reading.
    dim, bright = (movie.signal < 250), (movie.signal > 700)
    for part in (dim, bright):
        expected = noisy.gain * movie.signal[part].mean() + READ_STD**2
        assert noise[part].var() == pytest.approx(expected, rel=0.05)


def test_row_noise_is_shared_along_rows(movie):
    noisy = noisy_movie(1, movie.signal, psnr=16, row_noise=True)
    noise = noisy.frames - movie.signal - OFFSET
    rows = noise.mean(axis=-1, keepdims=True)
    assert _correlation(noise - rows) == pytest.approx(0.51, abs=0.03)
    assert rows.std() / noise.std() == pytest.approx(np.hypot(0.2, 1.47 / 8), abs=0.04)


def test_a_noise_beyond_the_read_noise_is_refused(movie):
    with pytest.raises(ValueError, match="psnr of 60 dB"):
        noisy_movie(0, movie.signal, psnr=60)


def test_a_volume_is_wider_in_depth_and_falls_off_where_asked():
    volume = volume_scene(0, shape=(24, 48, 48))
    assert np.ptp(volume) == pytest.approx(SIGNAL_RANGE, rel=1e-4)
    assert volume.min() >= 0
    steps = [np.abs(np.diff(volume, axis=axis)).mean() for axis in range(3)]
    assert steps[0] < 0.85 * min(steps[1:])
    falling = volume_scene(0, shape=(24, 48, 48), depth=8.0)
    ratio = falling / volume
    np.testing.assert_allclose(
        ratio.mean(axis=(1, 2)) / ratio[0].mean(), np.exp(-np.arange(24) / 8), rtol=1e-4
    )
    with pytest.raises(ValueError, match="positive depth"):
        volume_scene(0, depth=0.0)


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the reference simulation")
def test_movies_and_volumes_are_statistically_those_of_the_reference():
    """Means over seeds agree within four standard errors."""
    spec = importlib.util.spec_from_file_location("sim", REFERENCE)
    sim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sim)
    theirs, ours = [], []
    for seed in range(8):
        movie, own = sim.movie(seed=seed, frames=120), calcium_movie(seed, frames=120)
        theirs.append(_facts(movie["signal"], movie["rois"], movie["kinds"], movie["events"]))
        ours.append(_facts(own.signal, own.regions, own.kinds, own.events))
        theirs[-1] += _volume_facts(sim.volume(seed=seed))
        ours[-1] += _volume_facts(volume_scene(seed))
    theirs, ours = np.array(theirs), np.array(ours)
    spread = np.sqrt(theirs.var(axis=0, ddof=1) + ours.var(axis=0, ddof=1)) / np.sqrt(8)
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) <= 4 * spread + 1e-9).all()


def _correlation(noise):
    return np.mean(noise[..., 1:] * noise[..., :-1]) / noise.var()


def _facts(signal, regions, kinds, events):
    facts = [signal.mean(), signal.mean(axis=0).std(), signal.std(axis=0).mean(), len(kinds)]
    for kind in ("soma", "bouton"):
        own = [index for index, name in enumerate(kinds) if name == kind]
        traces = np.stack([signal[:, regions[index]].mean(axis=1) for index in own])
        facts += [len(own), traces.mean(), traces.std(axis=1).mean(), regions[own].mean()]
        facts += [np.mean([len(events[index][0]) for index in own])]
    return facts


def _volume_facts(volume):
    steps = [np.abs(np.diff(volume, axis=axis)).mean() for axis in range(3)]
    return [volume.mean(), np.median(volume), volume.std(), *steps]
