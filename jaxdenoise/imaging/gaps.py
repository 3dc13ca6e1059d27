"""Pixels that hold no data: NaN, the padding around an image, missing tiles of a mosaic. Host side.

They train nothing, enter no statistics, and come out of a denoising as they went in. In memory, NaN
marks them; `fill` puts in what lies beside them, so that a network sees no edge there.
"""

import numpy as np
from jaxtyping import Bool, Float, Real, Shaped
from scipy import ndimage

_BLOCK = 8  # pixels a side: noise does not make so many neighbours equal, unless there is none
_RUN = 32  # equal pixels in a row along the border
_CORE = 7  # pixels a side of the squares that a padded region is made of
_RIM = 4  # pixels around a region in which its value should not occur
# Share of the pixels of that rim. Around the zeros of photon counting and of clipped backgrounds it
# is 0.3 and more; around padding it is the chance of this grey level.
_MOST_IN_RIM = 0.1
# Single pixels inside a region, such as hot ones. Photons in the dark are many more.
_ISLAND, _MOST_ISLANDS = 25, 2
_LEAST_AREA = 64  # pixels of a region
_MOST_LEVELS = 4  # grey levels that are tried
_SQUARE, _SQUARENESS = 16, 0.95  # a missing tile: side in pixels, and share of its bounding box
_DEPTH = 16  # pixels beside a gap that are mirrored into it, again and again


def find_gaps(frame: Real[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"] | None:
    """Find the pixels of a frame that hold no data.

    They are the pixels that are not finite, and regions of exactly one grey level that touch the
    border or are rectangles. The level must end where the region does: dark pixels that were
    clipped to black, and the zeros of photon counting, fade into the image and are data.

    Args:
        frame: (H, W), any real dtype.

    Returns:
        (H, W) bool, True where there is no data; None if every pixel holds some.
    """
    found = ~np.isfinite(frame) if frame.dtype.kind == "f" else np.zeros(frame.shape, bool)
    finite = frame[~found] if found.any() else frame
    if finite.size == 0 or finite.min() == finite.max():
        return found if found.any() else None
    top = finite.max()
    for value in _candidates(np.where(found, np.nan, frame) if found.any() else frame):
        if value != top:  # saturated, not padded
            found |= _padding(frame == value, found)
    return found if found.any() else None


def fill(
    frame: Float[np.ndarray, "H W"], gaps: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Fill gaps with the pixels beside them, mirrored at the gap's edge.

    What is filled in has the brightness and the noise of the image there, and is no longer than 16
    pixels away from where it was measured.

    Args:
        frame: (H, W) in grey levels; the pixels in gaps may be anything.
        gaps: (H, W) bool, True where there is no data.

    Returns:
        (H, W), the dtype of the frame; 0 everywhere if all of it is a gap.
    """
    if gaps.all():
        return np.zeros_like(frame)
    _, nearest = ndimage.distance_transform_edt(gaps, return_indices=True)
    inside = np.nonzero(gaps)
    edge = np.stack([indices[inside] for indices in nearest])
    away = edge - np.stack(inside)
    distance = np.linalg.norm(away, axis=0)
    # Back and forth between the edge and `_DEPTH` pixels from it.
    depth = _DEPTH - abs((distance - 1) % (2 * _DEPTH) - _DEPTH)
    mirrored = np.rint(edge + away / distance * depth).astype(int)
    limits = np.array(frame.shape)[:, None] - 1
    mirrored = tuple(np.clip(mirrored, 0, limits))
    source = np.where(gaps[mirrored], edge, mirrored)
    result = frame.copy()
    result[inside] = frame[tuple(source)]
    return result


def fill_stack(
    stack: Float[np.ndarray, "N H W"],
) -> tuple[Float[np.ndarray, "N H W"], Bool[np.ndarray, "N H W"] | None]:
    """Fill the pixels of a stack that are NaN.

    Args:
        stack: (N, H, W); a frame may be NaN everywhere.

    Returns:
        The stack, filled, and where it was NaN; the stack itself and None if it was so nowhere.
        Frames without any data get the mean of the others.
    """
    gaps = np.isnan(stack)
    if not gaps.any():
        return stack, None
    filled = stack.copy()
    empty = gaps.all(axis=(1, 2))
    for n in np.flatnonzero(gaps.any(axis=(1, 2)) & ~empty):
        filled[n] = fill(stack[n], gaps[n])
    filled[empty] = 0 if empty.all() else filled[~empty].mean(dtype=np.float64)
    return filled, gaps


def mark_gaps(frame: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Return the frame with NaN at the pixels that `find_gaps` finds; itself if there are none."""
    gaps = find_gaps(frame)
    return frame if gaps is None else np.where(gaps, np.float32(np.nan), frame)


def _candidates(frame: Shaped[np.ndarray, "H W"]) -> list:
    """Grey levels that fill a block, or a long run along the border."""
    height, width = (size // _BLOCK * _BLOCK for size in frame.shape)
    values: list = []
    if height and width:
        blocks = frame[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
        lowest, highest = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
        values += np.unique(lowest[lowest == highest]).tolist()
    for line in (frame[0], frame[-1], frame[:, 0], frame[:, -1]):
        starts = np.flatnonzero(np.diff(line, prepend=np.nan) != 0)
        lengths = np.diff(starts, append=len(line))
        values += line[starts[lengths >= min(_RUN, len(line))]].tolist()
    return [value for value in dict.fromkeys(values) if np.isfinite(value)][:_MOST_LEVELS]


def _padding(equal, known):
    """The part of the pixels of one grey level that is padding: (H, W) bool."""
    padded = np.pad(equal, _CORE // 2, mode="edge")
    square = np.ones((_CORE, _CORE), bool)
    core = ndimage.binary_opening(padded, square)
    region = core[_CORE // 2 : -(_CORE // 2), _CORE // 2 : -(_CORE // 2)]
    region = ndimage.binary_dilation(region, iterations=_CORE // 2, mask=equal)
    if region.sum() < _LEAST_AREA or _islands(region | known) > _MOST_ISLANDS:
        return np.zeros_like(equal)
    labels, _ = ndimage.label(region)
    kept = np.zeros_like(region)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        own = labels == number
        if own.sum() >= _LEAST_AREA and (_touches(own) or _is_tile(own[box])):
            rim = ndimage.binary_dilation(own, iterations=_RIM) & ~own & ~known
            if rim.any() and equal[rim].mean() < _MOST_IN_RIM:
                kept |= own
    # Its thin ends are too narrow for the squares.
    return ndimage.binary_propagation(kept, mask=equal) if kept.any() else kept


def _islands(region):
    """How many small groups of pixels the region surrounds."""
    labels, count = ndimage.label(~region, np.ones((3, 3)))
    return np.count_nonzero(np.bincount(labels.ravel())[1:] < _ISLAND) if count else 0


def _touches(region):
    return region[0].any() or region[-1].any() or region[:, 0].any() or region[:, -1].any()


def _is_tile(box):
    return min(box.shape) >= _SQUARE and box.mean() >= _SQUARENESS
