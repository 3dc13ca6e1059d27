"""Stacks of frames: the checks of their pixels, and the frames beside each one. NumPy, host side.

A network may see neighbouring frames, in time or in depth. Where frames change less than their
noise, each is another observation of the same signal. A blind spot hides a pixel of its own frame
only. The neighbours show the same place with independent noise.

Source: Lecoq et al., "Removing independent noise in systems neuroscience data using
DeepInterpolation", Nature Methods 18 (2021); Sheth et al., "Unsupervised deep video denoising",
ICCV 2021.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float32, Int, Int32, Shaped

from jaxdenoise.network.settings import NetworkShape

LARGEST = 1e18  # grey levels, whose square float32 holds


def table(count: int, sequence: int, reach: int) -> Int32[np.ndarray, "{count} {2*reach}"]:
    """Return the numbers of the frames beside each one.

    Args:
        count: N, frames in all: sequences of equal length that follow each other.
        sequence: frames in one sequence, a divisor of N.
        reach: frames on each side, at least 0.

    Returns:
        (N, 2 reach) int32, ascending: the others in the window of 2 reach + 1 frames around each
        frame. At the ends of its sequence the window is moved inwards, so that no frame appears
        twice.

    Raises:
        ValueError: a sequence is shorter than the window.
    """
    width = 2 * reach + 1
    if reach and sequence < width:
        raise ValueError(
            f"a network that sees {reach} frames on each side needs at least {width} in a row, "
            f"not {sequence}"
        )
    number, place = np.arange(count), np.arange(count) % sequence
    first = np.clip(place - reach, 0, max(sequence - width, 0))
    window = (number - place + first)[:, None] + np.arange(width)
    return window[window != number[:, None]].reshape(count, 2 * reach).astype(np.int32)


def frames_beside(
    network: NetworkShape, count: int, sequence: int
) -> Int32[np.ndarray, "{count} beside"]:
    """Return the numbers of the frames that a network sees beside each one.

    Args:
        network: its shape; one for volumes sees `mirrored_table`, others see `table`.
        count: as of `table`, whose errors are raised.
        sequence: as of `table`.
    """
    chosen = mirrored_table if network.planes else table
    return chosen(count, sequence, network.neighbours)


def mirrored_table(count: int, sequence: int, reach: int) -> Int32[np.ndarray, "{count} {2*reach}"]:
    """Return the numbers of the planes above and below each one of volumes.

    Each stands at its distance from the plane, so that a network can tell them apart. A plane that
    is missing on one side is replaced by that on the other; where both are, by the end of the
    volume that is further away. So none is the plane itself.

    Args:
        count: N, planes in all: volumes of equal depth that follow each other.
        sequence: planes in one volume, a divisor of N.
        reach: planes on each side, at least 0.

    Returns:
        (N, 2 reach) int32, from the lowest number to the highest where none is missing.

    Raises:
        ValueError: volumes of a single plane.
    """
    if reach and sequence < 2:
        raise ValueError("a network that sees neighbouring planes needs at least two of them")
    number, place = np.arange(count)[:, None], np.arange(count)[:, None] % sequence
    steps = np.delete(np.arange(-reach, reach + 1), reach)
    own, other = place + steps, place - steps
    further = np.where(2 * place < sequence - 1, sequence - 1, 0)
    inside = [(x >= 0) & (x < sequence) for x in (own, other)]
    chosen = np.where(inside[0], own, np.where(inside[1], other, further))
    return (number - place + chosen).astype(np.int32)


def windows(
    beside: Int[np.ndarray, "N beside"], numbers: Sequence[int] | Int[np.ndarray, " M"]
) -> tuple[Int[np.ndarray, "M window"], Int[np.ndarray, " M"]]:
    """Return the frames of some windows, and the place of each window's own frame in it.

    Args:
        beside: (N, 2 K) as of `table`.
        numbers: (M,) numbers of frames.

    Returns:
        (M, 2 K + 1) numbers of frames, ascending, and (M,) places in it.
    """
    frames = np.sort(np.column_stack([numbers, beside[numbers]]), axis=1)
    return frames, (frames == np.asarray(numbers)[:, None]).argmax(axis=1)


def row_length(stack: Shaped[ArrayLike, "..."]) -> int:
    """Return how many frames of a stack (..., N, H, W) stand in a row; 1 for an image (H, W)."""
    return np.shape(stack)[-3] if np.ndim(stack) > 2 else 1


def checked_stack(stack: Shaped[ArrayLike, "..."]) -> Float32[np.ndarray, "N H W"]:
    """Return a stack as (N, H, W) float32 NumPy array.

    Args:
        stack: (N, H, W), (S, N, H, W) or (H, W) array of any real dtype, in grey levels; NaN where
            there is no data.

    Raises:
        ValueError: another shape, no pixels, complex or infinite pixels, or pixels above `LARGEST`.
    """
    stack = np.asarray(stack)
    if not 2 <= stack.ndim <= 4 or stack.size == 0:
        raise ValueError(
            "expected a stack (N, H, W), an image (H, W) or sequences (S, N, H, W), with at least "
            f"one pixel, got shape {stack.shape}"
        )
    stack = stack.reshape(-1, *stack.shape[-2:])
    if np.iscomplexobj(stack):
        raise ValueError("the images are complex; give their magnitude")
    stack = stack.astype(np.float32, copy=False)
    bad = np.count_nonzero(np.isinf(stack))
    if bad:
        raise ValueError(f"{bad} pixels are infinite; NaN marks pixels without data")
    check_levels(stack)
    return stack


def check_levels(array: Shaped[np.ndarray, "..."]) -> None:
    """Check that float32 holds the squares of grey levels.

    Raises:
        ValueError: a pixel above `LARGEST`.
    """
    largest = max(-float(np.fmin.reduce(array, None)), float(np.fmax.reduce(array, None)))
    if largest > LARGEST:  # not if all are NaN
        raise ValueError(
            f"pixels of up to {largest:.3g} are too large for the squares of float32; "
            "divide the images by a power of ten"
        )
