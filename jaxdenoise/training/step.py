"""The train step and its parts, from a random key to the next weights.

Pure JAX: everything works under jit, vmap and grad. All randomness of a step comes from the key and
the number of the step (`streams.step_key`): a training that was stopped and resumed is the one that
was never stopped.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdenoise.imaging.symmetry import apply_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.network.denoiser import Params, Scale, network_output
from jaxdenoise.network.settings import Settings
from jaxdenoise.targets import blindspot, patches, slabs
from jaxdenoise.targets.losses import LossTerms
from jaxdenoise.training import streams
from jaxdenoise.training.objective import objective
from jaxdenoise.training.problem import Problem
from jaxdenoise.training.slab_losses import slab_losses

_ADAM = optax.scale_by_adam()  # the step applies the learning rate, which a plateau may lower


class TrainState(NamedTuple):
    """What a step changes, on the device.

    Attributes:
        step: number of steps that were taken, int32 scalar.
        params: the network's parameters.
        opt_state: Adam's moments.
        averaged: exponential moving average of the parameters.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: Any
    averaged: Params


def batch_losses(
    params: Params,
    batch: patches.Batch | slabs.SlabBatch,
    scale: Scale,
    psf: Float[Array, "*d h w"],
    config: Settings,
) -> LossTerms:
    """Return `losses.LossTerms` with one value per patch, (B,), or per slab."""
    if isinstance(batch, slabs.SlabBatch):
        return slab_losses(params, batch, scale, psf, config)
    deconvolved = network_output(params, batch.visible, scale, config, batch.beside)
    turned = jax.vmap(apply_symmetry, (None, 0))(psf, batch.symmetry)
    denoised = jax.vmap(blurred)(deconvolved, turned)
    return jax.vmap(objective(scale, config))(batch.noisy, batch.scored, deconvolved, denoised)


def blurred(patch: Float[Array, "P Q"], psf: Float[Array, "h w"]) -> Float[Array, "P Q"]:
    """Return `psf.convolve` of a patch that may be smaller than the PSF, as those of tiny images.

    The patch is reflected at its borders. Pure.
    """
    if psf.shape[0] <= patch.shape[0] and psf.shape[1] <= patch.shape[1]:
        return convolve(patch, psf)
    down, right = psf.shape[0] // 2, psf.shape[1] // 2
    extended = jnp.pad(patch, [(down, down), (right, right)], mode="reflect")
    # The reflection of the reflection does not reach what is cut out.
    return convolve(extended, psf)[down : down + patch.shape[0], right : right + patch.shape[1]]


