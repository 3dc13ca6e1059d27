"""The train step and its parts, from a random key to the next weights. Pure JAX: everything works under jit, vmap and grad.

All randomness of a step is ``fold_in(key, step)``: a training that was stopped and resumed is the
one that was never stopped.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxdenoise.imaging.symmetry import apply_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.targets import blindspot, patches
from jaxdenoise.targets.losses import total_loss


def batch_losses(params, batch, scale, psf, config):
    """`losses.LossTerms` with one value a patch, (B,), of a `patches.Batch`."""
    deconvolved = network_output(params, batch.visible, scale, config, batch.beside)
    turned = jax.vmap(apply_symmetry, (None, 0))(psf, batch.symmetry)
    denoised = jax.vmap(convolve)(deconvolved, turned)
    loss = partial(
        total_loss, std=scale.std, positivity=config.positivity, variation=config.variation
    )
    return jax.vmap(loss)(batch.noisy, batch.scored, deconvolved, denoised)


def train_step(key, state, problem, rate_scale, *, config, parts=1, axis=None):
    """One optimiser step on one random batch. Pure; `jax.jit` it with ``config`` static and ``state`` donated.

    Args:
        key: the training's random key; the step folds its number in.
        state: `TrainState`.
        problem: `Problem`.
        rate_scale: scalar factor on the scheduled learning rate.
        config: `TrainConfig`, static.
        parts: into how many the batch is cut, if it can be, which are computed one after the other,
            for less memory; static.
        axis: name of the axis of a `jax.shard_map` (or `jax.vmap`) whose members share the batch, a
            patch or several each; static.

    Returns:
        The next `TrainState`, and `losses.LossTerms` of scalars, means over the batch.
    """
    batch = draw_batch(key, state.step, problem, config, share=_share(axis))
    found = _in_parts(
        lambda part: batch_gradients(state.params, part, problem, config), batch, parts
    )
    found = jax.tree.map(lambda values: values.mean(axis=0), found)
    gradients, terms = found if axis is None else _mean_over(axis, found)
    return apply_gradients(state, gradients, rate_scale, config), terms


def draw_batch(key, step, problem, config, share=None):
    """The `patches.Batch` of a step (0-based, may be traced), or a share of it; arguments as of `train_step` and `training_batch`."""
    data = problem.frames, problem.held_out, problem.beside, problem.repeats
    return patches.training_batch(
        jax.random.fold_in(key, step),
        *data,
        options=_patch_options(config),
        batch_size=config.batch_size,
        share=share,
    )


def _share(axis):
    """(index, count) of this member of a mapped axis; None without one."""
    return None if axis is None else (jax.lax.axis_index(axis), jax.lax.axis_size(axis))


def _mean_over(axis, tree):
    """Mean over the members of a mapped axis, of a pytree of float32 as one vector: one message between devices."""
    vector, restored = ravel_pytree(tree)
    return restored(jax.lax.pmean(vector, axis))


def batch_gradients(params, batch, problem, config):
    """Gradients of the batch's mean loss, a pytree like ``params``, and its mean `losses.LossTerms`; arguments as of `train_step`."""

    def loss(params):
        # The published code sums the gradients of its virtual batch; Adam does not feel the factor
        # between that and this mean.
        terms = jax.tree.map(
            jnp.mean, batch_losses(params, batch, problem.scale, problem.psf, config)
        )
        return terms.total, terms

    return jax.grad(loss, has_aux=True)(params)


def _in_parts(function, batch, parts):
    """What a function gives for each of some equal parts of a batch, at most ``parts``, stacked."""
    parts = equal_parts(len(batch.noisy), parts)
    if parts == 1:  # no loop, see `convolution.fast_in_loops`
        return jax.tree.map(lambda leaf: leaf[None], function(batch))
    return jax.lax.map(
        function, jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)
    )


def equal_parts(size, most):
    """Into how many equal parts, at most so many, something can be cut."""
    return next(count for count in range(min(most, size), 0, -1) if size % count == 0)


def validation_losses(key, params, problem, *, config, parts=1, axis=None):
    """Squared error of what is scored over variance, on each of the validation patches that ``key`` draws: (V,) float32.

    Arguments as of `train_step`. Members of an axis share the patches if they can, and all get all
    losses.
    """
    share = _share(axis)
    if share is not None and config.validation_patches % share[1]:
        share = None
    batch = patches.validation_batch(
        key,
        problem.validation,
        problem.held_out,
        problem.beside,
        problem.validation_repeats,
        options=_patch_options(config),
        batch_size=config.validation_patches,
        share=share,
    )
    losses = _in_parts(
        lambda part: batch_losses(params, part, problem.scale, problem.psf, config).data,
        batch,
        parts,
    ).reshape(-1)
    return losses if share is None else jax.lax.all_gather(losses, axis, tiled=True)


def take_steps(key, state, problem, rate_scale, *, config, steps, parts=1, axis=None):
    """Several `train_step`s; the `LossTerms` have a leading axis of steps, but for a single step. Pure; the keyword arguments static."""

    def step(state, _):
        return train_step(key, state, problem, rate_scale, config=config, parts=parts, axis=axis)

    if steps == 1:  # no loop, see `convolution.fast_in_loops`
        return step(state, None)
    return jax.lax.scan(step, state, length=steps)


def _patch_options(config):
    box = blindspot.spacing(config.density, config.hidden)
    return patches.PatchOptions(
        patch_size=config.patch_size,
        box=box,
        radius=config.radius,
        blind=config.hidden,
        replacement=config.replacement,
    )


_ADAM = optax.scale_by_adam()  # the step applies the learning rate, which a plateau may lower


class TrainState(NamedTuple):
    """What a step changes: pytrees on the device."""

    step: jax.Array
    params: dict
    opt_state: tuple
    averaged: dict


def initial_state(params):
    """The `TrainState` before the first step. It holds the parameters themselves, and a copy as their average."""
    return TrainState(jnp.int32(0), params, _ADAM.init(params), jax.tree.map(jnp.copy, params))


def apply_gradients(state, gradients, rate_scale, config):
    """The next `TrainState`: a step of Adam, and of the average of the weights. Pure.

    Args:
        state: `TrainState`.
        gradients: pytree like its parameters.
        rate_scale: scalar factor on the scheduled learning rate.
        config: `TrainConfig`, static.
    """
    updates, opt_state = _ADAM.update(gradients, state.opt_state)
    rate = learning_rate(state.step, config) * rate_scale
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    averaged = _moving_average(state.averaged, params, state.step, config.averaging)
    return TrainState(state.step + 1, params, opt_state, averaged)


def learning_rate(step, config):
    """The scheduled learning rate of a step (0-based, may be traced), before a plateau lowers it; float32 scalar."""
    if config.schedule == "plateau":
        return jnp.float32(config.learning_rate)
    steps = config.epochs * config.steps_per_epoch
    warm_up = max(1, round(0.02 * steps))
    rising = (step + 1) / warm_up
    falling = 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
    return config.learning_rate * jnp.minimum(rising, falling)


def plateau_factor(epoch_losses, patience):
    """The factor on the learning rate after these epochs: halved each time more than ``patience`` of them brought no new minimum.

    As PyTorch's ReduceLROnPlateau, which the published code uses, a minimum counts as new when it
    is lower by a factor of 1e-4.
    """
    factor, best, waited = 1.0, float("inf"), 0
    for loss in epoch_losses:
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if waited > patience:
            factor, waited = factor / 2, 0
    return factor


def _moving_average(average, params, step, decay):
    # The decay grows from 0 so that the random start is forgotten at once.
    decay = jnp.minimum(decay, step / (step + 10.0))
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
