"""Many PSFs at once: the same models one by one and together, paired scores, and the choice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.training import candidates, scores
from jaxdenoise.training.candidates import Progress
from jaxdenoise.training.epochs import _add_gradients, _apply_gradients, _validation_losses
from jaxdenoise.training.fit import fit
from jaxdenoise.training.halving import HALVING, epochs_in_all
from jaxdenoise.training.sweep import SIGMAS, prepare_sweep, sweep, train_and_choose
from jaxdenoise.training.together import _steps_together, _validation_together, run_epoch_together

KEY = jax.random.key(0)
PSFS = [gaussian_psf(sigma) for sigma in (0.0, 1.0, 2.0)]


@pytest.fixture(scope="module")
def tiny_config(tiny_config):
    """In float32: rounding to bfloat16 would enlarge the differences that orders of sums make."""
    return dataclasses.replace(tiny_config, precision="float32", batch_size=2)


@pytest.fixture(scope="module")
def looped(scene, tiny_config):
    return sweep(KEY, scene.noisy, psfs=PSFS, seeds=2, config=tiny_config, together=False)


@pytest.fixture(scope="module")
def together(scene, tiny_config):
    return sweep(KEY, scene.noisy, psfs=PSFS, seeds=2, config=tiny_config, together=True)


@pytest.mark.slow
def test_looped_and_vmapped_training_agree_after_twenty_steps(looped, together, scene, tiny_config):
    assert tiny_config.epochs * tiny_config.steps_per_epoch == 20
    for a, b in zip(looped.models, together.models, strict=True):
        assert (a.psf_index, a.seed, a.epochs) == (b.psf_index, b.seed, 4)
        np.testing.assert_allclose(a.score, b.score, rtol=1e-4)
        # As a whole: Adam moves a single weight whose gradient is nothing but rounding as far as
        # any other.
        x, y = (
            network_output(m.denoiser.last, scene.noisy, m.denoiser.scale, m.denoiser.config)
            for m in (a, b)
        )
        assert np.linalg.norm(x - y) < 1e-4 * np.linalg.norm(x)
        x, y = (ravel_pytree(m.denoiser.last)[0] for m in (a, b))
        assert np.linalg.norm(x - y) < 3e-4 * np.linalg.norm(
            x
        )  # measured 8e-5 at worst, the rest below 1e-6: room for other processors
        for name, values in a.denoiser.history.items():
            np.testing.assert_allclose(values, b.denoiser.history[name], rtol=1e-3, err_msg=name)
    assert looped.chosen == together.chosen


@pytest.mark.slow
def test_one_compilation_serves_all_psfs(scene, tiny_config):
    # Settings of its own, so that nothing is compiled in this process yet.
    config = dataclasses.replace(tiny_config, patience=11)
    programs = (_add_gradients, _apply_gradients, _validation_losses, scores._errors)
    before = [program._cache_size() for program in programs]
    once = {"config": config, "halving": ((0.25, 1),)}
    psfs = [gaussian_psf(sigma) for sigma in SIGMAS]
    sweep(KEY, scene.noisy, psfs=psfs, together=False, **once)
    assert [
        program._cache_size() - count for program, count in zip(programs, before, strict=True)
    ] == [1, 1, 1, 1]
    programs = (_steps_together, _validation_together, scores._errors_together)
    before = [program._cache_size() for program in programs]
    for psfs in (PSFS, [gaussian_psf(sigma, size=17) for sigma in (0.3, 0.6, 0.9)]):
        sweep(KEY, scene.noisy, psfs=psfs, seeds=2, config=config, together=True)
    assert [
        program._cache_size() - count for program, count in zip(programs, before, strict=True)
    ] == [1, 1, 1]


def test_models_of_a_seed_share_everything_but_the_psf(looped):
    firsts = [model.denoiser.history for model in looped.models if model.seed == 0]
    others = [model.denoiser.history for model in looped.models if model.seed == 1]
    assert len({history["train_loss"][0] for history in firsts + others}) == 6
    # The same weights see the same blind spots at the start, so the losses of a seed are alike and
    # those of two seeds are not.
    spread = np.ptp([history["validation_loss"][0] for history in firsts[1:]])
    assert spread < abs(firsts[1]["validation_loss"][0] - others[1]["validation_loss"][0])


def test_without_more_held_out_pixels_a_model_is_fits(scene, tiny_config, monkeypatch):
    monkeypatch.setattr(scores, "MASKS", 1)
    found = sweep(KEY, scene.noisy, psfs=[PSFS[2]], config=tiny_config, together=False)
    fitted = fit(KEY, scene.noisy, psf=PSFS[2], config=tiny_config)
    jax.tree.map(np.testing.assert_array_equal, found.denoiser, fitted)


def test_the_psf_comes_back_without_its_padding(looped):
    for model in looped.models:
        np.testing.assert_allclose(model.denoiser.psf, PSFS[model.psf_index], atol=1e-7)


def test_halving_drops_the_worst_and_trains_the_rest_to_the_end(scene, tiny_config, looped):
    calls, stages = [], []
    found = sweep(
        KEY,
        scene.noisy,
        psfs=PSFS,
        config=tiny_config,
        halving=((0.25, 2), (0.5, 1)),
        on_epoch=lambda snapshots: calls.extend(
            (psf, len(snapshot.history)) for psf, _, snapshot in snapshots
        ),
        on_stage=lambda models, kept: stages.append(([model.epochs for model in models], kept)),
    )
    assert sorted(model.epochs for model in found.models) == [1, 2, 4]
    assert found.models[found.chosen].epochs == 4
    kept = [psfs for _, psfs in stages]
    assert calls == [
        (0, 1),
        (1, 1),
        (2, 1),
        *((psf, 2) for psf in kept[0]),
        *((kept[1][0], epoch) for epoch in (3, 4)),
    ]
    assert [len(kept) for _, kept in stages] == [2, 1, 1]
    # What is dropped is the beginning of what is not.
    whole = [model for model in looped.models if model.seed == 0]
    for model, other in zip(found.models, whole, strict=True):
        np.testing.assert_array_equal(
            model.denoiser.history["train_loss"],
            other.denoiser.history["train_loss"][: model.epochs],
        )
    first = [model.errors[1].mean() for model in found.models]
    assert found.models[int(np.argmax(first))].epochs == 1


HALVED = {"psfs": PSFS, "halving": ((0.25, 2), (0.5, 1))}


@pytest.fixture(scope="module")
def watched(scene, tiny_config):
    """A sweep, its states after each epoch and each scoring, and which PSFs went on."""
    snapshots, errors, saved, reported = {}, {}, [], []

    def save():
        progress = {
            (psf, 0): Progress(snapshot, dict(errors.get(psf, {})), 1.0)
            for psf, snapshot in snapshots.items()
        }
        saved.append(progress)

    def on_epoch(found):
        snapshots.update({psf: jax.tree.map(jnp.copy, snapshot) for psf, _, snapshot in found})
        save()

    def on_stage(models, kept):
        errors.update({model.psf_index: model.errors for model in models})
        reported.append(kept)
        save()

    return (
        sweep(KEY, scene.noisy, config=tiny_config, on_epoch=on_epoch, on_stage=on_stage, **HALVED),
        saved,
        reported,
    )


def copied(progress):
    """Since a training uses up its states."""
    return {
        name: one._replace(snapshot=jax.tree.map(jnp.copy, one.snapshot))
        for name, one in progress.items()
    }


RESUMED = [n if n in (1, 6) else pytest.param(n, marks=pytest.mark.robustness) for n in range(10)]


@pytest.mark.parametrize("index", RESUMED)
def test_a_sweep_resumed_anywhere_is_bit_identical(scene, tiny_config, watched, index):
    whole, saved, reported = watched
    assert len(saved) == 10
    progress, again = copied(saved[index]), []
    resumed = sweep(
        KEY,
        scene.noisy,
        config=tiny_config,
        resume=progress,
        on_stage=lambda _, kept: again.append(kept),
        **HALVED,
    )
    assert resumed.chosen == whole.chosen
    for ours, theirs in zip(resumed.models, whole.models, strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours.denoiser, theirs.denoiser)
        assert ours.score == theirs.score
    assert again == reported[-len(again) :]


def test_a_lost_state_is_trained_again(scene, tiny_config, watched):
    whole, saved, _ = watched
    progress = copied(saved[5]) | {(1, 0): Progress(None, saved[5][1, 0].errors)}
    resumed = sweep(KEY, scene.noisy, config=tiny_config, resume=progress, **HALVED)
    jax.tree.map(np.testing.assert_array_equal, resumed.denoiser, whole.denoiser)


def test_a_resume_without_its_scores_is_refused(scene, tiny_config, watched):
    progress = {name: one._replace(errors={}) for name, one in copied(watched[1][-1]).items()}
    with pytest.raises(ValueError, match="lacks errors of epoch 1, which it has passed"):
        sweep(KEY, scene.noisy, config=tiny_config, resume=progress, **HALVED)


@pytest.mark.parametrize("at_once", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_device_without_memory_trains_fewer_models_at_once(
    scene, tiny_config, looped, monkeypatch, at_once
):
    run_together = run_epoch_together

    def refuse(count):
        if count > at_once:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    monkeypatch.setattr(
        candidates,
        "run_epoch_together",
        lambda group, *args: (refuse(len(group)), run_together(group, *args))[1],
    )
    monkeypatch.setattr(
        scores, "_errors_together", lambda params, psfs, *args, **options: refuse(len(psfs))
    )
    with pytest.warns(UserWarning, match="no memory for 6 models at once") as told:
        found = sweep(KEY, scene.noisy, psfs=PSFS, seeds=2, config=tiny_config, together=True)
    counts = [int(str(warning.message).split()[6]) for warning in told]
    assert counts == ([6, 3, 6] if at_once == 1 else [6, 6])  # of the training, then of the score
    for ours, theirs in zip(found.models, looped.models, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=1e-3)


@pytest.mark.slow
def test_correlated_noise_is_warned_of(tiny_config):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 49, 57))
    noise = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1]
    config = dataclasses.replace(tiny_config, targets="own", blind=(0, 0))
    with pytest.warns(UserWarning, match=r"lag-1 autocorrelation 0\.\d\d"):
        found = sweep(KEY, 100 + 10 * noise, psfs=PSFS[2:], config=config)
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
        sweep(KEY, scene.noisy, config=tiny_config, **options)


def test_a_prepared_sweep_is_the_sweep(scene, tiny_config, looped):
    plan = prepare_sweep(KEY, scene.noisy, psfs=PSFS, config=tiny_config)
    found = train_and_choose(KEY, plan, psfs=PSFS, seeds=2)
    for ours, theirs in zip(found.models, looped.models, strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours.denoiser, theirs.denoiser)


def test_halving_seven_candidates_takes_two_trainings():
    assert epochs_in_all((), 100, 7) == 700
    assert epochs_in_all(HALVING, 100, 7) == 195
