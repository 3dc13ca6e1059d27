"""Nikon's ND2 files, through the package nd2. Host side; JAX is never imported here."""

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from jaxdenoise.io.planes import (
    MakerImage,
    Planes,
    channels_named,
    check_complete,
    positive,
    reader_package,
)


def open_first(path: Path) -> MakerImage:
    """Open the image at the first position of a file."""
    with ExitStack() as stack:
        file = stack.enter_context(reader_package(path, "nd2").ND2File(path))
        sizes = dict(file.sizes)
        loops = {axis: size for axis, size in sizes.items() if axis not in "CYXS"}
        check_complete(path, _frames_in(path, file, math.prod(loops.values())), loops.values())
        positions = sizes.pop("P", 1)
        inner = [size for axis, size in sizes.items() if axis not in loops]
        metadata = {"Name": path.stem} | _metadata(file)
        pixels = Planes(
            path,
            sizes.values(),
            file.dtype,
            inner=len(inner),
            read=partial(_read, file, loops, inner),
            close=stack.pop_all().close,
        )
    return MakerImage(pixels, tuple(sizes), metadata, positions)


def _read(file, loops, inner, place, region):
    numbers, frame = iter(place), 0
    for axis, size in loops.items():
        frame = frame * size + (0 if axis == "P" else next(numbers))
    return file.read_frame(frame).reshape(inner)[tuple(region)]


def _frames_in(path, file, count):
    """How many of the first `count` frames the file holds.

    The package would fill the others with zeros. Only its private attributes tell which are there.
    """
    about, offsets = file.attributes, getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    if offsets is None:  # of the old format, JPEG2000, where a missing frame is an error
        return about.sequenceCount
    last = path.stat().st_size - (0 if about.compressionType else about.heightPx * about.widthBytes)
    return sum(frame < count and offset <= last for frame, offset in offsets.items())


def _metadata(file):
    channels = getattr(file.metadata, "channels", None) or []
    found = {}
    for channel in channels[:1]:
        volume = channel.volume
        for axis, calibrated, size in zip(
            "XYZ", volume.axesCalibrated, volume.axesCalibration, strict=True
        ):
            found[f"PhysicalSize{axis}"] = size if calibrated else None
    for loop in file.experiment:
        periods = _periods(loop)
        if len(periods) == 1:  # the measured interval, or else the one that was set
            found["TimeIncrement"] = (periods[0].periodDiff.avg or periods[0].periodMs) / 1e3
    return positive(found) | channels_named(channel.channel.name for channel in channels)


def _periods(loop):
    if loop.type == "NETimeLoop":
        return loop.parameters.periods
    return [loop.parameters] if loop.type == "TimeLoop" else []
