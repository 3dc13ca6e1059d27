"""Files of microscope makers: Zeiss CZI, Leica LIF and Nikon ND2, through readers that the extra `vendors` installs.

They become images of the OME kind, so that results are OME-TIFFs with their sizes and names. NumPy
on the host; JAX is never imported here, and a reader not before a file of its format is opened.
"""

import importlib
import itertools
import logging
import math
import struct
import sys
import warnings
import weakref
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxdenoise.io.info import ImageInfo, checked_axes, number
from jaxdenoise.system.errors import ImageError

SUFFIXES = (".czi", ".lif", ".nd2")
_CZI_DTYPES = {
    "Gray8": "u1",
    "Gray16": "u2",
    "Gray32Float": "f4",
    "Bgr24": "u1",
    "Bgr48": "u2",
    "Bgr96Float": "f4",
}
_LIF_KEYS = {"1": "PhysicalSizeX", "2": "PhysicalSizeY", "3": "PhysicalSizeZ", "4": "TimeIncrement"}
_LIF_UNITS = {"m": 1e6, "inch": 25400.0, "s": 1.0}  # in micrometres and seconds
_SILENT = logging.NullHandler()  # what readers log about damaged files would go to the terminal


class _Image(NamedTuple):
    """The first image of a file: pixels, one name an axis, OME attributes, and how many other images there are."""

    pixels: object
    axes: tuple
    metadata: dict
    others: int


def open_image(path, *, axes=None):
    """Open a CZI, LIF or ND2 file; pixels are read when they are asked for.

    Axes of size 1 are dropped, but for Y and X. Of several images (scenes, series, positions) the
    first is opened, with a warning.

    Args:
        path: The file.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.

    Returns:
        tuple: The pixels, which have `shape`, `dtype` (in native byte order) and ``pixels[slices]``
            with NumPy's meaning of slices of
        step 1: an array of what they select, or ImageError where the file is damaged; and
            `ImageInfo`.

    Raises:
        ImageError: The package that reads the format is missing; or the file is missing, damaged,
            incomplete, RGB (without `axes`) or not numeric; or its axes are not known, or `axes`
            does not fit.
    """
    path = Path(path)
    with _errors(path):
        image = {".czi": _open_czi, ".lif": _open_lif, ".nd2": _open_nd2}[path.suffix.lower()](path)
        shape, dtype = tuple(image.pixels.shape), image.pixels.dtype.newbyteorder("=")
        letters = _letters(path, image.axes, shape, axes)
        if dtype.kind not in "iuf":
            raise ImageError(
                f"{path}: pixels are {dtype}, expected integers or floats; export them as such"
            )
    if image.others:  # the warning is for who called the module that tells formats apart
        left = f"{image.others} of {image.others + 1} images were left out"
        warnings.warn(f"{path}: {left}, only the first is read: {letters} {shape}", stacklevel=4)
    return image.pixels, ImageInfo(letters, shape, dtype, "ome", metadata=image.metadata)


class _Planes:
    """The pixels of an open file, which a function reads when they are indexed.

    Args:
        path: For messages.
        shape: Of the whole image.
        dtype: Of what is read.
        inner: How many of the last axes `read` can slice.
        read: Takes one number for each of the first axes, and one slice for each of the inner ones;
            returns the array.
        close: Is called when the pixels are no longer used.
    """

    def __init__(self, path, shape, dtype, inner, read, close):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._path, self._inner, self._read = path, inner, read
        weakref.finalize(self, close)

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        ranges = [
            range(size)[part]
            for size, part in itertools.zip_longest(self.shape, key, fillvalue=slice(None))
        ]
        result = np.empty([len(part) for part in ranges], self.dtype)
        if result.size:
            outer, region = (
                ranges[: -self._inner],
                [slice(part.start, part.stop) for part in ranges[-self._inner :]],
            )
            with _errors(self._path):
                for place in np.ndindex(*result.shape[: -self._inner]):
                    result[place] = self._read(
                        [part[n] for part, n in zip(outer, place, strict=True)], region
                    )
        return result


def _open_czi(path):
    package = _package(path, "pylibCZIrw.czi")
    _check_czi(path)
    with ExitStack() as stack:
        file = package.CziReader(str(path))
        stack.callback(file.close)
        tiles = _czi_tiles(path, file)
        scenes = sorted({tile.scene for tile in tiles})
        tiles = [tile for tile in tiles if tile.scene == scenes[0]]
        numbers, kinds = _czi_numbers(path, tiles), {tile.kind for tile in tiles}
        left, top = min(tile.left for tile in tiles), min(tile.top for tile in tiles)
        height, width = (
            max(tile.bottom for tile in tiles) - top,
            max(tile.right for tile in tiles) - left,
        )
        dtype, samples = _czi_dtype(path, kinds)
        axes, shape = (
            [*numbers, *"YXS"[: 2 + len(samples)]],
            [*map(len, numbers.values()), height, width, *samples],
        )
        if (
            math.prod(shape) * dtype.itemsize > 1000 * path.stat().st_size
        ):  # no noise compresses like this, and zeros take minutes
            raise ImageError(
                f"{path}: holds too little for axes {''.join(axes)}, shape {tuple(shape)}; copy or export it again"
            )
        metadata = {"Name": path.stem} | _czi_metadata(file.raw_metadata)
        kind = min(kinds) if len(kinds) == 1 else None  # None is that of the channel
        read = partial(_czi_read, file, scenes[0], kind, numbers, (left, top))
        pixels = _Planes(path, shape, dtype, 2 + len(samples), read, stack.pop_all().close)
    return _Image(pixels, axes, metadata, len(scenes) - 1)


