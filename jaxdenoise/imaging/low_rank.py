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
_FEW = 8  # components: more are rare, and cost more


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
    blurred, beside = _blurred(padded), _beside(count)
    limits = _limits(blurred, block, beside)
    places = _places(padded.shape[1:], block)
    window = _window(block)
    kernel = _response(block)

    def add(sums, place):
        pixels = _cut(padded, place, block).reshape(count, -1)
        samples = _samples(blurred, place, block)
        slow, left = _lasting(pixels, samples, limits.lasting, kernel, beside)
        fast = _flashes(pixels - slow.signal, left, limits.flash, kernel)
        signal, own, power = (one + other for one, other in zip(slow, fast, strict=True))
        parts = (window * x.reshape(-1, block, block) for x in (signal, own))
        return tuple(_add(*one, place) for one in zip(sums, parts, strict=True)), power

    start = jnp.zeros_like(padded), jnp.zeros_like(padded[:1])
    (signal, own), powers = jax.lax.scan(add, start, places)
    follows = own + _spread(powers, padded.shape[1:], block)
    weights = _spread(jnp.ones((len(places), 1)), padded.shape[1:], block)
    inside = np.s_[:, :height, :width]
    signal, follows = (x[inside] / weights[inside] for x in (signal, follows))
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


def second_differences(images: Float[Array, "T ..."]) -> Float[Array, "t ..."]:
    """Return differences over time in which slow changes vanish; noise keeps its variance."""
    if images.shape[0] < 3:
        return (images[1:] - images[:-1]) / jnp.sqrt(2.0)
    return (images[2:] - 2 * images[1:-1] + images[:-2]) / jnp.sqrt(6.0)


def _starts(size, block):
    return np.unique(np.append(np.arange(0, size - block, block // 2), size - block))


def _places(shape, block):
    rows, columns = (_starts(size, block) for size in shape)
    return jnp.asarray(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2))


def _edge(block):
    return np.hanning(block + 2)[1:-1].astype(np.float32)


def _window(block):
    return jnp.outer(_edge(block), _edge(block))


def _spread(values, shape, block):
    """Images (T, H, W) of values (B, T) of all blocks, each times the block's window."""
    down, right = (
        jnp.asarray(_windows_along(size, _starts(size, block), _edge(block))) for size in shape
    )
    grid = values.reshape(down.shape[1], right.shape[1], -1)
    return jnp.einsum("yi,ijt,xj->tyx", down, grid, right)


def _windows_along(size, starts, edge):
    """The windows of all blocks along one axis, (size, blocks)."""
    windows = np.zeros((size, len(starts)), np.float32)
    for number, start in enumerate(starts):
        windows[start : start + len(edge), number] = edge
    return windows


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


def _limits(blurred, block, beside):
    def moments(place):
        noise = second_differences(_samples(blurred, place, block))
        return noise.T @ noise / noise.shape[0]

    count, places = len(blurred), _places(blurred.shape[1:], block)
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


class _Found(NamedTuple):
    """What is found in a block, and how far it follows each pixel: the sum of two parts."""

    signal: Float[Array, "T pixels"]
    own: Float[Array, " pixels"]
    power: Float[Array, " T"]


def _lasting(pixels, samples, limit, kernel, beside):
    """What lasts, and the samples without it."""
    values, footprints = jnp.linalg.eigh(samples.T @ (beside @ samples))

    def largest(count):
        found = values[-count:] > limit
        inverse = jnp.where(found, 1 / jnp.where(found, values[-count:], 1), 0)
        chosen = jnp.where(found, footprints[:, -count:], 0)
        courses = samples @ chosen
        instruments = inverse * (beside @ courses)
        spread = instruments.T @ pixels
        # By its course, and by its part of the footprint.
        own = jnp.sum((kernel @ chosen).T * spread, axis=0)
        found = _Found(courses @ spread, own, jnp.sum(courses * instruments, axis=1))
        return found, samples - courses @ chosen.T

    return _by_number(values > limit, largest, (_nothing(pixels), samples))


def _flashes(pixels, samples, limit, kernel):
    squares, footprints = jnp.linalg.eigh(samples.T @ samples)
    values = jnp.sqrt(jnp.maximum(squares, 0))

    def largest(count):
        some, chosen = values[-count:], footprints[:, -count:]
        inverse = jnp.where(some > limit, 1 / jnp.maximum(some, 1e-12), 0)
        courses = samples @ chosen * inverse
        spread = courses.T @ pixels
        own = jnp.sum((kernel @ chosen).T * inverse[:, None] * spread, axis=0)
        return _Found(courses @ spread, own, jnp.sum(courses**2, axis=1))

    return _by_number(values > limit, largest, _nothing(pixels))


def _nothing(pixels):
    frames, count = pixels.shape
    return _Found(jnp.zeros((frames, count)), jnp.zeros(count), jnp.zeros(frames))


def _by_number(found, largest, nothing):
    """What ``largest`` makes of the components that stand out; most blocks have few, or none."""
    few, count = min(_FEW, len(found)), found.sum()
    case = (count > 0).astype(int) + (count > few)
    options = [lambda: nothing, lambda: largest(few), lambda: largest(len(found))]
    return jax.lax.switch(case, options)


def _add(total, part, place):
    start = (0, place[0], place[1])
    before = jax.lax.dynamic_slice(total, start, part.shape)
    return jax.lax.dynamic_update_slice(total, before + part, start)
