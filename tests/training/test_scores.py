"""The score without ground truth: which pixels it uses, what it estimates, and the choice by it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.microscope import synthetic
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.training import scores, selection
from jaxdenoise.training.candidates import Candidate, Run, score, train_until
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.sweep import Model
from jaxdenoise.workflows.run import choice_table

KEY = jax.random.key(0)
PSF = gaussian_psf(2.0)


# --- the score


@pytest.mark.parametrize("frames", [2, 12], ids=["pixels held out", "frames held out"])
def test_every_held_out_pixel_is_scored_once_and_none_is_a_target(frames, tiny_config):
    stack = np.arange(frames * 50 * 43, dtype=np.float32).reshape(
        frames, 50, 43
    )  # each value says where it is
    config = dataclasses.replace(tiny_config, background=0.0, blind=(0, 0), targets="own")
    plan = prepare(KEY, stack, psf=PSF, config=config, masks=3)
    problem, config = plan.problem, plan.settings
    covering = jax.tree.map(np.asarray, scores.covering(KEY, problem, config))
    scored = covering.noisy[covering.scored].astype(int)
    assert len(set(scored)) == len(scored)
    validation = np.asarray(problem.validation)
    if problem.held_out is None:
        assert set(scored) == set(validation.astype(int).ravel())
        assert validation.min() > np.asarray(problem.frames).max()
        return
    assert len(scored) == pytest.approx(validation.size * 3 / 36, rel=0.1)
    assert set(scored) == set(validation[np.asarray(problem.held_out) > 0].astype(int))
    options = patches.PatchOptions(patch_size=32, box=6, radius=2)
    draw = jax.jit(partial(patches.training_batch, options=options, batch_size=64))
    training_batch = draw(KEY, problem.frames, problem.held_out)
    assert not set(
        np.asarray(training_batch.noisy)[np.asarray(training_batch.scored)].astype(int)
    ) & set(scored)


@pytest.mark.parametrize("frames", [2, 12], ids=["pixels held out", "frames held out"])
def test_where_neighbours_share_their_noise_the_score_hides_them(frames, tiny_config):
    stack = np.random.default_rng(0).normal(100, 10, (frames, 50, 43)).astype(np.float32)
    config = dataclasses.replace(tiny_config, blind=(1, 2))
    plan = prepare(KEY, stack, psf=PSF, config=config, masks=3)
    problem, config = plan.problem, plan.settings
    covering = jax.tree.map(np.asarray, scores.covering(KEY, problem, config))
    expected = 1 / blindspot.spacing(config.density, config.blind) ** 2
    assert covering.scored.sum() == pytest.approx(problem.validation.size * expected, rel=0.3)
    assert not covering.noise.any()
    hidden = covering.noisy != covering.visible
    for n, y, x in np.argwhere(covering.scored):
        assert (
            hidden[n, max(y - 1, 0) : y + 2, max(x - 2, 0) : x + 3].mean() > 0.9
        )  # a random pixel is rarely the same
    assert hidden.mean() < 20 * expected


def test_as_many_masks_as_pixels_in_a_box_cover_every_pixel_once():
    numbers = np.asarray(patches.held_out_masks(KEY, (2, 13, 17), box=3, masks=9))
    assert np.unique(numbers).tolist() == list(range(1, 10))
    assert all(
        (numbers[:, :12, :15].reshape(2, 4, 3, 5, 3) == number).sum(axis=(2, 4)).max() == 1
        for number in range(1, 10)
    )
    zeros = jnp.zeros((2, 13, 17))
    assert (
        patches.covering_patches(
            zeros, zeros, zeros, numbers > 0, patch_size=8, limit=1000
        ).scored.sum()
        == numbers.size
    )


def test_covering_keeps_to_its_limit_and_spreads():
    frames = jnp.arange(10 * 24 * 24.0).reshape(10, 24, 24)
    covering = patches.covering_patches(
        frames, frames, -frames, frames >= 0, patch_size=12, limit=11
    )
    assert covering.noisy.shape == (11, 12, 12)
    assert len({int(patch.min()) // 576 for patch in covering.noisy}) == 10
    np.testing.assert_array_equal(covering.noise, -covering.noisy)


def scene_with(noise):
    """(noisy, clean) stacks: constant noise, or shot noise of the same mean variance."""
    clean = np.asarray(
        synthetic.static_scene(
            jax.random.key(2), frames=1, shape=(128, 128), psf_sigma=1.5, read_share=0.9
        ).clean
    )
    rng = np.random.default_rng(0)
    if noise == "constant":
        return clean + 200 * rng.normal(size=(8, *clean.shape)).astype(np.float32), clean
    gain = 200**2 / clean.mean()
    return (gain * rng.poisson(clean / gain, (8, *clean.shape))).astype(np.float32), clean


@pytest.mark.parametrize("noise", ["constant", "shot"])
def test_the_noise_is_as_strong_as_that_of_the_image(noise):
    noisy, clean = scene_with(noise)
    found = np.asarray(scores.noise_std(jnp.asarray(noisy), jnp.asarray(noisy))) ** 2
    true = np.broadcast_to(
        200**2 if noise == "constant" else clean * 200**2 / clean.mean(), noisy.shape
    )
    assert found.mean() == pytest.approx(200**2, rel=0.05)
    for half in clean < np.median(clean), clean >= np.median(clean):
        assert found[:, half].mean() == pytest.approx(true[:, half].mean(), rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["constant", "shot"])
def test_the_score_estimates_the_error_of_the_denoised_image(noise):
    """It is the error of what sees the pixel, plus the noise's variance, within standard errors."""
    network = UNetConfig(depth=2, filters=8)
    config = TrainConfig(
        network=network,
        patch_size=32,
        batch_size=8,
        steps_per_epoch=25,
        epochs=4,
        learning_rate=3e-3,
    )
    noisy, clean = scene_with(noise)
    plan = prepare(KEY, noisy, psf=PSF, config=config, masks=4)
    problem, config = plan.problem, plan.settings
    covering, run = scores.covering(KEY, problem, config), Run(plan, jnp.asarray(PSF)[None])
    model = Candidate(KEY, run)
    train_until([model], run, 4)
    score([model], run, covering)
    estimate = np.mean(model.errors[4])

    deconvolved = network_output(model.params(config), covering.noisy, problem.scale, config)
    denoised = np.asarray(jax.vmap(convolve, (0, None))(deconvolved, PSF))
    scored = np.asarray(covering.scored)
    everywhere = jnp.broadcast_to(clean, noisy.shape) - problem.scale.background
    options = {"patch_size": config.patch_size, "limit": len(scored)}
    truth = np.asarray(
        patches.covering_patches(
            everywhere, everywhere, everywhere, problem.held_out > 0, **options
        ).noisy
    )
    std = float(problem.scale.std)
    error, strength = (
        np.mean((image - truth)[scored] ** 2) / std**2
        for image in (denoised, np.asarray(covering.noisy))
    )
    chance = 2 * np.sqrt(
        error * strength / scored.sum()
    )  # of the product of error and noise, whose mean the score corrects
    assert estimate == pytest.approx(error + strength, abs=4 * chance + 0.02 * strength)
    assert (
        4 * chance + 0.02 * strength < 2 * 0.05 * strength
    )  # a model that follows its pixel by 5 % would be noticed


