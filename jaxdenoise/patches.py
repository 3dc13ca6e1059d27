"""From a stack of frames to batches of training patches: positions, symmetries of the square, blind spots. Pure JAX."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdenoise import blindspot

SYMMETRIES = 8  # rotations by 90 degrees and their mirror images


class Batch(NamedTuple):
    """B training patches of side P.

    Attributes:
        noisy: (B, P, P) float32, the targets.
        visible: (B, P, P) float32, the same with the blind spots replaced: what the network sees.
        scored: (B, P, P) bool, the blind spots that count.
        symmetry: (B,) int32 in 0..7, how each patch was turned; the PSF must be turned in the same way.
    """

    noisy: jax.Array
    visible: jax.Array
    scored: jax.Array
    symmetry: jax.Array


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


def held_out_mask(key, shape, *, box):
    """Pixels of a stack (N, H, W) that are never targets, so that they can validate: one random pixel in each box, as bool."""
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda k: blindspot.stratified_mask(k, shape[1:], box=box))(keys)


def training_batch(key, frames, held_out, *, patch_size, batch_size, box, radius):
    """Random patches with random symmetries and random blind spots.

    Args:
        key: random key.
        frames: (N, H, W) float32.
        held_out: (N, H, W) bool, pixels that are never scored; or None.
        patch_size: P, not larger than H or W.
        batch_size: B.
        box: side of a blind spot's cell, see `blindspot.box_size`.
        radius: of the neighbourhood that replaces a blind spot.

    Returns:
        `Batch`.
    """

    def one(key):
        k_place, k_turn, k_mask, k_replace = jax.random.split(key, 4)
        where = _random_place(k_place, frames.shape, patch_size)
        symmetry = jax.random.randint(k_turn, (), 0, SYMMETRIES)
        noisy = apply_symmetry(_cut(frames, where, patch_size), symmetry)
        mask = blindspot.stratified_mask(k_mask, noisy.shape, box=box)
        if held_out is not None:
            mask &= ~apply_symmetry(_cut(held_out, where, patch_size), symmetry)
        visible = blindspot.replace_from_neighbourhood(k_replace, noisy, mask, radius=radius)
        return Batch(noisy, visible, mask, symmetry)

    return jax.vmap(one)(jax.random.split(key, batch_size))


def validation_batch(key, frames, held_out, *, patch_size, batch_size, box, radius):
    """Unturned random patches that are scored on the held-out pixels, or, without any, on fresh blind spots. Arguments as above."""

    def one(key):
        k_place, k_mask, k_replace = jax.random.split(key, 3)
        where = _random_place(k_place, frames.shape, patch_size)
        noisy = _cut(frames, where, patch_size)
        fresh = held_out is None
        mask = blindspot.stratified_mask(k_mask, noisy.shape, box=box) if fresh else _cut(held_out, where, patch_size)
        visible = blindspot.replace_from_neighbourhood(k_replace, noisy, mask, radius=radius)
        return Batch(noisy, visible, mask, jnp.int32(0))

    return jax.vmap(one)(jax.random.split(key, batch_size))


def _random_place(key, shape, patch_size):
    room = jnp.array([shape[0], shape[1] - patch_size + 1, shape[2] - patch_size + 1])
    return jax.random.randint(key, (3,), 0, room)


def _cut(frames, where, patch_size):
    return jax.lax.dynamic_slice(frames, where, (1, patch_size, patch_size))[0]
