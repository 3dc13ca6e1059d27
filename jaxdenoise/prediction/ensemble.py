"""Several models of the same images as one: their mean, and where they disagree. Host side.

The models differ only in their random start and in the patches that they drew. Their errors are
partly shared and partly independent; the mean reduces the independent part. The disagreement shows
that part only. It is no calibrated uncertainty: errors that all models share do not show.

Source: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty
    estimation using deep ensembles", 2017.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Real

from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.imaging.hotpixels import replaced
from jaxdenoise.io.frames import ReadableFrames
from jaxdenoise.microscope.noise_level import noise_level_of
from jaxdenoise.microscope.psf import in_plane, trimmed
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.stacks import checked_stack, row_length
from jaxdenoise.prediction.light import with_light
from jaxdenoise.prediction.tiles import denoise_tiles, marked_by
from jaxdenoise.prediction.tiling import Place, Share, make_tiling
from jaxdenoise.prediction.volume_fits import with_mixed_light


class Combined(NamedTuple):
    """The results of an ensemble, of the shape of its input, float32, in grey levels.

    Attributes:
        denoised: mean of the members' denoised images.
        deconvolved: mean of their deconvolved images.
        disagreement: standard deviation of the members' denoised images (divided by members - 1); 0
            for a single member.
    """

    denoised: Float32[np.ndarray, "*shape"]
    deconvolved: Float32[np.ndarray, "*shape"]
    disagreement: Float32[np.ndarray, "*shape"]


def denoise_ensemble(
    denoisers: Sequence[Denoiser],
    stack: Real[Array | np.ndarray, "*batch H W"],
    *,
    tile_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_tile: Callable[[int, int], object] | None = None,
    keep_light: bool = True,
) -> Combined:
    """Denoise images with several models; return their mean and their disagreement. Host side.

    Args:
        denoisers: the models, at least one, of one network and one size of the PSF.
        stack: as in `tiles.denoise`.
        tile_size: as in `tiles.denoise`.
        devices: as in `tiles.denoise`.
        on_tile: as in `tiles.denoise`; a tile is done when all models have denoised it.
        keep_light: as in `tiles.denoise`, by the mean of the models.

    Returns:
        `Combined` of NumPy arrays.

    Raises:
        ValueError: as `tiles.denoise`; no model, or models of different networks or PSFs.
    """
    frames, gaps = fill_stack(replaced(checked_stack(stack)))
    results = Combined(*(np.empty_like(frames) for _ in Combined._fields))
    pieces = ensemble_tiles(
        denoisers,
        frames,
        sequence=row_length(stack),
        tile_size=tile_size,
        devices=devices,
        on_tile=on_tile,
        marked=marked_by(frames, gaps) if keep_light else None,
    )
    for place, tile in pieces:
        for result, values in zip(results, tile, strict=True):
            result[place] = values
    if gaps is not None:
        for result in results:
            result[gaps] = np.nan
    return Combined(*(result.reshape(np.shape(stack)) for result in results))


def ensemble_tiles(
    denoisers: Sequence[Denoiser],
    frames: Real[Array | np.ndarray, "N H W"] | ReadableFrames,
    *,
    sequence: int | None = None,
    tile_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    share: Share | None = None,
    on_tile: Callable[[int, int], object] | None = None,
    marked: Callable[[Place], Real[np.ndarray, "h w"]] | None = None,
    only: Collection[int] | None = None,
) -> Iterator[tuple[Place, Combined]]:
    """Denoise with several models tile by tile, for images larger than the memory. Host side.

    Args:
        denoisers: as in `denoise_ensemble`.
        frames: as in `tiles.denoise_tiles`.
        sequence: as in `tiles.denoise_tiles`.
        tile_size: as in `tiles.denoise_tiles`.
        devices: as in `tiles.denoise_tiles`.
        share: as in `tiles.denoise_tiles`.
        on_tile: as in `denoise_ensemble`.
        marked: as in `tiles.denoise_tiles`.
        only: as in `tiles.denoise_tiles`.

    Yields:
        The place of a tile, (n, rows, columns) with two slices, and `Combined` of it (h, w).

    Raises:
        ValueError: as `denoise_ensemble`.
    """
    if not denoisers:
        raise ValueError("an ensemble needs at least one model")
    if len({(one.config.network, one.psf.shape) for one in denoisers}) > 1:
        raise ValueError("the models of an ensemble must have one network and one size of the PSF")
    last = len(denoisers) - 1  # the last model of each place reports that the place is done
    running = [
        denoise_tiles(
            denoiser,
            frames,
            sequence=sequence,
            tile_size=tile_size,
            devices=devices,
            share=share,
            on_tile=on_tile if number == last else None,
            only=only,
        )
        for number, denoiser in enumerate(denoisers)
    ]
    tiles = _combined(running)
    if marked is not None:
        network, psf = denoisers[0].config.network, trimmed(denoisers[0].psf)
        layout = make_tiling(frames.shape, tile_size, network, in_plane(psf), share)
        if psf.ndim == 3:
            row, stride = sequence or len(frames), network.stride
            tiles = with_mixed_light(tiles, marked, psf, layout=layout, sequence=row, stride=stride)
        else:
            tiles = with_light(tiles, marked, square=layout.square, stride=network.stride)
    yield from tiles


def _combined(running):
    for members in zip(*running, strict=True):
        place = members[0][0]
        denoised = np.stack([tile.denoised for _, tile in members])
        deconvolved = np.stack([tile.deconvolved for _, tile in members])
        disagreement = (
            denoised.std(axis=0, ddof=1) if len(members) > 1 else np.zeros_like(denoised[0])
        )
        yield place, Combined(denoised.mean(axis=0), deconvolved.mean(axis=0), disagreement)


def rms_difference_over_noise(
    denoised: Float[Array | np.ndarray, "N H W"],
    other: Float[Array | np.ndarray, "N H W"],
    noisy: Real[Array | np.ndarray, "N H W"],
) -> float:
    """Return the root mean square difference of two results over the noise's standard deviation.

    It says how far two ways to denoise, such as from pretrained and from random weights, came to
    different results. Host side.

    Args:
        denoised: one result (N, H, W), in grey levels.
        other: the other result.
        noisy: the images that both were made from; the noise is estimated from them.

    Returns:
        A number without unit; NaN for images without noise.
    """
    variance, _ = noise_level_of(noisy)
    squares = np.mean((np.asarray(denoised, np.float64) - other) ** 2)
    return float(np.sqrt(squares / variance)) if variance > 0 else float("nan")
