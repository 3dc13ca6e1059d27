"""A measured PSF from an image or a stack of beads. Host side."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope import beads
from jaxdenoise.microscope.bead_volumes import FEWEST, MeasuredVolumePsf, measure_volume_psf
from jaxdenoise.microscope.beads import MeasuredPsf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.other_requests import PsfRequest
from jaxdenoise.workflows.reporter import SILENT, Reporter


@dataclass(frozen=True)
class PsfResult:
    """What `measure_psf` has made.

    Attributes:
        output: the file that was written.
        measured: the PSF in the plane in focus, its widths, and the beads.
        volume: of a stack along Z that shows enough planes, the PSF along all three axes, which is
            what was written; else None.
    """

    output: Path
    measured: MeasuredPsf
    volume: MeasuredVolumePsf | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; widths in pixels, y and x; "axial" ones in planes."""
        found, volume = self.measured, self.volume
        return {
            "output": str(self.output),
            "beads": len(found.positions),
            "rejected": found.rejected,
            "sigma": list(found.sigma),
            "fwhm": list(found.fwhm),
            "deconvolved_sigma": found.deconvolved_sigma and list(found.deconvolved_sigma),
            "noise": found.noise,
            "shape": list((found if volume is None else volume).psf.shape),
            "axial_sigma": volume and volume.sigma[0],
            "axial_fwhm": volume and volume.fwhm[0],
        }


def measure_psf(request: PsfRequest, reporter: Reporter = SILENT) -> PsfResult:
    """Find beads, average them, and write the PSF: of a stack along Z a volume.

    Args:
        request: what is asked for.
        reporter: hears why a stack along Z gives the PSF of its plane in focus alone.

    Raises:
        RequestError: the output exists.
        ImageError: a file cannot be read or written.
        ValueError: as `microscope.beads.measure_psf`, such as no bead that can be measured.
    """
    target = Path(request.output)
    if target.exists() and not request.overwrite:
        raise RequestError(
            f"{target}: the file exists; overwrite=True replaces it, or name another one"
        )
    image = images.read(request.input, axes=request.axes, gaps=False)
    saturation = request.saturation
    if saturation is None and image.info.dtype == np.uint8:
        saturation = 255  # of other dtypes the frames have to tell
    options: Any = {
        "size": request.size,
        "bead_diameter": request.bead_diameter,
        "saturation": saturation,
    }
    volume = None
    if image.info.axes == "ZYX" and len(image.frames) >= FEWEST:
        try:
            volume = measure_volume_psf(image.frames, **options)
        except ValueError as error:
            lateral = beads.measure_psf(image.frames, **options)  # if it fails too, it says why
            reporter.say(f"the PSF of the plane in focus alone: {error}")
            return _written(request, PsfResult(target, lateral), image.info)
        return _written(request, PsfResult(target, volume.lateral, volume), image.info)
    return _written(
        request, PsfResult(target, beads.measure_psf(image.frames, **options)), image.info
    )


def _written(request, result, own):
    info = ImageInfo("YX", result.measured.psf.shape, np.dtype(np.float32))
    frames = result.measured.psf[None]
    if result.volume is not None:
        frames = result.volume.psf
        # With the distance between planes, by which it fits stacks of another one.
        info = replace(own, axes="ZYX", shape=frames.shape, dtype=np.dtype(np.float32), display={})
    images.write(result.output, frames, info, overwrite=request.overwrite)
    return result
