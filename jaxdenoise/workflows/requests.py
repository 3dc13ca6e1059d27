"""What is asked of each workflow: frozen dataclasses, whose values are checked. Needs no JAX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.settings import (
    Number,
    Training,
    check_choice,
    check_folder,
    check_positive,
    check_whole,
    file_names,
    set_values,
)

CHANNELS = ("auto", "together", "separate")
DTYPES = ("auto", "same", "float32")
FORMATS = ("same", "tiff", "zarr")
FILTERS = ("gaussian", "median", "box", "box3d", "wiener")
BORDERS = ("reflect", "mirror", "nearest", "wrap", "constant")
# Options of a `Training` that count where none takes place: with a model that is there, and with
# the network that comes with the package (for which a `TrainConfig` as preset gives these, too).
_OF_MODEL = ("weights",)
_OF_INSTANT = ("background", "neighbours", "stride", "precision", "symmetries")
LINE_NOISE = ("auto", "keep")
TRAIN_ON = ("first", "all", "each")  # or files
SEQUENCES = ("T", "Z", "S")  # axes along which frames may be neighbours


@dataclass(frozen=True, kw_only=True)
class _OfImages:
    """The options that all requests about images share.

    Attributes:
        inputs: image files: TIFF, OME-Zarr, PNG, JPEG, or a microscope maker's; but to filter also
            folders and patterns (``data/*.tif``). Several train together, whatever their sizes.
        output: the folder for the results; it is made if missing.
        axes: letters of STCZYX, one a dimension; overrules what the files say.
        overwrite: replace what is there.
    """

    inputs: Sequence[str | Path]
    output: str | Path
    axes: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        set_values(self, inputs=file_names(self.inputs), output=Path(self.output))
        check_folder(Path(self.output))


@dataclass(frozen=True, kw_only=True)
class _OfTraining(_OfImages):
    """The options that all requests with a training share, beside those of `_OfImages`.

    Attributes:
        training: what is trained, and how.
        along: the axis of neighbouring frames, T, Z or S; None: the only one.
        line_noise: "auto": offsets of rows or columns, and odd lines of a bidirectional scan that
            do not meet the even ones, are taken out where they are found, but with the preset
            "paper"; "keep": they are left.
        devices: how many devices share the work; None: all (to train, as many as can share a
            batch). Only for a single process.
        report: write the report, an HTML file.
        command: the command that gives the result again, for the report.
        recursive: of folders among the inputs, images further below count, too; `denoise` mirrors
            their tree in the output.
    """

    training: Training = field(default_factory=Training)
    along: str | None = None
    line_noise: str = "auto"
    devices: int | None = None
    report: bool = True
    command: str | None = None
    recursive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("line_noise", self.line_noise, LINE_NOISE)
        if self.training.preset == "paper":  # the published procedure changes no pixel
            set_values(self, line_noise="keep")
        check_choice("along", self.along, (None, *SEQUENCES))
        check_whole("devices", self.devices)


@dataclass(frozen=True, kw_only=True)
class DenoiseRequest(_OfTraining):
    """Train on images and denoise them, or use a model that is there.

    Attributes:
        model: a run folder: denoise with its models instead of training; of ``training`` only
            ``weights`` may be given.
        save_model: the run folder to keep the trained models in.
        instant: do not train: use the network that comes with the package as it is; of
            ``training`` only background, stride, precision and symmetries may be given.
        noise: standard deviation of the noise in grey levels, for ``instant``; None: estimated.
        channels: "together", one model for all; "separate", one for each; "auto", one for each
            where a file has several.
        dtype: of the files written: "same" as the input's; "float32"; or "auto", the input's unless
            whole grey levels cost more than a tenth of what was gained or move a mean by 0.5 %.
        format: of the files written: "same" as the input's, "tiff" or "zarr".
        tile_size: side of a tile with its overlap in pixels, which bounds the memory; None: chosen.
        train_on: what is trained on: "all" inputs together; "each" by itself; the "first" that can
            be read; or files, folders and patterns, which need not be among the inputs.
        skip_existing: leave images alone whose results are there; a batch that was killed goes on
            with what is missing.
    """

    model: str | Path | None = None
    save_model: str | Path | None = None
    instant: bool = False
    noise: Number | None = None
    channels: str = "auto"
    dtype: str = "auto"
    format: str = "same"
    tile_size: int | None = None
    train_on: str | Path | Sequence[str | Path] = "all"
    skip_existing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_batch()
        check_choice("channels", self.channels, CHANNELS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("format", self.format, FORMATS)
        check_whole("tile_size", self.tile_size)
        check_positive("noise", self.noise)
        if self.model and self.save_model:
            raise RequestError(
                "save_model=... keeps a new model; it does not go with model=..., which is there"
            )
        self._check_that_all_count()
        if self.noise and not self.instant:
            raise RequestError(
                "noise=... goes with instant=True; a training measures the noise itself"
            )

    def _check_batch(self) -> None:
        """Refuse options of a batch that do not go together, and unfold the files to train on."""
        if self.train_on not in TRAIN_ON:
            set_values(self, train_on=file_names(self.train_on))
        elsewhere = self.train_on != "all"
        if elsewhere and (self.model or self.instant):
            what = "model=..." if self.model else "instant=True"
            raise RequestError(f"{what} takes no train_on=...: nothing is trained")
        if self.train_on == "each" and self.save_model:
            raise RequestError(
                'save_model=... keeps one training, train_on="each" has many: leave one out'
            )
        if self.skip_existing and self.overwrite:
            raise RequestError(
                "skip_existing=True keeps what is there, overwrite=True replaces it: leave one out"
            )

    def _check_that_all_count(self) -> None:
        """Refuse the options of a training where none takes place."""
        options = self.training.changed()
        if self.instant:
            others = {"model": self.model, "save_model": self.save_model, "along": self.along}
            options = [name for name, value in others.items() if value] + options
            whole = not isinstance(self.training.preset, str)
            counting, what = (*_OF_INSTANT, *["preset"] * whole), "instant=True"
            reason = "the network that comes with the package is used as it is"
        elif self.model:
            counting, what = _OF_MODEL, "model=..."
            reason = "the model has the settings that it was trained with"
        else:
            return
        left = [f"{name}=..." for name in options if name not in counting]
        if left:
            raise RequestError(f"{what} takes no {', no '.join(left)}: {reason}")
        if self.training.neighbours:
            raise RequestError(
                f"neighbours={self.training.neighbours}: with instant=True the networks that come "
                "with the package see none (0), or what they need of a movie or a volume "
                "(by default)"
            )


@dataclass(frozen=True, kw_only=True)
class PreviewRequest(DenoiseRequest):
    """Try on a part of the first image what `DenoiseRequest` asks for.

    Attributes:
        crop: (y, x, size) of a square in pixels; None: the part of most contrast.
    """

    crop: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop is not None:
            if len(self.crop) != 3:
                raise RequestError(f"crop={self.crop}: expected y, x and size in pixels")
            for value, least in zip(self.crop, (0, 0, 16), strict=True):
                check_whole("crop", value, least=least)

    def of_part(self, path: str | Path, epochs: int | None) -> DenoiseRequest:
        """Return the request for a file with the part alone.

        Args:
            path: of the file.
            epochs: of the training, which takes the given PSF, or a sigma of 1 pixel where it would
                be chosen, and one member; None: as asked for.
        """
        options = {field.name: getattr(self, field.name) for field in fields(DenoiseRequest)}
        if epochs is not None:
            psf = "1.0" if self.training.psf_name == "auto" else self.training.psf
            training = replace(self.training, epochs=epochs, members=1, psf=psf)
            options |= {"training": training, "save_model": None, "train_on": "all"}
        return DenoiseRequest(**options | {"inputs": [path], "report": False})


@dataclass(frozen=True, kw_only=True)
class TrainRequest(_OfTraining):
    """Train on images and keep the model in the run folder ``output``.

    Attributes:
        channels: "together", one model for all; "separate", one for each; "auto", one for each
            where a file has several.
        resume: go on with a training that was interrupted.
        save_every: seconds between two states to resume from.
    """

    channels: str = "auto"
    resume: bool = False
    save_every: Number = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("channels", self.channels, CHANNELS)
        if not 0 <= self.save_every < math.inf:
            raise RequestError(f"save_every={self.save_every}: expected a number of seconds")


@dataclass(frozen=True, kw_only=True)
class SweepRequest(_OfTraining):
    """Train one model for each PSF and seed, and choose among the PSFs without ground truth.

    Attributes:
        psfs: the PSFs to choose from, each as `Training.psf` (but "auto"); None: the Gaussians of
            sigma 0, 0.5, 0.75, 1, 1.25, 1.5 and 2 pixels.
        seeds: models for each PSF, with the seeds ``training.seed``, ``training.seed`` + 1, ...;
            ``training.members`` says the same.
        channels: "together", one sweep for all; "separate", one for each, in folders of their own;
            "auto", one for each where a file has several.
        halving: drop the worse half early: a third of the time.
        reference: a clean image to judge the choice by; it is not used to choose.
    """

    psfs: Sequence[Number | str | Path] | None = None
    seeds: int = 1
    channels: str = "auto"
    halving: bool = False
    reference: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("seeds", self.seeds)
        check_choice("channels", self.channels, CHANNELS)
        members = self.training.members
        if members > 1 and self.seeds not in (1, members):
            raise RequestError(
                f"seeds={self.seeds} and members={members} both say how many models each PSF gets: "
                "leave one of them out"
            )
        if members > 1:
            set_values(self, seeds=members, training=replace(self.training, members=1))
        check_whole("seed", self.training.seed + self.seeds - 1, least=0, below=2**32)
        if self.training.psf is not None or self.training.optics:
            raise RequestError("a sweep takes psfs=..., among which it finds one, no psf or optics")


@dataclass(frozen=True, kw_only=True)
class FilterRequest(_OfImages):
    """Filter images classically.

    Attributes:
        filter: "gaussian", "median", "box", "box3d" (over Z, Y and X) or "wiener".
        sigma: of the Gaussian in pixels: a number, one an axis (y, x or z, y, x), or "auto", found
            from the image, as without ``size``.
        size: window in odd pixels: a number, one an axis, or "auto", found from the image. Of the
            Gaussian: the size of its kernel.
        mode: border, in scipy's words.
        dtype: of the files written: "same" as the input's; "float32"; or "auto", the input's unless
            whole grey levels cost more than a tenth of what was gained or move a mean by 0.5 %.
        format: of the files written: "same" as the input's, "tiff" or "zarr".
        line_noise: as of `DenoiseRequest`.
    """

    filter: str = "gaussian"
    sigma: Number | tuple[Number, ...] | str | None = None
    size: int | tuple[int, ...] | str | None = None
    mode: str = "reflect"
    dtype: str = "auto"
    format: str = "same"
    line_noise: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("filter", self.filter, FILTERS)
        check_choice("line_noise", self.line_noise, LINE_NOISE)
        check_choice("mode", self.mode, BORDERS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("format", self.format, FORMATS)
        _check_width("sigma", self.sigma, (int, float), lambda sigma: 0 <= sigma < math.inf)
        _check_width("size", self.size, (int,), lambda size: size >= 1 and size % 2 == 1)


def _check_width(name, value, kinds, holds):
    """A width is None, "auto", or at most three numbers."""
    if value is None or value == "auto":
        return
    numbers = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(numbers) <= 3 or not all(
        isinstance(number, kinds) and holds(number) for number in numbers
    ):
        expected = "a sigma" if name == "sigma" else "an odd number"
        raise RequestError(
            f"{name}={value!r}: expected 'auto' or {expected} in pixels, or two or three of them"
        )
