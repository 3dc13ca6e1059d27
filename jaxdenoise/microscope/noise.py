"""Noise models of a camera, on the device.

The key comes first; the same key and image give the same noise. Images may be NumPy or JAX arrays
of any real dtype and any shape. The result is float32 (float64 where the image is float64 and x64
is enabled) and is neither clipped nor rounded: `levels.quantize` does both for uint8 and uint16
files.

The report behind this project writes "standard deviation 100" but draws **variance** 100 (sigma =
10 grey levels) with mean 0, clips to [0, 255] and casts to uint8, which truncates. Its noisy images
are::

    noisy = gaussian_noise(key, image, jnp.sqrt(100.0))
    noisy = quantize(noisy, jnp.uint8, rounding="truncate")

Its noise is independent for each channel, as here: the noise has the image's shape, so an image (H,
W, 3) gets three draws a pixel. To share one draw between the channels, add the noise to zeros of
(H, W, 1) and let the sum with the image broadcast it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import as_float
from jaxdenoise.system.keys import Key, as_key

__all__ = ["gaussian_noise", "poisson_gaussian_noise"]


def gaussian_noise(
    key: Key, image: Real[ArrayLike, "*shape"], std: Real[ArrayLike, "..."]
) -> Float[Array, "*shape"]:
    """Add independent Gaussian noise, ``image + std * N(0, 1)``.

    Args:
        key: A JAX random key, or a seed.
        image: The clean image, (H, W) or any shape, any real dtype, in grey levels.
        std: Standard deviation >= 0 in grey levels: a scalar, or an array that broadcasts to the
            image's shape. It may be traced.

    Returns:
        The noisy image, the image's shape, float32, in grey levels, not clipped.

    Raises:
        ValueError: `std` is negative or does not broadcast to the image's shape.
    """
    image = as_float(image)
    std = _level("std", std, image)
    return image + std * jax.random.normal(as_key(key), image.shape, image.dtype)


def poisson_gaussian_noise(
    key: Key,
    image: Real[ArrayLike, "*shape"],
    *,
    gain: Real[ArrayLike, "..."],
    read_std: Real[ArrayLike, "..."],
    offset: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "*shape"]:
    """Add the photon (shot) noise and the read noise of a camera.

    ``photons ~ Poisson(max(image, 0) / gain)`` and ``result = gain * photons + offset + read_std *
    N(0, 1)``, so that, for image >= 0, the mean is ``image + offset`` and the variance ``gain *
    image + read_std^2``.

    Source: Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise modeling and
        fitting for single-image raw-data", IEEE Trans. Image Processing 17 (2008).

    The number of photons is discrete: the gradient with respect to `image` is zero. It is drawn by
    ``jax.random.poisson``, which needs JAX's default key implementation (threefry2x32).

    Args:
        key: A JAX random key of the default implementation, or a seed.
        image: The clean image in grey levels **above the offset**, (H, W) or any shape, any real
            dtype. Negative values count as 0.
        gain: Grey levels per photon, > 0. Like `read_std` and `offset` a scalar or an array that
            broadcasts to the image's shape, and it may be traced.
        read_std: Standard deviation of the read noise in grey levels, >= 0.
        offset: What the camera adds to every pixel, in grey levels.

    Returns:
        The noisy image, the image's shape, float32, in grey levels with the offset, not clipped.

    Raises:
        ValueError: `gain` is not positive, `read_std` is negative, one of the three does not
            broadcast to the image's shape, or the key is not of the default implementation.
    """
    image = as_float(image)
    gain = _level("gain", gain, image, positive=True)
    read_std = _level("read_std", read_std, image)
    offset = _level("offset", offset, image, signed=True)
    photon_key, read_key = jax.random.split(as_key(key))
    photons = _poisson(photon_key, jnp.maximum(image, 0) / gain)
    return (
        gain * photons + offset + read_std * jax.random.normal(read_key, image.shape, image.dtype)
    )


def _poisson(key, mean):
    # No derivative passes through a count. Stopping it here keeps reverse mode out of the sampler's
    # while loop.
    mean = jax.lax.stop_gradient(mean)
    try:
        photons = jax.random.poisson(key, mean)
    # Raised by JAX for other kinds of keys, without advice.
    except NotImplementedError as error:
        raise ValueError(
            "Poisson noise needs a key of JAX's default implementation threefry2x32, "
            f"got one of {jax.random.key_impl(key)}: "
            "make it with jax.random.key(seed, impl='threefry2x32')"
        ) from error
    # A NaN stays a NaN: JAX would draw -1 for it.
    return jnp.where(jnp.isfinite(mean), photons, mean)


def _level(name, value, image, *, positive=False, signed=False):
    """Return `value` in the image's dtype and shape; check its sign unless it is traced."""
    value = jnp.asarray(value, dtype=image.dtype)
    if not isinstance(value, jax.core.Tracer) and not signed:
        if positive and not jnp.all(value > 0):
            raise ValueError(
                f"{name} must be greater than 0, got a minimum of {value.min()}: "
                "give it in grey levels"
            )
        if not jnp.all(value >= 0):
            raise ValueError(
                f"{name} must not be negative, got a minimum of {value.min()}: "
                "give it in grey levels"
            )
    try:
        return jnp.broadcast_to(value, image.shape)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a scalar or broadcast to the image's shape {image.shape}, "
            f"got shape {value.shape}: add or remove axes of one of them"
        ) from error
