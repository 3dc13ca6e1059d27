"""Random brightness over time: of objects (transients, blinking, slow noise) and of a lamp."""

import numpy as np
import scipy.ndimage

from common.stamps import log_uniform


def smooth_noise(rng, count, frames, smooth):
    """Noise (count, T) of mean 0 and standard deviation 1, smoothed by a Gaussian over time."""
    margin = int(3 * smooth) + 1
    noise = rng.standard_normal((count, frames + 2 * margin))
    noise = scipy.ndimage.gaussian_filter1d(noise, smooth, axis=1)[:, margin:-margin]
    # The deviation of the process, not of the draw: a slow trace hardly changes within a movie.
    return noise * np.sqrt(max(2 * np.sqrt(np.pi) * smooth, 1))


def transients(rng, count, frames, *, fastest=1.0):
    """Relative brightness (count, T), at least 0.05: 1 at rest, higher after random events.

    Rise and decay, size and rate differ from scene to scene, less so from cell to cell.
    """
    rise = log_uniform(rng, 0.2, 5) * rng.lognormal(0, 0.2, count)
    decay = log_uniform(rng, fastest, 60) * rng.lognormal(0, 0.35, count) + rise
    size = log_uniform(rng, 0.15, 5)
    # Busy, but not so busy that no transient stands alone.
    rate = min(log_uniform(rng, 0.002, 0.06), 1.0 / decay.mean()) * rng.lognormal(0, 0.6, count)
    burn = int(min(3 * decay.max(), 300))
    events = rng.poisson(rate[:, None], (count, burn + frames)).astype(float)
    if rng.random() < 0.2:  # events that many cells share
        shared = rng.random(burn + frames) < 0.5 * rate.mean()
        events += shared * (rng.random((count, 1)) < 0.6)
    events *= rng.lognormal(0, 0.4, events.shape) * (rng.random((count, 1)) < rng.uniform(0.4, 1))
    slow, fast = np.zeros(count), np.zeros(count)
    keep_slow, keep_fast = np.exp(-1 / decay), np.exp(-1 / rise)
    found = np.empty_like(events)
    for t in range(burn + frames):
        slow, fast = keep_slow * (slow + events[:, t]), keep_fast * (fast + events[:, t])
        found[:, t] = slow - fast
    when = np.arange(200)[:, None] + 1
    found = found[:, burn:] / (keep_slow**when - keep_fast**when).max(axis=0)[:, None]
    found = size * found / (1 + size * found / rng.uniform(3, 12))  # the indicator saturates
    if rng.random() < 0.08:  # indicators that dim
        found = -0.9 * found / (1 + found)
    wander = log_uniform(rng, 0.01, 0.15) * smooth_noise(rng, count, frames, rng.uniform(3, 40))
    return np.maximum(1 + found + wander, 0.05).astype(np.float32)


def blinking(rng, count, frames, least=1.0):
    """Relative brightness (count, T) of molecules that are on or off, at random."""
    on = log_uniform(rng, least, 20) * rng.lognormal(0, 0.3, count)
    off = on * log_uniform(rng, 1, 40)
    state, found = rng.random(count) < on / (on + off), np.empty((count, frames), np.float32)
    for t in range(frames):
        state = np.where(rng.random(count) < 1 / np.where(state, on, off), ~state, state)
        found[:, t] = state * rng.lognormal(0, 0.15, count)
    return found


def lamp(rng, frames):
    """Brightness of each frame: bleaching of 0 to 40 % and a flicker of 0 to 5 %."""
    t = np.arange(frames)
    lost = rng.choice([0.0, rng.uniform(0, 0.4)])
    bleached = (1 - lost) ** (t / max(frames - 1, 1))
    flicker = rng.choice([0.0, log_uniform(rng, 0.003, 0.05)])
    hum = np.sin(2 * np.pi * (t / log_uniform(rng, 2, 150) + rng.random())) * rng.choice([0, 1])
    return bleached * (1 + flicker * (hum if hum.any() else 0.5 * rng.standard_normal(frames)))


def flash(rng, frames):
    """Light added to all pixels of a few frames in one scene of 14, in units of the mean."""
    light = np.zeros((frames, 1, 1), np.float32)
    if rng.random() < 0.07:
        first = rng.integers(frames)
        light[first : first + rng.integers(1, 4)] = log_uniform(rng, 0.1, 2)
    return light
