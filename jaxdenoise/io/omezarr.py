"""OME-Zarr images in and out, region by region: OME-NGFF 0.1 to 0.4 on Zarr v2 and 0.5 on Zarr v3, through tensorstore.

NumPy on the host; JAX is never imported here, and tensorstore not before a file is opened.
"""

import math
import os
import shutil
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxdenoise.io import ngff
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.system.crew import ALONE
from jaxdenoise.system.errors import ImageError

_DTYPES = (
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
CHUNK = 512  # pixels along Y and X; 1 along the other axes
_UNDERSTOOD = ("understood", "expected the metadata of OME-NGFF 0.1 to 0.5, export it again")
_READ = ("read", "expected sound arrays and chunks, copy or export it again")
_WRITTEN = ("written", "check free space and permissions")


def is_omezarr(path):
    """Whether `path` is a folder of Zarr's, or is called one: it ends in .zarr."""
    return Path(path).suffix.lower() == ".zarr" or _is_zarr(path)


def open_image(path, *, axes=None):
    """Open the full resolution of an OME-Zarr image, or a bare Zarr array; pixels are read when they are asked for.

    Of several images (the fields of a well, the series of bioformats2raw) the first is opened, with
    a warning.

    Args:
        path: The folder.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.

    Returns:
        tuple: The pixels, which have `shape`, `dtype` (in native byte order) and ``pixels[slices]``
            with NumPy's meaning of slices of
        step 1: an array of what they select, or ImageError where chunks are damaged (missing ones
            hold the fill value); and `ImageInfo`.

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
    with _errors(path, *_UNDERSTOOD):
        folder, others = ngff.first_image(path)
        place, multiscale, dataset, omero = ngff.read_group(folder)
        store, zarr_format = _open_array(place)
        pixels = _Pixels(path, store)
        letters, units = ngff.read_axes(path, multiscale, pixels.shape, store.domain.labels, axes)
        metadata = ngff.read_metadata(folder, letters, units, multiscale, dataset, omero)
        info = ImageInfo(
            letters,
            pixels.shape,
            pixels.dtype,
            "omezarr",
            metadata=metadata | {"zarr_format": zarr_format},
        )
    if others:  # the warning is for who called the module that tells formats apart
        left = f"{others} of {others + 1} images were left out"
        warnings.warn(
            f"{path}: {left}, only the first is read: {folder.relative_to(path)} {info.axes} {info.shape}",
            stacklevel=3,
        )
    return pixels, info


@contextmanager
def create(path, info, shape, dtype, *, zarr_format=None, overwrite=False, crew=ALONE):
    """Write an OME-Zarr image of one resolution, region by region; it appears by rename when all is written, or not at all.

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
        crew: `crew.Crew` that writes it together, each process chunks of its own, of `CHUNK` pixels
            a side; it appears when all end.

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
    temporary = target.with_name(f".{target.name}.unfinished")  # of a killed process too, then
    crew.barrier()
    try:
        with _errors(path, *_WRITTEN):
            if crew.is_primary:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            axes, scale = zip(*(ngff.group_axis(info, axis) for axis in order), strict=True)
            sizes = [int(shape[info.axes.index(axis)]) for axis in order]
            options = [axis["name"] for axis in axes], sizes, dtype, zarr_format
            store = _create_array(temporary / "0", *options) if crew.is_primary else None
            crew.barrier()
            store = store or _create_array(temporary / "0", *options, there=True)
            pixels = _Output(
                path, store.transpose([order.index(axis) for axis in info.axes]), info.axes
            )
        yield pixels
        with _errors(path, *_WRITTEN):
            name, ranges = (
                target.stem.removesuffix(".ome"),
                crew.all_gather(np.array(pixels.ranges(), np.float64)),
            )
            if crew.is_primary:
                ranges = [
                    (float(low), float(high))
                    for low, high in zip(
                        ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0), strict=True
                    )
                ]
                for file, content in ngff.group_files(
                    info, axes, scale, ranges, name, zarr_format
                ).items():
                    (temporary / file).write_text(content)
                _put_in_place(temporary, target, overwrite)
            crew.barrier()
    finally:
        if crew.is_primary:
            _remove(temporary)


