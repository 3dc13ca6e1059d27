"""Blind spots: which pixels a network must predict without seeing them, and what it sees in their place. Pure JAX, for one image.

Where neighbouring pixels share their noise, a blind spot hides its neighbourhood too: ``blind``
pixels on each side along y and x, of which only the centre is scored. Then the spots lie on a
regular grid, so that these rectangles do not overlap.

Sources: Krull, Buchholz and Jug, "Noise2Void", CVPR 2019; unlike the published code a replaced
    value is never the pixel's own. Broaddus,
Krull, Weigert, Schmidt and Myers, "Removing structured noise with self-supervised blind-spot
networks", ISBI 2020, for the neighbourhoods.
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


def spacing(density, blind=(0, 0)):
    """Side of the grid's boxes: `box_size`, or twice the longer side of the ``blind`` neighbourhoods, so that most of the image is seen."""
    return max(box_size(density), 2 * (2 * max(blind) + 1) if any(blind) else 0)


def stratified_mask(key, shape, *, box, regular=False):
    """One random pixel in each ``box`` x ``box`` cell of a grid.

    Cells that reach over the lower or right border keep their pixel only if it falls inside the
    image, so that every pixel of the
    image is equally likely: 1 / box^2.

    Args:
        key: random key.
        shape: (H, W), static.
        box: side of a cell in pixels, static; see `spacing`.
        regular: take the same pixel of every cell, so that the blind spots are ``box`` apart;
            static.

    Returns:
        (H, W) bool, True at the blind spots.
    """
    return stratified_order(key, shape, box=box, regular=regular) == 0


def stratified_order(key, shape, *, box, regular=False):
    """Numbers the pixels of each ``box`` x ``box`` cell from 0 to box^2 - 1, from a random one on, row by row, around the cell's end.

    The pixels of one number are a `stratified_mask` (number 0: that of the same key); together they
    cover each pixel once. Arguments as there.

    Returns:
        (H, W) int32.
    """
    height, width = shape
    cells = -(-height // box), -(-width // box)
    first = jax.random.randint(key, (1, 1) if regular else cells, 0, box * box)
    first = jnp.broadcast_to(first, cells)
    # Each pixel compares its place in its cell with the cell's choice: no scatter, which
    # accelerators would serialise.
    first = jnp.repeat(jnp.repeat(first, box, axis=0), box, axis=1)[:height, :width]
    place = (jnp.arange(height) % box)[:, None] * box + jnp.arange(width) % box
    return (place - first) % (box * box)


def replace_from_neighbourhood(key, image, mask, *, radius=2, blind=(0, 0), by="random"):
    """Replace the masked pixels and what is hidden with them, each by a random pixel of the neighbourhood.

    The neighbourhood is the rectangle of ``blind`` + ``radius`` pixels on each side of the masked
    pixel without the hidden one of ``blind``, both cut at the image's border; every pixel in it is
    equally likely. Values come from the unmasked image, as published.

    Args:
        key: random key.
        image: (H, W) array of any dtype, with at least one pixel outside each hidden rectangle.
        mask: (H, W) bool, True at the centres; more than 2 ``blind`` pixels apart along y or x.
        radius: in pixels, static; the published 5x5 neighbourhood is 2.
        blind: pixels along y and x that are hidden on each side of a masked pixel, static.
        by: "random", or "median" or "mean" of the neighbourhood instead (Hoeck et al., "N2V2",
            2022), static.

    Returns:
        (H, W), the dtype of the image.

    Raises:
        ValueError: shapes differ, radius below 1, or an image that a hidden rectangle could cover.
    """
    image, mask = jnp.asarray(image), jnp.asarray(mask)
    if image.ndim != 2 or image.shape != mask.shape:
        raise ValueError(
            f"image and mask must have one shape (H, W), got {image.shape} and {mask.shape}"
        )
    if (
        radius < 1
        or image.size == 0
        or all(size <= 2 * reach + 1 for size, reach in zip(image.shape, blind, strict=True))
    ):
        raise ValueError(
            f"a pixel of a {image.shape[0]}x{image.shape[1]} image has no neighbour within radius {radius} beyond {blind}"
        )
    hidden, centre = _hidden(mask, blind)
    if by != "random":
        typical = _of_neighbourhood(
            {"median": jnp.nanmedian, "mean": jnp.nanmean}[by], image, radius, blind
        )
        return jnp.where(hidden, typical[*centre].astype(image.dtype), image)
    (top, height), (left, width) = (
        _span(*at, radius) for at in zip(centre, image.shape, blind, strict=True)
    )
    (hole_top, hole_height), (hole_left, hole_width) = (
        _span(*at, 0) for at in zip(centre, image.shape, blind, strict=True)
    )
    # The pixels around the hole are numbered row by row: those in the rows above it, beside it,
    # below it.
    number = jax.random.randint(key, image.shape, 0, height * width - hole_height * hole_width)
    above, a_row = (hole_top - top) * width, jnp.maximum(width - hole_width, 1)
    beside = hole_height * (width - hole_width)
    is_beside = (above <= number) & (number < above + beside)
    whole = jnp.where(
        number < above, number, number - beside + hole_height * width
    )  # numbered with the hole's rows
    row = jnp.where(is_beside, hole_top + (number - above) // a_row, top + whole // width)
    column = left + jnp.where(is_beside, (number - above) % a_row, whole % width)
    column = jnp.where(is_beside & (column >= hole_left), column + hole_width, column)
    return jnp.where(hidden, image[row, column], image)


def _of_neighbourhood(statistic, image, radius, blind):
    """A statistic of each pixel's neighbourhood, as far as that exists."""
    reach = [radius + own for own in blind]
    padded = jnp.pad(
        image.astype(jnp.float32), [(width, width) for width in reach], constant_values=jnp.nan
    )
    steps = [
        (y, x)
        for y in range(-reach[0], reach[0] + 1)
        for x in range(-reach[1], reach[1] + 1)
        if abs(y) > blind[0] or abs(x) > blind[1]
    ]
    parts = [
        jax.lax.dynamic_slice(padded, (reach[0] + y, reach[1] + x), image.shape) for y, x in steps
    ]
    return statistic(jnp.stack(parts), axis=0)


def _span(centre, size, reach, more):
    """First index and length of the pixels up to ``reach`` + ``more`` from a centre that exist."""
    first = jnp.maximum(centre - reach - more, 0)
    return first, jnp.minimum(centre + reach + more, size - 1) - first + 1


def _hidden(mask, blind):
    """Which pixels are hidden, and row and column of the masked pixel that hides each; of the others their own."""
    hidden, centre = mask, list(jnp.meshgrid(*map(jnp.arange, mask.shape), indexing="ij"))
    for axis, reach in enumerate(blind):
        before = [
            jnp.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)])
            for values in (hidden, *centre)
        ]
        for start in (*range(reach), *range(reach + 1, 2 * reach + 1)):
            there, *place = (
                jax.lax.slice_in_dim(values, start, start + mask.shape[axis], axis=axis)
                for values in before
            )
            centre = [jnp.where(there, new, old) for new, old in zip(place, centre, strict=True)]
            hidden |= there
    return hidden, centre
