import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.training import fit as fit_module
from jaxdenoise.training.fit import _step_by_patches, fit, is_chosen, start
from jaxdenoise.training.problem import estimate_background, prepare
from jaxdenoise.training.step import learning_rate, train_step, validation_losses

KEY = jax.random.key(0)
PSF = gaussian_psf(1.0)


def change(config, **changes):
    return dataclasses.replace(config, **changes)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def psnr(truth, images):
    return 10 * np.log10((truth.max() - truth.min()) ** 2 / np.mean((images - truth) ** 2))


@pytest.fixture(scope="module")
def trained(scene, tiny_config):
    snapshots = []
    keep = lambda snapshot: snapshots.append(jax.tree.map(np.array, snapshot))  # noqa: E731
    denoiser = fit(KEY, scene.noisy, psf=PSF, config=tiny_config, on_epoch=keep)
    return denoiser, snapshots


def test_learns_to_denoise(scene, tiny_config):
    config = change(
        tiny_config,
        epochs=6,
        steps_per_epoch=25,
        network=UNetConfig(depth=2, filters=8),
        learning_rate=3e-3,
    )
    denoiser = fit(KEY, scene.noisy, psf=PSF, config=config)
    assert denoiser.history["validation_loss"].min() < denoiser.history["validation_loss"][0]
    denoised = denoise(denoiser, scene.noisy).denoised
    assert (
        psnr(np.asarray(scene.clean), denoised)
        > psnr(np.asarray(scene.clean), np.asarray(scene.noisy)) + 4
    )


def test_same_key_same_model(trained, scene, tiny_config):
    again = fit(KEY, scene.noisy, psf=PSF, config=tiny_config)
    assert_same(trained[0], again)
    other = fit(jax.random.key(1), scene.noisy, psf=PSF, config=tiny_config)
    assert (
        np.abs(other.last["conv_final"]["kernel"] - again.last["conv_final"]["kernel"]).max() > 1e-3
    )


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_resuming_is_bit_identical(scene, tiny_config, schedule):
    config = change(tiny_config, schedule=schedule, patience=1)
    snapshots = []
    copy = lambda snapshot: snapshots.append(jax.tree.map(jnp.copy, snapshot))  # noqa: E731
    whole = fit(KEY, scene.noisy, psf=PSF, config=config, on_epoch=copy)
    resumed = fit(KEY, scene.noisy, psf=PSF, config=config, resume=snapshots[1])
    assert_same(whole, resumed)


def test_best_averaged_and_last_are_told_apart(trained, scene, tiny_config):
    denoiser, snapshots = trained
    chosen = int(np.flatnonzero(denoiser.history["chosen"])[-1])
    assert_same(denoiser.best, snapshots[chosen].state.averaged)
    assert_same(denoiser.averaged, snapshots[-1].state.averaged)
    assert_same(denoiser.last, snapshots[-1].state.params)
    assert (
        np.abs(
            denoiser.averaged["conv_final"]["kernel"] - denoiser.last["conv_final"]["kernel"]
        ).max()
        > 0
    )
    # The validation loss is that of the averaged weights, on patches that never change.
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)
    key = jax.random.fold_in(KEY, 2**31 + 2)
    losses = validation_losses(key, denoiser.best, problem, config=config)
    np.testing.assert_allclose(
        losses.mean(), denoiser.history["validation_loss"][chosen], rtol=1e-5
    )


def test_the_latest_is_chosen_that_validation_does_not_speak_against():
    lowest = np.random.default_rng(0).normal(1, 0.1, 16).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.01, 16).astype(np.float32)
    noise -= noise.mean()
    error = (
        noise.std(ddof=1) / 4
    )  # of the mean of the paired differences; unpaired it would be ten times as much
    assert is_chosen(lowest, np.full(16, np.inf, np.float32), paired=True)
    assert is_chosen(lowest + noise + 0.9 * error, lowest, paired=True)
    assert not is_chosen(lowest + noise + 1.1 * error, lowest, paired=True)
    assert not is_chosen(lowest + noise + 0.9 * error, lowest, paired=False)
    assert is_chosen(lowest - 1e-4, lowest, paired=False)
    assert not is_chosen(lowest[:1] + 1e-4, lowest[:1], paired=True)


def test_without_averaging_the_average_is_the_last(scene, tiny_config):
    denoiser = fit(KEY, scene.noisy, psf=PSF, config=change(tiny_config, averaging=0.0, epochs=2))
    assert_same(denoiser.averaged, denoiser.last)


