"""TIFF files (ImageJ, OME, BigTIFF) as arrays that are read and written piece by piece.

Host side; JAX is never imported here.
"""

import itertools
import math
import os
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as StructError
from struct import unpack
from xml.etree import ElementTree

import numpy as np
import tifffile

from jaxdenoise.io.axes import checked_axes
from jaxdenoise.io.frames import Pixels, WritablePixels
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.io.readers import quiet_readers, warn_of_others
from jaxdenoise.io.tiff_metadata import info_of_series, tiff_options
from jaxdenoise.system.errors import ImageError
from jaxdenoise.system.files import new_file

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_MOST_PLANES = 2**22  # of an OME file; tifffile takes seconds to list more, or all memory
_JPEG = {6, 7, 34892, 33007}  # compressions whose segments need tables from the page


def open_image(path: Path, *, axes: str | None = None) -> tuple[Pixels, ImageInfo]:
    """Open the first image series of a TIFF file.

    Pixels are read when they are indexed, unless they are scattered in an unusual way.

    Args:
        path: The file.
        axes: As in `images.read`.

    Returns:
        The pixels, in the file's own axes and dtype, and their `ImageInfo`.

    Raises:
        ImageError: The file is cut short, empty, RGB (without `axes`) or not numeric, or `axes`
            does not fit.
        Exception: What tifffile raises for a damaged file.
    """
    with quiet_readers() as complaints:
        tif = tifffile.TiffFile(path)
        array = None
        try:
            series = _first_series(path, tif)
            axes = checked_axes(path, series.axes, series.shape, axes)
            if series.dtype is None or series.dtype.kind not in "iuf":
                boolean = series.dtype is not None and series.dtype.kind == "b"
                hint = "convert it to 8-bit" if boolean else "save it as integers or float32"
                raise ImageError(
                    f"{path}: pixels are {series.dtype}, expected integers or floats; {hint}"
                )
            first = f"{series.axes} {series.shape}"
            warn_of_others(path, len(tif.series), "image series", first, stacklevel=4)
            info = info_of_series(tif, axes)
            array = _array(path, tif, series)
        finally:
            if not isinstance(array, _Pages):
                tif.close()
    if complaints:
        complaint = " ".join(complaints[0].split("\n"))
        warnings.warn(
            f"{path}: the pixels are complete but metadata may be lost ({complaint})", stacklevel=3
        )
    return array, info


@contextmanager
def create(path: Path, info: ImageInfo, dtype: np.dtype) -> Iterator[WritablePixels]:
    """Make a TIFF file, to be written piece by piece, like the one that `info` describes.

    It appears when the block ends well. Its space is taken at the start, so that a full disk shows
    then.

    Args:
        path: The file, which is replaced. Its folder must exist.
        info: Describes the original, whose shape the result has.
        dtype: Of the result.

    Yields:
        The pixels, to be stored by an index of one slice an axis.
    """
    with new_file(path) as temporary:
        written = tifffile.imwrite(
            temporary, shape=info.shape, dtype=dtype, returnoffset=True, **tiff_options(info, dtype)
        )
        assert written is not None  # with `returnoffset` it is (offset, size)
        with temporary.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield _Mapped(temporary, np.dtype(dtype), written[0], info.shape)


class _Mapped:
    """Contiguous pixels in a file.

    They are mapped into memory for each access anew, so that what was touched is not kept there.
    Where the file system maps no files (FUSE with direct_io, some clusters' and clouds'), they are
    read and written piece by piece.
    """

    def __init__(self, path, dtype, offset, shape):
        self.dtype, self.shape = dtype, tuple(shape)
        self._path, self._offset = path, offset
        self._place = {"filename": path, "dtype": dtype, "offset": offset, "shape": self.shape}

    def __getitem__(self, index):
        try:
            return np.array(np.memmap(mode="r", **self._place)[index])
        except OSError:  # if the file is the reason, opening it says so
            part = np.empty([len(of) for of in self._ranges(index)], self.dtype)
            with Path(self._path).open("rb") as file:
                for lead, place in self._runs(index):
                    file.seek(place)
                    if file.readinto(part[lead].reshape(-1).view(np.uint8)) < part[lead].nbytes:
                        raise
            return part

    def __setitem__(self, index, values):
        try:
            np.memmap(mode="r+", **self._place)[index] = values
        except OSError:
            shape = [len(of) for of in self._ranges(index)]
            part = np.ascontiguousarray(np.broadcast_to(values, shape), self.dtype)
            with Path(self._path).open("r+b") as file:
                for lead, place in self._runs(index):
                    file.seek(place)
                    file.write(part[lead].tobytes())

    def _ranges(self, index):
        return [range(*one.indices(size)) for one, size in zip(index, self.shape, strict=True)]

    def _runs(self, index):
        """Yield where the contiguous runs of a part are: an index into the part, and a byte."""
        ranges, axis = self._ranges(index), len(self.shape) - 1
        while axis and len(ranges[axis]) == self.shape[axis]:
            axis -= 1
        strides = np.cumprod([1, *self.shape[:0:-1]])[::-1] * self.dtype.itemsize
        for lead in np.ndindex(*map(len, ranges[:axis])):
            first = [of[n] for of, n in zip(ranges, lead, strict=False)] + [ranges[axis].start]
            yield lead, self._offset + int(np.dot(first, strides[: axis + 1]))


