"""Random moving scenes without noise, on which a network for movies and stacks is trained.

    from common.moving_scenes import moving_scene, volume_scene_random

    rng = np.random.default_rng(0)
    movie = moving_scene(rng, frames=64, size=128)            # (64, 128, 128) float32
    stack = volume_scene_random(rng, depth=32, size=128)      # (32, 128, 128) float32
    photons = level * movie                                   # level: mean photons a pixel
    noisy = rng.poisson(photons) + read_std * rng.standard_normal(photons.shape)

A movie is a random mixture of what moves under a microscope: cells with calcium transients in focus
and out of it, boutons, dendrites, waving filaments, travelling vesicles, blinking molecules,
crawling cells, waves, membranes and tissue; seen through one Gaussian PSF, with drift, jitter,
bleaching, flicker and flashes. One scene in seven is still. Scenes are not negative and have mean
1, so a factor makes photons of them; the brightest pixel is 1.5 to several hundred times the mean.
The same generator and state draw the same scene. NumPy and SciPy, host side; a movie of
64 x 128 x 128 takes 0.1 to 0.7 seconds on one core, a stack of 32 x 128 x 128 0.1 to 1.2.
"""

from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.spatial

from common.random_traces import blinking, flash, lamp, smooth_noise, transients
from common.random_volumes import volume_scene_random
from common.stamps import clouds, curves, log_uniform, put_ellipses, put_points, put_spots

__all__ = ["moving_scene", "volume_scene_random"]

PSF_SIGMAS = 0.6, 2.5  # pixels
STILL = 0.14  # share of the scenes in which nothing changes
_MARGIN = 12  # pixels around the scene: room for shifts of 2 pixels and for the PSF's tail


class _Stage(NamedTuple):
    """Where a part of a scene is drawn: `side` pixels a side, the margin included."""

    rng: np.random.Generator
    frames: int
    side: int
    psf: float

    def movie(self):
        return np.zeros((self.frames, self.side, self.side), np.float32)

    def places(self, count):
        return self.rng.uniform(0, self.side, (count, 2))

    def count(self, typical, spread, most):
        """A number of objects: log-normal, typical for 150 x 150 pixels."""
        drawn = self.rng.lognormal(np.log(typical), spread) * (self.side / 150) ** 2
        return int(np.clip(round(drawn), 1, most))


def moving_scene(rng, frames, size):
    """Draw a movie (T, H, W) float32 without noise: not negative, mean 1.

    Args:
        rng: a `numpy.random.Generator`.
        frames: number of frames T, at least 1.
        size: pixels a side.
    """
    still = rng.random() < STILL
    psf = log_uniform(rng, *PSF_SIGMAS)
    stage = _Stage(rng, 1 if still else frames, size + 2 * _MARGIN, psf)
    movie = sum(rng.lognormal(-0.3, 0.6) * part(stage) for part in _chosen_parts(rng))
    movie = _seen(movie, psf, _shifts(stage))
    if still:
        movie = np.repeat(movie, frames, axis=0)
    # A scene that happens to be empty becomes even light.
    movie += max(movie.mean(), 0.01) * rng.choice([0.02, rng.lognormal(-1.2, 1)])
    if not still:
        movie = movie * lamp(rng, frames)[:, None, None] + flash(rng, frames) * movie.mean()
    return (movie / movie.mean()).astype(np.float32)


def _chosen_parts(rng):
    """One to four parts of any kind, or, in one scene of four, those of a brain in vivo."""
    if rng.random() < 0.25:
        brain = _cells, _blurred_cells, _dendrites, _boutons, _neuropil
        return [part for part in brain if rng.random() < 0.8] or [_cells]
    count = rng.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15])
    return [_PARTS[index] for index in rng.choice(len(_PARTS), count, p=_SHARES)]


def _seen(movie, psf, shifts):
    """Blur each frame by the PSF, move it by its shift in pixels, and cut the margin off."""
    side = movie.shape[-1]
    y, x = scipy.fft.fftfreq(side)[:, None], scipy.fft.rfftfreq(side)
    transfer = np.exp(-2 * (np.pi * psf) ** 2 * (y**2 + x**2)).astype(np.float32)
    down, right = np.moveaxis(np.asarray(shifts, np.float32), 1, 0)
    phase_y = np.exp(-2j * np.pi * down[:, None, None] * y).astype(np.complex64)
    phase_x = np.exp(-2j * np.pi * right[:, None, None] * x).astype(np.complex64)
    spectrum = scipy.fft.rfft2(movie) * transfer * phase_y * phase_x
    inner = slice(_MARGIN, side - _MARGIN)
    return np.maximum(scipy.fft.irfft2(spectrum, s=(side, side))[:, inner, inner], 0)


