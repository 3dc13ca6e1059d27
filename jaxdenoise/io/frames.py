"""The frames (N, H, W) of an image that stays on disk. Host side; JAX is never imported here.

They are float32 in grey levels when they are read, and of the file's dtype when they are written.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Real

from jaxdenoise.io.readers import reading
from jaxdenoise.system.errors import ImageError

_EXACT = 2**24  # up to which float32 holds every whole number

Place = tuple[slice, ...]  # an index of one slice an axis
FramePlace = tuple[SupportsIndex, slice, slice]  # an index of a frame, rows and columns


@runtime_checkable
class Pixels(Protocol):
    """An array on disk: an index of one slice an axis reads a part of it into memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size along each axis."""

    @property
    def dtype(self) -> Any:
        """NumPy's dtype."""

    def __getitem__(self, place: Any, /) -> Any:
        """Return a part as a NumPy array."""


@runtime_checkable
class WritablePixels(Protocol):
    """An array on disk that an index of one slice an axis stores into."""

    @property
    def dtype(self) -> Any:
        """NumPy's dtype."""

    def __setitem__(self, place: Any, values: Any, /) -> None:
        """Store a part."""


@runtime_checkable
class ReadableFrames(Protocol):
    """Frames (N, H, W) whose parts are read when they are indexed, as of `Frames`."""

    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many frames there are."""
        ...

    def __getitem__(self, index: FramePlace, /) -> Any:
        """Return a part of one frame, (h, w) float32."""


class Frames:
    """Frames of an array whose axes they fold: all but Y and X become N, in the array's order.

    ``frames[n, rows, columns]`` with a number and two slices reads a part of one frame, (h, w)
    float32; ``numpy.asarray(frames)`` reads all. Pixels that are not finite are refused, but by
    `with_gaps`.

    Attributes:
        numbers: Which frames of the array these are, in order.
        shape: (N, H, W).
        size: How many pixels they have.
        row: How many frames follow each other in time or depth before the next such row begins.
    """

    ndim, dtype = 3, np.dtype(np.float32)

    def __init__(
        self,
        path: str | Path,
        array: Pixels,
        axes: str,
        *,
        chosen: Sequence[int] | None = None,
        row: int | None = None,
        gaps: bool = False,
    ) -> None:
        """Take frames of an array, which stays on disk.

        Args:
            path: Of the file, for messages.
            array: The pixels.
            axes: One letter an axis of the array.
            chosen: The numbers of the frames, in order; default: all.
            row: As of the class; default: all frames.
            gaps: Whether pixels may be NaN.
        """
        self._path, self._array, self._axes, self._gaps = Path(path), array, axes, gaps
        self._others, plane = _folded(axes, array.shape)
        self.numbers: Sequence[int] = range(math.prod(self._others)) if chosen is None else chosen
        self.shape: tuple[int, ...] = (len(self.numbers), *plane)
        self.size = math.prod(self.shape)
        self.row = row or len(self.numbers)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.shape[0]

    def __getitem__(self, index: FramePlace) -> Float[np.ndarray, "h w"]:
        """Read a part of one frame, given by its number, rows and columns."""
        number, rows, columns = index
        place = self.numbers[number.__index__()], rows, columns
        data = self._read(_place(self._axes, self._others, *place))
        return data.reshape(data.shape[-2:])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> Real[np.ndarray, "N H W"]:
        """Read all frames."""
        if self.numbers == range(math.prod(self._others)):
            frames = self._read((slice(None),) * len(self._axes)).reshape(self.shape)
        else:
            frames = np.stack([self[n, slice(None), slice(None)] for n in range(len(self))])
        return frames.astype(dtype or self.dtype, copy=False)

    def choose(self, numbers: Iterable[int], *, row: int | None = None) -> "Frames":
        """Return some of the frames, by their numbers; ``row`` as of the class."""
        chosen = [self.numbers[n] for n in numbers]
        own = self._path, self._array, self._axes
        return Frames(*own, chosen=chosen, row=row, gaps=self._gaps)

    def with_gaps(self) -> "Frames":
        """Return the same frames, of which pixels may be NaN."""
        own = self._path, self._array, self._axes
        return Frames(*own, chosen=self.numbers, row=self.row, gaps=True)

    def _read(self, place):
        """A part of the array as float32, Y and X last."""
        with reading(self._path):
            data = self._array[place]
        sizes = zip(place, self._array.shape, strict=True)
        expected = tuple(len(range(*part.indices(size))) for part, size in sizes)
        check_shape(self._path, data.shape, expected)
        _check_values(self._path, data, gaps=self._gaps)
        with np.errstate(over="ignore"):
            frames = np.ascontiguousarray(
                np.moveaxis(data, _yx(self._axes), (-2, -1)), dtype=np.float32
            )
        bad = np.count_nonzero(np.isinf(frames)) if data.dtype.itemsize > 4 else 0
        if bad:
            raise ImageError(
                f"{self._path}: {bad} pixels are beyond the range of float32 (3.4e38); "
                "scale the image first"
            )
        return frames


class Target:
    """Frames that are being written: ``target[n, rows, columns] = values`` stores a part of one.

    Values are stored in the array's dtype. For integers they are rounded half to even; values out
    of range saturate.

    Attributes:
        shape: (N, H, W).
        outside: How many values were out of range so far.
    """

    def __init__(
        self, path: str | Path, array: WritablePixels, axes: str, shape: tuple[int, ...]
    ) -> None:
        """Take an array to write to.

        Args:
            path: Of the file, for messages.
            array: The pixels.
            axes: One letter an axis of the array.
            shape: Of the array.
        """
        self._path, self._array, self._axes = path, array, axes
        self._others, plane = _folded(axes, shape)
        self.shape = (math.prod(self._others), *plane)
        self.outside = 0

    def __setitem__(self, index: FramePlace, values: Real[np.ndarray, "h w"]) -> None:
        """Store a part of one frame, given by its number, rows and columns."""
        self.store(index, values)

    def store(
        self,
        index: FramePlace,
        values: Real[np.ndarray, "h w"],
        *,
        gaps: Bool[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Store a part of one frame as an index does; in ``gaps`` it may be NaN.

        Raises:
            ImageError: Other values are NaN or infinite.
        """
        number, rows, columns = index
        wrong = ~np.isfinite(values)
        bad = np.count_nonzero(wrong if gaps is None else wrong & ~gaps)
        if bad:
            raise ImageError(
                f"{self._path}: {bad} pixels of the result are NaN or infinite; "
                "not written, check the model"
            )
        values, outside = _saturated(values, self._array.dtype)
        self.outside += outside
        place = _place(self._axes, self._others, number.__index__(), rows, columns)
        y, x = _yx(self._axes)
        values = values if y < x else values.T
        others = [axis for axis in range(len(self._axes)) if axis not in (y, x)]
        self._array[place] = np.expand_dims(values, others)


