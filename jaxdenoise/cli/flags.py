"""Flags that several verbs share."""

from argparse import ArgumentParser, _ActionsContainer
from typing import Any

from jaxdenoise.cli import values
from jaxdenoise.config import INITS, PRECISIONS, PRESETS, TARGETS
from jaxdenoise.workflows.requests import CHANNELS, DTYPES, FORMATS, LINE_NOISE, SEQUENCES

_PSF = (
    "Gaussian's sigma in pixels, not its FWHM (default: 1.0, with --preset best auto), a measured "
    "PSF, none, or auto: chosen from the data, in 2.2 times the time; of stacks along Z also Z,YX "
    "or Z,Y,X: sigma along z in planes, and in the plane in pixels"
)


def add_inputs(verb: ArgumentParser) -> None:
    """Add the files that train together."""
    text = 'files, folders or patterns ("data/*.tif"), which train together'
    verb.add_argument("input", nargs="+", metavar="INPUT", help=text)
    _add_recursive(verb)


def _add_recursive(verb):
    text = "images in the folders of a folder, too; denoise mirrors their tree in DIR"
    verb.add_argument("--recursive", action="store_true", help=text)


def add_batch(verb: ArgumentParser) -> None:
    """Add the files, folders and patterns that are denoised, and how they go together."""
    text = 'files, folders or patterns ("data/*.tif"): TIFF, OME-Zarr, PNG, JPEG, CZI, LIF, ND2'
    verb.add_argument("input", nargs="+", metavar="INPUT", help=text)
    group = verb.add_argument_group("many files")
    _add_recursive(group)
    group.add_argument(
        "--train-on",
        action="append",
        metavar="first|all|each|FILES",
        help="all inputs together (default), the first, each by itself, or other files; may be "
        "given several times",
    )
    group.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave images alone whose results are there: goes on with a batch that was killed",
    )


def add_preview(verb: ArgumentParser) -> None:
    """Add --preview and --crop."""
    group = verb.add_argument_group("preview")
    group.add_argument(
        "--preview",
        action="store_true",
        help="try it on a part of the first image, with a short training, and say what all takes",
    )
    group.add_argument(
        "--crop",
        type=values.crop,
        metavar="Y,X,SIZE",
        help="the part, in pixels (default: that of most contrast); goes with --preview",
    )


def add_output(verb: ArgumentParser, metavar: str, text: str, **options: Any) -> None:
    """Add -o."""
    verb.add_argument("-o", "--output", metavar=metavar, help=text, **options)


def add_training(verb: ArgumentParser, *, psf: str | None = None, psf_help: str = _PSF) -> None:
    """Add the settings of a training, and with which devices it runs."""
    group = verb.add_argument_group("training")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        default="fast",
        help="fast: a minute on two cores (default); best: a pretrained start, fitted; paper: as "
        "published",
    )
    group.add_argument("--psf", default=psf, metavar="SIGMA|Z,YX|FILE|none|auto", help=psf_help)
    _add_noise_model(group)
    _add_targets(group)
    _add_lengths(group)
    add_seed(group)
    text = "write the losses as TensorBoard event files into this folder"
    group.add_argument("--tensorboard", metavar="DIR", help=text)
    add_axes(verb)
    verb.add_argument(
        "--along",
        choices=SEQUENCES,
        help="the axis of neighbouring frames (default: the only one)",
    )
    add_line_noise(verb)
    _add_devices(verb)


def _add_lengths(group):
    group.add_argument(
        "--epochs",
        type=values.positive,
        metavar="N",
        help="of 100 steps (default: fast 22, best 12; paper 200 of 10)",
    )
    group.add_argument(
        "--patch-size",
        type=values.positive,
        metavar="PIXELS",
        help="side of a patch (default: 96; paper 100)",
    )
    group.add_argument(
        "--batch-size",
        type=values.positive,
        metavar="N",
        help="patches a step (default: 1; paper 20)",
    )
    group.add_argument(
        "--filters",
        type=values.positive,
        metavar="N",
        help="of the network's first level (default: 32; paper as published)",
    )
    group.add_argument(
        "--weights",
        choices=("best", "averaged", "last"),
        help="which weights denoise (default: best)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the network's products (default: auto, bfloat16 where that is fast)",
    )
    group.add_argument(
        "--symmetries",
        type=int,
        choices=(1, 2, 4, 8),
        help="predictions averaged a pixel: quality against time (default: 8; paper 1)",
    )


def _add_noise_model(group):
    group.add_argument(
        "--background",
        type=values.background,
        metavar="auto|VALUE",
        help="grey level of no light (default: auto)",
    )
    group.add_argument(
        "--blind",
        type=values.reach,
        metavar="auto|N|Y,X",
        help="pixels that a blind spot hides on each side, for noise that neighbours share "
        "(default: auto, as far as they do)",
    )
    group.add_argument(
        "--stride",
        type=values.stride,
        metavar="auto|N",
        help="the network sees every N-th row and column as an image of its own, for such noise "
        "(default: auto, as needed)",
    )