class _Pages:
    """Compressed or scattered pages; an index decodes only the segments that it touches."""

    def __init__(self, tif, series):
        self._series, self.shape, self.dtype = series, series.shape, series.dtype
        weakref.finalize(self, tif.close)

    def __getitem__(self, index):
        ranges = [
            range(*part.indices(length)) for part, length in zip(index, self.shape, strict=True)
        ]
        with quiet_readers():
            if tuple(map(len, ranges)) == self.shape:
                return self._series.asarray()  # on several threads
            *leading, rows, columns = ranges
            numbers = (
                np.ravel_multi_index(np.ix_(*leading), self.shape[:-2]).ravel() if leading else [0]
            )
            planes = [_decode(self._series.pages[number], rows, columns) for number in numbers]
            return np.stack(planes).reshape([len(part) for part in ranges])


def _first_series(path, tif):
    if tif.pages:
        _check_directories(path, tif)
        _check_planes(path, tif)
    if not tif.series:
        raise ImageError(f"{path}: the TIFF holds no images; export it again")
    _check_complete(path, tif, tif.series[0])
    return tif.series[0]


def _array(path, tif, series):
    if series.dataoffset is not None:
        return _Mapped(
            path, np.dtype(tif.byteorder + series.dtype.char), series.dataoffset, series.shape
        )
    pages, keyframe = series.pages, series.keyframe
    if (
        keyframe.shape == series.shape[-2:]
        and len(pages) == math.prod(series.shape[:-2])
        and keyframe.imagedepth == 1
    ):
        return _Pages(tif, series)
    return series.asarray()


def _decode(page, rows, columns):
    """The part of a page (H, W) in a range of rows and one of columns."""
    keyframe, file = page.keyframe, page.parent.filehandle
    (height, width), across = keyframe.chunks, keyframe.chunked[1]
    result = np.full((len(rows), len(columns)), keyframe.nodata, keyframe.dtype)
    tables = (
        {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        if keyframe.compression in _JPEG
        else {}
    )
    touched = (
        range(part.start // size, -(-part.stop // size))
        for part, size in ((rows, height), (columns, width))
    )
    for row, column in itertools.product(*touched):
        number = row * across + column
        with file.lock:
            file.seek(page.dataoffsets[number])
            data = file.read(page.databytecounts[number])
        segment, (_, _, top, left, _), _ = keyframe.decode(data, number, **tables)
        plane = segment[0, :, :, 0]
        start_y, start_x = max(rows.start, top), max(columns.start, left)
        stop_y, stop_x = (
            min(rows.stop, top + plane.shape[0]),
            min(columns.stop, left + plane.shape[1]),
        )
        target = result[
            start_y - rows.start : stop_y - rows.start,
            start_x - columns.start : stop_x - columns.start,
        ]
        target[...] = plane[start_y - top : stop_y - top, start_x - left : stop_x - left]
    return result


def _check_directories(path, tif):
    """Refuse directories that point back to an earlier one; tifffile would follow them for ever."""
    offset, seen = tif.pages.first.offset, set()
    while offset not in seen:
        seen.add(offset)
        try:
            offset = _next_directory(tif, offset)
        except StructError:  # beyond the end of the file
            return
        if offset == 0:
            return
    raise ImageError(
        f"{path}: the file is damaged, its pages point back to themselves; copy or export it again"
    )


def _next_directory(tif, offset):
    """Where the directory of the next page starts, given that of a page; 0 after the last."""
    form, file = tif.tiff, tif.filehandle
    file.seek(offset)
    tags = unpack(form.tagnoformat, file.read(form.tagnosize))[0]
    file.seek(tags * form.tagsize, os.SEEK_CUR)
    return unpack(form.offsetformat, file.read(form.offsetsize))[0]


def _check_planes(path, tif):
    """Refuse OME files that promise too many planes; tifffile would list them all."""
    try:
        xml = ElementTree.fromstring(tif.ome_metadata or "<none/>")
    except ElementTree.ParseError:  # tifffile goes without it
        return
    area = tif.pages.first.imagelength * tif.pages.first.imagewidth
    counts = [
        math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "XYZCT") // max(area, 1)
        for pixels in xml.findall(".//{*}Pixels")
    ]
    counts += [
        int(data.get(name, 0))
        for data in xml.findall(".//{*}TiffData")
        for name in ("PlaneCount", "NumPlanes")
    ]
    if max(counts, default=0) > _MOST_PLANES:
        raise ImageError(
            f"{path}: its OME metadata promise {max(counts)} planes, which the file cannot hold; "
            "export it again"
        )


def _check_complete(path, tif, series):
    """Refuse a file with missing data, which tifffile fills with zeros or drops silently."""
    file, next_page = tif.filehandle, _next_directory(tif, tif.pages[-1].offset)
    plane = series.keyframe.imagelength * series.keyframe.imagewidth
    promised = (
        plane * tif.imagej_metadata.get("images", 1)
        if tif.is_imagej and series.kind != "imagej"
        else 0
    )
    end = series.dataoffset + series.nbytes if series.dataoffset else 0
    if (
        next_page != 0
        or series.size < promised
        or end > file.size
        or not all(map(_is_whole, series.pages))
    ):
        raise ImageError(
            f"{path}: the file is cut short, pixel data are missing; copy or export it again"
        )


def _is_whole(page):
    if page is None or len(page.dataoffsets) < (
        1 if page.is_contiguous else math.prod(page.chunked)
    ):
        return False
    size = page.parent.filehandle.size
    return all(
        0 < n <= size - offset
        for offset, n in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
