"""Random keys from seeds."""

import jax
from jaxtyping import PRNGKeyArray

Key = PRNGKeyArray | int


def as_key(key: Key) -> PRNGKeyArray:
    """Return a random key; a whole number counts as the seed of one."""
    return jax.random.key(key) if isinstance(key, int) else key
