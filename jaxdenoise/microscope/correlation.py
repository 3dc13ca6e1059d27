"""Correlation of the noise between neighbouring pixels, from the noisy images alone.

On the device, except for the functions that say "Host side".
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import as_float

_BLOCK = 16  # pixels: side of the blocks among which the flattest are chosen
_SHARE = 0.15  # of the blocks that are chosen
# Blocks a side: among fewer the flattest hold structure, and structure looks like correlated noise.
_FEWEST = 6
# Autocorrelation of direct neighbours from which noise counts as correlated: white noise of cameras
# measures less than 0.25 where images are crowded.
_CORRELATED = 0.3
_SHARED = 0.1  # autocorrelation below which pixels further away are not hidden
_LAGS = 5
_SHARED_RESIDUAL = 0.03  # the same in a residual
_FURTHEST = 8  # pixels


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


def correlated_reach(
    frames: Real[Array, "N H W"] | Real[np.ndarray, "N H W"],
) -> tuple[int, int]:
    """Measure how many pixels along y and x share a pixel's noise. Host side.

    `config.TrainConfig.blind` should hide these neighbours.

    Args:
        frames: (N, H, W) array.

    Returns:
        (y, x) in pixels; (0, 0) where neighbours hardly share their noise, or where the frames are
        too small to tell.
    """
    if min(frames.shape[1:]) < _FEWEST * _BLOCK:
        return 0, 0
    found = np.asarray(_compiled(frames))
    if found[:, 0].max() < _CORRELATED:
        return 0, 0
    return _reach(found[0], _SHARED), _reach(found[1], _SHARED)


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


def noise_stride(frames: Real[Array, "N H W"] | Real[np.ndarray, "N H W"]) -> int:
    """Measure the distance in pixels at which noise is hardly shared, at most 4. Host side.

    `config.UNetConfig.stride` should have this value.

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
    """The autocorrelation (2, lags) that subtracted surfaces leave in white noise, negative."""
    left = (np.eye(_BLOCK**2) - _surfaces() @ _surfaces().T).reshape((_BLOCK,) * 4)
    variance = np.trace(left.reshape(_BLOCK**2, -1)) / _BLOCK**2
    pairs = left.swapaxes(1, 2)  # (row, other row, column, other column)
    rows = [
        np.mean([pairs[i, i + lag, j, j] for i in range(_BLOCK - lag) for j in range(_BLOCK)])
        for lag in range(1, lags + 1)
    ]
    return np.array([rows, rows]) / variance
