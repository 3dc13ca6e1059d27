"""Train a network that the package ships, for some steps at a time, and keep its averaged weights.

The scripts `pretrain_*.py` say what a sample is and what is asked for.
"""

import argparse
import dataclasses
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED, TrainConfig
from jaxdenoise.network import pretrained
from jaxdenoise.network.settings import settle, shape_of
from jaxdenoise.training.step import apply_gradients, initial_state

STEPS_A_CALL = 100


def steps(state, key, data, psf, loss, config):
    """Take `STEPS_A_CALL` steps; return the state and the logarithms of their errors."""
    if config.fast_in_loops:
        return _steps_at_once(state, key, data, psf, loss, config)
    errors = []
    for _ in range(STEPS_A_CALL):
        state, error = _one_step(state, key, data, psf, loss, config)
        errors.append(error)
    return state, jnp.stack(errors)


def _step(state, key, data, psf, loss, config):
    gradients, error = jax.grad(loss, has_aux=True)(
        state.params, jax.random.fold_in(key, state.step), data, psf, config
    )
    return apply_gradients(state, gradients, 1.0, config), error


_one_step = partial(jax.jit, static_argnames=("loss", "config"), donate_argnums=0)(_step)


@partial(jax.jit, static_argnames=("loss", "config"), donate_argnums=0)
def _steps_at_once(state, key, data, psf, loss, config):
    return jax.lax.scan(
        lambda state, _: _step(state, key, data, psf, loss, config), state, length=STEPS_A_CALL
    )


def shipped(name):
    """Return the weights of a file of the package, to go on from."""
    return jax.tree.map(jnp.asarray, pretrained.shipped(name))


def widened(shares):
    """Return the weights of the network for single frames for one that sees several images.

    Args:
        shares: of its first layer, one for each image; their sum is 1.
    """
    params = shipped(pretrained.FRAMES)
    first = params["down_convs_0"]["conv1"]
    first["kernel"] = jnp.concatenate([share * first["kernel"] for share in shares], 2)
    return params


def train(args, loss, data, params, network, averaging=0.998):
    """Train, and write the averaged weights now and then.

    Args:
        args: of `build_parser`.
        loss: a function of the parameters, a random key, the data, the PSF and the `Settings`; it
            returns what is made small, and the logarithm of the error.
        data: a pytree of arrays.
        params: to start from.
        network: a `config.UNetConfig`.
        averaging: decay of the average of the weights, a step.
    """
    request = TrainConfig(
        network=dataclasses.replace(PRETRAINED, stride=1),
        epochs=max(1, args.steps // STEPS_A_CALL),
        steps_per_epoch=STEPS_A_CALL,
        averaging=averaging,
        learning_rate=args.learning_rate,
    )
    config = dataclasses.replace(settle(request), network=shape_of(network))
    psf = jnp.asarray(jd.gaussian_psf(pretrained.PSF_SIGMA), jnp.float32)
    state, key, began = initial_state(params), jax.random.key(args.seed), time.monotonic()
    for call in range(config.epochs):
        state, errors = steps(state, key, data, psf, loss, config)
        if call % 5 == 4 or call == config.epochs - 1:
            seconds = time.monotonic() - began
            print(f"{state.step} steps, {seconds:.0f} s, error {errors.mean():.4f}", flush=True)
            pretrained.write(args.output, state.averaged)


def build_parser(description, *, steps, learning_rate=6e-4):
    """Return the parser of the options that all these scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file of the weights")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", action="store_true", help="start from the shipped weights")
    return parser
