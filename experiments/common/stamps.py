"""Draw many objects into many planes at once, at sub-pixel places: ellipses, spots, curves, clouds.

The planes (N, H, W) are the frames of a movie, the planes of a volume, or one for each object.
What falls outside a plane is lost.
"""

import itertools

import numpy as np
import scipy.fft


def log_uniform(rng, low, high):
    """Draw a number between two positive limits, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def put_ellipses(planes, index, places, long, short, angle, *, level, edge, hollow):
    """Add soft-edged ellipses.

    Args:
        planes: (N, H, W) float32, changed in place.
        index: (K,) the plane of each object.
        places: (K, 2) row and column of each centre in pixels.
        long: (K,) half axes in pixels; `short` likewise.
        short: see `long`.
        angle: (K,) direction of the long axis in radians.
        level: (K,) brightness of the body.
        edge: width in pixels over which a body ends.
        hollow: 0 for full bodies, to 1 for dark insides of 0.55 of the radius.
    """

    def body(down, right):
        sin, cos = (np.asarray(part)[:, None, None] for part in (np.sin(angle), np.cos(angle)))
        half, thin = long[:, None, None], short[:, None, None]
        radius = np.hypot((down * sin + right * cos) / half, (down * cos - right * sin) / thin)
        steep = np.float32(1 / edge) * thin.astype(np.float32)
        full = _soft((1 - radius) * steep)
        return (full - hollow * _soft((0.55 - radius) * steep)) * level[:, None, None]

    reach = int(np.ceil(max(long.max(), short.max()) + 4 * edge))
    _stamp(planes, index, places, reach, body)


def put_spots(planes, index, places, radius, level, psf):
    """Add Gaussian spots whose peak is `level` once a PSF of sigma `psf` has blurred them.

    Args:
        planes: (N, H, W) float32, changed in place.
        index: (K,) the plane of each spot.
        places: (K, 2) row and column in pixels.
        radius: (K,) sigma in pixels before the PSF; below 0.45 it is drawn as 0.45, or the peak
            would depend on where in its pixel a spot lies.
        level: (K,) brightness after the PSF.
        psf: sigma in pixels.
    """
    radius = np.maximum(radius, 0.45)[:, None, None]
    peak = level[:, None, None] * (1 + (psf / radius) ** 2)

    def spot(down, right):
        return peak * np.exp(-(down**2 + right**2) / (2 * radius**2))

    _stamp(planes, index, places, int(np.ceil(3.2 * radius.max())), spot)


def put_points(planes, index, places, weight):
    """Add points by bilinear weights: `index` (...), `places` (..., 2) and `weight` (...)."""
    places, index, weight = places.reshape(-1, 2), np.ravel(index), np.ravel(weight)
    corner = np.floor(places).astype(int)
    part = places - corner
    for down, right in itertools.product((0, 1), (0, 1)):
        share = weight * np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
        _add(planes, index, corner[:, 0] + down, corner[:, 1] + right, share)


def curves(rng, count, points, side, bend):
    """Draw smooth curves (count, points, 2) whose points are half a pixel apart.

    Args:
        rng: a `numpy.random.Generator`.
        count: number of curves.
        points: number of points of each.
        side: they pass near places in a square of so many pixels.
        bend: standard deviation of the change of direction at a point, in radians.
    """
    turns = bend * rng.standard_normal((count, points)) + 0.3 * bend * rng.standard_normal(
        (count, 1)
    )
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(turns, axis=1)
    path = np.cumsum(0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=1)
    middle = path[:, points // 2, None]
    return rng.uniform(0, side, (count, 1, 2)) + path - middle


def clouds(rng, shape, falls, *, stretch=1.0):
    """Draw a random field of mean 0 and standard deviation 1.

    Its amplitude falls with the power `falls` of the frequency; `stretch` makes it so many times
    longer along the first axis than along the others.
    """
    axes = [scipy.fft.fftfreq(n) for n in shape[:-1]] + [scipy.fft.rfftfreq(shape[-1])]
    axes[0] = axes[0] * stretch
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    frequency = np.sqrt(sum(part**2 for part in grid)) + 1 / max(shape)
    noise = scipy.fft.rfftn(rng.standard_normal(shape, np.float32))
    field = scipy.fft.irfftn(noise / frequency.astype(np.float32) ** falls, s=shape)
    return (field - field.mean()) / max(field.std(), 1e-12)


def _soft(x):
    return 0.5 + 0.5 * np.tanh(x)


def _stamp(planes, index, places, reach, profile):
    """Add ``profile(rows, columns)`` of each object, its distances from the centre in pixels."""
    nearest = np.rint(places).astype(int)
    part = (places - nearest).astype(np.float32)
    steps = np.arange(-reach, reach + 1)
    down = steps[:, None] - part[:, 0, None, None]
    right = steps - part[:, 1, None, None]
    values = profile(down, right)
    rows, columns = np.broadcast_arrays(
        nearest[:, 0, None, None] + steps[:, None], nearest[:, 1, None, None] + steps
    )
    index = np.broadcast_to(np.asarray(index)[:, None, None], values.shape)
    _add(planes, index, rows, columns, values)


def _add(planes, index, rows, columns, values):
    height, width = planes.shape[1:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = (index * height + rows) * width + columns
    np.add.at(planes.reshape(-1), flat[inside], values[inside].astype(planes.dtype))
