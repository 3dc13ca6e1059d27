"""The frames (N, H, W) of an image that stays on disk: float32 in grey levels when they are read, the file's dtype when they are written.

NumPy on the host; JAX is never imported here.
"""

import math
import warnings

import numpy as np

from jaxdenoise.system.errors import ImageError

_EXACT = 2**24  # up to which float32 holds every whole number


class Frames:
    """Frames of an array whose axes they fold: all axes but Y and X become N, in the array's order.

    ``frames[n, rows, columns]`` with a number and two slices reads a part of one frame, (h, w)
    float32; ``numpy.asarray(frames)`` reads all.

    Args:
        path: of the file, for messages.
        array: with ``shape``, ``dtype``, and an index of one slice an axis.
        axes: one letter an axis of the array.
        chosen: the numbers of the frames that these are, in order; default: all.
        row: how many of them follow each other in time or depth before the next such row begins;
            default: all.
    """

    ndim, dtype = 3, np.dtype(np.float32)

    def __init__(self, path, array, axes, *, chosen=None, row=None):
        self._path, self._array, self._axes = path, array, axes
        self._others, plane = _folded(axes, array.shape)
        self.numbers = range(math.prod(self._others)) if chosen is None else chosen
        self.shape = (len(self.numbers), *plane)
        self.size = math.prod(self.shape)
        self.row = row or len(self.numbers)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        number, rows, columns = index
        data = self._read(_place(self._axes, self._others, self.numbers[number], rows, columns))
        return data.reshape(data.shape[-2:])

    def __array__(self, dtype=None, copy=None):
        if self.numbers == range(math.prod(self._others)):
            frames = self._read((slice(None),) * len(self._axes)).reshape(self.shape)
        else:
            frames = np.stack([self[n, slice(None), slice(None)] for n in range(len(self))])
        return frames.astype(dtype or self.dtype, copy=False)

    def choose(self, numbers, *, row=None):
        """Some of the frames, by their numbers; ``row`` as of the class."""
        return Frames(
            self._path, self._array, self._axes, chosen=[self.numbers[n] for n in numbers], row=row
        )

    def _read(self, place):
        """A part of the array as float32, Y and X last."""
        try:
            data = self._array[place]
        except ImageError:
            raise
        except Exception as error:  # decoders raise all sorts on damaged data
            raise unreadable(self._path, error) from error
        expected = tuple(
            len(range(*part.indices(length)))
            for part, length in zip(place, self._array.shape, strict=True)
        )
        if data.shape != expected:
            raise ImageError(
                f"{self._path}: shape {data.shape} was read where {expected} was promised; export the file again"
            )
        bad = np.count_nonzero(~np.isfinite(data)) if data.dtype.kind == "f" else 0
        if bad:
            raise ImageError(
                f"{self._path}: {bad} pixels are NaN or infinite, expected finite values; replace them first"
            )
        if (
            data.dtype.kind in "iu"
            and data.dtype.itemsize > 2
            and data.size
            and max(data.max(), -int(data.min())) > _EXACT
        ):
            warnings.warn(
                f"{self._path}: whole numbers beyond {_EXACT:,} are rounded to the 24 bits of float32",
                stacklevel=2,
            )
        with np.errstate(over="ignore"):
            frames = np.ascontiguousarray(
                np.moveaxis(data, _yx(self._axes), (-2, -1)), dtype=np.float32
            )
        bad = np.count_nonzero(np.isinf(frames)) if data.dtype.itemsize > 4 else 0
        if bad:
            raise ImageError(
                f"{self._path}: {bad} pixels are beyond the range of float32 (3.4e38); scale the image first"
            )
        return frames


class Target:
    """Frames that are being written: ``target[n, rows, columns] = values`` stores a part of one, in the array's dtype.

    Integers are rounded half to even, and values out of range saturate; `outside` counts those.

    Args:
        path: of the file, for messages.
        array: with ``dtype``, which an index of one slice an axis stores into.
        axes: one letter an axis of the array.
        shape: of the array.
    """

    def __init__(self, path, array, axes, shape):
        self._path, self._array, self._axes = path, array, axes
        self._others, plane = _folded(axes, shape)
        self.shape = (math.prod(self._others), *plane)
        self.outside = 0

    def __setitem__(self, index, values):
        number, rows, columns = index
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            raise ImageError(
                f"{self._path}: {bad} pixels of the result are NaN or infinite; not written, check the model"
            )
        values, outside = _saturated(values, self._array.dtype)
        self.outside += outside
        place = _place(self._axes, self._others, number, rows, columns)
        y, x = _yx(self._axes)
        values = values if y < x else values.T
        self._array[place] = np.expand_dims(
            values, [axis for axis in range(len(self._axes)) if axis not in (y, x)]
        )


def unreadable(path, error):
    """The `ImageError` for what a decoder raised."""
    return ImageError(
        f"{path}: cannot be read ({type(error).__name__}: {error}); expected a sound image file, export it again"
    )


def _folded(axes, shape):
    others = [size for axis, size in zip(axes, shape, strict=True) if axis not in "YX"]
    return others, tuple(shape[place] for place in _yx(axes))


def _yx(axes):
    return axes.index("Y"), axes.index("X")


def _place(axes, others, number, rows, columns):
    """The index into the array of a part of one frame: a slice an axis."""
    numbers = iter(np.unravel_index(number, others) if others else ())
    return tuple(
        {"Y": rows, "X": columns}[axis] if axis in "YX" else slice(n := int(next(numbers)), n + 1)
        for axis in axes
    )


def _saturated(values, dtype):
    """Values in the dtype, rounded if it is an integer and saturated, and how many were outside its range."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    values = np.asarray(values, np.float64)
    values = np.rint(values) if dtype.kind in "iu" else values
    with np.errstate(invalid="ignore", over="ignore"):
        result = values.astype(dtype)
    result[values <= limits.min] = limits.min
    result[values >= limits.max] = limits.max
    return result, np.count_nonzero((values < limits.min) | (values > limits.max))
