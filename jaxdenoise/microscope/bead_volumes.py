"""A measured PSF of volumes: the mean of beads in a stack through focus. NumPy on the host.

`beads` finds the beads and measures them along y and x; here each is followed along z.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float32, Shaped

from jaxdenoise.imaging.arguments import Size
from jaxdenoise.imaging.levels import Scalar
from jaxdenoise.microscope.axial import fit_profile, profile_at
from jaxdenoise.microscope.beads import MeasuredPsf, measure_psf
from jaxdenoise.microscope.widths import full_width

__all__ = ["MeasuredVolumePsf", "measure_volume_psf"]

FEWEST = 7  # planes of a stack in which a width along z can be measured
_RADIUS = 4.0  # sigmas from the centre of the PSF to its first and last plane, as along y and x
_LEAST = 2.0  # sigmas that a bead must have on each side, of planes and of the stack
_RIM = 2  # pixels around the PSF, where the remaining background is measured


class MeasuredVolumePsf(NamedTuple):
    """Result of `measure_volume_psf`; triples are (z, y, x), in planes and pixels.

    Attributes:
        psf: (d, h, w) float32 with odd sides, centred, non-negative, sum 1.
        sigma: Standard deviations of the Gaussians fitted to the mean bead; not its FWHM.
        fwhm: Full widths at half maximum of the mean bead's profiles through its centre.
        lateral: What `beads.measure_psf` found in the planes in focus.
        beads: How many beads were followed along z.
        rejected: Beads that were measured in their plane, but not along z: they are too near the
            first or last plane.
    """

    psf: Float32[np.ndarray, "d h w"]
    sigma: tuple[float, float, float]
    fwhm: tuple[float, float, float]
    lateral: MeasuredPsf
    beads: int
    rejected: int


def measure_volume_psf(
    stack: Shaped[ArrayLike, "Z H W"],
    *,
    size: Size | None = None,
    saturation: Scalar | None = None,
    bead_diameter: Scalar | None = None,
) -> MeasuredVolumePsf:
    """Measure the PSF of volumes from beads in a stack through focus. Host side.

    The beads are those of `beads.measure_psf`, with its arguments and errors. Along z each is
    fitted by a Gaussian; those with less than two sigmas of planes on a side are left out. The
    others are shifted by their fitted centres and averaged; the background around the mean, and
    what lies below its noise, becomes 0.

    Args:
        stack: (Z, H, W) of at least 7 planes, any real dtype, in grey levels.
        size: Odd sides of the PSF along y and x in pixels, as of `beads.measure_psf`.
        saturation: As of `beads.measure_psf`.
        bead_diameter: As of `beads.measure_psf`.

    Raises:
        ValueError: As `beads.measure_psf`; too few planes, or no bead has enough of them.
    """
    planes = np.asarray(stack)
    if planes.ndim != 3 or len(planes) < FEWEST:
        raise ValueError(
            f"measure_volume_psf: expected a stack (Z, H, W) of at least {FEWEST} planes, got "
            f"shape {planes.shape}"
        )
    lateral = measure_psf(stack, size=size, saturation=saturation, bead_diameter=bead_diameter)
    planes = planes.astype(np.float64)
    reach = np.array(lateral.psf.shape) // 2 + _RIM
    found = [_follow(planes, place, reach, lateral) for place in lateral.positions]
    kept, depth = _with_room(found, len(planes))
    mean = sum(_centred(window, fit, offset, depth) for fit, offset, window in kept)
    psf, mean = _finish(mean)
    profile = mean[:, mean.shape[1] // 2, mean.shape[2] // 2]
    fine = np.interp(
        np.linspace(0, len(profile) - 1, 8 * (len(profile) - 1) + 1),
        np.arange(len(profile)),
        profile,
    )
    return MeasuredVolumePsf(
        psf=psf,
        sigma=(fit_profile(profile_at(mean, reach, np.ones(2))).sigma, *lateral.sigma),
        fwhm=(full_width(fine, 8 * depth) / 8, *lateral.fwhm),
        lateral=lateral,
        beads=len(kept),
        rejected=len(found) - len(kept),
    )


def _with_room(found, count):
    """The beads with enough planes on each side, and how many planes there the PSF takes."""
    sigma = float(np.median([fit.sigma for fit, _, _ in found]))
    least = int(np.ceil(_LEAST * sigma))
    rooms = [min(round(fit.centre), count - 1 - round(fit.centre)) for fit, _, _ in found]
    usable = [room for room in rooms if room >= least]
    if not usable:
        raise ValueError(
            f"measure_volume_psf: none of {len(found)} beads of sigma {sigma:.2g} planes has "
            f"{least} planes above and below; give a stack that shows more of them"
        )
    # As deep as the stack allows around at least half of the beads that can be used.
    depth = max(least, min(int(np.rint(_RADIUS * sigma)), int(np.median(usable))))
    return [bead for bead, room in zip(found, rooms, strict=True) if room >= depth], depth


def _follow(planes, place, reach, lateral):
    """A bead's fit along z, its offset (y, x) from the middle of its window, and the window."""
    middle = np.clip(np.rint(place).astype(int), reach, np.array(planes.shape[1:]) - 1 - reach)
    top, left = middle - reach
    window = planes[:, top : top + 2 * reach[0] + 1, left : left + 2 * reach[1] + 1]
    offset = place - middle
    profile = profile_at(window, reach + offset, np.array(lateral.sigma))
    return fit_profile(profile), offset, window


def _centred(window, fit, offset, depth):
    """The planes around a bead's centre, moved by a fraction of a pixel and of a plane."""
    middle = round(fit.centre)
    planes = window[middle - depth : middle + depth + 1]
    rim = np.ones(window.shape[1:], bool)
    rim[_RIM:-_RIM, _RIM:-_RIM] = False
    planes = planes - np.median(planes[:, rim])
    by = -(fit.centre - middle), *(-offset)
    phase = sum(np.ix_(*(np.fft.fftfreq(n) * d for n, d in zip(planes.shape, by, strict=True))))
    return np.fft.ifftn(np.fft.fftn(planes) * np.exp(-2j * np.pi * phase)).real


def _finish(mean):
    """The PSF, and the mean bead without background at peak 1."""
    rim = np.ones(mean.shape, bool)
    rim[:, _RIM:-_RIM, _RIM:-_RIM] = False
    mean = mean - np.median(mean[rim])
    noise = 1.4826 * np.median(np.abs(mean[rim]))
    psf = np.where(mean < noise, 0, mean)[:, _RIM:-_RIM, _RIM:-_RIM]
    return (psf / psf.sum()).astype(np.float32), mean / mean.max()
