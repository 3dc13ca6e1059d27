"""How far neighbouring pixels share their noise, from the noisy images alone. Pure JAX but for what says so."""

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 16  # pixels: side of the blocks, of which the flattest are taken
_SHARE = 0.15  # of the blocks that are taken
# blocks a side: of fewer the flattest hold structure, and any structure looks like correlated noise
_FEWEST = 6
_CORRELATED = (
    0.3  # of neighbours: noise that cameras leave white has less than 0.25 where images are crowded
)
_SHARED = 0.1  # of pixels further away: with less they are not hidden
_LAGS = 5
_LEFT = 0.03  # of the pixels of a residual, the same
_FURTHEST = 8  # pixels


def noise_autocorrelation(image, *, lags=_LAGS):
    """Autocorrelation of the noise at shifts of 1 to ``lags`` pixels along y and along x, (2, lags).

    Measured where the image is flattest: in the 15 % of its 16 x 16 blocks that vary least, after a
    quadratic surface was taken out of each. What that takes out of white noise is allowed for.
    Structure that fills the whole image looks like correlated noise.

    Args:
        image: (..., H, W), any real dtype, H and W at least 16 pixels.
        lags: less than 16, static.

    Raises:
        ValueError: the image is too small.
    """
    image = jnp.asarray(image)
    if image.ndim < 2 or min(image.shape[-2:]) < _BLOCK or image.size == 0:
        raise ValueError(
            f"noise_autocorrelation: expected images (..., H, W) of at least {_BLOCK} x {_BLOCK} pixels, got {image.shape}"
        )
    height, width = (size // _BLOCK for size in image.shape[-2:])
    blocks = image[..., : height * _BLOCK, : width * _BLOCK].astype(
        jnp.promote_types(image.dtype, jnp.float32)
    )
    blocks = blocks.reshape(-1, height, _BLOCK, width, _BLOCK).swapaxes(2, 3).reshape(-1, _BLOCK**2)
    blocks = blocks - blocks.mean(axis=1, keepdims=True)  # first, for the sake of rounding
    surfaces = jnp.asarray(_surfaces(), blocks.dtype)
    blocks = blocks - blocks @ surfaces @ surfaces.T
    power = jnp.mean(blocks**2, axis=1)
    flattest = jnp.argsort(jnp.where(power > 0, power, jnp.inf))[
        : max(4, round(_SHARE * len(blocks)))
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


def correlated_reach(frames):
    """How many pixels along y and x share a pixel's noise: what `config.TrainConfig.blind` should hide. Host side.

    Args:
        frames: (N, H, W) array.

    Returns:
        (y, x); (0, 0) where neighbours hardly do, or where the frames are too small to tell.
    """
    if min(frames.shape[1:]) < _FEWEST * _BLOCK:
        return 0, 0
    found = np.asarray(_compiled(frames))
    if found[:, 0].max() < _CORRELATED:
        return 0, 0
    return tuple(_LAGS if row.min() >= _SHARED else int(np.argmax(row < _SHARED)) for row in found)


def residual_reach(residual):
    """How many pixels along y and x share a pixel's noise, as what a denoiser took out of images tells. Host side.

    Flat blocks are too few and too small for a weak correlation of pixels further apart; the whole
    residual shows it. What the denoiser took for signal is missing from it, which lowers all but
    the nearest.

    Args:
        residual: (N, H, W) noisy less denoised images, more than 8 pixels a side.

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
    return tuple(_FURTHEST if row.min() >= _LEFT else int(np.argmax(row < _LEFT)) for row in found)


def noise_stride(frames):
    """How many pixels apart those are that share hardly any noise: what `config.UNetConfig.stride` should be, at most 4. Host side.

    Args:
        frames: (N, H, W) array.

    Returns:
        1 where neighbours hardly share their noise, or where the frames are too small to tell.
    """
    return min(1 + max(correlated_reach(frames)), 4)


_compiled = jax.jit(noise_autocorrelation, static_argnames="lags")


def _product_at(blocks, axis, lag):
    size = blocks.shape[axis]
    first, second = (
        jax.lax.slice_in_dim(blocks, start, start + size - lag, axis=axis) for start in (0, lag)
    )
    return jnp.mean(first * second)


def _surfaces():
    """Orthonormal quadratic surfaces over a block: (256, 6)."""
    y, x = (values.ravel() - (_BLOCK - 1) / 2 for values in np.mgrid[:_BLOCK, :_BLOCK])
    return np.linalg.qr(np.stack([np.ones_like(x), y, x, y * y, x * x, x * y], axis=1))[0]


def _of_white_noise(lags):
    """What is measured of white noise, (2, lags): a surface taken out leaves neighbours a little alike, to the other side."""
    left = (np.eye(_BLOCK**2) - _surfaces() @ _surfaces().T).reshape((_BLOCK,) * 4)
    variance = np.trace(left.reshape(_BLOCK**2, -1)) / _BLOCK**2
    pairs = left.swapaxes(1, 2)  # (row, other row, column, other column)
    rows = [
        np.mean([pairs[i, i + lag, j, j] for i in range(_BLOCK - lag) for j in range(_BLOCK)])
        for lag in range(1, lags + 1)
    ]
    return np.array([rows, rows]) / variance
