"""Local low rank: components come back with their courses, noise does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.imaging.low_rank import local_low_rank, second_differences

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal((60, 40, 44)).astype(np.float32)


def spot(row, column, sigma=2.0):
    y, x = np.mgrid[:40, :44]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2)).astype(np.float32)


def test_nothing_is_left_of_noise():
    signal, follows = local_low_rank(NOISE)
    assert signal.shape == follows.shape == NOISE.shape
    np.testing.assert_array_equal(signal, 0)
    np.testing.assert_array_equal(follows, 0)


def test_a_component_keeps_its_course_and_leaks_into_no_other_frame():
    course = np.zeros(60, np.float32)
    course[[10, 11, 30, 50]] = 12, 6, 12, 12
    component = course[:, None, None] * spot(20, 21)
    found = np.asarray(local_low_rank(NOISE + component)[0])[:, 20, 21]
    assert abs(found[10] / 12 - 1) < 0.2
    assert abs(found[course > 0].mean() / course[course > 0].mean() - 1) < 0.1
    assert abs(found[course == 0]).max() < 1.5
    assert abs(found[[9, 29, 31, 49, 51]].mean()) < 0.5


def test_what_lasts_is_found_below_the_noise_of_single_frames_and_does_not_shrink():
    course = np.zeros(60, np.float32)
    for start in (4, 22, 41):
        course[start : start + 14] += np.exp(-np.arange(14) / 6)
    truth = course[:, None, None] * spot(20, 21, 4.0)
    found = np.mean(
        [
            local_low_rank(1.2 * truth + np.random.default_rng(seed).standard_normal(truth.shape))[
                0
            ]
            for seed in range(6)
        ],
        axis=0,
    )
    size = np.sum(found * truth) / np.sum(truth**2)
    assert abs(size / 1.2 - 1) < 0.15
    # No frame before an onset shows it.
    before = [np.sum(found[n] * spot(20, 21, 4.0)) for n in (3, 21, 40)]
    assert np.mean(before) < 0.1 * 1.2 * np.sum(spot(20, 21, 4.0) ** 2)


def test_most_of_the_noise_is_gone():
    courses = 8 * np.abs(RNG.standard_normal((2, 60))).astype(np.float32)
    truth = sum(
        c[:, None, None] * spot(*at) for c, at in zip(courses, [(9, 9), (28, 30)], strict=True)
    )
    truth = truth - truth.mean(axis=0)
    signal, _ = local_low_rank(NOISE - NOISE.mean(axis=0) + truth)
    assert np.mean((signal - truth) ** 2) < 0.1


def test_how_far_a_pixel_follows_its_own_is_the_derivative():
    course = 10 * np.abs(RNG.standard_normal(60)).astype(np.float32)
    left = jnp.asarray(NOISE + course[:, None, None] * spot(20, 21))
    follows = local_low_rank(left)[1]
    places = [(5, 20, 21), (17, 22, 19), (33, 18, 23), (41, 24, 24)]
    for place in places:
        changed = [local_low_rank(left.at[place].add(sign * 0.5))[0][place] for sign in (-1, 1)]
        assert abs(float(changed[1] - changed[0]) - float(follows[place])) < 0.02
        assert 0 < float(follows[place]) < 0.5


@pytest.mark.parametrize("shape", [(2, 16, 16), (6, 7, 9), (5, 17, 33)])
def test_any_size_and_number_of_frames(shape):
    signal, follows = local_low_rank(RNG.standard_normal(shape).astype(np.float32))
    assert signal.shape == follows.shape == shape
    assert np.isfinite(signal).all()


def test_second_differences_keep_the_noise_and_lose_what_changes_slowly():
    slow = np.linspace(0, 100, 60, dtype=np.float32)[:, None, None]
    found = np.asarray(second_differences(jnp.asarray(NOISE + slow)))
    assert abs(found.std() - 1) < 0.02
    assert second_differences(jnp.asarray(NOISE[:2])).shape == (1, 40, 44)


def test_it_is_compiled_within_other_programs():
    direct = local_low_rank(NOISE[:8])[0]
    np.testing.assert_allclose(jax.jit(lambda x: local_low_rank(x)[0])(NOISE[:8]), direct)
