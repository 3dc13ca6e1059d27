"""A two-photon calcium movie whose truth is known, and its noise. NumPy and SciPy on the host.

`calcium_movie` draws what the microscope would show without noise, with the regions and the events
of its cells, so that a denoiser's peaks and onsets can be judged; `noisy_movie` adds the noise of a
detector. The same seed gives the same movie. `synthetic_volumes` draws a stack in depth.
"""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Float32, Float64, Int, Real, UInt16

__all__ = [
    "FRAME_RATE",
    "OFFSET",
    "READ_STD",
    "SIGNAL_RANGE",
    "CalciumMovie",
    "Events",
    "NoisyMovie",
    "calcium_movie",
    "noisy_movie",
]

FRAME_RATE = 30.0  # frames a second
SIGNAL_RANGE = 2000.0  # grey levels between the darkest and the brightest pixel of a signal
OFFSET = 500.0  # grey levels that the detector adds
READ_STD = 10.0  # standard deviation of the read noise in grey levels
_MARGIN = 8  # pixels around the movie, where things are drawn that reach into it
_SIDE = 128 + 2 * _MARGIN  # pixels a side for which the numbers of objects are given
_RISE = 0.05  # seconds of a transient's rise
_BLEACHED, _FLICKER, _FLICKER_PERIOD = 0.15, 0.03, 4.0  # shares; seconds
_SHARED = 0.3  # what each pixel of a row takes of its neighbours' noise: a correlation of 0.51
_ROW_OFFSETS = 0.2  # standard deviation of the rows' offsets over that of the noise


class Events(NamedTuple):
    """The transients of one cell.

    Attributes:
        frames: (n,) the frame in which each begins, ascending; one may stand twice.
        decay: seconds in which a transient falls to 1/e.
    """

    frames: Int[np.ndarray, " n"]
    decay: float


class CalciumMovie(NamedTuple):
    """A movie without noise, and what is known of the K cells that count.

    Attributes:
        signal: (T, H, W) float32 in grey levels above the offset, positive.
        regions: (K, H, W), the pixels of each cell.
        kinds: "soma" or "bouton" for each cell.
        events: the transients of each cell.
        shift: (T, 2) how far the scene has moved in each frame, (y, x) in pixels.
    """

    signal: Float32[np.ndarray, "T H W"]
    regions: Bool[np.ndarray, "K H W"]
    kinds: tuple[str, ...]
    events: tuple[Events, ...]
    shift: Float64[np.ndarray, "T 2"]


class NoisyMovie(NamedTuple):
    """What a detector records.

    Attributes:
        frames: (T, H, W) uint16 in grey levels, the offset included.
        gain: grey levels a photon.
    """

    frames: UInt16[np.ndarray, "T H W"]
    gain: float


class _Source(NamedTuple):
    """Something that shines: where, how brightly at rest, and how its brightness changes."""

    foot: Float[np.ndarray, "S S"]
    level: float
    change: Float[np.ndarray, " T"]  # relative to the brightness at rest, dF/F
    kind: str = ""
    place: tuple[float, float] = (0.0, 0.0)  # row and column, the margin included
    events: Events = Events(np.zeros(0, int), 0.0)