def _czi_read(file, scene, kind, numbers, corner, place, region):
    rows, columns, *samples = region
    roi = (
        corner[0] + columns.start,
        corner[1] + rows.start,
        columns.stop - columns.start,
        rows.stop - rows.start,
    )
    plane = {axis: values[n] for (axis, values), n in zip(numbers.items(), place, strict=True)}
    pixels = file.read(roi=roi, plane=plane, scene=scene, pixel_type=kind)
    return (
        pixels[:, :, ::-1][:, :, samples[0]] if samples else pixels[:, :, 0]
    )  # the file's samples are BGR


def _check_czi(path):
    """Where the lengths in the directory of tiles, or before a tile, are not true, libCZI ends the process."""
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


def _czi_tiles(path, file):
    """The tiles in full resolution."""
    tiles = []

    def note(_, tile):
        plane, box = tile.coordinate.to_dict(), tile.logicalRect
        tiles.append(
            _Tile(
                plane.pop("S", None),
                plane,
                box.x,
                box.y,
                box.x + box.w,
                box.y + box.h,
                tile.pixelType.name,
            )
        )
        return True

    file.enumerate_subblocks_subset(note, only_layer0=True)
    if not tiles:
        raise ImageError(f"{path}: holds no images; export it again")
    return tiles


def _czi_numbers(path, tiles):
    """The numbers that occur along each axis; libCZI would fill planes that are not there with zeros."""
    numbers = {axis: sorted({tile.plane.get(axis, 0) for tile in tiles}) for axis in "VIHRBTZC"}
    numbers = {axis: values for axis, values in numbers.items() if len(values) > 1}
    _check_complete(
        path,
        len({tuple(tile.plane.get(axis, 0) for axis in numbers) for tile in tiles}),
        map(len, numbers.values()),
    )
    return numbers


def _czi_dtype(path, kinds):
    """The dtype that holds all kinds of pixels, and the shape of a pixel."""
    colours = {kind.startswith("Bgr") for kind in kinds}
    if not kinds <= _CZI_DTYPES.keys() or len(colours) > 1:
        raise ImageError(
            f"{path}: pixels are {' and '.join(sorted(kinds))}, expected grey levels; export them as such"
        )
    return np.result_type(*(_CZI_DTYPES[kind] for kind in kinds)), (3,) if True in colours else ()


def _czi_metadata(xml):
    root = ElementTree.fromstring(xml)
    image = "./Metadata/Information/Image/Dimensions"
    found = {
        f"PhysicalSize{axis}": root.findtext(
            f"./Metadata/Scaling/Items/Distance[@Id='{axis}']/Value"
        )
        for axis in "XYZ"
    }
    metadata = {key: value * 1e6 for key, value in _positive(found).items()}  # from metres
    metadata |= _positive(
        {"TimeIncrement": root.findtext(f"{image}/T/Positions/Interval/Increment")}
    )
    return metadata | _channels(
        channel.get("Name") for channel in root.iterfind(f"{image}/Channels/Channel")
    )


def _open_lif(path):
    with _package(path, "liffile").LifFile(path, squeeze=False) as file:
        images = [image for image in file.images if not image.is_flim]
        if not images:
            raise ImageError(f"{path}: holds no images; export it again")
        image = images[0]
        # Samples may have to be put into order, for which liffile needs an array of its own.
        array = image.asarray(out=None if "S" in image.dims else "memmap")
        kept = [(axis, size) for axis, size in image.sizes.items() if size > 1 or axis in "YX"]
        axes, shape = [axis for axis, _ in kept], [size for _, size in kept]
        return _Image(
            array.reshape(shape),
            axes,
            {"Name": image.name} | _lif_metadata(image.xml_element),
            len(images) - 1,
        )


