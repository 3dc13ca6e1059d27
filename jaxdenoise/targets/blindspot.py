"""Blind spots: pixels that a network must predict without seeing them. Pure JAX, for one image.

Before the network sees an image, each blind spot is replaced by a value from its neighbourhood.
Where neighbouring pixels share their noise, a blind spot also hides its neighbours: ``blind``
pixels on each side along y and x. Only the centre of such a rectangle is scored. The spots then lie
on a regular grid, so that the rectangles do not overlap.

All functions but `box_size` and `spacing` work under ``jit`` and ``vmap``;
`replace_from_neighbourhood` also works under ``grad``.

Sources:
    Krull, Buchholz and Jug, "Noise2Void", CVPR 2019. Unlike in the published code, a blind spot is
    never replaced by its own value.
    Broaddus, Krull, Weigert, Schmidt and Myers, "Removing structured noise with self-supervised
    blind-spot networks", ISBI 2020, for the hidden neighbours.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray, Shaped


def box_size(density: float) -> int:
    """Return the side in pixels of the boxes that give about ``density`` blind spots a pixel.

    Each box of the grid holds one blind spot. The side is rounded as in the published code. Host
    side.

    Args:
        density: above 0, at most 1.

    Raises:
        ValueError: the density is outside this range.

    >>> box_size(1 / 32)
    6
    """
    if not 0 < density <= 1:
        raise ValueError(f"blind-spot density must be in (0, 1], not {density}")
    return max(1, round(math.sqrt(1 / density)))


def spacing(density: float, blind: tuple[int, int] = (0, 0)) -> int:
    """Return the side in pixels of the boxes, enlarged where blind spots hide their neighbours.

    It is `box_size`, or twice the longer side of the hidden rectangles if that is more, so that
    most of the image stays visible. Host side.
    """
    return max(box_size(density), 2 * (2 * max(blind) + 1) if any(blind) else 0)


def stratified_mask(
    key: PRNGKeyArray, shape: tuple[int, ...], *, box: int, regular: bool = False
) -> Bool[Array, "H W"]:
    """Draw one random pixel in each ``box`` x ``box`` cell of a grid.

    A cell that reaches over the lower or right border keeps its pixel only if that falls inside the
    image, so every pixel of the image is equally likely: 1 / box^2.

    Args:
        key: random key.
        shape: (H, W), static.
        box: side of a cell in pixels, static; see `spacing`.
        regular: take the same place in every cell, so that the blind spots are ``box`` pixels
            apart; static.

    Returns:
        (H, W) bool, True at the blind spots.
    """
    return stratified_order(key, shape, box=box, regular=regular) == 0


def stratified_order(
    key: PRNGKeyArray, shape: tuple[int, ...], *, box: int, regular: bool = False
) -> Int[Array, "H W"]:
    """Number the pixels of each ``box`` x ``box`` cell from 0 to box^2 - 1.

    Number 0 is a random pixel; from there the numbers run row by row and wrap around at the end of
    the cell. The pixels of one number form a mask like a `stratified_mask` (number 0 is the mask of
    the same key); together the masks cover each pixel once. The arguments are those of
    `stratified_mask`.

    Returns:
        (H, W) int32.
    """
    height, width = shape
    cells = -(-height // box), -(-width // box)
    first = jax.random.randint(key, (1, 1) if regular else cells, 0, box * box)
    first = jnp.broadcast_to(first, cells)
    # Each pixel compares its place in its cell with the cell's choice. This needs no scatter, which
    # accelerators would serialise.
    first = jnp.repeat(jnp.repeat(first, box, axis=0), box, axis=1)[:height, :width]
    place = (jnp.arange(height) % box)[:, None] * box + jnp.arange(width) % box
    return (place - first) % (box * box)


def replace_from_neighbourhood(
    key: PRNGKeyArray,
    image: Shaped[ArrayLike, "H W"],
    mask: Bool[ArrayLike, "H W"],
    *,
    radius: int = 2,
    blind: tuple[int, int] = (0, 0),
    replacement: str = "random",
) -> Shaped[Array, "H W"]:
    """Replace the masked pixels, and the pixels hidden with them, from their neighbourhood.

    The neighbourhood is the rectangle of ``blind`` + ``radius`` pixels on each side of the masked
    pixel without the hidden rectangle of ``blind`` pixels; both are cut at the image's border. A
    random replacement takes each pixel of it with equal probability. Values come from the unmasked
    image, as published.

    Args:
        key: random key.
        image: (H, W) array of any dtype, with at least one pixel outside each hidden rectangle.
        mask: (H, W) bool, True at the centres, which are more than 2 ``blind`` pixels apart along y
            or x.
        radius: in pixels, static; the published neighbourhood of 5x5 pixels has radius 2.
        blind: pixels along y and x that are hidden on each side of a masked pixel, static.
        replacement: "random", or the "median" or "mean" of the neighbourhood (Hoeck et al., "N2V2",
            2022), static.

    Returns:
        (H, W), the dtype of the image.

    Raises:
        ValueError: the shapes differ, the radius is below 1, or a hidden rectangle could cover the
            whole image.
    """
    image, mask = jnp.asarray(image), jnp.asarray(mask)
    _check_neighbourhood(image, mask, radius, blind)
    hidden, centre = _hidden_pixels(mask, blind)
    if replacement == "random":
        return jnp.where(hidden, image[_random_neighbour(key, centre, radius, blind)], image)
    statistic = {"median": jnp.nanmedian, "mean": jnp.nanmean}[replacement]
    typical = _neighbourhood_statistic(statistic, image, radius, blind)
    return jnp.where(hidden, typical[*centre].astype(image.dtype), image)


def _check_neighbourhood(image, mask, radius, blind):
    if image.ndim != 2 or image.shape != mask.shape:
        raise ValueError(
            f"image and mask must have one shape (H, W), got {image.shape} and {mask.shape}"
        )
    may_be_covered = all(
        size <= 2 * reach + 1 for size, reach in zip(image.shape, blind, strict=True)
    )
    if radius < 1 or image.size == 0 or may_be_covered:
        raise ValueError(
            f"a pixel of a {image.shape[0]}x{image.shape[1]} image has no neighbour within radius "
            f"{radius} beyond {blind}"
        )


def _random_neighbour(key, centre, radius, blind):
    """Row and column (H, W) of a random pixel in the neighbourhood of each centre."""
    shape = centre[0].shape
    (top, height), (left, width) = (
        _span(*axis, radius) for axis in zip(centre, shape, blind, strict=True)
    )
    (hole_top, hole_height), (hole_left, hole_width) = (
        _span(*axis, 0) for axis in zip(centre, shape, blind, strict=True)
    )
    # The pixels around the hole are numbered row by row: first those in the rows above it, then
    # those beside it, then those below it.
    number = jax.random.randint(key, shape, 0, height * width - hole_height * hole_width)
    above, a_row = (hole_top - top) * width, jnp.maximum(width - hole_width, 1)
    beside = hole_height * (width - hole_width)
    is_beside = (above <= number) & (number < above + beside)
    # The same numbers as if the hole's rows were whole.
    whole = jnp.where(number < above, number, number - beside + hole_height * width)
    row = jnp.where(is_beside, hole_top + (number - above) // a_row, top + whole // width)
    column = left + jnp.where(is_beside, (number - above) % a_row, whole % width)
    column = jnp.where(is_beside & (column >= hole_left), column + hole_width, column)
    return row, column


def _neighbourhood_statistic(statistic, image, radius, blind):
    """A statistic of the part of each pixel's neighbourhood that lies inside the image."""
    reach = [radius + hidden for hidden in blind]
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
    """First index and length of the image's pixels within ``reach`` + ``more`` of a centre."""
    first = jnp.maximum(centre - reach - more, 0)
    return first, jnp.minimum(centre + reach + more, size - 1) - first + 1


def _hidden_pixels(mask, blind):
    """Which pixels are hidden, and for each pixel row and column of the blind spot that hides it.

    For pixels that are not hidden these are their own.
    """
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