# --- the choice


def test_the_widest_within_a_standard_error_of_the_best_is_chosen():
    noise, own = np.random.default_rng(0).normal(size=(2, 4, 400))
    own -= own.mean(axis=1, keepdims=True)
    errors = (
        noise[0] + 0.1 * own + np.array([0.5, 0.0, -0.003, 0.3])[:, None]
    )  # a difference has a standard error of 0.007
    assert selection.choose(errors, (0.0, 1.0, 0.5, 2.0)) == 1
    assert selection.choose(errors, (0.0, 0.5, 1.0, 2.0)) == 2
    assert selection.choose(errors[:1], (0.0,)) == 0
    # Paired: what all have in common does not widen the interval.
    assert selection.choose(errors + 100 * noise[1], (0.0, 1.0, 0.5, 2.0)) == 1


def test_one_patch_alone_gives_the_best_and_no_standard_error(make_denoiser):
    assert selection.choose(np.array([[2.0], [1.0], [1.5]]), (0.0, 1.0, 2.0)) == 1
    assert selection.choose(np.array([[1.0], [1.0], [1.5]]), (0.0, 1.0, 2.0)) == 1
    denoiser = dataclasses.replace(make_denoiser(), history={"epoch": [1]})
    one, two = (Model(0, 0, denoiser, {1: np.array(errors)}, 1.0) for errors in ([0.5], [0.5, 0.7]))
    assert np.isnan(one.score_se)
    assert two.score_se == pytest.approx(0.1)
    rows = choice_table([one, two], ["1.0"], 0, seed=0)["candidates"]
    assert [row["score_se"] for row in rows] == [None, pytest.approx(0.1)]  # JSON knows no NaN