def calcium_movie(
    seed: int, *, frames: int = 300, size: int = 128, motion: float = 0.0, psf: float = 1.0
) -> CalciumMovie:
    """Draw a movie of a brain in vivo as a two-photon microscope shows it, without noise.

    24 somata (donuts of 10 to 14 pixels), 10 somata out of focus, 16 dendrites, 50 boutons, and
    neuropil in 128 x 128 pixels, at 30 frames a second. Cells have transients that rise in 0.05 s,
    decay in 0.3 to 1 s, saturate, and come at random, 0.15 to 0.6 a second. The movie bleaches by
    15 % and flickers by 3 %. Objects are as dense in movies of other sizes.

    Args:
        seed: The same one gives the same movie.
        frames: Number of frames T, at least 1.
        size: Pixels a side, at least 32.
        motion: Largest rigid motion along an axis in pixels: a slow walk, breathing, and jitter.
        psf: Sigma of the Gaussian PSF in pixels.

    Raises:
        ValueError: `frames` is less than 1, `size` less than 32, or `motion` or `psf` negative.
    """
    if frames < 1 or size < 32 or motion < 0 or psf < 0:
        raise ValueError(
            "expected frames >= 1, size >= 32, motion >= 0 and psf >= 0, "
            f"got {frames}, {size}, {motion} and {psf}"
        )
    rng, side = np.random.default_rng(seed), size + 2 * _MARGIN
    somata = _somata(rng, side, frames)
    sources = [
        *somata,
        *_blurred_somata(rng, side, frames),
        *_dendrites(rng, side, frames),
        *_boutons(rng, side, frames, [soma.place for soma in somata]),
        *_neuropil(rng, side, frames),
    ]
    sources = [one._replace(foot=scipy.ndimage.gaussian_filter(one.foot, psf)) for one in sources]
    scene = _lit(sources, frames)
    shift = _rigid_motion(rng, frames, motion)
    if motion:
        moved = [
            scipy.ndimage.shift(frame, by, order=3, mode="nearest")
            for frame, by in zip(scene, shift, strict=True)
        ]
        scene = np.stack(moved)
    scene = scene[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    extent = np.ptp(scene)
    # A little light is everywhere, so that no pixel is without photons.
    signal = (scene - scene.min() + 0.01 * extent) * (SIGNAL_RANGE / extent)
    cells = [one for one in sources if one.kind]
    return CalciumMovie(
        signal.astype(np.float32),
        np.stack([_region(cell) for cell in cells]),
        tuple(cell.kind for cell in cells),
        tuple(cell.events for cell in cells),
        shift,
    )


def noisy_movie(
    seed: int, signal: Real[np.ndarray, "T H W"], *, psnr: float, row_noise: bool = False
) -> NoisyMovie:
    """Record a movie or a volume with photon and read noise (10 grey levels).

    The gain is chosen so that the mean squared error of the noise gives the PSNR with the range of
    the signal as data range.

    Args:
        seed: The same one gives the same noise.
        signal: (T, H, W) in grey levels above the offset, not negative.
        psnr: In dB, before values are rounded and clipped to 16 bits.
        row_noise: Let neighbours along x share their noise (correlation 0.51, as behind a slow
            amplifier) and add an offset to each row of each frame, a fifth of the noise.

    Raises:
        ValueError: The read noise alone is more than the PSNR allows.
    """
    gain = (np.ptp(signal) ** 2 / 10 ** (psnr / 10) - READ_STD**2) / signal.mean()
    if not gain > 0:
        raise ValueError(
            f"psnr of {psnr} dB is out of reach with a read noise of {READ_STD} grey levels: "
            "give a lower one"
        )
    rng = np.random.default_rng(seed)
    noise = gain * rng.poisson(signal / gain) - signal
    noise += READ_STD * rng.standard_normal(signal.shape)
    if row_noise:
        kernel = np.array([_SHARED, 1, _SHARED]) / np.sqrt(1 + 2 * _SHARED**2)
        noise = scipy.ndimage.convolve1d(noise, kernel, axis=-1, mode="wrap")
        offsets = rng.standard_normal((*signal.shape[:-1], 1))
        noise += _ROW_OFFSETS * noise.std() * offsets
    frames = np.clip(np.rint(signal + noise + OFFSET), 0, np.iinfo(np.uint16).max)
    return NoisyMovie(frames.astype(np.uint16), float(gain))


def _somata(rng, side, frames):
    """Donuts in focus: elliptic, with a nucleus that is dark, 15 pixels apart or more."""
    sources = []
    for place in _apart(rng, side, _counted(24, side), margin=_MARGIN + 6, distance=15):
        radius = _elliptic_radius(side, place, rng.uniform(5, 7, 2), rng.uniform(0, np.pi))
        foot = np.where(radius < 0.55, 0.35, 1.0) * (radius < 1)
        rate, decay = rng.uniform(0.15, 0.6), rng.uniform(0.3, 1.0)
        change, begun = _transients(rng, frames, rate, decay)
        level = rng.lognormal(0, 0.25)
        sources.append(_Source(foot, level, change, "soma", tuple(place), Events(begun, decay)))
    return sources


def _blurred_somata(rng, side, frames):
    """Cells above and below the plane, which add slow haze and no region."""
    sources = []
    for _ in range(_counted(10, side)):
        radius = _elliptic_radius(side, rng.uniform(0, side, 2), (6, 6), 0)
        foot = scipy.ndimage.gaussian_filter((radius < 1).astype(float), 4)
        change, _ = _transients(rng, frames, 0.4, rng.uniform(0.4, 1.0))
        sources.append(_Source(foot, 1.5, change))
    return sources


def _dendrites(rng, side, frames):
    """Winding lines of 60 to 160 pixels, each with transients of its own."""
    sources = []
    for _ in range(_counted(16, side)):
        turns = 0.15 * rng.standard_normal(int(rng.uniform(60, 160)))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turns)
        steps = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
        path = np.rint(rng.uniform(0, side, 2) + steps).astype(int)
        path = path[((path >= 0) & (path < side)).all(axis=1)]
        foot = np.zeros((side, side))
        foot[tuple(path.T)] = 1
        change, _ = _transients(rng, frames, 0.3, rng.uniform(0.3, 0.8))
        sources.append(_Source(2.5 * scipy.ndimage.gaussian_filter(foot, 0.6), 0.9, change))
    return sources


