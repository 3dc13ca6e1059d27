"""Random z-stacks without noise: filaments, spots, shells, nuclei, membranes and haze.

`common.moving_scenes` tells how they are used.
"""

import numpy as np
import scipy.ndimage
import scipy.spatial

from common.stamps import clouds, log_uniform, put_points

PSF_SIGMAS = 0.6, 2.5  # pixels along y and x


def volume_scene_random(rng, depth, size):
    """Draw a stack (Z, H, W) float32 without noise: not negative, mean 1.

    It is seen through a Gaussian PSF whose sigma along z is 0 to 4 times that along y and x, in
    pixels; planes lie 1 to 4 times as far apart as pixels. Brightness may fall with depth, the PSF
    may widen with it, and planes may flicker by up to 5 %.

    Args:
        rng: a `numpy.random.Generator`.
        depth: number of planes Z, at least 1.
        size: pixels a side.
    """
    sigma = rng.uniform(*PSF_SIGMAS)
    across = sigma * rng.choice([0.0, rng.uniform(0.2, 4)], p=[0.1, 0.9])
    margin = int(np.ceil(2.5 * across)), 8
    shape = (depth + 2 * margin[0], size + 2 * margin[1], size + 2 * margin[1])
    flat = log_uniform(rng, 1, 4)
    count = rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])
    volume = np.zeros(shape, np.float32)
    for draw in rng.choice(len(_PARTS), count, p=_SHARES):
        part = _seen(rng, _PARTS[draw](rng, shape, flat), across, sigma)
        top = np.quantile(part, 0.998)
        volume += rng.lognormal(-0.3, 0.6) * part / max(top, 0.05 * part.max(), 1e-12)
    z, y, x = (
        slice(m, n + m)
        for m, n in zip((margin[0], *[margin[1]] * 2), (depth, size, size), strict=True)
    )
    volume = np.maximum(volume[z, y, x], 0)
    light = max(volume.mean(), 0.01) * rng.choice([0.02, rng.lognormal(-1.2, 1)])
    volume += light * _haze(rng, volume.shape)
    volume *= _by_depth(rng, depth)[:, None, None]
    return (volume / volume.mean()).astype(np.float32)


def _seen(rng, part, across, sigma):
    """Blur by the PSF; in one stack of four the PSF widens with depth, up to twice."""
    sharp = scipy.ndimage.gaussian_filter(part, (across, sigma, sigma), truncate=3)
    if rng.random() < 0.75:
        return sharp
    more = rng.uniform(0.3, 1.7)  # on top of the PSF: sqrt(1 + 1.7**2) = 2
    wide = scipy.ndimage.gaussian_filter(
        sharp, (more * across, more * sigma, more * sigma), truncate=3
    )
    share = np.linspace(0, 1, len(part), dtype=np.float32)[:, None, None] ** rng.uniform(0.5, 2)
    return (1 - share) * sharp + share * wide


def _by_depth(rng, depth):
    """Brightness of each plane: even, falling, or brightest within the stack; and a flicker."""
    z = np.arange(depth)
    kind = rng.choice(3, p=[0.4, 0.4, 0.2])
    light = np.ones(depth)
    if kind == 1:
        light = np.exp(-z / (depth * log_uniform(rng, 0.2, 3)))[:: rng.choice([-1, 1])]
    elif kind == 2:
        light = 0.05 + np.exp(-((z / depth - rng.random()) ** 2) / (2 * rng.uniform(0.1, 0.6) ** 2))
    flicker = rng.choice([0.0, log_uniform(rng, 0.003, 0.05)], p=[0.6, 0.4])
    return light * (1 + flicker * rng.uniform(-1, 1, depth))


def _haze(rng, shape):
    field = clouds(rng, shape, 2.4, stretch=0.5) if rng.random() < 0.6 else np.zeros(shape)
    return np.maximum(1 + 0.3 * field, 0)


def _put(volume, places, weight):
    """Add points at (K, 3) by trilinear weights."""
    plane = np.floor(places[:, 0]).astype(int)
    for step in (0, 1):
        share = weight * np.abs(1 - step - (places[:, 0] - plane))
        inside = (plane + step >= 0) & (plane + step < len(volume))
        put_points(volume, plane[inside] + step, places[inside, 1:], share[inside])


