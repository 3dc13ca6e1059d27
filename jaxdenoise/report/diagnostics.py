"""Measure a noisy stack, its denoised version and their difference. Host side: NumPy in and out.

Nothing here needs a clean image. `verdict` words the numbers.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Float64, Real
from scipy.ndimage import gaussian_filter

from jaxdenoise.imaging.scan_lines import line_offset
from jaxdenoise.microscope.noise_estimation import estimate_noise_of
from jaxdenoise.microscope.noise_level import noise_level_of

REACH = 8  # pixels, the largest lag of the autocorrelation
SMOOTHING = 2.0  # sigma in pixels of the filter that shows structure in a residual
BLOCK = 8  # pixels a side of the blocks in whose means noise is weak
_NEIGHBOURHOOD = 6.0  # sigma in pixels of the local variance of the residual
_RING = 0.05  # cycles per pixel, the width of a ring of the residual's spectrum
# Cycles per pixel. Optics pass hardly any detail finer than this (2.5 pixels): it is noise.
_FINE = 0.4
_ERRORS = 3.0  # standard errors that a ring's power may lie above the truth
_LEVELS = 16  # grey levels at which the residual's mean and spread are measured
_OUTLIER = 10.0  # local standard deviations; 7 would catch the tail of the noise of a few photons
_ESTIMABLE = 16  # pixels a side that `estimate_noise` needs


class Spectrum(NamedTuple):
    """The residual's power by spatial frequency.

    Attributes:
        frequency: (R,) in cycles per pixel.
        power: (R,), 1 everywhere for white noise.
    """

    frequency: Float64[np.ndarray, " R"]
    power: Float64[np.ndarray, " R"]


class Levels(NamedTuple):
    """The residual by brightness, in grey levels.

    Attributes:
        level: (L,), mean of the denoised pixels between two of its quantiles.
        mean: (L,), mean of the residual at these pixels.
        spread: (L,), standard deviation of the residual at these pixels.
    """

    level: Float64[np.ndarray, " L"]
    mean: Float64[np.ndarray, " L"]
    spread: Float64[np.ndarray, " L"]


class Residual(NamedTuple):
    """Measurements of the residual, the noisy minus the denoised images.

    Attributes:
        mean: in grey levels.
        std: in grey levels.
        contrast: standard deviation of the denoised image in grey levels.
        correlation: lag-1 autocorrelation, the larger of y and x.
        autocorrelation: (17, 17), lags -8 to 8 along y and x, 1 in the middle.
        spectrum: power by spatial frequency.
        structure: power of the strongest ring of the spectrum, divided by the most that chance
            explains: at most about 1 for white noise.
        structure_size: period of that ring in pixels.
        levels: mean and spread by brightness.
        outliers: share of the pixels that lie further from zero than 10 local standard deviations.
    """

    mean: float
    std: float
    contrast: float
    correlation: float
    autocorrelation: Float64[np.ndarray, "17 17"]
    spectrum: Spectrum
    structure: float
    structure_size: float
    levels: Levels
    outliers: float


class Input(NamedTuple):
    """Measurements of the noisy images alone.

    Attributes:
        pixels: of all frames together.
        mean: in grey levels.
        std: in grey levels, of signal and noise together.
        noise_std: in grey levels, its mean over the image.
        noise_correlation: lag-1 autocorrelation of the noise.
        gain: grey levels per photon, None if the frames are too small for it.
        read_std: of the camera in grey levels, None if the frames are too small for it.
        step: distance of neighbouring grey levels (1 for integers), 0 if there is no smallest one.
        saturated: share of the pixels at the brightest grey level, if they pile up there.
        clipped: share of the pixels at the darkest grey level, if they pile up there.
        below_background: share of the image that is significantly darker than the background.
        constant_frames: how many frames hold a single grey level.
        identical_frames: pairs of frames, counted from 1, that hold the same pixels.
        line_offset: by how many pixels every other line is moved along x, 0 if it is not.
    """

    pixels: int
    mean: float
    std: float
    noise_std: float
    noise_correlation: float
    gain: float | None
    read_std: float | None
    step: float
    saturated: float
    clipped: float
    below_background: float
    constant_frames: int
    identical_frames: tuple[tuple[int, int], ...]
    line_offset: float


def examine_input(noisy: Real[ArrayLike, "N H W"], *, background: float) -> Input:
    """Measure the noisy images alone.

    Args:
        noisy: (N, H, W) real, in grey levels, at least 5 x 5 pixels a frame.
        background: grey level of no light.
    """
    noisy = np.asarray(noisy, np.float32)
    variance, correlation = noise_of(noisy)
    noise_std = variance**0.5
    blocks, count = block_means(noisy)
    constant = np.ptp(noisy, axis=(1, 2)) == 0
    estimable = min(noisy.shape[1:]) >= _ESTIMABLE and not constant.all()
    gain, read_std = estimate_noise_of(noisy, offset=background) if estimable else (None, None)
    values, counts = np.unique(noisy, return_counts=True)
    return Input(
        pixels=noisy.size,
        mean=float(noisy.mean(dtype=np.float64)),
        std=float(noisy.std(dtype=np.float64)),
        noise_std=noise_std,
        noise_correlation=correlation,
        gain=gain,
        read_std=read_std,
        step=_step(values),
        saturated=float(_pile(counts[::-1]) / noisy.size),
        clipped=float(_pile(counts) / noisy.size),
        below_background=float(np.mean(blocks < background - _ERRORS * noise_std / count**0.5)),
        constant_frames=int(constant.sum()),
        identical_frames=identical_frames(noisy),
        line_offset=line_offset(noisy),
    )


def examine_residual(
    noisy: Real[ArrayLike, "N H W"], denoised: Real[ArrayLike, "N H W"]
) -> Residual:
    """Measure the residual ``noisy - denoised``.

    At the finest detail the images hold hardly anything but noise. A denoiser that only averages
    removes at most all of the noise at each spatial frequency. If the noise is white, the spectrum
    of the residual therefore never rises above its level at the finest detail. Where it does rise,
    signal was removed, or the noise is not white.

    Args:
        noisy: (N, H, W) real, in grey levels.
        denoised: the same shape and unit.
    """
    denoised = np.asarray(denoised, np.float32)
    residual = np.asarray(noisy, np.float32) - denoised
    correlation = autocorrelation(residual)
    spectrum, errors = _spectrum(residual)
    certain = spectrum.power / (1 + errors)
    strongest = int(np.argmax(certain))
    return Residual(
        mean=float(residual.mean(dtype=np.float64)),
        std=float(residual.std(dtype=np.float64)),
        contrast=float(np.std(denoised, dtype=np.float64)),
        correlation=float(max(correlation[REACH + 1, REACH], correlation[REACH, REACH + 1])),
        autocorrelation=correlation,
        spectrum=spectrum,
        structure=float(certain[strongest]),
        structure_size=float(1 / spectrum.frequency[strongest]),
        levels=_levels(residual, denoised),
        outliers=float(np.mean(residual**2 > _OUTLIER**2 * _local_variance(residual))),
    )


def autocorrelation(residual: Real[np.ndarray, "N H W"]) -> Float64[np.ndarray, "17 17"]:
    """Return the autocorrelation of a stack's frames at lags from -8 to 8 pixels along y and x.

    Args:
        residual: (N, H, W) real; the mean of each frame is subtracted.

    Returns:
        (17, 17), normalised by the variance, so 1 in the middle. A constant stack has 0 everywhere.
        So have lags that do not fit into the frame.
    """
    centred = residual - residual.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    height, width = residual.shape[1:]
    shape = height + REACH, width + REACH  # room for the lags, so that opposite borders do not meet
    power = (np.abs(np.fft.rfft2(centred, shape)) ** 2).sum(axis=0)
    lags = np.arange(-REACH, REACH + 1)
    sums = np.fft.irfft2(power, shape)[np.ix_(lags, lags)]
    pairs = len(residual) * np.outer(
        np.maximum(height - abs(lags), 0), np.maximum(width - abs(lags), 0)
    )
    means = sums / np.maximum(pairs, 1)
    return np.where(pairs > 0, means / (means[REACH, REACH] or 1), 0)


def smoothed_residual(residual: Real[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
    """Smooth a residual (sigma 2 pixels) and divide by the standard deviation of white noise.

    Args:
        residual: (N, H, W) real, in units of the noise (`noise_units.in_units`), so that places
            with more light, where the noise is stronger, do not stand out.

    Returns:
        About -2 to 2 everywhere if the residual is white noise.
    """
    weight = 1 / (4 * np.pi * SMOOTHING**2)  # the sum of the squares of the Gaussian's weights
    return _blur(residual, SMOOTHING) / np.sqrt(weight)


def noise_of(frames: Real[ArrayLike, "N H W"]) -> tuple[float, float]:
    """Return variance (at least 0) and lag-1 autocorrelation of the noise, see `noise_level`."""
    variance, correlation = noise_level_of(frames)
    return max(variance, 0.0), correlation


def block_means(
    frames: Real[np.ndarray, "N H W"],
) -> tuple[Float64[np.ndarray, "N rows columns"], int]:
    """Return the means of blocks of 8 x 8 pixels and their number of pixels.

    The blocks are smaller where the frames are. Rows and columns beyond the last whole block are
    left out.
    """
    side_y, side_x = (min(BLOCK, length) for length in frames.shape[1:])
    rows, columns = frames.shape[1] // side_y, frames.shape[2] // side_x
    blocks = frames[:, : rows * side_y, : columns * side_x].reshape(
        len(frames), rows, side_y, columns, side_x
    )
    return blocks.mean(axis=(2, 4), dtype=np.float64), side_y * side_x


def identical_frames(frames: Real[np.ndarray, "N H W"]) -> tuple[tuple[int, int], ...]:
    """Return the pairs (first, repetition) of frames of identical pixels, counted from 1."""
    first: dict[bytes, int] = {}
    owners = [first.setdefault(frame.tobytes(), number) for number, frame in enumerate(frames, 1)]
    return tuple((owner, number) for number, owner in enumerate(owners, 1) if owner != number)


def modulation(psf: Real[ArrayLike, "h w"], frequency: float) -> float:
    """Return the contrast, from 0 to 1, that a PSF leaves to stripes: the mean over y and x.

    Args:
        psf: (h, w).
        frequency: of the stripes in cycles per pixel.
    """
    lines = [np.asarray(psf, float).sum(axis=axis) for axis in (0, 1)]
    waves = [np.exp(-2j * np.pi * frequency * np.arange(len(line))) for line in lines]
    return float(
        np.mean([abs(line @ wave) / line.sum() for line, wave in zip(lines, waves, strict=True)])
    )


def _step(values):
    """Distance of neighbouring grey levels of sorted values; 0 if they are not discrete."""
    steps = np.diff(values.astype(np.float64))
    if len(steps) == 0:
        return 0.0
    step = steps.min()
    whole = np.abs(steps / step - np.rint(steps / step)).max() < 1e-3
    return float(step) if whole and np.ptp(values) / step < 2**17 else 0.0


def _pile(counts):
    """Pixels at the extreme grey level, the first, if they pile up there.

    In the tail of a distribution there would be fewer than at the next level.
    """
    return int(counts[0]) if len(counts) > 1 and counts[0] > counts[1] else 0


def _spectrum(residual):
    """`Spectrum`, and each ring's relative error by chance."""
    centred = residual - residual.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0)
    radius = np.hypot(np.fft.fftfreq(residual.shape[1])[:, None], np.fft.fftfreq(residual.shape[2]))
    # The last ring holds the corners, and is left out.
    ring = np.minimum((radius / _RING).astype(int), round(0.5 / _RING))
    ring[0, 0] = ring.max()
    inside = ring < round(0.5 / _RING)
    coefficients = np.bincount(ring[inside])
    present = coefficients > 0  # small frames have no coefficient in some rings
    count = coefficients[present]
    means, frequencies = (
        np.bincount(ring[inside], values[inside])[present] / count for values in (power, radius)
    )
    fine = frequencies > _FINE
    white = means[fine].mean() if fine.any() else means.mean()
    # The standard deviation of a coefficient's power is its mean. Each coefficient comes twice,
    # since the spectrum of a real image is symmetric.
    errors = _ERRORS * np.sqrt(2 / (count * len(residual)))
    return Spectrum(frequencies, means / (white or 1)), errors


def _levels(residual, denoised):
    edges = np.unique(np.quantile(denoised, np.linspace(0, 1, _LEVELS + 1)))
    place = np.clip(
        np.searchsorted(edges, denoised.ravel(), side="right") - 1, 0, max(len(edges) - 2, 0)
    )
    count = np.maximum(np.bincount(place), 1)
    level, mean, square = (
        np.bincount(place, values.ravel()) / count
        for values in (denoised, residual, residual.astype(np.float64) ** 2)
    )
    return Levels(level, mean, np.sqrt(np.maximum(square - mean**2, 0)))


def _local_variance(residual):
    return np.maximum(_blur(residual**2, _NEIGHBOURHOOD), 1e-30)


def _blur(images, sigma):
    """Of images that differ in size from file to file: SciPy compiles no program for each."""
    return gaussian_filter(images, (0, sigma, sigma))
