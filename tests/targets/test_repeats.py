"""Frames that show the same scene: which are found, what a training makes of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.microscope import synthetic
from jaxdenoise.system.errors import ConfigError
from jaxdenoise.targets import patches
from jaxdenoise.targets.repeats import MOST, find_repeats, first_targets, search_repeats
from jaxdenoise.training import scores
from jaxdenoise.training.problem import prepare

KEY, PSF = jax.random.key(0), jd.gaussian_psf(1.0)
GAIN = 8.0  # grey levels a photon
CLEAN = (
    60
    * np.asarray(synthetic.static_scene(KEY, frames=1, shape=(128, 128), psf_sigma=1.2).clean)
    / 1000
)
TINY = TrainConfig(
    network=UNetConfig(depth=2, filters=8),
    patch_size=32,
    batch_size=8,
    steps_per_epoch=25,
    epochs=8,
    learning_rate=3e-3,
)


def photons(seed, *scenes):
    """Each scene with shot noise of its own, (N, H, W) float32."""
    rng = np.random.default_rng(seed)
    return np.stack([GAIN * rng.poisson(np.maximum(scene, 0) / GAIN) for scene in scenes]).astype(
        np.float32
    )


def pairs(frames):
    """The pairs (a, b), a < b, that are found."""
    found = find_repeats(jnp.asarray(frames))
    if found is None:
        return set()
    return {
        (n, int(found.frame[n, k]))
        for n in range(len(frames))
        for k in range(int(found.counts[n]))
        if n < found.frame[n, k]
    }


# which frames show the same scene


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_frames_of_one_scene_are_found_at_any_scale(scale):
    assert pairs(scale * photons(0, CLEAN, CLEAN, CLEAN)) == {(0, 1), (0, 2), (1, 2)}


def test_of_many_the_nearest_are_found():
    found = find_repeats(jnp.asarray(photons(0, *[CLEAN] * 8)))
    assert sorted(found.frame[4, : found.counts[4]].tolist()) == [2, 3, 5, 6]
    assert found.frame.shape == (8, MOST)
    assert found.counts.min() >= 2


def test_noise_that_neighbours_share_is_no_obstacle():
    shared = [
        CLEAN
        + 4 * ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=CLEAN.shape), 0.7) * 3
        for seed in (0, 1)
    ]
    assert pairs(np.float32(shared)) == {(0, 1)}


def test_bleaching_and_background_are_allowed_for():
    frames = photons(0, CLEAN, 0.8 * CLEAN)
    found = find_repeats(jnp.asarray(frames + np.float32([0, 30])[:, None, None]))
    targets, same = first_targets(jnp.asarray(frames + np.float32([0, 30])[:, None, None]), found)
    assert found.gain[0, 0] == pytest.approx(1 / 0.8, rel=0.03)
    assert found.gain[1, 0] == pytest.approx(0.8, rel=0.03)
    assert targets[0].mean() == pytest.approx(frames[0].mean(), rel=1e-3)
    assert same.mean() > 0.99
    bright = np.quantile(CLEAN, 0.95) < CLEAN
    assert targets[0][bright].mean() == pytest.approx(CLEAN[bright].mean(), rel=0.03)


def weak_captures(contrast, count=3):
    """A scene of weak contrast under noise that neighbours share (0.6 to the next pixel)."""
    rng, scene = np.random.default_rng(3), contrast * CLEAN / CLEAN.std()
    noise = [ndimage.gaussian_filter(rng.normal(size=CLEAN.shape), 0.72) for _ in range(count)]
    return np.float32([scene + error / error.std() for error in noise])


def test_contrast_does_not_matter():
    for contrast in (4.0, 0.7):
        assert pairs(weak_captures(contrast)) == {(0, 1), (0, 2), (1, 2)}
    first, second = (ndimage.gaussian_filter(x, 2) for x in weak_captures(0.7, 2))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.9  # of what the noise leaves


def test_the_evidence_is_said():
    found = search_repeats(jnp.asarray(photons(0, CLEAN, CLEAN)))
    assert found.text.startswith("frames: 2 of 2 show one scene again (correlation without noise ")
    moved = ndimage.shift(CLEAN, (1, 0), order=3, mode="nearest")
    none = search_repeats(jnp.asarray(photons(0, CLEAN, moved)))
    assert none.repeats is None
    assert "the scene moves by 1.0 pixels" in none.text


def test_two_like_frames_of_a_movie_are_no_repeats():
    """Cells flash by less than a pixel's noise, hardly two of 40 frames differ."""
    rng, y, x = np.random.default_rng(4), *np.mgrid[:128, :128]
    signals = np.repeat(CLEAN[None], 40, axis=0)
    for _ in range(8):
        cell = np.hypot(*(a - rng.uniform(10, 118) for a in (y, x))) < 5
        time = np.arange(40) - rng.integers(2, 30)
        signals += 20 * cell * np.where(time >= 0, np.exp(-time / 8), 0)[:, None, None]
    frames = photons(1, *signals)
    assert np.sqrt(GAIN * CLEAN.mean()) > 10
    assert pairs(frames) == set()


