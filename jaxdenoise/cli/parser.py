"""The flags of the command line. Imports neither JAX nor NumPy, so that --help answers at once."""

import argparse
import math

from jaxdenoise import __version__
from jaxdenoise.config import INITS, PRECISIONS, PRESETS, TARGETS

FILTERS = ("gaussian", "median", "box", "box3d", "wiener")
BORDERS = ("reflect", "mirror", "nearest", "wrap", "constant")


def parser():
    """The parser of the whole command line; ``verb`` in what it parses is the verb's name."""
    top = _Parser(prog="jaxdenoise", description="Denoise microscopy images without clean data.")
    top.add_argument("--version", action="version", version=f"jaxdenoise {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)

    verb = _verb(
        verbs, "demo", "make a synthetic stack, train on it, compare with the classical filters"
    )
    verb.add_argument(
        "-o",
        "--output",
        default="demo",
        metavar="DIR",
        help="where the pictures and TIFFs go (default: demo)",
    )
    _add_seed(verb)
    _add_report(verb)
    _add_common(verb, json_too=True)

    verb = _verb(
        verbs, "denoise", "train on noisy images and denoise them; or use a model that is there"
    )
    verb.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="TIFF, OME-Zarr, PNG or JPEG; several of equal size train together",
    )
    verb.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="where <stem>_denoised.tif and <stem>_deconvolved.tif go",
    )
    verb.add_argument(
        "--model", metavar="RUN", help="a run folder: denoise with it instead of training"
    )
    verb.add_argument("--save-model", metavar="RUN", help="keep the trained model in this folder")
    verb.add_argument(
        "--instant",
        action="store_true",
        help="do not train: use the network that comes with the package as it is",
    )
    verb.add_argument(
        "--noise",
        type=_length,
        metavar="STD",
        help="with --instant: the noise in grey levels (default: estimated)",
    )
    _add_members(verb)
    verb.add_argument(
        "--channels",
        choices=("together", "separate"),
        default="together",
        help="one model for all, or one for each",
    )
    verb.add_argument(
        "--dtype",
        choices=("same", "float32"),
        default="same",
        help="of the files written (default: the input's)",
    )
    _add_format(verb)
    verb.add_argument(
        "--tile-size",
        type=_positive,
        metavar="PIXELS",
        help="side of a tile with its overlap: bounds the memory",
    )
    _add_training(verb)
    _add_optics(verb)
    _add_report(verb)
    _add_common(verb)

    verb = _verb(verbs, "train", "train on noisy images and keep the model")
    verb.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="TIFF, OME-Zarr, PNG or JPEG; several of equal size train together",
    )
    verb.add_argument("-o", "--output", required=True, metavar="RUN", help="the run folder")
    verb.add_argument(
        "--channels",
        choices=("together", "separate"),
        default="together",
        help="one model for all, or one for each",
    )
    _add_members(verb)
    verb.add_argument(
        "--resume", action="store_true", help="go on with a training that was interrupted"
    )
    verb.add_argument(
        "--save-every",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="between two states to resume from (default: 10)",
    )
    _add_training(verb)
    _add_optics(verb)
    _add_report(verb)
    _add_common(verb)

    verb = _verb(verbs, "sweep", "train one model a PSF and choose among them without ground truth")
    verb.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="TIFF, OME-Zarr, PNG or JPEG; several of equal size train together",
    )
    verb.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="where the models, sweep.json and report.html go",
    )
    verb.add_argument(
        "--seeds", type=_positive, default=1, metavar="N", help="models for each PSF (default: 1)"
    )
    verb.add_argument(
        "--halving",
        action="store_true",
        help="drop the worse half early, as --psf auto does: a third of the time",
    )
    verb.add_argument(
        "--reference",
        metavar="GT",
        help="a clean image, to judge the choice by; it is not used to choose",
    )
    several = "SIGMA|FILE|none, several with commas between (default: auto, which is 0,0.5,0.75,1,1.25,1.5,2)"
    _add_training(verb, psf="auto", psf_help=several)
    _add_report(verb)
    _add_common(verb, json_too=True)

    verb = _verb(verbs, "psf", "measure the PSF from an image or stack of beads")
    verb.add_argument("input", metavar="BEADS", help="TIFF: one image, or planes through focus")
    verb.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the PSF, a TIFF for --psf"
    )
    verb.add_argument(
        "--size",
        type=_odd,
        metavar="PIXELS",
        help="odd side of the PSF (default: about eight sigmas)",
    )
    verb.add_argument(
        "--saturation",
        type=_length,
        metavar="LEVEL",
        help="grey level from which a pixel is saturated (default: guessed)",
    )
    verb.add_argument(
        "--bead-diameter",
        type=_length,
        metavar="PIXELS",
        help="to report sigma without the bead's own size",
    )
    _add_axes(verb)
    verb.add_argument("--overwrite", action="store_true", help="replace what is there")
    _add_json(verb)

    verb = _verb(
        verbs,
        "filter",
        "a classical filter; its width is found from the noisy image if it is not given",
    )
    verb.add_argument("input", nargs="+", metavar="INPUT", help="TIFF, OME-Zarr, PNG or JPEG")
    verb.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="where <stem>_<filter>.tif goes"
    )
    _add_format(verb)
    verb.add_argument(
        "--filter",
        choices=FILTERS,
        default="gaussian",
        help="box3d averages over Z, Y and X (default: gaussian)",
    )
    verb.add_argument(
        "--sigma",
        type=_sigma,
        metavar="S|auto",
        help="of the Gaussian in pixels (default: auto); y,x or z,y,x: one an axis",
    )
    verb.add_argument(
        "--size",
        type=_size,
        metavar="K|auto",
        help="odd window in pixels (default: auto); y,x or z,y,x: one an axis",
    )
    verb.add_argument(
        "--mode",
        choices=BORDERS,
        default="reflect",
        help="border, in scipy's words (default: reflect)",
    )
    verb.add_argument(
        "--dtype",
        choices=("same", "float32"),
        default="same",
        help="of the files written (default: the input's)",
    )
    _add_axes(verb)
    _add_common(verb, json_too=True)

    verb = _verb(verbs, "evaluate", "compare images with a reference")
    verb.add_argument("input", nargs="+", metavar="IMAGE")
    verb.add_argument(
        "--reference",
        required=True,
        metavar="GT",
        help="the clean image: one frame, or as many as each IMAGE has",
    )
    verb.add_argument(
        "--data-range",
        type=_data_range,
        default="gt",
        metavar="R|gt",
        help="in grey levels; gt: the reference's maximum - minimum (default)",
    )
    _add_axes(verb)
    _add_json(verb)

    verb = _verb(verbs, "info", "versions and devices; axes, shape, dtype and pixel size of files")
    verb.add_argument("input", nargs="*", metavar="INPUT")
    _add_axes(verb)
    _add_json(verb)
    return top


