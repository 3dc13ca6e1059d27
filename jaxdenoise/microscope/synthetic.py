"""Synthetic fluorescence stacks with known truth, for the demo and the tests. On the device.

`phantom` draws cells with filaments, bright spots and a haze; `static_scene` blurs it by a PSF and
takes noisy frames of it, as a calibration stack does.
"""

import operator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, PRNGKeyArray

from jaxdenoise.imaging.arguments import PerAxis
from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.microscope.noise import poisson_gaussian_noise
from jaxdenoise.microscope.psf import convolve, gaussian_psf

__all__ = ["Stack", "phantom", "static_scene"]

_CELL_PIXELS = 90  # one cell in a square of this side, on average
# Pixels between the points of a filament: at most half a pixel, or the line becomes a row of dots.
_STEP = 0.5
_FILAMENT_POINTS = 400
_PERIODS = (300.0, 110.0, 60.0, 35.0)  # pixels along a filament in which its heading swings once


class Stack(NamedTuple):
    """A synthetic calibration stack in grey levels, the camera's offset included.

    Attributes:
        noisy: (N, H, W) float32, noisy frames of one static scene, not clipped.
        clean: (H, W) float32, the image of a camera without noise: `phantom` convolved with the
            PSF.
        phantom: (H, W) float32, the scene before blurring.
    """

    noisy: Float32[Array, "N H W"]
    clean: Float32[Array, "H W"]
    phantom: Float32[Array, "H W"]


def phantom(
    key: PRNGKeyArray,
    shape: tuple[int, ...] | list[int] = (256, 256),
    *,
    filaments_per_cell: int = 28,
    spots_per_cell: int = 24,
    haze: Scalar = 0.25,
) -> Float32[Array, "H W"]:
    """Draw a scene like fluorescence microscopy: cells of filaments, spots and a diffuse haze.

    There is about one cell in 90 x 90 pixels, whatever the image's size. Filaments are smooth
    random curves without width, spots are points without extent; both are drawn at sub-pixel
    positions by bilinear weights, so the image is meant to be blurred by a PSF.

    Args:
        key: A JAX random key.
        shape: (H, W) in pixels, static.
        filaments_per_cell: Static, >= 0.
        spots_per_cell: Static, >= 0.
        haze: Brightness of the cells' diffuse body relative to a typical filament, >= 0.

    Returns:
        (H, W) float32 from 0 to 1, where 1 is the brightest pixel.

    Raises:
        ValueError: `shape` is not two positive integers, or a count is negative.
    """
    shape = _checked_shape(shape)
    for name, count in (
        ("filaments_per_cell", filaments_per_cell),
        ("spots_per_cell", spots_per_cell),
    ):
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}: give 0 to leave them out")
    return _phantom(key, haze, shape, filaments_per_cell, spots_per_cell)


def static_scene(
    key: PRNGKeyArray,
    *,
    frames: int = 32,
    shape: tuple[int, ...] | list[int] = (256, 256),
    psf_sigma: PerAxis = 1.0,
    psnr: Scalar = 23.0,
    peak: Scalar = 3000.0,
    offset: Scalar = 100.0,
    read_share: Scalar = 0.005,
) -> Stack:
    """Draw noisy frames of one static phantom, seen through a Gaussian PSF, at a given PSNR.

    The noise is Poisson-Gaussian. Its mean squared error is ``gain * mean(clean - offset) +
    read_std^2``. It is set to the value that gives the PSNR with ``data_range = clean.max() -
    clean.min()``, `read_share` of it as read noise, which gives `gain` and `read_std` in closed
    form.

    Args:
        key: A JAX random key of the default implementation (see `noise.poisson_gaussian_noise`).
        frames: Number of frames N >= 1, static.
        shape: (H, W) in pixels, static.
        psf_sigma: Standard deviation of the PSF in pixels, a number or a pair (y, x), static.
        psnr: PSNR of a noisy frame against `clean`, in dB.
        peak: Brightest pixel of `clean` above the offset, > 0, in grey levels. The default leaves
            room for the noise in 16 bits.
        offset: Grey levels that the camera adds to every pixel.
        read_share: Share of the noise's mean variance that is read noise, from 0 to less than 1.

    Raises:
        ValueError: `frames` is less than 1, `shape` is not two positive integers, or a level is out
            of its range.
    """
    if frames < 1:
        raise ValueError(
            f"frames must be at least 1, got {frames}: give the number of noisy frames to draw"
        )
    _check_levels(peak, read_share)
    scene_key, noise_key = jax.random.split(key)
    scene = phantom(scene_key, shape)
    return _take_frames(
        noise_key, scene, gaussian_psf(psf_sigma), psnr, peak, offset, read_share, frames
    )


