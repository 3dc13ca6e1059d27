"""What a training sees of files that may be larger than the memory. Host side."""

import math
from pathlib import Path

import numpy as np

from jaxdenoise.runs.layout import read_config
from jaxdenoise.runs.models import those_in
from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import ImageError
from jaxdenoise.workflows.requests import config_of


def channels(args, files):
    """The files once for each model that the flag --channels asks for: dict of name to list of `images.ImageFile`.

    One model for all frames is named "", those of the channels "channel-0" and so on, each with the
    channel's own frames.
    """
    if args.channels == "together":
        return {"": rows(args, files)}
    numbers = [
        _numbers_by_channel(path, file.info) for path, file in zip(args.input, files, strict=True)
    ]
    if len({len(own) for own in numbers}) > 1:
        raise errors.RequestError(
            "--channels separate: the files differ in their number of channels; run them one by one"
        )
    return {
        f"channel-{channel}": rows(
            args,
            [
                file._replace(frames=file.frames.choose(own[channel]))
                for file, own in zip(files, numbers, strict=True)
            ],
        )
        for channel in range(len(numbers[0]))
    }


def rows(args, files):
    """The files, with their frames in rows if the network sees neighbours."""
    if not _reach(args):
        return files
    axes = [
        sequence_axis(path, file.info, args.along)
        for path, file in zip(args.input, files, strict=True)
    ]
    return [in_rows(file, axis) for file, axis in zip(files, axes, strict=True)]


def _reach(args):
    """How many neighbours on each side the network sees."""
    if getattr(args, "instant", False):
        return 0
    if not getattr(args, "model", None):
        return config_of(args).network.neighbours
    own = [
        Path(args.model) / "channel-0" / name for name in those_in(Path(args.model) / "channel-0")
    ]
    return read_config(own[0] if own else args.model)[0].network.neighbours


def _numbers_by_channel(path, info):
    others = [
        (axis, size) for axis, size in zip(info.axes, info.shape, strict=True) if axis not in "YX"
    ]
    names = "".join(axis for axis, _ in others)
    if "C" not in names:
        raise errors.RequestError(
            f"{path}: --channels separate needs a C axis, the file's axes are {info.axes}; name them with --axes"
        )
    numbers = np.arange(math.prod(size for _, size in others)).reshape([size for _, size in others])
    return [own.ravel().tolist() for own in np.moveaxis(numbers, names.index("C"), 0)]


def stack_of(args, files, bars):
    """What is trained on."""
    sources = [file.frames for file in files]
    stack = training_stack(sources, seed=args.seed, reach=_reach(args))
    pixels, (height, width) = sum(source.size for source in sources), stack.shape[-2:]
    if stack.size < pixels:
        bars.say(
            f"learning from {len(stack)} random places of {height} x {width} pixels, {stack.size / pixels:.1%} of all"
        )
    return stack


PIXELS = (
    2**25
    # that are kept in memory, 134 MB in float32: more than the preset "fast" looks at in all its steps
)
_SIDE = 512  # of a random square


def training_stack(sources, *, seed, reach=0, pixels=PIXELS):
    """All frames, or random squares of them where they are more than the memory should hold.

    Several processes read a share each, and tell each other.

    Args:
        sources: list of arrays (N, H, W), or of `frames.Frames`, all of one H and W.
        seed: of the places of the squares, which are uniform over all frames.
        reach: how many neighbours on each side the network sees: then the frames of the sources,
            `frames.Frames`, stay in rows.
        pixels: how many are kept at the most.

    Returns:
        (N, H, W) float32 array, or (M, S, S) with S at most 512 and M S^2 at most ``pixels``; with
        neighbours (R, N, H, W) or (M, N, S, S), N frames in a row.

    Raises:
        ValueError: the sources' rows differ in length.
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
            stack = crew.read(shape, lambda i: sources[owners[i]][numbers[i], :, :])
        return stack.reshape(-1, row, *stack.shape[1:]) if reach else stack
    height, width = sources[0].shape[1:]
    rng, side_y, side_x = np.random.default_rng(seed), min(_SIDE, height), min(_SIDE, width)
    run = min(row, 4 * reach + 1)
    count, rooms = (
        max(1, pixels // (run * side_y * side_x)),
        (len(owners), height - side_y + 1, width - side_x + 1),
    )
    places = [[rng.integers(room) for room in rooms] for _ in range(count)]

    def squares(index):
        frame, y, x = places[index]
        place = numbers[frame] % row
        first = numbers[frame] - place + min(place, row - run)
        return [
            sources[owners[frame]][number, y : y + side_y, x : x + side_x]
            for number in range(first, first + run)
        ]

    stack = crew.read((count, run, side_y, side_x), squares)
    return stack if reach else stack[:, 0]


def _row(sources):
    rows = {source.row for source in sources}
    if len(rows) > 1:
        raise ValueError(
            f"the files have {', '.join(map(str, sorted(rows)))} neighbouring frames in a row; run them one by one"
        )
    return rows.pop()


_AXES = "TZS"  # along which frames may stand in a row


def sequence_axis(path, info, along=None):
    """The letter of the axis along which the frames of a file stand in a row.

    Args:
        path: of the file, for messages.
        info: `info.ImageInfo`.
        along: the letter that is wanted; default: the only one of T, Z and S that is longer than 1.

    Raises:
        ImageError: there is no such axis, or it must be told which.
    """
    found = [
        axis for axis, size in zip(info.axes, info.shape, strict=True) if axis in _AXES and size > 1
    ]
    if along is not None and along not in found:
        raise ImageError(
            f"{path}: neighbours along {along} need more than one frame there, the axes {info.axes} have shape {info.shape}"
        )
    if along is None and len(found) != 1:
        which = "say which with --along" if found else "name one with --axes"
        raise ImageError(
            f"{path}: neighbours need one axis of {', '.join(_AXES)}, the file's axes are {info.axes}; {which}"
        )
    return along or found[0]


def in_rows(file, axis):
    """An opened file whose frames are put in rows, in the order in which those along an axis follow each other.

    Args:
        file: `images.ImageFile` with all frames of a file, or all of a channel.
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
    return file._replace(frames=file.frames.choose(numbers.ravel().tolist(), row=numbers.shape[-1]))
