"""Image files in and out: TIFF (ImageJ, OME, BigTIFF), PNG and JPEG to ``(N, H, W)`` float32 and back to TIFF.

The only module that knows file formats (`metadata` holds what they say). NumPy on the host; JAX is never imported here.
"""

import logging
import math
import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from struct import unpack
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile

from jaxdenoise.metadata import ImageInfo, info_of_series, tiff_options

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg")


class ImageError(ValueError):
    """An error that a user can cause: one line with what was given, what was expected and what to do."""

    def __init__(self, message):
        super().__init__(" ".join(str(message).splitlines()))


class ImageFile(NamedTuple):
    """Pixels of a file, `frames` (N, H, W) float32 in the file's grey levels, and its `info`."""

    frames: np.ndarray
    info: ImageInfo


def read(path, *, axes=None):
    """Read a TIFF, PNG or JPEG file.

    All axes other than Y and X fold into N, in the file's order. Of several series the first is read, with a warning.

    Args:
        path: The file.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.

    Returns:
        ImageFile: `frames` (N, H, W) float32 in grey levels, and `info`.

    Raises:
        ImageError: The file is missing, damaged, cut short, empty, of an unknown format, RGB (without `axes`), not
            numeric, or holds NaN or infinity; or `axes` does not fit.
    """
    path = Path(path)
    axes = None if axes is None else _checked_axes(path, axes)
    if os.path.isdir(path):
        raise ImageError(f"{path}: is a directory; give image files, such as {path}/*.tif")
    if not os.path.exists(path):
        raise ImageError(f"{path}: no such file; check the name")
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{path}: unknown extension {path.suffix!r}; convert it to one of {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); copy or export it again")
        reader = _read_tiff if path.suffix.lower() in TIFF_SUFFIXES else _read_picture
        with _tifffile_errors() as damages:
            data, info = reader(path, axes)
        frames = _fold(path, data, info)
    except ImageError:
        raise
    except Exception as error:  # decoders raise all sorts on bad files, from struct.error to MemoryError
        reason = f"{type(error).__name__}: {error}"
        raise ImageError(f"{path}: cannot be read ({reason}); expected a sound image file, export it again") from error
    if damages:
        message = f"{path}: the pixels are complete but metadata may be lost ({damages[0]})".replace("\n", " ")
        warnings.warn(message, stacklevel=2)
    return ImageFile(frames, info)


def read_many(paths, *, axes=None):
    """Read several files whose images must be of one size.

    Args:
        paths: The files.
        axes: As in `read`, the same for all.

    Returns:
        list[ImageFile]: One a file, in order.

    Raises:
        ImageError: As `read`, or two files differ in (H, W), or there are no paths.
    """
    paths = list(paths)
    images = [read(path, axes=axes) for path in paths]
    if not images:
        raise ImageError("no input files were given; give at least one image")
    for path, image in zip(paths, images, strict=True):
        (h, w), (first_h, first_w) = image.frames.shape[1:], images[0].frames.shape[1:]
        if (h, w) != (first_h, first_w):
            sizes = f"{paths[0]} is {first_h} x {first_w} pixels, {path} is {h} x {w}"
            raise ImageError(f"{sizes}; files read together need one size, run them one by one")
    return images


