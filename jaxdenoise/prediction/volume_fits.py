"""What a PSF that mixes planes asks of denoised volumes as a whole. Host side.

Light, blurred by the PSF, is fitted to denoised planes; and the light that they lost is kept.

A volume that is too large for that at once is fitted in blocks of planes, which overlap by more
planes than the PSF reaches.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Real

from jaxdenoise.microscope.psf import convolve
from jaxdenoise.microscope.volume_fit import STEPS, light_of
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.prediction.forward import Denoised
from jaxdenoise.prediction.light import lost_light
from jaxdenoise.prediction.tiling import Place, Tiling
from jaxdenoise.prediction.volumes import PlaneBlur, blurred_planes, pieces_of, whole_planes

MOST = 2**25  # voxels that are fitted at once: about ten times their 128 MiB
_OVERLAP = 6  # reaches of the PSF that a block sees beyond its own planes

_Tile = TypeVar("_Tile", bound=tuple)


def mixed_planes(
    tiles: Iterable[tuple[Place, Denoised]],
    denoiser: Denoiser,
    psf: Float[np.ndarray, "d h w"],
    marked: Callable[[Place], Real[np.ndarray, "h w"]] | None,
    layout: Tiling,
    sequence: int,
) -> Iterator[tuple[Place, Denoised]]:
    """Blur the light of volumes by a PSF that mixes planes, as the model says; keep what was lost.

    Args:
        tiles: places and results of all frames, in the order of their numbers.
        denoiser: the model, for its settings and scale.
        psf: (d, h, w) with odd sides, sum 1.
        marked: as of `light.with_light`; None: the results are the network's own.
        layout: of the tiles; pieces as large as its squares are yielded.
        sequence: planes in a volume.
    """
    config, whole = denoiser.config, dict[str, Any](layout=layout, sequence=sequence)
    if config.axial == "fitted":
        margin = config.positivity_margin
        tiles = fitted_planes(tiles, psf, denoiser.scale, margin=margin, **whole)
    else:
        tiles = blurred_planes(tiles, psf, denoiser.scale, **whole)
    if marked is None:
        return tiles
    return with_mixed_light(tiles, marked, psf, **whole, stride=config.network.stride)


def fitted_planes(
    tiles: Iterable[tuple[Place, Denoised]],
    psf: Float[np.ndarray, "d h w"],
    scale: Scale,
    *,
    margin: float,
    layout: Tiling,
    sequence: int,
) -> Iterator[tuple[Place, Denoised]]:
    """Fit light to denoised tiles, and blur it along all three axes.

    Args:
        tiles: places and results of all frames, in the order of their numbers; of the results
            ``denoised`` counts, in grey levels.
        psf: (d, h, w) with odd sides, sum 1.
        scale: of the model, for the background and the noise.
        margin: standard deviations of the noise by which light may be negative.
        layout: of the tiles; pieces as large as its squares are yielded.
        sequence: planes in a volume; it is reflected at its first and last plane.

    Yields:
        The places of the pieces, all of one frame together, and both results.
    """
    shape = layout.shape[1:]
    blocks = blocks_of(sequence, len(psf) // 2, most=max(MOST // (shape[0] * shape[1]), 1))
    background, dark = np.float32(scale.background), np.float32(margin * float(scale.noise))
    kept: dict[int, Float32[np.ndarray, "H W"]] = {}
    for number, plane in whole_planes(tiles, shape, "denoised"):
        at, first = number % sequence, number - number % sequence
        kept[at] = plane - background
        for block in blocks:
            if block.last != at + 1:
                continue
            seen = np.stack([kept[n] for n in range(block.first, block.last)])
            found = Denoised(*(np.asarray(one) for one in _fit(seen, psf, dark)))
            for own in range(block.start, block.stop):
                results = (values[own - block.first] + background for values in found)
                yield from pieces_of(first + own, Denoised(*results), layout.square)
        needed = min((block.first for block in blocks if block.last > at + 1), default=sequence)
        kept = {n: one for n, one in kept.items() if n >= needed}


def with_mixed_light(
    tiles: Iterable[tuple[Place, _Tile]],
    marked: Callable[[Place], Real[np.ndarray, "h w"]],
    psf: Float[np.ndarray, "d h w"],
    *,
    layout: Tiling,
    sequence: int,
    stride: int,
) -> Iterator[tuple[Place, _Tile]]:
    """Add the lost light to the planes of volumes, blurred along z as all light is.

    What a plane lost is known to its noise, which is another in each plane: by itself it would hold
    more along z than the PSF lets through.

    Args:
        tiles: as of `light.with_light`, of all frames in the order of their numbers.
        marked: as of `light.with_light`.
        psf: (d, h, w) of sum 1.
        layout: of the tiles; light is kept in each of its squares.
        sequence: planes in a volume.
        stride: as of `light.lost_light`.
    """
    along = psf.sum(axis=(1, 2), keepdims=True)
    blur, waiting = PlaneBlur(along, layout.shape[1:], sequence), deque[Any]()
    for number, whole in _whole(tiles, layout.shape[1:]):
        added = np.empty(layout.shape[1:], np.float32)
        for place, piece in pieces_of(number, whole, layout.square):
            lost = lost_light(marked(place), np.asarray(piece.denoised), stride=stride)
            added[place[1:]] = lost
        waiting.append(whole)
        blur.add(number % sequence, added)
        for at, _, light in blur.ready():
            one = waiting.popleft()
            names = ("denoised", "deconvolved")
            lit = one._replace(**{name: getattr(one, name) + light for name in names})
            yield from pieces_of(number - number % sequence + at, lit, layout.square)


def _whole(tiles, shape):
    """Each frame's number and its results, whole."""
    for number, group in itertools.groupby(tiles, key=lambda piece: int(piece[0][0])):
        whole: Any = None
        for (_, rows, columns), tile in group:
            whole = whole or tile._make(np.empty(shape, np.float32) for _ in tile)
            for values, part in zip(whole, tile, strict=True):
                values[rows, columns] = part
        yield number, whole


class Block(NamedTuple):
    """Planes that are fitted together: its own, start to stop, and all that it sees."""

    start: int
    stop: int
    first: int
    last: int


def blocks_of(sequence: int, reach: int, *, most: int) -> list[Block]:
    """Divide the planes of a volume into blocks.

    Args:
        sequence: planes in the volume.
        reach: planes on each side of a plane that the PSF reaches.
        most: planes that are fitted at once; more where the overlaps leave no others.
    """
    if sequence <= most:
        return [Block(0, sequence, 0, sequence)]
    overlap = _OVERLAP * reach
    own = max(most - 2 * overlap, overlap, 1)
    starts = range(0, sequence, own)
    stops = [min(start + own, sequence) for start in starts]
    return [
        Block(start, stop, max(start - overlap, 0), min(stop + overlap, sequence))
        for start, stop in zip(starts, stops, strict=True)
    ]


@partial(jax.jit, static_argnames="steps")
def _fit(volume, psf, dark, *, steps=STEPS):
    """The denoised and the deconvolved volume; light may be negative by ``dark``."""
    light = light_of(volume + dark, psf, steps=steps) - dark
    return Denoised(convolve(light, jnp.asarray(psf)), light)
