"""Random moving scenes and stacks for training: their form, their variety, and that they repeat."""

import numpy as np
import pytest
from common import moving_scenes
from common.moving_scenes import moving_scene, volume_scene_random
from common.random_traces import transients


@pytest.mark.parametrize(
    ("draw", "shape"),
    [
        (lambda rng: moving_scene(rng, 9, 40), (9, 40, 40)),
        (lambda rng: moving_scene(rng, 1, 24), (1, 24, 24)),
        (lambda rng: volume_scene_random(rng, 7, 40), (7, 40, 40)),
        (lambda rng: volume_scene_random(rng, 1, 24), (1, 24, 24)),
    ],
)
def test_scenes_are_photons_of_mean_one(draw, shape):
    rng = np.random.default_rng(1)
    for scene in (draw(rng) for _ in range(30)):
        assert (scene.shape, scene.dtype) == (shape, np.float32)
        assert scene.min() >= 0
        assert scene.mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("part", moving_scenes._PARTS, ids=lambda part: part.__name__)
def test_every_part_draws_light(part):
    for seed in range(4):
        stage = moving_scenes._Stage(np.random.default_rng(seed), 12, 64, 1.0)
        movie = np.asarray(part(stage))
        assert movie.shape == (12, 64, 64)
        assert np.isfinite(movie).all()
        assert movie.min() >= -1e-3
        assert movie.max() > 0.01


def test_a_seed_gives_one_scene():
    first, again, other = (moving_scene(np.random.default_rng(seed), 6, 32) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_some_scenes_are_still_and_most_move():
    rng = np.random.default_rng(0)
    scenes = [moving_scene(rng, 4, 24) for _ in range(100)]
    assert 5 <= sum(np.ptp(scene, axis=0).max() == 0 for scene in scenes) <= 30
    assert np.mean([scene.max() > 1.3 for scene in scenes]) > 0.8


def test_shifts_move_a_spot_by_what_they_say():
    stage = moving_scenes._Stage(np.random.default_rng(0), 2, 64, 1.0)
    movie = stage.movie()
    movie[:, 32, 32] = 1
    seen = moving_scenes._seen(movie, 1.0, [[0, 0], [1.5, -0.5]])
    y, x = np.mgrid[:40, :40]
    centres = np.array([[(f * y).sum(), (f * x).sum()] / f.sum() for f in seen])
    np.testing.assert_allclose(centres, [[20, 20], [21.5, 19.5]], atol=0.02)


def test_transients_rise_above_rest_and_return():
    found = np.concatenate([transients(np.random.default_rng(k), 40, 300) for k in range(12)])
    assert found.min() >= 0.05
    assert np.quantile(found, 0.5) == pytest.approx(1, abs=0.3)  # most cells rest mostly
    assert np.quantile(found.max(axis=1), 0.8) > 1.3
