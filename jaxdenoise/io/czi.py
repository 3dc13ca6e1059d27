"""Zeiss's CZI files, through pylibCZIrw. Host side; JAX is never imported here."""

import math
import struct
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxdenoise.io.planes import (
    MakerImage,
    Planes,
    channels_named,
    check_complete,
    positive,
    reader_package,
)
from jaxdenoise.io.units import METRE
from jaxdenoise.system.errors import ImageError

_DTYPES = {
    "Gray8": "u1",
    "Gray16": "u2",
    "Gray32Float": "f4",
    "Bgr24": "u1",
    "Bgr48": "u2",
    "Bgr96Float": "f4",
}
_MOST_COMPRESSED = 1000  # times; no noise compresses like this, and zeros take minutes


def open_first(path: Path) -> MakerImage:
    """Open the first scene of a file."""
    package = reader_package(path, "pylibCZIrw.czi")
    _check_lengths(path)
    with ExitStack() as stack:
        file = package.CziReader(str(path))
        stack.callback(file.close)
        tiles = _tiles(path, file)
        scenes = sorted({tile.scene for tile in tiles})
        tiles = [tile for tile in tiles if tile.scene == scenes[0]]
        numbers, kinds = _numbers(path, tiles), {tile.kind for tile in tiles}
        left, top = min(tile.left for tile in tiles), min(tile.top for tile in tiles)
        height = max(tile.bottom for tile in tiles) - top
        width = max(tile.right for tile in tiles) - left
        dtype, samples = _dtype(path, kinds)
        axes = (*numbers, *"YXS"[: 2 + len(samples)])
        shape = (*map(len, numbers.values()), height, width, *samples)
        if math.prod(shape) * dtype.itemsize > _MOST_COMPRESSED * path.stat().st_size:
            raise ImageError(
                f"{path}: holds too little for axes {''.join(axes)}, shape {shape}; "
                "copy or export it again"
            )
        metadata = {"Name": path.stem} | _metadata(file.raw_metadata)
        kind = min(kinds) if len(kinds) == 1 else None  # None is that of the channel
        pixels = Planes(
            path,
            shape,
            dtype,
            inner=2 + len(samples),
            read=partial(_read, file, scenes[0], kind, numbers, (left, top)),
            close=stack.pop_all().close,
        )
    return MakerImage(pixels, axes, metadata, len(scenes))


def _read(file, scene, kind, numbers, corner, place, region):
    rows, columns, *samples = region
    roi = (
        corner[0] + columns.start,
        corner[1] + rows.start,
        columns.stop - columns.start,
        rows.stop - rows.start,
    )
    plane = {axis: values[n] for (axis, values), n in zip(numbers.items(), place, strict=True)}
    pixels = file.read(roi=roi, plane=plane, scene=scene, pixel_type=kind)
    # The file's samples are blue, green, red.
    return pixels[:, :, ::-1][:, :, samples[0]] if samples else pixels[:, :, 0]


def _check_lengths(path):
    """Refuse wrong lengths in the directory of tiles or before a tile: libCZI ends the process."""
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as file:
        file.seek(84)
        file.seek(struct.unpack("<q", file.read(8))[0])
        name, allocated, used = struct.unpack("<16sqq", file.read(32))
        content, entry, damaged = file.read(used or allocated), 128, name != b"ZISRAWDIRECTORY\0"
        for _ in range(struct.unpack_from("<i", content)[0]):
            place, axes = struct.unpack_from("<6xq14xI", content, entry)
            file.seek(place + 32)
            *lengths, again = struct.unpack("<IIQ28xI", file.read(48))
            damaged |= again != axes or place + sum(lengths) > size
            entry += 32 + 20 * axes
    if damaged or entry > len(content):
        raise ImageError(
            f"{path}: the directory of its tiles is damaged; copy or export the file again"
        )


class _Tile(NamedTuple):
    """Where a tile of a CZI file lies, in pixels and along the axes, and what its pixels are."""

    scene: int | None
    plane: dict
    left: int
    top: int
    right: int
    bottom: int
    kind: str


def _tiles(path, file):
    """The tiles in full resolution."""
    tiles = []

    def note(_, tile):
        plane, box = tile.coordinate.to_dict(), tile.logicalRect
        scene, right, bottom = plane.pop("S", None), box.x + box.w, box.y + box.h
        tiles.append(_Tile(scene, plane, box.x, box.y, right, bottom, tile.pixelType.name))
        return True

    file.enumerate_subblocks_subset(note, only_layer0=True)
    if not tiles:
        raise ImageError(f"{path}: holds no images; export it again")
    return tiles


def _numbers(path, tiles):
    """The numbers that occur along each axis; libCZI would fill missing planes with zeros."""
    numbers = {axis: sorted({tile.plane.get(axis, 0) for tile in tiles}) for axis in "VIHRBTZC"}
    numbers = {axis: values for axis, values in numbers.items() if len(values) > 1}
    planes = {tuple(tile.plane.get(axis, 0) for axis in numbers) for tile in tiles}
    check_complete(path, len(planes), map(len, numbers.values()))
    return numbers


def _dtype(path, kinds):
    """The dtype that holds all kinds of pixels, and the shape of a pixel."""
    colours = {kind.startswith("Bgr") for kind in kinds}
    if not kinds <= _DTYPES.keys() or len(colours) > 1:
        raise ImageError(
            f"{path}: pixels are {' and '.join(sorted(kinds))}, expected grey levels; "
            "export them as such"
        )
    return np.result_type(*(_DTYPES[kind] for kind in kinds)), (3,) if True in colours else ()


def _metadata(xml):
    root = ElementTree.fromstring(xml)
    image = "./Metadata/Information/Image/Dimensions"
    distance = "./Metadata/Scaling/Items/Distance[@Id='{}']/Value"
    found = {f"PhysicalSize{axis}": root.findtext(distance.format(axis)) for axis in "XYZ"}
    metadata = {key: value * METRE.size for key, value in positive(found).items()}
    metadata |= positive(
        {"TimeIncrement": root.findtext(f"{image}/T/Positions/Interval/Increment")}
    )
    return metadata | channels_named(
        channel.get("Name") for channel in root.iterfind(f"{image}/Channels/Channel")
    )
