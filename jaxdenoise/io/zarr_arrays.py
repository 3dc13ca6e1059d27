"""Zarr arrays on disk, read and written region by region through tensorstore. Host side.

JAX is never imported here, and tensorstore not before an array is opened.
"""

import math
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxdenoise.io import ngff
from jaxdenoise.io.readers import reading
from jaxdenoise.system.errors import ImageError, translated

CHUNK = 512  # pixels along Y and X; 1 along the other axes
DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
_SOUND = "sound arrays and chunks"


def writing(path: Path) -> AbstractContextManager[None]:
    """Return a context in which any error becomes an ImageError of one line."""
    advice = "check free space and permissions"
    return translated(ImageError, f"{path}: cannot be written", advice=advice)


class ZarrPixels:
    """The pixels of an array on disk, in its own order of axes.

    ``pixels[slices]`` has NumPy's meaning of slices of step 1.

    Attributes:
        shape: The array's shape.
        dtype: The array's dtype, in native byte order.
    """

    def __init__(self, path: Path, store: Any) -> None:
        """Take a `tensorstore.TensorStore`; ``path`` is for messages."""
        if store.dtype.name not in DTYPES:
            raise ImageError(
                f"{path}: pixels are {store.dtype.name}, expected integers or floats; "
                "save it as such"
            )
        if 0 in store.shape:
            raise ImageError(f"{path}: the image is empty, shape {store.shape}; export it again")
        self._path, self._store = path, store
        self.shape, self.dtype = tuple(store.shape), store.dtype.numpy_dtype
        # Where memory lacks NumPy raises an error, tensorstore ends the process: so NumPy is asked
        # first, for a chunk and for the result.
        with reading(path, _SOUND):
            np.empty(store.chunk_layout.read_chunk.shape, self.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a region; ImageError if chunks are damaged. Missing ones hold the fill value."""
        import tensorstore

        region = _region(key, self.shape)
        with reading(self._path, _SOUND):
            part = self._store[region]
            result = np.empty(part.shape, self.dtype)
            tensorstore.array(result).write(part).result()
        return result


class ZarrOutput:
    """The pixels of an array that is being written: ``pixels[slices] = values``.

    It remembers the range of each channel, of which display windows are made.

    Attributes:
        shape: The array's shape.
        dtype: The array's dtype.
    """

    def __init__(self, path: Path, store: Any, axes: str) -> None:
        """Take a `tensorstore.TensorStore` and its axes; ``path`` is for messages."""
        self._path, self._store = path, store
        self._axis = next((place for place, axis in enumerate(axes) if axis in "CS"), None)
        self._lows: dict[int, float] = {}
        self._highs: dict[int, float] = {}
        self.shape, self.dtype = tuple(store.shape), store.dtype.numpy_dtype

    def __setitem__(self, key: Any, values: npt.ArrayLike) -> None:
        """Write a region."""
        region = _region(key, self.shape)
        values = np.broadcast_to(values, [part.stop - part.start for part in region])
        future = self._store[region].write(values)
        with writing(self._path):
            try:
                future.result()
            except KeyboardInterrupt:
                # What is still being written would come after the folder's removal.
                future.exception()
                raise
        if self._axis is None:
            self._note_range(0, values)
            return
        for channel, part in enumerate(
            np.moveaxis(values, self._axis, 0), region[self._axis].start
        ):
            self._note_range(channel, part)

    def ranges(self) -> list[tuple[float, float]]:
        """Return the smallest and the largest finite value that was written to each channel."""
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


def _region(key, shape):
    """NumPy's meaning of slices, which are clipped and count from the end; tensorstore's do not."""
    key = key if isinstance(key, tuple) else (key,)
    parts = [
        part.indices(size)[:2]
        for part, size in zip((*key, *[slice(None)] * (len(shape) - len(key))), shape, strict=True)
    ]
    return tuple(slice(start, max(start, stop)) for start, stop in parts)


def open_array(folder: Path, *, write: bool = False) -> tuple[Any, int]:
    """Return the `tensorstore.TensorStore` in a folder, and its Zarr format, 2 or 3.

    Args:
        folder: The array's folder.
        write: Whether it is opened to be written.

    Raises:
        ImageError: There is none, or it cannot be read.
    """
    if not ngff.is_array(folder):
        raise ImageError(
            f"{folder}: holds no Zarr array (no .zarray, no zarr.json of one); "
            "copy or export the image again"
        )
    import tensorstore

    zarr_format = 3 if os.path.isfile(folder / "zarr.json") else 2
    with reading(folder, _SOUND):
        spec = _spec(folder, zarr_format)
        return tensorstore.open(spec, open=True, read=True, write=write).result(), zarr_format


def create_array(
    folder: Path,
    names: list[str],
    shape: list[int],
    dtype: np.dtype,
    *,
    zarr_format: int,
) -> Any:
    """Make an array of compressed chunks of `CHUNK` pixels; return the `tensorstore.TensorStore`.

    Args:
        folder: The array's folder.
        names: Of the axes.
        shape: The array's shape.
        dtype: The array's dtype.
        zarr_format: 2 or 3.
    """
    import tensorstore

    chunks = [1] * (len(shape) - 2) + [min(size, CHUNK) for size in shape[-2:]]
    metadata: dict[str, Any] = {"shape": shape, "fill_value": 0}
    blosc: dict[str, Any] = {"cname": "zstd", "clevel": 1, "blocksize": 0}
    if zarr_format == 2:
        metadata |= {
            "chunks": chunks,
            "dtype": dtype.str,
            "compressor": blosc | {"id": "blosc", "shuffle": 1},
            "dimension_separator": "/",
        }
    else:
        blosc |= {"shuffle": "shuffle", "typesize": dtype.itemsize}
        metadata |= {
            "data_type": dtype.name,
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "blosc", "configuration": blosc},
            ],
            "dimension_names": names,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        }
    spec = _spec(folder, zarr_format) | {"metadata": metadata}
    return tensorstore.open(spec, create=True, read=True, write=True).result()


def _spec(folder, zarr_format):
    return {
        "driver": "zarr3" if zarr_format == 3 else "zarr",
        "kvstore": {"driver": "file", "path": f"{os.path.abspath(folder)}/"},
    }
