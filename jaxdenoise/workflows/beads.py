"""A measured PSF from an image or a stack of beads. Host side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope import beads
from jaxdenoise.microscope.beads import MeasuredPsf
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.requests import PsfRequest


@dataclass(frozen=True)
class PsfResult:
    """What `measure_psf` has made.

    Attributes:
        output: the file that was written.
        measured: the PSF, its widths, and the beads.
    """

    output: Path
    measured: MeasuredPsf

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; widths in pixels, y and x."""
        found = self.measured
        return {
            "output": str(self.output),
            "beads": len(found.positions),
            "rejected": found.rejected,
            "sigma": list(found.sigma),
            "fwhm": list(found.fwhm),
            "deconvolved_sigma": found.deconvolved_sigma and list(found.deconvolved_sigma),
            "noise": found.noise,
            "shape": list(found.psf.shape),
        }


def measure_psf(request: PsfRequest, reporter: Reporter = SILENT) -> PsfResult:
    """Find beads, average them, and write the PSF.

    Args:
        request: what is asked for.
        reporter: for calls like those of the other workflows; it hears nothing.

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
    found = beads.measure_psf(
        image.frames,
        size=request.size,
        bead_diameter=request.bead_diameter,
        saturation=saturation,
    )
    info = ImageInfo("YX", found.psf.shape, np.dtype(np.float32))
    images.write(target, found.psf[None], info, overwrite=request.overwrite)
    return PsfResult(target, found)
