"""Batches of training patches from a stack of frames: random places, symmetries and blind spots.

Pure JAX, for ``jit`` and ``vmap``, but for `covering_patches`, which lays its grid on the host.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.targets import blindspot
from jaxdenoise.targets.repeats import Repeats

NO_TARGET = (
    255  # in place of a mask's number: a pixel that is shown to the network and never scored
)


class Beside(NamedTuple):
    """What a network sees beside each of N frames.

    Attributes:
        numbers: (N, 2 K) int32 of the frames beside each one, from `stacks.frames_beside`.
        guides: (N, H, W) float32, the guides of a guided network, see `guides`; else None.
    """

    numbers: Int[Array | np.ndarray, "N beside"]
    guides: Float[Array | np.ndarray, "N H W"] | None = None


class Batch(NamedTuple):
    """B training patches of side P.

    Attributes:
        noisy: (B, P, P) float32, the targets.
        visible: (B, P, P) float32, what the network sees: the targets with their blind spots
            replaced, or another frame of the same scene.
        scored: (B, P, P) bool, the pixels that enter the loss: blind spots, or all pixels at which
            the other frame shows the same.
        symmetry: (B,) int32 in 0..7, how each patch was turned; the PSF must be turned in the same
            way.
        beside: (B, `NetworkShape.beside`, P, P) float32, the patches at the same place of the
            neighbouring frames, and of the guide; None where the network sees none.
    """

    noisy: Float[Array, "*batch P P"]
    visible: Float[Array, "*batch P P"]
    scored: Bool[Array, "*batch P P"]
    symmetry: Int[Array, "*batch"]
    beside: Float[Array, "*batch beside P P"] | None = None


@dataclasses.dataclass(frozen=True)
class PatchOptions:
    """How patches and their blind spots are drawn. Static under ``jit``.

    Attributes:
        patch_size: side P of a patch in pixels, not larger than the frames.
        box: side in pixels of the cells that hold one blind spot each, see `blindspot.spacing`.
        radius: in pixels, of the neighbourhood that replaces a blind spot.
        blind: pixels along y and x that a blind spot hides on each side.
        replacement: of a blind spot, as in `blindspot.replace_from_neighbourhood`.
    """

    patch_size: int
    box: int
    radius: int
    blind: tuple[int, int] = (0, 0)
    replacement: str = "random"


def held_out_masks(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    *,
    box: int,
    masks: int = 1,
    regular: bool = False,
) -> UInt8[Array, "N H W"]:
    """Draw pixels of a stack that are never targets, so that they can validate.

    Each mask holds out one random pixel of each box in each frame.

    Args:
        key: random key.
        shape: (N, H, W), static.
        box: side of a box in pixels, see `blindspot.spacing`; static.
        masks: number of disjoint masks, from 1 to box^2 (which hold out all pixels), static.
        regular: as in `blindspot.stratified_mask`; static.

    Returns:
        (N, H, W) uint8: the number of the mask that holds the pixel out, from 1 on; 0 for the
        pixels that may be targets.
    """
    keys = jax.random.split(key, shape[0])
    order = jax.vmap(lambda k: blindspot.stratified_order(k, shape[1:], box=box, regular=regular))(
        keys
    )
    return jnp.where(order < masks, order + 1, 0).astype(jnp.uint8)


def is_held_out(held_out: UInt8[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Return which pixels some mask of `held_out_masks` holds out, to validate or to score."""
    return (held_out > 0) & (held_out != NO_TARGET)


