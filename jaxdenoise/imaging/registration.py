"""Frames registered to their own mean: what `drift` computes with. Host side.

The scene is taken to be one image that each frame shows at another place, with noise. The mean of
the frames, each moved back, is the template; a frame lies where its cross-correlation with the
template is highest. Frequencies and pixels are weighted by what was measured there besides the
template (noise, lit-up cells), which makes the place the most likely one.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Complex, Float, Int, Real
from scipy import fft, ndimage
from scipy.interpolate import RectBivariateSpline

from jaxdenoise.imaging.hotpixels import Framed

_REACH = 0.375  # of the frame's sides: the furthest that two frames are apart, halved
_TAPER = 0.125  # of a side, over which a window falls to 0
_BACKGROUND = 0.1  # of the sides: what is smoother tells little about the place, and leaks
_TILES = 4  # a side: the two halves of the field are the squares of a chess board
FOLDS = 4
_LEAST_SHOWN = 0.2  # of the template's power that a frame may show; with less, its place is a guess
_BINS = 12  # of the absolute frequency along each axis; narrower ones for low frequencies
_SEEN = 0.15, 0.4  # share of frames that show a place: from the first on it counts, then fully
FARTHEST = 3  # pixels from where it was found before, in which a place is looked for again
_BESIDE = 5  # pixels around the highest correlation that a spline of degree 5 goes through
_KEPT = 2**23  # pixels of prepared frames that are kept in memory
_STEPS = 6  # of Newton's method from there; the last changes nothing above 1e-4 pixels


class Field:
    """The frames' common geometry: window, canvas with room for the drift, frequencies."""

    def __init__(self, shape: tuple[int, int]):
        """Take the frames' (H, W) in pixels."""
        self.shape = shape
        self.reach = np.array([int(_REACH * n) for n in shape])
        self.size = tuple(
            fft.next_fast_len(n + 2 * r, real=True) for n, r in zip(shape, self.reach, strict=True)
        )
        rows, columns = (_taper(n) for n in shape)
        self.window = np.outer(rows, columns).astype(np.float32)
        tiles = np.outer(*(_taper(n, _TILES) for n in shape))
        board = sum(np.ix_(*(np.arange(n) * _TILES // n for n in shape))) % 2
        self.halves = [np.float32(self.window * tiles * (board == side)) for side in (0, 1)]
        self.ky = np.float32(2 * np.pi * np.fft.fftfreq(self.size[0]))
        self.kx = np.float32(2 * np.pi * np.fft.rfftfreq(self.size[1]))
        y, x = (
            np.minimum(np.sqrt(abs(k) / np.pi) * _BINS, _BINS - 1).astype(int)
            for k in (self.ky, self.kx)
        )
        self.bins = y[:, None] * _BINS + x
        self.counts = np.bincount(self.bins.ravel(), minlength=_BINS**2)

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
        return (power / np.maximum(self.counts, 1)).astype(np.float32)[self.bins]


class Reader:
    """Frames as they are registered, and their common geometry; the first ones are kept.

    Attributes:
        binning: pixels along each axis that are averaged.
        numbers: of the frames that are read.
        field: their geometry.
        scale: factor of their grey levels.
    """

    def __init__(self, frames: Framed, binning: int) -> None:
        """Take frames (N, H, W), all of them."""
        self._frames, self.binning = frames, binning
        self.numbers: Sequence[int] = range(frames.shape[0])
        height, width = (n // binning for n in frames.shape[1:])
        self.field = Field((height, width))
        self.scale = 1.0
        self._kept: dict[int, np.ndarray] = {}

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.numbers)

    def __getitem__(self, n: SupportsIndex) -> Float[np.ndarray, "h w"]:
        """Return a frame, prepared."""
        return self._prepared(self.numbers[n.__index__()]) * np.float32(self.scale)

    def _prepared(self, number):
        if number in self._kept:
            return self._kept[number]
        frame = prepare(np.asarray(self._frames[number, :, :]), self.binning)
        if len(self._kept) < _KEPT // frame.size:
            self._kept[number] = frame
        return frame

    def of_frames(self, numbers: Sequence[int]) -> "Reader":
        """Return the same for some of the frames."""
        some = copy.copy(self)  # with the same frames kept
        some.numbers = numbers
        return some

    def spread(self, most: int, last: int) -> Int[np.ndarray, " n"]:
        """Return evenly spread numbers from 0 to ``last``."""
        return np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(int))


class Noise(NamedTuple):
    """What frames show besides the template.

    Attributes:
        whitening: (K, L), 1 / root of the noise's power at each frequency.
        variance: (K, L) canvas, the whitened noise's variance at each place, about 1.
    """

    whitening: Float[np.ndarray, "K L"]
    variance: Float[np.ndarray, "A B"] | float


class Sums:
    """Frames moved back and added up, for the mean of those before, or of all in other folds.

    A frame must not be in the mean that it is registered to: its noise would draw it to where it
    lay before. Every fourth frame belongs to the same fold.
    """

    def __init__(self, field: Field, window: Float[np.ndarray, "H W"]):
        """Start with none."""
        self.field, self.window = field, field.spectrum(window)
        self.counts = np.zeros(FOLDS, int)
        self.totals = np.zeros((FOLDS, *field.bins.shape), np.complex64)
        self.covers = np.zeros_like(self.totals)

    def add(self, n: int, spectrum: Complex[np.ndarray, "K L"], shift: np.ndarray) -> None:
        """Add frame `n`, given as its windowed spectrum, that lies at a shift in pixels."""
        phase, fold = self.field.phase(shift), n % FOLDS
        self.totals[fold] += spectrum * phase
        self.covers[fold] += phase
        self.counts[fold] += 1

    def mean(self, without: int | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the mean of frames on the canvas, how far each place is known (0 to 1), a count.

        Args:
            without: The fold that is left out.
        """
        used = [fold for fold in range(FOLDS) if fold != without]
        count, size = int(self.counts[used].sum()), self.field.size
        cover = fft.irfft2(self.covers[used].sum(axis=0) * self.window, size) / count
        known = np.clip((cover - _SEEN[0]) / (_SEEN[1] - _SEEN[0]), 0, 1)
        mean = fft.irfft2(self.totals[used].sum(axis=0), size) / count / np.maximum(cover, _SEEN[0])
        return mean * known, np.clip(cover, 0, 1) * (known > 0), count


class Template(NamedTuple):
    """What a frame is correlated with.

    Attributes:
        mask: (K, L), conjugate of the weighted mean's spectrum; a frame's spectrum times it is the
            spectrum of their correlation.
        spread: canvas, the standard deviation of that correlation by noise at each shift; it is
            smaller where the frame shows less of what the mean knows.
        frames: how many the mean is of.
    """

    mask: Complex[np.ndarray, "K L"]
    spread: Float[np.ndarray, "A B"]
    frames: int


def make_template(sums: Sums, noise: Noise, without: int | None = None) -> Template:
    """Weight the frames' mean by the noise in a frame, and by its own."""
    field = sums.field
    mean, cover, count = sums.mean(without)
    white = noise.whitening * fft.rfft2(mean)
    expected = np.sum(np.float64(cover > 0)) / count
    kept = np.clip(1 - expected / np.maximum(field.power(white), 1e-30), 0, 1)
    kept[0, 0] = 0
    shown = fft.irfft2(kept * white, field.size)
    weighted = shown / noise.variance
    mask = np.conj(noise.whitening * fft.rfft2(weighted)).astype(np.complex64)
    power = fft.irfft2(sums.window * np.conj(fft.rfft2(shown * weighted)), field.size)
    spread = np.sqrt(np.maximum(power, _LEAST_SHOWN * power.max()))
    return Template(mask, spread, count)


class Place(NamedTuple):
    """Where a frame lies.

    Attributes:
        shift: (y, x) in pixels.
        value: its correlation there in standard deviations by noise.
        information: the inverse covariance of the shift; 0 where the correlation has no peak.
    """

    shift: Float[np.ndarray, " 2"]
    value: float
    information: Float[np.ndarray, "2 2"]


def find_place(
    field: Field,
    spectrum: Complex[np.ndarray, "K L"],
    template: Template,
    near: Float[np.ndarray, " 2"],
    radius: Sequence[int] = (FARTHEST, FARTHEST),
) -> Place:
    """Find the highest correlation within a radius of a place, to a fraction of a pixel.

    Args:
        field: Of the frames.
        spectrum: Of the windowed frame.
        template: With the same window.
        near: (y, x) in pixels.
        radius: (y, x) in pixels.
    """
    reach = [r + _BESIDE for r in radius]
    lags = [(round(float(d)) + np.arange(-r, r + 1)) for d, r in zip(near, reach, strict=True)]
    places = np.ix_(*(lag % n for lag, n in zip(lags, field.size, strict=True)))
    values = fft.irfft2(spectrum * template.mask, field.size)[places] / template.spread[places]
    inner = values[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE]
    y, x = np.unravel_index(inner.argmax(), inner.shape)
    around = values[y : y + 2 * _BESIDE + 1, x : x + 2 * _BESIDE + 1]
    value, fraction, bend = _climb(around)
    middle = np.array([lags[0][y + _BESIDE], lags[1][x + _BESIDE]])
    # The logarithm of the likelihood, with the most likely brightness, is half the value's square.
    return Place(middle + fraction, value, bend * max(value, 0))


def _climb(values):
    """Highest value of a smooth surface beside its middle, where that is, and the bend there."""
    middle = np.arange(len(values)) - len(values) // 2
    surface = RectBivariateSpline(middle, middle, values, kx=5, ky=5)

    def at(order_y, order_x):
        return float(surface.ev(*shift, dx=order_y, dy=order_x))

    shift = np.zeros(2)
    for _ in range(_STEPS):
        slope, (yy, yx, xx) = [at(1, 0), at(0, 1)], (-at(2, 0), -at(1, 1), -at(0, 2))
        bend = np.array([[yy, yx], [yx, xx]])
        if not _is_peak(bend):
            return float(values[len(values) // 2, len(values) // 2]), np.zeros(2), 0 * bend
        step = np.linalg.solve(bend, slope)
        shift = np.clip(shift + step, -1, 1)
        if np.abs(step).max() < 1e-4:
            break
    return at(0, 0), shift, bend


def _is_peak(bend):
    return bend[0, 0] > 0 and bend[0, 0] * bend[1, 1] > bend[0, 1] ** 2


def prepare(frame: Real[np.ndarray, "H W"], binning: int) -> Float[np.ndarray, "h w"]:
    """Prepare a frame: bin it, take out hot pixels, means of rows and columns, and background.

    A pixel that is further beyond its eight neighbours than half their range is clipped to that.
    Pixels without data get the mean of their row and column.
    """
    image: np.ndarray = np.asarray(frame, np.float32)
    known = np.isfinite(image)
    if not known.all():
        image = np.where(known, image, image[known].mean() if known.any() else 0)
    around = np.pad(image, 1, mode="reflect")
    low, high = (_beside(around, pick) for pick in (np.minimum, np.maximum))
    beyond = (high - low) * np.float32(0.5)
    image = np.minimum(np.maximum(image, low - beyond), high + beyond)
    if binning > 1:
        h, w = (n // binning for n in image.shape)
        cut = np.s_[: h * binning, : w * binning]
        image = image[cut].reshape(h, binning, w, binning).mean(axis=(1, 3))
        known = known[cut].reshape(h, binning, w, binning).all(axis=(1, 3))
    count = [np.maximum(known.sum(axis=axis, keepdims=True), 1) for axis in (0, 1)]
    image = np.where(known, image, 0)
    image = image - np.where(known, image.sum(axis=1, keepdims=True) / count[1], 0)
    image = image - np.where(known, image.sum(axis=0, keepdims=True) / count[0], 0)
    image = image.astype(np.float32)
    size = [max(3, int(_BACKGROUND * n)) | 1 for n in image.shape]
    background = ndimage.uniform_filter(ndimage.uniform_filter(image, size), size)
    return np.where(known, image - background, 0)


def _beside(around, pick):
    """The lowest or highest of the eight neighbours of each pixel."""
    three = pick(pick(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    return pick(pick(three[:-2], three[2:]), pick(around[1:-1, :-2], around[1:-1, 2:]))


def _taper(length, parts=1):
    """1 inside each of some equal parts, falling to 0 as a squared cosine over an eighth of it."""
    place = (np.arange(length) + 0.5) * parts / length % 1
    return np.sin(np.pi / 2 * np.clip(np.minimum(place, 1 - place) / _TAPER, 0, 1)) ** 2