def write(path, frames, info, *, dtype=None, overwrite=False):
    """Write frames as a TIFF like the file that `info` describes.

    ImageJ and OME files stay such where the format can hold the result; else a plain TIFF keeps axes and calibration.
    Integers are rounded half to even; values out of range saturate, with one warning that counts them. The file
    appears by rename.

    Args:
        path: The output, named .tif (or .tiff, .btf, .tf8); missing parent directories are made.
        frames: (N, H, W) real, in grey levels; N, H and W as `read` gave them.
        info: What `read` returned with the original.
        dtype: The dtype to store, such as "float32"; None means the original's.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ImageError: The file exists, cannot be written or is not named as a TIFF; or `frames` has another shape or
            holds NaN or infinity; or `dtype` is not numeric.
    """
    path, frames = Path(path), np.asarray(frames)
    dtype = np.dtype(info.dtype if dtype is None else dtype)
    _check_output(path, overwrite)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise ImageError(f"{path}: results are TIFF files; name it {path.stem}.tif")
    if dtype.kind not in "iuf":
        raise ImageError(f"{path}: cannot be stored as {dtype}; use an integer or float dtype, such as float32")
    others = [size for axis, size in zip(info.axes, info.shape, strict=True) if axis not in "YX"]
    plane = [info.shape[place] for place in _yx(info.axes)]
    expected = (math.prod(others), *plane)
    if frames.shape != expected:
        raise ImageError(f"{path}: frames are {frames.shape}, expected the original's {expected}; give one a frame")
    bad = sum(np.count_nonzero(~np.isfinite(frame)) for frame in frames)
    if bad:
        raise ImageError(f"{path}: {bad} pixels of the result are NaN or infinite; not written, check the model")

    data, outside = _convert(frames, dtype)
    data = np.moveaxis(data.reshape(*others, *plane), (-2, -1), _yx(info.axes))
    _write_by_rename(path, np.ascontiguousarray(data), tiff_options(info, dtype))
    if outside:
        message = f"{path}: {outside} of {frames.size} pixels were outside the range of {dtype} and saturated"
        warnings.warn(message, stacklevel=2)


def output_paths(inputs, directory, suffix, *, overwrite=False):
    """Name one output an input, and check all of them before the work starts.

    Args:
        inputs: The input files.
        directory: Where the outputs go; it need not exist.
        suffix: What is added to the name.
        overwrite: Whether existing files may be replaced; an input never is.

    Returns:
        list[Path]: ``<directory>/<stem>_<suffix>.tif``, the stem without ".tif" and without ".ome.tif".

    Raises:
        ImageError: Two inputs share an output, an output exists or is one of the inputs, or `directory` is a file.
    """
    inputs, directory = list(inputs), Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ImageError(f"{directory}: is a file, expected a directory for the results; name another one")
    sources = {Path(path).resolve() for path in inputs}
    owners = {}
    for source in inputs:
        stem = Path(source).stem
        stem = stem[:-4] if stem.lower().endswith(".ome") else stem
        path = directory / f"{stem}_{suffix}.tif"
        if path in owners:
            raise ImageError(f"{owners[path]} and {source} would both become {path}; use two output directories")
        if path.resolve() in sources:
            raise ImageError(f"{path}: this output is itself an input; give another output directory")
        _check_output(path, overwrite)
        owners[path] = source
    return list(owners)


def _read_tiff(path, axes):
    with tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise ImageError(f"{path}: the TIFF holds no images; export it again")
        series = tif.series[0]
        _check_complete(path, tif, series)
        axes = _choose_axes(path, series.axes, series.shape, axes)
        if series.dtype.kind not in "iuf":
            hint = "convert it to 8-bit" if series.dtype.kind == "b" else "save it as integers or float32"
            raise ImageError(f"{path}: pixels are {series.dtype}, expected integers or floats; {hint}")
        if len(tif.series) > 1:
            left = f"{len(tif.series) - 1} of {len(tif.series)} image series were left out"
            warnings.warn(f"{path}: {left}, only the first is read: {series.axes} {series.shape}", stacklevel=3)
        return series.asarray(), info_of_series(tif, axes)


def _read_picture(path, axes):
    content = path.read_bytes()
    if content.startswith(b"\x89PNG"):
        data = imagecodecs.png_decode(content)
    elif content.startswith(b"\xff\xd8"):
        # JPEG decoders make up what a file cut short lacks, so look for the end marker (FFD9) after the last start of
        # scan (FFDA): an embedded thumbnail has an end marker of its own, but before it.
        if content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise ImageError(f"{path}: the file is cut short; copy or export it again")
        data = imagecodecs.jpeg_decode(content)
    else:
        raise ImageError(f"{path}: the content is neither PNG nor JPEG; export it again")
    axes = _choose_axes(path, "YXS"[: data.ndim], data.shape, axes)
    return data, ImageInfo(axes, data.shape, data.dtype)


