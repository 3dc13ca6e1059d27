"""What the frames of a movie share, place by place: local low rank. Pure JAX.

In a small block of the image a movie is a sum of a few footprints, each times a course over time: a
cell and its transients, a fibre that bleaches. Their number is far below the number of frames, so
they can be told from noise with all frames together, and yet the course at a frame is measured on
that frame alone: nothing is smoothed over time, no transient leaks into the frames beside it.

What lasts several frames is found first, by the covariance of each frame with the mean of the
frames beside it. Their noise is another, so that it adds nothing on average: far weaker footprints
stand out than from single frames, and neither footprints nor courses shrink (the frames beside are
the instruments of a regression on a noisy course). Then what flashes is found in the rest.

Source: Buchanan et al., "Penalized matrix decomposition for denoising, compression, and improved
    demixing of functional imaging data", 2018; the largest singular value of noise: Vershynin,
    "Introduction to the non-asymptotic analysis of random matrices", 2010, section 5.3.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.imaging.filters import gaussian_filter

BLOCK = 16  # pixels a side of a block; blocks overlap by half of it
# Footprints are looked for in frames that are blurred by this sigma in pixels, as optics blur them,
# in every second pixel.
BLUR = 1.0
_EVERY = 2
# A component counts if its singular value is this many times the largest that noise is expected to
# reach; one that lasts, if its covariance with the frames beside is.
_ABOVE_NOISE, _LASTING_ABOVE_NOISE = 1.03, 1.15
_LASTS = 2.0  # sigma in frames of the weights of the frames beside a frame
_MOST_FOLLOWED = 0.95


@partial(jax.jit, static_argnames="block")
def local_low_rank(
    left: Float[Array, "T H W"], *, block: int = BLOCK
) -> tuple[Float[Array, "T H W"], Float[Array, "T H W"]]:
    """Return what is left of a movie without its noise, and how far each pixel follows its own.

    Args:
        left: (T, H, W) float32, the movie less its mean image, in standard deviations of the noise
            of each pixel.
        block: side of a block in pixels, a multiple of 4; static.

    Returns:
        The sum of the components that stand out from noise, (T, H, W); and the derivative of each
        of its pixels by the same pixel of ``left``, (T, H, W), from 0 to 1.
    """
    count, height, width = left.shape
    padded = _padded(left, block)
    blurred, noise = _blurred(padded), _blurred(second_differences(padded))
    beside = _beside(count)
    limits = _limits(noise, block, count, beside)
    places = _places(padded.shape[1:], block)
    window = _window(block)
    kernel = _response(block)

    def add(sums, place):
        pixels = _cut(padded, place, block).reshape(count, -1)
        samples = _samples(blurred, place, block)
        lasting = _lasting(pixels, samples, limits.lasting, kernel, beside)
        flashes = _flashes(pixels - lasting.signal, lasting.left, limits.flash, kernel)
        found = tuple(
            (slow + fast).reshape(-1, block, block)
            for slow, fast in zip(lasting[:2], flashes, strict=True)
        )
        return jax.tree.map(lambda total, x: _add(total, place, window * x), sums, found), None

    start = jnp.zeros_like(padded), jnp.zeros_like(padded)
    (signal, follows), _ = jax.lax.scan(add, start, places)
    weights = jnp.zeros(padded.shape[1:])
    weights, _ = jax.lax.scan(
        lambda total, place: (_add(total[None], place, window[None])[0], None), weights, places
    )
    signal, follows = (x[:, :height, :width] / weights[:height, :width] for x in (signal, follows))
    return signal, jnp.clip(follows, 0, _MOST_FOLLOWED)


def _padded(images, block):
    """Images of at least the size of a block."""
    pads = [(0, max(block - size, 0)) for size in images.shape[1:]]
    return jnp.pad(images, [(0, 0), *pads], mode="symmetric") if any(map(any, pads)) else images


def _blurred(images):
    """Blur, so that white noise is as strong at the border as within."""
    down, right = (
        jnp.sum(gaussian_filter(jnp.eye(size), (BLUR, 0.0)) ** 2, axis=1)
        for size in images.shape[1:]
    )
    usual = jnp.outer(down / down[down.size // 2], right / right[right.size // 2])
    return jax.vmap(lambda x: gaussian_filter(x, (BLUR, BLUR)))(images) / jnp.sqrt(usual)


def second_differences(images: Float[Array, "T H W"]) -> Float[Array, "t H W"]:
    """Return differences over time in which slow changes vanish; noise keeps its variance."""
    if images.shape[0] < 3:
        return (images[1:] - images[:-1]) / jnp.sqrt(2.0)
    return (images[2:] - 2 * images[1:-1] + images[:-2]) / jnp.sqrt(6.0)


def _places(shape, block):
    rows, columns = (
        np.unique(np.append(np.arange(0, size - block, block // 2), size - block)) for size in shape
    )
    return jnp.asarray(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2))


def _window(block):
    edge = np.hanning(block + 2)[1:-1]
    return jnp.asarray(np.outer(edge, edge), jnp.float32)


def _response(block):
    """What each pixel of a block gives to the blurred and sampled block, (block^2, samples)."""
    pixels = jnp.eye(block**2).reshape(-1, block, block)
    blurred = jax.vmap(lambda x: gaussian_filter(x, (BLUR, BLUR)))(pixels)
    return blurred[:, ::_EVERY, ::_EVERY].reshape(block**2, -1)


def _cut(images, place, block):
    return jax.lax.dynamic_slice(images, (0, place[0], place[1]), (images.shape[0], block, block))


def _samples(blurred, place, block):
    part = _cut(blurred, place, block)[:, ::_EVERY, ::_EVERY]
    return part.reshape(part.shape[0], -1)


class _Limits(NamedTuple):
    """What noise is expected to reach in a block: an eigenvalue and a singular value."""

    lasting: Float[Array, ""]
    flash: Float[Array, ""]


def _limits(noise, block, count, beside):
    def moments(place):
        samples = _samples(noise, place, block)
        return samples.T @ samples / samples.shape[0]

    places = _places(noise.shape[1:], block)
    chosen = places[:: max(1, len(places) // 256)]
    covariances = jax.lax.map(moments, chosen)
    powers = jnp.trace(covariances, axis1=1, axis2=2)
    usual = powers <= 1.5 * jnp.median(powers)
    covariance = jnp.sum(jnp.where(usual[:, None, None], covariances, 0), 0) / usual.sum()
    largest, total = jnp.linalg.eigvalsh(covariance)[-1], jnp.trace(covariance)
    # Each entry of the covariance with the frames beside is a sum of as many products of noise.
    lasting = 2 * jnp.sqrt(largest * total * jnp.sum(beside**2)) + total
    flash = jnp.sqrt(count * largest) + jnp.sqrt(total)
    return _Limits(_LASTING_ABOVE_NOISE * lasting, _ABOVE_NOISE * flash)


def _beside(count):
    """The weights of all frames in the mean of those beside each frame, (T, T)."""
    apart = np.subtract.outer(np.arange(count), np.arange(count))
    weights = np.exp(-(apart**2) / (2 * _LASTS**2)) * (apart != 0)
    # Beyond the ends of the movie are no frames, but the mean is one of as many.
    return jnp.asarray(weights / weights.sum(axis=1).max(), jnp.float32)


class _Lasting(NamedTuple):
    """What lasts in a block: as pixels, how far each follows its own, and the samples without."""

    signal: Float[Array, "T pixels"]
    follows: Float[Array, "T pixels"]
    left: Float[Array, "T samples"]


def _lasting(pixels, samples, limit, kernel, beside):
    values, footprints = jnp.linalg.eigh(samples.T @ (beside @ samples))
    found = values > limit
    inverse = jnp.where(found, 1 / jnp.where(found, values, 1), 0)
    footprints = jnp.where(found, footprints, 0)
    courses = samples @ footprints
    instruments = inverse * (beside @ courses)
    spread = instruments.T @ pixels
    # By its course, and by its part of the footprint.
    own = jnp.sum((kernel @ footprints).T * spread, axis=0)
    follows = jnp.sum(courses * instruments, axis=1)[:, None] + own
    return _Lasting(courses @ spread, follows, samples - courses @ footprints.T)


def _flashes(pixels, samples, limit, kernel):
    squares, footprints = jnp.linalg.eigh(samples.T @ samples)
    values = jnp.sqrt(jnp.maximum(squares, 0))
    inverse = jnp.where(values > limit, 1 / jnp.maximum(values, 1e-12), 0)
    courses = samples @ footprints * inverse
    spread = courses.T @ pixels
    own = jnp.sum((kernel @ footprints).T * inverse[:, None] * spread, axis=0)
    return courses @ spread, jnp.sum(courses**2, axis=1)[:, None] + own


def _add(total, place, part):
    start = (0, place[0], place[1])
    before = jax.lax.dynamic_slice(total, start, part.shape)
    return jax.lax.dynamic_update_slice(total, before + part, start)
