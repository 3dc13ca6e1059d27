"""How far the frames of a movie are displaced against each other. Host side.

Drift of the stage, breathing, jitter of a scanner: the whole field moves, by fractions of a pixel
to tens of pixels. Each frame is registered to the mean of all others (`registration`), in three
passes over the frames: one that follows the movement from frame to frame, and two with a template
made of all frames. Memory does not grow with the frames, except for their places.

Whether there is drift at all is decided with the frames' own noise: the two halves of the field, the
squares of a chess board, are registered on their own, and must move alike, by more than the error of
that. Cells that light up, and objects that move on their own, move only one of the halves.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from jaxdenoise.imaging import registration
from jaxdenoise.imaging.hotpixels import Framed

_SMALLEST = 32  # pixels a side
_MOST = 384  # pixels a side; larger frames are binned, which costs no precision that matters
_FOLLOWED = 0.25  # of the frame's sides, how far it may jump from one frame to the next
# Standard deviations of its noise by which a frame's highest correlation must stand out. The
# highest of some thousand places with noise only is 4.5.
_DETECTED = 6.0
_CALIBRATED = 48  # frames, evenly spread, whose noise is measured
_SURE = 5.0  # standard errors by which the halves' common movement must stand out
_LEAST = 0.1  # pixels: root mean square of a drift that is worth an interpolation
_LEAST_SHARE = 0.5  # of the frames must be found in the template
_OUTLIER = 3.0  # standard errors between the halves' places, from which they count less


class Drift(NamedTuple):
    """Where the frames of a movie lie.

    Attributes:
        shifts: (N, 2) float32, (y, x) in pixels by which the content of each frame is displaced,
            down and to the right; their mean is 0. All are exactly 0 if there is no drift.
        errors: (N, 2) float32, their standard errors in pixels; infinite where a frame shows
            nothing of the others.
        found: whether there is drift.
        text: what was found, in one line.
    """

    shifts: Float[np.ndarray, "N 2"]
    errors: Float[np.ndarray, "N 2"]
    found: bool
    text: str

    def between(self, frame: int, neighbour: int) -> Float[np.ndarray, " 2"]:
        """Return the shift that moves a neighbour into a frame's position (`shift_image`)."""
        return self.shifts[frame] - self.shifts[neighbour]


