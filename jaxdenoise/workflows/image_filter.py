"""A classical filter on the frames of one image: on which axes, and how wide. Host side."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Real

from jaxdenoise.imaging import filters
from jaxdenoise.imaging.rounding import Kept, dtype_for
from jaxdenoise.io.images import Image
from jaxdenoise.microscope.calibration import Calibration, calibrate, calibrate_gaussian
from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.settings import Number

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gaussian": filters.gaussian_filter,
    "median": filters.median_filter,
    "box": filters.box_filter,
    "box3d": filters.box3d_filter,
    "wiener": filters.wiener_filter,
}
SIZES = (1, 3, 5, 7, 9, 11)  # candidates, in pixels
_SAMPLE = 2**20  # pixels that a parameter is found on

Width = Number | tuple[Number, ...] | str | None


class Filtered(NamedTuple):
    """Filtered frames and how they came about.

    Attributes:
        frames: (N, H, W) as the file's, or float32 where the file's dtype is one of more than 16
            bits.
        dtype: What the frames are to be stored in, and why if "auto" made it float32.
        parameter: "sigma", "size" or both, in pixels: one value for all axes or one an axis.
        calibration: How the parameter was found; None where it was given.
    """

    frames: Real[np.ndarray, "N H W"]
    dtype: Kept
    parameter: dict[str, Any]
    calibration: Calibration | None


def filter_image(
    name: str,
    image: Image,
    *,
    sigma: Width = None,
    size: Width = None,
    mode: str = "reflect",
    dtype: str = "auto",
) -> Filtered:
    """Filter every frame, or every volume, of a file.

    Two sizes or sigmas (or one number) work on the frames, three on volumes (Z, Y, X), as box3d
    does.

    Args:
        name: "gaussian", "median", "box", "box3d" or "wiener".
        image: the file. Integers of at most 16 bits are filtered as such.
        sigma: Of the Gaussian, in pixels: a number, a tuple in the order of the axes, or "auto"
            (the default without `size`).
        size: Window in odd pixels: a number, a tuple, or "auto" (the default but for the Gaussian).
            For the Gaussian: OpenCV's kernel size.
        mode: Border mode, see `filters`.
        dtype: Of the result: "same" as the file's; "float32"; or "auto", the file's unless whole
            grey levels are too coarse, see `rounding.dtype_for`.

    Raises:
        RequestError: The parameters do not go together, or volumes are asked for where the file has
            no Z axis.
    """
    _check(name, sigma, size)
    if sigma is None and size is None:
        sigma, size = ("auto", None) if name == "gaussian" else (None, "auto")
    deep = name == "box3d" or any(
        isinstance(value, tuple) and len(value) == 3 for value in (sigma, size)
    )
    axes = 3 if deep else 2
    _check_windows(image, sigma, size)
    stacks, restore = (
        _volumes(image) if deep else (image.frames[:, None], lambda stacks: stacks[:, 0])
    )
    small = image.info.dtype.kind in "iu" and image.info.dtype.itemsize <= 2
    # Without its line noise, an image holds fractions of grey levels.
    small = small and bool(np.all(image.frames == np.rint(image.frames)))
    stacks = stacks.astype(image.info.dtype) if small else stacks
    parameter, found = _widths(name, sigma, size, stacks, axes=axes, mode=mode)
    options = {
        key: value if isinstance(value, tuple) else (value,) * axes
        for key, value in parameter.items()
    }
    function = partial(FUNCTIONS[name], mode=mode)

    def filtered(dtype):
        results = [np.asarray(function(stack, dtype=dtype, **options)) for stack in stacks]
        return restore(np.stack(results))

    frames, kept = _in_dtype(filtered, image, dtype, small=small)
    return Filtered(frames, kept, parameter, found)


def _in_dtype(filtered, image, dtype, *, small):
    """The filtered frames, and the `Kept` dtype that they are stored in."""
    own = image.info.dtype if small else np.dtype(np.float32)
    if dtype == "same":
        return filtered(own), Kept(image.info.dtype, None)
    frames = filtered(np.dtype(np.float32))
    if dtype == "float32":
        return frames, Kept(frames.dtype, None)
    kept = dtype_for(image.frames, frames, image.info.dtype)
    # Once more, for integers that are those of SciPy and OpenCV to the last one.
    return (filtered(own) if small and kept.text is None else frames), kept


def _widths(name, sigma, size, stacks, *, axes, mode):
    """The widths that are given, or found from the images; and the `Calibration`, or None."""
    function, found = partial(FUNCTIONS[name], mode=mode), None
    if sigma == "auto":
        found = calibrate_gaussian(_sample(stacks), axes=axes, mode=mode)
        sigma = round(float(found.best), 3)
    elif size == "auto":
        candidates = SIZES[1:] if name == "wiener" else SIZES[:4] if axes == 3 else SIZES
        found = calibrate(lambda x, side: function(x, (side,) * axes), _sample(stacks), candidates)
        size = found.best
    if found is not None and not np.isfinite(found.noise_variance):
        raise RequestError(
            "the grey levels are too large to find a width; divide the image by a power of ten, or "
            "give sigma=... or size=..."
        )
    if found is not None and found.correlation > CORRELATED:
        warnings.warn(
            "the noise is correlated between neighbouring pixels (lag-1 autocorrelation "
            f"{found.correlation:.2f}), which 'auto' takes for signal: the filter it chose is too "
            "narrow, give sigma=... or size=...",
            stacklevel=3,
        )
    widths = (("sigma", sigma), ("size", size))
    return {key: value for key, value in widths if value is not None}, found


def _check(name, sigma, size):
    if name != "gaussian" and sigma is not None:
        raise RequestError(f"the {name} filter has no sigma; give its window with size=...")
    if name == "gaussian" and size == "auto":
        raise RequestError(
            'the Gaussian filter\'s width is found by sigma="auto"; size="auto" is for the other '
            "filters"
        )
    if "auto" in (sigma, size) and None not in (sigma, size):
        raise RequestError('sigma="auto" chooses the kernel\'s size, too; leave size=... out')
    for what, value in (("sigma", sigma), ("size", size)):
        if isinstance(value, tuple) and len(value) == 2 and name == "box3d":
            raise RequestError(f"box3d works on Z, Y and X; give {what}=... one number or three")


def _check_windows(image, sigma, size):
    """Far wider windows than the image change nothing, and fill the memory."""
    longest = max(image.frames.shape[1:])
    for what, value, most in (("sigma", sigma, longest), ("size", size, 2 * longest + 1)):
        widest = max(value) if isinstance(value, tuple) else value
        if widest not in (None, "auto") and widest > most:
            raise RequestError(
                f"{what}={widest} is too wide for an image of {longest} pixels; give at most {most}"
            )


def _volumes(image):
    """Frames as volumes (M, Z, H, W), and the way back."""
    others = [
        (axis, size)
        for axis, size in zip(image.info.axes, image.info.shape, strict=True)
        if axis not in "YX"
    ]
    letters, lengths = "".join(axis for axis, _ in others), [size for _, size in others]
    if "Z" not in letters:
        raise RequestError(
            "filtering in three dimensions needs a Z axis, the file's axes are "
            f"{image.info.axes}; name them with axes=..."
        )
    place, plane = letters.index("Z"), image.frames.shape[1:]
    moved = np.moveaxis(image.frames.reshape(*lengths, *plane), place, -3)

    def restore(volumes):
        return np.moveaxis(volumes.reshape(moved.shape), -3, place).reshape(-1, *plane)

    return moved.reshape(-1, lengths[place], *plane), restore


def _sample(stacks):
    """About a million pixels from the middle of each axis; whole images where they are small."""
    depth = min(stacks.shape[1], 16)
    side = int(np.sqrt(_SAMPLE / depth))
    height, width = (min(length, side) for length in stacks.shape[2:])
    count = max(1, _SAMPLE // (depth * height * width))
    chosen = np.unique(np.linspace(0, len(stacks) - 1, count).round().astype(int))
    corner = [
        (length - part) // 2
        for length, part in zip(stacks.shape[1:], (depth, height, width), strict=True)
    ]
    window = tuple(
        slice(start, start + part)
        for start, part in zip(corner, (depth, height, width), strict=True)
    )
    return jnp.asarray(stacks[(chosen, *window)], jnp.float32)
