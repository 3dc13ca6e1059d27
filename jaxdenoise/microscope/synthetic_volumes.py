"""A stack in depth whose truth is known. NumPy and SciPy on the host.

`synthetic_movies.noisy_movie` adds the noise.
"""

import numpy as np
import scipy.ndimage
from jaxtyping import Float32

from jaxdenoise.microscope.synthetic_movies import SIGNAL_RANGE

__all__ = ["volume_scene"]

_MARGIN = 8  # voxels around the volume, where things are drawn that reach into it
_VOXELS = 48 * 144 * 144  # for which the numbers of objects are given
_FLAT = np.array((0.35, 1, 1))  # filaments run along the planes rather than through them


def volume_scene(
    seed: int,
    *,
    shape: tuple[int, int, int] = (32, 128, 128),
    psf: tuple[float, float, float] = (2.5, 1.2, 1.2),
    depth: float | None = None,
) -> Float32[np.ndarray, "Z Y X"]:
    """Draw filaments and spots, seen through an anisotropic Gaussian PSF, and haze; no noise.

    There are 110 filaments and up to 250 spots in (32, 128, 128) voxels, as dense in volumes of
    other shapes. Spots keep away from filaments, or they would drown in them.

    Args:
        seed: The same one gives the same volume.
        shape: (Z, Y, X) in voxels.
        psf: Sigmas along z, y, x in voxels.
        depth: Planes over which the brightness falls to 1/e; None for an even brightness.

    Returns:
        (Z, Y, X) float32 in grey levels above the offset, not negative; its range is 2000.

    Raises:
        ValueError: A side is less than 1, or `depth` is not positive.
    """
    if min(shape) < 1 or (depth is not None and not depth > 0):
        raise ValueError(
            f"expected sides of at least 1 and a positive depth, got {shape} and {depth}"
        )
    rng = np.random.default_rng(seed)
    scene = np.zeros([side + 2 * _MARGIN for side in shape])
    _add_filaments(rng, scene)
    _add_spots(rng, scene)
    inner = slice(_MARGIN, -_MARGIN)
    scene = scipy.ndimage.gaussian_filter(scene, psf)[inner, inner, inner]
    cloud = scipy.ndimage.gaussian_filter(rng.uniform(0, 1, shape), (4, 10, 10))
    cloud = (cloud - cloud.mean()) / max(cloud.std(), 1e-12)
    scene += 0.06 * scene.max() * np.maximum(1 + 0.3 * cloud, 0)
    if depth is not None:
        scene *= np.exp(-np.arange(shape[0]) / depth)[:, None, None]
    return (scene * (SIGNAL_RANGE / np.ptp(scene))).astype(np.float32)


def _add_filaments(rng, scene):
    """Draw curves without width: random walks of one voxel a step, 80 to 250 steps long."""
    count = _counted(110, scene)
    places = rng.uniform(0, 1, (count, 3)) * scene.shape
    headings = rng.standard_normal((count, 3)) * _FLAT
    levels, lengths = rng.uniform(0.9, 1.4, count), rng.integers(80, 250, count)
    for step in range(lengths.max()):
        headings += 0.12 * rng.standard_normal((count, 3)) * _FLAT
        headings /= np.linalg.norm(headings, axis=1, keepdims=True)
        places += headings
        voxels = np.rint(places).astype(int)
        drawn = (step < lengths) & ((voxels >= 0) & (voxels < scene.shape)).all(axis=1)
        scene[tuple(voxels[drawn].T)] = levels[drawn]


def _add_spots(rng, scene):
    """Draw points, brighter than filaments, where nothing is near."""
    for _ in range(_counted(250, scene)):
        voxel = (rng.uniform(0, 1, 3) * scene.shape).astype(int)
        near = tuple(
            slice(max(place - reach, 0), place + reach + 1)
            for place, reach in zip(voxel, (5, 3, 3), strict=True)
        )
        if not scene[near].any():
            scene[tuple(voxel)] = rng.uniform(5, 9)


def _counted(number, scene):
    """How many objects there are where there are `number` in (48, 144, 144) voxels."""
    return max(round(number * scene.size / _VOXELS), 1)
