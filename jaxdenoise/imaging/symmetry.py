"""The eight rotations and mirror images of an image."""

import jax.numpy as jnp

SYMMETRIES = 8  # rotations by 90 degrees and their mirror images


def apply_symmetry(image, symmetry):
    """Turn or mirror a square image (P, P): bit 0 flips the rows, bit 1 the columns, bit 2 transposes. ``symmetry`` may be traced."""
    image = jnp.where(symmetry & 1, image[::-1], image)
    image = jnp.where(symmetry & 2, image[:, ::-1], image)
    return jnp.where(symmetry & 4, image.T, image)


def undo_symmetry(image, symmetry):
    """The inverse of `apply_symmetry`."""
    image = jnp.where(symmetry & 4, image.T, image)
    image = jnp.where(symmetry & 2, image[:, ::-1], image)
    return jnp.where(symmetry & 1, image[::-1], image)
