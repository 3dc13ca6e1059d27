"""Images that are compared, alone or in stacks: their shapes and their means."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxdenoise.imaging.levels import as_float


def each_image(
    metric: Callable[..., Float[Array, ""]], ndim: int, *images: Real[ArrayLike, "..."]
) -> Float[Array, "*N"]:
    """Apply a metric to each image of stacks, whose leading axes broadcast.

    Args:
        metric: of images as floats; it returns a scalar.
        ndim: how many of the last axes are one image.
        images: (..., H, W) each, or with other axes of ``ndim``.

    Raises:
        ValueError: There are fewer axes than `ndim`, the images differ in shape or are empty, or
            the leading axes do not broadcast.
    """
    floats = tuple(map(as_float, images))
    shapes = [image.shape for image in floats]
    if ndim < 1 or min(map(len, shapes)) < ndim:
        raise ValueError(
            f"an image has {ndim} axes here, got shape {min(shapes, key=len)}: give (H, W) or a "
            "stack (..., H, W), or say with ndim how many axes an image has"
        )
    try:
        jnp.broadcast_shapes(*(shape[:-ndim] for shape in shapes))
        fit = len({shape[-ndim:] for shape in shapes}) == 1
    except ValueError:
        fit = False
    if not fit:
        raise ValueError(
            f"reference and image must have the same shape, or one of them be a stack of it, got "
            f"{' and '.join(map(str, shapes))}: crop one of them"
        )
    for image in floats:
        _check_not_empty(image)
    axes = ",".join(f"n{axis}" for axis in range(ndim))
    signature = ",".join([f"({axes})"] * len(floats)) + "->()"
    return jnp.vectorize(metric, signature=signature)(*floats)


def centred(image: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Subtract the mean, without the rounding error of a large offset."""
    # One pixel is subtracted before the mean: the mean is then taken of small numbers, and a
    # constant image becomes exactly zero.
    shifted = image - image.ravel()[0]
    return shifted - jnp.mean(shifted)


def float_pair(
    reference: Real[ArrayLike, "*shape"], image: Real[ArrayLike, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return two images as floats to compute with.

    Raises:
        ValueError: The shapes differ or the images are empty.
    """
    reference, image = as_float(reference), as_float(image)
    if reference.shape != image.shape:
        raise ValueError(
            f"reference and image must have the same shape, got {reference.shape} and "
            f"{image.shape}: crop one of them, or vmap over the axis that only one has"
        )
    _check_not_empty(image)
    return reference, image


def _check_not_empty(image):
    if image.size == 0:
        raise ValueError(
            f"an image needs at least one pixel, got shape {image.shape}: "
            "check the crop that made it"
        )