@partial(jax.jit, static_argnums=7)
def _take_frames(key, scene, psf, psnr, peak, offset, read_share, frames):
    # The FFT may return -1e-7 where the scene is dark.
    blurred = jnp.maximum(convolve(scene, psf), 0)
    scale = peak / jnp.max(blurred)
    signal = scale * blurred
    variance = (jnp.max(signal) - jnp.min(signal)) ** 2 / 10 ** (psnr / 10)
    read_std = jnp.sqrt(read_share * variance)
    gain = (1 - read_share) * variance / jnp.mean(signal)

    def frame(index):
        # By fold_in a frame depends on its index only, not on how many are drawn.
        frame_key = jax.random.fold_in(key, index)
        return poisson_gaussian_noise(
            frame_key, signal, gain=gain, read_std=read_std, offset=offset
        )

    return Stack(jax.vmap(frame)(jnp.arange(frames)), signal + offset, scale * scene + offset)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _phantom(key, haze, shape, filaments_per_cell, spots_per_cell):
    cell_key, filament_key, spot_key = jax.random.split(key, 3)
    cells = _cells(cell_key, shape)
    body = _body(cells, shape)
    lines = _splat(shape, *_filaments(filament_key, cells, filaments_per_cell))
    points = _splat(shape, *_spots(spot_key, cells, spots_per_cell))
    # Filaments fade out where their cell ends. A little of the haze is everywhere, as out-of-focus
    # light is.
    image = body * (lines + points) + haze * (0.2 + body)
    return (image / jnp.maximum(jnp.max(image), 1e-6)).astype(jnp.float32)


class _Cells(NamedTuple):
    """Cells, or one cell without the first axis under ``vmap``."""

    centre: Float32[Array, "*cells 2"]  # row and column in pixels
    to_pixels: Float32[Array, "*cells 2 2"]  # maps the unit circle to the cell's ellipse
    angle: Float32[Array, "*cells"]  # direction of the long axis, which the filaments follow


def _cells(key, shape):
    """Elliptic cells at jittered points of a grid, so that no image is left empty."""
    rows, columns = (max(1, round(side / _CELL_PIXELS)) for side in shape)
    corner = jnp.stack(
        jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), axis=-1
    ).reshape(-1, 2)
    uniforms = jax.random.uniform(key, (rows * columns, 5))
    centre = (corner + 0.2 + 0.6 * uniforms[:, :2]) * jnp.array(
        [shape[0] / rows, shape[1] / columns]
    )

    axes = _CELL_PIXELS * (0.16 + 0.2 * uniforms[:, 2:4])
    long, short = axes.max(axis=-1), axes.min(axis=-1)
    angle = jnp.pi * uniforms[:, 4]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    to_pixels = jnp.stack(
        [
            jnp.stack([long * sin, short * cos], axis=-1),
            jnp.stack([long * cos, -short * sin], axis=-1),
        ],
        axis=-2,
    )
    return _Cells(centre, to_pixels, angle)


def _body(cells, shape):
    """The cells' diffuse bodies with a darker nucleus each, (H, W) from 0 to 1."""
    pixels = jnp.stack(jnp.meshgrid(*map(jnp.arange, shape), indexing="ij"), axis=-1)

    def one(centre, to_pixels):
        # The inverse, transposed, because the columns are orthogonal.
        to_circle = to_pixels / jnp.sum(to_pixels**2, axis=0)
        radius_squared = jnp.sum(((pixels - centre) @ to_circle) ** 2, axis=-1)
        return jnp.exp(-(radius_squared**2) / 8), jnp.exp(-((radius_squared / 0.25) ** 2))

    bodies, nuclei = jax.vmap(one)(cells.centre, cells.to_pixels)
    return (1 - jnp.exp(-2 * bodies.sum(axis=0))) * (1 - 0.6 * nuclei.max(axis=0))


