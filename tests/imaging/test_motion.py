"""Drift against known shifts, moved images against SciPy, agreement against its statistics."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxdenoise.imaging import motion, registration
from jaxdenoise.imaging.drift import measure_drift
from jaxdenoise.imaging.motion import shifted_patch, valid_after_shift
from jaxdenoise.imaging.tracks import smoothed

# Compiled as a whole, instead of operation by operation.
shift_image = jax.jit(motion.shift_image)
local_agreement = jax.jit(motion.local_agreement, static_argnames="sigma")


def scene(rng, shape=(80, 80), psf=1.5, spots=0.02):
    image = ndimage.gaussian_filter(1.0 * (rng.uniform(size=shape) < spots), psf)
    return (image - image.min()) / image.std()


def movie(rng, shifts, size=64, contrast=1.0, psf=1.5):
    """Frames of a scene that lies at known places, and white noise of standard deviation 1."""
    margin = int(np.abs(shifts).max()) + 5
    wide = contrast * scene(rng, (size + 2 * margin,) * 2, psf)
    inner = slice(margin, margin + size)
    frames = [ndimage.shift(wide, shift, order=5, mode="nearest")[inner, inner] for shift in shifts]
    return np.float32(frames + rng.normal(size=(len(shifts), size, size)))


def error(drift, shifts):
    assert drift.found, drift.text
    assert np.abs(drift.shifts.mean(axis=0)).max() < 1e-4
    return np.sqrt(np.mean((drift.shifts - (shifts - shifts.mean(axis=0))) ** 2))


def test_jitter_is_measured_to_its_error():
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.7, (40, 2))
    drift = measure_drift(movie(rng, shifts))
    assert error(drift, shifts) == pytest.approx(np.median(drift.errors), rel=0.3)
    assert np.median(drift.errors) < 0.12
    np.testing.assert_array_equal(drift.between(3, 1), drift.shifts[3] - drift.shifts[1])


def test_a_long_way_is_followed():
    rng = np.random.default_rng(1)
    shifts = np.linspace((0, 0), (-24, 12), 40) + rng.normal(0, 0.3, (40, 2))
    drift = measure_drift(movie(rng, shifts))
    assert error(drift, shifts) < 0.15


def test_two_frames_suffice():
    rng = np.random.default_rng(2)
    shifts = np.array([[0.0, 0.0], [1.3, -2.6]])
    drift = measure_drift(movie(rng, shifts, size=96, contrast=8))
    assert error(drift, shifts) < 0.1


def test_what_does_not_move_with_the_scene_moves_no_frame():
    """Hot pixels, offsets of rows and columns, brightness, a cell that lights up, a gap."""
    rng = np.random.default_rng(3)
    shifts = np.cumsum(rng.normal(0, 0.4, (30, 2)), axis=0)
    frames = movie(rng, shifts, contrast=2)
    frames *= np.linspace(1, 0.5, 30, dtype=np.float32)[:, None, None]
    y, x = np.mgrid[:64, :64]
    frames[10:14] += 20 * (np.hypot(y - 40, x - 20) < 5)
    frames += rng.normal(0, 2, (30, 64, 1)) + rng.normal(0, 2, 64)
    frames[:, rng.integers(0, 64, 5), rng.integers(0, 64, 5)] += 1000
    frames[:, :10, 40:] = np.nan
    drift = measure_drift(frames)
    assert error(drift, shifts) < 0.15


@pytest.mark.parametrize("contrast", [0.25, 1.0, 4.0])
def test_still_scenes_are_still(contrast):
    rng = np.random.default_rng(4)
    frames = movie(rng, np.zeros((30, 2)), contrast=contrast)
    y, x = np.mgrid[:64, :64]
    for n, place in enumerate(rng.uniform(5, 60, (30, 2))):  # cells that light up
        near = np.hypot(y - place[0], x - place[1]) < 4
        frames[n : n + 3] += 3 * contrast * near
    drift = measure_drift(frames)
    assert not drift.found
    assert not drift.shifts.any()
    assert not drift.errors.any()


@pytest.mark.parametrize("drawn", [2, 3, 10])
def test_noise_and_frames_of_different_scenes_have_no_drift(drawn):
    rng = np.random.default_rng(drawn)
    noise = np.float32(rng.normal(size=(drawn, 64, 64)))
    assert not measure_drift(noise).found
    different = [10 * scene(rng, (64, 64)) for _ in noise] + noise
    assert not measure_drift(different).shifts.any()


def test_only_one_half_that_moves_is_no_drift():
    rng = np.random.default_rng(5)
    shifts = rng.normal(0, 1, (30, 2))
    frames = movie(rng, shifts, contrast=2)
    board = np.add.outer(np.arange(64) // 16, np.arange(64) // 16) % 2 > 0
    frames[:, board] = movie(rng, 0 * shifts, contrast=2)[:, board]
    assert not measure_drift(frames).found


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 64, 64), np.float32),
        np.ones((1, 64, 64), np.float32),
        np.full((5, 64, 64), 7, np.uint16),
        np.full((5, 64, 64), np.nan, np.float32),
        np.random.default_rng(0).normal(size=(4, 20, 200)).astype(np.float32),
        np.float32([np.random.default_rng(0).normal(size=(64, 64))] * 6),
    ],
    ids=["none", "one", "constant", "empty", "small", "equal"],
)
def test_what_shows_nothing_has_no_drift_and_no_error(frames):
    drift = measure_drift(frames)
    assert drift.shifts.shape == (len(frames), 2)
    assert not drift.shifts.any()


def test_frames_without_data_get_a_place_between_and_no_error():
    rng = np.random.default_rng(6)
    shifts = np.cumsum(rng.normal(0, 0.4, (20, 2)), axis=0)
    frames = movie(rng, shifts, contrast=3)
    frames[7] = np.nan
    drift = measure_drift(frames)
    assert drift.found
    assert np.isinf(drift.errors[7]).all()
    assert np.abs(drift.shifts[7] - drift.shifts[[6, 8]].mean(axis=0)).max() < 0.5


def test_smoothing_follows_the_errors():
    rng = np.random.default_rng(7)
    walk = np.cumsum(rng.normal(0, 0.02, (300, 2)), axis=0)
    noisy = walk + rng.normal(0, 0.3, walk.shape)
    found, errors = smoothed(noisy, np.full(walk.shape, 0.3))
    assert np.std(found - walk) < 0.4 * np.std(noisy - walk)
    assert np.std(found - walk) == pytest.approx(np.median(errors), rel=0.5)
    kept, _ = smoothed(noisy, np.full(walk.shape, 1e-3))
    np.testing.assert_allclose(kept, noisy, atol=1e-3)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-70, 81), (0, 5)])
def test_whole_pixels_are_exact(shift):
    image = np.random.default_rng(0).normal(size=(37, 50)).astype(np.float32)
    expected = ndimage.shift(image, shift, order=0, mode="reflect")
    np.testing.assert_array_equal(shift_image(image, np.float32(shift)), expected)


def test_fractions_are_those_of_scipy():
    rng = np.random.default_rng(1)
    image = scene(rng, (64, 64), psf=1.5)
    for shift in rng.uniform(-5, 5, (5, 2)):
        expected = ndimage.shift(image, shift, order=5, mode="reflect")
        shift = np.float32(shift)
        assert np.abs(shift_image(image, shift) - expected).max() < 0.01 * np.ptp(image)


def test_edges_overshoot_little_and_constants_stay():
    step = np.zeros((40, 40), np.float32)
    step[:, 20:] = 1
    for image, most in ((step, 0.093), (ndimage.gaussian_filter(step, 0.5), 0.013)):
        moved = np.stack([shift_image(image, np.float32([0, d])) for d in np.linspace(0, 1, 11)])
        assert moved.max() < 1 + most
        assert moved.min() > -most
    np.testing.assert_allclose(
        shift_image(np.full((40, 40), 7.0), np.float32([0.3, -0.6])), 7, rtol=1e-6
    )


def test_patches_are_parts_of_the_moved_image():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(40, 50)).astype(np.float32)
    shifts = rng.uniform(-6, 6, (4, 2)).astype(np.float32)
    corners = np.array([[0, 0], [24, 34], [5, 9], [13, 2]])
    cut = jax.jit(jax.vmap(lambda corner, d: shifted_patch(image, corner, 16, d)))
    patches = cut(corners, shifts)
    for patch, (y, x), shift in zip(patches, corners, shifts, strict=True):
        whole = shift_image(image, shift)
        np.testing.assert_allclose(patch, whole[y : y + 16, x : x + 16], atol=1e-6)
    shape = jax.eval_shape(lambda d: shifted_patch(image, (0, 0), (3, 7), d), shifts[0]).shape
    assert shape == (3, 7)


def test_the_shift_can_be_found_by_its_gradient():
    image = jnp.asarray(scene(np.random.default_rng(3), (48, 48), psf=2))

    @jax.jit
    def loss(shift):
        return jnp.mean((motion.shift_image(image, shift) - image) ** 2)

    place, step = np.float32([0.3, -0.4]), np.float32(0.01)
    slope = jax.jit(jax.grad(loss))(place)
    for axis in range(2):
        by = step * np.eye(2, dtype=np.float32)[axis]
        numeric = (loss(place + by) - loss(place - by)) / (2 * step)
        assert slope[axis] == pytest.approx(float(numeric), rel=0.02)


def test_what_comes_from_outside_is_told():
    image = np.arange(12.0 * 9, dtype=np.float32).reshape(12, 9)
    shift = np.float32([2.5, -1])
    valid = valid_after_shift(image.shape, shift)
    assert valid.sum() == 9 * 8
    np.testing.assert_allclose(  # inside, a plane stays a plane, away from the border's reflection
        np.asarray(shift_image(image, shift))[5:-1, :-3],
        (image - 2.5 * 9 + 1)[5:-1, :-3],
        rtol=1e-5,
    )
    part = valid_after_shift(image.shape, shift, corner=(1, 4), size=(3, 5))
    np.testing.assert_array_equal(part, valid[1:4, 4:9])


def test_noise_agrees():
    rng = np.random.default_rng(4)
    clean = 5 * scene(rng, (128, 128))
    std = np.sqrt(clean + 1)
    frames = np.float32(clean + std * rng.normal(size=(2, 128, 128)))
    weights = local_agreement(*frames, np.float32(std))
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    assert np.mean(weights < 0.9) < 0.04
    assert np.mean(weights) > 0.985


@pytest.mark.parametrize("brightness", [3.0, 10.0])
def test_what_differs_counts_less(brightness):
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:64, :64]
    moved = [brightness * np.exp(-((y - 32) ** 2 + (x - c) ** 2) / 8) for c in (28, 36)]
    frames = np.float32(moved + rng.normal(size=(2, 64, 64)))
    weights = local_agreement(*frames, 1.0)
    best = 1 / (1 + brightness**2)
    for c in (28, 36):
        assert weights[32, c] < max(5 * best, 0.35)
    assert np.mean(weights[:, :16]) > 0.98
    assert np.isfinite(
        jax.grad(lambda f: local_agreement(f, frames[1], 1.0).sum())(frames[0])
    ).all()


def test_some_of_many_frames_tell_that_there_is_no_drift(monkeypatch):
    asked = Counter()

    def counting(frame, binning, prepare=registration.prepare):
        asked[frame.tobytes()] += 1
        return prepare(frame, binning)

    monkeypatch.setattr(registration, "prepare", counting)
    rng = np.random.default_rng(8)
    still = movie(rng, np.zeros((99, 2)))
    assert not measure_drift(still).found
    assert len(asked) == 33
    assert set(asked.values()) == {1}
    asked.clear()
    breathing = np.sin(2 * np.pi * np.arange(99) / 3)[:, None] * (0.8, 0.4)
    assert measure_drift(movie(rng, breathing)).found
    assert len(asked) == 99