def test_scanned_steps_equal_single_steps(scene, tiny_config):
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)
    state = start(KEY, config).state
    scanned, terms = fit.take_steps(
        KEY, jax.tree.map(jnp.copy, state), problem, 1.0, config=config, steps=3
    )
    losses = []
    for _ in range(3):
        state, term = fit.take_steps(KEY, state, problem, 1.0, config=config, steps=1)
        losses.append(float(term.total))
    np.testing.assert_allclose(terms.total, losses, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        scanned.params,
        state.params,
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch_size", [3, 5, 8])
def test_a_step_patch_by_patch_is_the_step(scene, tiny_config, precision, batch_size):
    problem, config = prepare(
        KEY,
        scene.noisy,
        psf=PSF,
        config=change(tiny_config, batch_size=batch_size, precision=precision),
    )
    state = start(KEY, config).state
    whole, terms = train_step(KEY, state, problem, 0.5, config=config)
    by_patches, summed = _step_by_patches(KEY, jax.tree.map(jnp.copy, state), problem, 0.5, config)
    np.testing.assert_allclose(summed, terms, rtol=1e-5)
    assert int(by_patches.step) == 1
    # Adam's first moments are the gradients; its first step is their sign, which rounding turns
    # where they are 0.
    for ours, theirs in zip(
        *map(jax.tree.leaves, (by_patches.opt_state.mu, whole.opt_state.mu)), strict=True
    ):
        np.testing.assert_allclose(
            ours, theirs, atol={"float32": 1e-4, "bfloat16": 3e-3}[precision] * np.abs(theirs).max()
        )


def test_a_step_is_a_descent_direction_of_its_batch(scene, tiny_config):
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)
    state = start(KEY, config).state
    after, terms = train_step(KEY, state, problem, 1.0, config=config)
    assert int(after.step) == 1
    _, again = train_step(KEY, state._replace(params=after.params), problem, 1.0, config=config)
    assert again.total < terms.total


def test_the_data_stay_on_the_device(scene, tiny_config):
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)
    snapshot = start(KEY, config)
    with jax.transfer_guard_device_to_host("disallow"):  # a step returns nothing to the host
        fit.take_steps(KEY, snapshot.state, problem, 1.0, config=config, steps=1)


def test_held_out_pixels_are_no_targets(scene, tiny_config):
    # Poisoned held-out pixels would blow up the loss if they were scored.
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)
    assert problem.held_out is not None
    state = start(KEY, config).state
    _, clean = train_step(KEY, state, problem, 1.0, config=config)
    assert 0.02 < float(problem.held_out.mean()) < 0.035
    everything = problem._replace(held_out=jnp.ones_like(problem.held_out))
    _, none = train_step(KEY, state, everything, 1.0, config=config)
    assert clean.data > 0
    assert none.data == 0


def test_many_frames_hold_out_the_last_ones(scene, tiny_config):
    stack = np.concatenate([np.asarray(scene.noisy)] * 4)[:10]
    problem, _ = prepare(KEY, stack, psf=PSF, config=tiny_config)
    assert problem.held_out is None
    assert (len(problem.frames), len(problem.validation)) == (7, 3)
    np.testing.assert_allclose(problem.validation + problem.scale.background, stack[7:], rtol=1e-5)
    single, _ = prepare(KEY, stack[:1], psf=PSF, config=change(tiny_config, validation="frames"))
    assert single.held_out is not None


def test_the_scale_is_that_of_all_frames(scene, tiny_config):
    stack = np.asarray(scene.noisy)
    problem, _ = prepare(KEY, stack, psf=PSF, config=change(tiny_config, background=100.0))
    np.testing.assert_allclose(problem.scale.background, 100)
    np.testing.assert_allclose(problem.scale.mean, stack.mean() - 100, rtol=1e-5)
    np.testing.assert_allclose(problem.scale.std, stack.std(), rtol=1e-5)


def test_the_background_is_the_darkest_window():
    stack = np.random.default_rng(0).normal(500, 20, (2, 40, 50)).astype(np.float32)
    stack[1, 10:20, 10:20] = 120
    expected = min(
        scipy.ndimage.uniform_filter(frame.astype(np.float64), 5)[2:-2, 2:-2].min()
        for frame in stack
    )
    np.testing.assert_allclose(estimate_background(stack), expected, rtol=1e-6)
    assert estimate_background(np.full((1, 3, 4), 7, np.float32)) == pytest.approx(7)


def test_an_offset_changes_nothing_but_the_offset(scene, tiny_config):
    stack = np.round(np.asarray(scene.noisy))
    config = change(tiny_config, epochs=1)
    low = fit(KEY, stack, psf=PSF, config=config)
    high = fit(KEY, stack + 4096, psf=PSF, config=config)
    results = [denoise(d, s).denoised for d, s in ((low, stack), (high, stack + 4096))]
    np.testing.assert_allclose(results[1] - 4096, results[0], atol=0.5)


