"""Training: the train step as one pure function, and `fit`, which drives it epoch by epoch.

The step runs on the device with the data resident there; only an epoch's summary comes back to the host. All randomness of a step is
``fold_in(key, step)``: a training that was stopped and resumed is the one that was never stopped.
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

from jaxdenoise import blindspot, convolution, losses, patches, unet
from jaxdenoise.config import TrainConfig
from jaxdenoise.optimizer import TrainState, apply_gradients, initial_state, learning_rate, plateau_factor
from jaxdenoise.problem import Scale, prepare
from jaxdenoise.psf import convolve

_PARTS = 4  # of a batch on CPU, at most: at once if there are as many cores
_STEPS = 50  # that one call of a CPU takes at most: Ctrl-C waits for its end


class Snapshot(NamedTuple):
    """All that a training needs to go on after an epoch.

    Attributes:
        state: `TrainState`.
        best: the parameters that validation has chosen so far.
        lowest: (V,) float32, the validation losses of the epoch where their mean was lowest, one a patch.
        history: a tuple of dicts of floats, one an epoch.
    """

    state: TrainState
    best: dict
    lowest: jax.Array
    history: tuple


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["best", "averaged", "last", "psf", "scale", "history"],
    meta_fields=["config"],
)
@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A trained model: a pytree with all that prediction needs.

    Attributes:
        best: the averaged parameters that validation chose, see `is_chosen`.
        averaged: exponential moving average of the parameters at the end (the same as ``last`` when ``config.averaging`` is 0).
        last: parameters after the last step.
        psf: (h, w) float32.
        scale: `Scale`: background, mean and standard deviation in grey levels.
        history: dict of (epochs,) float arrays: epoch, learning_rate, train_loss, data_loss, positivity_loss, validation_loss,
            chosen (1 where the epoch's parameters became ``best``).
        config: `TrainConfig`, static; ``config.weights`` says which parameters denoise.
    """

    best: dict
    averaged: dict
    last: dict
    psf: jax.Array
    scale: Scale
    history: dict
    config: TrainConfig

    @property
    def params(self):
        """The parameters that denoise."""
        return getattr(self, self.config.weights)


def network_output(params, images, scale, config):
    """The deconvolved images z above the background: grey levels in, grey levels out.

    Args:
        params: network parameters.
        images: (B, H, W) float32 above the background; H and W multiples of ``config.network.multiple``.
        scale: `Scale`.
        config: `TrainConfig`, static.

    Returns:
        (B, H, W) float32.
    """
    output = unet.apply(params, (images - scale.mean) / scale.std, config.network, precision=config.precision)
    return output * (config.output_scale * scale.std) + scale.mean


def batch_losses(params, batch, scale, psf, config):
    """`losses.LossTerms` with one value a patch, (B,), of a `patches.Batch`."""
    deconvolved = network_output(params, batch.visible, scale, config)
    turned = jax.vmap(patches.apply_symmetry, (None, 0))(psf, batch.symmetry)
    denoised = jax.vmap(convolve)(deconvolved, turned)
    loss = partial(losses.total_loss, std=scale.std, positivity=config.positivity, variation=config.variation)
    return jax.vmap(loss)(batch.noisy, batch.scored, deconvolved, denoised)


def train_step(key, state, problem, rate_scale, *, config, parts=1):
    """One optimiser step on one random batch. Pure; `jax.jit` it with ``config`` static and ``state`` donated.

    Args:
        key: the training's random key; the step folds its number in.
        state: `TrainState`.
        problem: `Problem`.
        rate_scale: scalar factor on the scheduled learning rate.
        config: `TrainConfig`, static.
        parts: into how many the batch is cut, if it can be, which are computed one after the other, for less memory; static.

    Returns:
        The next `TrainState`, and `losses.LossTerms` of scalars, means over the batch.
    """
    batch = draw_batch(key, state.step, problem, config)
    found = _in_parts(lambda part: batch_gradients(state.params, part, problem, config), batch, parts)
    gradients, terms = jax.tree.map(lambda values: values.mean(axis=0), found)
    return apply_gradients(state, gradients, rate_scale, config), terms


def draw_batch(key, step, problem, config):
    """The `patches.Batch` of a step (0-based, may be traced); arguments as of `train_step`."""
    key = jax.random.fold_in(key, step)
    return patches.training_batch(key, problem.frames, problem.held_out, batch_size=config.batch_size, **_patch_options(config))