def train_step(
    key: PRNGKeyArray,
    state: TrainState,
    problem: Problem,
    rate_scale: float | Float[Array, ""],
    *,
    config: Settings,
    parts: int = 1,
    axis: str | None = None,
) -> tuple[TrainState, LossTerms]:
    """Take one optimiser step on one random batch.

    Pure; `jax.jit` it with ``config``, ``parts`` and ``axis`` static and ``state`` donated.

    Args:
        key: the training's random key; the step folds its number in.
        state: `TrainState`.
        problem: `Problem`.
        rate_scale: scalar factor on the scheduled learning rate.
        config: `Settings`, static.
        parts: number of parts, at most, that are computed one after the other, for less memory;
            the batch is cut into the largest number of equal parts up to it. Static.
        axis: name of the axis of a `jax.shard_map` (or `jax.vmap`) whose members share the batch,
            one or several patches each; static.

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


def take_steps(
    key: PRNGKeyArray,
    state: TrainState,
    problem: Problem,
    rate_scale: float | Float[Array, ""],
    *,
    config: Settings,
    steps: int,
    parts: int = 1,
    axis: str | None = None,
) -> tuple[TrainState, LossTerms]:
    """Take several steps, as `train_step` does. Pure; the keyword arguments are static.

    Returns:
        The next `TrainState`, and `losses.LossTerms` with a leading axis of steps, or of scalars
        for a single step.
    """

    def step(state, _):
        return train_step(key, state, problem, rate_scale, config=config, parts=parts, axis=axis)

    if steps == 1:  # no loop, see `convolution.fast_in_loops`
        return step(state, None)
    return jax.lax.scan(step, state, length=steps)


def draw_batch(
    key: PRNGKeyArray,
    step: int | Int[Array, ""],
    problem: Problem,
    config: Settings,
    share: tuple[Int[Array, ""] | int, int] | None = None,
) -> patches.Batch | slabs.SlabBatch:
    """Draw the `patches.Batch` of a step (0-based, may be traced); of volumes slabs.

    ``share`` is as of `patches.training_batch`, the other arguments are as of `train_step`.
    """
    if problem.slabs is not None:
        return slabs.training_slabs(
            streams.step_key(key, step),
            problem.frames,
            problem.slabs,
            problem.held_out,
            problem.beside,
            options=_patch_options(config),
            batch_size=config.batch_size,
            share=share,
        )
    data = problem.frames, problem.held_out, problem.beside, problem.repeats
    return patches.training_batch(
        streams.step_key(key, step),
        *data,
        options=_patch_options(config),
        batch_size=config.batch_size,
        share=share,
    )


def batch_gradients(
    params: Params,
    batch: patches.Batch | slabs.SlabBatch,
    problem: Problem,
    config: Settings,
) -> tuple[Params, LossTerms]:
    """Return the gradients of the batch's mean loss, and its mean `losses.LossTerms`.

    The gradients are a pytree like ``params``. Arguments as of `train_step`.
    """

    def loss(params):
        # The published code sums the gradients of its virtual batch; Adam is invariant to the
        # factor between that sum and this mean.
        terms = jax.tree.map(
            jnp.mean, batch_losses(params, batch, problem.scale, problem.psf, config)
        )
        return terms.total, terms

    return jax.grad(loss, has_aux=True)(params)


def validation_losses(
    key: PRNGKeyArray,
    params: Params,
    problem: Problem,
    *,
    config: Settings,
    parts: int = 1,
    axis: str | None = None,
) -> Float[Array, " V"]:
    """Return the mean squared error over the variance on each validation patch that ``key`` draws.

    Arguments as of `train_step`. Members of an axis share the patches if they can, and all get all
    losses.

    Returns:
        (V,) float32.
    """
    share = _share(axis)
    if share is not None and config.validation_patches % share[1]:
        share = None
    batch = _validation_batch(key, problem, config, share)
    losses = _in_parts(
        lambda part: batch_losses(params, part, problem.scale, problem.psf, config).data,
        batch,
        parts,
    ).reshape(-1)
    return losses if share is None else jax.lax.all_gather(losses, axis, tiled=True)


def _validation_batch(key, problem, config, share):
    own = {"options": _patch_options(config), "batch_size": config.validation_patches}
    if problem.slabs is not None:
        data = problem.validation, problem.slabs, problem.held_out, problem.beside
        return slabs.validation_slabs(key, *data, share=share, **own)
    return patches.validation_batch(
        key,
        problem.validation,
        problem.held_out,
        problem.beside,
        problem.validation_repeats,
        share=share,
        **own,
    )


def equal_parts(size: int, most: int) -> int:
    """Return the largest divisor of ``size`` that is not above ``most``."""
    return next(count for count in range(min(most, size), 0, -1) if size % count == 0)


def initial_state(params: Params) -> TrainState:
    """Return the `TrainState` before the first step.

    It holds the parameters themselves, and a copy as their average.
    """
    return TrainState(jnp.int32(0), params, _ADAM.init(params), jax.tree.map(jnp.copy, params))


def apply_gradients(
    state: TrainState,
    gradients: Params,
    rate_scale: float | Float[Array, ""],
    config: Settings,
) -> TrainState:
    """Return the next `TrainState`: a step of Adam, and of the average of the weights. Pure.

    Args:
        state: `TrainState`.
        gradients: pytree like its parameters.
        rate_scale: scalar factor on the scheduled learning rate.
        config: `Settings`, static.
    """
    updates, opt_state = _ADAM.update(gradients, state.opt_state)
    rate = learning_rate(state.step, config) * rate_scale
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    averaged = _moving_average(state.averaged, params, state.step, config.averaging)
    return TrainState(state.step + 1, params, opt_state, averaged)


def learning_rate(step: int | Int[Array, ""], config: Settings) -> Float[Array, ""]:
    """Return the scheduled learning rate of a step, before a plateau lowers it.

    Args:
        step: 0-based, may be traced.
        config: `Settings`, static.

    Returns:
        float32 scalar.
    """
    if config.schedule == "plateau":
        return jnp.float32(config.learning_rate)
    steps = config.epochs * config.steps_per_epoch
    warm_up = max(1, round(0.02 * steps))
    rising = (step + 1) / warm_up
    falling = 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
    return config.learning_rate * jnp.minimum(rising, falling)


def plateau_factor(epoch_losses: Sequence[float | Float[Array, ""]], patience: int) -> float:
    """Return the factor on the learning rate after epochs of these validation losses.

    It is halved each time that more than ``patience`` epochs brought no new minimum. As in
    PyTorch's ReduceLROnPlateau, which the published code uses, a minimum counts as new when it is
    lower by a factor of 1 - 1e-4.
    """
    factor, best, waited = 1.0, float("inf"), 0
    for loss in map(float, epoch_losses):
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if waited > patience:
            factor, waited = factor / 2, 0
    return factor


def _share(axis):
    """Return (index, count) of this member of a mapped axis; None without one."""
    return None if axis is None else (jax.lax.axis_index(axis), jax.lax.axis_size(axis))


def _mean_over(axis, tree):
    """Return the mean of a pytree of float32 over the members of a mapped axis.

    The leaves travel as one vector, in one message between the devices.
    """
    vector, restored = ravel_pytree(tree)
    return restored(jax.lax.pmean(vector, axis))


def _in_parts(function: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Return the stacked results of a function for equal parts of a batch, at most ``parts``."""
    parts = equal_parts(len(batch.noisy), parts)
    if parts == 1:  # no loop, see `convolution.fast_in_loops`
        return jax.tree.map(lambda leaf: leaf[None], function(batch))
    return jax.lax.map(
        function, jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)
    )


def _patch_options(config):
    box = blindspot.spacing(config.density, config.blind)
    return patches.PatchOptions(
        patch_size=config.patch_size,
        box=box,
        radius=config.radius,
        blind=config.blind,
        replacement=config.replacement,
    )


def _moving_average(average, params, step, decay):
    # The decay grows from 0 so that the random start is forgotten at once.
    decay = jnp.minimum(decay, step / (step + 10.0))
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