def _verb(verbs, name, text):
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(verb=name)
    return verb


_PSF = (
    "Gaussian's sigma in pixels, not its FWHM (default: 1.0, with --preset best auto), a measured PSF, none, or auto: "
    "chosen from the data, in 2.2 times the time"
)


def _add_training(verb, *, psf=None, psf_help=_PSF):
    group = verb.add_argument_group("training")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        default="fast",
        help="fast: a minute on two cores; best: a pretrained start, fitted; paper: as published",
    )
    group.add_argument("--psf", default=psf, metavar="SIGMA|FILE|none|auto", help=psf_help)
    group.add_argument(
        "--background",
        type=_background,
        metavar="auto|VALUE",
        help="grey level of no light (default: auto)",
    )
    group.add_argument(
        "--blind",
        type=_reach,
        metavar="auto|N|Y,X",
        help="pixels that a blind spot hides on each side, for noise that neighbours share (default: auto, as far as they do)",
    )
    group.add_argument(
        "--stride",
        type=_stride,
        metavar="auto|N",
        help="the network sees every N-th row and column as an image of its own, for such noise (default: auto, as needed)",
    )
    group.add_argument(
        "--neighbours",
        type=_whole,
        metavar="K",
        help="frames on each side, in time or depth, that the network sees too (default: 0); for what changes slowly",
    )
    group.add_argument(
        "--targets",
        choices=TARGETS,
        help="own: blind spots of each frame; repeats: other frames of the same scene (default: auto, whether there are any)",
    )
    group.add_argument(
        "--init",
        choices=INITS,
        help="weights to start from; beside pretrained ones a model from random weights is shown",
    )
    group.add_argument("--epochs", type=_positive, metavar="N")
    group.add_argument("--patch-size", type=_positive, metavar="PIXELS")
    group.add_argument("--batch-size", type=_positive, metavar="N")
    group.add_argument(
        "--filters", type=_positive, metavar="N", help="of the network's first level"
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
        help="predictions averaged a pixel: quality against time",
    )
    _add_seed(group)
    _add_axes(verb)
    verb.add_argument(
        "--along",
        choices=tuple("TZS"),
        help="the axis of neighbouring frames (default: the only one)",
    )
    _add_devices(verb)


