"""The train step: the same whole, in parts, patch by patch and in a loop."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.settings import settle
from jaxdenoise.training.epochs import step_by_patches, take_steps
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import learning_rate, validation_losses

KEY = jax.random.key(0)

validated = jax.jit(validation_losses, static_argnames=("config", "parts"))


def step(state, problem, config, *, rate_scale=1.0, parts=1):
    """One step, as a training compiles it, that leaves the state as it is."""
    return take_steps(KEY, copy(state), problem, rate_scale, config=config, steps=1, parts=parts)


def copy(state):
    return jax.tree.map(jnp.copy, state)


@pytest.fixture(scope="module")
def plan(scene, tiny_config):
    config = dataclasses.replace(tiny_config, precision="float32")
    return prepare(KEY, scene.noisy, psf=gaussian_psf(1.0), config=config)


@pytest.fixture(scope="module")
def first(plan):
    """The state before the first step; copy it where it is used up."""
    return start(KEY, plan.settings).state


@pytest.fixture(scope="module")
def stepped(plan, first):
    return step(first, plan.problem, plan.settings)


def test_scanned_steps_equal_single_steps(plan, first):
    options = {"config": plan.settings, "steps": 3}
    scanned, terms = take_steps(KEY, copy(first), plan.problem, 1.0, **options)
    state, losses = first, []
    for _ in range(3):
        state, term = step(state, plan.problem, plan.settings)
        losses.append(float(term.total))
    np.testing.assert_allclose(terms.total, losses, rtol=1e-4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), scanned.params, state.params
    )


PRODUCT = [(size, precision) for size in (3, 5, 8) for precision in ("float32", "bfloat16")]


@pytest.mark.parametrize(
    ("batch_size", "precision"),
    [(4, "bfloat16"), *(pytest.param(*case, marks=pytest.mark.robustness) for case in PRODUCT)],
)
def test_a_step_patch_by_patch_is_the_step(plan, first, batch_size, precision):
    config = dataclasses.replace(plan.settings, batch_size=batch_size, precision=precision)
    whole, terms = step(first, plan.problem, config, rate_scale=0.5)
    by_patches, summed = step_by_patches(KEY, copy(first), plan.problem, 0.5, config)
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


@pytest.mark.parametrize(
    "parts", [2, *(pytest.param(n, marks=pytest.mark.robustness) for n in (3, 4, 100))]
)
def test_a_batch_in_parts_is_the_batch(plan, first, stepped, parts):
    in_parts = step(first, plan.problem, plan.settings, parts=parts)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), in_parts, stepped)
    losses = [
        validated(KEY, first.params, plan.problem, config=plan.settings, parts=n)
        for n in (1, parts)
    ]
    assert losses[1].shape == (plan.settings.validation_patches,)
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_step_is_a_descent_direction_of_its_batch(plan, first, stepped):
    after, terms = stepped
    assert int(after.step) == 1
    moved = first._replace(params=after.params)
    _, again = step(moved, plan.problem, plan.settings)
    assert again.total < terms.total


def test_the_data_stay_on_the_device(plan, first):
    state = copy(first)
    with jax.transfer_guard_device_to_host("disallow"):  # a step returns nothing to the host
        take_steps(KEY, state, plan.problem, 1.0, config=plan.settings, steps=1)


def test_held_out_pixels_are_no_targets(plan, first, stepped):
    # Poisoned held-out pixels would blow up the loss if they were scored.
    problem = plan.problem
    assert problem.held_out is not None
    assert 0.02 < float(problem.held_out.mean()) < 0.035
    everything = problem._replace(held_out=jnp.ones_like(problem.held_out))
    _, none = step(first, everything, plan.settings)
    assert stepped[1].data > 0
    assert none.data == 0


def test_the_cosine_rises_and_falls_to_zero():
    config = settle(TrainConfig(epochs=10, steps_per_epoch=10))
    rates = np.array([learning_rate(step, config) for step in range(100)])
    assert rates.max() == pytest.approx(config.learning_rate, rel=0.01)
    assert rates[0] < rates.max()
    assert rates[-1] < 0.01 * config.learning_rate
    assert np.all(np.diff(rates[2:]) < 0)
