"""Frames registered to their own mean: what `drift` computes with. Host side.

The scene is taken to be one image that each frame shows at another place, with noise. The mean of
the frames, each moved back, is the template; a frame lies where its cross-correlation with the
template is highest. Frequencies and pixels are weighted by what was measured there besides the
template (noise, lit-up cells), which makes the place the most likely one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Real
from scipy import fft

_REACH = 0.375  # of the frame's sides: the furthest that two frames are apart, halved
_TAPER = 0.125  # of the frame's sides, over which its window falls to 0
_TILES = 4  # a side: the two halves of the field are the squares of a chess board
_BINS = 12  # of the absolute frequency along each axis; narrower ones for low frequencies
_SEEN = 0.15, 0.4  # share of frames that show a place: from the first on it counts, then fully
_FARTHEST = 3.0  # pixels from where it was found before, in which a place is looked for again
_GRID = np.arange(-_FARTHEST, _FARTHEST + 0.5, 0.5)
_STEPS = 5  # of Newton's method from the best point of that grid; the last changes below 1e-4
_LEAST_ERROR = 1e-3  # pixels: what interpolation and windows are good for


class Field:
    """The frames' common geometry: window, canvas with room for the drift, frequencies."""

    def __init__(self, shape: tuple[int, int]):
        """Take the frames' (H, W) in pixels."""
        self.shape = shape
        self.reach = tuple(int(_REACH * n) for n in shape)
        self.size = tuple(
            fft.next_fast_len(n + 2 * r, real=True) for n, r in zip(shape, self.reach, strict=True)
        )
        rows, columns = (_taper(n) for n in shape)
        self.window = np.outer(rows, columns).astype(np.float32)
        board = sum(np.ix_(*(np.arange(n) * _TILES // n for n in shape))) % 2
        self.halves = [self.window * (board == side) for side in (0, 1)]
        self.ky = np.float32(2 * np.pi * np.fft.fftfreq(self.size[0]))
        self.kx = np.float32(2 * np.pi * np.fft.rfftfreq(self.size[1]))
        y, x = (
            np.minimum(np.sqrt(abs(k) / np.pi) * _BINS, _BINS - 1).astype(int)
            for k in (self.ky, self.kx)
        )
        self.bins = y[:, None] * _BINS + x
        self.counts = np.bincount(self.bins.ravel(), minlength=_BINS**2)
        # The half of the spectrum that rfft2 leaves out, and the inverse transform's divisor.
        self.share = np.full(len(self.kx), 2, np.float32)
        self.share[0] = 1
        if self.size[1] % 2 == 0:
            self.share[-1] = 1
        self.share /= self.size[0] * self.size[1]
        self.window_spectrum = self.spectrum(self.window)

    def spectrum(self, image: Float[np.ndarray, "H W"]) -> Complex[np.ndarray, "K L"]:
        """Fourier transform on the canvas."""
        return fft.rfft2(image, self.size)

    def phase(self, shift: Float[np.ndarray, " 2"]) -> Complex[np.ndarray, "K L"]:
        """Factors that move a spectrum back by a shift in pixels."""
        y, x = (
            np.exp(np.complex64(1j) * k * np.float32(d))
            for k, d in zip((self.ky, self.kx), shift, strict=True)
        )
        return y[:, None] * x

    def power(self, spectrum: Complex[np.ndarray, "K L"]) -> Float[np.ndarray, "K L"]:
        """Mean power in each bin of frequencies, at each frequency."""
        power = np.bincount(self.bins.ravel(), np.abs(spectrum).ravel() ** 2, _BINS**2)
        return np.float32(power / np.maximum(self.counts, 1))[self.bins]

    def correlation(self, product, shift, orders=1):
        """Real part of the correlation at a shift, and its derivatives along y and x."""
        y, x = (
            np.stack([(1j * k) ** order * np.exp(1j * k * d) for order in range(orders)])
            for k, d in zip((self.ky, self.kx), shift, strict=True)
        )
        return (y @ product @ (x * self.share).T).real

    def around(self, product, shift):
        """Correlations at the points of a grid around a shift."""
        y, x = (
            np.exp(1j * np.outer(_GRID + d, k)).astype(np.complex64)
            for k, d in zip((self.ky, self.kx), shift, strict=True)
        )
        return (y @ product @ (x * self.share).T).real


class Noise(NamedTuple):
    """What frames show besides the template.

    Attributes:
        whitening: (K, L), 1 / root of the noise's power at each frequency.
        variance: (K, L) canvas, the whitened noise's variance at each place, about 1.
    """

    whitening: Float[np.ndarray, "K L"]
    variance: Float[np.ndarray, "A B"] | float


class Sums:
    """Frames moved back and added up, for their mean."""

    def __init__(self, field: Field):
        """Start with none."""
        self.field, self.count = field, 0
        self.total = np.zeros((len(field.ky), len(field.kx)), np.complex64)
        self.cover = np.zeros_like(self.total)

    def add(self, spectrum: Complex[np.ndarray, "K L"], shift: Float[np.ndarray, " 2"]) -> None:
        """Add a frame, given as its windowed spectrum, that lies at a shift."""
        phase = self.field.phase(shift)
        self.total += spectrum * phase
        self.cover += phase
        self.count += 1

    def mean(self) -> tuple[Float[np.ndarray, "A B"], Float[np.ndarray, "A B"]]:
        """Return the frames' mean on the canvas, and how far each place is known, 0 to 1."""
        size = self.field.size
        cover = fft.irfft2(self.cover * self.field.window_spectrum, size) / self.count
        known = np.clip((cover - _SEEN[0]) / (_SEEN[1] - _SEEN[0]), 0, 1)
        mean = fft.irfft2(self.total, size) / self.count / np.maximum(cover, _SEEN[0])
        return mean * known, np.minimum(cover, 1) * (known > 0)


class Template(NamedTuple):
    """What a frame is correlated with.

    Attributes:
        mask: (K, L) conjugate of the weighted mean's spectrum; a frame's spectrum times it is the
            spectrum of their correlation.
        own: (K, L), the weight of each frequency of a frame in that mean.
        energy: the correlation of the template with itself, and its variance in noise.
        count: of frames in the mean.
    """

    mask: Complex[np.ndarray, "K L"]
    own: Float[np.ndarray, "K L"]
    energy: float
    count: int

    def without(self, spectrum, moved):
        """The product with the spectrum of a frame that the mean holds at `moved` (its phase)."""
        if self.count < 2:
            return spectrum * self.mask
        own = self.own * np.conj(moved)
        return (self.mask - own / self.count) * (self.count / (self.count - 1))


def make_template(sums: Sums, noise: Noise) -> Template:
    """Weight the frames' mean by the noise in a frame, and by its own."""
    field = sums.field
    mean, cover = sums.mean()
    white = noise.whitening * fft.rfft2(mean)
    expected = np.sum(np.float64(cover > 0)) / sums.count
    power = field.power(white)
    kept = np.clip(1 - expected / np.maximum(power, 1e-30), 0, 1)
    kept[0, 0] = 0
    shown = fft.irfft2(kept * white, field.size)
    weighted = shown / noise.variance
    mask = np.conj(noise.whitening * fft.rfft2(weighted)).astype(np.complex64)
    energy = float(np.sum(cover * shown * weighted, dtype=np.float64))
    return Template(mask, np.float32(kept * noise.whitening**2), energy, sums.count)


class Place(NamedTuple):
    """Where a frame lies: (y, x) in pixels, and the inverse covariance of that by its noise."""

    shift: Float[np.ndarray, " 2"]
    information: Float[np.ndarray, "2 2"]


def find_place(field: Field, product, near, energy: float) -> Place:
    """The highest correlation near a place, to a fraction of a pixel."""
    values = field.around(product, near)
    y, x = np.unravel_index(values.argmax(), values.shape)
    start = near + np.array([_GRID[y], _GRID[x]])
    return climb(field, product, start, energy)


def climb(field: Field, product, start, energy: float) -> Place:
    """Follow the correlation from a point to the peak beside it by Newton's method."""
    shift, bend = np.float64(start), np.zeros((2, 2))
    value = 0.0
    for _ in range(_STEPS):
        d = field.correlation(product, shift, 3)
        value, slope = d[0, 0], np.array([d[1, 0], d[0, 1]])
        bend = -np.array([[d[2, 0], d[1, 1]], [d[1, 1], d[0, 2]]])
        if bend[0, 0] <= 0 or np.linalg.det(bend) <= 0:
            break
        step = np.linalg.solve(bend, slope)
        shift = shift + step * min(1, 0.5 / max(np.abs(step).max(), 1e-9))
        if np.abs(step).max() < 1e-4:
            break
    if bend[0, 0] <= 0 or np.linalg.det(bend) <= 0 or np.abs(shift - start).max() > 1:
        return Place(np.float64(start), np.zeros((2, 2)))
    # The correlation is brightness times the template's: its bend tells the information about the
    # place times the brightness once.
    return Place(shift, bend * max(value, 0) / energy)


def peak(field: Field, product, near, radius) -> tuple[Float[np.ndarray, " 2"], float]:
    """The whole shift of highest correlation within a radius (y, x) of a place, and its value."""
    values = fft.irfft2(product, field.size)
    lags = [
        np.arange(-r, r + 1) + int(round(d)) for r, d in zip(radius, near, strict=True)
    ]
    part = values[np.ix_(*(lag % n for lag, n in zip(lags, field.size, strict=True)))]
    y, x = np.unravel_index(part.argmax(), part.shape)
    return np.array([lags[0][y], lags[1][x]], float), float(part[y, x])


def prepare(frame: Real[np.ndarray, "H W"], binning: int) -> Float[np.ndarray, "h w"]:
    """A frame to register: binned, without hot pixels, without the means of rows and columns.

    A pixel that is further beyond its eight neighbours than half their range is clipped to that.
    Pixels without data get the mean of their row and column.
    """
    image = np.float32(frame)
    known = np.isfinite(image)
    if not known.all():
        image = np.where(known, image, image[known].mean() if known.any() else 0)
    around = np.pad(image, 1, mode="reflect")
    low, high = (_beside(around, pick) for pick in (np.minimum, np.maximum))
    image = np.clip(image, low - (high - low) / 2, high + (high - low) / 2)
    if binning > 1:
        h, w = (n // binning for n in image.shape)
        cut = np.s_[: h * binning, : w * binning]
        image = image[cut].reshape(h, binning, w, binning).mean(axis=(1, 3))
        known = known[cut].reshape(h, binning, w, binning).all(axis=(1, 3))
    count = [np.maximum(known.sum(axis=axis, keepdims=True), 1) for axis in (0, 1)]
    image = np.where(known, image, 0)
    image = image - np.where(known, image.sum(axis=1, keepdims=True) / count[1], 0)
    return np.float32(image - np.where(known, image.sum(axis=0, keepdims=True) / count[0], 0))


def _beside(around, pick):
    """The lowest or highest of the eight neighbours of each pixel."""
    three = pick(pick(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    return pick(
        pick(three[:-2], three[2:]), pick(around[1:-1, :-2], around[1:-1, 2:])
    )


def _taper(n):
    """1 inside, falling to 0 as a squared cosine over an eighth of the length."""
    place = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (_TAPER * n)
    return np.sin(np.pi / 2 * np.minimum(place, 1)) ** 2
