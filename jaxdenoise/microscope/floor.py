"""Whether the finest detail of images is white: what lies beyond the optics' cut-off. Host side."""

import numpy as np
from jaxtyping import Float

_SIDE = 64  # pixels of the windows whose spectra are averaged
_FINEST, _FINE = 0.375, 0.25  # cycles a pixel, along both axes
# Power of the fine detail over that of the finest. White noise on 28 textures had up to 1.34, one
# of them more than 1.25; noise smoothed with sigma 0.5 has 1.5 to 1.7, with sigma 0.7 more than 6,
# and with a tenth of white noise added 1.5; the wide-field images of FMD 2.4.
_WHITE = 1.25
_ROUNDING = 3 / 12  # squared grey levels: of whole levels, less is their rounding


def has_white_floor(frames: Float[np.ndarray, "N H W"]) -> bool:
    """Return whether the power of the finest detail is flat, as that of white noise.

    Noise that neighbours share falls off towards the finest detail. Structure may be as smooth, but
    then white noise beside it leaves a floor.

    Args:
        frames: (N, H, W) in grey levels, at least 64 x 64 pixels.
    """
    height, width = (size // _SIDE for size in frames.shape[1:])
    cut = frames[:, : height * _SIDE, : width * _SIDE].astype(np.float64)
    parts = cut.reshape(-1, height, _SIDE, width, _SIDE).swapaxes(2, 3).reshape(-1, _SIDE, _SIDE)
    window = np.hanning(_SIDE)[:, None] * np.hanning(_SIDE)
    parts = (parts - parts.mean(axis=(1, 2), keepdims=True)) * window
    power = np.mean(np.abs(np.fft.fft2(parts)) ** 2, axis=0) / np.sum(window**2)
    frequency = np.abs(np.fft.fftfreq(_SIDE))
    y, x = frequency[:, None], frequency[None]
    finest = (y > _FINEST) & (x > _FINEST)
    fine = (y > _FINE) & (x > _FINE) & ~finest
    floor = power[finest].mean()
    steps = np.diff(frames[0, :_SIDE, :_SIDE], axis=1)
    rounded = bool(np.all(np.abs(steps - np.rint(steps)) < 1e-3))
    return bool(power[fine].mean() < _WHITE * floor and floor > _ROUNDING * rounded)