def test_slow_drift_adds_up():
    shifts = 0.1 * np.arange(8)
    moved = [ndimage.shift(CLEAN, (s, 0), order=3, mode="nearest") for s in shifts]
    assert pairs(photons(0, *moved)) == set()


def test_hot_pixels_differ_and_do_no_more():
    frames = photons(0, CLEAN, CLEAN)
    frames[0, 40, 50] += 1000 * GAIN
    found = find_repeats(jnp.asarray(frames))
    assert found.differs[0, 40, 50] & 1
    assert np.mean(found.differs[0] > 0) < 0.02


def test_invalid_pixels_count_nowhere():
    frames, valid = photons(0, CLEAN, CLEAN), np.ones((2, 128, 128), bool)
    valid[0, :40], valid[1, :, 100:] = False, False
    frames[~valid] = 1e4
    assert pairs(frames) == set()
    found = find_repeats(jnp.asarray(frames), valid=jnp.asarray(valid))
    differs = np.asarray(found.differs)
    assert found.counts.tolist() == [1, 1]
    assert (differs[~valid] == 2**MOST - 1).all()
    assert (differs[:, :40] & 1).all()
    assert (differs[:, :, 100:] & 1).all()
    assert (differs[:, 40:, :100] & 1).mean() < 0.02


def test_another_scene_is_another_scene():
    others = [
        60
        * np.asarray(synthetic.static_scene(jax.random.key(k), frames=1, shape=(128, 128)).clean)
        / 1000
        for k in (1, 2)
    ]
    assert pairs(photons(0, CLEAN, *others)) == set()


@pytest.mark.parametrize(("shift", "same"), [(0.1, True), (0.5, False), (1.0, False), (5.0, False)])
def test_drift_of_half_a_pixel_is_noticed(shift, same):
    moved = ndimage.shift(CLEAN, (shift, 0), order=3, mode="nearest")
    assert pairs(photons(0, CLEAN, moved)) == ({(0, 1)} if same else set())


def test_what_moves_by_itself_is_left_out():
    moved = CLEAN.copy()
    moved[60:64, 60:64] += 2 * CLEAN.max()
    found = find_repeats(jnp.asarray(photons(0, CLEAN, moved)))
    differs = np.asarray(found.differs[0])
    assert differs[60:64, 60:64].all()
    assert differs.mean() < 0.01
    assert (
        pairs(photons(0, CLEAN, CLEAN + np.roll(CLEAN, 40, axis=0) * (np.arange(128) > 80)))
        == set()
    )  # a third of the image


def test_copies_and_fixed_patterns_are_no_repeats():
    frames, pattern = (
        photons(0, CLEAN, CLEAN),
        np.random.default_rng(1).normal(size=CLEAN.shape).astype(np.float32),
    )
    assert pairs(frames[[0, 0]]) == set()
    assert pairs(frames + 0.6 * np.sqrt(GAIN * CLEAN.mean()) * pattern) == set()


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((3, 64, 64)),
        np.ones((1, 64, 64)),
        np.random.default_rng(0).normal(size=(3, 16, 64)),
    ],
)
def test_nothing_is_found_where_nothing_can_be(frames):
    assert find_repeats(jnp.asarray(frames, jnp.float32)) is None


def test_noise_alone_shows_no_scene():
    noise = np.random.default_rng(0).normal(size=(3, *CLEAN.shape)).astype(np.float32)
    assert pairs(noise) == set()


# what a training makes of them


