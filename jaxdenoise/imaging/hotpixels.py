"""Hot pixels: single pixels far outside the image's range, stuck or hit by a cosmic ray.

One at 65,535 in an image of 150 +- 20 grey levels would set the scale of all the others, dominate
the loss, and blot the network's output around it. So hot pixels are replaced by the median of
their neighbourhood, in training and in prediction alike. Images without such pixels stay as they
are, to the bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdenoise.imaging.filters import median_filter
from jaxdenoise.imaging.levels import Scalar

# A point source is 7.4 times the median of its 3x3 pixels through a PSF of sigma 0.5 pixels, less
# through wider ones.
FACTOR = 20.0
_SHARE = 5e-4  # of the pixels, at either end, that do not count for the scale
_SAMPLE = 2**22  # pixels from which the scale is measured


def replace_hot_pixels(
    image: Float[Array, "H W"] | Float[np.ndarray, "H W"], *, std: Scalar, background: Scalar
) -> Float[Array, "H W"]:
    """Replace hot pixels by the median of their 3x3 pixels.

    A pixel is hot if it is the highest or lowest of its 3x3 pixels and its distance from their
    median is more than `FACTOR` times the standard deviation of the images, and more than `FACTOR`
    times the median's own distance from the background.

    Args:
        image: (H, W) float array in grey levels.
        std: Standard deviation of the images in grey levels, without the hot pixels.
        background: Grey level of no light.

    Returns:
        (H, W), the dtype of the image.
    """
    middle = median_filter(image, (3, 3))
    far = jnp.abs(image - middle) > FACTOR * jnp.maximum(std, jnp.abs(middle - background))
    # The flanks of a bright source are not extreme.
    extreme = (image == _highest(image)) | (image == -_highest(-image))
    return jnp.where(far & extreme, middle, image)


def _highest(image):
    """The maximum of each 3x3 pixels."""
    height, width = image.shape
    padded = jnp.pad(image, 1, mode="edge")
    rows = jnp.maximum(jnp.maximum(padded[:height], padded[1:-1]), padded[2:])
    return jnp.maximum(jnp.maximum(rows[:, :width], rows[:, 1:-1]), rows[:, 2:])


def replaced(stack: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
    """Replace the hot pixels of a stack; return the stack itself if it has none. Host side.

    The scale is the standard deviation with the most extreme 0.05 % of the pixels at either end
    clipped, the background the median.

    Args:
        stack: (N, H, W) float32, in grey levels.
    """
    sample = stack.ravel()[:: max(1, stack.size // _SAMPLE)]
    lowest, background, highest = np.quantile(sample, (_SHARE, 0.5, 1 - _SHARE))
    std = np.float32(np.clip(sample, lowest, highest).std(dtype=np.float64))
    if std == 0 or max(stack.max() - background, background - stack.min()) <= FACTOR * std:
        return stack
    return np.stack([_replaced(frame, std, np.float32(background)) for frame in stack])


@jax.jit
def _replaced(frame, std, background):
    return replace_hot_pixels(frame, std=std, background=background)
