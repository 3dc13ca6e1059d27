"""Hot pixels: single pixels of a camera that are stuck, or that a cosmic ray hit, far beyond all that the image holds.

One at 65,535 in an image of 150 +- 20 grey levels would set the scale of all the others, be the
target that the loss sees most of, and make the network's output a blot. So they are taken for the
median of their neighbourhood, in training and in prediction alike. Images without such pixels stay
as they are, to the bit.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.imaging.filters import median_filter

# a point source is 7.4 times the median of its 3x3 pixels through a PSF of sigma 0.5 pixels, less
# through wider ones
FACTOR = 20.0
_SHARE = 5e-4  # of the pixels at either end that do not count for the scale
_SAMPLE = 2**22  # pixels that the scale is taken from


def replace_hot_pixels(image, *, std, background):
    """An image with the hot pixels taken for the median of their 3x3 pixels. Pure JAX.

    Hot is the highest or lowest of 3x3 pixels if its distance from their median is more than
    `FACTOR` times the standard deviation of the images, and more than `FACTOR` times the median's
    own distance from the background.

    Args:
        image: (H, W) float array in grey levels.
        std: scalar, the images' standard deviation in grey levels, without those pixels.
        background: scalar, the grey level of no light.

    Returns:
        (H, W), the dtype of the image.
    """
    middle = median_filter(image, (3, 3))
    far = jnp.abs(image - middle) > FACTOR * jnp.maximum(std, jnp.abs(middle - background))
    extreme = (image == _highest(image)) | (
        image == -_highest(-image)
    )  # the skirts of a bright source are not
    return jnp.where(far & extreme, middle, image)


def _highest(image):
    """The maximum of each 3x3 pixels."""
    height, width = image.shape
    padded = jnp.pad(image, 1, mode="edge")
    rows = jnp.maximum(jnp.maximum(padded[:height], padded[1:-1]), padded[2:])
    return jnp.maximum(jnp.maximum(rows[:, :width], rows[:, 1:-1]), rows[:, 2:])


def replaced(stack):
    """A stack (N, H, W) float32 with its hot pixels replaced, the stack itself if it has none. Host side.

    Its scale is the standard deviation without the most extreme 0.05 % of the pixels at either end,
    its background their median.
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
