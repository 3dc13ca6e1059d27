"""Whole trainings: the same key gives the same model, stopped and resumed, on any device."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.config import UNetConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import unet
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.system import meshes
from jaxdenoise.training import epochs, streams
from jaxdenoise.training.fit import fit, train
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.selection import is_chosen
from jaxdenoise.training.step import validation_losses

KEY = jax.random.key(0)
PSF = gaussian_psf(1.0)


def change(config, **changes):
    return dataclasses.replace(config, **changes)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def psnr(truth, images):
    return 10 * np.log10((truth.max() - truth.min()) ** 2 / np.mean((images - truth) ** 2))


@pytest.fixture(scope="module")
def plan(scene, tiny_config):
    return prepare(KEY, scene.noisy, psf=PSF, config=tiny_config)


@pytest.fixture(scope="module")
def trained(plan):
    snapshots = []
    denoiser = train(
        KEY, plan, on_epoch=lambda snapshot: snapshots.append(jax.tree.map(np.array, snapshot))
    )
    return denoiser, snapshots


@pytest.mark.slow
def test_learns_to_denoise(scene, tiny_config):
    network = UNetConfig(depth=2, filters=8)
    config = change(tiny_config, epochs=6, steps_per_epoch=25, network=network, learning_rate=3e-3)
    denoiser = fit(KEY, scene.noisy, psf=PSF, config=config)
    assert denoiser.history["validation_loss"].min() < denoiser.history["validation_loss"][0]
    denoised, clean = denoise(denoiser, scene.noisy).denoised, np.asarray(scene.clean)
    assert psnr(clean, denoised) > psnr(clean, np.asarray(scene.noisy)) + 4


def test_same_key_same_model(trained, scene, tiny_config):
    again = fit(KEY, scene.noisy, psf=PSF, config=tiny_config)
    assert_same(trained[0], again)
    other = fit(jax.random.key(1), scene.noisy, psf=PSF, config=tiny_config)
    assert (
        np.abs(other.last["conv_final"]["kernel"] - again.last["conv_final"]["kernel"]).max() > 1e-3
    )


def test_resuming_is_bit_identical(plan, trained):
    whole, snapshots = trained
    resumed = train(KEY, plan, resume=jax.tree.map(jnp.asarray, snapshots[1]))
    assert_same(whole, resumed)


def test_resuming_on_a_plateau_is_bit_identical(plan):
    settings = change(plan.settings, schedule="plateau", patience=1)
    plan, snapshots = change(plan, settings=settings), []
    whole = train(
        KEY, plan, on_epoch=lambda snapshot: snapshots.append(jax.tree.map(jnp.copy, snapshot))
    )
    assert_same(whole, train(KEY, plan, resume=snapshots[1]))


def test_best_averaged_and_last_are_told_apart(trained, plan):
    denoiser, snapshots = trained
    chosen = int(np.flatnonzero(denoiser.history["chosen"])[-1])
    assert_same(denoiser.best, snapshots[chosen].state.averaged)
    assert_same(denoiser.averaged, snapshots[-1].state.averaged)
    assert_same(denoiser.last, snapshots[-1].state.params)
    averaged, last = (one["conv_final"]["kernel"] for one in (denoiser.averaged, denoiser.last))
    assert np.abs(averaged - last).max() > 0
    # The validation loss is that of the averaged weights, on patches that never change.
    key = streams.validation_key(KEY, 3, redraw=False)
    validated = jax.jit(partial(validation_losses, config=plan.settings))
    losses = validated(key, denoiser.best, plan.problem)
    np.testing.assert_allclose(
        losses.mean(), denoiser.history["validation_loss"][chosen], rtol=1e-5
    )


def test_the_streams_of_a_training_are_apart():
    keys = [
        streams.step_key(KEY, 0),
        streams.step_key(KEY, 2**31 - 1),
        streams.stream_key(KEY, streams.INIT),
        streams.stream_key(KEY, streams.HELD_OUT),
        streams.stream_key(KEY, streams.COVERING),
        streams.validation_key(KEY, 0, redraw=True),
        streams.validation_key(KEY, 2**15, redraw=True),
        streams.seed_key(KEY, 0),
        streams.seed_key(KEY, 2),
    ]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)


def test_the_latest_is_chosen_that_validation_does_not_speak_against():
    lowest = np.random.default_rng(0).normal(1, 0.1, 16).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.01, 16).astype(np.float32)
    noise -= noise.mean()
    # Of the mean of the paired differences; unpaired it would be ten times as much.
    error = noise.std(ddof=1) / 4
    assert is_chosen(lowest, np.full(16, np.inf, np.float32), paired=True)
    assert is_chosen(lowest + noise + 0.9 * error, lowest, paired=True)
    assert not is_chosen(lowest + noise + 1.1 * error, lowest, paired=True)
    assert not is_chosen(lowest + noise + 0.9 * error, lowest, paired=False)
    assert is_chosen(lowest - 1e-4, lowest, paired=False)
    assert not is_chosen(lowest[:1] + 1e-4, lowest[:1], paired=True)


def test_without_averaging_the_average_is_the_last(plan):
    settings = change(plan.settings, averaging=0.0, epochs=1)
    denoiser = train(KEY, change(plan, settings=settings))
    assert_same(denoiser.averaged, denoiser.last)


def test_an_offset_changes_nothing_but_the_offset(scene, tiny_config):
    stack = np.round(np.asarray(scene.noisy))
    config = change(tiny_config, epochs=1)
    low = fit(KEY, stack, psf=PSF, config=config)
    high = fit(KEY, stack + 4096, psf=PSF, config=config)
    pairs = ((low, stack), (high, stack + 4096))
    results = [denoise(model, images, keep_light=False).denoised for model, images in pairs]
    np.testing.assert_allclose(results[1] - 4096, results[0], atol=1.5)


@pytest.mark.slow
def test_a_device_without_memory_gets_smaller_batches(plan, monkeypatch):
    """As on an accelerator, where a whole epoch is one program whose state is used up."""
    settings = change(plan.settings, precision="float32", precision_by_device=False, epochs=2)
    whole = train(KEY, change(plan, settings=settings))
    take_steps = epochs.take_steps

    def with_little_memory(key, state, problem, rate_scale, *, config, parts, **options):
        if config.batch_size / parts > 1:
            jax.tree.map(lambda leaf: leaf.delete(), state)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return take_steps(key, state, problem, rate_scale, config=config, parts=parts, **options)

    monkeypatch.setattr(epochs, "take_steps", with_little_memory)
    elsewhere = change(plan, settings=settings.for_platform("gpu"))
    with pytest.warns(UserWarning, match="going on with 4") as told:
        found = train(KEY, elsewhere)
    assert len(told) == 2
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-2, atol=1e-3), found.last, whole.last)
    np.testing.assert_allclose(
        found.history["validation_loss"], whole.history["validation_loss"], rtol=1e-3
    )


def test_another_error_of_the_device_is_raised(plan, monkeypatch):
    def fail(*arguments, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such thing")

    monkeypatch.setattr(epochs, "take_steps", fail)
    elsewhere = change(plan, settings=plan.settings.for_platform("gpu"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such thing"):
        train(KEY, elsewhere)


# --- what runs where


class Stopped(Exception):
    """Ends a training before its first step."""


def test_what_runs_where_follows_the_devices_that_are_given(scene, tiny_config, monkeypatch):
    """A training on a CPU takes the CPU's ways, whatever the process's default is."""
    (device,) = jax.devices("cpu")[:1]
    seen = []

    def watched(key, snapshot, problem, config, *, mesh):
        seen.append(config.platform)
        for leaf in jax.tree.leaves((snapshot.state, problem)):
            assert leaf.devices() == {device}
            assert leaf.committed
        raise Stopped

    monkeypatch.setattr(epochs, "run_epoch", watched)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(Stopped):
        fit(KEY, scene.noisy, psf=PSF, config=tiny_config, devices=[device])
    assert seen == ["cpu"]


def test_the_default_device_is_the_one_that_jax_is_told():
    device = jax.devices("cpu")[0]
    assert meshes.platform_of(None) == jax.devices()[0].platform
    for default in (device, "cpu"):
        with jax.default_device(default):
            assert meshes.platform_of(None) == "cpu"
    assert meshes.platform_of([device]) == "cpu"


def test_a_model_of_another_platform_denoises_in_the_ways_of_the_device(
    trained, scene, monkeypatch
):
    seen, apply = [], unet.apply

    def watched(*arguments, precision, platform, **options):
        seen.append(platform)
        return apply(*arguments, precision=precision, platform=platform, **options)

    monkeypatch.setattr(unet, "apply", watched)
    config = trained[0].config
    config = change(config, output_scale=9.0).for_platform("tpu")
    moved = dataclasses.replace(trained[0], config=config)
    denoise(moved, np.asarray(scene.noisy)[:1])
    assert set(seen) == {"cpu"}


def test_the_denoiser_is_a_pytree(trained):
    leaves, structure = jax.tree.flatten(trained[0])
    assert structure.unflatten(leaves).config == trained[0].config
    assert all(hasattr(leaf, "shape") for leaf in leaves)
