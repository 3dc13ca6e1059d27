"""Resample a point spread function: other pixels, another middle, the same light.

NumPy on the host. A pixel's value is the light that falls on its area. The light up to each pixel's
border is known exactly; between the borders it is interpolated by a cubic spline, and the light of
a new pixel is the difference between its two borders. So the sum is kept, whatever the new pixels.
"""

import numpy as np
from jaxtyping import Float64, Real


def resampled(
    psf: Real[np.ndarray, "*d h w"],
    centre: tuple[float, ...],
    step: tuple[float, ...] | None = None,
) -> Float64[np.ndarray, "... _ _"]:
    """Return a PSF on other pixels, the middle one of which lies around its centre. Host side.

    Args:
        psf: (h, w) or (d, h, w), the light of each pixel. 0 is assumed around it.
        centre: (y, x) or (z, y, x) in pixels from the middle of the first pixel, within the PSF.
        step: Sides of the new pixels in pixels of the PSF; default: 1 along each axis.

    Returns:
        Odd sides, as many pixels as cover the PSF, the same sum. What is nowhere negative remains
        so: an overshoot of the spline below 0 is cut off, which adds to the sum what it takes away
        from the error.
    """
    result = np.asarray(psf, np.float64)
    lowest = min(0.0, float(result.min()))
    steps = (1.0,) * result.ndim if step is None else step
    for axis in range(result.ndim):
        result = np.moveaxis(
            _along(np.moveaxis(result, axis, 0), centre[axis], steps[axis]), 0, axis
        )
    return np.maximum(result, lowest)


def moved_to_middle(
    psf: Real[np.ndarray, "*d h w"], centre: tuple[int, ...]
) -> Real[np.ndarray, "... _ _"]:
    """Add rows and columns of zeros until a pixel is the middle one. No value changes. Host side.

    Args:
        psf: (h, w), or (d, h, w), to which planes are added as well.
        centre: (row, column) or (plane, row, column) of the pixel.

    Returns:
        Odd sides.
    """
    rims = []
    for place, side in zip(centre, psf.shape, strict=True):
        half = max(place, side - 1 - place)
        rims.append((half - place, half - (side - 1 - place)))
    return np.pad(psf, rims)


def _along(light, centre, step):
    """New pixels along the first axis."""
    side, middle = len(light), centre + 0.5  # of the centre from the outer border of the first
    reach = max(middle, side - middle)
    half = max(0, int(np.ceil(reach / step - 0.5 - 1e-9)))
    borders = middle + step * (np.arange(2 * half + 2) - half - 0.5)
    return np.diff(_light_up_to(light, np.clip(borders, 0, side)), axis=0)


def _light_up_to(light, places):
    """The spline through the light up to each border, at other places from 0 to n."""
    side = len(light)
    total = np.concatenate([np.zeros_like(light[:1]), np.cumsum(light, axis=0)])
    # The slopes at the borders, from the continuity of the second derivative; at the ends, the
    # density of the last pixel.
    matrix = 4 * np.eye(side + 1) + np.eye(side + 1, k=1) + np.eye(side + 1, k=-1)
    matrix[0, :2], matrix[-1, -2:] = (1, 0), (0, 1)
    inner = 3 * (light[1:] + light[:-1])
    known = np.concatenate([light[:1], inner, light[-1:]])
    slopes = np.linalg.solve(matrix, known.reshape(side + 1, -1)).reshape(known.shape)
    low = np.minimum(places.astype(int), side - 1)
    t = (places - low).reshape(-1, *(1,) * (light.ndim - 1))
    return (
        (1 + 2 * t) * (1 - t) ** 2 * total[low]
        + t**2 * (3 - 2 * t) * total[low + 1]
        + t * (1 - t) ** 2 * slopes[low]
        + t**2 * (t - 1) * slopes[low + 1]
    )