def batch_gradients(params, batch, problem, config):
    """Gradients of the batch's mean loss, a pytree like ``params``, and its mean `losses.LossTerms`; arguments as of `train_step`."""

    def loss(params):
        # The published code sums the gradients of its virtual batch; Adam does not feel the factor between that and this mean.
        terms = jax.tree.map(jnp.mean, batch_losses(params, batch, problem.scale, problem.psf, config))
        return terms.total, terms

    return jax.grad(loss, has_aux=True)(params)


def _in_parts(function, batch, parts):
    """What a function gives for each of some equal parts of a batch, at most ``parts``, stacked."""
    parts = _equal_parts(len(batch.noisy), parts)
    if parts == 1:  # no loop, see `convolution.fast_in_loops`
        return jax.tree.map(lambda leaf: leaf[None], function(batch))
    return jax.lax.map(function, jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch))


def _equal_parts(size, most):
    """Into how many equal parts, at most so many, something can be cut."""
    return next(count for count in range(min(most, size), 0, -1) if size % count == 0)


def validation_losses(key, params, problem, *, config, parts=1):
    """Masked squared error over variance on each of the validation patches that ``key`` draws: (V,) float32.

    Arguments as of `train_step`.
    """
    batch = patches.validation_batch(
        key,
        problem.validation,
        problem.held_out,
        batch_size=config.validation_patches,
        **_patch_options(config),
    )
    return _in_parts(lambda part: batch_losses(params, part, problem.scale, problem.psf, config).data, batch, parts).reshape(-1)


def is_chosen(losses, lowest, *, paired):
    """Whether an epoch's parameters replace those chosen so far.

    The later parameters win unless validation speaks against them: a validation loss is mostly the noise of its targets, and the slow gains
    of a falling learning rate are smaller than what it can resolve, so the lowest of many such losses is a matter of luck.

    Args:
        losses: (V,) validation losses of the epoch, one a patch.
        lowest: (V,) those of the epoch with the lowest mean so far (infinite before the first).
        paired: whether both are of the same patches. Then the mean may exceed the lowest by one standard error of the difference, else by
            nothing (as published).
    """
    if losses.mean() < lowest.mean():
        return True
    difference = losses - lowest
    return bool(paired and len(losses) > 1 and difference.mean() <= difference.std(ddof=1) / len(losses) ** 0.5)


def fit(key, stack, *, psf, config=None, resume=None, on_epoch=None):
    """Train on noisy images alone. Host side: drives the jitted steps.

    Args:
        key: random key; the same key, data and settings give the same model on the same device and versions.
        stack: (N, H, W) or (H, W) array of any real dtype, in grey levels.
        psf: (h, w) array with odd sides; it is scaled to sum 1. ``[[1.0]]`` means no blur.
        config: `TrainConfig`; default ``TrainConfig()``, the preset "fast".
        resume: a `Snapshot` to go on from.
        on_epoch: called with the `Snapshot` after each epoch. Its state is used up by the next epoch: copy what must outlive the call.

    Returns:
        `Denoiser`.

    Raises:
        ValueError: NaN, a constant stack, frames too small to train on, a PSF that is no PSF or does not fit.
    """
    config = config or TrainConfig()
    problem, config = prepare(key, stack, psf=psf, config=config)
    snapshot = resume or start(key, config)
    parts = 1
    while len(snapshot.history) < config.epochs:
        snapshot, parts = run_epoch_in_memory(key, snapshot, problem, config, parts=parts)
        if on_epoch is not None:
            on_epoch(snapshot)
    return denoiser_of(snapshot, problem, config)


def denoiser_of(snapshot, problem, config):
    """The `Denoiser` that a `Snapshot` of at least one epoch is. It shares the snapshot's arrays: copy it if the training goes on."""
    history = {name: np.array([row[name] for row in snapshot.history]) for name in snapshot.history[0]}
    state = snapshot.state
    return Denoiser(snapshot.best, state.averaged, state.params, problem.psf, problem.scale, history, config)


def start(key, config):
    """The `Snapshot` before the first epoch."""
    params = _init(jax.random.fold_in(key, 2**31), config.network)
    best = jax.tree.map(jnp.copy, params)  # a copy, because the step is given its state's memory to write into
    return Snapshot(initial_state(params), best, jnp.full(config.validation_patches, jnp.inf), ())


def _patch_options(config):
    box = blindspot.spacing(config.density, config.hidden)
    return {"patch_size": config.patch_size, "box": box, "radius": config.radius, "blind": config.hidden}


@partial(jax.jit, static_argnames="config")
def _init(key, config):
    return unet.init(key, config)


def take_steps(key, state, problem, rate_scale, *, config, steps, parts=1):
    """Several `train_step`s; the `LossTerms` have a leading axis of steps, but for a single step. Pure; the keyword arguments static."""

    def step(state, _):
        return train_step(key, state, problem, rate_scale, config=config, parts=parts)

    if steps == 1:  # no loop, see `convolution.fast_in_loops`
        return step(state, None)
    return jax.lax.scan(step, state, length=steps)


