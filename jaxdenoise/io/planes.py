"""What the modules for files of microscope makers share. Host side; needs no JAX."""

import importlib
import logging
import math
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxdenoise.io.frames import Pixels
from jaxdenoise.io.info import number
from jaxdenoise.io.readers import reading
from jaxdenoise.system.errors import ImageError

_SILENT = logging.NullHandler()  # what readers log about damaged files would go to the terminal


class MakerImage(NamedTuple):
    """The first image of a file.

    Attributes:
        pixels: In the order of `axes`.
        axes: A name an axis, of one letter where it has one.
        metadata: OME attributes.
        images: How many images the file holds.
    """

    pixels: Pixels
    axes: tuple[str, ...]
    metadata: dict[str, Any]
    images: int


class Planes:
    """The pixels of an open file, which a function reads when they are indexed.

    Attributes:
        shape: Of the whole image.
        dtype: Of what is read.
    """

    def __init__(
        self,
        path: Path,
        shape: Iterable[int],
        dtype: npt.DTypeLike,
        *,
        inner: int,
        read: Callable[[list[int], list[slice]], np.ndarray],
        close: Callable[[], object],
    ) -> None:
        """Take an open file.

        Args:
            path: For messages.
            shape: Of the whole image.
            dtype: Of what is read.
            inner: How many of the last axes `read` can slice.
            read: Takes a number for each of the first axes and a slice for each of the inner ones;
                returns the array.
            close: Is called when the pixels are no longer used.
        """
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._path, self._inner, self._read = path, inner, read
        weakref.finalize(self, close)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part: a slice of step 1 an axis, with NumPy's meaning."""
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (len(self.shape) - len(key))
        ranges = [range(size)[part] for size, part in zip(self.shape, key, strict=True)]
        result = np.empty([len(part) for part in ranges], self.dtype)
        if result.size:
            outer = ranges[: -self._inner]
            region = [slice(part.start, part.stop) for part in ranges[-self._inner :]]
            with maker_reading(self._path):
                for place in np.ndindex(*result.shape[: -self._inner]):
                    numbers = [part[n] for part, n in zip(outer, place, strict=True)]
                    result[place] = self._read(numbers, region)
        return result


def maker_reading(path: Path) -> AbstractContextManager[None]:
    """Return a context in which any error of a reader becomes an ImageError of one line."""
    return reading(path, f"a sound {path.suffix} file")


def reader_package(path: Path, name: str) -> ModuleType:
    """Import the package that reads a file; ImageError if it is not installed."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        name, advice = name.split(".")[0], "pip install 'jaxdenoise[vendors]'"
        if name == "pylibCZIrw" and sys.version_info >= (3, 14):
            advice = (
                "it has no builds for Python 3.14: take Python 3.11 to 3.13, "
                "or convert the file to OME-TIFF"
            )
        raise ImageError(
            f"{path}: {path.suffix} files are read by the package {name} ({error}); {advice}"
        ) from error
    logging.getLogger(name).addHandler(_SILENT)
    return package


def check_complete(path: Path, found: int, sizes: Iterable[int]) -> None:
    """Raise an ImageError if there are fewer planes than the sizes of the axes promise."""
    expected = math.prod(sizes)
    if found < expected:
        raise ImageError(
            f"{path}: {expected - found} of {expected} planes are missing; "
            "copy the file again, or export what is complete"
        )


def positive(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers greater than 0; makers write 0 for what is not known."""
    numbers = {key: number(value) for key, value in values.items()}
    return {key: value for key, value in numbers.items() if value is not None and value > 0}


def channels_named(names: Iterable[str | None]) -> dict[str, list[dict[str, str]]]:
    """Return the OME attribute of the channels, if any has a name."""
    channels = [{"Name": name} if name else {} for name in names]
    return {"Channel": channels} if any(channels) else {}
