"""Which frames stand beside each one, in time or in depth, for a network that sees them too. NumPy, host side.

What changes less from frame to frame than it is noisy shows more than once. A blind spot hides a
pixel of its own frame alone: what the neighbours show at that place is the network's, and its noise
    is another.

Source: Lecoq et al., "Removing independent noise in systems neuroscience data using
    DeepInterpolation", Nature Methods 18 (2021);
Sheth et al., "Unsupervised deep video denoising", ICCV 2021.
"""

import numpy as np


def table(count, sequence, reach):
    """The numbers of the frames beside each one.

    Args:
        count: N, frames in all: sequences of equal length that follow each other.
        sequence: frames of one of them, a divisor of N.
        reach: how many on each side, at least 0.

    Returns:
        (N, 2 reach) int32, ascending: the others of the window of 2 reach + 1 frames around each
        one. At the ends of its sequence the window is moved inwards, so that no frame stands for
        two.

    Raises:
        ValueError: a sequence is shorter than the window.
    """
    width = 2 * reach + 1
    if reach and sequence < width:
        raise ValueError(
            f"a network that sees {reach} frames on each side needs at least {width} in a row, not {sequence}"
        )
    number, place = np.arange(count), np.arange(count) % sequence
    first = np.clip(place - reach, 0, max(sequence - width, 0))
    window = (number - place + first)[:, None] + np.arange(width)
    return window[window != number[:, None]].reshape(count, 2 * reach).astype(np.int32)


def windows(beside, numbers):
    """The frames of some windows, ascending, and where in its window each one is: (M, 2 reach + 1) and (M,) of ``numbers`` (M,)."""
    frames = np.sort(np.column_stack([numbers, beside[numbers]]), axis=1)
    return frames, (frames == np.asarray(numbers)[:, None]).argmax(axis=1)


LARGEST = 1e18  # grey levels, whose square float32 holds


def row_length(stack):
    """How many frames of a stack (..., N, H, W) stand in a row; 1 for an image (H, W)."""
    return np.shape(stack)[-3] if np.ndim(stack) > 2 else 1


def checked_stack(stack):
    """A stack as (N, H, W) float32 NumPy array; ValueError unless it is that, (S, N, H, W) or (H, W), non-empty and finite."""
    stack = np.asarray(stack)
    if not 2 <= stack.ndim <= 4 or stack.size == 0:
        raise ValueError(
            f"expected a stack (N, H, W), an image (H, W) or sequences (S, N, H, W), with at least one pixel, got shape {stack.shape}"
        )
    stack = stack.reshape(-1, *stack.shape[-2:])
    if np.iscomplexobj(stack):
        raise ValueError("the images are complex; give their magnitude")
    stack = stack.astype(np.float32, copy=False)
    bad = stack.size - np.count_nonzero(np.isfinite(stack))
    if bad:
        raise ValueError(f"{bad} pixels are NaN or infinite; replace them first")
    check_levels(stack)
    return stack


def check_levels(array):
    """ValueError if grey levels are too large for the squares of float32."""
    largest = max(-float(array.min()), float(array.max()))
    if largest > LARGEST:
        raise ValueError(
            f"pixels of up to {largest:.3g} are too large for the squares of float32; divide the images by a power of ten"
        )
