"""Medians of sliding windows by sorting networks, in any number of dimensions, on the device.

`filters.median_filter` is the public face. A sorting network is a fixed list of comparators (a
minimum and a maximum), so all pixels go through it side by side. Windows of up to `LARGEST_DIRECT`
pixels take one network each, which XLA fuses to one pass that keeps nothing in memory. Larger
windows share their work: the outputs of a tile have most of their windows in common, and that part
is sorted once.
"""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Real

# Pixels of a window (13 x 13); beyond it the compile time of one network explodes.
LARGEST_DIRECT = 169
# Outputs that the shared networks compute at once: their sorted lists should fit the cache.
_BLOCK = 8192


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def window_median(extended: Real[Array, "..."], sizes: tuple[int, ...]) -> Real[Array, "..."]:
    """Take the median of every window that lies wholly inside the array.

    Args:
        extended: Array of any number of dimensions and any integer or float dtype: the image with
            its border.
        sizes: One odd window length an axis, static.

    The derivative is a subgradient: the mean of the derivatives of those pixels of the window that
    equal the median.

    Returns:
        The medians: the input's shape less ``size - 1`` along each axis, its dtype. NaN sorts above
        all numbers (below them where its sign bit is set), as one more value.
    """
    order = _to_integers(extended)
    direct = math.prod(sizes) <= LARGEST_DIRECT
    return _from_integers(
        _direct(order, sizes) if direct else _in_blocks(order, sizes), extended.dtype
    )


@window_median.defjvp
def _window_median_jvp(sizes, primals, tangents):
    (extended,), (tangent,) = primals, tangents
    median = window_median(extended, sizes)

    def add(sums, start):
        total, count = sums
        chosen = jax.lax.dynamic_slice(extended, start, median.shape) == median
        total += jnp.where(chosen, jax.lax.dynamic_slice(tangent, start, median.shape), 0).astype(
            total.dtype
        )
        return (total, count + chosen), None

    starts = jnp.array(list(itertools.product(*map(range, sizes))))
    # Half precision does not count far.
    none = jnp.zeros(median.shape, jnp.promote_types(median.dtype, jnp.float32))
    # Without the checkpoint a gradient would keep every `chosen`.
    (total, count), _ = jax.lax.scan(jax.checkpoint(add), (none, none), starts)
    return median, (total / count).astype(median.dtype)


