"""What is asked of the workflows that neither train nor filter files. Needs no JAX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.settings import (
    Number,
    check_positive,
    check_whole,
    file_names,
    set_values,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """Compare images with a reference.

    Attributes:
        inputs: the image files.
        reference: the clean image: one frame, or as many as each input has.
        data_range: of the metrics in grey levels; "gt": the reference's maximum - minimum.
        axes: letters of STCZYX, one a dimension; overrules what the files say.
    """

    inputs: Sequence[str | Path]
    reference: str | Path
    data_range: Number | str = "gt"
    axes: str | None = None

    def __post_init__(self) -> None:
        set_values(self, inputs=file_names(self.inputs))
        if self.data_range != "gt":
            check_positive("data_range", self.data_range)


@dataclass(frozen=True, kw_only=True)
class PsfRequest:
    """Measure the PSF from an image or a stack of beads.

    Attributes:
        input: the file: one image, or planes through focus.
        output: the file of the PSF, a TIFF.
        size: odd side of the PSF in pixels; None: about eight sigmas.
        saturation: grey level from which a pixel is saturated; None: guessed.
        bead_diameter: of the beads in pixels, to report sigma without the bead's own size.
        axes: letters of STCZYX, one a dimension; overrules what the file says.
        overwrite: replace what is there.
    """

    input: str | Path
    output: str | Path
    size: int | None = None
    saturation: Number | None = None
    bead_diameter: Number | None = None
    axes: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_whole("size", self.size)
        if self.size is not None and self.size % 2 == 0:
            raise RequestError(f"size={self.size}: expected an odd number of pixels")
        check_positive("saturation", self.saturation)
        check_positive("bead_diameter", self.bead_diameter)


@dataclass(frozen=True, kw_only=True)
class DemoRequest:
    """Make a synthetic stack, train on it, and compare with the classical filters.

    Attributes:
        output: the folder for the pictures and TIFFs.
        seed: of all randomness, 0 to 2^32 - 1.
        report: write the report, an HTML file.
        overwrite: replace what is there.
    """

    output: str | Path = "demo"
    seed: int = 0
    report: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        set_values(self, output=Path(self.output))
        check_whole("seed", self.seed, least=0, below=2**32)


@dataclass(frozen=True, kw_only=True)
class InfoRequest:
    """Versions and devices, and what files hold.

    Attributes:
        inputs: image files; there may be none.
        axes: letters of STCZYX, one a dimension; overrules what the files say.
    """

    inputs: Sequence[str | Path] = ()
    axes: str | None = None

    def __post_init__(self) -> None:
        set_values(self, inputs=file_names(self.inputs))
