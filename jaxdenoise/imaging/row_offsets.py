"""Offsets of the rows of an image: how large they are, and whether they are line noise. Host side.

A scanner adds an offset of its own to each line, an sCMOS camera to each column. The scene has rows
too: fibres along x, gratings, lines of text. Noise differs from them in five ways, all of which are
required: the same offset reaches across the whole row, in bright places and in dark ones; it is
white along y, whereas a microscope blurs what it shows; nearly every row has one; no period stands
out; and the columns show nothing of that strength that is no such noise of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft, linalg, ndimage

SMALLEST = 64  # pixels a side: fewer rows cannot tell noise from structure
# Rows whose differences are looked at. Far ones keep the errors of near ones from adding up.
_LAGS = (1, 2, 4, 8, 16)
_NEAR = (1, 2, 4)  # enough for what changes from row to row
_ROUNDS = 2  # in which the scene is smoothed by _SMOOTH pixels; each halves the error at most
_SMOOTH, _EQUAL, _NEAR_NOISE = 1.5, 0.8, 3.0  # and pixels count whose brightness differs by less
_TIE = 1e-3  # weight of what was measured before, for rows of which no pixel counts
_CLIP, _WIDE = 2.0, 5.0  # standard deviations, with the scene and where it is subtracted

# What follows was set on 4,200 synthetic images without line noise, of 14 kinds (cells, fibres and
# gratings along x, text, tiles, membranes, textures; PSF sigma 0 to 3 pixels, 0.5 to 3,000 photons,
# read along both axes). It is found where there is none in uniform bands of one pixel without any
# blur, and in little else: `experiments/line_noise.py` counts anew.
_SURE = 8.0  # standard errors of the covariance of different parts of the rows
_LEAST, _MOST = 0.1, 4.0  # of the noise: less does no harm, more is no noise of a scanner
_BAND, _TOP = 0.15, 0.35  # cycles a pixel: fine, and the finest that no PSF passes on
# Power of the finest over that of the fine, less half a standard error: 0.6 in 128 rows, 0.68 in
# 512. A PSF of sigma 0.5 leaves a third.
_WHITE, _WHITE_ERROR = 0.75, 0.5
_APART = 0.75  # covariance of distant parts over that of parts side by side
_EACH = 0.6, 1.5  # covariance of each part with the others over the mean one
_PEAK = 10.0  # mean powers that the largest of n may have beyond the 2 log(n) of white noise
_FLAT = 0.15  # geometric over arithmetic mean of the powers, 0.28 of white noise, 0 of a period
_DENSE = 0.75  # robust over usual standard deviation, 1 of Gaussian offsets, 0 of single rows
_LOW = 0.25  # cycles a pixel: the power above is that of the noise
_EXCESS = 3.0  # standard errors that the power of an octave is above it where there is scene


class Noise(NamedTuple):
    """Standard deviations of the noise of a pixel, in grey levels.

    Attributes:
        lowest: of most pixels, which may be dark ones.
        mean: of all, edges of the scene included.
    """

    lowest: float
    mean: float


class Evidence(NamedTuple):
    """What speaks for line noise.

    Attributes:
        found: whether all of it does.
        strength: what the offsets' standard deviation would be, over that of the noise of a pixel.
    """

    found: bool
    strength: float

    def beats(self, other: "Evidence") -> bool:
        """Return whether it is found, and no structure that columns show as well as rows."""
        return self.found and (other.found or self.strength > other.strength)


def find_offsets(
    images: Sequence[Float[np.ndarray, "H W"]], *, noise: Noise | None = None
) -> Evidence:
    """Decide whether the rows of images have random offsets.

    Args:
        images: of one scene or of several, or differences of frames; no NaN.
        noise: of a pixel, as `noise_of` measures it, in which the strength is measured; None: of
            these images.
    """
    height, width = images[0].shape
    if min(height, width) < SMALLEST:
        return Evidence(False, 0.0)
    parts = 8 if width >= 4 * SMALLEST else 4
    fine = np.arange(height) / (2 * height) >= _BAND
    spectra = np.stack([_spectrum(_profile(one, parts, _NEAR)) for one in images])
    own = noise or mean_noise([noise_of(one) for one in images])
    fine_spectra = np.where(fine, spectra, 0)
    covariance = np.einsum("fbk,fck->bc", fine_spectra, fine_spectra) / (len(images) * fine.sum())
    between = (covariance.sum() - covariance.trace()) / (parts * (parts - 1))
    within = covariance.trace() / parts
    if not (between > 0 and own.lowest > 0):
        return Evidence(False, 0.0)
    error = within * np.sqrt(2 / (parts * (parts - 1) * len(images) * fine.sum()))
    size = float(np.sqrt(between))
    found = between > _SURE * error and _LEAST * own.lowest < size < _MOST * own.mean
    found = found and _alike(covariance, between) and _is_white(spectra, fine)
    return Evidence(bool(found), size / own.mean)


def estimate_offsets(image: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " H"]:
    """Estimate the offset of each row of one image, of mean 0; what the scene explains is left out.

    Rows are compared at distances of 1 to 16 pixels, by a mean over x of the clipped differences;
    then again, by the mean over those pixels at which the smoothed scene is as bright in both.
    """
    offsets = _profile(image, 1, _LAGS)[0]
    for _ in range(_ROUNDS):
        offsets = _refined(image, offsets)
    spectrum = _spectrum(offsets)
    return _inverse(spectrum * _noise_share(spectrum**2, count=1))


def rough_offsets(difference: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " H"]:
    """Return a robust mean of each row of an image from which the scene is subtracted."""
    return _robust_mean(np.float32(difference))


def without_scene(offsets: Float[np.ndarray, "N H"]) -> Float[np.ndarray, "N H"]:
    """Take out of measured offsets of frames what is no noise: power above that of white noise.

    The same is done for their mean over the frames, in which the noise is small.
    """
    spectra = _spectrum(offsets)
    spectra *= _noise_share(np.mean(spectra**2, axis=0), count=len(offsets))
    level = _level(np.mean(spectra**2, axis=0)) / len(offsets)
    middle = spectra.mean(axis=0)
    spectra -= (1 - _noise_share(middle**2, count=1, level=level)) * middle
    return _inverse(spectra)


def mean_without_scene(
    mean: Float[np.ndarray, " H"], offsets: Float[np.ndarray, "N H"]
) -> Float[np.ndarray, " H"]:
    """Return the part of the mean of frames' offsets that white noise of their power explains."""
    level = _level(np.mean(_spectrum(offsets) ** 2, axis=0)) / len(offsets)
    spectrum = _spectrum(mean)
    return _inverse(spectrum * _noise_share(spectrum**2, count=1, level=level))