def _to_integers(x):
    """Map floats to integers of the same order: integers compare faster and are never NaN."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    bits = jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")
    return _flip_negative(bits)


def _from_integers(order, dtype):
    return (
        jax.lax.bitcast_convert_type(_flip_negative(order), dtype)
        if jnp.issubdtype(dtype, jnp.floating)
        else order
    )


def _flip_negative(bits):
    # Floats are sign and magnitude: the larger the bits of a negative number, the smaller it is.
    # The map is its own inverse.
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


# --- one network a window


def _direct(x, sizes):
    shape = [length - size + 1 for length, size in zip(x.shape, sizes, strict=True)]
    starts = itertools.product(*map(range, sizes))
    values = [jax.lax.slice(x, start, np.add(start, shape).tolist()) for start in starts]
    for low, high in _median_network(len(values)):
        values[low], values[high] = (
            jnp.minimum(values[low], values[high]),
            jnp.maximum(values[low], values[high]),
        )
    return values[len(values) // 2]


@cache
def _median_network(count):
    """The comparators (low, high) of Batcher's mergesort on which the middle output depends.

    Source: Batcher, "Sorting networks and their applications", AFIPS 1968, the odd-even mergesort;
        Knuth, The Art of Computer Programming, 5.2.2, algorithm M.
    """
    needed, network = {count // 2}, []
    for low, high in reversed(list(_sorting_network(count))):
        if low in needed or high in needed:
            network.append((low, high))
            needed |= {low, high}
    return network[::-1]


def _sorting_network(count):
    run = 1
    while run < count:
        step = run
        while step >= 1:
            for start in range(step % run, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * run) == (low + step) // (2 * run):
                        yield low, low + step
            step //= 2
        run *= 2


# --- networks that windows share
#
# The outputs of a tile of t pixels along an axis have size - t + 1 pixels of their windows in
# common: the tile's core. A core is kept as a sorted list. Pixels that cannot be the median of any
# output of the tile, because too many others are below or above them, are dropped. Halving the
# tile adds a slab of pixels to the core of each half: sort the slab, merge it in, drop again. A
# tile of one output holds its median alone. The work of an output grows as size * log(size)^2 in
# two dimensions, where sorting each window would take size^2 * log(size)^2.
#
# Source: Adams, "Fast median filters using separable sorting networks", ACM Transactions on
# Graphics 40 (2021), here with bitonic merges (Batcher 1968) along a leading axis, so that each
# stage is one operation on arrays.


def _in_blocks(x, sizes):
    """Medians block by block, so that memory does not grow with window times image."""
    outputs = [length - size + 1 for length, size in zip(x.shape, sizes, strict=True)]
    # The largest powers of two that leave half a window in common.
    tile = [1 << ((size + 1) // 2).bit_length() - 1 for size in sizes]
    block = _block_shape(outputs, tile)
    counts = [-(-output // side) for output, side in zip(outputs, block, strict=True)]
    filled = [
        (0, count * side - output)
        for count, side, output in zip(counts, block, outputs, strict=True)
    ]
    x = jnp.pad(x, filled, mode="edge")
    window = [side + size - 1 for side, size in zip(block, sizes, strict=True)]
    corners = jnp.array(list(itertools.product(*map(range, counts)))) * jnp.array(block)
    blocks = jax.lax.map(
        lambda corner: _by_tiles(jax.lax.dynamic_slice(x, corner, window), sizes, tile), corners
    )
    # (blocks of each axis..., pixels of each axis...) to (blocks, pixels) an axis
    order = [place for axis in range(x.ndim) for place in (axis, x.ndim + axis)]
    whole = (
        blocks.reshape(*counts, *block)
        .transpose(order)
        .reshape([a * b for a, b in zip(counts, block, strict=True)])
    )
    return jax.lax.slice(whole, [0] * x.ndim, outputs)


def _block_shape(outputs, tile):
    """The sides of a block of about `_BLOCK` outputs, a whole number of tiles along each axis.

    It is long along the last axis, where the processor works in parallel.
    """
    block = [side * -(-output // side) for output, side in zip(outputs, tile, strict=True)]
    for axis, unit in enumerate(tile):
        while math.prod(block) > _BLOCK and block[axis] > unit:
            block[axis] = unit * -(-block[axis] // (2 * unit))
    return block


def _by_tiles(x, sizes, tile):
    """Medians of a block whose sides are whole numbers of tiles."""
    tile, pixels = list(tile), math.prod(sizes)
    outputs = [length - size + 1 for length, size in zip(x.shape, sizes, strict=True)]

    def common():
        return [size - side + 1 for size, side in zip(sizes, tile, strict=True)]

    def candidates(length, dropped):
        # With `missing` pixels yet to come, a pixel can be the median only if at most pixels // 2
        # are below it and as many above. `dropped` pixels are below the list.
        missing = pixels - math.prod(common())
        return max(0, pixels // 2 - dropped - missing), min(length - 1, pixels // 2 - dropped)

    core = _sort(_gather(x, outputs, tile, [side - 1 for side in tile], common()))
    first, last = candidates(len(core), 0)
    core, dropped = core[first : last + 1], first
    while max(tile) > 1:
        axis = tile.index(max(tile))
        half = tile[axis] // 2
        below, above, extent = [side - 1 for side in tile], [side - 1 for side in tile], common()
        below[axis], above[axis], extent[axis] = half - 1, sizes[axis], half
        slabs = [_sort(_gather(x, outputs, tile, start, extent)) for start in (below, above)]
        tile[axis] = half
        first, last = candidates(len(core) + len(slabs[0]), dropped)
        core = jnp.stack([_merge(core, slab, first, last) for slab in slabs], axis=axis + 2)
        core = core.reshape(
            -1, *(output // side for output, side in zip(outputs, tile, strict=True))
        )
        dropped += first
    return core[0]


def _gather(x, outputs, tile, start, extent):
    """For every tile the pixels of a box that begins `start` pixels behind the tile's origin.

    The result is (pixels, tiles of each axis...).
    """
    index = []
    for axis, (output, side) in enumerate(zip(outputs, tile, strict=True)):
        places = start[axis] + np.arange(extent[axis])[:, None] + side * np.arange(output // side)
        shape = [1] * 2 * x.ndim
        shape[axis], shape[x.ndim + axis] = places.shape
        index.append(places.reshape(shape))
    found = x[tuple(index)]
    return found.reshape(-1, *found.shape[x.ndim :])


def _sort(x):
    """Sort along the first axis."""
    count = len(x)
    x, run = _fill(x, _power_of_two(count)), 1
    while run < len(x):
        x, step = _stage(x, run, mirrored=True), run // 2
        while step >= 1:
            x, step = _stage(x, step), step // 2
        run *= 2
    return x[:count]


def _merge(a, b, first, last):
    """The elements from `first` to `last` (inclusive) of two sorted lists together, sorted."""
    run = _power_of_two(max(len(a), len(b)))
    x, step, mirrored = jnp.concatenate([_fill(a, run), _fill(b, run)]), run, True
    while step >= 1:
        x, mirrored = _stage(x, step, mirrored=mirrored), False
        # From here on runs of `step` elements are in order among each other: drop those that hold
        # no element from `first` to `last`.
        begin, end = first // step * step, (last // step + 1) * step
        x, first, last, step = x[begin:end], first - begin, last - begin, step // 2
    return x


def _stage(x, step, *, mirrored=False):
    """Compare elements `step` apart; `mirrored` reverses every second run of `step` elements."""
    pairs = x.reshape(-1, 2, step, *x.shape[1:])
    a, b = pairs[:, 0], pairs[:, 1, ::-1] if mirrored else pairs[:, 1]
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    result = jnp.stack([low, high[:, ::-1] if mirrored else high], axis=1).reshape(x.shape)
    # Fused stages would compute every comparator twice for each stage behind it.
    return jax.lax.optimization_barrier(result)


def _power_of_two(count):
    return 1 << (count - 1).bit_length()


def _fill(x, count):
    top = jnp.full((count - len(x), *x.shape[1:]), jnp.iinfo(x.dtype).max, x.dtype)
    return jnp.concatenate([x, top])