def training_batch(
    key: PRNGKeyArray,
    frames: Float[Array | np.ndarray, "N H W"],
    held_out: UInt8[Array | np.ndarray, "N H W"] | Bool[Array | np.ndarray, "N H W"] | None = None,
    beside: Beside | None = None,
    repeats: Repeats | None = None,
    *,
    options: PatchOptions,
    batch_size: int,
    share: tuple[int | Int[Array, ""], int] | None = None,
) -> Batch:
    """Draw random patches with random symmetries and random blind spots.

    Args:
        key: random key.
        frames: (N, H, W) float32.
        held_out: (N, H, W) from `held_out_masks`, not 0 at the pixels that are never scored; None
            where no pixel is held out.
        beside: what the network sees beside the frames, or None.
        repeats: `repeats.Repeats` of the frames, or None. Where a frame has repeats, the network
            sees all its pixels, and the targets are all pixels of another frame that show the same
            scene.
        options: `PatchOptions`, static.
        batch_size: B, static.
        share: (index, count): draw only this one of ``count`` equal parts of the batch. The index
            may be traced. Default: the whole batch.

    Returns:
        `Batch`.
    """

    def draw(key):
        k_place, k_turn, k_mask, k_replace = jax.random.split(key, 4)
        place = _random_place(k_place, frames.shape, options.patch_size)
        symmetry = jax.random.randint(k_turn, (), 0, SYMMETRIES)
        noisy = _cut(frames, place, options.patch_size)
        mask = _random_mask(k_mask, noisy.shape, options)
        if held_out is not None:
            mask &= _cut(held_out, place, options.patch_size) == 0
        visible = _replaced(k_replace, noisy, mask, options)
        if repeats is not None:
            noisy, visible, mask = _from_repeat(
                k_mask, repeats, frames, held_out, place, 0, (noisy, visible, mask)
            )
        others = _cut_beside(frames, beside, place, options.patch_size)
        turned = None if others is None else jax.vmap(apply_symmetry, (0, None))(others, symmetry)
        noisy, visible, mask = (
            apply_symmetry(values, symmetry) for values in (noisy, visible, mask)
        )
        return Batch(noisy, visible, mask, symmetry, turned)

    return jax.vmap(draw)(_keys(key, batch_size, share))


def validation_batch(
    key: PRNGKeyArray,
    frames: Float[Array | np.ndarray, "N H W"],
    held_out: UInt8[Array | np.ndarray, "N H W"] | Bool[Array | np.ndarray, "N H W"] | None = None,
    beside: Beside | None = None,
    repeats: Repeats | None = None,
    *,
    options: PatchOptions,
    batch_size: int,
    share: tuple[int | Int[Array, ""], int] | None = None,
) -> Batch:
    """Draw random patches, not turned, that are scored on the first of the held-out masks.

    Where no pixel is held out, fresh blind spots are scored, or all pixels of a repeat. The
    arguments are those of `training_batch`.
    """

    def draw(key):
        k_place, k_mask, k_replace = jax.random.split(key, 3)
        place = _random_place(k_place, frames.shape, options.patch_size)
        noisy = _cut(frames, place, options.patch_size)
        if held_out is None:
            mask = _random_mask(k_mask, noisy.shape, options)
        else:
            mask = _cut(held_out, place, options.patch_size) == 1
        visible = _replaced(k_replace, noisy, mask, options)
        if repeats is not None:
            noisy, visible, mask = _from_repeat(
                k_mask, repeats, frames, held_out, place, 1, (noisy, visible, mask)
            )
        others = _cut_beside(frames, beside, place, options.patch_size)
        return Batch(noisy, visible, mask, jnp.int32(0), others)

    return jax.vmap(draw)(_keys(key, batch_size, share))