def noise_of(image: Float[np.ndarray, "H W"]) -> Noise:
    """Measure the noise of a pixel by the differences of rows, without the rows' offsets."""
    step = image[1:] - image[:-1]
    apart = np.abs(step - np.median(step, axis=1, keepdims=True))
    lowest, mean = 1.4826 * float(np.median(apart)), float(np.sqrt(np.pi / 2) * np.mean(apart))
    return Noise(lowest / np.sqrt(2), mean / np.sqrt(2))


def mean_noise(found: Sequence[Noise]) -> Noise:
    """Return the mean of what was measured on several images."""
    return Noise(*np.mean(found, axis=0).tolist())


def _spectrum(profile):
    return fft.dct(profile, axis=-1, norm="ortho")


def _inverse(spectrum):
    return fft.idct(spectrum, axis=-1, norm="ortho")


def _profile(image, parts, lags):
    """The offsets (parts, H) as each of several parts of the rows shows them."""
    height, width = image.shape
    cut = np.asarray(image[:, : width // parts * parts], np.float32)
    split = cut.reshape(height, parts, -1).swapaxes(0, 1)
    equations = _Equations(np.zeros((parts, height)), tie=1e-9)
    for lag in lags:
        found = _robust_mean(split[:, lag:] - split[:, :-lag], _CLIP)
        equations.add(lag, found, np.full(height - lag, 1 / lag))
    return equations.solution()


def _refined(image, offsets):
    """The offsets by pixels at which the scene, measured without the offsets so far, is equal."""
    level = np.asarray(image - offsets[:, None], np.float32)
    smooth = ndimage.gaussian_filter(level, _SMOOTH)
    noise = noise_of(level).lowest
    equations = _Equations(offsets[None], tie=_TIE)
    for lag in _LAGS:
        step = level[lag:] - level[:-lag]
        counts = np.abs(smooth[lag:] - smooth[:-lag]) < _EQUAL * noise
        counts &= np.abs(step) < _NEAR_NOISE * np.sqrt(2) * noise
        number = counts.sum(axis=1)
        found = np.where(counts, step, 0).sum(axis=1) / np.maximum(number, 1)
        found += offsets[lag:] - offsets[:-lag]
        equations.add(lag, found[None], number / (lag * image.shape[1]))
    return equations.solution()[0]


class _Equations:
    """Weighted least squares: the differences of rows, and a weak tie to what is known before."""

    def __init__(self, before, *, tie):
        self._bands = np.zeros((max(_LAGS) + 1, before.shape[1]))
        self._bands[0], self._sums = tie, tie * before

    def add(self, lag, differences, weights):
        """Add the differences (P, H - lag) of rows that are so far apart, and their weights."""
        self._bands[0, :-lag] += weights
        self._bands[0, lag:] += weights
        self._bands[lag, :-lag] -= weights
        self._sums[:, lag:] += weights * differences
        self._sums[:, :-lag] -= weights * differences

    def solution(self):
        """Return the offsets (P, H), of mean 0."""
        offsets = linalg.solveh_banded(self._bands, self._sums.T, lower=True).T
        return offsets - offsets.mean(axis=1, keepdims=True)


def _robust_mean(values, clip=_WIDE):
    """The mean along the last axis of values that are clipped around their median."""
    middle = np.median(values, axis=-1, keepdims=True)
    apart = values - middle
    spread = 1.4826 * np.median(np.abs(apart), axis=-1, keepdims=True)
    limit = clip * np.maximum(spread, np.median(spread))
    return (middle + np.clip(apart, -limit, limit).mean(axis=-1, keepdims=True))[..., 0]


def _alike(covariance, between):
    """Whether all parts of the rows share the same offsets."""
    parts = len(covariance)
    distance = abs(np.subtract.outer(range(parts), range(parts)))
    near, far = covariance[distance == 1].mean(), covariance[distance >= parts // 2].mean()
    each = (covariance.sum(axis=0) - covariance.diagonal()) / (parts - 1) / between
    return far > _APART * near and each.min() > _EACH[0] and each.max() < _EACH[1]


def _is_white(spectra: Float[np.ndarray, "F B H"], fine: Bool[np.ndarray, " H"]) -> bool:
    """Whether the offsets that all parts share are dense and without a period or a blur."""
    parts, height = spectra.shape[1:]
    shared = (spectra.sum(axis=1) ** 2 - (spectra**2).sum(axis=1)) / (parts * (parts - 1))
    top = np.arange(height) / (2 * height) >= _TOP
    middle = fine & ~top
    error = np.sqrt(2 / len(shared) * (1 / top.sum() + 1 / middle.sum()))
    white = shared[:, top].mean() > (_WHITE - _WHITE_ERROR * error) * shared[:, middle].mean()
    mean = np.where(fine, spectra.mean(axis=1), 0)
    power = mean[:, fine] ** 2
    peaked = power.max() > (2 * np.log(power.size) + _PEAK) * power.mean()
    flat = np.exp(np.mean(np.log(power + 1e-30))) > _FLAT * power.mean()
    rows = _inverse(mean)
    dense = 1.4826 * np.median(np.abs(rows)) > _DENSE * np.sqrt(np.mean(rows**2))
    return bool(white and dense and flat and not peaked)


def _level(power):
    """The mean power of white noise, from the upper half of the band."""
    return max(float(power[int(2 * _LOW * len(power)) :].mean()), 1e-30)


def _noise_share(power, *, count, level=None):
    """The share (H,) of each frequency's offsets that is noise, as a Wiener filter has it.

    Args:
        power: (H,) mean over the frames.
        count: of the frames.
        level: of the noise; None: as its upper half shows.
    """
    level = _level(power) if level is None else level
    share, first = np.ones(len(power)), 1
    share[0] = 0  # the mean of each frame is kept
    while first < _LOW * len(power):  # octave by octave
        octave = slice(first, 2 * first)
        ratio = float(power[octave].mean()) / level
        expected = 1 + _EXCESS * np.sqrt(2 / (first * count))
        share[octave] = min(1, expected / max(ratio, 1e-30))
        first *= 2
    return share
