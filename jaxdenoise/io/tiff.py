"""TIFF files (ImageJ, OME, BigTIFF) as arrays that are read and written piece by piece. NumPy on the host; JAX is never imported here."""

import itertools
import logging
import math
import os
import warnings
import weakref
from contextlib import contextmanager
from struct import error as StructError
from struct import unpack
from xml.etree import ElementTree

import numpy as np
import tifffile

from jaxdenoise.io.info import checked_axes, info_of_series, tiff_options
from jaxdenoise.system.errors import ImageError

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_MOST_PLANES = 2**22  # of an OME file; tifffile takes seconds to list more, or all memory
_JPEG = {6, 7, 34892, 33007}  # compressions whose segments need tables from the page


def open_image(path, *, axes=None):
    """Open the first image series of a TIFF file; pixels are read when they are indexed, unless they are scattered in an unusual way.

    Args:
        path: the file.
        axes: as in `images.read`.

    Returns:
        The array, in the file's own axes and dtype (``shape``, ``dtype``, and an index of one slice
        an axis gives a NumPy array), and its `ImageInfo`.

    Raises:
        ImageError: the file is cut short, empty, RGB (without `axes`) or not numeric, or `axes`
            does not fit. A damaged file raises others.
    """
    with quiet_readers() as complaints:
        tif = tifffile.TiffFile(path)
        array = None
        try:
            if tif.pages:
                _check_directories(path, tif)
                _check_planes(path, tif)
            if not tif.series:
                raise ImageError(f"{path}: the TIFF holds no images; export it again")
            series = tif.series[0]
            _check_complete(path, tif, series)
            axes = checked_axes(path, series.axes, series.shape, axes)
            if series.dtype.kind not in "iuf":
                hint = (
                    "convert it to 8-bit"
                    if series.dtype.kind == "b"
                    else "save it as integers or float32"
                )
                raise ImageError(
                    f"{path}: pixels are {series.dtype}, expected integers or floats; {hint}"
                )
            if len(tif.series) > 1:
                left = f"{len(tif.series) - 1} of {len(tif.series)} image series were left out"
                warnings.warn(
                    f"{path}: {left}, only the first is read: {series.axes} {series.shape}",
                    stacklevel=4,
                )
            info = info_of_series(tif, axes)
            array = _array(path, tif, series)
        finally:
            if not isinstance(array, _Pages):
                tif.close()
    if complaints:
        message = (
            f"{path}: the pixels are complete but metadata may be lost ({complaints[0]})".replace(
                "\n", " "
            )
        )
        warnings.warn(message, stacklevel=3)
    return array, info


@contextmanager
def create(path, info, dtype):
    """Make a TIFF file like the one that `info` describes, to be written piece by piece. It appears by rename when the context ends well.

    Space is taken at the start, so that a full disk shows then.

    Args:
        path: the file, which is replaced; its directory must exist.
        info: `ImageInfo`, whose shape the result has.
        dtype: numpy dtype of the result.

    Yields:
        An array: an index of one slice an axis takes a NumPy array of `dtype`.
    """
    temporary = path.with_name(f".{path.name}.unfinished")  # of a killed process too, then
    try:
        offset, _ = tifffile.imwrite(
            temporary, shape=info.shape, dtype=dtype, returnoffset=True, **tiff_options(info, dtype)
        )
        with temporary.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield _Mapped(temporary, np.dtype(dtype), offset, info.shape)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Mapped:
    """Contiguous pixels in a file, mapped into memory for as long as an access takes, so that what was touched is not kept."""

    def __init__(self, path, dtype, offset, shape):
        self.dtype, self.shape = dtype, tuple(shape)
        self._place = {"filename": path, "dtype": dtype, "offset": offset, "shape": self.shape}

    def __getitem__(self, index):
        return np.array(np.memmap(mode="r", **self._place)[index])

    def __setitem__(self, index, values):
        np.memmap(mode="r+", **self._place)[index] = values


class _Pages:
    """Pages that are compressed or scattered, of which the segments are decoded that an index touches."""

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
    """Tifffile follows directories that point back to an earlier one for ever."""
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
    """Tifffile makes a list of all planes that the XML of an OME file promises, however many."""
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
            f"{path}: its OME metadata promise {max(counts)} planes, which the file cannot hold; export it again"
        )


def _check_complete(path, tif, series):
    """Tifffile fills missing data with zeros and drops missing pages; a result made of them would be silently wrong."""
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


@contextmanager
def quiet_readers():
    """Keep the logs of tifffile and imagecodecs off the terminal; yields the list that collects their error messages."""
    messages = []

    def collect(record):
        if record.levelno >= logging.ERROR:
            messages.append(record.getMessage())
        return False

    loggers = [logging.getLogger(name) for name in ("tifffile", "imagecodecs")]
    for logger in loggers:
        logger.addFilter(collect)
    try:
        yield messages
    finally:
        for logger in loggers:
            logger.removeFilter(collect)