def _shifts(stage):
    """Whole-scene motion (T, 2) of at most 2 pixels: none, drift, jitter, or a sudden step."""
    rng, frames = stage.rng, stage.frames
    shifts = np.zeros((frames, 2))
    if frames == 1 or rng.random() < 0.45:
        return shifts
    if rng.random() < 0.6:
        smooth = log_uniform(rng, 3, 60)
        walk = smooth_noise(rng, 2, frames, smooth).T
        shifts += rng.uniform(0, 1.5) * walk / max(np.abs(walk).max(), 1e-6)
    if rng.random() < 0.4:
        shifts += log_uniform(rng, 0.03, 0.5) * rng.standard_normal((frames, 2))
    if rng.random() < 0.15:
        shifts[rng.integers(frames) :] += rng.uniform(-1.5, 1.5, 2)
    return np.clip(shifts, -2, 2)


def _lit(feet, brightness):
    """The movie of objects that stay where they are: (K, H, W) and (K, T) to (T, H, W)."""
    flat = brightness.T.astype(np.float32) @ feet.reshape(len(feet), -1)
    return flat.reshape(-1, *feet.shape[1:])


def _cell_feet(stage):
    """Donuts, discs or ellipses (K, H, W), sparse to crowded, of one size a scene."""
    rng = stage.rng
    radius = log_uniform(rng, 2.5, 13)
    count = stage.count(rng.uniform(0.05, 0.8) * 150**2 / (4 * radius**2), 0.3, 100)
    places = stage.places(4 * count)
    kept = []
    for place in places:
        if all(np.hypot(*(place - other)) > 1.7 * radius for other in kept):
            kept.append(place)
    places = np.array(kept[:count])
    count = len(places)
    long = radius * rng.uniform(0.8, 1.3, count)
    short = long * rng.uniform(rng.choice([0.4, 0.75]), 1, count)
    hollow = rng.choice([0, 0.3, 0.65]) * rng.uniform(0.7, 1.3)
    feet = np.zeros((count, stage.side, stage.side), np.float32)
    put_ellipses(
        feet,
        np.arange(count),
        places,
        long,
        short,
        rng.uniform(0, np.pi, count),
        level=rng.lognormal(0, rng.uniform(0.1, 0.8), count),
        edge=rng.uniform(0.3, 1),
        hollow=hollow,
    )
    return feet * np.exp(rng.uniform(0, 0.25) * clouds(rng, feet.shape[1:], 1.2))


def _cells(stage):
    feet = _cell_feet(stage)
    return _lit(feet, transients(stage.rng, len(feet), stage.frames))


def _blurred_cells(stage):
    feet = scipy.ndimage.gaussian_filter(
        _cell_feet(stage)[:40], (0, *[stage.rng.uniform(2.5, 7)] * 2), truncate=3
    )
    return _lit(1.5 * feet, transients(stage.rng, len(feet), stage.frames))