def test_the_cosine_rises_and_falls_to_zero():
    config = TrainConfig(epochs=10, steps_per_epoch=10)
    rates = np.array([learning_rate(step, config) for step in range(100)])
    assert rates.max() == pytest.approx(config.learning_rate, rel=0.01)
    assert rates[0] < rates.max()
    assert rates[-1] < 0.01 * config.learning_rate
    assert np.all(np.diff(rates[2:]) < 0)


@pytest.mark.parametrize("parts", [2, 3, 4, 100])
def test_a_batch_in_parts_is_the_batch(scene, tiny_config, parts):
    config = change(tiny_config, precision="float32")
    problem, config = prepare(KEY, scene.noisy, psf=PSF, config=config)
    step = jax.jit(train_step, static_argnames=("config", "parts"))
    whole, in_parts = (
        step(KEY, start(KEY, config).state, problem, 1.0, config=config, parts=n)
        for n in (1, parts)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), in_parts, whole)
    losses = [
        validation_losses(KEY, whole[0].params, problem, config=config, parts=n) for n in (1, parts)
    ]
    assert losses[1].shape == (config.validation_patches,)
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_device_without_memory_gets_smaller_batches(scene, tiny_config, monkeypatch):
    """As on an accelerator, where a whole epoch is one program whose state is used up."""
    config = change(tiny_config, precision="float32", epochs=2)
    whole = fit(KEY, scene.noisy, psf=PSF, config=config)
    take_steps = fit.take_steps

    def with_little_memory(key, state, problem, rate_scale, *, config, parts, **options):
        if config.batch_size / parts > 1:
            jax.tree.map(lambda leaf: leaf.delete(), state)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return take_steps(key, state, problem, rate_scale, config=config, parts=parts, **options)

    monkeypatch.setattr(fit_module, "take_steps", with_little_memory)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.warns(UserWarning, match="going on with 4") as told:
        found = fit(KEY, scene.noisy, psf=PSF, config=config)
    assert len(told) == 2
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-2, atol=1e-3), found.last, whole.last)
    np.testing.assert_allclose(
        found.history["validation_loss"], whole.history["validation_loss"], rtol=1e-3
    )


def test_every_published_row_reaches_the_step(scene):
    config = TrainConfig.paper()
    problem, fitted = prepare(
        KEY,
        np.tile(np.asarray(scene.noisy), (1, 3, 3)),
        psf=gaussian_psf(1.0, size=81),
        config=config,
    )
    assert fitted == config
    assert problem.psf.shape == (81, 81)
    assert (len(problem.frames), len(problem.validation)) == (2, 1)
    assert learning_rate(1999, config) == np.float32(1e-3)


def test_patches_fit_small_frames_and_large_psfs(scene, tiny_config):
    _, config = prepare(KEY, np.asarray(scene.noisy)[:, :21, :30], psf=PSF, config=tiny_config)
    assert config.patch_size == 20
    _, config = prepare(KEY, scene.noisy, psf=gaussian_psf(3.0, size=37), config=tiny_config)
    assert config.patch_size == 38


@pytest.mark.parametrize(
    ("stack", "psf", "message"),
    [
        (np.full((2, 32, 32), np.nan), PSF, "2048 pixels are NaN"),
        (np.full((2, 32, 32), 7), PSF, "constant"),
        (np.zeros((0, 32, 32)), PSF, "at least one pixel"),
        (np.ones((32,)), PSF, "expected a stack"),
        (
            np.random.default_rng(0).normal(size=(3, 7, 60)),
            np.ones((1, 1)),
            "too small to train on",
        ),
        (
            np.random.default_rng(0).normal(size=(1, 16, 16)),
            np.ones((17, 17)),
            "larger than the image",
        ),
        (np.random.default_rng(0).normal(size=(1, 16, 16)), np.ones((4, 4)), "must be odd"),
        (
            np.random.default_rng(0).normal(size=(1, 16, 16)),
            np.zeros((3, 3)),
            "sum must be positive",
        ),
        (np.random.default_rng(0).normal(size=(1, 16, 16)), np.ones((3, 3, 3)), "one 2-D image"),
    ],
)
def test_bad_input(tiny_config, stack, psf, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(KEY, stack, psf=psf, config=tiny_config)
    assert "\n" not in str(error.value)


def test_the_denoiser_is_a_pytree(trained):
    leaves, structure = jax.tree.flatten(trained[0])
    assert structure.unflatten(leaves).config == trained[0].config
    assert all(hasattr(leaf, "shape") for leaf in leaves)
