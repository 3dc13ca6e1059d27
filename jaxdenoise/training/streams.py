"""The random streams of a training, which all start from its key.

A stream's key is `jax.random.fold_in` of the training's key and the stream's number. The steps take
the numbers from 0 on, so the others lie beyond the most steps that a training can have.
"""

import jax
from jaxtyping import Array, Int, PRNGKeyArray

INIT = 2**31  # random weights
HELD_OUT = 2**31 + 1  # pixels that are held out
VALIDATION = 2**31 + 2  # validation patches; the epoch is added where they are drawn anew
COVERING = 2**32 - 2  # the patches that score the models of a sweep
_SEEDS = 2**31  # of a sweep: the seed's index is subtracted


def step_key(key: PRNGKeyArray, step: int | Int[Array, ""]) -> PRNGKeyArray:
    """Return the key of an optimiser step (0-based, may be traced)."""
    return jax.random.fold_in(key, step)


def stream_key(key: PRNGKeyArray, stream: int) -> PRNGKeyArray:
    """Return the key of one of the streams that this module names."""
    return jax.random.fold_in(key, stream)


def validation_key(key: PRNGKeyArray, epoch: int, *, redraw: bool) -> PRNGKeyArray:
    """Return the key of an epoch's (0-based) validation patches, one key for all unless redrawn."""
    return jax.random.fold_in(key, VALIDATION + (epoch if redraw else 0))


def seed_key(key: PRNGKeyArray, seed: int) -> PRNGKeyArray:
    """Return the key that stands for the training's key in the models of another seed."""
    return key if seed == 0 else jax.random.fold_in(key, _SEEDS - seed)
