"""Slabs of planes: which are scored, where their light comes from, and what the network sees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.network.stacks import table
from jaxdenoise.targets.patches import Beside, PatchOptions, held_out_masks
from jaxdenoise.targets.slabs import slab_table, training_slabs, validation_slabs
from jaxdenoise.training.slab_losses import blurred_slab

OPTIONS = PatchOptions(patch_size=16, box=4, radius=2)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("sequence", "reach", "whole"), [(12, 2, True), (12, 2, False), (6, 3, True), (4, 5, True)]
)
def test_scored_planes_have_the_light_that_they_have_in_the_volume(sequence, reach, whole):
    volume = RNG.normal(size=(sequence, 9, 9)).astype(np.float32)
    psf = gaussian_psf((1.5, 0.8, 0.8), size=(2 * reach + 1, 5, 5))
    blurred = np.asarray(convolve(volume, psf))
    found = slab_table(2 * sequence, sequence, reach, extra=1, whole=whole)
    width, scored = found.scored.shape[1], np.zeros(sequence, int)
    for first, own, sources in zip(*found, strict=True):
        at = first % sequence
        assert at + width <= sequence
        result = np.asarray(
            blurred_slab(jnp.asarray(volume[at : at + width]), jnp.asarray(sources), psf)
        )
        np.testing.assert_allclose(result[own], blurred[at : at + width][own], rtol=1e-4, atol=1e-5)
        scored[at : at + width] += own
    inner = np.arange(reach, sequence - reach)
    assert (scored > 0).all() if whole else (np.flatnonzero(scored) == inner).all()


def test_too_few_planes_are_refused():
    with pytest.raises(ValueError, match="needs volumes"):
        slab_table(5, 1, 2, extra=1, whole=True)
    with pytest.raises(ValueError, match="5 planes needs volumes"):
        slab_table(4, 4, 2, extra=1, whole=False)


def test_only_scored_planes_have_blind_spots_and_planes_beside_show_them_hidden():
    frames = RNG.normal(size=(10, 20, 20)).astype(np.float32)
    slabs, beside = slab_table(10, 10, 2, extra=1, whole=True), Beside(table(10, 10, 1))
    held_out = np.asarray(held_out_masks(jax.random.key(1), frames.shape, box=4))
    draw = jax.jit(partial(training_slabs, options=OPTIONS, batch_size=6), static_argnames="share")
    batch = draw(jax.random.key(0), frames, slabs, held_out, beside)
    hidden = np.asarray(batch.noisy != batch.visible)
    assert batch.scored.any()
    assert not (hidden & ~np.asarray(batch.scored)).any()
    assert hidden[np.asarray(batch.scored)].mean() > 0.9
    # The planes before and after the third one are its neighbours in the slab, as they are seen.
    for one in range(6):
        np.testing.assert_array_equal(batch.beside[one, 3, 0], batch.visible[one, 2])
        np.testing.assert_array_equal(batch.beside[one, 3, 1], batch.visible[one, 4])
    check = jax.jit(partial(validation_slabs, options=OPTIONS, batch_size=6))
    again = check(jax.random.key(0), frames, slabs, held_out, beside)
    assert (np.asarray(again.symmetry) == 0).all()
    assert again.scored.any()
    shares = [
        draw(jax.random.key(0), frames, slabs, held_out, beside, share=(index, 2))
        for index in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate([part.noisy for part in shares]), batch.noisy)
