"""Correlation of the noise between neighbouring pixels, from the noisy images alone.

`noise_covariance` measures it where the images, or the differences of their frames, are flattest.
Functions that say "Host side" use NumPy; the others run on the device.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from jaxdenoise.imaging.levels import as_float

_BLOCK = 16  # pixels: side of the blocks among which the flattest are chosen
_SHARE = 0.15  # of the blocks that are chosen
_FEWEST_BLOCKS = 4  # fewer that are not constant tell nothing
_LAGS = 5
_SHARED_RESIDUAL = 0.03  # autocorrelation of a residual below which pixels are not hidden
_FURTHEST = 8  # pixels
# Differences of frames stand for the noise if they are flatter than the frames by this factor.
_FLATTER = 0.95
_LEVELS = 8  # groups of equally bright blocks


class NoiseCovariance(NamedTuple):
    """The covariance of the noise between pixels that are up to 5 pixels apart along y and x.

    Attributes:
        variance: in grey levels squared.
        correlation: (11, 11), 1 in the middle, by the shift along y and x.
        error: (11, 11), its standard error.
        kurtosis: mean excess kurtosis of the pixels of a block, of their differences along y, or of
            those along y and x, whichever is furthest above 0: Gaussian noise has 0, photon noise
            of few photons and edges have more.
    """

    variance: float
    correlation: Float[np.ndarray, "11 11"]
    error: Float[np.ndarray, "11 11"]
    kurtosis: float

    @property
    def along(self) -> tuple[float, float]:
        """The correlation of direct neighbours along y and along x."""
        middle = len(self.correlation) // 2
        return (
            float(self.correlation[middle + 1, middle]),
            float(self.correlation[middle, middle + 1]),
        )

    @property
    def along_error(self) -> tuple[float, float]:
        """The standard errors of `along`."""
        middle = len(self.error) // 2
        return float(self.error[middle + 1, middle]), float(self.error[middle, middle + 1])

    def reach(self, least: float) -> tuple[int, int]:
        """Return how many pixels along y and x come before a correlation below `least`."""
        middle = len(self.correlation) // 2
        rows, columns = (
            self.correlation[middle + 1 :, middle],
            self.correlation[middle, middle + 1 :],
        )
        return _reach(rows, least), _reach(columns, least)


def noise_covariance(frames: Float[np.ndarray, "N H W"]) -> NoiseCovariance | None:
    """Measure the noise's covariance in the flattest blocks of an image or a stack. Host side.

    The flattest 15 % of all 16 x 16 blocks are taken, after a quadratic surface was subtracted from
    each. What that removes from noise of any covariance within 5 pixels is restored exactly. Where
    the differences of consecutive frames are flatter than the frames, as in a movie, they are
    taken instead: what stands still is no part of them. Of them, each brightness has its flattest
    blocks.

    The flattest blocks of noise alone are those that happen to vary little: the variance is up to
    a quarter too low. Structure in the flattest blocks counts as noise.

    Args:
        frames: (N, H, W), finite, in grey levels.

    Returns:
        None where fewer than four blocks vary.
    """
    blocks = _flattest(_blocks(frames))
    if len(frames) > 1:
        changes = np.diff(frames, axis=0) / np.float32(np.sqrt(2))
        still, changing = (_flattest_at_each_level(x, frames[1:]) for x in (frames[1:], changes))
        if len(changing) and np.mean(changing**2) < _FLATTER * np.mean(still**2):
            blocks = changing
    if len(blocks) < _FEWEST_BLOCKS:
        return None
    shifts, restore = _restoring(_LAGS)
    images = blocks.reshape(-1, _BLOCK, _BLOCK)
    products = np.stack([_mean_product(images, *shift) for shift in shifts], axis=1)
    products = products @ restore.T
    total = products.sum(axis=0)
    if not total[0] > 0:
        return None
    # Jackknife over the blocks.
    left_out = (total - products) / (total[:1] - products[:, :1])
    count = len(blocks)
    error = np.sqrt((count - 1) * left_out.var(axis=0))
    side = 2 * _LAGS + 1
    correlation, errors = np.zeros((side, side)), np.zeros((side, side))
    for (down, right), value, spread in zip(shifts, total / total[0], error, strict=True):
        for sign in (1, -1):
            place = _LAGS + sign * down, _LAGS + sign * right
            correlation[place], errors[place] = value, spread
    return NoiseCovariance(float(total[0] / count), correlation, errors, _kurtosis(images))


def _kurtosis(blocks):
    along_y = np.diff(blocks, axis=1)
    found = []
    for parts in (blocks, along_y, np.diff(along_y, axis=2)):
        deviations = parts - parts.mean(axis=(1, 2), keepdims=True)
        variance = np.mean(deviations**2, axis=(1, 2))
        fourth = np.mean(deviations**4, axis=(1, 2))
        found.append(np.mean(fourth / np.maximum(variance, 1e-300) ** 2) - 3)
    return float(max(found))


def correlated_noise(
    key: PRNGKeyArray, noise: NoiseCovariance, shape: tuple[int, int]
) -> Float[np.ndarray, "H W"]:
    """Draw Gaussian noise of a measured covariance. Host side.

    Its spectrum is that of the tapered covariance, without what is negative.

    Args:
        key: random key.
        noise: `NoiseCovariance`.
        shape: (H, W), at least 11 pixels a side.
    """
    taper = 1 - np.abs(np.arange(-_LAGS, _LAGS + 1)) / (_LAGS + 1)
    kernel = np.zeros(shape)
    side = 2 * _LAGS + 1
    kernel[:side, :side] = noise.correlation * np.sqrt(taper[:, None] * taper)
    kernel = np.roll(kernel, (-_LAGS, -_LAGS), axis=(0, 1))
    spectrum = np.maximum(np.fft.fft2(kernel).real, 0)
    spectrum *= noise.variance / spectrum.mean()
    white = np.asarray(jax.random.normal(key, shape))
    return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum)).real


def _blocks(frames):
    """Blocks (blocks, 256) without their quadratic surface, float64."""
    blocks = squares(frames, _BLOCK).reshape(-1, _BLOCK**2).astype(np.float64)
    # The mean goes first: the surfaces would leave more of a large offset by rounding.
    blocks = blocks - blocks.mean(axis=1, keepdims=True)
    return blocks - blocks @ _surfaces() @ _surfaces().T


def _flattest(blocks):
    """The blocks that vary least, but vary."""
    power = np.mean(blocks**2, axis=1)
    order = np.argsort(np.where(power > 0, power, np.inf), kind="stable")
    order = order[: max(_FEWEST_BLOCKS, round(_SHARE * len(blocks)))]
    return blocks[order[power[order] > 0]]


def _flattest_at_each_level(images, frames):
    """The flattest blocks of images among those where the frames are about equally bright.

    Bright pixels have most photon noise. Only changes show it: in the frames structure is bright.
    """
    levels = squares(frames, _BLOCK).mean(axis=(1, 2))
    groups = np.array_split(np.argsort(levels, kind="stable"), _LEVELS)
    blocks = _blocks(images)
    return np.concatenate([_flattest(blocks[group]) for group in groups])


def _mean_product(blocks, down, right):
    """Each block's mean product of pixels that are so far apart: (blocks,)."""
    size = _BLOCK
    first = blocks[:, down:, max(right, 0) : size + min(right, 0)]
    second = blocks[:, : size - down, max(-right, 0) : size - max(right, 0)]
    return np.mean(first * second, axis=(1, 2))