def check_shape(path: Path, found: tuple[int, ...], promised: tuple[int, ...]) -> None:
    """Raise an ImageError unless a reader gave the shape that the file promised."""
    if found != promised:
        raise ImageError(
            f"{path}: shape {found} was read where {promised} was promised; export the file again"
        )


def _check_values(path, data, *, gaps):
    """Refuse what is not finite, but NaN for gaps; warn of numbers that float32 cannot hold."""
    wrong, name = (np.isinf, "infinite") if gaps else (_not_finite, "NaN or infinite")
    bad = np.count_nonzero(wrong(data)) if data.dtype.kind == "f" else 0
    if bad:
        raise ImageError(
            f"{path}: {bad} pixels are {name}, expected finite values; replace them first"
        )
    large = data.dtype.kind in "iu" and data.dtype.itemsize > 2 and data.size > 0
    if large and max(data.max(), -int(data.min())) > _EXACT:
        warnings.warn(
            f"{path}: whole numbers beyond {_EXACT:,} are rounded to the 24 bits of float32",
            stacklevel=3,
        )


def _not_finite(data):
    return ~np.isfinite(data)


def _folded(axes, shape):
    others = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    y, x = _yx(axes)
    return others, (shape[y], shape[x])


def _yx(axes):
    return axes.index("Y"), axes.index("X")


def _place(axes, others, number, rows, columns):
    """The index into the array of a part of one frame: a slice an axis."""
    numbers: Iterator[Any] = iter(np.unravel_index(number, others) if others else ())
    return tuple(
        {"Y": rows, "X": columns}[axis] if axis in "YX" else slice(n := int(next(numbers)), n + 1)
        for axis in axes
    )


def _saturated(values, dtype):
    """Values in a dtype, rounded if it is an integer and saturated, and how many were outside."""
    limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    values = np.asarray(values, np.float64)
    values = np.rint(values) if dtype.kind in "iu" else values
    with np.errstate(invalid="ignore", over="ignore"):
        result = values.astype(dtype)
    result[values <= limits.min] = limits.min
    result[values >= limits.max] = limits.max
    return result, np.count_nonzero((values < limits.min) | (values > limits.max))