def _lif_metadata(xml):
    description = xml.find("./Data/Image/ImageDescription")
    found = {}
    for axis in description.iterfind("./Dimensions/DimensionDescription"):
        key, unit = _LIF_KEYS.get(axis.get("DimID")), _LIF_UNITS.get(axis.get("Unit"))
        length, steps = (
            float(axis.get("Length") or 0),
            int(axis.get("NumberOfElements")) - 1,
        )  # the length is from first to last
        if key and unit and steps > 0:
            found[key] = abs(length) / steps * unit
    channels = description.findall("./Channels/ChannelDescription")
    channels.sort(key=lambda channel: int(channel.get("BytesInc")))
    names = [
        channel.findtext("./ChannelProperty[Key='DyeName']/Value") or channel.get("LUTName", "")
        for channel in channels
    ]
    return _positive(found) | _channels(name.removeprefix("Leica/") for name in names)


def _open_nd2(path):
    with ExitStack() as stack:
        file = stack.enter_context(_package(path, "nd2").ND2File(path))
        sizes = dict(file.sizes)
        loops = {axis: size for axis, size in sizes.items() if axis not in "CYXS"}
        _check_complete(path, _nd2_frames(path, file, math.prod(loops.values())), loops.values())
        positions = sizes.pop("P", 1)
        inner = [size for axis, size in sizes.items() if axis not in loops]
        metadata = {"Name": path.stem} | _nd2_metadata(file)
        read = partial(_nd2_read, file, loops, inner)
        pixels = _Planes(path, sizes.values(), file.dtype, len(inner), read, stack.pop_all().close)
    return _Image(pixels, tuple(sizes), metadata, positions - 1)


def _nd2_read(file, loops, inner, place, region):
    numbers, frame = iter(place), 0
    for axis, size in loops.items():
        frame = frame * size + (0 if axis == "P" else next(numbers))
    return file.read_frame(frame).reshape(inner)[tuple(region)]


def _nd2_frames(path, file, count):
    """How many of the first `count` frames are in the file; nd2 would fill the others with zeros, and only its inside knows them."""
    about, offsets = file.attributes, getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    if offsets is None:  # of the old format, JPEG2000, where a missing frame is an error
        return about.sequenceCount
    last = path.stat().st_size - (0 if about.compressionType else about.heightPx * about.widthBytes)
    return sum(frame < count and offset <= last for frame, offset in offsets.items())


def _nd2_metadata(file):
    channels = getattr(file.metadata, "channels", None) or []
    found = {}
    for channel in channels[:1]:
        volume = channel.volume
        for axis, calibrated, size in zip(
            "XYZ", volume.axesCalibrated, volume.axesCalibration, strict=True
        ):
            found[f"PhysicalSize{axis}"] = size if calibrated else None
    for loop in file.experiment:
        periods = (
            loop.parameters.periods
            if loop.type == "NETimeLoop"
            else [loop.parameters]
            if loop.type == "TimeLoop"
            else []
        )
        if len(periods) == 1:  # what was measured, if it was, rather than what was asked for
            found["TimeIncrement"] = (periods[0].periodDiff.avg or periods[0].periodMs) / 1e3
    return _positive(found) | _channels(channel.channel.name for channel in channels)


def _letters(path, names, shape, given):
    """One letter an axis."""
    letters = hint = "".join(name if len(name) == 1 else "?" for name in names)
    strange = [letter for letter in letters if letter not in "STCZYX"]
    if strange and given is None:
        for old, new in zip(
            strange, [letter for letter in "TZCS" if letter not in letters], strict=False
        ):
            hint = hint.replace(old, new, 1)
        advice = f"say --axes {hint} to treat its parts along {' and '.join(strange)} as images of their own"
        raise ImageError(
            f"{path}: axes {letters}, shape {shape}, expected letters of STCZYX; {advice}"
        )
    return checked_axes(path, letters, shape, given)


def _check_complete(path, found, sizes):
    expected = math.prod(sizes)
    if found < expected:
        raise ImageError(
            f"{path}: {expected - found} of {expected} planes are missing; copy the file again, or export what is complete"
        )


def _positive(values):
    """The values that are numbers greater than 0; makers write 0 for what is not known."""
    numbers = {key: number(value) for key, value in values.items()}
    return {key: value for key, value in numbers.items() if value is not None and value > 0}


def _channels(names):
    channels = [{"Name": name} if name else {} for name in names]
    return {"Channel": channels} if any(channels) else {}


def _package(path, name):
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        name, advice = name.split(".")[0], "pip install 'jaxdenoise[vendors]'"
        if name == "pylibCZIrw" and sys.version_info >= (3, 14):
            advice = "it has no builds for Python 3.14: take Python 3.11 to 3.13, or convert the file to OME-TIFF"
        raise ImageError(
            f"{path}: {path.suffix} files are read by the package {name} ({error}); {advice}"
        ) from error
    logging.getLogger(name).addHandler(_SILENT)
    return package


@contextmanager
def _errors(path):
    """Make one line of whatever goes wrong: readers raise all sorts on damaged files, from KeyError to MemoryError."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImageError(
            f"{path}: cannot be read ({reason}); expected a sound {path.suffix} file, copy or export it again"
        ) from error