def _add_targets(group):
    group.add_argument(
        "--neighbours",
        type=values.neighbours,
        metavar="auto|K",
        help="frames on each side, in time or depth, that the network sees too (default: auto, of "
        "movies and volumes what the estimated error says that it helps; else 0)",
    )
    group.add_argument(
        "--targets",
        choices=TARGETS,
        help="own: blind spots of each frame; repeats: other frames of the same scene (default: "
        "auto, whether there are any)",
    )
    group.add_argument(
        "--init",
        choices=INITS,
        help="weights to start from (default: random; best: pretrained, beside which a model from "
        "random weights is shown)",
    )


def _add_devices(verb):
    group = verb.add_argument_group("many devices")
    group.add_argument(
        "--devices",
        type=values.positive,
        metavar="N",
        help="that share the work (default: all; to train, as many as can share a batch)",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, which SLURM, Open MPI, Kubernetes or a TPU pod started",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of the first process, where nothing like that says who the others are",
    )
    group.add_argument(
        "--processes",
        type=values.positive,
        metavar="N",
        help="with --coordinator: how many there are",
    )
    group.add_argument(
        "--process",
        type=values.whole,
        metavar="I",
        help="with --coordinator: which one this is, from 0 on",
    )
    group.add_argument(
        "--heartbeat",
        type=values.positive,
        default=30,
        metavar="SECONDS",
        help="of silence, after which a process counts as dead (default: 30)",
    )


def add_members(verb: ArgumentParser) -> None:
    """Add --members."""
    text = "train N models, write their mean and their standard deviation (default: 1)"
    verb.add_argument("--members", type=values.positive, default=1, metavar="N", help=text)


def add_channels(verb: ArgumentParser) -> None:
    """Add --channels."""
    text = "one model for all, or one for each; auto: one for each (default: auto)"
    verb.add_argument("--channels", choices=CHANNELS, default="auto", help=text)


def add_optics(verb: ArgumentParser) -> None:
    """Add what a PSF follows from."""
    group = verb.add_argument_group("PSF from the optics, instead of --psf")
    group.add_argument(
        "--na", type=values.length, metavar="NA", help="numerical aperture of the objective"
    )
    group.add_argument(
        "--emission", type=values.length, metavar="UM", help="wavelength in micrometres"
    )
    group.add_argument(
        "--excitation",
        type=values.length,
        metavar="UM",
        help="wavelength in micrometres, of a confocal microscope",
    )
    group.add_argument(
        "--pinhole",
        type=values.length,
        metavar="AU",
        help="its diameter in Airy units (default: 1)",
    )
    group.add_argument(
        "--pixel-size",
        type=values.length,
        metavar="UM",
        help="in the sample, in micrometres (default: what the file says)",
    )
    group.add_argument(
        "--refractive-index",
        type=values.length,
        metavar="N",
        help="of the immersion: the PSF of stacks along Z gets its width along z",
    )
    group.add_argument(
        "--z-step",
        type=values.length,
        metavar="UM",
        help="between planes, in micrometres (default: what the file says)",
    )


def add_common(verb: ArgumentParser) -> None:
    """Add what all verbs that write many files or train have."""
    add_overwrite(verb)
    verb.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    text = "keep all that is said in this file, too, with date and time"
    verb.add_argument("--log", metavar="FILE", help=text)
    add_json(verb)


def add_overwrite(verb: ArgumentParser) -> None:
    """Add --overwrite."""
    verb.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_files(verb: ArgumentParser) -> None:
    """Add dtype and format of the files written."""
    verb.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="of the files written; auto: the input's, or float32 where whole grey levels are too "
        "coarse (default)",
    )
    verb.add_argument(
        "--format",
        choices=FORMATS,
        default="same",
        help="of what is written (default: the input's)",
    )


def add_line_noise(verb: ArgumentParser) -> None:
    """Add --line-noise."""
    verb.add_argument(
        "--line-noise",
        choices=LINE_NOISE,
        default="auto",
        help="auto: take out offsets of rows or columns, and move back odd lines that do not meet "
        "the even ones, where they are found (default); keep: leave them",
    )


def add_report(verb: ArgumentParser) -> None:
    """Add --no-report."""
    text = "do not write the report, an HTML file"
    verb.add_argument("--no-report", dest="report", action="store_false", help=text)


def add_seed(verb: _ActionsContainer) -> None:
    """Add --seed."""
    text = "of all randomness (default: 0)"
    verb.add_argument("--seed", type=values.seed, default=0, metavar="N", help=text)


def add_axes(verb: ArgumentParser) -> None:
    """Add --axes."""
    text = "of STCZYX, one a dimension; overrules what the file says"
    verb.add_argument("--axes", metavar="LETTERS", help=text)


def add_json(verb: ArgumentParser) -> None:
    """Add --json."""
    verb.add_argument("--json", action="store_true", help="print JSON")
