"""How far the frames of a movie are displaced against each other. Host side.

Drift of the stage, breathing, jitter of a scanner: the whole field moves, by fractions of a pixel
to tens of pixels. Each frame is registered to the mean of others (`registration`), in three passes
over the frames: one follows the movement from frame to frame, two use means of all frames. Memory
does not grow with the frames, except for their places.

Whether there is drift at all is decided on the frames themselves: the two halves of the field, the
black and the white squares of a chess board, are registered each on its own, with means of their
own. Where one of them lies must predict where the other does, by more than the standard error of
that. Noise, cells that light up, and objects that move on their own, move the halves independently.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import fft, ndimage

from jaxdenoise.imaging import registration
from jaxdenoise.imaging.hotpixels import Framed
from jaxdenoise.imaging.registration import FOLDS
from jaxdenoise.imaging.tracks import between, common_movement, inflation, smoothed

_SMALLEST = 32  # pixels a side
_MOST = 384  # pixels a side; larger frames are binned, which costs no precision that matters
_FOLLOWED = 0.25  # of the frame's sides, how far it may jump from one frame to the next
# Standard deviations of its noise by which a frame's highest correlation must stand out. The
# highest of some thousand places with noise only is 4.5.
_DETECTED = 6.0
_CALIBRATED = 48  # frames, evenly spread, whose noise is measured
_QUIETEST = 0.1  # of the frequencies
# Standard errors by which the halves' common movement must stand out. Of 70 still movies
# (experiments/drift.py) the highest had 4.7, with coloured noise four times as strong as the scene;
# jitter of 0.5 pixels has above 100 at twice that contrast.
_SURE = 8.0
_LEAST = 0.1  # pixels: root mean square of a drift that is worth an interpolation
_LEAST_SHARE = 0.5  # of the frames must be found in the template
# Of so many frames, a third is looked at first. Where the halves do not even share movement by so
# many standard errors, there is none; else all frames decide.
_MANY, _SOME, _UNSURE = 48, 3, 2.0


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
            three times each, in order, and some of many frames once more. Pixels that are not
            finite are no data.

    Returns:
        `Drift`. Frames that are too few, too small, constant or without common structure have none.
    """
    count, height, width = frames.shape
    binning = -(-max(height, width) // _MOST)
    if count < 2 or min(height, width) // binning < _SMALLEST:
        return _none(count, "fewer than 2 frames, or fewer than 32 pixels a side")
    reader = registration.Reader(frames, binning)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        text = _said_by_some(reader) if count >= _MANY else None
        if text is not None:
            return _none(count, text)
        found = _measure_halves(reader)
        if isinstance(found, str):
            return _none(count, found)
        halves, errors, sums = found
        text = _reason_against(halves, errors, binning)
        if text is not None:
            return _none(count, text)
        factor = inflation(halves, errors)
        places = between(halves, errors)
        noise = _noise_beside(reader, sums, places, reader.field.window)
        places, errors = _refine(reader, sums, noise, places)
        return _finished(places, errors * factor, binning)


def _said_by_some(reader):
    """Why some of the frames, evenly spread, say that there is no drift; None: ask them all.

    They are drawn at random: what has a period must not look still.
    """
    count = reader.count
    chosen = np.random.default_rng(0).choice(count, count // _SOME, replace=False)
    found = _measure_halves(reader.of_frames(np.sort(chosen).tolist()))
    if isinstance(found, str) or not _enough(found[1]):
        return None
    halves, errors, _ = found
    return _reason_against(halves, errors, reader.binning, _UNSURE)


def _measure_halves(reader):
    """Places and errors of both halves of each frame, and sums; or why there are none."""
    noise = _noise_of_differences(reader)
    if noise is None:
        return "the frames are constant, or equal"
    tracks = _follow(reader, noise)
    noises = [_noise_beside(reader, track.sums, track.places, track.window) for track in tracks]
    if None in noises:
        return "the frames are equal"
    return _refine_halves(reader, tracks, noises)


def _noise_of_differences(reader):
    """Noise by the differences of successive frames; none if they do not differ.

    Movement differs, too, where the scene has detail. So a frequency is given no more noise than
    the quietest tenth has, which PSFs leave to noise: all noise is white, for the first pass.
    """
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
    power = np.minimum(power, np.quantile(power, _QUIETEST))
    return _whitened(field, power / len(chosen), np.sum(field.window**2))


def _whitened(field, power, total):
    """Noise of that power at each frequency; `total` is the sum of the window's squares."""
    density = power / total
    highest = float(density.max())
    if not (np.isfinite(highest) and highest > 0):
        return None
    # Where there is no noise at all, such as in frames without rows' means, nothing is gained.
    return registration.Noise(1 / np.sqrt(np.maximum(density, 1e-4 * highest)), 1.0)


def _follow(reader, noise):
    """First pass: each half of each frame is registered to the mean of those before it."""
    tracks = [_Track(reader, half) for half in reader.field.halves]
    for n in range(reader.count):
        frame = reader[n]
        for track in tracks:
            track.follow(n, frame, noise)
    return tracks


class _Track:
    """The places of a half of each frame, by that half alone."""

    def __init__(self, reader, window):
        field = self.field = reader.field
        self.window, self.sums = window, registration.Sums(field, window)
        self.places = np.zeros((reader.count, 2))
        self.template, self.low, self.high = None, np.zeros(2), np.zeros(2)
        self.radius = [int(_FOLLOWED * n) for n in field.shape]

    def follow(self, n, frame, noise):
        spectrum = self.field.spectrum(frame * self.window)
        if n:
            self.places[n] = self.places[n - 1]
            # The mean is made anew when a quarter of its frames are new.
            if self.template is None or n >= 1.25 * self.template.frames:
                self.template = registration.make_template(self.sums, noise)
            place = registration.find_place(
                self.field, spectrum, self.template, self.places[n], self.radius
            )
            low, high = np.minimum(self.low, place.shift), np.maximum(self.high, place.shift)
            if place.value > _DETECTED and all(high - low < 2 * self.field.reach):
                self.places[n], self.low, self.high = place.shift, low, high
        self.sums.add(n, spectrum, self.places[n])


def _noise_beside(reader, sums, places, window):
    """Noise by what frames show besides the template: lit-up cells belong to it."""
    field = reader.field
    (height, width), total = field.shape, np.sum(window**2)
    spectra = [fft.rfft2(sums.mean(fold)[0]) for fold in range(min(FOLDS, reader.count))]
    residuals, power = [], 0.0
    for n in reader.spread(_CALIBRATED, reader.count - 1):
        frame = reader[n]
        moved = fft.irfft2(spectra[n % FOLDS] * np.conj(field.phase(places[n])), field.size)
        moved = moved[:height, :width]
        gain = np.sum(window * frame * moved) / np.sum(window * moved**2)
        residual = np.float32((frame - gain * moved) * window)
        residuals.append((n, residual))
        power = power + field.power(field.spectrum(residual))
    noise = _whitened(field, power / len(residuals), total)
    if noise is None or len(residuals) < _CALIBRATED // 2:
        return noise
    return noise._replace(variance=_variance(field, noise, residuals, places, window))


def _variance(field, noise, residuals, places, window):
    """The variance of whitened residuals at each place of the canvas, about 1 on average."""
    height, width = field.shape
    total, cover = np.zeros(field.size), np.zeros(field.size)
    for n, residual in residuals:
        white = fft.irfft2(noise.whitening * field.spectrum(residual), field.size)
        rows, columns = (
            (np.arange(length) - round(float(d))) % size
            for length, d, size in zip(field.shape, places[n], field.size, strict=True)
        )
        total[np.ix_(rows, columns)] += white[:height, :width] ** 2
        cover[np.ix_(rows, columns)] += window**2
    total, cover = (ndimage.gaussian_filter(part, 1.5, mode="wrap") for part in (total, cover))
    known = cover > 0.2 * cover.max()
    variance = np.where(known, total / np.where(known, cover, 1), 1)
    return np.float32(np.clip(variance, 0.25, None))


def _refine_halves(reader, tracks, noises):
    """Second pass: places of both halves, their errors, and the sums of whole frames between."""
    field = reader.field
    templates = [_templates(track.sums, noise) for track, noise in zip(tracks, noises, strict=True)]
    places, errors = np.zeros((2, reader.count, 2)), np.zeros((2, reader.count, 2))
    apart = np.median(tracks[1].places - tracks[0].places, axis=0)
    sums = registration.Sums(field, field.window)
    for n in range(reader.count):
        frame = reader[n]
        whole = np.zeros(field.bins.shape, np.complex64)
        for half, track in enumerate(tracks):
            spectrum = field.spectrum(frame * track.window)
            place = _found(field, spectrum, templates[half][n % FOLDS], track.places[n])
            places[half, n], errors[half, n] = place
            whole = whole + spectrum
        places[1, n] -= apart
        sums.add(n, whole, between(places[:, n], errors[:, n]))
    return places, errors, sums


def _refine(reader, sums, noise, before):
    """Third pass: places and errors of whole frames."""
    templates = _templates(sums, noise)
    found = []
    for n in range(reader.count):
        spectrum = reader.field.spectrum(reader[n] * reader.field.window)
        found.append(_found(reader.field, spectrum, templates[n % FOLDS], before[n]))
    places, errors = zip(*found, strict=True)
    return np.array(places), np.array(errors)


def _templates(sums, noise):
    folds = range(min(FOLDS, sums.counts.sum()))
    return [registration.make_template(sums, noise, fold) for fold in folds]


def _found(field, spectrum, template, before):
    """Where a frame lies, and the error of that; infinite where it cannot be told."""
    place = registration.find_place(field, spectrum, template, before)
    error = _error(place.information)
    if place.value > _DETECTED and np.isfinite(error).all():
        return place.shift, error
    return before, np.full(2, np.inf)


def _error(information):
    if information[0, 0] <= 0 or np.linalg.det(information) <= 0:
        return np.full(2, np.inf)
    return np.maximum(np.sqrt(np.diag(np.linalg.inv(information))), 1e-3)


def _reason_against(halves, errors, binning, sure=_SURE):
    """Why there is no drift, in one line; None if both halves of the field move alike."""
    if not _enough(errors):
        return "the frames share too little structure for their noise"
    known = _known(errors)
    common, z = common_movement(halves[:, known], errors[:, known])
    size = np.sqrt(max(common, 0)) * binning
    if z > sure and size > _LEAST:
        return None
    return f"the halves of the field share {size:.2f} pixels, {z:.1f} standard errors"


def _known(errors):
    return np.isfinite(errors).all(axis=(0, 2))


def _enough(errors):
    known = _known(errors)
    return known.sum() >= max(2, _LEAST_SHARE * len(known))


def _finished(places, errors, binning):
    """Places smoothed as far as their errors ask, about their mean, in pixels of the frames."""
    shifts, errors = smoothed(places, errors)
    known = np.isfinite(errors).all(axis=1)
    shifts, errors = (shifts - shifts[known].mean(axis=0)) * binning, errors * binning
    extent, error = np.ptp(shifts, axis=0).max(), np.median(errors[known])
    text = (
        f"drift: the frames move by up to {extent:.1f} pixels against each other, "
        f"measured to {error:.2g} pixels"
    )
    return Drift(shifts.astype(np.float32), errors.astype(np.float32), True, text)


def _none(count, text):
    zeros = np.zeros((count, 2), np.float32)
    return Drift(zeros, zeros.copy(), False, f"no drift: {text}")
