"""The parser of the command line. Imports neither JAX nor NumPy, so that --help answers at once."""

import argparse
from typing import Any, NoReturn

from jaxdenoise import __version__
from jaxdenoise.cli import flags, values
from jaxdenoise.cli.elsewhere import instead_of
from jaxdenoise.cli.help import WholeHelp, short_help
from jaxdenoise.workflows.requests import BORDERS, FILTERS


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; ``verb`` in what it parses is the verb's name."""
    top = _Parser(prog="jaxdenoise", description="Denoise microscopy images without clean data.")
    top.add_argument("--version", action="version", version=f"jaxdenoise {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for name, (text, add_flags) in _VERBS.items():
        description = text[0].upper() + text[1:] + "."
        verb = verbs.add_parser(name, help=text, description=description)
        verb.set_defaults(verb=name)
        verb.add_argument("--help-all", action=WholeHelp, help="show all flags and exit")
        add_flags(verb)
    return top


def options_of(verb: str) -> dict[str, argparse.Action]:
    """Return the optional flags of a verb, by the name of their value."""
    found = _Parser(prog=verb)
    _VERBS[verb][1](found)
    return {action.dest: action for action in found._actions if action.option_strings}


def verb_names() -> list[str]:
    """Return the names of all verbs."""
    return list(_VERBS)


def _demo(verb):
    text = "where the pictures and TIFFs go (default: demo)"
    flags.add_output(verb, "DIR", text, default="demo")
    flags.add_seed(verb)
    flags.add_report(verb)
    flags.add_common(verb)


def _denoise(verb):
    flags.add_batch(verb)
    text = "where <stem>_denoised.tif and <stem>_deconvolved.tif go"
    flags.add_output(verb, "DIR", text, required=True)
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
        type=values.length,
        metavar="STD",
        help="with --instant: the noise in grey levels (default: estimated)",
    )
    flags.add_members(verb)
    flags.add_channels(verb)
    flags.add_files(verb)
    verb.add_argument(
        "--tile-size",
        type=values.positive,
        metavar="PIXELS",
        help="side of a tile with its overlap: bounds the memory",
    )
    flags.add_preview(verb)
    flags.add_training(verb)
    flags.add_optics(verb)
    flags.add_report(verb)
    flags.add_common(verb)


def _train(verb):
    flags.add_inputs(verb)
    flags.add_output(verb, "RUN", "the run folder", required=True)
    flags.add_channels(verb)
    flags.add_members(verb)
    verb.add_argument(
        "--resume", action="store_true", help="go on with a training that was interrupted"
    )
    verb.add_argument(
        "--save-every",
        type=values.seconds,
        default=10.0,
        metavar="SECONDS",
        help="between two states to resume from (default: 10)",
    )
    flags.add_training(verb)
    flags.add_optics(verb)
    flags.add_report(verb)
    flags.add_common(verb)


def _sweep(verb):
    flags.add_inputs(verb)
    text = "where the models, sweep.json and report.html go"
    flags.add_output(verb, "DIR", text, required=True)
    verb.add_argument(
        "--members",
        "--seeds",
        dest="seeds",
        type=values.positive,
        default=1,
        metavar="N",
        help="models for each PSF, with successive seeds (default: 1)",
    )
    flags.add_channels(verb)
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
    several = (
        "SIGMA|FILE|none, several with commas between (default: auto, which is "
        "0,0.5,0.75,1,1.25,1.5,2)"
    )
    flags.add_training(verb, psf="auto", psf_help=several)
    flags.add_report(verb)
    flags.add_common(verb)


def _psf(verb):
    verb.add_argument("input", metavar="BEADS", help="TIFF: one image, or planes through focus")
    flags.add_output(verb, "FILE", "the PSF, a TIFF for --psf", required=True)
    verb.add_argument(
        "--size",
        type=values.odd,
        metavar="PIXELS",
        help="odd side of the PSF (default: about eight sigmas)",
    )
    verb.add_argument(
        "--saturation",
        type=values.length,
        metavar="LEVEL",
        help="grey level from which a pixel is saturated (default: guessed)",
    )
    verb.add_argument(
        "--bead-diameter",
        type=values.length,
        metavar="PIXELS",
        help="to report sigma without the bead's own size",
    )
    flags.add_axes(verb)
    flags.add_overwrite(verb)
    flags.add_json(verb)


def _filter(verb):
    verb.add_argument("input", nargs="+", metavar="INPUT", help="TIFF, OME-Zarr, PNG or JPEG")
    flags.add_output(verb, "DIR", "where <stem>_<filter>.tif goes", required=True)
    verb.add_argument(
        "--filter",
        choices=FILTERS,
        default="gaussian",
        help="box3d averages over Z, Y and X (default: gaussian)",
    )
    verb.add_argument(
        "--sigma",
        type=values.sigma,
        metavar="S|auto",
        help="of the Gaussian in pixels (default: auto); y,x or z,y,x: one an axis",
    )
    verb.add_argument(
        "--size",
        type=values.size,
        metavar="K|auto",
        help="odd window in pixels (default: auto); y,x or z,y,x: one an axis",
    )
    verb.add_argument(
        "--mode",
        choices=BORDERS,
        default="reflect",
        help="border, in scipy's words (default: reflect)",
    )
    flags.add_line_noise(verb)
    flags.add_files(verb)
    flags.add_axes(verb)
    flags.add_common(verb)


def _evaluate(verb):
    verb.add_argument("input", nargs="+", metavar="IMAGE")
    verb.add_argument(
        "--reference",
        required=True,
        metavar="GT",
        help="the clean image: one frame, or as many as each IMAGE has",
    )
    verb.add_argument(
        "--data-range",
        type=values.data_range,
        default="gt",
        metavar="R|gt",
        help="in grey levels; gt: the reference's maximum - minimum (default)",
    )
    flags.add_axes(verb)
    flags.add_json(verb)


def _info(verb):
    verb.add_argument("input", nargs="*", metavar="INPUT")
    flags.add_axes(verb)
    flags.add_json(verb)


_VERBS = {
    "demo": ("make a synthetic stack, denoise it in several ways, compare with its truth", _demo),
    "denoise": ("train on noisy images and denoise them; or use a model that is there", _denoise),
    "train": ("train on noisy images and keep the model", _train),
    "sweep": ("train one model a PSF and choose among them without ground truth", _sweep),
    "psf": ("measure the PSF from an image or stack of beads", _psf),
    "filter": (
        "a classical filter; its width is found from the noisy image if it is not given",
        _filter,
    ),
    "evaluate": ("compare images with a reference", _evaluate),
    "info": ("versions and devices; axes, shape, dtype and pixel size of files", _info),
}


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        return short_help(self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left = self.parse_known_args(args, namespace)
        if left:
            said = instead_of(getattr(found, "verb", ""), left)
            self.error(said or f"unrecognized arguments: {' '.join(left)}")
        return found

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {text} (see {self.prog} --help)\n")
