"""Blind spots: which pixels a network must predict without seeing them, and what it sees in their place. Pure JAX, for one image.

Source: Krull, Buchholz and Jug, "Noise2Void", CVPR 2019. Unlike the published code a replaced value is never the pixel's own.
"""

import math

import jax
import jax.numpy as jnp


def box_size(density):
    """Side of the grid's boxes that gives about ``density`` blind spots a pixel (0 < density <= 1), rounded as published.

    >>> box_size(1 / 32)
    6
    """
    if not 0 < density <= 1:
        raise ValueError(f"blind-spot density must be in (0, 1], not {density}")
    return max(1, round(math.sqrt(1 / density)))


def stratified_mask(key, shape, *, box):
    """One random pixel in each ``box`` x ``box`` cell of a grid.

    Cells that reach over the lower or right border keep their pixel only if it falls inside the image, so that every pixel of the
    image is equally likely: 1 / box^2.

    Args:
        key: random key.
        shape: (H, W), static.
        box: side of a cell in pixels, static; see `box_size`.

    Returns:
        (H, W) bool, True at the blind spots.
    """
    return stratified_order(key, shape, box=box) == 0


def stratified_order(key, shape, *, box):
    """Numbers the pixels of each ``box`` x ``box`` cell from 0 to box^2 - 1, from a random one on, row by row, around the cell's end.

    The pixels of one number are a `stratified_mask` (number 0: that of the same key); together they cover each pixel once. Arguments as
    there.

    Returns:
        (H, W) int32.
    """
    height, width = shape
    cells = -(-height // box), -(-width // box)
    first = jax.random.randint(key, cells, 0, box * box)
    # Each pixel compares its place in its cell with the cell's choice: no scatter, which accelerators would serialise.
    first = jnp.repeat(jnp.repeat(first, box, axis=0), box, axis=1)[:height, :width]
    place = (jnp.arange(height) % box)[:, None] * box + jnp.arange(width) % box
    return (place - first) % (box * box)


def replace_from_neighbourhood(key, image, mask, *, radius=2):
    """Replace the masked pixels, each by a random other pixel of its neighbourhood.

    The neighbourhood is the (2 radius + 1)^2 square around the pixel, cut at the image's border; every pixel in it but the centre is
    equally likely. Values are taken from the unmasked image, as published.

    Args:
        key: random key.
        image: (H, W) array of any dtype, at least two pixels in all.
        mask: (H, W) bool, True where a pixel is replaced.
        radius: in pixels, static; the published 5x5 neighbourhood is 2.

    Returns:
        (H, W), the dtype of the image.

    Raises:
        ValueError: shapes differ, radius below 1, or an image of a single pixel.
    """
    image, mask = jnp.asarray(image), jnp.asarray(mask)
    if image.ndim != 2 or image.shape != mask.shape:
        raise ValueError(f"image and mask must have one shape (H, W), got {image.shape} and {mask.shape}")
    if radius < 1 or image.size < 2:
        raise ValueError(f"a pixel of a {image.shape[0]}x{image.shape[1]} image has no neighbour within radius {radius}")
    height, width = image.shape
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    top, left = jnp.maximum(y - radius, 0), jnp.maximum(x - radius, 0)
    rows = jnp.minimum(y + radius, height - 1) - top + 1
    columns = jnp.minimum(x + radius, width - 1) - left + 1
    # The others are numbered row by row with the pixel itself left out: numbers from its own on move up by one.
    itself = (y - top) * columns + (x - left)
    other = jax.random.randint(key, image.shape, 0, rows * columns - 1)
    other = jnp.where(other >= itself, other + 1, other)
    neighbour = image[top + other // columns, left + other % columns]
    return jnp.where(mask, neighbour, image)
