"""OME-Zarr images: OME-NGFF 0.1 to 0.4 on Zarr v2 and 0.5 on Zarr v3, region by region. Host side.

JAX is never imported here, and tensorstore not before a file is opened.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxdenoise.io import ngff
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.io.readers import warn_of_others
from jaxdenoise.io.zarr_arrays import (
    CHUNK,
    DTYPES,
    ZarrOutput,
    ZarrPixels,
    create_array,
    open_array,
    writing,
)
from jaxdenoise.system.crew import ALONE, Crew
from jaxdenoise.system.errors import ImageError, translated
from jaxdenoise.system.files import new_folder

__all__ = ["CHUNK", "create", "is_omezarr", "open_image"]


def is_omezarr(path: str | Path) -> bool:
    """Return whether `path` is a folder of Zarr's, or has the name of one: it ends in .zarr."""
    return Path(path).suffix.lower() == ".zarr" or _is_zarr(path)


def open_image(path: str | Path, *, axes: str | None = None) -> tuple[ZarrPixels, ImageInfo]:
    """Open the full resolution of an OME-Zarr image, or a bare Zarr array.

    Of several images (the fields of a well, the series of bioformats2raw) the first is opened, with
    a warning.

    Args:
        path: The folder.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.

    Returns:
        The pixels, which are read when they are indexed, and their `ImageInfo`.

    Raises:
        ImageError: The folder is missing, a plate, damaged or not numeric; or its axes are not
            known, or `axes` does not fit.
    """
    path = Path(path)
    if not os.path.isdir(path):
        problem = (
            "is a file, expected a folder; give an OME-Zarr"
            if os.path.exists(path)
            else "no such folder; check the name"
        )
        raise ImageError(f"{path}: {problem}")
    # On senseless metadata all sorts of errors are raised.
    advice = "expected the metadata of OME-NGFF 0.1 to 0.5, export it again"
    with translated(ImageError, f"{path}: cannot be understood", advice=advice):
        folder, count = ngff.first_image(path)
        group = ngff.read_group(folder)
        store, zarr_format = open_array(group.array)
        pixels = ZarrPixels(path, store)
        letters, units = ngff.read_axes(
            path, group.multiscale, pixels.shape, store.domain.labels, axes
        )
        metadata = ngff.read_metadata(folder, group, letters, units) | {"zarr_format": zarr_format}
        info = ImageInfo(letters, pixels.shape, pixels.dtype, "omezarr", metadata=metadata)
    first = f"{folder.relative_to(path)} {info.axes} {info.shape}"
    warn_of_others(path, count, "images", first, stacklevel=4)
    return pixels, info


@contextmanager
def create(
    path: str | Path,
    info: ImageInfo,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    *,
    zarr_format: int | None = None,
    overwrite: bool = False,
    crew: Crew = ALONE,
) -> Iterator[ZarrOutput]:
    """Write an OME-Zarr image of one resolution, region by region; it appears when all is written.

    The file's axes are in the order that the format demands (T, C, Z, Y, X); the pixels are given
    in the order of ``info.axes``.

    Args:
        path: The folder to make; missing parents are made too.
        info: What describes the image: axes, physical sizes, channels, name.
        shape: Its shape, in the order of ``info.axes``.
        dtype: Its dtype: integers or floats.
        zarr_format: 2 (OME-NGFF 0.4) or 3 (0.5); None is that of the file that `info` came from,
            otherwise 2.
        overwrite: Whether an existing Zarr folder may be replaced.
        crew: The processes that write it together, each process chunks of its own, of `CHUNK`
            pixels a side.

    Yields:
        The pixels: ``pixels[slices] = array`` writes a region, without the whole image in memory.

    Raises:
        ImageError: The folder exists, or cannot be written; or the axes or the dtype do not fit
            into the format.
    """
    path, dtype = Path(path), np.dtype(dtype).newbyteorder("=")
    zarr_format = zarr_format or (3 if info.metadata.get("zarr_format") == 3 else 2)
    order = _checked_order(path, info, dtype)
    _check_output(path, overwrite)
    target = Path(os.path.realpath(path))  # a link stays a link
    axes, steps = zip(*(ngff.group_axis(info, axis) for axis in order), strict=True)
    sizes = [int(shape[info.axes.index(axis)]) for axis in order]
    crew.barrier()  # all have checked before the first one writes
    with ExitStack() as stack:
        with writing(path):
            folder = stack.enter_context(new_folder(target, replace=overwrite, crew=crew))
            store = _array_of_all(folder, axes, sizes, dtype, zarr_format, crew)
            turned = store.transpose([order.index(axis) for axis in info.axes])
            pixels = ZarrOutput(path, turned, info.axes)
        yield pixels  # errors of the caller are not translated
        with writing(path):
            ranges = crew.all_gather(np.array(pixels.ranges(), np.float64))
            if crew.is_primary:
                name = target.stem.removesuffix(".ome")
                _write_metadata(folder, info, axes, steps, ranges, name, zarr_format)
            stack.close()


def _array_of_all(folder, axes, sizes, dtype, zarr_format, crew):
    """The array that all processes write to; the primary one makes it."""
    if crew.is_primary:
        folder.mkdir(parents=True)
        names = [axis["name"] for axis in axes]
        store = create_array(folder / "0", names, sizes, dtype, zarr_format=zarr_format)
    crew.barrier()
    return store if crew.is_primary else open_array(folder / "0", write=True)[0]


def _write_metadata(folder, info, axes, steps, ranges, name, zarr_format):
    lows, highs = ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0)
    extremes = list(zip(lows.tolist(), highs.tolist(), strict=True))
    texts = ngff.group_files(info, axes, steps, extremes, name=name, zarr_format=zarr_format)
    for file, text in texts.items():
        (folder / file).write_text(text)


def _is_zarr(path):
    return any(os.path.isfile(os.path.join(path, mark)) for mark in ngff.MARKS)


def _checked_order(path, info, dtype):
    """The axes in the order that the format demands."""
    if dtype.name not in DTYPES:
        raise ImageError(
            f"{path}: cannot be stored as {dtype}; use an integer or float dtype, such as float32"
        )
    others = "".join(axis for axis in info.axes if axis not in "TZYX")
    if len(others) > 1:
        raise ImageError(
            f"{path}: OME-Zarr has no room for the axes {info.axes} "
            "(expected T, Z, Y, X and one other); write a TIFF"
        )
    return "".join(axis for axis in f"T{others}ZYX" if axis in info.axes)


def _check_output(path, overwrite):
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ImageError(f"{path}: exists; overwrite=True replaces it, or name another folder")
    if not os.path.isdir(path) or (os.listdir(path) and not _is_zarr(path)):
        raise ImageError(f"{path}: is no Zarr folder and not replaced; name another one")
