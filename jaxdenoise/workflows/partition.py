"""Divide files into the parts that are denoised each by itself: channels, and rows of frames."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdenoise.io.axes import time_axis
from jaxdenoise.io.images import ImageFile
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.workflows.movies import axis_seen
from jaxdenoise.workflows.parts import Part

Inputs = Sequence[str | Path]
Files = Sequence[ImageFile]

_LEAST = 8  # pixels a side that a training takes, see `problem.prepare`
_AXES = "TZS"  # along which frames may stand in a row


def parts_by_model(
    inputs: Inputs,
    files: Files,
    *,
    channels: str,
    reach: int,
    along: str | None,
    line_noise: str = "auto",
    planes: bool = False,
) -> dict[str, list[Part]]:
    """Return the parts of files once for each model that is trained or used: dict of name to parts.

    Args:
        inputs: names of the files, for messages.
        files: the opened files.
        channels: "separate": each channel has a model of its own. Then the names are "channel-0"
            and so on. "together": there is one, "". "auto": separate where a file has channels.
        reach: neighbours on each side that the network sees: then the frames stand in rows.
        along: the axis of these rows; None: the only one.
        line_noise: as of `parts.Part`.
        planes: whether the PSF mixes planes: then the frames stand in rows along Z.

    Raises:
        RequestError: there are no channels, the files differ in their number, or neighbours are
            wanted along another axis than that of the planes.
        ImageError: as `sequence_axis`.
    """
    if planes and along not in (None, "Z"):
        raise RequestError(
            f'along="{along}": the PSF mixes planes, so that neighbours are those along Z'
        )
    along = "Z" if planes else along
    if channels == "auto":
        channels = "separate" if any(channel_count(file) > 1 for file in files) else "together"
    found: dict[str, list[Part]] = {}
    counts = set()
    for number, (path, file) in enumerate(zip(inputs, files, strict=True)):
        own = channels_of(path, file) if channels == "separate" else [file]
        counts.add(len(own))
        for channel, one in enumerate(own):
            apart = channels == "separate"
            name = f"channel-{channel}" if apart else ""
            ordered = in_rows(path, one, along) if reach or planes else one
            part = Part(path, number, ordered, channel if apart else None, line_noise)
            found.setdefault(name, []).append(part)
    if len(counts) > 1:
        raise RequestError(
            'channels="separate": the files differ in their number of channels; run them one by one'
        )
    return found


def parts_alone(inputs: Inputs, files: Files, *, line_noise: str = "auto") -> dict[str, list[Part]]:
    """Return each channel of each file: dict of its name, as in `parts_by_model`, to parts.

    The frames of a movie stand in rows along the time, those of a volume along z. Files may differ
    in their number of channels, since no two parts share anything.
    """
    found: dict[str, list[Part]] = {}
    for number, (path, file) in enumerate(zip(inputs, files, strict=True)):
        several = channel_count(file) > 1
        for channel, one in enumerate(channels_of(path, file) if several else [file]):
            name = f"channel-{channel}" if several else ""
            axis = axis_seen(one)
            ordered = in_rows(path, one, axis) if axis else one
            part = Part(path, number, ordered, channel if several else None, line_noise)
            found.setdefault(name, []).append(part)
    return found


def check_sizes(inputs: Inputs, files: Files) -> None:
    """Raise an ImageError unless the images are large enough to train on.

    Args:
        inputs: names of the files, for messages.
        files: the opened files.
    """
    for path, file in zip(inputs, files, strict=True):
        height, width = file.frames.shape[1:]
        if min(height, width) >= _LEAST:
            continue
        raise ImageError(
            f"{path}: its images have {height} x {width} pixels, at least {_LEAST} x {_LEAST} are "
            f"needed{_advice(file.info)}"
        )


def _advice(info):
    """How a line scan, such as (T, 1, X), is read as one image of its lines."""
    sizes = dict(zip(info.axes, info.shape, strict=True))
    lines = [axis for axis in _AXES if sizes.get(axis, 1) >= _LEAST]
    if sizes["Y"] > 1 or sizes["X"] < _LEAST or len(lines) != 1:
        return ""
    swapped = info.axes.translate(str.maketrans({"Y": lines[0], lines[0]: "Y"}))
    return f'; axes="{swapped}" reads the lines as one image of {sizes[lines[0]]} x {sizes["X"]}'


def channel_count(file: ImageFile) -> int:
    """Return how many channels a file has, 1 if it has no such axis."""
    return dict(zip(file.info.axes, file.info.shape, strict=True)).get("C", 1)


def channels_of(path: str | Path, file: ImageFile) -> list[ImageFile]:
    """Return a file once for each of its channels, with the channel's own frames.

    Raises:
        RequestError: the file has no axis of channels.
    """
    others = [
        (axis, size)
        for axis, size in zip(file.info.axes, file.info.shape, strict=True)
        if axis not in "YX"
    ]
    names = "".join(axis for axis, _ in others)
    if "C" not in names:
        raise RequestError(
            f'{path}: channels="separate" needs a C axis, the file\'s axes are {file.info.axes}; '
            "name them with axes=..."
        )
    numbers = np.arange(math.prod(size for _, size in others)).reshape([size for _, size in others])
    return [
        file._replace(frames=file.frames.choose(own.ravel().tolist()))
        for own in np.moveaxis(numbers, names.index("C"), 0)
    ]


def sequence_axis(path: str | Path, info: ImageInfo, along: str | None = None) -> str:
    """Return the letter of the axis along which the frames of a file are neighbours.

    Args:
        path: of the file, for messages.
        info: what the file says.
        along: the letter that is wanted, T also for pages without a name; None: the only one of
            T, Z and S that is longer than 1.

    Raises:
        ImageError: there is no such axis, or it must be told which.
    """
    found = [
        axis for axis, size in zip(info.axes, info.shape, strict=True) if axis in _AXES and size > 1
    ]
    pages = time_axis(info.axes)
    if along == "T" and pages and dict(zip(info.axes, info.shape, strict=True))[pages] > 1:
        return pages
    if along is not None and along not in found:
        raise ImageError(
            f"{path}: neighbours along {along} need more than one frame there, the axes "
            f"{info.axes} have shape {info.shape}"
        )
    if along is None and len(found) != 1:
        which = "say which with along=..." if found else "name one with axes=..."
        raise ImageError(
            f"{path}: neighbours need one axis of {', '.join(_AXES)}, the file's axes are "
            f"{info.axes}; {which}"
        )
    return along or found[0]


def in_rows(path: str | Path, file: ImageFile, along: str | None = None) -> ImageFile:
    """Return a file whose frames stand in rows, in their order along an axis.

    Args:
        path: of the file, for messages.
        file: an opened file, with all its frames, or all of a channel.
        along: as of `sequence_axis`, whose errors are raised.
    """
    axis = sequence_axis(path, file.info, along)
    others = [
        (letter, size)
        for letter, size in zip(file.info.axes, file.info.shape, strict=True)
        if letter not in "YX"
    ]
    if math.prod(size for _, size in others) > len(file.frames):
        others = [(letter, size) for letter, size in others if letter != "C"]
    letters, sizes = zip(*others, strict=True)
    numbers = np.moveaxis(np.arange(len(file.frames)).reshape(sizes), letters.index(axis), -1)
    frames = file.frames.choose(numbers.ravel().tolist(), row=numbers.shape[-1])
    return file._replace(frames=frames)
