"""One epoch of a training: steps on the device, then validation and a summary. Host side.

The data stay on the device; only an epoch's summary comes back to the host.
"""

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdenoise.network.denoiser import Params
from jaxdenoise.network.settings import Settings
from jaxdenoise.system import errors, meshes
from jaxdenoise.targets.losses import LossTerms
from jaxdenoise.training import step, streams
from jaxdenoise.training.problem import Problem
from jaxdenoise.training.selection import is_chosen
from jaxdenoise.training.step import (
    TrainState,
    apply_gradients,
    batch_gradients,
    draw_batch,
    equal_parts,
    learning_rate,
    plateau_factor,
    validation_losses,
)

_PARTS = 4  # of a batch on CPU, at most: computed at once on as many cores
_STEPS = 50  # at most, in one call of a CPU: Ctrl-C waits for the call's end


class Snapshot(NamedTuple):
    """All that a training needs to go on after an epoch.

    Attributes:
        state: `TrainState`.
        best: the parameters that validation has chosen so far.
        lowest: (V,) float32, the validation losses of the epoch where their mean was lowest, one
            per patch.
        history: a tuple of dicts of floats, one per epoch.
    """

    state: TrainState
    best: Params
    lowest: Float[Array | np.ndarray, " V"]
    history: tuple[Mapping[str, Any], ...]


def on_mesh(snapshot: Snapshot, mesh: Mesh | None) -> Snapshot:
    """Return a `Snapshot` whose arrays are on all devices of a mesh."""
    state, best = meshes.replicate((snapshot.state, snapshot.best), mesh)
    return snapshot._replace(state=state, best=best)


def steps_at_once(config: Settings) -> int:
    """Return how many steps one call of the device should take, a divisor of an epoch's."""
    if config.platform != "cpu":
        return config.steps_per_epoch
    one_by_one = config.batch_size > 1 or not config.fast_in_loops
    return 1 if one_by_one else equal_parts(config.steps_per_epoch, _STEPS)


def rate_factor(history: tuple[Mapping[str, Any], ...], config: Settings) -> float:
    """Return the factor on the scheduled learning rate in the epoch after those of a history."""
    if config.schedule != "plateau":
        return 1.0
    return plateau_factor([row["validation_loss"] for row in history], config.patience)


def run_epoch_in_memory(
    key: PRNGKeyArray,
    snapshot: Snapshot,
    problem: Problem,
    config: Settings,
    *,
    parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Snapshot, int]:
    """Take `run_epoch`, with smaller parts of a batch if the device runs out of memory.

    Returns:
        The `Snapshot` after the epoch, and the number of parts, at least ``parts``.
    """
    if config.platform == "cpu":  # where patches are computed one by one
        return run_epoch(key, snapshot, problem, config, mesh=mesh), 1
    while True:
        used_up = snapshot._replace(state=jax.tree.map(jnp.copy, snapshot.state))
        try:
            return run_epoch(key, used_up, problem, config, parts=parts, mesh=mesh), parts
        except jax.errors.JaxRuntimeError as error:
            parts = _more_parts(error, parts, config)


def _more_parts(error, parts, config):
    """Return twice as many parts of a batch; raise an error again that is not of the memory."""
    most = max(config.batch_size, config.validation_patches)
    if not errors.is_out_of_memory(error) or parts >= most:
        raise error
    warnings.warn(
        f"the device has no memory for a batch in {parts} parts; going on with {2 * parts}, "
        "the result is the same",
        stacklevel=3,
    )
    return 2 * parts


