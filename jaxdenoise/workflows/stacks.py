"""What a training sees of files that may be larger than the memory. Host side."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxdenoise.io.images import ImageFile
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.workflows.reporter import Reporter

Inputs = Sequence[str | Path]
Files = Sequence[ImageFile]

_LEAST = 8  # pixels a side that a training takes, see `problem.prepare`


def files_by_model(
    inputs: Inputs, files: Files, *, separate: bool, reach: int, along: str | None
) -> dict[str, list[ImageFile]]:
    """Return the files once for each model that is trained or used: dict of name to files.

    Args:
        inputs: names of the files, for messages.
        files: the opened files.
        separate: whether each channel has a model of its own. Then the names are "channel-0" and so
            on, each with the channel's own frames; else there is one, "".
        reach: neighbours on each side that the network sees: then the frames stand in rows.
        along: the axis of these rows; None: the only one.

    Raises:
        RequestError: there are no channels, or the files differ in their number.
        ImageError: as `sequence_axis`.
    """
    if not separate:
        return {"": rows(inputs, files, reach=reach, along=along)}
    numbers = [
        _numbers_by_channel(path, file.info) for path, file in zip(inputs, files, strict=True)
    ]
    if len({len(own) for own in numbers}) > 1:
        raise RequestError(
            'channels="separate": the files differ in their number of channels; run them one by one'
        )
    found = {}
    for channel in range(len(numbers[0])):
        own = [
            file._replace(frames=file.frames.choose(those[channel]))
            for file, those in zip(files, numbers, strict=True)
        ]
        found[f"channel-{channel}"] = rows(inputs, own, reach=reach, along=along)
    return found


def rows(inputs: Inputs, files: Files, *, reach: int, along: str | None) -> list[ImageFile]:
    """Return the files, with their frames in rows if the network sees neighbours."""
    if not reach:
        return list(files)
    axes = [sequence_axis(path, file.info, along) for path, file in zip(inputs, files, strict=True)]
    return [in_rows(file, axis) for file, axis in zip(files, axes, strict=True)]


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


def _numbers_by_channel(path, info):
    others = [
        (axis, size) for axis, size in zip(info.axes, info.shape, strict=True) if axis not in "YX"
    ]
    names = "".join(axis for axis, _ in others)
    if "C" not in names:
        raise RequestError(
            f'{path}: channels="separate" needs a C axis, the file\'s axes are {info.axes}; name '
            "them with axes=..."
        )
    numbers = np.arange(math.prod(size for _, size in others)).reshape([size for _, size in others])
    return [own.ravel().tolist() for own in np.moveaxis(numbers, names.index("C"), 0)]


def stack_of(
    files: Files, *, seed: int, reach: int, reporter: Reporter
) -> Float32[np.ndarray, "*frames H W"]:
    """Return what is trained on: all frames, or random squares of large files."""
    sources = [file.frames for file in files]
    stack = training_stack(sources, seed=seed, reach=reach, pixels=PIXELS)
    pixels, (height, width) = sum(source.size for source in sources), stack.shape[-2:]
    if stack.size < pixels:
        reporter.say(
            f"learning from {len(stack)} random places of {height} x {width} pixels, "
            f"{stack.size / pixels:.1%} of all"
        )
    return stack


# Kept in memory, 134 MB in float32: more than the preset "fast" looks at in all its steps.
PIXELS = 2**25
_SIDE = 512  # of a random square


def training_stack(
    sources: Sequence[Any], *, seed: int, reach: int = 0, pixels: int = PIXELS
) -> Float32[np.ndarray, "*frames H W"]:
    """Return all frames, or random squares of them where they are more than ``pixels``.

    Of several processes each reads a share; the shares are all-gathered.

    Args:
        sources: arrays (N, H, W), or `frames.Frames`, all of one H and W.
        seed: of the places of the squares, which are uniform over all frames.
        reach: how many neighbours on each side the network sees: then the frames of the sources,
            `frames.Frames`, stay in rows.
        pixels: how many are kept at the most.

    Returns:
        (N, H, W), or (M, S, S) with S at most 512 and M S^2 at most ``pixels``; with neighbours
        (R, N, H, W) or (M, N, S, S), N frames in a row.

    Raises:
        RequestError: the sources' rows differ in length.
    """
    row, crew = _row(sources) if reach else 1, current_crew()
    owners = np.repeat(range(len(sources)), [len(source) for source in sources])
    numbers = np.concatenate([range(len(source)) for source in sources])
    if sum(source.size for source in sources) <= pixels:
        if crew.count == 1:
            stacks = [np.asarray(source, np.float32) for source in sources]
            stack = stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
        else:
            shape = len(numbers), *sources[0].shape[1:]
            stack = crew.read(shape, lambda i: sources[int(owners[i])][numbers[i], :, :])
        return stack.reshape(-1, row, *stack.shape[1:]) if reach else stack
    height, width = sources[0].shape[1:]
    rng, side_y, side_x = np.random.default_rng(seed), min(_SIDE, height), min(_SIDE, width)
    run = min(row, 4 * reach + 1)
    count = max(1, pixels // (run * side_y * side_x))
    rooms = len(owners), height - side_y + 1, width - side_x + 1
    places = [[rng.integers(room) for room in rooms] for _ in range(count)]

    def squares(index):
        frame, y, x = places[index]
        source = sources[int(owners[frame])]
        place = numbers[frame] % row
        first = numbers[frame] - place + min(place, row - run)
        return [
            source[number, y : y + side_y, x : x + side_x] for number in range(first, first + run)
        ]

    stack = crew.read((count, run, side_y, side_x), squares)
    return stack if reach else stack[:, 0]


def _row(sources):
    lengths = {source.row for source in sources}
    if len(lengths) > 1:
        raise RequestError(
            f"the files have {', '.join(map(str, sorted(lengths)))} neighbouring frames in a row; "
            "run them one by one"
        )
    return lengths.pop()


_AXES = "TZS"  # along which frames may stand in a row


def sequence_axis(path: str | Path, info: ImageInfo, along: str | None = None) -> str:
    """Return the letter of the axis along which the frames of a file are neighbours.

    Args:
        path: of the file, for messages.
        info: what the file says.
        along: the letter that is wanted; None: the only one of T, Z and S that is longer than 1.

    Raises:
        ImageError: there is no such axis, or it must be told which.
    """
    found = [
        axis for axis, size in zip(info.axes, info.shape, strict=True) if axis in _AXES and size > 1
    ]
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


def in_rows(file: ImageFile, axis: str) -> ImageFile:
    """Return a file whose frames stand in rows, in their order along an axis.

    Args:
        file: an opened file, with all its frames, or all of a channel.
        axis: letter, from `sequence_axis`.
    """
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
