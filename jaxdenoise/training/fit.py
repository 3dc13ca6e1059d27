"""Training: `fit` drives `step.train_step` epoch by epoch. Host side.

The step runs on the device with the data resident there; only an epoch's summary comes back to the
host.
"""

import dataclasses
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.config import PRETRAINED, TrainConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import convolution, pretrained, unet
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.system import errors, meshes
from jaxdenoise.targets.losses import LossTerms
from jaxdenoise.training import step
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import (
    TrainState,
    apply_gradients,
    batch_gradients,
    draw_batch,
    equal_parts,
    initial_state,
    learning_rate,
    plateau_factor,
    validation_losses,
)

_PARTS = 4  # of a batch on CPU, at most: at once if there are as many cores
_STEPS = 50  # that one call of a CPU takes at most: Ctrl-C waits for its end


class Snapshot(NamedTuple):
    """All that a training needs to go on after an epoch.

    Attributes:
        state: `TrainState`.
        best: the parameters that validation has chosen so far.
        lowest: (V,) float32, the validation losses of the epoch where their mean was lowest, one a
            patch.
        history: a tuple of dicts of floats, one an epoch.
    """

    state: TrainState
    best: dict
    lowest: jax.Array
    history: tuple


def is_chosen(losses, lowest, *, paired):
    """Whether an epoch's parameters replace those chosen so far.

    The later parameters win unless validation speaks against them: a validation loss is mostly the
    noise of its targets, and the slow gains of a falling learning rate are smaller than what it can
    resolve, so the lowest of many such losses is a matter of luck.

    Args:
        losses: (V,) validation losses of the epoch, one a patch.
        lowest: (V,) those of the epoch with the lowest mean so far (infinite before the first).
        paired: whether both are of the same patches. Then the mean may exceed the lowest by one
            standard error of the difference, else by nothing (as published).
    """
    if losses.mean() < lowest.mean():
        return True
    difference = losses - lowest
    return bool(
        paired
        and len(losses) > 1
        and difference.mean() <= difference.std(ddof=1) / len(losses) ** 0.5
    )


def fit(key, stack, *, psf, config=None, devices=None, resume=None, on_epoch=None):
    """Train on noisy images alone. Host side: drives the jitted steps.

    Args:
        key: random key; the same key, data and settings give the same model on the same device and
            versions.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels; for a network that sees
            neighbouring frames N in a row, or (S, N, H, W) for several such sequences.
        psf: (h, w) array with odd sides; it is scaled to sum 1. ``[[1.0]]`` means no blur.
        config: `TrainConfig`; default ``TrainConfig()``, the preset "fast".
        devices: sequence of `jax.Device`, such as ``jax.devices()``, that share each batch, to the
            same losses but for rounding; default: the default device alone.
        resume: a `Snapshot` to go on from, which any number of devices may have computed.
        on_epoch: called with the `Snapshot` after each epoch. Its state is used up by the next
            epoch: copy what must outlive the call.

    Returns:
        `Denoiser`.

    Raises:
        ValueError: NaN, a constant stack, frames too small to train on, a PSF that is no PSF or
            does not fit, a batch that so many devices cannot share.
    """
    config = config or TrainConfig()
    mesh = meshes.of_one_model(devices, batch_size=config.batch_size)
    problem, config = prepare(key, stack, psf=psf, config=config)
    snapshot = on_mesh(resume or start(key, config, problem), mesh)
    everywhere, parts = meshes.replicate(problem, mesh), 1
    while len(snapshot.history) < config.epochs:
        snapshot, parts = run_epoch_in_memory(
            key, snapshot, everywhere, config, parts=parts, mesh=mesh
        )
        if on_epoch is not None:
            on_epoch(snapshot)
    return denoiser_of(snapshot, problem, config)


def instant(stack, *, noise_std=None, config=None):
    """The pretrained network as a model, without training on the images, for an answer at once.

    Args:
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels: the images that it is
            fitted to.
        noise_std: the noise's standard deviation in grey levels, the root of its mean variance; by
            default estimated.
        config: `TrainConfig`, of which only what concerns prediction counts.

    Returns:
        `Denoiser`, with a Gaussian PSF of sigma `pretrained.PSF_SIGMA` and no history.

    Raises:
        ValueError: as `fit`; a noise that is not positive.
    """
    if noise_std is not None and not 0 < noise_std < np.inf:
        raise ValueError(f"instant: noise_std must be positive, in grey levels, not {noise_std}")
    config = config or TrainConfig()
    network = dataclasses.replace(PRETRAINED, stride=config.network.stride)
    config = dataclasses.replace(
        config, network=network, init="pretrained", weights="last", targets="own"
    )
    problem, config = prepare(
        jax.random.key(0), stack, psf=gaussian_psf(pretrained.PSF_SIGMA), config=config
    )
    params = (
        pretrained.fitted(problem.frames, problem.scale, config)
        if noise_std is None
        else pretrained.parameters(problem.scale, jnp.float32(noise_std), config.output_scale)
    )
    return Denoiser(params, params, params, problem.psf, problem.scale, {}, config)