def _filaments(key, cells, per_cell):
    """Smooth random curves: the positions (M, 2) of their points and each point's flux (M,)."""
    normals = jax.random.normal(key, (len(cells.angle), per_cell, 6 + 2 * len(_PERIODS)))
    positions, flux = jax.vmap(jax.vmap(_filament, in_axes=(None, 0)))(cells, normals)
    return positions.reshape(-1, 2), flux.ravel()


def _filament(cell, normals):
    start = cell.centre + cell.to_pixels @ normals[:2]
    direction = cell.angle + 0.35 * normals[2]
    strength = jnp.exp(0.5 * normals[3])
    curl = 0.35 * jnp.exp(0.7 * normals[4])  # mostly straight, a few winding
    length = _FILAMENT_POINTS * _STEP * (0.2 + 0.7 * jax.nn.sigmoid(normals[5]))

    # A few slow waves of random phase make a heading that turns smoothly and a brightness that
    # varies along the line.
    periods = jnp.array(_PERIODS)
    along = _STEP * (jnp.arange(_FILAMENT_POINTS) - _FILAMENT_POINTS / 2)
    angles = 2 * jnp.pi * along[:, None] / periods
    waves = (
        jnp.cos(angles) * normals[6 : 6 + len(_PERIODS)]
        + jnp.sin(angles) * normals[6 + len(_PERIODS) :]
    )
    heading = direction + curl * waves @ jnp.sqrt(periods / max(_PERIODS))
    path = jnp.cumsum(_STEP * jnp.stack([jnp.sin(heading), jnp.cos(heading)], axis=-1), axis=0)
    positions = start + path - path[_FILAMENT_POINTS // 2]
    soft_ends = jax.nn.sigmoid(length / 2 - jnp.abs(along))
    return positions, _STEP * strength * soft_ends * (1 + 0.3 * jnp.tanh(waves[:, 2]))


def _spots(key, cells, per_cell):
    """Point-like emitters, most of them dim: positions (M, 2) and flux (M,)."""
    normals = jax.random.normal(key, (len(cells.angle), per_cell, 3))
    positions = cells.centre[:, None] + jnp.einsum(
        "cij,cnj->cni", cells.to_pixels, normals[..., :2]
    )
    flux = 2 * jnp.exp(0.6 * normals[..., 2])
    return positions.reshape(-1, 2), flux.ravel()


def _splat(shape, positions, flux):
    """Draw points at sub-pixel positions by bilinear weights; points outside are lost."""
    corner = jnp.floor(positions)
    fraction = positions - corner
    corner = corner.astype(jnp.int32)
    image = jnp.zeros(shape, flux.dtype)
    for row in (0, 1):
        for column in (0, 1):
            weight = jnp.abs(1 - row - fraction[:, 0]) * jnp.abs(1 - column - fraction[:, 1])
            place = corner + jnp.array([row, column])
            # A negative index would wrap around; one past the end is dropped like the others that
            # fall outside.
            place = jnp.where(place < 0, jnp.array(shape), place)
            image = image.at[place[:, 0], place[:, 1]].add(weight * flux, mode="drop")
    return image


def _checked_shape(shape):
    sides = tuple(operator.index(side) for side in shape)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(
            f"shape must be two positive integers (H, W), got {shape}: "
            "`frames` is the number of frames of a stack"
        )
    return sides


def _check_levels(peak, read_share):
    if not isinstance(peak, jax.core.Tracer) and not peak > 0:
        raise ValueError(
            f"peak must be greater than 0, got {peak}: "
            "give the brightest grey level above the offset"
        )
    if not isinstance(read_share, jax.core.Tracer) and not 0 <= read_share < 1:
        raise ValueError(
            f"read_share must be from 0 to less than 1, got {read_share}: "
            "the rest of the noise is photon noise"
        )