def _boutons(stage):
    rng = stage.rng
    count = stage.count(50, 0.8, 150)
    places = stage.places(count)
    if rng.random() < 0.4:  # in rows along fibres
        paths = curves(rng, max(count // 8, 1), 160, stage.side, 0.08)
        places = paths.reshape(-1, 2)[rng.integers(0, paths[..., 0].size, count)]
    feet = np.zeros((count, stage.side, stage.side), np.float32)
    radius = rng.uniform(0.4, 1.2) * rng.uniform(0.8, 1.2, count)
    level = rng.lognormal(0, 0.5, count)
    put_spots(feet, np.arange(count), places, radius, level, stage.psf)
    return _lit(feet, transients(rng, count, stage.frames))


def _dendrites(stage):
    rng = stage.rng
    count = stage.count(14, 0.8, 50)
    paths = curves(rng, count, int(rng.uniform(80, 350)), stage.side, log_uniform(rng, 0.01, 0.15))
    width = rng.uniform(0.3, 1.6)
    feet = np.zeros((count, stage.side, stage.side), np.float32)
    weight = rng.lognormal(0, 0.5, count)[:, None] * np.hypot(width, stage.psf)
    index = np.broadcast_to(np.arange(count)[:, None], paths.shape[:2])
    put_points(feet, index, paths, np.broadcast_to(weight, index.shape))
    feet = scipy.ndimage.gaussian_filter(feet, (0, width, width), truncate=3)
    still = rng.random() < 0.4
    found = np.ones((count, stage.frames)) if still else transients(rng, count, stage.frames)
    return _lit(feet, found)


def _waving(stage):
    """Filaments that glide and bend: waves of up to 3 pixels run along them."""
    rng = stage.rng
    count, points = stage.count(14, 0.7, 40), int(rng.uniform(60, 240))
    paths = curves(rng, count, points, stage.side, log_uniform(rng, 0.005, 0.08))
    t, along = np.arange(stage.frames)[:, None], np.linspace(0, 1, points)
    speed, swing = log_uniform(rng, 0.01, 0.6), log_uniform(rng, 0.2, 3)
    period, turns = log_uniform(rng, 4, 120), rng.uniform(0.3, 2.5)
    fixed_end = along ** rng.choice([0, 1])
    movie = stage.movie()
    for path in paths:
        heading = rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * (t / period - turns * along + rng.random())) * fixed_end
        glide = speed * rng.standard_normal(2) * t[..., None]
        sideways = np.stack([np.sin(heading), np.cos(heading)]) * (swing * wave)[..., None]
        frame = np.broadcast_to(t, wave.shape)
        weight = np.full(wave.shape, rng.lognormal(0, 0.5) * stage.psf)
        put_points(movie, frame, path + glide + sideways, weight)
    return movie


def _vesicles(stage):
    """Spots that diffuse or travel, at up to 3 pixels a frame, and appear, vanish or blink."""
    rng, frames = stage.rng, stage.frames
    count = stage.count(40, 0.9, 160)
    speed = rng.uniform(0, 3) * rng.random(count) * (rng.random(count) < rng.random())
    turn = log_uniform(rng, 0.02, 0.5) * rng.standard_normal((count, frames))
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(turn, axis=1)
    runs = scipy.ndimage.gaussian_filter1d(rng.standard_normal((count, frames)), 6, axis=1) > -0.08
    step = (
        np.stack([np.sin(heading), np.cos(heading)], axis=-1) * (speed[:, None] * runs)[..., None]
    )
    step += log_uniform(rng, 0.02, 1.2) * rng.standard_normal(step.shape)
    places = stage.places(count)[:, None] + np.cumsum(step, axis=1)
    level = np.broadcast_to(rng.lognormal(0, 0.6, (count, 1)), (count, frames)).copy()
    if rng.random() < 0.5:  # they come and go
        born, lives = rng.uniform(-frames, frames, (count, 1)), log_uniform(rng, 5, 200)
        age = np.arange(frames) - born
        gone = age - lives * rng.lognormal(0, 0.5, (count, 1))
        level *= np.clip(age / rng.uniform(0.5, 4), 0, 1) * np.clip(
            -gone / rng.uniform(0.5, 4), 0, 1
        )
    if rng.random() < 0.2:
        level *= blinking(rng, count, frames, least=2)
    movie, radius = stage.movie(), rng.uniform(0.4, 1.6) * rng.lognormal(0, 0.25, count)
    frame = np.broadcast_to(np.arange(frames), level.shape)
    put_spots(
        movie,
        frame.ravel(),
        places.reshape(-1, 2),
        np.repeat(radius, frames),
        level.ravel(),
        stage.psf,
    )
    return movie


def _blinkers(stage):
    """Single molecules that stay where they are; some light up for one frame only."""
    rng = stage.rng
    count = stage.count(50, 1.0, 150)
    feet = np.zeros((count, stage.side, stage.side), np.float32)
    level = rng.lognormal(0, 0.4, count)
    put_spots(feet, np.arange(count), stage.places(count), np.full(count, 0.4), level, stage.psf)
    return _lit(feet, rng.choice([0, 0.3]) + blinking(rng, count, stage.frames))


def _crawlers(stage):
    """Few textured cells that move slowly and turn."""
    rng, frames = stage.rng, stage.frames
    count = stage.count(6, 0.6, 14)
    radius = rng.uniform(5, 16)
    pace = log_uniform(rng, 0.03, 0.8) * rng.standard_normal((count, 1, 2))
    sway = 0.3 * rng.standard_normal((count, frames, 2)).cumsum(axis=1)
    sway = scipy.ndimage.gaussian_filter1d(sway, 3, axis=1)
    places = stage.places(count)[:, None] + pace * np.arange(frames)[:, None] + sway
    long = radius * rng.uniform(0.8, 1.3, (count, 1))
    pulse = 1 + 0.08 * np.sin(2 * np.pi * np.arange(frames) / log_uniform(rng, 8, 100))
    angle = rng.uniform(0, np.pi, (count, 1)) + 0.02 * rng.standard_normal((count, 1)) * np.arange(
        frames
    )
    grid = np.broadcast_to(np.arange(frames), (count, frames))
    movie = stage.movie()
    put_ellipses(
        movie,
        grid.ravel(),
        places.reshape(-1, 2),
        (long * pulse).ravel(),
        (0.7 * long / pulse).ravel(),
        angle.ravel(),
        level=np.repeat(rng.lognormal(0, 0.4, count), frames),
        edge=rng.uniform(0.3, 1.2),
        hollow=rng.choice([0, 0.5]),
    )
    return movie


def _wave(stage):
    """A wave of light that runs through a textured tissue, as calcium waves do."""
    rng = stage.rng
    y, x = np.mgrid[: stage.side, : stage.side]
    start = stage.places(1)[0]
    delay = np.hypot(y - start[0], x - start[1]) / log_uniform(rng, 0.5, 12)
    delay += 2 * clouds(rng, delay.shape, 1.8)
    since = np.arange(stage.frames)[:, None, None] - delay - rng.uniform(-20, stage.frames)
    rise, decay = log_uniform(rng, 0.5, 4), log_uniform(rng, 3, 40)
    since = np.maximum(since, 0).astype(np.float32)
    pulse = (1 - np.exp(-since / rise)) * np.exp(-since / decay)
    tissue = np.exp(rng.uniform(0.2, 0.9) * clouds(rng, delay.shape, rng.uniform(1, 2)))
    return 0.5 * tissue.astype(np.float32) * (1 + log_uniform(rng, 0.3, 4) * pulse)


def _neuropil(stage):
    """Clouds, coarse and fine, whose brightness changes slowly or fast."""
    rng, side = stage.rng, stage.side
    count, smooth = rng.integers(2, 8), log_uniform(rng, 0.3, 60)
    feet = np.stack([clouds(rng, (side, side), rng.uniform(0.7, 2.2)) for _ in range(count)])
    feet = np.exp(rng.uniform(0.2, 0.8) * feet).astype(np.float32) / count
    swing = rng.uniform(0.02, 0.4) * smooth_noise(rng, count, stage.frames, smooth)
    return 0.6 * _lit(feet, np.exp(swing))


def _boiling(stage):
    """A texture that flows and changes everywhere, from frame to frame or slowly."""
    rng = stage.rng
    shape = (stage.frames, stage.side, stage.side)
    field = clouds(rng, shape, rng.uniform(1.3, 2.4), stretch=log_uniform(rng, 0.3, 20))
    return np.exp(rng.uniform(0.2, 0.8) * field).astype(np.float32) * 0.5


def _membranes(stage):
    """Borders between cells, which stay where they are and may brighten."""
    rng = stage.rng
    points = rng.uniform(-20, stage.side + 20, (stage.count(40, 0.7, 200) + 2, 2))
    pixels = np.stack(np.mgrid[: stage.side, : stage.side], axis=-1)
    near, own = scipy.spatial.cKDTree(points).query(pixels, k=2)
    border = np.exp(-(((near[..., 1] - near[..., 0]) / rng.uniform(1.5, 4)) ** 2))
    lit = transients(rng, len(points), stage.frames)[:40] if rng.random() < 0.4 else None
    border = (border * np.exp(0.3 * clouds(rng, border.shape, 1.2))).astype(np.float32)
    if lit is None:
        return np.broadcast_to(border, (stage.frames, *border.shape))
    return border + 0.3 * lit[own[..., 0] % len(lit)].transpose(2, 0, 1)


_PARTS = (
    _cells, _blurred_cells, _boutons, _dendrites, _waving, _vesicles, _blinkers, _crawlers, _wave,
    _neuropil, _boiling, _membranes,
)  # fmt: skip
_SHARES = np.array([4, 1.5, 2, 2, 1.5, 2, 1.2, 1, 0.6, 2, 0.6, 1])
_SHARES /= _SHARES.sum()
