import dataclasses

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.prediction import ensemble, forward
from jaxdenoise.runs.layout import HISTORY_COLUMNS
from jaxdenoise.runs.models import grouped, load_all, remove_others, those_in


@pytest.fixture(scope="module")
def models(make_denoiser):
    return [make_denoiser(depth=2, seed=seed) for seed in range(3)]


def test_the_mean_and_the_spread_of_the_members(models, scene):
    own = {"keep_light": False}
    alone = np.stack([jd.denoise(model, scene.noisy, **own).denoised for model in models])
    together = ensemble.denoise_ensemble(models, scene.noisy, **own)
    np.testing.assert_allclose(together.denoised, alone.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        together.disagreement, alone.std(axis=0, ddof=1), rtol=1e-3, atol=1e-3
    )
    assert together.deconvolved.shape == scene.noisy.shape


def test_one_member_is_itself(models, scene):
    image = np.asarray(scene.noisy[0])
    alone, together = jd.denoise(models[0], image), ensemble.denoise_ensemble(models[:1], image)
    np.testing.assert_array_equal(together.denoised, alone.denoised)
    np.testing.assert_array_equal(together.deconvolved, alone.deconvolved)
    assert together.disagreement.shape == image.shape
    assert not together.disagreement.any()


def test_tiles_change_nothing(models, scene):
    whole, tiled = (
        ensemble.denoise_ensemble(models, scene.noisy, tile_size=size) for size in (None, 80)
    )
    for a, b in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_each_tile_is_told_of_once(models, scene):
    told = []
    ensemble.denoise_ensemble(
        models, scene.noisy, on_tile=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_member_without_memory_gets_smaller_tiles(models, monkeypatch):
    """Its memory runs out in the second frame, when the first is done in whole tiles."""
    stack = np.random.default_rng(0).normal(300, 50, (3, 52, 70)).astype(np.float32)
    whole = ensemble.denoise_ensemble(models, stack, tile_size=100)
    denoise_batch, calls = forward.denoise_batch, []

    def with_little_memory(denoiser, tiles, *args):
        calls.append(tiles.shape[-1])
        if len(calls) > 4 and tiles.shape[-1] > 60:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return denoise_batch(denoiser, tiles, *args)

    monkeypatch.setattr(forward, "denoise_batch", with_little_memory)
    told = []
    with pytest.warns(UserWarning, match="no memory for tiles"):
        tiled = ensemble.denoise_ensemble(
            models, stack, tile_size=100, on_tile=lambda *count: told.append(count)
        )
    assert len(set(calls)) > 1
    assert told == [(n + 1, told[0][1]) for n in range(told[0][1])]
    for a, b in zip(whole, tiled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_members_that_do_not_fit_are_refused(models, make_denoiser, scene):
    with pytest.raises(ValueError, match="at least one model"):
        ensemble.denoise_ensemble([], scene.noisy)
    with pytest.raises(ValueError, match="one network"):
        ensemble.denoise_ensemble([models[0], make_denoiser(depth=2, filters=8)], scene.noisy)


def test_the_difference_is_in_units_of_the_noise():
    rng = np.random.default_rng(0)
    noisy = rng.normal(100, 4, (2, 64, 64)).astype(np.float32)
    flat = np.full(noisy.shape, 100, np.float32)
    np.testing.assert_allclose(
        ensemble.rms_difference_over_noise(flat + 2, flat, noisy), 0.5, rtol=0.05
    )
    assert np.isnan(ensemble.rms_difference_over_noise(flat, flat, flat))


def test_what_belongs_together_is_grouped(models):
    found = grouped({"": models[0], "member-2": models[1], "random-start": models[2]})
    assert found.members == (models[0], models[1])
    assert found.random_start is models[2]
    assert grouped({"": models[0]}) == ((models[0],), None)


def test_members_of_an_earlier_training_go(models, tmp_path):
    kept = dataclasses.replace(models[0], history={name: np.ones(1) for name in HISTORY_COLUMNS})
    for name in ("", "member-2", "member-3", "random-start"):
        jd.save(tmp_path / name, kept)
    (tmp_path / "member-of-the-lab").mkdir()
    assert those_in(tmp_path) == ["", "member-2", "member-3", "random-start"]
    remove_others(tmp_path, ["", "member-2"])
    assert those_in(tmp_path) == ["", "member-2"]
    assert (tmp_path / "member-of-the-lab").is_dir()
    assert len(load_all(tmp_path).members) == 2