def _check_complete(path, tif, series):
    """Tifffile fills missing data with zeros and drops missing pages; a result made of them would be silently wrong."""
    form, file = tif.tiff, tif.filehandle
    file.seek(tif.pages[-1].offset)
    tags = unpack(form.tagnoformat, file.read(form.tagnosize))[0]
    file.seek(tags * form.tagsize, os.SEEK_CUR)
    next_page = unpack(form.offsetformat, file.read(form.offsetsize))[0]
    plane = series.keyframe.imagelength * series.keyframe.imagewidth
    promised = plane * tif.imagej_metadata.get("images", 1) if tif.is_imagej and series.kind != "imagej" else 0
    end = series.dataoffset + series.nbytes if series.dataoffset else 0
    if next_page != 0 or series.size < promised or end > file.size or not all(map(_is_whole, series.pages)):
        raise ImageError(f"{path}: the file is cut short, pixel data are missing; copy or export it again")


def _is_whole(page):
    if page is None or len(page.dataoffsets) < (1 if page.is_contiguous else math.prod(page.chunked)):
        return False
    size = page.parent.filehandle.size
    return all(0 < n <= size - offset for offset, n in zip(page.dataoffsets, page.databytecounts, strict=True))


def _checked_axes(path, axes):
    letters = axes.upper()
    if set(letters) - set("STCZYX") or len(set(letters)) < len(letters) or not {"Y", "X"} <= set(letters):
        raise ImageError(f"{path}: axes {axes!r}, expected letters of STCZYX once each with Y and X; give such as TZYX")
    return letters


def _choose_axes(path, found, shape, given):
    if math.prod(shape) == 0:
        raise ImageError(f"{path}: the image is empty, shape {tuple(shape)}; export it again")
    if given is None and "S" in found:
        hint = (found if "C" in found else found.replace("S", "C")).translate(str.maketrans("IQ", "TT"))
        advice = f"say --axes {hint} to treat each channel as an image of its own, or save it as grey"
        raise ImageError(f"{path}: is RGB (axes {found}, shape {tuple(shape)}), expected grey levels; {advice}")
    axes = given or found
    if len(axes) != len(shape):
        raise ImageError(f"{path}: axes {axes} do not fit the file's shape {tuple(shape)} ({found}); give one letter each")
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise ImageError(f"{path}: axes {axes}, shape {tuple(shape)}, lack Y or X; say --axes with both, such as YX")
    return axes


def _fold(path, data, info):
    if data.shape != info.shape:
        raise ImageError(f"{path}: shape {data.shape} was read where {info.shape} was promised; export the file again")
    bad = np.count_nonzero(~np.isfinite(data)) if data.dtype.kind == "f" else 0
    if bad:
        raise ImageError(f"{path}: {bad} pixels are NaN or infinite, expected finite values; replace them first")
    data = np.moveaxis(data, _yx(info.axes), (-2, -1))
    with np.errstate(over="ignore"):
        frames = np.ascontiguousarray(data.reshape(-1, *data.shape[-2:]), dtype=np.float32)
    bad = np.count_nonzero(np.isinf(frames)) if data.dtype.itemsize > 4 else 0
    if bad:
        raise ImageError(f"{path}: {bad} pixels are beyond the range of float32 (3.4e38); scale the image first")
    return frames


def _yx(axes):
    return axes.index("Y"), axes.index("X")


def _convert(frames, dtype):
    """Round and saturate; returns the result and how many pixels were outside the range of `dtype`."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    result, outside = np.empty(frames.shape, dtype), 0
    for frame, target in zip(frames, result, strict=True):  # one by one: float64 copies of a whole stack may not fit
        values = frame.astype(np.float64)
        values = np.rint(values) if dtype.kind in "iu" else values
        outside += np.count_nonzero((values < limits.min) | (values > limits.max))
        with np.errstate(invalid="ignore", over="ignore"):
            target[...] = values
        target[values <= limits.min] = limits.min
        target[values >= limits.max] = limits.max
    return result, outside


def _check_output(path, overwrite):
    if os.path.isdir(path):
        raise ImageError(f"{path}: is a directory, expected a file name; name another file")
    if os.path.exists(path) and not overwrite:
        raise ImageError(f"{path}: the file exists; say --overwrite to replace it, or name another one")


def _write_by_rename(path, data, options):
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            tifffile.imwrite(temporary, data, **options)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"{path}: cannot be written ({reason}); check free space and permissions") from error


@contextmanager
def _tifffile_errors():
    """Keep tifffile's log off the terminal; yields the list that collects its error messages."""
    messages = []

    def collect(record):
        if record.levelno >= logging.ERROR:
            messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        yield messages
    finally:
        logger.removeFilter(collect)
