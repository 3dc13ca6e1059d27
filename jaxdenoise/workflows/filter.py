"""A classical filter on the frames of a file: which axes it works on, and its parameter where it is to be found. Host side."""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging import filters
from jaxdenoise.microscope.calibration import Calibration, calibrate, calibrate_gaussian
from jaxdenoise.microscope.noise_estimation import CORRELATED
from jaxdenoise.system.errors import RequestError

FUNCTIONS = {
    "gaussian": filters.gaussian_filter,
    "median": filters.median_filter,
    "box": filters.box_filter,
    "box3d": filters.box3d_filter,
    "wiener": filters.wiener_filter,
}
SIZES = (1, 3, 5, 7, 9, 11)  # candidates, in pixels
_SAMPLE = 2**20  # pixels that a parameter is found on


class Filtered(NamedTuple):
    """Filtered frames and how they came about.

    Attributes:
        frames: (N, H, W) as the file's.
        parameter: "sigma", "size" or both, in pixels: one value for all axes or one an axis.
        calibration: How the parameter was found; None where it was given.
    """

    frames: np.ndarray
    parameter: dict[str, Any]
    calibration: Calibration | None


def apply(name, image, *, sigma=None, size=None, mode="reflect", dtype=None):
    """Filter every frame, or every volume, of a file.

    Two sizes or sigmas (or one number) work on the frames, three on volumes (Z, Y, X), as box3d
    does.

    Args:
        name: "gaussian", "median", "box", "box3d" or "wiener".
        image: `images.ImageFile`. Integers of at most 16 bits are filtered as such.
        sigma: Of the Gaussian, in pixels: a number, a tuple in the order of the axes, or "auto"
            (the default without `size`).
        size: Window in odd pixels: a number, a tuple, or "auto" (the default but for the Gaussian).
            For the Gaussian: OpenCV's kernel size.
        mode: Border mode, see `filters`.
        dtype: Of the result; by default the file's where that is an integer of at most 16 bits,
            else float32.

    Returns:
        `Filtered`.

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
    stacks = stacks.astype(image.info.dtype) if small else stacks
    function = partial(FUNCTIONS[name], mode=mode)
    found = None
    if sigma == "auto":
        found = calibrate_gaussian(_sample(stacks), axes=axes, mode=mode)
        sigma = round(float(found.best), 3)
    elif size == "auto":
        candidates = SIZES[1:] if name == "wiener" else SIZES[:4] if deep else SIZES
        found = calibrate(lambda x, side: function(x, (side,) * axes), _sample(stacks), candidates)
        size = found.best
    if found is not None and not np.isfinite(found.noise_variance):
        raise RequestError(
            "the grey levels are too large to find a width; divide the image by a power of ten, or give --sigma or --size"
        )
    if found is not None and found.correlation > CORRELATED:
        warnings.warn(
            f"the noise is correlated between neighbouring pixels (lag-1 autocorrelation {found.correlation:.2f}), which 'auto' takes for "
            "signal: the filter it chose is too narrow, give --sigma or --size",
            stacklevel=2,
        )
    parameter = {
        key: value for key, value in (("sigma", sigma), ("size", size)) if value is not None
    }
    options = {
        key: value if isinstance(value, tuple) else (value,) * axes
        for key, value in parameter.items()
    }
    result = [np.asarray(function(stack, dtype=dtype, **options)) for stack in stacks]
    return Filtered(restore(np.stack(result)), parameter, found)


def _check(name, sigma, size):
    if name != "gaussian" and sigma is not None:
        raise RequestError(f"the {name} filter has no sigma; give its window with --size")
    if name == "gaussian" and size == "auto":
        raise RequestError(
            "the Gaussian filter's width is found by --sigma auto; --size auto is for the other filters"
        )
    if "auto" in (sigma, size) and None not in (sigma, size):
        raise RequestError("--sigma auto chooses the kernel's size, too; leave --size out")
    for what, value in (("--sigma", sigma), ("--size", size)):
        if isinstance(value, tuple) and len(value) == 2 and name == "box3d":
            raise RequestError(f"box3d works on Z, Y and X; give {what} one number or three")


def _check_windows(image, sigma, size):
    """Far wider windows than the image change nothing, and fill the memory."""
    longest = max(image.frames.shape[1:])
    for what, value, most in (("--sigma", sigma, longest), ("--size", size, 2 * longest + 1)):
        widest = max(value) if isinstance(value, tuple) else value
        if widest not in (None, "auto") and widest > most:
            raise RequestError(
                f"{what} {widest} is too wide for an image of {longest} pixels; give at most {most}"
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
            f"filtering in three dimensions needs a Z axis, the file's axes are {image.info.axes}; name them with --axes"
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
