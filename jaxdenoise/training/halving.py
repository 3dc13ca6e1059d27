"""Successive halving: after which epochs the models of a sweep are scored, and which PSFs go on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.microscope.psf import psf_sigma
from jaxdenoise.training.selection import choose

# After this share of the epochs so many PSFs go on: 7 x 0.05 + 4 x 0.1 + 2 x 0.35 + 0.5 = 1.95
# trainings for seven candidates.
HALVING = ((0.05, 4), (0.15, 2), (0.5, 1))

Schedule = Sequence[tuple[float, int]]


def stages(halving: Schedule, epochs: int, count: int) -> list[tuple[int, int]]:
    """Return (epoch, number of PSFs that go on) of each time that the models are scored.

    Args:
        halving: pairs (share of the epochs, number of PSFs that go on), as of `sweep.sweep`.
        epochs: of a whole training.
        count: number of PSFs at the start.

    Raises:
        ValueError: shares that do not rise between 0 and 1, or numbers that do not fall.
    """
    shares, keeps = [share for share, _ in halving], [keep for _, keep in halving]
    if (
        sorted(set(shares)) != shares
        or sorted(keeps, reverse=True) != keeps
        or not all(0 < share < 1 for share in shares)
        or 0 in keeps
    ):
        raise ValueError(
            "sweep: halving must be pairs of a rising share between 0 and 1 and a falling number "
            f"of PSFs, not {halving}"
        )
    return [*((max(1, round(share * epochs)), keep) for share, keep in halving), (epochs, count)]


def epochs_in_all(halving: Schedule, epochs: int, count: int) -> int:
    """Return how many epochs of training a sweep of ``count`` models of one seed takes.

    Arguments as of `stages`.
    """
    total, done = 0, 0
    for until, keep in stages(halving, epochs, count):
        total, done, count = total + count * (until - done), until, min(count, keep)
    return total


def kept(
    errors: dict[int, Float[np.ndarray, " B"]], psfs: Float[Array, "K h w"], keep: int
) -> tuple[int, ...]:
    """Return the indices of the PSFs that go on: those of the lowest scores.

    If it is one, `selection.choose` chooses it.

    Args:
        errors: dict of the PSF's index to (B,) paired errors, whose mean is its score.
        psfs: (K, h, w), all PSFs of the sweep.
        keep: number of PSFs that go on, at most.
    """
    left = sorted(errors)
    if len(left) <= keep:
        return tuple(left)
    if keep == 1:
        widths = [float(psf_sigma(psfs[psf])) for psf in left]
        return (left[choose(np.stack([errors[psf] for psf in left]), widths)],)
    return tuple(sorted(sorted(left, key=lambda psf: errors[psf].mean())[:keep]))
