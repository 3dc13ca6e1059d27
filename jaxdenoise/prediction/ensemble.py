"""Several models of the same images as one: the mean of what they see, and where they disagree. Host side.

Models that differ in nothing but their random start and the patches they drew err alike in part and
apart in part; the mean loses what is apart. The disagreement shows that part only: no calibrated
uncertainty, as what all of them get wrong does not show.

Source: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty
    estimation using deep ensembles", 2017.
"""

from typing import NamedTuple

import numpy as np

from jaxdenoise.microscope.noise_estimation import noise_level
from jaxdenoise.network.stacks import checked_stack, row_length
from jaxdenoise.prediction import tiles as tiles_


class Combined(NamedTuple):
    """Of the shape of the input, float32, in grey levels.

    Attributes:
        denoised: mean of the members' denoised images.
        deconvolved: mean of their deconvolved images.
        disagreement: standard deviation of the members' denoised images (divided by members - 1); 0
            for a single member.
    """

    denoised: np.ndarray
    deconvolved: np.ndarray
    disagreement: np.ndarray


def denoise(denoisers, stack, *, tile_size=None, devices=None, on_tile=None):
    """Denoise images with several models: `tiles.denoise`, but with a list of models, and `Combined` as the result.

    Raises:
        ValueError: as `tiles.denoise`; no model, or models of different networks or PSFs.
    """
    frames = checked_stack(stack)
    results = Combined(*(np.empty_like(frames) for _ in Combined._fields))
    options = {"tile_size": tile_size, "devices": devices, "on_tile": on_tile}
    for place, tile in tiles(denoisers, frames, sequence=row_length(stack), **options):
        for result, values in zip(results, tile, strict=True):
            result[place] = values
    return Combined(*(result.reshape(np.shape(stack)) for result in results))


def tiles(denoisers, frames, *, on_tile=None, **options):
    """`denoise` piece by piece: as `tiles.tiles`, with its options, but with a list of models, and `Combined` of each place."""
    if not denoisers:
        raise ValueError("an ensemble needs at least one model")
    if len({(one.config.network, one.psf.shape) for one in denoisers}) > 1:
        raise ValueError("the models of an ensemble must have one network and one size of the PSF")
    # The last model of each place reports that the place is done.
    reports = [None] * (len(denoisers) - 1) + [on_tile]
    running = [
        tiles_.tiles(one, frames, on_tile=report, **options)
        for one, report in zip(denoisers, reports, strict=True)
    ]
    for found in zip(*running, strict=True):
        denoised, deconvolved = (
            np.stack([getattr(tile, name) for _, tile in found])
            for name in ("denoised", "deconvolved")
        )
        apart = denoised.std(axis=0, ddof=1) if len(found) > 1 else np.zeros_like(denoised[0])
        yield found[0][0], Combined(denoised.mean(axis=0), deconvolved.mean(axis=0), apart)


def difference(denoised, other, noisy):
    """Root mean square difference of two results (N, H, W), over the noise's standard deviation in the images that they are of.

    How far two ways to denoise, such as from pretrained and from random weights, came to different
    results. NaN without noise.
    """
    variance, _ = noise_level(noisy)
    squares = np.mean((np.asarray(denoised, np.float64) - other) ** 2)
    return float(np.sqrt(squares / variance)) if variance > 0 else float("nan")