def denoiser_of(snapshot, problem, config):
    """The `Denoiser` that a `Snapshot` of at least one epoch is. It shares the snapshot's arrays: copy it if the training goes on."""
    history = {
        name: np.array([row[name] for row in snapshot.history]) for name in snapshot.history[0]
    }
    snapshot = meshes.local(snapshot)
    state = snapshot.state
    return Denoiser(
        snapshot.best, state.averaged, state.params, problem.psf, problem.scale, history, config
    )


def start(key, config, problem=None):
    """The `Snapshot` before the first epoch; without a `Problem`, to which pretrained weights are fitted, one of the same shapes."""
    if config.init == "pretrained" and problem is not None:
        params = pretrained.fitted(problem.frames, problem.scale, config)
    else:
        params = _init(jax.random.fold_in(key, 2**31), config.network)
    best = jax.tree.map(
        jnp.copy, params
    )  # a copy, because the step is given its state's memory to write into
    return Snapshot(initial_state(params), best, jnp.full(config.validation_patches, jnp.inf), ())


def on_mesh(snapshot, mesh):
    """A `Snapshot` whose arrays are on all devices of a mesh."""
    state, best = meshes.replicate((snapshot.state, snapshot.best), mesh)
    return snapshot._replace(state=state, best=best)


@partial(jax.jit, static_argnames="config")
def _init(key, config):
    return unet.init(key, config)


_draw_batch = jax.jit(draw_batch, static_argnames="config")
_apply_gradients = jax.jit(apply_gradients, static_argnames="config", donate_argnames="state")


@partial(jax.jit, static_argnames=("config", "steps", "parts", "mesh"), donate_argnames="state")
def take_steps(key, state, problem, rate_scale, *, config, steps, parts=1, mesh=None):
    """`step.take_steps`, compiled, on the devices of a mesh."""
    function = partial(step.take_steps, config=config, steps=steps, parts=parts)
    return meshes.shard(function, mesh)(key, state, problem, rate_scale)


@partial(jax.jit, static_argnames=("config", "parts", "mesh"))
def _validation_losses(key, params, problem, *, config, parts, mesh):
    return meshes.shard(partial(validation_losses, config=config, parts=parts), mesh)(
        key, params, problem
    )


@partial(jax.jit, static_argnames="config", donate_argnames="total")
def _add_gradients(total, params, batch, indices, problem, config):
    """Gradients and terms of some patches of a batch, one after the other, added to what there is."""

    def add(total, index):
        patch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, 1), batch)
        found = batch_gradients(params, patch, problem, config)
        return jax.tree.map(
            lambda before, value: before + value / config.batch_size, total, found
        ), None

    if len(indices) == 1:  # no loop, see `convolution.fast_in_loops`
        return add(total, indices[0])[0]
    return jax.lax.scan(add, total, indices)[0]


def _step_by_patches(key, state, problem, rate_scale, config):
    """`train_step`, to rounding, patch by patch: a larger batch leaves the caches of a CPU, and its memory is much.

    A few patches are computed at once, because a single one does not keep all cores busy. Each
    thread adds up its own, in an order that does not depend on the number of cores.
    """
    batch = _draw_batch(key, state.step, problem, config=config)
    parts = equal_parts(config.batch_size, _PARTS)
    a_call = config.batch_size // parts if convolution.fast_in_loops(config.precision) else 1

    def summed(indices):
        total = (
            jax.tree.map(jnp.zeros_like, state.params),
            LossTerms(*(jnp.float32(0) for _ in LossTerms._fields)),
        )
        for some in indices.reshape(-1, a_call):
            total = _add_gradients(total, state.params, batch, some, problem, config=config)
        return jax.block_until_ready(total)

    with ThreadPoolExecutor(min(parts, os.cpu_count() or 1)) as pool:
        totals = list(pool.map(summed, np.arange(config.batch_size).reshape(parts, -1)))
    gradients, terms = jax.tree.map(lambda *values: sum(values), *totals)
    return _apply_gradients(state, gradients, rate_scale, config=config), terms


