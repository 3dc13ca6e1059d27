"""Many PSFs at once: the same models one by one and together, one compilation, paired scores, and the choice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxdenoise import scores, sweeps, training
from jaxdenoise.psf import gaussian_psf

KEY = jax.random.key(0)
SIGMAS = (0.0, 1.0, 2.0)
PSFS = [gaussian_psf(sigma) for sigma in SIGMAS]


@pytest.fixture(scope="module")
def tiny_config(tiny_config):
    """In float32: where sums end on either side of a rounding to bfloat16, trainings part by more than their order explains."""
    return dataclasses.replace(tiny_config, precision="float32")


@pytest.fixture(scope="module")
def looped(scene, tiny_config):
    return sweeps.sweep(KEY, scene.noisy, psfs=PSFS, seeds=2, config=tiny_config, together=False)


@pytest.fixture(scope="module")
def together(scene, tiny_config):
    return sweeps.sweep(KEY, scene.noisy, psfs=PSFS, seeds=2, config=tiny_config, together=True)


# --- training ----------------------------------------------------------------------------------------------------------------------------


def test_looped_and_vmapped_training_agree_after_twenty_steps(looped, together, scene, tiny_config):
    assert tiny_config.epochs * tiny_config.steps_per_epoch == 20
    for a, b in zip(looped.models, together.models, strict=True):
        assert (a.psf, a.seed, a.epochs) == (b.psf, b.seed, 4)
        np.testing.assert_allclose(a.score, b.score, rtol=1e-4)
        # As a whole: Adam moves a single weight whose gradient is nothing but rounding as far as any other.
        x, y = (training.network_output(m.denoiser.last, scene.noisy, m.denoiser.scale, tiny_config) for m in (a, b))
        assert np.linalg.norm(x - y) < 1e-4 * np.linalg.norm(x)
        x, y = (ravel_pytree(m.denoiser.last)[0] for m in (a, b))
        assert np.linalg.norm(x - y) < 3e-4 * np.linalg.norm(x)  # measured 8e-5 at worst, the rest below 1e-6: room for other processors
        for name, values in a.denoiser.history.items():
            np.testing.assert_allclose(values, b.denoiser.history[name], rtol=1e-3, err_msg=name)
    assert looped.chosen == together.chosen


def test_one_compilation_serves_all_psfs(scene, tiny_config):
    config = dataclasses.replace(tiny_config, steps_per_epoch=2, batch_size=3)  # of its own, so that nothing is compiled yet
    programs = (training._add_gradients, training._apply_gradients, training._validation_losses, scores._errors)
    before = [program._cache_size() for program in programs]
    sweeps.sweep(KEY, scene.noisy, psfs=[gaussian_psf(sigma) for sigma in sweeps.SIGMAS], config=config, together=False)
    assert [program._cache_size() - count for program, count in zip(programs, before, strict=True)] == [1, 1, 1, 1]
    programs = (sweeps._steps_together, sweeps._validation_together, scores._errors_together)
    before = [program._cache_size() for program in programs]
    sweeps.sweep(KEY, scene.noisy, psfs=PSFS, config=config, together=True)
    sweeps.sweep(KEY, scene.noisy, psfs=[gaussian_psf(sigma, size=17) for sigma in (0.3, 0.6, 0.9)], config=config, together=True)
    assert [program._cache_size() - count for program, count in zip(programs, before, strict=True)] == [1, 1, 1]


def test_models_of_a_seed_share_everything_but_the_psf(looped):
    firsts = [model.denoiser.history for model in looped.models if model.seed == 0]
    others = [model.denoiser.history for model in looped.models if model.seed == 1]
    assert len({history["train_loss"][0] for history in firsts + others}) == 6
    # The same weights see the same blind spots at the start, so the losses of a seed are alike and those of two seeds are not.
    spread = np.ptp([history["validation_loss"][0] for history in firsts[1:]])
    assert spread < abs(firsts[1]["validation_loss"][0] - others[1]["validation_loss"][0])


def test_without_more_held_out_pixels_a_model_is_fits(scene, tiny_config, monkeypatch):
    monkeypatch.setattr(scores, "MASKS", 1)
    found = sweeps.sweep(KEY, scene.noisy, psfs=[PSFS[1]], config=tiny_config, together=False)
    fitted = training.fit(KEY, scene.noisy, psf=PSFS[1], config=tiny_config)
    jax.tree.map(np.testing.assert_array_equal, found.denoiser, fitted)


def test_the_psf_comes_back_without_its_padding(looped):
    for model in looped.models:
        np.testing.assert_allclose(model.denoiser.psf, PSFS[model.psf], atol=1e-7)


def test_halving_drops_the_worst_and_trains_the_rest_to_the_end(scene, tiny_config, looped):
    calls, stages = [], []
    found = sweeps.sweep(
        KEY,
        scene.noisy,
        psfs=PSFS,
        config=tiny_config,
        halving=((0.25, 2), (0.5, 1)),
        on_epoch=lambda psf, seed, snapshot, left: calls.append((psf, len(snapshot.history), left)),
        on_stage=lambda models, kept: stages.append(([model.epochs for model in models], kept)),
    )
    assert sorted(model.epochs for model in found.models) == [1, 2, 4]
    assert found.models[found.chosen].epochs == 4
    assert [call[2] for call in calls] == [3] * 3 + [2] * 2 + [1] * 2
    assert [len(kept) for _, kept in stages] == [2, 1, 1]
    # What is dropped is the beginning of what is not.
    whole = [model for model in looped.models if model.seed == 0]
    for model, other in zip(found.models, whole, strict=True):
        np.testing.assert_array_equal(model.denoiser.history["train_loss"], other.denoiser.history["train_loss"][: model.epochs])
    first = [model.errors[1].mean() for model in found.models]
    assert found.models[int(np.argmax(first))].epochs == 1


def test_resuming_the_chosen_model_is_bit_identical(scene, tiny_config):
    saved = []

    def keep(psf, seed, snapshot, left):
        if left == 1:
            saved.append((psf, jax.tree.map(jnp.copy, snapshot)))

    options = {"psfs": PSFS, "config": tiny_config, "halving": ((0.25, 2), (0.5, 1))}
    whole = sweeps.sweep(KEY, scene.noisy, on_epoch=keep, **options)
    resumed = sweeps.sweep(KEY, scene.noisy, resume=saved[0], **options)
    assert resumed.chosen == whole.chosen == saved[0][0]
    jax.tree.map(np.testing.assert_array_equal, resumed.denoiser, whole.denoiser)


def test_correlated_noise_is_warned_of(tiny_config):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 65, 65))
    noise = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1]
    config = dataclasses.replace(tiny_config, epochs=1, steps_per_epoch=1)
    with pytest.warns(UserWarning, match=r"lag-1 autocorrelation 0\.\d\d"):
        found = sweeps.sweep(KEY, 100 + 10 * noise, psfs=PSFS[:1], config=config)
    assert found.correlation > 0.12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"psfs": []}, "at least one PSF and one seed, got 0 and 1"),
        ({"psfs": PSFS, "seeds": 0}, "got 3 and 0"),
        ({"psfs": PSFS, "halving": ((0.5, 2), (0.25, 1))}, "rising share"),
        ({"psfs": PSFS, "halving": ((0.5, 0),)}, "falling number"),
        ({"psfs": PSFS, "halving": ((1.0, 1),)}, "between 0 and 1"),
        ({"psfs": [np.ones((2, 2))]}, "odd"),
    ],
)
def test_what_cannot_be_swept(scene, tiny_config, options, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(KEY, scene.noisy, config=tiny_config, **options)