def problem_of(frames, **changes):
    config = dataclasses.replace(TINY, **changes)
    plan = prepare(KEY, frames, psf=PSF, config=config, masks=3)
    return plan.problem, plan.settings


@functools.partial(jax.jit, static_argnums=0)
def drawn(make, frames, held_out, repeats):
    options = patches.PatchOptions(patch_size=32, box=6, radius=2)
    return make(KEY, frames, held_out, None, repeats, options=options, batch_size=64)


@pytest.mark.parametrize("make", [patches.training_batch, patches.validation_batch])
def test_targets_are_another_frames_pixels_and_never_held_out_ones(make):
    frames = photons(0, CLEAN, CLEAN, CLEAN)
    problem, config = problem_of(frames, background=0.0)
    assert config.targets == "repeats"
    place = np.arange(frames.size, dtype=np.float32).reshape(
        frames.shape
    )  # each value says where it is
    plain = problem.repeats._replace(gain=jnp.ones((3, MOST)), offset=jnp.zeros((3, MOST)))
    batch = jax.tree.map(np.asarray, drawn(make, jnp.asarray(place), problem.held_out, plain))
    held_out = np.asarray(problem.held_out).ravel()[batch.noisy[batch.scored].astype(int)]
    assert set(held_out) == ({0} if make is patches.training_batch else {1})
    from_frame, seen = batch.noisy // CLEAN.size, batch.visible // CLEAN.size
    assert (from_frame != seen).all()
    np.testing.assert_array_equal(batch.noisy % CLEAN.size, batch.visible % CLEAN.size)
    taken = {(int(a[0, 0]), int(b[0, 0])) for a, b in zip(from_frame, seen, strict=True)}
    assert taken == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_a_frame_without_repeats_keeps_its_blind_spots():
    other = (
        60
        * np.asarray(synthetic.static_scene(jax.random.key(5), frames=1, shape=(128, 128)).clean)
        / 1000
    )
    problem, _ = problem_of(photons(0, CLEAN, CLEAN, other))
    assert problem.repeats.counts.tolist() == [1, 1, 0]
    batch = drawn(patches.training_batch, problem.frames, problem.held_out, problem.repeats)
    shares = np.asarray(batch.scored).mean(axis=(1, 2))
    blind = shares < 1 / 20
    assert 0.15 < blind.mean() < 0.55
    assert shares[~blind].min() > 0.8
    changed = np.asarray(batch.visible != batch.noisy)[blind]
    assert not changed[~np.asarray(batch.scored)[blind]].any()
    assert changed.mean() > 0.01


@pytest.mark.slow
def test_other_frames_teach_more_than_blind_spots():
    frames = photons(3, *[CLEAN] * 4)
    psnr = {}
    for targets in ("own", "repeats"):
        denoiser = jd.fit(KEY, frames, psf=PSF, config=dataclasses.replace(TINY, targets=targets))
        assert denoiser.config.targets == targets
        denoised = jd.denoise(denoiser, frames).denoised
        psnr[targets] = np.mean(
            [jd.psnr(CLEAN, image, data_range=CLEAN.max()) for image in denoised]
        )
    assert psnr["repeats"] > psnr["own"] + 0.2


@pytest.mark.parametrize("count", [4, 12], ids=["pixels held out", "frames held out"])
def test_the_score_is_the_error_against_another_frame(count):
    problem, config = problem_of(photons(0, *[CLEAN] * count))
    assert (problem.held_out is None) == (count == 12)
    covering = scores.covering(KEY, problem, config)
    assert not np.asarray(covering.noise).any()
    error = np.asarray(covering.noisy - covering.visible)[np.asarray(covering.scored)]
    assert np.mean(error**2) == pytest.approx(2 * GAIN * CLEAN.mean(), rel=0.1)  # the noise of both


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="targets must be 'auto', 'own' or 'repeats'"):
        TrainConfig(targets="others")
    with pytest.raises(
        ConfigError,
        match="targets must be 'auto' or 'own' for a network that sees neighbouring frames",
    ):
        TrainConfig(targets="repeats", network=UNetConfig(filters=32, neighbours=1))
    with pytest.raises(ValueError, match="no two of the frames show the same scene"):
        problem_of(photons(0, CLEAN), targets="repeats")
    assert problem_of(photons(0, CLEAN))[1].targets == "own"
    assert TrainConfig.paper().targets == "own"
