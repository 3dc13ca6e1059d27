"""Places of frames over time, each measured twice: what both show, and smoothing. Host side."""

import numpy as np
from jaxtyping import Float

_STEPS = np.geomspace(1e-3, 30, 24)  # pixels a frame that a random walk is tried with


def between(
    places: Float[np.ndarray, "2 ..."], errors: Float[np.ndarray, "2 ..."]
) -> Float[np.ndarray, "..."]:
    """Return the mean of two measurements of a place, weighted by their standard errors.

    Args:
        places: In pixels.
        errors: In pixels, > 0; those that are infinite count only where both are.
    """
    weights = 1 / np.where(np.isfinite(errors), errors, 1e3) ** 2
    return np.sum(weights * places, axis=0) / weights.sum(axis=0)


def common_movement(
    places: Float[np.ndarray, "2 N 2"], errors: Float[np.ndarray, "2 N 2"]
) -> tuple[float, float]:
    """Tell how far two independent measurements of the places show the same movement.

    Args:
        places: In pixels, of N frames, along y and x.
        errors: Their standard errors in pixels.

    Returns:
        The variance of the common movement along an axis in pixels^2, which may be negative, and
        by how many of its standard errors it is above 0.
    """
    first, second = places - np.median(places, axis=1, keepdims=True)
    difference = (first - second) - (first - second).mean(axis=0)
    count = len(first)
    total = float(np.sum(first * second))
    # Without common movement, the variance of that sum follows from the halves' own movements,
    # which may last for several frames: a cell that lights up does.
    spectrum = np.abs(np.fft.rfft(difference / 2**0.5, 2 * count, axis=0)) ** 2
    products = np.fft.irfft(spectrum, axis=0)[:count]  # sums over pairs of frames by their lag
    pairs = np.arange(count, 0, -1)[:, None]
    weights = np.where(np.arange(count), 2, 1)[:, None]
    slow = np.sum((weights * np.maximum(products, 0) ** 2 / pairs)[: max(1, count // 4)])
    fast = np.sum(np.prod(errors, axis=0) ** 2)
    return total / (2 * count), total / float(np.sqrt(max(slow, fast)))


def inflation(places: Float[np.ndarray, "2 N 2"], errors: Float[np.ndarray, "2 N 2"]) -> float:
    """Return by how much two measurements differ more than their standard errors say, at least 1.

    By their median, so that single frames do not count.
    """
    known = np.isfinite(errors).all(axis=(0, 2))
    apart = (places[0] - places[1])[known]
    ratio = np.abs(apart - np.median(apart, axis=0)) / np.sqrt(
        np.sum(errors[:, known] ** 2, axis=0)
    )
    return max(1.0, float(np.median(ratio)) / 0.6745)


def smoothed(
    places: Float[np.ndarray, "N 2"], errors: Float[np.ndarray, "N 2"]
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N 2"]]:
    """Smooth places in time as far as their errors ask.

    The frames move by a random walk; the variance of its steps is the most likely one along each
    axis. Where that is large beside the errors, nothing is smoothed.

    Source: Rauch, Tung and Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA
        Journal 3 (1965).

    Args:
        places: In pixels.
        errors: Standard errors in pixels, > 0; infinite where a place is not known.

    Returns:
        The places, and their standard errors, infinite where they were.
    """
    variance = np.where(np.isfinite(errors), errors, 1e6) ** 2
    tried = _STEPS[:, None] ** 2
    step = tried[_filter(places, variance, tried)[2].argmax(axis=0), 0]
    mean, spread, _ = _filter(places, variance, step[None])
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
