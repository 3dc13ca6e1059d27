"""From a stack of frames to batches of training patches: positions, symmetries of the square, blind spots. Pure JAX."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.targets import blindspot


class Batch(NamedTuple):
    """B training patches of side P.

    Attributes:
        noisy: (B, P, P) float32, the targets.
        visible: (B, P, P) float32, what the network sees: the same with the blind spots replaced,
            or another frame of the same scene.
        scored: (B, P, P) bool, the pixels that count: blind spots, or all that show the same.
        symmetry: (B,) int32 in 0..7, how each patch was turned; the PSF must be turned in the same
            way.
        beside: (B, 2 K, P, P) float32, the patches at the same place of the K neighbouring frames
            on each side; None for K = 0.
    """

    noisy: jax.Array
    visible: jax.Array
    scored: jax.Array
    symmetry: jax.Array
    beside: jax.Array | None = None


def held_out_masks(key, shape, *, box, masks=1, regular=False):
    """Pixels of a stack that are never targets, so that they can validate: in each mask one random pixel of each box.

    Args:
        key: random key.
        shape: (N, H, W), static.
        box: side of a cell, see `blindspot.spacing`.
        masks: how many disjoint masks, from 1 to box^2 (which are all pixels), static.
        regular: as in `blindspot.stratified_mask`.

    Returns:
        (N, H, W) uint8: the number of the mask that holds the pixel out, from 1 on; 0 for the
        pixels that may be targets.
    """
    keys = jax.random.split(key, shape[0])
    order = jax.vmap(lambda k: blindspot.stratified_order(k, shape[1:], box=box, regular=regular))(
        keys
    )
    return jnp.where(order < masks, order + 1, 0).astype(jnp.uint8)


def training_batch(
    key,
    frames,
    held_out,
    beside=None,
    repeats=None,
    *,
    patch_size,
    batch_size,
    box,
    radius,
    blind=(0, 0),
    by="random",
    share=None,
):
    """Random patches with random symmetries and random blind spots.

    Args:
        key: random key.
        frames: (N, H, W) float32.
        held_out: (N, H, W), from `held_out_masks`: pixels that are not 0 are never scored; or None.
        beside: (N, 2 K) int32 from `stacks.table`, or None.
        repeats: `repeats.Repeats` of the frames, or None. Patches of frames that have some show all
            their pixels, and all pixels of another frame, as far as it shows the same scene, are
            scored.
        patch_size: P, not larger than H or W.
        batch_size: B.
        box: side of a blind spot's cell, see `blindspot.spacing`.
        radius: of the neighbourhood that replaces a blind spot.
        blind: pixels along y and x that a blind spot hides on each side.
        by: which of it replaces, as in `blindspot.replace_from_neighbourhood`.
        share: (index, count) of the part of the batch that is wanted, one of ``count`` equal parts;
            the index may be traced. Default: all.

    Returns:
        `Batch`.
    """

    def one(key):
        k_place, k_turn, k_mask, k_replace = jax.random.split(key, 4)
        where = _random_place(k_place, frames.shape, patch_size)
        symmetry = jax.random.randint(k_turn, (), 0, SYMMETRIES)
        noisy = _cut(frames, where, patch_size)
        mask = blindspot.stratified_mask(k_mask, noisy.shape, box=box, regular=any(blind))
        if held_out is not None:
            mask &= _cut(held_out, where, patch_size) == 0
        visible = blindspot.replace_from_neighbourhood(
            k_replace, noisy, mask, radius=radius, blind=blind, by=by
        )
        if repeats is not None:
            noisy, visible, mask = _from_repeat(
                k_mask, repeats, frames, held_out, where, 0, (noisy, visible, mask)
            )
        others = _cut_beside(frames, beside, where, patch_size)
        turned = None if others is None else jax.vmap(apply_symmetry, (0, None))(others, symmetry)
        return Batch(
            *(apply_symmetry(values, symmetry) for values in (noisy, visible, mask)),
            symmetry,
            turned,
        )

    return jax.vmap(one)(_keys(key, batch_size, share))


def validation_batch(
    key,
    frames,
    held_out,
    beside=None,
    repeats=None,
    *,
    patch_size,
    batch_size,
    box,
    radius,
    blind=(0, 0),
    by="random",
    share=None,
):
    """Unturned random patches, scored on the first of the held-out masks, or, without any, on fresh blind spots or all of a repeat.

    Arguments as above.
    """

    def one(key):
        k_place, k_mask, k_replace = jax.random.split(key, 3)
        where = _random_place(k_place, frames.shape, patch_size)
        noisy = _cut(frames, where, patch_size)
        fresh = held_out is None
        drawn = partial(blindspot.stratified_mask, k_mask, noisy.shape, box=box, regular=any(blind))
        mask = drawn() if fresh else _cut(held_out, where, patch_size) == 1
        visible = blindspot.replace_from_neighbourhood(
            k_replace, noisy, mask, radius=radius, blind=blind, by=by
        )
        if repeats is not None:
            noisy, visible, mask = _from_repeat(
                k_mask, repeats, frames, held_out, where, 1, (noisy, visible, mask)
            )
        return Batch(
            noisy, visible, mask, jnp.int32(0), _cut_beside(frames, beside, where, patch_size)
        )

    return jax.vmap(one)(_keys(key, batch_size, share))


def _keys(key, batch_size, share):
    """Random keys of the patches of a batch, or of a share of it."""
    keys, (index, count) = jax.random.split(key, batch_size), share or (0, 1)
    return jax.lax.dynamic_slice_in_dim(keys, index * (batch_size // count), batch_size // count)


def _from_repeat(key, repeats, frames, held_out, where, number, own):
    """Targets, visible and scored pixels (P, P) of a frame that another one repeats; of one without what its ``own`` are.

    Scored are the pixels of the other frame that show the same and whose ``held_out`` is
    ``number``, since they are the targets.
    """
    size, count = own[0].shape[0], repeats.count[where[0]]
    chosen = jax.random.randint(jax.random.fold_in(key, 1), (), 0, jnp.maximum(count, 1))
    other, gain, offset = (
        values[where[0], chosen] for values in (repeats.frame, repeats.gain, repeats.offset)
    )
    there = (other, where[1], where[2])
    same = (_cut(repeats.differs, where, size) >> chosen) & 1 == 0
    if held_out is not None:
        same &= _cut(held_out, there, size) == number
    repeated = gain * _cut(frames, there, size) + offset, _cut(frames, where, size), same
    return jax.tree.map(lambda new, old: jnp.where(count > 0, new, old), repeated, own)


class Covering(NamedTuple):
    """L patches of side P at fixed places.

    Attributes:
        noisy: (L, P, P) float32, in grey levels.
        visible: (L, P, P) float32, what the network sees.
        noise: (L, P, P) float32, noise of the same strength as that in `noisy`, in grey levels.
        scored: (L, P, P) bool, the held-out pixels that count here; each counts once.
        beside: (L, 2 K, P, P) float32, of the neighbouring frames; None for K = 0.
    """

    noisy: jax.Array
    visible: jax.Array
    noise: jax.Array
    scored: jax.Array
    beside: jax.Array | None = None


def covering_patches(frames, visible, noise, held_out, beside=None, *, patch_size, limit):
    """Patches on a fixed grid that score each held-out pixel exactly once. Host side: the grid is NumPy's.

    Neighbouring patches overlap; a pixel counts in the patch whose border is further away. Where
    there would be more than `limit` patches, that many are taken, evenly spread over the grid.

    Args:
        frames: (N, H, W) float32.
        visible: (N, H, W) float32.
        noise: (N, H, W) float32.
        held_out: (N, H, W) bool.
        beside: (N, 2 K) int32 from `stacks.table`, or None.
        patch_size: P, not larger than H or W.
        limit: the most patches.

    Returns:
        `Covering`.
    """
    spans = [_spans(length, patch_size) for length in frames.shape[1:]]
    places = [
        (n, row, column) for n in range(len(frames)) for row in spans[0] for column in spans[1]
    ]
    places = [
        places[i]
        for i in np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int)
    ]
    where = jnp.array([(n, row[0], column[0]) for n, row, column in places])
    inside = np.arange(patch_size)
    own = np.array(
        [
            np.outer(*((span[1] <= inside) & (inside < span[2]) for span in (row, column)))
            for _, row, column in places
        ]
    )
    stacks = frames, visible, noise, held_out
    *rest, held_out = (
        jax.vmap(lambda at, stack=stack: _cut(stack, at, patch_size))(where) for stack in stacks
    )
    others = (
        None
        if beside is None
        else jax.vmap(lambda at: _cut_beside(frames, beside, at, patch_size))(where)
    )
    return Covering(*rest, held_out & own, others)


def _spans(length, patch_size):
    """(start, first pixel inside that it owns, one behind the last) of the patches that cover an axis, evenly spread."""
    starts = np.linspace(0, length - patch_size, -(-length // patch_size)).round().astype(int)
    meets = (starts[1:] + starts[:-1] + patch_size) // 2
    return list(
        zip(starts, [0, *meets - starts[1:]], [*meets - starts[:-1], patch_size], strict=True)
    )


def _random_place(key, shape, patch_size):
    room = jnp.array([shape[0], shape[1] - patch_size + 1, shape[2] - patch_size + 1])
    return jax.random.randint(key, (3,), 0, room)


def _cut_beside(frames, beside, where, patch_size):
    """The patches (2 K, P, P) at the same place of the frames beside, or None."""
    return (
        None
        if beside is None
        else jax.vmap(lambda number: _cut(frames, (number, where[1], where[2]), patch_size))(
            beside[where[0]]
        )
    )


def _cut(frames, where, patch_size):
    return jax.lax.dynamic_slice(frames, where, (1, patch_size, patch_size))[0]
