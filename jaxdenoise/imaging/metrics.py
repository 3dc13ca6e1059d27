"""Image quality metrics: one value an image, on the device.

A stack is what it is for `convolve`: the last two axes are an image, and each image of
(..., H, W) is judged by itself. Its leading axes are those of the result, and broadcast: one
reference (H, W) serves a stack (N, H, W), and ``psnr(...).mean()`` is the mean over its frames.
``ndim=3`` judges volumes (..., Z, H, W), one value each. Inputs may be NumPy or JAX arrays of any
real dtype. They are computed in float32, or in float64 where they are float64 and x64 is enabled.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import Scalar, as_float
from jaxdenoise.imaging.pairs import centred, each_image

__all__ = ["mean_over_frames", "mean_over_std", "psnr", "si_psnr", "snr_db", "ssim"]


def psnr(
    reference: Real[ArrayLike, "*#shape"],
    image: Real[ArrayLike, "*#shape"],
    *,
    data_range: Scalar,
    ndim: int = 2,
) -> Float[Array, "*N"]:
    """Return the peak signal-to-noise ratio, ``10 log10(data_range^2 / MSE)``.

    Args:
        reference: The clean image, (H, W) or (..., H, W), any real dtype, in grey levels.
        image: The image to judge, (H, W) or (..., H, W), same unit.
        data_range: The peak in grey levels, a scalar > 0, for example 255 or ``reference.max() -
            reference.min()``. It may be traced.
        ndim: How many of the last axes are one image, static: 2; 3 for volumes (Z, H, W).

    Returns:
        A value an image in dB, ``inf`` for identical images (the gradient is undefined there): the
        leading axes, a scalar for one image.

    Raises:
        ValueError: The images differ in shape, are empty or have fewer axes than `ndim`; the
            leading axes do not broadcast; or `data_range` is not a positive scalar.
    """
    data_range = _checked_range(data_range)

    def of_image(reference, image):
        return _psnr_of_error(reference - image, data_range)

    return each_image(of_image, ndim, reference, image)


def si_psnr(
    reference: Real[ArrayLike, "*#shape"],
    image: Real[ArrayLike, "*#shape"],
    *,
    data_range: Scalar,
    ndim: int = 2,
) -> Float[Array, "*N"]:
    """Return the scale-invariant PSNR, that of ``a * image + b`` fitted to the reference.

    The a and b are those of least squares. The value is unchanged by any affine map of `image`, so
    it compares methods that return other units or another offset. It is never below the PSNR
    itself. A constant image is fitted by the reference's mean (a = 0).

    Source: Weigert et al., "Content-aware image restoration", Nature Methods 15 (2018),
        supplementary note on normalisation; the published ``SI_PSNR`` code centres both images and
        fits one factor, which is the same map.

    Args:
        reference: The clean image, (H, W) or (..., H, W), any real dtype, in grey levels.
        image: The image to judge, (H, W) or (..., H, W), any unit.
        data_range: Scalar > 0 in grey levels of the reference. It may be traced.
        ndim: How many of the last axes are one image, static: 2; 3 for volumes (Z, H, W).

    Returns:
        A value an image in dB. For an exact affine copy it is limited by rounding (about 130 dB in
        float32).

    Raises:
        ValueError: The images differ in shape, are empty or have fewer axes than `ndim`; the
            leading axes do not broadcast; or `data_range` is not a positive scalar.
    """
    data_range = _checked_range(data_range)

    def of_image(reference, image):
        # Centring both images fits b. It comes first because sums of squares of an image with a
        # large offset lose the signal to rounding.
        reference, image = centred(reference), centred(image)
        variance = jnp.mean(image**2)
        # The inner `where` keeps the unused 0/0 out of the gradient.
        slope = jnp.where(
            variance > 0, jnp.mean(reference * image) / jnp.where(variance > 0, variance, 1), 0
        )
        return _psnr_of_error(reference - slope * image, data_range)

    return each_image(of_image, ndim, reference, image)


def snr_db(
    reference: Real[ArrayLike, "*#shape"], image: Real[ArrayLike, "*#shape"], *, ndim: int = 2
) -> Float[Array, "*N"]:
    """Return the signal-to-noise ratio against a clean image, in dB.

    It is ``10 log10(sum(reference^2) / sum((reference - image)^2))``. The signal's power includes
    its mean, so an offset in both images raises the value: subtract a known background first.

    Args:
        reference: The clean image, (H, W) or (..., H, W), any real dtype, in grey levels.
        image: The image to judge, (H, W) or (..., H, W), same unit.
        ndim: How many of the last axes are one image, static: 2; 3 for volumes (Z, H, W).

    Returns:
        A value an image in dB, ``inf`` for identical images (``nan`` if both are all zero).

    Raises:
        ValueError: The images differ in shape, are empty or have fewer axes than `ndim`, or the
            leading axes do not broadcast.
    """

    def of_image(reference, image):
        return 10 * jnp.log10(jnp.mean(reference**2) / jnp.mean((reference - image) ** 2))

    return each_image(of_image, ndim, reference, image)


def mean_over_std(image: Real[ArrayLike, "*shape"], *, ndim: int = 2) -> Float[Array, "*N"]:
    """Return the mean over the (population) standard deviation of the image itself.

    This is the "SNR" of the report that this library reproduces. It needs no reference, it is a
    plain ratio and **not in dB**, and **it rewards blur**: structure counts as noise, so a flat
    image scores best and a clean image can score below a blurred one. Use it to reproduce published
    tables, not to choose a denoiser.

    Args:
        image: (H, W) or (..., H, W), any real dtype, in grey levels.
        ndim: How many of the last axes are one image, static: 2; 3 for volumes (Z, H, W).

    Returns:
        A value an image without unit, ``inf`` for a constant positive one.

    Raises:
        ValueError: The image is empty or has fewer axes than `ndim`.
    """

    def of_image(image):
        return jnp.mean(image) / jnp.sqrt(jnp.mean(centred(image) ** 2))

    return each_image(of_image, ndim, image)


def ssim(
    reference: Real[ArrayLike, "*#shape"],
    image: Real[ArrayLike, "*#shape"],
    *,
    data_range: Scalar,
    window: str = "uniform",
    ndim: int = 2,
) -> Float[Array, "*N"]:
    """Return the mean structural similarity with K1 = 0.01 and K2 = 0.03.

    Only windows that lie wholly inside the image count, so no border rule is involved. The values
    are those of ``skimage.metrics.structural_similarity`` (which crops its borders to the same
    windows).

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
        structural similarity", IEEE Trans. Image Processing 13 (2004), equation 13.

    Args:
        reference: The clean image, (H, W) or (..., H, W), any real dtype, in grey levels.
        image: The image to judge, (H, W) or (..., H, W), same unit.
        data_range: Scalar > 0 in grey levels. It may be traced.
        window: ``"uniform"``: 7 x 7, sample covariance (scikit-image's default). ``"gaussian"``:
            sigma 1.5, 11 x 11, population covariance (the paper's; scikit-image with
            ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``).
        ndim: How many of the last axes are one image, static: 2; 3 for volumes (Z, H, W), whose
            windows are cubes.

    Returns:
        A value an image from -1 to 1, 1 for identical ones.

    Raises:
        ValueError: The images differ in shape, are smaller than the window or have fewer axes than
            `ndim`; the leading axes do not broadcast; `data_range` is not a positive scalar; or the
            window's name is unknown.
    """
    data_range = _checked_range(data_range)
    weights, normalisation = _ssim_window(window, ndim)

    def of_image(reference, image):
        if min(reference.shape) < len(weights):
            raise ValueError(
                f"ssim with the {window!r} window needs at least {len(weights)} pixels along every "
                f"axis of an image, got shape {reference.shape}: give larger images"
            )
        return _mean_ssim(reference, image, data_range, tuple(weights), normalisation)

    return each_image(of_image, ndim, reference, image)


def mean_over_frames(
    metric: Callable[..., Float[Array, ""]],
    reference: Real[Array, "_ H W"] | Real[np.ndarray, "_ H W"] | None,
    frames: Real[Array, "N H W"] | Real[np.ndarray, "N H W"],
    **options: object,
) -> float:
    """Return the mean of a metric over the frames of a stack. Host side.

    Each value is computed for its frame alone, and the mean is taken in double precision.

    Args:
        metric: Called as ``metric(reference, frame, **options)`` with images (H, W), or as
            ``metric(frame, **options)`` without a reference.
        reference: (N, H, W), or (1, H, W) for every frame; None for a metric of the frame alone,
            such as `mean_over_std`.
        frames: (N, H, W), N >= 1.
        **options: Of the metric, such as `data_range`.

    Returns:
        The mean, infinite where a frame's value is.

    Raises:
        ValueError: The reference has another number of frames than 1 and N, there are no frames, or
            the metric refuses its images.
    """
    count = len(frames)
    if count == 0 or (reference is not None and len(reference) not in (1, count)):
        found = "no reference" if reference is None else f"{len(reference)} reference frames"
        raise ValueError(
            f"the mean over frames needs 1 or as many reference frames as frames, at least one, "
            f"got {found} for {count} frames"
        )
    if reference is None:
        values = [metric(frame, **options) for frame in frames]
    else:
        last = len(reference) - 1
        values = [
            metric(reference[min(i, last)], frame, **options) for i, frame in enumerate(frames)
        ]
    return sum(map(float, values)) / count


# Compiled here because a hundred small operations would be slow one by one.
@partial(jax.jit, static_argnums=(3, 4))
def _mean_ssim(reference, image, data_range, weights, normalisation):
    # Second moments are taken of centred images: with uint16-like offsets E[x^2] - E[x]^2 would
    # otherwise cancel to noise in float32. The luminance term is not invariant to an offset, so the
    # true means are put back there.
    x, y = centred(reference), centred(image)
    moments = _valid_windows(jnp.stack([x, y, x * x, y * y, x * y]), weights)
    x_mean, y_mean, xx, yy, xy = moments
    x_var = normalisation * (xx - x_mean**2)
    y_var = normalisation * (yy - y_mean**2)
    covariance = normalisation * (xy - x_mean * y_mean)
    x_mean += jnp.mean(reference)
    y_mean += jnp.mean(image)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * x_mean * y_mean + c1) / (x_mean**2 + y_mean**2 + c1)
    structure = (2 * covariance + c2) / (x_var + y_var + c2)
    return jnp.mean(luminance * structure)


def _ssim_window(name, ndim):
    """The weights along one axis and the factor from population to the wanted covariance."""
    if name == "uniform":
        pixels = 7**ndim
        return [1 / 7] * 7, pixels / (pixels - 1)
    if name == "gaussian":
        weights = [math.exp(-0.5 * (x / 1.5) ** 2) for x in range(-5, 6)]
        return [weight / sum(weights) for weight in weights], 1.0
    raise ValueError(
        f"ssim knows the windows 'uniform' and 'gaussian', got window={name!r}: "
        "choose one of the two"
    )


def _valid_windows(images, weights):
    """Separable weighted sums over all axes but the first, only where the window fits."""
    for axis in range(1, images.ndim):
        count = images.shape[axis] - len(weights) + 1
        images = sum(
            weight * jax.lax.slice_in_dim(images, start, start + count, axis=axis)
            for start, weight in enumerate(weights)
        )
    return images


def _psnr_of_error(error, data_range):
    return 10 * jnp.log10(data_range**2 / jnp.mean(error**2))


def _checked_range(data_range):
    data_range = as_float(data_range)  # first, because a uint8 255 would overflow when squared
    if data_range.ndim != 0:
        raise ValueError(
            f"data_range must be a scalar, got shape {data_range.shape}: "
            "vmap to give each image its own"
        )
    if not isinstance(data_range, jax.core.Tracer) and not data_range > 0:
        raise ValueError(
            f"data_range must be greater than 0, got {data_range}: "
            "give 255 for 8-bit images, or reference.max() - reference.min()"
        )
    return data_range
