"""What a report tests on a movie: known transients, and traces. Host side."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from jaxdenoise.microscope.psf import in_plane
from jaxdenoise.microscope.widths import full_widths, sigma_from_fwhm
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.prediction.ensemble import ensemble_tiles
from jaxdenoise.report import movie_checks, traces, transients
from jaxdenoise.report.traces import Traces
from jaxdenoise.report.transients import LeakTest
from jaxdenoise.workflows.frame_names import in_time, of_one_plane
from jaxdenoise.workflows.movies import axis_seen, run_of
from jaxdenoise.workflows.parts import Part

_MOST_FRAMES, _MOST_PIXELS = 512, 2**26  # of the run whose traces are shown


def leak_test(part: Part, denoisers: Sequence[Denoiser], numbers: Sequence[int]) -> LeakTest | str:
    """Add known transients to a movie and denoise it with and without them.

    Only the frames around them are denoised, of the middle of the field.

    Args:
        part: the frames.
        denoisers: the members of the ensemble that denoised it.
        numbers: of the frames that they denoised.

    Returns:
        What became of the transients, or why that cannot be tested.
    """
    if axis_seen(part.file) != "T":
        return movie_checks.NO_MOVIE
    network = denoisers[0].config.network
    if not (network.neighbours or network.guided) or not in_time(part.file):
        return movie_checks.ALONE
    frames = run_of(part, numbers)
    sigma = _width(denoisers[0])
    spots = None if frames is None else transients.plan_spots(frames, sigma=sigma)
    if frames is None or spots is None:
        return movie_checks.TOO_SMALL
    before = _some(denoisers, frames, spots.needed)
    after = _some(denoisers, transients.with_spots(frames, spots), spots.needed)
    return transients.measure(spots, before, after)


def _some(
    denoisers: Sequence[Denoiser],
    frames: Float32[np.ndarray, "T H W"],
    numbers: Sequence[int],
) -> Mapping[int, Float32[np.ndarray, "H W"]]:
    """Results of some frames, which see all others."""
    found = {n: np.empty(frames.shape[1:], np.float32) for n in numbers}
    tiles = ensemble_tiles(denoisers, frames, marked=lambda at: frames[at], only=numbers)
    for (n, rows, columns), tile in tiles:
        found[n][rows, columns] = tile.denoised
    return found


def _width(denoiser):
    """Sigma of a point in the images in pixels; 1 where no PSF says it."""
    psf = in_plane(denoiser.psf)
    widths = [w for w in full_widths(psf) if np.isfinite(w)] if psf.size > 1 else []
    return float(np.clip(sigma_from_fwhm(np.mean(widths)), 0.5, 3)) if widths else 1.0


def traces_of(part: Part, denoised: Callable[[int], Float32[np.ndarray, "H W"]]) -> Traces | None:
    """Return the traces of a movie at the places that change most; None where there are none.

    Of a long movie, or one of large frames, the first frames are looked at.

    Args:
        part: the frames.
        denoised: returns the result of a frame of the part, by its number.
    """
    if axis_seen(part.file) != "T":
        return None
    _, height, width = part.frames.shape
    run = of_one_plane(part.file)
    most = max(2, min(_MOST_FRAMES, _MOST_PIXELS // (height * width)))
    numbers = [n for n in run[:most] if n not in part.survey.odd]
    if len(numbers) < transients.FEWEST:
        return None

    def read(n):
        return part.frames[n, slice(None), slice(None)], denoised(n)

    return traces.find_traces(read, numbers, part.file.info.frame_interval)
