"""Denoised files: from models and opened images to what is written. Host side."""

import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jaxdenoise.io import images, omezarr
from jaxdenoise.prediction import ensemble, tiling
from jaxdenoise.prediction.tiles import Denoised, denoise
from jaxdenoise.system.crew import current_crew

_KEPT = (
    2**23
    # pixels of a file whose results are kept for the report, which denoises its examples again of a
    # larger one
)
_APART = 0.5  # of the noise: results of other weights that differ by more deserve a warning


def denoise_file(args, ensembles, parts, targets, bars, *, keep):
    """Denoise a file tile by tile into others, `targets`, which appear when they are whole.

    Args:
        args: the parsed command line.
        ensembles: list of lists of `denoiser.Denoiser`, one list a part.
        parts: list of `images.ImageFile`, the frames of the file that each of them denoises.
        targets: dict of a field of `ensemble.Combined` to the path of these images.
        bars: `terminal.Bars` or `terminal.Silence`.
        keep: whether the results are wanted.

    Returns:
        List of the parts' `tiles.Denoised`, or of None where they are not wanted or too large to be
        kept, or where each of several processes denoises its share of the file.
    """
    dtype = None if args.dtype == "same" else args.dtype
    crew = current_crew()
    share = tiling.Share(*crew, square=omezarr.CHUNK) if crew.count > 1 else None
    keep = keep and share is None  # of several processes none has all
    kept = [
        _empty(part.frames.shape) if keep and part.frames.size <= _KEPT else None for part in parts
    ]
    with ExitStack() as opened:
        # How far models disagree is mostly less than a grey level.
        dtypes = {name: "float32" if name == "disagreement" else dtype for name in targets}
        create = partial(images.create, info=parts[0].info, overwrite=args.overwrite, crew=crew)
        stores = {
            name: opened.enter_context(create(path, dtype=dtypes[name]))
            for name, path in targets.items()
        }
        on_tile = bars.predicting(Path(next(iter(targets.values()))).name)
        for denoisers, part, own in zip(ensembles, parts, kept, strict=True):
            options = {
                "sequence": part.frames.row,
                "tile_size": args.tile_size,
                "share": share,
                "on_tile": on_tile,
            }
            options["devices"] = jax.local_devices()[: args.devices]
            for (n, *place), results in ensemble.ensemble_tiles(denoisers, part.frames, **options):
                for name, store in stores.items():
                    store[part.frames.numbers[n], *place] = getattr(results, name)
                if own is not None:
                    own.denoised[n, *place], own.deconvolved[n, *place] = (
                        results.denoised,
                        results.deconvolved,
                    )
    for path in targets.values():
        bars.say(f"wrote {path}")
    return kept


def denoised(denoiser, frames):
    """All of some `frames.Frames` denoised (N, H, W), in the file's order."""
    rows = np.asarray(frames).reshape(-1, frames.row, *frames.shape[1:])
    return denoise(denoiser, rows).denoised.reshape(frames.shape)[np.argsort(frames.numbers)]


def compare_with_random(parts, results, others, bars):
    """Say how far results from pretrained and from random weights are apart; arguments as `denoise_file` takes and returns them."""
    for part, result, other in zip(parts, results, others, strict=True):
        if result is None:
            continue
        apart = ensemble.rms_difference_over_noise(
            result.denoised, other.denoised, np.asarray(part.frames)
        )
        bars.say(
            f"from pretrained and from random weights: results differ by {apart:.0%} of the noise (root mean squares)"
        )
        if apart > _APART:
            warnings.warn(
                f"results from pretrained and from random weights differ by {apart:.0%} of the noise: compare denoised with random_start, "
                "and do not trust structure that only one of them shows",
                stacklevel=2,
            )


def _empty(shape):
    return Denoised(*(np.empty(shape, np.float32) for _ in Denoised._fields))
