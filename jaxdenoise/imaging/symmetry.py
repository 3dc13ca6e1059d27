"""The eight rotations and mirror images of an image."""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

Symmetry: TypeAlias = int | np.integer | Int[Array, ""]
SYMMETRIES = 8  # rotations by 90 degrees and their mirror images


def apply_symmetry(
    image: Shaped[Array, "P P"] | Shaped[np.ndarray, "P P"],
    symmetry: Symmetry,
) -> Shaped[Array, "P P"]:
    """Turn or mirror a square image.

    Args:
        image: (P, P), any dtype.
        symmetry: 0 to 7, may be traced: bit 0 flips the rows, bit 1 the columns, bit 2 transposes.
    """
    image = jnp.where(symmetry & 1, image[::-1], image)
    image = jnp.where(symmetry & 2, image[:, ::-1], image)
    return jnp.where(symmetry & 4, image.T, image)


def undo_symmetry(
    image: Shaped[Array, "P P"] | Shaped[np.ndarray, "P P"],
    symmetry: Symmetry,
) -> Shaped[Array, "P P"]:
    """Undo `apply_symmetry`."""
    image = jnp.where(symmetry & 4, image.T, image)
    image = jnp.where(symmetry & 2, image[:, ::-1], image)
    return jnp.where(symmetry & 1, image[::-1], image)