def _remove(folder):
    """Remove a folder into which tensorstore's threads may still be writing what an interrupt cut short."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # of a name that is too long, too
            return
        time.sleep(0.05)


class _Pixels:
    """The pixels of an image on disk, in its own order of axes."""

    def __init__(self, path, store):
        if store.dtype.name not in _DTYPES:
            raise ImageError(
                f"{path}: pixels are {store.dtype.name}, expected integers or floats; save it as such"
            )
        if 0 in store.shape:
            raise ImageError(f"{path}: the image is empty, shape {store.shape}; export it again")
        self._path, self._store = path, store
        self.shape, self.dtype = tuple(store.shape), store.dtype.numpy_dtype
        # Where memory lacks NumPy raises an error, tensorstore ends the process: so NumPy is asked
        # first, for a chunk and for the result.
        with _errors(path, *_READ):
            np.empty(store.chunk_layout.read_chunk.shape, self.dtype)

    def __getitem__(self, key):
        import tensorstore

        region = _region(key, self.shape)
        with _errors(self._path, *_READ):
            part = self._store[region]
            result = np.empty(part.shape, self.dtype)
            tensorstore.array(result).write(part).result()
        return result


class _Output:
    """The pixels of an image that is being written; remembers the range of each channel, which display windows are made of."""

    def __init__(self, path, store, axes):
        self._path, self._store = path, store
        self._axis = next((place for place, axis in enumerate(axes) if axis in "CS"), None)
        self._lows, self._highs = {}, {}
        self.shape, self.dtype = tuple(store.shape), store.dtype.numpy_dtype

    def __setitem__(self, key, values):
        region = _region(key, self.shape)
        values = np.broadcast_to(values, [part.stop - part.start for part in region])
        future = self._store[region].write(values)
        with _errors(self._path, *_WRITTEN):
            try:
                future.result()
            except KeyboardInterrupt:
                # what is still being written would come after the folder's removal
                future.exception()
                raise
        channels = [values] if self._axis is None else np.moveaxis(values, self._axis, 0)
        for channel, part in enumerate(
            channels, 0 if self._axis is None else region[self._axis].start
        ):
            self._note_range(channel, part)

    def ranges(self):
        """Of each channel, the smallest and the largest finite value that was written."""
        count = 1 if self._axis is None else self.shape[self._axis]
        return [
            (self._lows.get(channel, 0.0), self._highs.get(channel, 0.0))
            for channel in range(count)
        ]

    def _note_range(self, channel, values):
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            self._lows[channel] = min(float(values.min()), self._lows.get(channel, math.inf))
            self._highs[channel] = max(float(values.max()), self._highs.get(channel, -math.inf))


@contextmanager
def _errors(path, done, advice):
    """Make one line of whatever goes wrong: tensorstore and senseless metadata raise all sorts, from KeyError to MemoryError."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = str(error).split(" [")[0]  # tensorstore goes on with places in its source code
        raise ImageError(
            f"{path}: cannot be {done} ({type(error).__name__}: {reason}); {advice}"
        ) from error


def _is_zarr(path):
    return any(os.path.isfile(os.path.join(path, mark)) for mark in ngff.MARKS)


def _region(key, shape):
    """NumPy's meaning of slices, which are clipped and count from the end; tensorstore's are positions."""
    key = key if isinstance(key, tuple) else (key,)
    parts = [
        part.indices(size)[:2]
        for part, size in zip((*key, *[slice(None)] * (len(shape) - len(key))), shape, strict=True)
    ]
    return tuple(slice(start, max(start, stop)) for start, stop in parts)


def _open_array(folder):
    """The array in a folder, and its Zarr format."""
    if not ngff.is_array(folder):
        raise ImageError(
            f"{folder}: holds no Zarr array (no .zarray, no zarr.json of one); copy or export the image again"
        )
    import tensorstore

    zarr_format = 3 if os.path.isfile(folder / "zarr.json") else 2
    with _errors(folder, *_READ):
        return tensorstore.open(
            _spec(folder, zarr_format), open=True, read=True
        ).result(), zarr_format


def _create_array(folder, names, shape, dtype, zarr_format, *, there=False):
    import tensorstore

    chunks = [1] * (len(shape) - 2) + [min(size, CHUNK) for size in shape[-2:]]
    metadata, blosc = (
        {"shape": shape, "fill_value": 0},
        {"cname": "zstd", "clevel": 1, "blocksize": 0},
    )
    if zarr_format == 2:
        blosc |= {"id": "blosc", "shuffle": 1}
        metadata |= {
            "chunks": chunks,
            "dtype": dtype.str,
            "compressor": blosc,
            "dimension_separator": "/",
        }
    else:
        blosc |= {"shuffle": "shuffle", "typesize": dtype.itemsize}
        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": blosc},
        ]
        metadata |= {"data_type": dtype.name, "codecs": codecs, "dimension_names": names}
        metadata |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}
    spec = _spec(folder, zarr_format) | {"metadata": metadata}
    return tensorstore.open(spec, create=not there, open=there, read=True, write=True).result()


def _spec(folder, zarr_format):
    return {
        "driver": "zarr3" if zarr_format == 3 else "zarr",
        "kvstore": {"driver": "file", "path": f"{os.path.abspath(folder)}/"},
    }


def _checked_order(path, info, dtype):
    """The axes in the order that the format demands."""
    if dtype.name not in _DTYPES:
        raise ImageError(
            f"{path}: cannot be stored as {dtype}; use an integer or float dtype, such as float32"
        )
    others = "".join(axis for axis in info.axes if axis not in "TZYX")
    if len(others) > 1:
        raise ImageError(
            f"{path}: OME-Zarr has no room for the axes {info.axes} (expected T, Z, Y, X and one other); write a TIFF"
        )
    return "".join(axis for axis in f"T{others}ZYX" if axis in info.axes)


def _check_output(path, overwrite):
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ImageError(f"{path}: exists; say --overwrite to replace it, or name another folder")
    if not os.path.isdir(path) or (os.listdir(path) and not _is_zarr(path)):
        raise ImageError(f"{path}: is no Zarr folder and not replaced; name another one")


def _put_in_place(temporary, path, overwrite):
    """Rename; what is replaced goes when the new one is there."""
    old = temporary.with_suffix(".old")
    try:
        if overwrite and os.path.isdir(path):
            os.rename(path, old)
        os.rename(temporary, path)
    except BaseException:
        if os.path.isdir(old) and not os.path.isdir(path):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
