"""Ten kinds of synthetic scenes without noise, to count how often an automatic choice is right.

Points, lines, discs, rectangles, haze, rods, textured nuclei, a random field, bars, and the phantom
of the demonstration, each seen through a Gaussian PSF. NumPy and SciPy, fixed seeds.
"""

import jax
import numpy as np
import scipy.ndimage
import scipy.spatial

from jaxdenoise.microscope.synthetic import phantom

KINDS = 10


def scene(kind, sigma, size=256):
    """Return a scene (H, W) from 0 to 1.

    Args:
        kind: from 0 to 9.
        sigma: of the PSF in pixels.
        size: pixels a side.
    """
    draws = np.random.default_rng(kind)
    image = blurred(_KINDS[kind](draws, size), sigma)
    return (image - image.min()) / max(np.ptp(image), 1e-12)


def blurred(image, sigma):
    """Return an image seen through a Gaussian PSF, periodic."""
    return scipy.ndimage.gaussian_filter(np.asarray(image, float), sigma, mode="wrap")


def white_noise(shape, seed, smoothing=0.0):
    """Return Gaussian noise of standard deviation 1, smoothed by a Gaussian of this sigma."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise = blurred(noise, smoothing) if smoothing else noise
    return noise / noise.std()


def row_noise(shape, seed):
    """Return noise of standard deviation 1 that neighbours along x share, with row offsets.

    Direct neighbours correlate by 0.53; a line scanner with a slow amplifier makes such noise.
    """
    draws = np.random.default_rng(seed)
    kernel = np.array([0.3, 1, 0.3]) / np.sqrt(1.18)
    noise = scipy.ndimage.convolve1d(draws.normal(size=shape), kernel, axis=-1, mode="wrap")
    noise += 0.2 * draws.normal(size=(*shape[:-1], 1))
    return noise / noise.std()


def textures(sigma, size=256):
    """Yield (name, image): textures that fill the image, without noise, from 0 to 1000."""
    y, x = np.mgrid[:size, :size]
    draws = np.random.default_rng(1)
    yield "spots", (draws.random((size, size)) < 0.15) * draws.lognormal(0, 0.5, (size, size))
    yield "lines", sum(_lines(np.random.default_rng(seed), size) for seed in range(4))
    image = np.zeros((size, size))
    for top, left, height, width in draws.integers((0, 0, 1, 1), (size, size, 5, 5), (8000, 4)):
        image[top : top + height, left : left + width] = draws.random()
    yield "patches", image
    pixels = np.stack([y.ravel(), x.ravel()], axis=1)
    tree = scipy.spatial.cKDTree(draws.uniform(0, size, (1500, 2)))
    nearest = tree.query(pixels, k=2)[0]
    yield "cell borders", np.exp(nearest[:, 0] - nearest[:, 1]).reshape(size, size)
    places = scipy.spatial.cKDTree(draws.uniform(0, size, (4000, 2))).query(pixels)[1]
    yield "grains", draws.random(4000)[places].reshape(size, size)


def _phantom(draws, size):
    return phantom(jax.random.key(int(draws.integers(2**31))), (size, size))


def _points(draws, size):
    image, count = np.zeros((size, size)), size * size // 150
    places = draws.integers(0, size, (2, count))
    np.add.at(image, tuple(places), draws.lognormal(0, 0.7, count))
    return image


def _lines(draws, size):
    image = np.zeros((size, size))
    for _ in range(size // 5):
        turns = draws.normal(0, 0.02) + 0.03 * draws.normal(size=size)
        heading = draws.uniform(0, 2 * np.pi) + np.cumsum(turns)
        steps = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1)
        places = (draws.uniform(0, size, (2, 1)) + steps).astype(int) % size
        np.add.at(image, tuple(places), 1)
    return image


def _discs(draws, size):
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for _ in range(size * size // 3000):
        top, left = draws.uniform(0, size, 2)
        inside = np.hypot(y - top, x - left) < draws.uniform(8, 20)
        image += draws.uniform(0.3, 1) * inside
    return image


def _turned(draws, size):
    """Pixels' distances from a random place, along and across a random direction."""
    y, x = np.mgrid[:size, :size]
    (top, left), angle = draws.uniform(0, size, 2), draws.uniform(0, np.pi)
    along = (y - top) * np.cos(angle) + (x - left) * np.sin(angle)
    return along, (x - left) * np.cos(angle) - (y - top) * np.sin(angle)


def _rectangles(draws, size):
    image = np.zeros((size, size))
    for _ in range(300):
        along, across = _turned(draws, size)
        length, width = draws.uniform(3, 30, 2)
        inside = (np.abs(along) < length) & (np.abs(across) < width)
        image = np.where(inside, draws.uniform(0, 1), image)
    return image


def _haze(draws, size):
    haze = blurred(draws.normal(size=(size, size)), 20)
    image = 9 * (haze - haze.min()) / np.ptp(haze)
    np.add.at(image, tuple(draws.integers(0, size, (2, 40))), 30 * draws.lognormal(0, 0.5, 40))
    return image


def _rods(draws, size):
    image = np.zeros((size, size))
    for _ in range(size * size // 900):
        along, across = _turned(draws, size)
        beyond = np.maximum(np.abs(along) - draws.uniform(5, 14), 0)
        image = np.maximum(image, draws.uniform(0.5, 1) * (np.hypot(beyond, across) < 3))
    return image


def _nuclei(draws, size):
    y, x = np.mgrid[:size, :size]
    texture = blurred(draws.normal(size=(size, size)), 2.5)
    image = np.zeros((size, size))
    for _ in range(size * size // 4000):
        top, left = draws.uniform(0, size, 2)
        inside = np.hypot(y - top, x - left) < draws.uniform(12, 22)
        image = np.maximum(image, draws.uniform(0.5, 1) * inside)
    return image * np.maximum(1 + 0.3 * texture / texture.std(), 0)


def _field(draws, size):
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = np.inf
    return np.fft.ifft2(np.fft.fft2(draws.normal(size=(size, size))) / frequency**1.3).real


def _bars(_, size):
    y, x = np.mgrid[:size, :size]
    stripes = (np.sin(x / 7) > 0) + (np.sin(y / 11 + x / 30) > 0)
    return 0.5 * stripes + (y // 32 + x // 32) % 2


_KINDS = (
    _phantom,
    _points,
    _lines,
    _discs,
    _rectangles,
    _haze,
    _rods,
    _nuclei,
    _field,
    _bars,
)