def run_epoch(
    key: PRNGKeyArray,
    snapshot: Snapshot,
    problem: Problem,
    config: Settings,
    *,
    parts: int = 1,
    mesh: Mesh | None = None,
) -> Snapshot:
    """Train and validate for one epoch. Host side.

    Args:
        key: the training's random key.
        snapshot: `Snapshot`, `on_mesh`; its state is used up.
        problem: `Problem`, on all devices of the mesh.
        config: `Settings`.
        parts: as in `step.train_step`, of the share of each device.
        mesh: as `meshes.mesh` makes it; None for one device.

    Returns:
        The `Snapshot` after the epoch.
    """
    state, terms, steps = snapshot.state, [], steps_at_once(config)
    scale = rate_factor(snapshot.history, config)
    by_patches = config.platform == "cpu" and config.batch_size > 1 and mesh is None
    options = {"config": config, "parts": parts, "mesh": mesh}
    for _ in range(config.steps_per_epoch // steps):
        if by_patches:
            state, term = step_by_patches(key, state, problem, scale, config)
        else:
            state, term = meshes.wait_on_cpu(
                take_steps(key, state, problem, scale, steps=steps, **options), mesh
            )
        terms.append(term)
    redraw = config.validation_redraw
    drawn = streams.validation_key(key, len(snapshot.history), redraw=redraw)
    losses = _validation_losses(drawn, state.averaged, problem, **options)
    return conclude_epoch(snapshot, state, terms, losses, config)


def conclude_epoch(
    snapshot: Snapshot,
    state: TrainState,
    terms: list[LossTerms],
    losses: Float[Array, " V"],
    config: Settings,
) -> Snapshot:
    """Return the `Snapshot` after an epoch. Host side.

    Args:
        snapshot: that before the epoch.
        state: `TrainState` after it.
        terms: list of `losses.LossTerms` of its steps.
        losses: (V,) validation losses of its averaged parameters.
        config: `Settings`.
    """
    found, lowest, epoch = np.asarray(losses), np.asarray(snapshot.lowest), len(snapshot.history)
    chosen = is_chosen(found, lowest, paired=not config.validation_redraw)
    mean = jax.tree.map(lambda *values: float(np.mean(values)), *terms)
    row = {
        "epoch": epoch + 1,
        "learning_rate": float(learning_rate(epoch * config.steps_per_epoch, config))
        * rate_factor(snapshot.history, config),
        "train_loss": mean.total,
        "data_loss": mean.data,
        "positivity_loss": mean.positivity,
        "validation_loss": float(found.mean()),
        "chosen": float(chosen),
    }
    best = jax.tree.map(jnp.copy, state.averaged) if chosen else snapshot.best
    return Snapshot(state, best, min(found, lowest, key=np.mean), (*snapshot.history, row))


@partial(jax.jit, static_argnames=("config", "steps", "parts", "mesh"), donate_argnames="state")
def take_steps(
    key: PRNGKeyArray,
    state: TrainState,
    problem: Problem,
    rate_scale: float | Float[Array, ""],
    *,
    config: Settings,
    steps: int,
    parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[TrainState, LossTerms]:
    """Take `step.take_steps`, compiled, on the devices of a mesh."""
    function = partial(step.take_steps, config=config, steps=steps, parts=parts)
    return meshes.shard(function, mesh)(key, state, problem, rate_scale)


@partial(jax.jit, static_argnames=("config", "parts", "mesh"))
def _validation_losses(key, params, problem, *, config, parts, mesh):
    return meshes.shard(partial(validation_losses, config=config, parts=parts), mesh)(
        key, params, problem
    )


def step_by_patches(
    key: PRNGKeyArray,
    state: TrainState,
    problem: Problem,
    rate_scale: float,
    config: Settings,
) -> tuple[TrainState, LossTerms]:
    """Take a `train_step`, to rounding, patch by patch, on CPU. The state is used up.

    A larger batch does not fit the CPU caches and needs much more memory. A few patches are
    computed at once, because a single one does not keep all cores busy. Each thread adds up its
    own, in an order that does not depend on the number of cores.
    """
    batch = _draw_batch(key, state.step, problem, config=config)
    parts = equal_parts(config.batch_size, _PARTS)
    a_call = config.batch_size // parts if config.fast_in_loops else 1

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


_draw_batch = jax.jit(draw_batch, static_argnames="config")
_apply_gradients = jax.jit(apply_gradients, static_argnames="config", donate_argnames="state")


@partial(jax.jit, static_argnames="config", donate_argnames="total")
def _add_gradients(total, params, batch, indices, problem, config):
    """Add the gradients and terms of some patches of a batch to a total, one after the other."""

    def add(total, index):
        patch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, 1), batch)
        found = batch_gradients(params, patch, problem, config)
        return jax.tree.map(
            lambda before, value: before + value / config.batch_size, total, found
        ), None

    if len(indices) == 1:  # no loop, see `convolution.fast_in_loops`
        return add(total, indices[0])[0]
    return jax.lax.scan(add, total, indices)[0]
