"""The eight rotations and mirror images of a square image."""

import jax
import numpy as np

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry, undo_symmetry


def test_the_eight_symmetries_are_different_and_can_be_undone():
    image = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    apply, undo = jax.jit(apply_symmetry), jax.jit(undo_symmetry)
    turned = [np.asarray(apply(image, symmetry)) for symmetry in range(SYMMETRIES)]
    assert len({values.tobytes() for values in turned}) == SYMMETRIES
    for symmetry, values in enumerate(turned):
        np.testing.assert_array_equal(undo(values, symmetry), image)
    np.testing.assert_array_equal(turned[1], image[::-1])
    np.testing.assert_array_equal(turned[2], image[:, ::-1])
    np.testing.assert_array_equal(turned[4], image.T)
