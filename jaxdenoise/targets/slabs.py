"""Slabs: training samples of neighbouring planes of a volume, for a PSF that mixes planes.

A denoised plane collects light from the R planes on each side that a PSF of 2 R + 1 planes reaches.
So a sample is a window of planes at one place. The network predicts each of them, and those are
scored whose light comes from the window alone: the inner planes, and the planes at the end of a
volume, where it is reflected.

Only scored planes have blind spots. A network that sees neighbouring planes sees them with their
blind spots wherever they appear: else the pixel that is hidden in its own plane would reach its
denoised value through the plane beside, by way of the PSF.

Pure JAX for ``jit`` and ``vmap``, but for `slab_table`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from jaxdenoise.imaging.symmetry import SYMMETRIES, apply_symmetry
from jaxdenoise.microscope.psf import reflected
from jaxdenoise.targets import blindspot
from jaxdenoise.targets.patches import Beside, PatchOptions


class Slabs(NamedTuple):
    """The windows of planes from which slabs are cut: M windows of W planes.

    Attributes:
        first: (M,) int32, the number of each window's first frame.
        scored: (M, W) bool, the planes whose light comes from the window alone.
        sources: (M, W + 2 R) int32, places in the window: what stands at each plane, and at the R
            planes before and after them, once the volume is reflected at its ends.
    """

    first: Int[Array | np.ndarray, " M"]
    scored: Bool[Array | np.ndarray, "M W"]
    sources: Int[Array | np.ndarray, "M extended"]


class SlabBatch(NamedTuple):
    """B slabs of W planes of side P.

    Attributes:
        noisy: (B, W, P, P) float32, the targets.
        visible: (B, W, P, P) float32, the targets with their blind spots replaced.
        scored: (B, W, P, P) bool, the blind spots.
        symmetry: (B,) int32 in 0..7, how each slab was turned, as the PSF must be.
        sources: (B, W + 2 R) int32, as of `Slabs`.
        beside: (B, W, 2 K, P, P) float32, the planes beside each one as the network sees them; None
            for K = 0.
    """

    noisy: Float[Array, "*batch W P P"]
    visible: Float[Array, "*batch W P P"]
    scored: Bool[Array, "*batch W P P"]
    symmetry: Int[Array, "*batch"]
    sources: Int[Array, "*batch extended"]
    beside: Float[Array, "*batch W beside P P"] | None = None


def slab_table(count: int, sequence: int, reach: int, *, extra: int, whole: bool) -> Slabs:
    """Return the windows of frames that are sequences of planes. Host side.

    Args:
        count: N, frames in all.
        sequence: planes in one volume, a divisor of N.
        reach: R, planes on each side that the PSF reaches, at least 1.
        extra: further planes on each side, which are scored beside the middle one.
        whole: whether the sequences are whole volumes, which are reflected at their ends.

    Raises:
        ValueError: a sequence of one plane, or one that is too short to hold a scored plane.
    """
    if sequence < 2 or (not whole and sequence < 2 * reach + 1):
        raise ValueError(
            f"a PSF of {2 * reach + 1} planes needs volumes (Z, H, W) of several planes, not "
            f"{sequence}; a single image takes a PSF of one plane"
        )
    width = min(sequence, 2 * (reach + extra) + 1)
    starts = np.arange(sequence - width + 1)
    inside, around = np.arange(width), np.arange(-reach, width + reach)
    before = (inside >= reach) | (whole & (starts[:, None] == 0))
    after = (inside + reach < width) | (whole & (starts[:, None] + width == sequence))
    sources = reflected(starts[:, None] + around, sequence) - starts[:, None]
    volumes = np.arange(0, count, sequence)
    return Slabs(
        first=(volumes[:, None] + starts).ravel().astype(np.int32),
        scored=np.tile(before & after, (len(volumes), 1)),
        sources=np.tile(np.clip(sources, 0, width - 1), (len(volumes), 1)).astype(np.int32),
    )


def training_slabs(
    key: PRNGKeyArray,
    frames: Float[Array | np.ndarray, "N H W"],
    slabs: Slabs,
    held_out: UInt8[Array | np.ndarray, "N H W"] | None = None,
    beside: Beside | None = None,
    *,
    options: PatchOptions,
    batch_size: int,
    share: tuple[int | Int[Array, ""], int] | None = None,
) -> SlabBatch:
    """Draw random slabs with random symmetries and random blind spots.

    Args:
        key: random key.
        frames: (N, H, W) float32.
        slabs: `Slabs` of the frames.
        held_out: as of `patches.training_batch`.
        beside: as of `patches.training_batch`.
        options: `patches.PatchOptions`, static.
        batch_size: B, static.
        share: as of `patches.training_batch`.
    """
    slabs = Slabs(*map(jnp.asarray, slabs))

    def draw(key):
        k_place, k_turn, k_mask, k_replace = jax.random.split(key, 4)
        window, place = _random_place(k_place, frames, slabs, options.patch_size)
        mask = _random_masks(k_mask, slabs, options) & slabs.scored[window][:, None, None]
        if held_out is not None:
            mask &= _cut(held_out, place, slabs, options) == 0
        slab = _slab(k_replace, frames, slabs, beside, (window, place), mask, options)
        symmetry = jax.random.randint(k_turn, (), 0, SYMMETRIES)
        return _turned(slab._replace(symmetry=symmetry))

    return jax.vmap(draw)(_keys(key, batch_size, share))


def validation_slabs(
    key: PRNGKeyArray,
    frames: Float[Array | np.ndarray, "N H W"],
    slabs: Slabs,
    held_out: UInt8[Array | np.ndarray, "N H W"],
    beside: Beside | None = None,
    *,
    options: PatchOptions,
    batch_size: int,
    share: tuple[int | Int[Array, ""], int] | None = None,
) -> SlabBatch:
    """Draw random slabs, not turned, that are scored on the first of the held-out masks.

    The arguments are those of `training_slabs`.
    """
    slabs = Slabs(*map(jnp.asarray, slabs))

    def draw(key):
        k_place, k_replace = jax.random.split(key)
        window, place = _random_place(k_place, frames, slabs, options.patch_size)
        held = _cut(held_out, place, slabs, options) == 1
        mask = held & slabs.scored[window][:, None, None]
        return _slab(k_replace, frames, slabs, beside, (window, place), mask, options)

    return jax.vmap(draw)(_keys(key, batch_size, share))


def _keys(key, batch_size, share):
    keys, (index, count) = jax.random.split(key, batch_size), share or (0, 1)
    return jax.lax.dynamic_slice_in_dim(keys, index * (batch_size // count), batch_size // count)


def _random_place(key, frames, slabs, patch_size):
    """A window, and the first pixel (n, row, column) of a slab there."""
    room = jnp.array(
        [len(slabs.first), frames.shape[1] - patch_size + 1, frames.shape[2] - patch_size + 1]
    )
    window, row, column = jax.random.randint(key, (3,), 0, room)
    return window, (slabs.first[window], row, column)


def _random_masks(key, slabs, options):
    """Blind spots of each plane of a window (W, P, P)."""
    side, regular = options.patch_size, any(options.blind)
    return jax.vmap(
        lambda k: blindspot.stratified_mask(k, (side, side), box=options.box, regular=regular)
    )(jax.random.split(key, slabs.scored.shape[1]))


def _slab(key, frames, slabs, beside, at, mask, options):
    """One slab, not turned."""
    window, place = at
    noisy = _cut(frames, place, slabs, options)
    visible = jax.vmap(
        lambda k, plane, spots: blindspot.replace_from_neighbourhood(
            k,
            plane,
            spots,
            radius=options.radius,
            blind=options.blind,
            replacement=options.replacement,
        )
    )(jax.random.split(key, len(noisy)), noisy, mask)
    others = None
    if beside is not None:
        others = _beside(frames, jnp.asarray(beside.numbers), place, visible, options.patch_size)
    sources = slabs.sources[window]
    return SlabBatch(noisy, visible, mask, jnp.int32(0), sources, others)


def _beside(frames, beside, place, visible, side):
    """The planes beside each one of a slab (W, 2 K, P, P), those of the slab as they are seen."""
    first, row, column = place
    numbers = jax.lax.dynamic_slice_in_dim(beside, first, len(visible))

    def seen(number):
        other = jax.lax.dynamic_slice(frames, (number, row, column), (1, side, side))[0]
        within = number - first
        inside = (within >= 0) & (within < len(visible))
        return jnp.where(inside, visible[jnp.clip(within, 0, len(visible) - 1)], other)

    return jax.vmap(jax.vmap(seen))(numbers)


def _turned(slab):
    """The slab turned as its symmetry says."""

    def turn(planes):
        flat = planes.reshape(-1, *planes.shape[-2:])
        turned = jax.vmap(apply_symmetry, (0, None))(flat, slab.symmetry)
        return turned.reshape(planes.shape)

    names = ("noisy", "visible", "scored", *(["beside"] if slab.beside is not None else []))
    return slab._replace(**{name: turn(getattr(slab, name)) for name in names})


def _cut(stack, place, slabs, options):
    """The slab of a stack at a place (W, P, P)."""
    shape = slabs.scored.shape[1], options.patch_size, options.patch_size
    return jax.lax.dynamic_slice(stack, place, shape)
