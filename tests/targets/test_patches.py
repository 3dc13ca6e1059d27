"""Training patches: turned cuts of frames, changed at blind spots, never scored where held out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry, undo_symmetry
from jaxdenoise.microscope.psf import convolve
from jaxdenoise.targets.patches import (
    PatchOptions,
    held_out_masks,
    training_batch,
    validation_batch,
)

FRAMES = np.arange(3 * 17 * 14, dtype=np.float32).reshape(3, 17, 14)  # each value says where it is
OPTIONS = PatchOptions(patch_size=12, box=4, radius=2)
HELD_OUT = np.asarray(
    jax.jit(lambda key: held_out_masks(key, FRAMES.shape, box=3))(jax.random.key(5))
)


def turned(square):
    """The eight symmetries of a square, by NumPy."""
    return [np.rot90(face, turns) for face in (square, square[::-1]) for turns in range(4)]


def cut(patch):
    """Frame, row and column of the cut of FRAMES that a patch is; None if it is none."""
    frame, row, column = np.unravel_index(int(patch[0, 0]), FRAMES.shape)
    expected = FRAMES[frame, row : row + len(patch), column : column + len(patch)]
    return (frame, row, column) if np.array_equal(patch, expected) else None


def held_out_in(patch):
    return HELD_OUT.ravel()[np.asarray(patch).astype(int)]


@functools.cache
def compiled(make):
    return jax.jit(functools.partial(make, options=OPTIONS, batch_size=24))


def batch(make, seed=0, held_out=None):
    return jax.tree.map(np.asarray, compiled(make)(jax.random.key(seed), FRAMES, held_out))


# symmetries


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_undo_is_the_inverse(symmetry):
    image = FRAMES[0, :5, :5]
    np.testing.assert_array_equal(undo_symmetry(apply_symmetry(image, symmetry), symmetry), image)
    np.testing.assert_array_equal(apply_symmetry(undo_symmetry(image, symmetry), symmetry), image)


def test_the_eight_are_those_of_the_square():
    image = FRAMES[0, :5, :5]
    ours = {np.asarray(apply_symmetry(image, symmetry)).tobytes() for symmetry in range(8)}
    assert len(ours) == SYMMETRIES == 8
    assert ours == {np.ascontiguousarray(square).tobytes() for square in turned(image)}


def test_symmetry_0_does_nothing_and_the_bits_mean_what_they_say():
    image = FRAMES[0, :5, :5]
    for symmetry, expected in [
        (0, image),
        (1, image[::-1]),
        (2, image[:, ::-1]),
        (3, image[::-1, ::-1]),
        (4, image.T),
    ]:
        np.testing.assert_array_equal(apply_symmetry(image, symmetry), expected)


def test_a_traced_symmetry():
    images, symmetries = jnp.asarray(FRAMES[0, :5, :5])[None].repeat(8, 0), jnp.arange(8)
    there = jax.jit(jax.vmap(apply_symmetry))(images, symmetries)
    for symmetry in range(8):
        np.testing.assert_array_equal(there[symmetry], apply_symmetry(images[0], symmetry))
    np.testing.assert_array_equal(jax.jit(jax.vmap(undo_symmetry))(there, symmetries), images)


def test_a_turned_image_has_a_turned_psf():
    rng = np.random.default_rng(0)
    image, psf = (
        rng.normal(size=(11, 11)).astype(np.float32),
        rng.uniform(0, 0.1, (5, 5)).astype(np.float32),
    )
    symmetries = jnp.arange(SYMMETRIES)
    turn = jax.jit(jax.vmap(apply_symmetry, (None, 0)))
    expected = jax.vmap(convolve)(turn(image, symmetries), turn(psf, symmetries))
    np.testing.assert_allclose(turn(convolve(image, psf), symmetries), expected, atol=1e-5)


# held_out_masks


def test_held_out_pixels_are_one_in_each_box_of_each_frame():
    mask = np.asarray(
        jax.jit(lambda key: held_out_masks(key, (5, 18, 12), box=6))(jax.random.key(0))
    )
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask.reshape(5, 3, 6, 2, 6).sum((2, 4)), 1)
    assert len({frame.tobytes() for frame in mask}) == 5


def test_held_out_density_with_cut_boxes():
    mask = np.asarray(
        jax.jit(lambda key: held_out_masks(key, (400, 10, 13), box=4))(jax.random.key(0))
    )
    assert mask.mean() == pytest.approx(1 / 16, rel=0.05)


# training_batch


def test_a_batch_has_the_shapes_and_dtypes_it_says():
    for make in (training_batch, validation_batch):
        result = batch(make)
        assert [part.shape for part in result[:4]] == [(24, 12, 12)] * 3 + [(24,)]
        assert [part.dtype for part in result[:4]] == [np.float32, np.float32, bool, np.int32]
        assert result.beside is None


@pytest.mark.parametrize("held_out", [None, HELD_OUT], ids=["none", "held-out"])
def test_training_patches_are_turned_cuts(held_out):
    result = batch(training_batch, held_out=held_out)
    for noisy, symmetry in zip(result.noisy, result.symmetry, strict=True):
        places = [place for place in map(cut, turned(noisy)) if place]
        assert len(places) == 1
        frame, row, column = places[0]
        np.testing.assert_array_equal(
            apply_symmetry(FRAMES[frame, row : row + 12, column : column + 12], symmetry), noisy
        )


@pytest.mark.parametrize("make", [training_batch, validation_batch])
@pytest.mark.parametrize("held_out", [None, HELD_OUT], ids=["none", "held-out"])
def test_what_the_network_sees_differs_at_the_scored_pixels_alone(make, held_out):
    result = batch(make, held_out=held_out)
    np.testing.assert_array_equal(result.visible != result.noisy, result.scored)
    for noisy, visible, scored in zip(result.noisy, result.visible, result.scored, strict=True):
        assert scored.any()
        for y, x in np.argwhere(scored):
            assert visible[y, x] in noisy[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]


def test_without_held_out_pixels_there_is_one_blind_spot_a_cell():
    for make in (training_batch, validation_batch):
        np.testing.assert_array_equal(batch(make).scored.reshape(24, 3, 4, 3, 4).sum((2, 4)), 1)


def test_held_out_pixels_are_never_scored_in_training():
    spots = [batch(training_batch, seed, HELD_OUT) for seed in range(4)]
    held_out = np.stack([held_out_in(part.noisy) for part in spots])
    scored = np.stack([part.scored for part in spots])
    assert not (scored & held_out).any()
    # What is left is all the other blind spots: 8 in 9 of one a cell.
    assert scored.mean() == pytest.approx((1 - HELD_OUT.mean()) / 16, rel=0.05)


def test_nothing_is_scored_when_all_is_held_out():
    result = batch(training_batch, held_out=np.ones_like(HELD_OUT))
    assert not result.scored.any()
    np.testing.assert_array_equal(result.visible, result.noisy)


def test_every_place_and_symmetry_is_as_likely():
    many = [batch(training_batch, seed) for seed in range(300)]
    corners = np.concatenate([part.noisy.min((1, 2)) for part in many]).astype(
        int
    )  # the lowest value is the cut's first pixel
    turns = np.concatenate([part.symmetry for part in many])
    counts = np.unique(corners * 8 + turns, return_counts=True)[1]
    assert len(counts) == 3 * 6 * 3 * 8  # frames, rows, columns, symmetries
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_patch_may_be_as_large_as_the_frame():
    frames = jnp.asarray(FRAMES[:1, :12, :12])
    result = compiled(training_batch)(jax.random.key(0), frames, None)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(undo_symmetry))(result.noisy, result.symmetry), np.repeat(frames, 24, 0)
    )


# validation_batch


def test_validation_patches_are_unturned_cuts():
    result = batch(validation_batch, held_out=HELD_OUT)
    assert all(map(cut, result.noisy))
    assert (result.symmetry == 0).all()
    assert len(set(map(cut, result.noisy))) > 10


def test_validation_scores_the_held_out_pixels_and_no_others():
    result = batch(validation_batch, held_out=HELD_OUT)
    np.testing.assert_array_equal(result.scored, held_out_in(result.noisy))


# keys


@pytest.mark.parametrize("make", [training_batch, validation_batch])
def test_a_batch_is_decided_by_its_key(make):
    first, again, other = batch(make), batch(make), batch(make, seed=1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.noisy != other.noisy).any()
    assert (first.scored != other.scored).any()


def test_patches_of_one_batch_differ():
    result = batch(training_batch)
    assert len({mask.tobytes() for mask in result.scored}) == 24
    assert len({patch.tobytes() for patch in result.noisy}) > 18
