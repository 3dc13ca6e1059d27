"""What --help and --help-all print: the flags that most need, and all of them. Needs no JAX."""

import argparse
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

_WIDTH = 88

# Three examples a verb; the comment says what for.
EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("", "filters, the shipped network and a training, on a scene whose truth is known"),
        ("-o tour --overwrite", "once more, into another folder"),
        ("--seed 3 --json", "another scene, figures for a script"),
    ),
    "denoise": (
        ("cells.tif -o results --psf 1.2", "train on an image and denoise it"),
        ("data -o results --recursive --instant", "all images in a folder, without a training"),
        (
            "movie.tif -o results --preset best --preview",
            "first a look at a part",
        ),
    ),
    "train": (
        ("a.tif b.tif -o model", "keep a model of two images"),
        ("movie.tif -o model --preset best --resume", "go on with a training that was killed"),
        ("a.tif -o model --members 3", "three models, whose disagreement tells their error"),
    ),
    "sweep": (
        ("cells.tif -o sweep", "which Gaussian is the PSF"),
        ("cells.tif -o sweep --psf 1,1.5,beads.tif", "two widths against a measured PSF"),
        ("cells.tif -o sweep --halving --seeds 2", "the worse half ends early, two seeds each"),
    ),
    "psf": (
        ("beads.tif -o psf.tif", "the mean of the beads in an image"),
        ("beads.tif -o psf.tif --bead-diameter 1.5", "sigma without the beads' own size"),
        ("beads.tif -o psf.tif --size 31", "a larger window"),
    ),
    "filter": (
        ("cells.tif -o filtered", "a Gaussian, as wide as the noise asks for"),
        ("cells.tif -o filtered --filter median --size 3", "a median of 3 x 3 pixels"),
        ("stack.tif -o filtered --filter box3d", "means over planes, rows and columns"),
    ),
    "evaluate": (
        ("results/a_denoised.tif --reference clean.tif", "PSNR, SSIM and more"),
        ("a.tif b.tif --reference clean.tif", "a table of two images"),
        ("a.tif --reference clean.tif --data-range 255 --json", "figures for a script"),
    ),
    "info": (
        ("", "versions and devices"),
        ("cells.tif", "axes, shape, dtype, pixel size, channels"),
        ("*.tif --json", "the same for a script"),
    ),
}

# The flags that --help shows, of verbs that have too many for a page; others show all.
COMMON: Mapping[str, Collection[str]] = {
    "denoise": [
        "input",
        "output",
        "preset",
        "psf",
        "instant",
        "model",
        "save_model",
        "preview",
        "crop",
        "recursive",
        "train_on",
        "skip_existing",
        "dtype",
        "axes",
        "report",
        "overwrite",
        "log",
        "json",
        "help",
        "help_all",
    ],
    "train": [
        "input",
        "output",
        "preset",
        "psf",
        "recursive",
        "members",
        "channels",
        "resume",
        "seed",
        "axes",
        "report",
        "overwrite",
        "log",
        "json",
        "help",
        "help_all",
    ],
    "sweep": [
        "input",
        "output",
        "preset",
        "psf",
        "recursive",
        "seeds",
        "channels",
        "halving",
        "reference",
        "seed",
        "axes",
        "report",
        "overwrite",
        "log",
        "json",
        "help",
        "help_all",
    ],
}


class WholeHelp(argparse._HelpAction):
    """The flag --help-all."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the help on all flags, and exit."""
        print(whole_help(parser), end="")
        parser.exit()


def examples(prog: str, verb: str) -> str:
    """Return the examples of a verb, two lines each.

    Args:
        prog: the program and the verb.
        verb: its name.
    """
    lines = [f"  {prog} {words}".rstrip() + f"\n      {text}" for words, text in EXAMPLES[verb]]
    return "examples:\n" + "\n".join(lines)


def whole_help(parser: argparse.ArgumentParser) -> str:
    """Return the help on all flags of a verb, with its examples."""
    text = argparse.ArgumentParser.format_help(parser)
    verb = parser.get_default("verb")
    return f"{text}\n{examples(parser.prog, verb)}\n" if verb in EXAMPLES else text


def short_help(parser: argparse.ArgumentParser) -> str:
    """Return the help on the flags of a verb that most need: at most 60 lines."""
    verb = parser.get_default("verb")
    if verb not in COMMON:
        return whole_help(parser)
    formatter = argparse.HelpFormatter(parser.prog, max_help_position=26, width=_WIDTH)
    lines = [f"usage: {parser.prog} INPUT [INPUT ...] -o DIR [flags]", ""]
    lines += [*textwrap.wrap(parser.description or "", _WIDTH), "", examples(parser.prog, verb)]
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if one.dest in COMMON[verb]]
        if actions:
            formatter.start_section(group.title)
            formatter.add_arguments(actions)
            formatter.end_section()
    left = sum(one.dest not in COMMON[verb] for one in parser._actions)
    end = f"{left} more flags: {parser.prog} --help-all"
    return "\n".join([*lines, "", formatter.format_help().rstrip(), "", end, ""])
