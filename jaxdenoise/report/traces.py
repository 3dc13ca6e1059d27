"""Traces of a movie before and after, where it changes most, and their spectra. NumPy, SciPy."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.signal import welch

BOX = 3  # pixels a side of the squares whose means are followed
_PLACES = 4
_APART = 12  # pixels between two places
_SEGMENT = 128  # frames of the segments over which a spectrum is averaged
_CHANGES = 3.0  # standard errors of a noisy mean over a square that a place must change by
_ROBUST = 1.4826  # times the median of absolute values: standard deviation of normal noise

Reader = Callable[[int], tuple[Real[np.ndarray, "H W"], Real[np.ndarray, "H W"]]]


class Traces(NamedTuple):
    """The courses of some places, means over 3 x 3 pixels in grey levels.

    Attributes:
        places: (row, column) of the middle of each, the one that changes most first.
        first: number of the first frame, 0-based.
        noisy: by place and frame.
        denoised: the same.
        noise: by place, the standard deviation of the noise in such a mean.
        interval: seconds between frames, None if not known.
    """

    places: tuple[tuple[int, int], ...]
    first: int
    noisy: Float[np.ndarray, "P T"]
    denoised: Float[np.ndarray, "P T"]
    noise: Float[np.ndarray, " P"]
    interval: float | None


class Spectra(NamedTuple):
    """Power spectral densities of traces, their means over the places.

    Attributes:
        frequency: in cycles a frame, or in hertz where the interval is known.
        noisy: in squared grey levels per unit of frequency.
        denoised: the same.
    """

    frequency: Float[np.ndarray, " F"]
    noisy: Float[np.ndarray, " F"]
    denoised: Float[np.ndarray, " F"]


def find_traces(read: Reader, numbers: Sequence[int], interval: float | None) -> Traces | None:
    """Return the traces of the places that change most, or None where nothing does.

    The frames are read twice, one at a time.

    Args:
        read: returns a frame, noisy and denoised, in grey levels, by its number.
        numbers: of frames that follow each other.
        interval: seconds between frames, None if not known.
    """
    count, total, square = len(numbers), 0.0, 0.0
    for n in numbers:
        mean = uniform_filter(np.asarray(read(n)[1], np.float64), BOX)
        total, square = total + mean, square + mean**2
    changes = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0))
    places = _highest(changes)
    pairs = [read(n) for n in numbers] if count * changes.size < 2**22 else map(read, numbers)
    traces = np.array(
        [[[_mean(image, place) for place in places] for image in pair] for pair in pairs]
    )
    noisy, denoised = traces.transpose(1, 2, 0)
    second = noisy[:, :-2] - 2 * noisy[:, 1:-1] + noisy[:, 2:]
    noise = _ROBUST * np.median(np.abs(second), axis=1) / np.sqrt(6)
    changing = np.flatnonzero(np.ptp(denoised, axis=1) > _CHANGES * noise)
    if not len(changing):
        return None
    chosen = tuple(places[i] for i in changing)
    return Traces(
        chosen, numbers[0], noisy[changing], denoised[changing], noise[changing], interval
    )


def spectra(traces: Traces) -> Spectra:
    """Return the spectra of traces, by Welch's method with segments of up to 128 frames.

    Source: Welch, "The use of fast Fourier transform for the estimation of power spectra", 1967.
    """
    rate = 1 / traces.interval if traces.interval else 1.0
    length = min(_SEGMENT, traces.noisy.shape[1])
    frequency, noisy = welch(traces.noisy, rate, nperseg=length)
    _, denoised = welch(traces.denoised, rate, nperseg=length)
    # At frequency 0 is what the mean leaves, nothing.
    return Spectra(frequency[1:], noisy.mean(axis=0)[1:], denoised.mean(axis=0)[1:])


def _highest(changes):
    """Places of the highest peaks of an image, apart from each other and from the border."""
    peaks = np.where(changes == maximum_filter(changes, 2 * _APART + 1), changes, -np.inf)
    half = BOX // 2
    for edge in (peaks, peaks.T):
        edge[:half] = edge[len(edge) - half :] = -np.inf
    order = np.argsort(peaks, axis=None)[::-1][:_PLACES]
    found = [tuple(map(int, np.unravel_index(place, peaks.shape))) for place in order]
    return [place for place in found if np.isfinite(peaks[place])]


def _mean(image, place):
    row, column = place
    half = BOX // 2
    part = image[row - half : row + half + 1, column - half : column + half + 1]
    return float(part.mean(dtype=np.float64))