def _keys(key, batch_size, share):
    """Random keys of the patches of a batch, or of a share of it."""
    keys, (index, count) = jax.random.split(key, batch_size), share or (0, 1)
    return jax.lax.dynamic_slice_in_dim(keys, index * (batch_size // count), batch_size // count)


def _random_mask(key, shape, options):
    return blindspot.stratified_mask(key, shape, box=options.box, regular=any(options.blind))


def _replaced(key, noisy, mask, options):
    """The patch with its blind spots replaced."""
    return blindspot.replace_from_neighbourhood(
        key,
        noisy,
        mask,
        radius=options.radius,
        blind=options.blind,
        replacement=options.replacement,
    )


def _from_repeat(key, repeats, frames, held_out, place, number, own):
    """Target, visible patch and score mask (P, P) from a repeat; ``own`` where the frame has none.

    Scored are the pixels of the other frame that show the same and whose ``held_out`` is
    ``number``, since they are the targets.
    """
    size, count = own[0].shape[0], repeats.counts[place[0]]
    chosen = jax.random.randint(jax.random.fold_in(key, 1), (), 0, jnp.maximum(count, 1))
    other, gain, offset = (
        values[place[0], chosen] for values in (repeats.frame, repeats.gain, repeats.offset)
    )
    there = (other, place[1], place[2])
    same = (_cut(repeats.differs, place, size) >> chosen) & 1 == 0
    if held_out is not None:
        same &= _cut(held_out, there, size) == number
    repeated = gain * _cut(frames, there, size) + offset, _cut(frames, place, size), same
    return jax.tree.map(lambda new, old: jnp.where(count > 0, new, old), repeated, own)


class Covering(NamedTuple):
    """L patches of side P at fixed places.

    Attributes:
        noisy: (L, P, P) float32, in grey levels.
        visible: (L, P, P) float32, what the network sees.
        noise: (L, P, P) float32, noise of the same strength as that in `noisy`, in grey levels.
        scored: (L, P, P) bool, the held-out pixels that this patch scores; each is scored once.
        beside: (L, B, P, P) float32, of what the network sees beside the frames, or None.
    """

    noisy: Float[Array, "*batch P P"]
    visible: Float[Array, "*batch P P"]
    noise: Float[Array, "*batch P P"]
    scored: Bool[Array, "*batch P P"]
    beside: Float[Array, "*batch beside P P"] | None = None


def covering_patches(
    frames: Float[Array | np.ndarray, "N H W"],
    visible: Float[Array | np.ndarray, "N H W"],
    noise: Float[Array | np.ndarray, "N H W"],
    held_out: Bool[Array | np.ndarray, "N H W"],
    beside: Beside | None = None,
    *,
    patch_size: int,
    limit: int,
) -> Covering:
    """Cut patches on a fixed grid that score each held-out pixel exactly once. Host side.

    Neighbouring patches overlap; a pixel is scored in the patch whose border is further away. Where
    there would be more than `limit` patches, that many are taken, evenly spread over the grid.

    Args:
        frames: (N, H, W) float32.
        visible: (N, H, W) float32.
        noise: (N, H, W) float32.
        held_out: (N, H, W) bool.
        beside: what the network sees beside the frames, or None.
        patch_size: P, not larger than H or W.
        limit: the most patches.

    Returns:
        `Covering`.
    """
    places = [spans(length, patch_size) for length in frames.shape[1:]]
    grid = [
        (n, row, column) for n in range(len(frames)) for row in places[0] for column in places[1]
    ]
    taken = np.linspace(0, len(grid) - 1, min(limit, len(grid))).round().astype(int)
    chosen = [grid[i] for i in taken]
    corners = jnp.array([(n, row.start, column.start) for n, row, column in chosen])
    own = np.array([np.outer(row.owned, column.owned) for _, row, column in chosen])
    noisy, seen, noises, scored = (
        jax.vmap(lambda place, stack=stack: _cut(stack, place, patch_size))(corners)
        for stack in (frames, visible, noise, held_out)
    )
    others = (
        None
        if beside is None
        else jax.vmap(lambda place: _cut_beside(frames, beside, place, patch_size))(corners)
    )
    return Covering(noisy, seen, noises, scored & own, others)


class Span(NamedTuple):
    """A piece along one axis.

    Attributes:
        start: its first pixel in the frame.
        owned: (P,) which of its pixels are counted in this piece; each pixel is in one.
    """

    start: int
    owned: Bool[np.ndarray, " P"]


def spans(length: int, patch_size: int) -> list[Span]:
    """Return the pieces of ``patch_size`` pixels that cover an axis, evenly spread."""
    starts = np.linspace(0, length - patch_size, -(-length // patch_size)).round().astype(int)
    borders = (starts[1:] + starts[:-1] + patch_size) // 2  # between one patch's own and the next's
    firsts, ends = [0, *borders - starts[1:]], [*borders - starts[:-1], patch_size]
    inside = np.arange(patch_size)
    return [
        Span(int(start), (first <= inside) & (inside < end))
        for start, first, end in zip(starts, firsts, ends, strict=True)
    ]


def _random_place(key, shape, patch_size):
    """(n, row, column) of the first pixel of a random patch."""
    room = jnp.array([shape[0], shape[1] - patch_size + 1, shape[2] - patch_size + 1])
    return jax.random.randint(key, (3,), 0, room)


def _cut_beside(frames, beside, place, patch_size):
    """The patches (B, P, P) at the same place of what is beside a frame, or None."""
    if beside is None:
        return None
    patches = jax.vmap(lambda number: _cut(frames, (number, place[1], place[2]), patch_size))(
        beside.numbers[place[0]]
    )
    if beside.guides is None:
        return patches
    return jnp.concatenate([patches, _cut(beside.guides, place, patch_size)[None]])


def _cut(frames, place, patch_size):
    return jax.lax.dynamic_slice(frames, place, (1, patch_size, patch_size))[0]
