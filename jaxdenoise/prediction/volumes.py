"""Blur the deconvolved planes of volumes by a PSF that mixes planes, one after the other.

Host side. However many planes a volume has, as many are kept as the PSF has.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Float, Float32

from jaxdenoise.microscope.psf import in_plane, reflected
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.prediction.forward import Denoised
from jaxdenoise.prediction.tiling import Place, Share, Tiling

_Tile = TypeVar("_Tile", bound=tuple)


def psf_of_tiles(
    psf: Float[np.ndarray, "*d h w"], share: Share | None, *, fitted: bool = False
) -> Float[np.ndarray, "_ _"]:
    """Return the PSF that tiles are blurred with: none, where whole planes are blurred after them.

    Where a volume is ``fitted`` to the planes, they are blurred with the PSF in focus first.

    Raises:
        ValueError: the PSF mixes planes, of which this process has only a share.
    """
    if psf.ndim == 2:
        return psf
    if share is not None and share.count > 1:
        raise ValueError("a PSF that mixes planes needs all of them: run a single process")
    return in_plane(psf) if fitted else np.ones((1, 1), np.float32)


def blurred_planes(
    tiles: Iterable[tuple[Place, Denoised]],
    psf: Float[np.ndarray, "d h w"],
    scale: Scale,
    *,
    layout: Tiling,
    sequence: int,
) -> Iterator[tuple[Place, Denoised]]:
    """Blur deconvolved tiles along all three axes.

    Args:
        tiles: places and results of all frames, in the order of their numbers; of the results
            ``deconvolved`` counts, in grey levels.
        psf: (d, h, w) with odd sides, sum 1.
        scale: of the model, for the background.
        layout: of the tiles; pieces as large as its squares are yielded.
        sequence: planes in a volume; it is reflected at its first and last plane.

    Yields:
        The places of the pieces, all of one frame together, and both results.
    """
    blur, background = PlaneBlur(psf, layout.shape[1:], sequence), np.float32(scale.background)
    for number, plane in whole_planes(tiles, layout.shape[1:], "deconvolved"):
        blur.add(number % sequence, plane - background)
        for at, deconvolved, denoised in blur.ready():
            results = Denoised(denoised, deconvolved)
            own = Denoised(*(values + background for values in results))
            yield from pieces_of(number - number % sequence + at, own, layout.square)


def whole_planes(
    tiles: Iterable[tuple[Place, Denoised]], shape: tuple[int, ...], name: str
) -> Iterator[tuple[int, Float32[np.ndarray, "H W"]]]:
    """Yield each frame's number and one of its results, whole.

    Args:
        tiles: places and results of all frames, in the order of their numbers.
        shape: (H, W).
        name: of the field of `Denoised`.
    """
    for number, group in itertools.groupby(tiles, key=lambda piece: int(piece[0][0])):
        plane = np.empty(shape, np.float32)
        for (_, rows, columns), tile in group:
            plane[rows, columns] = getattr(tile, name)
        yield number, plane


def pieces_of(number: int, results: _Tile, square: int) -> Iterator[tuple[Place, _Tile]]:
    """Cut the results of a frame into squares, with their places."""
    whole: Any = results
    height, width = whole.denoised.shape
    for top, left in itertools.product(range(0, height, square), range(0, width, square)):
        at = slice(top, min(top + square, height)), slice(left, min(left + square, width))
        yield (number, *at), whole._make(values[at] for values in results)


class PlaneBlur:
    """The blur of a volume whose planes come one after the other.

    Each plane is transformed once, and each result once: in between, the planes' spectra are
    multiplied by those of the PSF's planes and added up.
    """

    def __init__(self, psf: Float[np.ndarray, "d h w"], shape: Any, sequence: int) -> None:
        self._reach, self._sequence, self._shape = len(psf) // 2, sequence, tuple(shape)
        self._rims = [side // 2 for side in psf.shape[1:]]
        self._sides = tuple(
            scipy.fft.next_fast_len(length + 2 * rim, real=True)
            for length, rim in zip(shape, self._rims, strict=True)
        )
        self._spectra_of_psf = [jnp.fft.rfft2(plane, self._sides) for plane in psf]
        # Where the volume has fewer planes than the PSF, all of them stay.
        kept = min(2 * self._reach + 1, sequence)
        self._spectra: deque[tuple[int, Any]] = deque(maxlen=kept)
        self._waiting: deque[tuple[int, Float32[np.ndarray, "H W"]]] = deque()

    def add(self, at: int, plane: Float32[np.ndarray, "H W"]) -> None:
        """Take the next plane, of which it is the number in its volume."""
        if at == 0:
            self._spectra.clear()
        extended = np.pad(plane, [(rim, rim) for rim in self._rims], mode="reflect")
        self._spectra.append((at, jnp.fft.rfft2(extended, self._sides)))
        self._waiting.append((at, plane))

    def ready(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield the planes whose light is all there: number, deconvolved, denoised."""
        last = self._spectra[-1][0]
        while self._waiting and (
            self._waiting[0][0] + self._reach <= last or last == self._sequence - 1
        ):
            at, plane = self._waiting.popleft()
            yield at, plane, self._blurred(at)

    def _blurred(self, at):
        spectra = dict(self._spectra)
        places = reflected(
            at + np.arange(self._reach, -self._reach - 1, -1), self._sequence
        ).tolist()
        total = sum(
            spectra[place] * own for place, own in zip(places, self._spectra_of_psf, strict=True)
        )
        whole = np.asarray(jnp.fft.irfft2(total, self._sides))
        # The middle of the PSF is its first pixel plus the rim, and so is that of the reflection.
        (down, right), (height, width) = self._rims, self._shape
        return whole[2 * down : 2 * down + height, 2 * right : 2 * right + width]