@functools.cache
def _restoring(lags):
    """Shifts, one of each two opposite ones, and the matrix from mean products to covariances.

    Subtracted surfaces turn a covariance into other mean products, by a linear map that is
    inverted here.
    """
    shifts = [(y, x) for y in range(lags + 1) for x in range(-lags, lags + 1) if y or x >= 0]
    y, x = (part.ravel() for part in np.mgrid[:_BLOCK, :_BLOCK])
    down, right = y[:, None] - y, x[:, None] - x
    apart = {shift: (down == shift[0]) & (right == shift[1]) for shift in shifts}
    number = np.full(down.shape, len(shifts))
    for place, shift in enumerate(shifts):
        number[apart[shift]] = place
    counts = np.bincount(number.ravel())[: len(shifts)]
    surfaces, columns = _surfaces(), []
    for shift in shifts:
        covariance = (apart[shift] | apart[shift].T).astype(np.float64)
        covariance -= (covariance @ surfaces) @ surfaces.T
        covariance -= surfaces @ (surfaces.T @ covariance)
        sums = np.bincount(number.ravel(), covariance.ravel())[: len(shifts)]
        columns.append(sums / counts)
    return shifts, np.linalg.inv(np.stack(columns, axis=1))


def squares(
    frames: Float[np.ndarray, "N H W"], side: int
) -> Float[np.ndarray, "squares {side} {side}"]:
    """Cut frames into squares; what is left at the border is dropped. Host side."""
    count, *size = frames.shape
    height, width = (pixels // side for pixels in size)
    parts = frames[:, : height * side, : width * side].reshape(count, height, side, width, side)
    return parts.swapaxes(2, 3).reshape(-1, side, side)


def noise_autocorrelation(
    image: Real[ArrayLike, "*batch H W"], *, lags: int = _LAGS
) -> Float[Array, "2 {lags}"]:
    """Measure the autocorrelation of the noise at shifts of 1 to `lags` pixels along y and x.

    It is measured where the image is flattest: in the 15 % of its 16 x 16 blocks that vary least,
    after a quadratic surface is subtracted from each. The result is corrected for what that removes
    from white noise. Structure that fills the whole image looks like correlated noise.

    Args:
        image: (..., H, W), any real dtype, H and W at least 16 pixels.
        lags: Less than 16, static.

    Returns:
        (2, lags): along y, and along x.

    Raises:
        ValueError: The image is too small.
    """
    image = jnp.asarray(image)
    if image.ndim < 2 or min(image.shape[-2:]) < _BLOCK or image.size == 0:
        raise ValueError(
            f"noise_autocorrelation: expected images (..., H, W) of at least {_BLOCK} x {_BLOCK} "
            f"pixels, got {image.shape}"
        )
    height, width = (size // _BLOCK for size in image.shape[-2:])
    blocks = as_float(image[..., : height * _BLOCK, : width * _BLOCK])
    blocks = blocks.reshape(-1, height, _BLOCK, width, _BLOCK).swapaxes(2, 3).reshape(-1, _BLOCK**2)
    # The mean goes first: the surfaces would leave more of a large offset by rounding.
    blocks = blocks - blocks.mean(axis=1, keepdims=True)
    surfaces = jnp.asarray(_surfaces(), blocks.dtype)
    blocks = blocks - blocks @ surfaces @ surfaces.T
    power = jnp.mean(blocks**2, axis=1)
    flattest = jnp.argsort(jnp.where(power > 0, power, jnp.inf))[
        : max(_FEWEST_BLOCKS, round(_SHARE * len(blocks)))
    ]
    blocks = jnp.where(power[flattest, None] > 0, blocks[flattest], 0).reshape(-1, _BLOCK, _BLOCK)
    variance = jnp.mean(blocks**2)
    found = jnp.stack(
        [
            jnp.stack([_product_at(blocks, axis, lag) for lag in range(1, lags + 1)])
            for axis in (1, 2)
        ]
    )
    return found / jnp.where(variance > 0, variance, 1) - jnp.asarray(
        _of_white_noise(lags), blocks.dtype
    ) * (variance > 0)


def residual_reach(
    residual: Float[Array, "N H W"] | Float[np.ndarray, "N H W"],
) -> tuple[int, int]:
    """Measure from a denoiser's residual how many pixels along y and x share noise. Host side.

    Flat blocks are too few and too small to show a weak correlation of pixels further apart; the
    whole residual shows it. Noise that the denoiser mistook for signal is missing from it, which
    lowers the correlation of all but the nearest pixels.

    Args:
        residual: (N, H, W), noisy minus denoised images, more than 8 pixels a side.

    Returns:
        (y, x), each at most 8.
    """
    residual = residual - jnp.mean(residual, axis=(1, 2), keepdims=True)
    power = jnp.maximum(jnp.mean(residual**2), 1e-30)
    found = np.array(
        [
            [_product_at(residual, axis, lag) / power for lag in range(1, _FURTHEST + 1)]
            for axis in (1, 2)
        ]
    )
    return _reach(found[0], _SHARED_RESIDUAL), _reach(found[1], _SHARED_RESIDUAL)


def _reach(correlations, least):
    """How many lags come before the first correlation below `least`."""
    if correlations.min() >= least:
        return len(correlations)
    return int(np.argmax(correlations < least))


def _product_at(blocks, axis, lag):
    size = blocks.shape[axis]
    first, second = (
        jax.lax.slice_in_dim(blocks, start, start + size - lag, axis=axis) for start in (0, lag)
    )
    return jnp.mean(first * second)


@functools.cache
def _surfaces():
    """Orthonormal quadratic surfaces over a block: (256, 6)."""
    y, x = (values.ravel() - (_BLOCK - 1) / 2 for values in np.mgrid[:_BLOCK, :_BLOCK])
    return np.linalg.qr(np.stack([np.ones_like(x), y, x, y * y, x * x, x * y], axis=1))[0]


def _of_white_noise(lags):
    """The autocorrelation (2, lags) that subtracted surfaces leave in white noise, negative."""
    left = (np.eye(_BLOCK**2) - _surfaces() @ _surfaces().T).reshape((_BLOCK,) * 4)
    variance = np.trace(left.reshape(_BLOCK**2, -1)) / _BLOCK**2
    pairs = left.swapaxes(1, 2)  # (row, other row, column, other column)
    rows = [
        np.mean([pairs[i, i + lag, j, j] for i in range(_BLOCK - lag) for j in range(_BLOCK)])
        for lag in range(1, lags + 1)
    ]
    return np.array([rows, rows]) / variance
