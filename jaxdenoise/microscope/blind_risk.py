"""The error that a prediction makes that does not see some of the neighbours. NumPy, host side.

Where neighbouring pixels share their noise, what predicts a pixel from its neighbours keeps noise.
What does not see them loses detail. `blind_spot_risks` weighs one against the other on the noisy
images alone, before anything is trained.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxdenoise.microscope.correlation import NoiseCovariance, squares

_WINDOW = 5  # pixels on each side that the linear prediction sees
_TILES = 64  # at most, in which the prediction is fitted
# Added to a tile's variance, relative to it: smooth tiles leave the fit nearly singular.
_RIDGE = 1e-4


def blind_spot_risks(
    frames: Float[np.ndarray, "N H W"],
    noise: NoiseCovariance,
    candidates: Sequence[tuple[int, tuple[int, int]]],
) -> Float[np.ndarray, "tiles candidates"]:
    """Estimate the error of pixels that are predicted from those that a blind spot shows.

    In each tile of 64 x 64 pixels (48 x 48 in images below 128) a linear prediction of each pixel
    from the pixels within 5 pixels is fitted to the noisy images, as a blind-spot training fits a
    network: least squares against noisy targets. It keeps what the noise of the shown pixels tells
    about that of the target. With the noise's covariance its error against the clean image follows:
    noise that is kept on one side, detail that is lost on the other.

    Args:
        frames: (N, H, W), finite, in grey levels, at least 48 pixels a side.
        noise: `NoiseCovariance` of them.
        candidates: stride, and the pixels that are hidden on each side along y and x; pixels that
            the network's stride leaves out are not shown. (1, (0, 0)) hides nothing.

    Returns:
        Mean squared errors in grey levels squared; tiles that are constant are left out. They
        compare candidates: with too high a covariance they may be negative.
    """
    tiles = _tiles(frames)
    autocovariance = _autocovariance(tiles, 2 * _WINDOW)
    middle = 2 * _WINDOW
    autocovariance = autocovariance[autocovariance[:, middle, middle] > 0]
    shared = np.zeros(autocovariance.shape[1:])
    lags = len(noise.correlation) // 2
    inside = slice(middle - lags, middle + lags + 1)
    shared[inside, inside] = noise.variance * noise.correlation
    return np.stack([_risk(autocovariance, shared, *chosen) for chosen in candidates], axis=1)


def _risk(autocovariance, shared, stride, hidden):
    """The errors (tiles,) of a linear prediction; both covariances by the shift along y and x."""
    y, x = (part.ravel() for part in np.mgrid[-_WINDOW : _WINDOW + 1, -_WINDOW : _WINDOW + 1])
    shown = (np.abs(y) > hidden[0]) | (np.abs(x) > hidden[1])
    shown &= (y % stride == 0) & (x % stride == 0) & ((y != 0) | (x != 0))
    y, x = y[shown], x[shown]
    middle = 2 * _WINDOW
    variance = autocovariance[:, middle, middle]
    target = autocovariance[:, middle + y, middle + x]
    between = autocovariance[:, middle + y[:, None] - y, middle + x[:, None] - x]
    between = between + _RIDGE * variance[:, None, None] * np.eye(len(y))
    weights = np.linalg.solve(between, target[..., None])[..., 0]
    kept = target - shared[middle + y, middle + x]
    spread = np.einsum("ti,tij,tj->t", weights, between, weights)
    return variance - shared[middle, middle] - 2 * np.sum(weights * kept, axis=1) + spread


def _tiles(frames):
    """Tiles of the frames, evenly chosen if there are many: (tiles, side, side)."""
    side = 64 if min(frames.shape[1:]) >= 128 else 48
    tiles = squares(frames, side)
    chosen = np.linspace(0, len(tiles) - 1, min(len(tiles), _TILES)).round().astype(int)
    return tiles[chosen].astype(np.float64)


def _autocovariance(tiles, lags):
    """Autocovariances (tiles, 2 lags + 1, 2 lags + 1), a positive semidefinite estimate."""
    tiles = tiles - tiles.mean(axis=(1, 2), keepdims=True)
    padded = [tiles.shape[1] + 2 * lags] * 2
    power = np.abs(np.fft.rfft2(tiles, padded)) ** 2
    found = np.fft.irfft2(power, padded) / tiles[0].size
    shifts = np.arange(-lags, lags + 1)
    return found[:, shifts[:, None], shifts]
