"""Command-line arguments that several experiments have in common."""

import argparse
import json
from pathlib import Path


def parser_of(doc, output):
    """Return a parser with the first line of a script's docstring and the option ``--output``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(output),
        help=f"JSON file of the results (default: {output})",
    )
    return parser


def add_data(parser, holds="fmd/{raw,gt} and w2s/{noisy,gt}", *, optional=None):
    """Add the folder of the images: the argument DATA, or the option ``--data`` with a reason."""
    if optional is None:
        parser.add_argument("data", type=Path, help=f"folder with {holds}")
    else:
        parser.add_argument("--data", type=Path, help=f"folder with {holds}; {optional}")


def add_folder(parser, default, holds):
    """Add the option ``--folder`` for what an experiment leaves beside its results."""
    parser.add_argument(
        "--folder", type=Path, default=Path(default), help=f"folder of {holds} (default: {default})"
    )


def add_only(parser, what="experiments"):
    """Add the option ``--only``; `is_chosen` reads it."""
    parser.add_argument(
        "--only",
        type=comma_list,
        default=[""],
        metavar="TEXTS",
        help=f"run the {what} whose names contain one of these texts, separated by commas",
    )


def add_actin(parser):
    """Add the stack of Mouse actin and its offset; `common.data.actin_stack` takes both."""
    parser.add_argument(
        "--actin",
        type=Path,
        help="the calibration stack diaphragm.tif (default: a synthetic stack)",
    )
    parser.add_argument(
        "--offset",
        type=float,
        help="grey level without light (default: 520; of the synthetic stack 100)",
    )


def comma_list(text):
    """Return the parts of a text between its commas."""
    return text.split(",")


def is_chosen(name, only):
    """Return whether the name contains one of the texts of ``--only``."""
    return any(part in name for part in only)


def read_kept(path):
    """Return what an earlier run kept in a JSON file, or an empty dict."""
    return json.loads(path.read_text()) if path.exists() else {}