def steps_at_once(config):
    """How many steps one call of the device should take, a divisor of an epoch's."""
    if jax.default_backend() != "cpu":
        return config.steps_per_epoch
    one_by_one = config.batch_size > 1 or not convolution.fast_in_loops(config.precision)
    return 1 if one_by_one else equal_parts(config.steps_per_epoch, _STEPS)


def validation_key(key, epoch, config):
    """The random key of an epoch's validation patches (0-based)."""
    return jax.random.fold_in(key, 2**31 + 2 + (epoch if config.validation_redraw else 0))


def rate_scale(history, config):
    """The factor on the scheduled learning rate in the epoch after those of a snapshot's history."""
    return (
        plateau_factor([row["validation_loss"] for row in history], config.patience)
        if config.schedule == "plateau"
        else 1.0
    )


def run_epoch_in_memory(key, snapshot, problem, config, *, parts=1, mesh=None):
    """`run_epoch` with so many ``parts`` of a batch, or more if the device has no memory for them; and how many it took."""
    if jax.default_backend() == "cpu":  # where patches are computed one by one
        return run_epoch(key, snapshot, problem, config, mesh=mesh), 1
    while True:
        used_up = snapshot._replace(state=jax.tree.map(jnp.copy, snapshot.state))
        try:
            return run_epoch(key, used_up, problem, config, parts=parts, mesh=mesh), parts
        except jax.errors.JaxRuntimeError as error:
            parts = _more_parts(error, parts, config)


def _more_parts(error, parts, config):
    """Twice as many parts of a batch as the device had no memory for; any other error is raised again."""
    if not errors.is_out_of_memory(error) or parts >= max(
        config.batch_size, config.validation_patches
    ):
        raise error
    warnings.warn(
        f"the device has no memory for a batch in {parts} parts; going on with {2 * parts}, the result is the same",
        stacklevel=3,
    )
    return 2 * parts


def run_epoch(key, snapshot, problem, config, *, parts=1, mesh=None):
    """Train and validate for one epoch: `Snapshot` to `Snapshot`, whose state is used up. Host side.

    Args:
        key: the training's random key.
        snapshot: `Snapshot`, `on_mesh`.
        problem: `Problem`, on all devices of the mesh.
        config: `TrainConfig`.
        parts: as in `step.train_step`, of the share of each device.
        mesh: as `meshes.mesh` makes it; None for one device.
    """
    state, terms, steps, scale = (
        snapshot.state,
        [],
        steps_at_once(config),
        rate_scale(snapshot.history, config),
    )
    by_patches = jax.default_backend() == "cpu" and config.batch_size > 1 and mesh is None
    for _ in range(config.steps_per_epoch // steps):
        if by_patches:
            state, term = _step_by_patches(key, state, problem, scale, config)
        else:
            state, term = meshes.wait_on_cpu(
                take_steps(
                    key, state, problem, scale, config=config, steps=steps, parts=parts, mesh=mesh
                ),
                mesh,
            )
        terms.append(term)
    redrawn = validation_key(key, len(snapshot.history), config)
    losses = _validation_losses(
        redrawn, state.averaged, problem, config=config, parts=parts, mesh=mesh
    )
    return conclude_epoch(snapshot, state, terms, losses, config)


def conclude_epoch(snapshot, state, terms, losses, config):
    """The `Snapshot` after an epoch. Host side.

    Args:
        snapshot: that before the epoch.
        state: `TrainState` after it.
        terms: list of `losses.LossTerms` of its steps.
        losses: (V,) validation losses of its averaged parameters.
        config: `TrainConfig`.
    """
    losses, lowest, epoch = np.asarray(losses), np.asarray(snapshot.lowest), len(snapshot.history)
    chosen = is_chosen(losses, lowest, paired=not config.validation_redraw)
    mean = jax.tree.map(lambda *values: float(np.mean(values)), *terms)
    row = {
        "epoch": epoch + 1,
        "learning_rate": float(learning_rate(epoch * config.steps_per_epoch, config))
        * rate_scale(snapshot.history, config),
        "train_loss": mean.total,
        "data_loss": mean.data,
        "positivity_loss": mean.positivity,
        "validation_loss": float(losses.mean()),
        "chosen": float(chosen),
    }
    best = jax.tree.map(jnp.copy, state.averaged) if chosen else snapshot.best
    return Snapshot(state, best, min(losses, lowest, key=np.mean), (*snapshot.history, row))