def _boutons(rng, side, frames, somata):
    """Spots with fast and large transients, 6 pixels apart and 10 from the somata."""
    sources = []
    places = _apart(
        rng, side, _counted(50, side), margin=_MARGIN + 4, distance=6, others=somata, clear=10
    )
    for place in places:
        foot = np.exp(-(_elliptic_radius(side, place, (0.8, 0.8), 0) ** 2) / 2)
        change, begun = _transients(rng, frames, 0.35, 0.3, median=1.2)
        level = rng.uniform(1.2, 2.2)
        sources.append(_Source(foot, level, change, "bouton", tuple(place), Events(begun, 0.3)))
    return sources


def _neuropil(rng, side, frames):
    """Six coarse clouds and a fine texture, whose brightness wanders over seconds."""
    edge = 100  # frames at both ends, where the smoothing would see the border
    wander = rng.standard_normal((7, frames + 2 * edge))
    wander = scipy.ndimage.gaussian_filter1d(wander, 0.5 * FRAME_RATE, axis=1)[:, edge:-edge]
    wander /= np.maximum(wander.std(axis=1, keepdims=True), 1e-6)
    sources = []
    for number in range(7):
        coarse = number < 6
        smooth, spread, mean, darkest = (8, 0.25, 0.35, 0.05) if coarse else (0.8, 0.35, 0.5, 0.0)
        cloud = scipy.ndimage.gaussian_filter(rng.standard_normal((side, side)), smooth)
        foot = np.maximum(spread * cloud / cloud.std() + mean, darkest)
        level, swing = (0.28, 0.15) if coarse else (0.5, 0.12)
        sources.append(_Source(foot, level, swing * wander[number]))
    return sources


def _lit(sources, frames):
    """The sum of all sources over time, bleaching and flickering."""
    t = np.arange(frames)
    flicker = np.sin(2 * np.pi * t / (_FLICKER_PERIOD * FRAME_RATE))
    lamp = np.exp(-_BLEACHED * t / frames) * (1 + _FLICKER * flicker)
    light = np.stack([one.level * (1 + one.change) for one in sources], axis=1)
    light = np.maximum(light, 0) * lamp[:, None]
    return np.tensordot(light, np.stack([one.foot for one in sources]), 1)


def _transients(rng, frames, rate, decay, *, median=0.7):
    """Return dF/F (T,) of a cell with `rate` events a second, and the frames where they begin."""
    begun = np.sort(rng.integers(0, frames, rng.poisson(rate * frames / FRAME_RATE)))
    train = np.zeros(frames)
    np.add.at(train, begun, rng.lognormal(np.log(median), 0.4, len(begun)))
    t = np.arange(int(5 * FRAME_RATE)) / FRAME_RATE
    transient = (1 - np.exp(-(t + 1 / FRAME_RATE) / _RISE)) * np.exp(-t / decay)
    change = np.convolve(train, transient / transient.max())[:frames]
    return change / (1 + change / 3), begun  # the indicator saturates


def _rigid_motion(rng, frames, most):
    """Return (T, 2) shifts: a slow walk, breathing at 1.3 Hz, and jitter, `most` at the peak."""
    if not most:
        return np.zeros((frames, 2))
    edge = 100
    walk = rng.standard_normal((frames + 2 * edge, 2))
    walk = scipy.ndimage.gaussian_filter1d(walk, 0.3 * FRAME_RATE, axis=0)[edge:-edge]
    breath = np.sin(2 * np.pi * 1.3 * np.arange(frames) / FRAME_RATE)
    shift = walk / np.abs(walk).max() + 0.3 * breath[:, None] * (1.0, 0.5)
    shift += 0.15 * rng.standard_normal((frames, 2))
    return shift * (most / np.abs(shift).max())


def _region(cell):
    """The pixels of a cell: a soma's bright part, or 3 x 3 pixels around a bouton."""
    foot = cell.foot[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    if cell.kind == "soma":
        return foot > 0.35 * foot.max()
    row, column = (round(place) - _MARGIN for place in cell.place)
    region = np.zeros(foot.shape, bool)
    region[row - 1 : row + 2, column - 1 : column + 2] = True
    return region


def _apart(rng, side, count, *, margin, distance, others=(), clear=0):
    """Draw places at least so far from each other and from others; fewer than `count` if full."""
    places: list[np.ndarray] = []
    for _ in range(400 * count):
        place = rng.uniform(margin, side - margin, 2)
        if all(np.hypot(*(place - other)) > distance for other in places) and all(
            np.hypot(*(place - other)) > clear for other in others
        ):
            places.append(place)
        if len(places) == count:
            break
    return places


def _elliptic_radius(side, place, axes, angle):
    """The distance from a place of each pixel (S, S), in units of the half axes."""
    down, right = np.arange(side)[:, None] - place[0], np.arange(side) - place[1]
    along = down * np.sin(angle) + right * np.cos(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    return np.hypot(along / axes[0], across / axes[1])


def _counted(number, side):
    """How many objects there are where there are `number` on 144 x 144 pixels."""
    return max(round(number * (side / _SIDE) ** 2), 1)