_take_steps = jax.jit(take_steps, static_argnames=("config", "steps", "parts"), donate_argnames="state")
_draw_batch = jax.jit(draw_batch, static_argnames="config")
_apply_gradients = jax.jit(apply_gradients, static_argnames="config", donate_argnames="state")
_validation_losses = jax.jit(validation_losses, static_argnames=("config", "parts"))


@partial(jax.jit, static_argnames="config", donate_argnames="total")
def _add_gradients(total, params, batch, indices, problem, config):
    """Gradients and terms of some patches of a batch, one after the other, added to what there is."""

    def add(total, index):
        patch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, 1), batch)
        found = batch_gradients(params, patch, problem, config)
        return jax.tree.map(lambda before, value: before + value / config.batch_size, total, found), None

    if len(indices) == 1:  # no loop, see `convolution.fast_in_loops`
        return add(total, indices[0])[0]
    return jax.lax.scan(add, total, indices)[0]


def _step_by_patches(key, state, problem, rate_scale, config):
    """`train_step`, to rounding, patch by patch: a larger batch leaves the caches of a CPU, and its memory is much.

    A few patches are computed at once, because a single one does not keep all cores busy. Each thread adds up its own, in an order that
    does not depend on the number of cores.
    """
    batch = _draw_batch(key, state.step, problem, config=config)
    parts = _equal_parts(config.batch_size, _PARTS)
    a_call = config.batch_size // parts if convolution.fast_in_loops(config.precision) else 1

    def summed(indices):
        total = jax.tree.map(jnp.zeros_like, state.params), losses.LossTerms(*(jnp.float32(0) for _ in losses.LossTerms._fields))
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
    return 1 if one_by_one else _equal_parts(config.steps_per_epoch, _STEPS)


def validation_key(key, epoch, config):
    """The random key of an epoch's validation patches (0-based)."""
    return jax.random.fold_in(key, 2**31 + 2 + (epoch if config.validation_redraw else 0))


def rate_scale(history, config):
    """The factor on the scheduled learning rate in the epoch after those of a snapshot's history."""
    return plateau_factor([row["validation_loss"] for row in history], config.patience) if config.schedule == "plateau" else 1.0


def run_epoch_in_memory(key, snapshot, problem, config, *, parts=1):
    """`run_epoch` with so many ``parts`` of a batch, or more if the device has no memory for them; and how many it took."""
    if jax.default_backend() == "cpu":  # where patches are computed one by one
        return run_epoch(key, snapshot, problem, config), 1
    while True:
        used_up = snapshot._replace(state=jax.tree.map(jnp.copy, snapshot.state))
        try:
            return run_epoch(key, used_up, problem, config, parts=parts), parts
        except jax.errors.JaxRuntimeError as error:
            parts = _more_parts(error, parts, config)


def _more_parts(error, parts, config):
    """Twice as many parts of a batch as the device had no memory for; any other error is raised again."""
    if "RESOURCE_EXHAUSTED" not in str(error) or parts >= max(config.batch_size, config.validation_patches):
        raise error
    warnings.warn(f"the device has no memory for a batch in {parts} parts; going on with {2 * parts}, the result is the same", stacklevel=3)
    return 2 * parts


def run_epoch(key, snapshot, problem, config, *, parts=1):
    """Train and validate for one epoch: `Snapshot` to `Snapshot`, whose state is used up. Host side; ``parts`` as in `train_step`."""
    state, terms, steps, scale = snapshot.state, [], steps_at_once(config), rate_scale(snapshot.history, config)
    by_patches = jax.default_backend() == "cpu" and config.batch_size > 1
    for _ in range(config.steps_per_epoch // steps):
        if by_patches:
            state, term = _step_by_patches(key, state, problem, scale, config)
        else:
            state, term = _take_steps(key, state, problem, scale, config=config, steps=steps, parts=parts)
        terms.append(term)
    losses = _validation_losses(validation_key(key, len(snapshot.history), config), state.averaged, problem, config=config, parts=parts)
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
        "learning_rate": float(learning_rate(epoch * config.steps_per_epoch, config)) * rate_scale(snapshot.history, config),
        "train_loss": mean.total,
        "data_loss": mean.data,
        "positivity_loss": mean.positivity,
        "validation_loss": float(losses.mean()),
        "chosen": float(chosen),
    }
    best = jax.tree.map(jnp.copy, state.averaged) if chosen else snapshot.best
    return Snapshot(state, best, min(losses, lowest, key=np.mean), (*snapshot.history, row))