def _filaments(rng, shape, flat):
    """Curves in space, straight or winding, within the plane or through it."""
    density = log_uniform(rng, 0.15, 1.5) * np.prod(shape) * flat / (48 * 144 * 144)
    count = int(np.clip(110 * density, 3, 400))
    points = int(rng.uniform(80, 500))
    bend = log_uniform(rng, 0.01, 0.15)
    turns = bend * rng.standard_normal((2, count, points)).cumsum(axis=-1)
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + turns[0]
    climb = rng.uniform(0.05, 1) * np.sin(rng.uniform(0, 2 * np.pi, (count, 1)) + turns[1])
    run = np.sqrt(1 - np.minimum(climb**2, 1))
    step = np.stack([climb / flat, run * np.sin(heading), run * np.cos(heading)], axis=-1)
    path = 0.5 * step.cumsum(axis=1)
    path += rng.uniform(0, 1, (count, 1, 3)) * shape - path[:, points // 2, None]
    volume = np.zeros(shape, np.float32)
    weight = np.repeat(rng.lognormal(0, rng.uniform(0.1, 0.7), count), points)
    _put(volume, path.reshape(-1, 3), weight)
    return volume


def _spots(rng, shape, flat):
    """Points and small blobs, evenly spread or in clusters."""
    count = int(log_uniform(rng, 20, 1500) * np.prod(shape) / (48 * 144 * 144)) + 3
    places = rng.uniform(0, 1, (count, 3)) * shape
    if rng.random() < 0.4:
        hubs = rng.uniform(0, 1, (rng.integers(3, 30), 3)) * shape
        places = hubs[rng.integers(0, len(hubs), count)]
        places = places + rng.uniform(4, 20) * rng.standard_normal((count, 3)) / (flat, 1, 1)
    volume = np.zeros(shape, np.float32)
    _put(volume, places, rng.lognormal(0, rng.uniform(0.2, 1), count))
    blob = rng.choice([0.0, rng.uniform(0.5, 2)])
    return scipy.ndimage.gaussian_filter(volume, (blob / flat, blob, blob)) if blob else volume


def _bodies(rng, shape, flat, profile, radius, most):
    """Add ``profile(distance outside the surface in pixels)`` of random ellipsoids."""
    volume = np.zeros(shape, np.float32)
    share = rng.uniform(0.05, 0.6) * np.prod(shape) * flat / (4.2 * radius**3)
    for _ in range(int(np.clip(share, 1, most))):
        centre = rng.uniform(0, 1, 3) * shape
        axes = radius * rng.uniform(0.7, 1.3, 3)
        half = (int(1.1 * axes[0] / flat) + 4, int(1.1 * max(axes)) + 4, int(1.1 * max(axes)) + 4)
        box = tuple(
            slice(max(int(c) - h, 0), min(int(c) + h + 1, n))
            for c, h, n in zip(centre, half, shape, strict=True)
        )
        z, y, x = np.ogrid[box]
        angle = rng.uniform(0, np.pi)
        down, right = y - centre[1], x - centre[2]
        along = (down * np.sin(angle) + right * np.cos(angle)) / axes[1]
        across = (down * np.cos(angle) - right * np.sin(angle)) / axes[2]
        reach = np.sqrt(((z - centre[0]) * flat / axes[0]) ** 2 + along**2 + across**2)
        volume[box] += rng.lognormal(0, 0.4) * profile((reach - 1) * radius)
    return volume


def _shells(rng, shape, flat):
    """Hollow ellipsoids: vacuoles, membranes of cells, vesicles."""
    width = rng.uniform(0.5, 1.5)

    def wall(off):
        return np.exp(-((off / width) ** 2) / 2)

    return _bodies(rng, shape, flat, wall, log_uniform(rng, 3, 25), 120)


def _nuclei(rng, shape, flat):
    """Soft-edged ellipsoids with a texture."""
    edge = rng.uniform(0.4, 1.5)

    def body(off):
        return 0.5 - 0.5 * np.tanh(off / edge)

    volume = _bodies(rng, shape, flat, body, log_uniform(rng, 5, 28), 80)
    texture = clouds(rng, shape, rng.uniform(1, 2), stretch=1 / flat)
    return volume * np.exp(rng.uniform(0, 0.6) * texture)


def _membranes(rng, shape, flat):
    """Walls between cells that fill the space."""
    cells = int(np.clip(np.prod(shape) * flat / log_uniform(rng, 12, 45) ** 3, 4, 400))
    # Every second voxel is enough for walls of 2 pixels and more, in an eighth of the time.
    coarse = tuple(-(-n // 2) for n in shape)
    places = rng.uniform(-0.1, 1.1, (cells, 3)) * coarse * np.array((flat, 1, 1))
    voxels = np.stack(np.mgrid[tuple(map(slice, coarse))], axis=-1) * np.array((flat, 1, 1))
    near = scipy.spatial.cKDTree(places).query(voxels, k=2)[0]
    wall = np.exp(-(((near[..., 1] - near[..., 0]) / rng.uniform(1.2, 2.5)) ** 2))
    fine = scipy.ndimage.zoom(wall.astype(np.float32), 2, order=1)
    return fine[tuple(map(slice, shape))] * np.exp(0.3 * clouds(rng, shape, 1.4))


def _tissue(rng, shape, flat):
    """Clouds that fill the stack."""
    field = clouds(rng, shape, rng.uniform(1.2, 2.6), stretch=1 / flat)
    return np.exp(rng.uniform(0.2, 1) * field)


_PARTS = _filaments, _spots, _shells, _nuclei, _membranes, _tissue
_SHARES = np.array([3, 2, 1.5, 2, 1, 1])
_SHARES /= _SHARES.sum()