def measure_drift(frames: Framed) -> Drift:
    """Measure the displacement of each frame against the mean of all, or that there is none.

    Frames may be noisy (a single one need not show the scene to the eye), have offsets of rows and
    columns, hot pixels and gaps, change their brightness, and hold cells that light up. The field
    must move as a whole, by at most three quarters of its sides over the movie and a quarter from
    one frame to the next.

    Source: Knapp and Carter, "The generalized correlation method for estimation of time delay",
        IEEE Trans. ASSP 24 (1976), for the most likely weights of frequencies; Guizar-Sicairos,
        Thurman and Fienup, "Efficient subpixel image registration algorithms", Optics Letters 33
        (2008), for correlations between pixels.

    Args:
        frames: (N, H, W) array in grey levels, or anything that reads ``frames[n, rows, columns]``,
            three times each, in order. Pixels that are not finite are no data.

    Returns:
        `Drift`. Frames that are too few, too small, constant or without common structure have none.
    """
    count, height, width = frames.shape
    binning = -(-max(height, width) // _MOST)
    if count < 2 or min(height, width) // binning < _SMALLEST:
        return _none(count, "not looked for: fewer than 2 frames, or fewer than 32 pixels a side")
    reader = _Reader(frames, binning)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        noise = _noise_of_differences(reader)
        if noise is None:
            return _none(count, "none: the frames are constant, or equal")
        places, sums = _follow(reader, noise)
        for _ in range(2):
            noise = _noise_beside(reader, sums, places)
            places, halves, errors, sums = _refine(reader, sums, noise, places)
        return _judge(places, halves, errors, binning)


class _Reader:
    """Frames as they are registered, and their common geometry."""

    def __init__(self, frames, binning):
        self.frames, self.binning = frames, binning
        self.count = frames.shape[0]
        self.field = registration.Field(tuple(n // binning for n in frames.shape[1:]))
        self.scale = 1.0

    def __getitem__(self, n):
        frame = np.asarray(self.frames[n, :, :])
        return registration.prepare(frame, self.binning) * np.float32(self.scale)

    def spread(self, most, last):
        return np.unique(np.linspace(0, last, min(most, last + 1)).round().astype(int))


def _noise_of_differences(reader):
    """Noise by the differences of successive frames; movement counts as noise, too."""
    field, power = reader.field, 0.0
    chosen = reader.spread(_CALIBRATED // 2, reader.count - 2)
    stds = [float(np.std(reader[n])) for n in chosen]
    scale = float(np.median(stds))
    if not (np.isfinite(scale) and scale > 0):
        return None
    reader.scale = 1 / scale
    for n in chosen:
        difference = (reader[n + 1] - reader[n]) * field.window
        power = power + field.power(field.spectrum(difference)) / 2
    return _whitened(field, power / len(chosen), 1.0)


def _whitened(field, power, variance):
    """Noise of that power at each frequency, of frames multiplied by the window."""
    density = power / np.sum(field.window**2)
    highest = float(density.max())
    if not (np.isfinite(highest) and highest > 0):
        return None
    # Where there is no noise at all, such as in frames without rows' means, nothing is gained.
    return registration.Noise(1 / np.sqrt(np.maximum(density, 1e-4 * highest)), variance)


def _follow(reader, noise):
    """First pass: each frame is registered to the mean of those before it."""
    field = reader.field
    places, sums = np.zeros((reader.count, 2)), registration.Sums(field)
    template = None
    radius = [int(_FOLLOWED * n) for n in field.shape]
    for n in range(reader.count):
        spectrum = field.spectrum(reader[n] * field.window)
        last = places[n - 1] if n else np.zeros(2)
        places[n] = last
        if n:
            # The mean is made anew when a quarter of its frames are new.
            if template is None or n >= 1.25 * template.count:
                template = registration.make_template(sums, noise)
            product = spectrum * template.mask
            place, value = registration.peak(field, product, last, radius)
            inside = np.all(np.ptp([*places[:n], place], axis=0) < 2 * np.array(field.reach))
            if value > _DETECTED * np.sqrt(template.energy) and inside:
                places[n] = registration.climb(field, product, place, template.energy).shift
        sums.add(spectrum, places[n])
    return places, sums


def _noise_beside(reader, sums, places):
    """Noise by what frames show besides the template: lit-up cells belong to it."""
    field = reader.field
    mean, _ = sums.mean()
    spectrum = np.fft.rfft2(mean)
    residuals, power = [], 0.0
    height, width = field.shape
    for n in reader.spread(_CALIBRATED, reader.count - 1):
        frame = reader[n]
        moved = np.fft.irfft2(spectrum * np.conj(field.phase(places[n])), field.size)
        moved = moved[:height, :width]
        gain = np.sum(field.window * frame * moved) / np.sum(field.window * moved**2)
        residual = np.float32((frame - gain * moved) * field.window)
        residuals.append((n, residual))
        power = power + field.power(field.spectrum(residual))
    # The template holds the frame itself.
    power = power / len(residuals) * sums.count / max(sums.count - 1, 1)
    noise = _whitened(field, power, 1.0)
    if noise is None or len(residuals) < _CALIBRATED // 2:
        return noise
    return noise._replace(variance=_variance(field, noise, residuals, places))


def _variance(field, noise, residuals, places):
    """The variance of whitened residuals at each place of the canvas, about 1 on average."""
    height, width = field.shape
    total, cover = np.zeros(field.size), np.zeros(field.size)
    for n, residual in residuals:
        white = np.fft.irfft2(noise.whitening * field.spectrum(residual), field.size)
        square = white[:height, :width] ** 2
        y, x = np.rint(places[n]).astype(int)
        rows, columns = (
            (np.arange(length) - d) % size
            for length, d, size in zip(field.shape, (y, x), field.size, strict=True)
        )
        total[np.ix_(rows, columns)] += square
        cover[np.ix_(rows, columns)] += field.window**2
    total, cover = (ndimage.gaussian_filter(part, 1.5, mode="wrap") for part in (total, cover))
    known = cover > 0.2 * cover.max()
    variance = np.where(known, total / np.where(known, cover, 1), 1)
    return np.float32(np.clip(variance, 0.25, None))


def _refine(reader, sums, noise, before):
    """One pass with a template of all other frames: places, halves' places and errors, new sums."""
    field = reader.field
    template = registration.make_template(sums, noise)
    new = registration.Sums(field)
    places, halves, errors = before.copy(), np.zeros((2, reader.count, 2)), []
    if not template.energy > 0:
        return before, halves, np.full((reader.count, 2), np.inf), sums
    for n in range(reader.count):
        frame = reader[n]
        parts = [field.spectrum(frame * half) for half in field.halves]
        spectrum = parts[0] + parts[1]
        mask = template.without(spectrum, field.phase(before[n]))
        found = [
            registration.find_place(field, part * mask, before[n], template.energy / share)
            for part, share in ((spectrum, 1), (parts[0], 2), (parts[1], 2))
        ]
        value = field.correlation(spectrum * mask, found[0].shift)[0, 0]
        if value > _DETECTED * np.sqrt(template.energy):
            places[n] = found[0].shift
            halves[:, n] = found[1].shift, found[2].shift
            errors.append(_error(found[0].information))
        else:
            errors.append(np.full(2, np.inf))
        new.add(spectrum, places[n])
    return places, halves, np.array(errors), new


def _error(information):
    if information[0, 0] <= 0 or np.linalg.det(information) <= 0:
        return np.full(2, np.inf)
    return np.maximum(np.sqrt(np.diag(np.linalg.inv(information))), 1e-3)


def _judge(places, halves, errors, binning):
    """Decide whether the halves move alike, and smooth the places as far as their errors ask."""
    count = len(places)
    known = np.isfinite(errors).all(axis=1)
    if known.sum() < max(2, _LEAST_SHARE * count):
        return _none(count, "none: the frames share too little structure for their noise")
    first, second = halves[:, known]
    apart = first - second
    # The halves' difference has twice the error of the whole, if the errors are right.
    ratio = np.abs(apart - np.median(apart, axis=0)) / (2 * errors[known])
    inflated = max(1.0, float(np.median(ratio) / 0.6745))
    errors = errors * inflated
    common, z = _common(first, second, errors[known])
    size = np.sqrt(max(common, 0)) * binning
    if not (z > _SURE and size > _LEAST):
        return _none(
            count,
            f"none: the halves of the field share a movement of {size:.2f} pixels, "
            f"{z:.1f} standard errors",
        )
    shifts, errors = _smoothed(places, errors)
    shifts, errors = (shifts - shifts[known].mean(axis=0)) * binning, errors * binning
    extent, error = np.ptp(shifts, axis=0).max(), np.median(errors[known])
    return Drift(
        np.float32(shifts),
        np.float32(errors),
        True,
        f"drift: the frames move by up to {extent:.1f} pixels against each other, "
        f"measured to {error:.2g} pixels ({z:.0f} standard errors)",
    )


def _common(first, second, errors):
    """Variance of the movement that both halves show, and its number of standard errors."""
    first, second = (part - np.median(part, axis=0) for part in (first, second))
    difference = first - second
    difference = difference - difference.mean(axis=0)
    count = len(first)
    total = float(np.sum(first * second))
    # Without common movement, the variance of that sum follows from the halves' own movements,
    # which may last for several frames: a cell that lights up does.
    spectrum = np.abs(np.fft.rfft(difference / 2**0.5, 2 * count, axis=0)) ** 2
    lags = np.fft.irfft(spectrum, axis=0)[:count] / np.arange(count, 0, -1)[:, None]
    weights = np.arange(count, 0, -1) * np.where(np.arange(count), 2, 1)
    longest = max(1, count // 4)
    slow = np.sum((weights[:, None] * np.maximum(lags, 0) ** 2)[:longest])
    fast = np.sum((2 * errors**2) ** 2)
    return total / (2 * count), total / np.sqrt(max(slow, fast))


def _smoothed(places, errors):
    """Places by a random walk whose steps' variance is the most likely one, and their errors."""
    variance = np.where(np.isfinite(errors), errors, 1e6) ** 2
    steps = np.geomspace(1e-3, 30, 24)[:, None] ** 2
    likely = _filter(places, variance, steps)[2].argmax(axis=0)
    step = steps[likely, 0][None]
    mean, spread, _ = _filter(places, variance, step)
    mean, spread, ahead = mean[:, 0], spread[:, 0], spread[:, 0] + step
    for n in range(len(places) - 2, -1, -1):
        gain = spread[n] / ahead[n]
        mean[n] += gain * (mean[n + 1] - mean[n])
        spread[n] += gain**2 * (spread[n + 1] - ahead[n])
    return mean, np.where(np.isfinite(errors), np.sqrt(spread), np.inf)


def _filter(places, variance, steps):
    """Kalman filter for each variance of a step (S, 1 or 2): means, variances, log likelihood."""
    shape = (len(places), len(steps), 2)
    means, spreads, likelihood = np.empty(shape), np.empty(shape), np.zeros(shape[1:])
    mean, spread = np.broadcast_to(places[0], shape[1:]), np.full(shape[1:], 1e6)
    for n, place in enumerate(places):
        spread = spread + (steps if n else 0)
        total = spread + variance[n]
        error = place - mean
        likelihood -= (error**2 / total + np.log(total)) / 2
        gain = spread / total
        mean, spread = mean + gain * error, spread * (1 - gain)
        means[n], spreads[n] = mean, spread
    return means, spreads, likelihood


def _none(count, text):
    zeros = np.zeros((count, 2), np.float32)
    return Drift(zeros, zeros.copy(), False, f"drift {text}")
