"""The score without ground truth: which pixels it uses, what it estimates, and the choice by it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise import patches, scores, sweeps, synthetic, training
from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.problem import prepare
from jaxdenoise.psf import convolve, gaussian_psf

KEY = jax.random.key(0)
PSF = gaussian_psf(2.0)


# --- the score ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "masks"), [(2, 3), (12, 2)], ids=["pixels held out", "frames held out"])
def test_every_held_out_pixel_is_scored_once_and_none_is_a_target(frames, masks, tiny_config):
    stack = np.arange(frames * 50 * 43, dtype=np.float32).reshape(frames, 50, 43)  # each value says where it is
    problem, config = prepare(KEY, stack, psf=PSF, config=dataclasses.replace(tiny_config, background=0.0), masks=masks)
    covering = jax.tree.map(np.asarray, scores.covering(KEY, problem, config, masks))
    noisy = np.broadcast_to(covering.noisy[:, None], covering.visible.shape)
    assert (noisy != covering.visible)[covering.scored].all()
    # Pixels of the mask in the overlap are hidden, but scored in another patch.
    hidden = (noisy != covering.visible).mean()
    assert covering.scored.mean() < hidden == pytest.approx(1 / 36, rel=0.1)
    scored = noisy[covering.scored].astype(int)
    assert len(set(scored)) == len(scored)
    validation = np.asarray(problem.validation)
    assert len(scored) == pytest.approx(validation.size * masks / 36, rel=0.1)
    if problem.held_out is None:
        assert set(scored) <= set(validation.astype(int).ravel())
        assert validation.min() > np.asarray(problem.frames).max()
        return
    assert set(scored) == set(validation[np.asarray(problem.held_out) > 0].astype(int))
    options = {"patch_size": 32, "batch_size": 64, "box": 6, "radius": 2}
    training_batch = patches.training_batch(KEY, problem.frames, problem.held_out, **options)
    assert not set(np.asarray(training_batch.noisy)[np.asarray(training_batch.scored)].astype(int)) & set(scored)


def test_as_many_masks_as_pixels_in_a_box_cover_every_pixel_once():
    numbers = np.asarray(patches.held_out_masks(KEY, (2, 13, 17), box=3, masks=9))
    assert np.unique(numbers).tolist() == list(range(1, 10))
    assert all((numbers[:, :12, :15].reshape(2, 4, 3, 5, 3) == number).sum(axis=(2, 4)).max() == 1 for number in range(1, 10))
    covering = patches.covering_patches(KEY, jnp.zeros((2, 13, 17)), numbers, patch_size=8, masks=9, radius=2, limit=1000)
    assert covering.scored.sum() == numbers.size


def test_covering_keeps_to_its_limit_and_spreads():
    frames = jnp.arange(10 * 24 * 24.0).reshape(10, 24, 24)
    numbers = patches.held_out_masks(KEY, frames.shape, box=4, masks=2)
    covering = patches.covering_patches(KEY, frames, numbers, patch_size=12, masks=2, radius=2, limit=11)
    assert covering.visible.shape == (11, 2, 12, 12)
    assert len({int(patch.min()) // 576 for patch in covering.noisy}) == 10


def test_the_score_estimates_the_error_of_the_denoised_image():
    """Against the truth, within a few standard errors: the error of what sees the pixel, plus the noise's variance."""
    network = UNetConfig(depth=2, filters=8)
    config = TrainConfig(network=network, patch_size=32, batch_size=8, steps_per_epoch=25, epochs=4, learning_rate=3e-3)
    clean = np.asarray(synthetic.static_scene(jax.random.key(2), frames=1, shape=(128, 128), psf_sigma=1.5, read_share=0.9).clean)
    noisy = clean + 200 * np.random.default_rng(0).normal(size=(8, *clean.shape)).astype(np.float32)
    problem, config = prepare(KEY, noisy, psf=PSF, config=config, masks=4)
    covering = scores.covering(KEY, problem, config, 4)
    model = sweeps._Running(0, 0, KEY, config)
    sweeps._train([model], problem, jnp.asarray(PSF)[None], config, 4, False, None)
    sweeps._score([model], problem, jnp.asarray(PSF)[None], covering, config, False)
    score = np.mean(model.errors[4])

    deconvolved = training.network_output(model.params(config), covering.noisy, problem.scale, config)
    denoised = np.asarray(jax.vmap(convolve, (0, None))(deconvolved, PSF))
    counts = np.asarray(covering.scored).sum(axis=1)
    # Where each patch comes from is found by its first value; the truth there is cut in the same way.
    corners = [np.argwhere(np.asarray(problem.validation) == patch[0, 0])[0] for patch in np.asarray(covering.noisy)]
    truth = np.stack([clean[row : row + 32, column : column + 32] for _, row, column in corners]) - float(problem.scale.background)
    std = float(problem.scale.std)
    error, noise = (np.average((image - truth) ** 2, weights=counts) / std**2 for image in (denoised, np.asarray(covering.noisy)))
    chance = 2 * np.sqrt(error * noise / counts.sum())  # of the product of error and noise, whose mean the score corrects
    assert score == pytest.approx(error + noise, abs=4 * chance + 0.02 * noise)
    assert 4 * chance + 0.02 * noise < 2 * 0.05 * noise  # a model that follows its pixel by 5 % would be noticed


# --- the choice --------------------------------------------------------------------------------------------------------------------------


def test_the_widest_within_a_standard_error_of_the_best_is_chosen():
    noise, own = np.random.default_rng(0).normal(size=(2, 4, 400))
    own -= own.mean(axis=1, keepdims=True)
    errors = noise[0] + 0.1 * own + np.array([0.5, 0.0, -0.003, 0.3])[:, None]  # a difference has a standard error of 0.007
    assert scores.choose(errors, (0.0, 1.0, 0.5, 2.0)) == 1
    assert scores.choose(errors, (0.0, 0.5, 1.0, 2.0)) == 2
    assert scores.choose(errors[:1], (0.0,)) == 0
    # Paired: what all have in common does not widen the interval.
    assert scores.choose(errors + 100 * noise[1], (0.0, 1.0, 0.5, 2.0)) == 1


def test_one_patch_alone_gives_the_best():
    assert scores.choose([[2.0], [1.0], [1.5]], (0.0, 1.0, 2.0)) == 1