def _add_devices(verb):
    group = verb.add_argument_group("many devices")
    group.add_argument(
        "--devices",
        type=_positive,
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
        "--processes", type=_positive, metavar="N", help="with --coordinator: how many there are"
    )
    group.add_argument(
        "--process",
        type=_whole,
        metavar="I",
        help="with --coordinator: which one this is, from 0 on",
    )
    group.add_argument(
        "--heartbeat",
        type=_positive,
        default=30,
        metavar="SECONDS",
        help="of silence, after which a process counts as dead (default: 30)",
    )


def _add_members(verb):
    text = (
        "models of an ensemble, whose mean is taken; how they disagree is written too (default: 1)"
    )
    verb.add_argument("--members", type=_positive, default=1, metavar="N", help=text)


def _add_optics(verb):
    group = verb.add_argument_group("PSF from the optics, instead of --psf")
    group.add_argument(
        "--na", type=_length, metavar="NA", help="numerical aperture of the objective"
    )
    group.add_argument("--emission", type=_length, metavar="UM", help="wavelength in micrometres")
    group.add_argument(
        "--excitation",
        type=_length,
        metavar="UM",
        help="wavelength in micrometres, of a confocal microscope",
    )
    group.add_argument(
        "--pinhole",
        type=_length,
        default=1.0,
        metavar="AU",
        help="its diameter in Airy units (default: 1)",
    )
    group.add_argument(
        "--pixel-size",
        type=_length,
        metavar="UM",
        help="in the sample, in micrometres (default: what the file says)",
    )


def _add_common(verb, *, json_too=False):
    verb.add_argument("--overwrite", action="store_true", help="replace what is there")
    verb.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    if json_too:
        _add_json(verb)


def _add_format(verb):
    verb.add_argument(
        "--format",
        choices=("same", "tiff", "zarr"),
        default="same",
        help="of what is written (default: the input's)",
    )


def _add_report(verb):
    verb.add_argument(
        "--no-report",
        dest="report",
        action="store_false",
        help="do not write the report, an HTML file",
    )


def _add_seed(verb):
    verb.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of all randomness (default: 0)"
    )


def _add_axes(verb):
    verb.add_argument(
        "--axes", metavar="LETTERS", help="of STCZYX, one a dimension; overrules what the file says"
    )


def _add_json(verb):
    verb.add_argument("--json", action="store_true", help="print JSON")


def _positive(text):
    return _number(text, int, lambda n: 1 <= n < 2**31, "a whole number from 1 to 2^31 - 1")


def _whole(text):
    return _number(text, int, lambda n: 0 <= n < 2**31, "a whole number")


def _odd(text):
    return _number(text, int, lambda n: 1 <= n < 2**31 and n % 2 == 1, "an odd number of pixels")


def _seconds(text):
    return _number(text, float, lambda value: 0 <= value < math.inf, "a number of seconds")


def _length(text):
    return _number(text, float, lambda value: 0 < value < math.inf, "a positive number")


def _seed(text):
    return _number(text, int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 2^32 - 1")


def _data_range(text):
    return (
        text
        if text == "gt"
        else _number(
            text, float, lambda r: 0 < r < math.inf, "'gt' or a positive number of grey levels"
        )
    )


def _sigma(text):
    return _width(
        text,
        float,
        lambda sigma: 0 <= sigma < math.inf,
        "'auto' or a sigma in pixels (y,x or z,y,x: one an axis)",
    )


def _size(text):
    return _width(
        text,
        int,
        lambda size: size >= 1 and size % 2 == 1,
        "'auto' or an odd number of pixels (y,x or z,y,x: one an axis)",
    )


def _width(text, kind, holds, expected):
    if text == "auto":
        return text
    parts = text.split(",")
    if len(parts) > 3:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    values = tuple(_number(part, kind, holds, expected) for part in parts)
    return values if len(values) > 1 else values[0]


def _background(text):
    return text if text == "auto" else _number(text, float, math.isfinite, "'auto' or a grey level")


def _stride(text):
    return text if text == "auto" else _positive(text)


def _reach(text):
    if text == "auto":
        return text
    values = [
        _number(
            part, int, lambda n: 0 <= n < 2**31, "'auto', or one or two whole numbers of pixels"
        )
        for part in text.split(",")
    ]
    if len(values) > 2:
        raise argparse.ArgumentTypeError(
            f"expected 'auto', or one or two whole numbers of pixels, not {text!r}"
        )
    return values[0], values[-1]


def _number(text, kind, holds, expected):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")
