"""Which frames stand beside each one, in time or in depth, for a network that sees them too. NumPy, host side.

What changes less from frame to frame than it is noisy shows more than once. A blind spot hides a pixel of its own frame alone: what the
neighbours show at that place is the network's, and its noise is another.

Source: Lecoq et al., "Removing independent noise in systems neuroscience data using DeepInterpolation", Nature Methods 18 (2021);
Sheth et al., "Unsupervised deep video denoising", ICCV 2021.
"""

import math

import numpy as np

from jaxdenoise.metadata import ImageError

_AXES = "TZS"  # along which frames may stand in a row


def table(count, sequence, reach):
    """The numbers of the frames beside each one.

    Args:
        count: N, frames in all: sequences of equal length that follow each other.
        sequence: frames of one of them, a divisor of N.
        reach: how many on each side, at least 0.

    Returns:
        (N, 2 reach) int32, ascending: the others of the window of 2 reach + 1 frames around each one. At the ends of its sequence the
        window is moved inwards, so that no frame stands for two.

    Raises:
        ValueError: a sequence is shorter than the window.
    """
    width = 2 * reach + 1
    if reach and sequence < width:
        raise ValueError(f"a network that sees {reach} frames on each side needs at least {width} in a row, not {sequence}")
    number, place = np.arange(count), np.arange(count) % sequence
    first = np.clip(place - reach, 0, max(sequence - width, 0))
    window = (number - place + first)[:, None] + np.arange(width)
    return window[window != number[:, None]].reshape(count, 2 * reach).astype(np.int32)


def windows(beside, numbers):
    """The frames of some windows, ascending, and where in its window each one is: (M, 2 reach + 1) and (M,) of ``numbers`` (M,)."""
    frames = np.sort(np.column_stack([numbers, beside[numbers]]), axis=1)
    return frames, (frames == np.asarray(numbers)[:, None]).argmax(axis=1)


def sequence_axis(path, info, along=None):
    """The letter of the axis along which the frames of a file stand in a row.

    Args:
        path: of the file, for messages.
        info: `metadata.ImageInfo`.
        along: the letter that is wanted; default: the only one of T, Z and S that is longer than 1.

    Raises:
        ImageError: there is no such axis, or it must be told which.
    """
    found = [axis for axis, size in zip(info.axes, info.shape, strict=True) if axis in _AXES and size > 1]
    if along is not None and along not in found:
        raise ImageError(f"{path}: neighbours along {along} need more than one frame there, the axes {info.axes} have shape {info.shape}")
    if along is None and len(found) != 1:
        which = "say which with --along" if found else "name one with --axes"
        raise ImageError(f"{path}: neighbours need one axis of {', '.join(_AXES)}, the file's axes are {info.axes}; {which}")
    return along or found[0]


def in_rows(file, axis):
    """An opened file whose frames are put in rows, in the order in which those along an axis follow each other.

    Args:
        file: `images.ImageFile` with all frames of a file, or all of a channel.
        axis: letter, from `sequence_axis`.
    """
    others = [(letter, size) for letter, size in zip(file.info.axes, file.info.shape, strict=True) if letter not in "YX"]
    if math.prod(size for _, size in others) > len(file.frames):
        others = [(letter, size) for letter, size in others if letter != "C"]
    letters, sizes = zip(*others, strict=True)
    numbers = np.moveaxis(np.arange(len(file.frames)).reshape(sizes), letters.index(axis), -1)
    return file._replace(frames=file.frames.choose(numbers.ravel().tolist(), row=numbers.shape[-1]))
