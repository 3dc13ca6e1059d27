"""From gradients to the next weights: Adam, the schedule of its rate, the average of the weights. Pure JAX."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

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

    As PyTorch's ReduceLROnPlateau, which the published code uses, a minimum counts as new when it is lower by a factor of 1e-4.
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
