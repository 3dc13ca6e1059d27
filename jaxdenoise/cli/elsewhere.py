"""Flags that a verb does not have although a similar one does: what to write instead. No JAX."""

from collections.abc import Mapping, Sequence

_WRITES_NO_IMAGES = "writes no images: train first, then denoise --model RUN with this flag"
_PSF_IS_SOUGHT = (
    "finds the best PSF among those that --psf names; where the optics say what it is, train or "
    "denoise with them"
)
_NO_STATES = "keeps no states to resume from; train --psf auto chooses among the same PSFs and does"
_OPTICS = ("na", "emission", "excitation", "pinhole", "pixel-size", "refractive-index", "z-step")
_OF_IMAGES = ("dtype", "format", "tile-size", "skip-existing")
_NOTHING_TRAINED = "trains always: to use the network that comes with the package, denoise with it"

# Verb to flag to the end of a line that begins with both.
_INSTEAD: Mapping[str, Mapping[str, str]] = {
    "denoise": {
        "--resume": "keeps no states to resume from: train RUN, --resume that, and denoise --model "
        "RUN; a batch that was killed goes on with --skip-existing",
        "--save-every": "keeps no states to resume from: train RUN with this flag, and denoise "
        "--model RUN",
        "--seeds": "trains several models with --members N",
        "--halving": "drops the worse half early by itself with --psf auto",
        "--reference": "knows no clean image: evaluate compares results with one",
    },
    "train": {
        **{f"--{name}": _WRITES_NO_IMAGES for name in _OF_IMAGES},
        "--model": "goes on with a model in its output with --resume; denoise uses one",
        "--save-model": "keeps the model in its output, -o RUN",
        "--instant": _NOTHING_TRAINED,
        "--noise": _NOTHING_TRAINED,
        "--preview": "shows no preview: denoise --preview with the same flags does",
        "--crop": "shows no preview: denoise --crop with the same flags does",
        "--train-on": "trains on all its inputs: name those that it is to train on",
        "--seeds": "trains several models with --members N",
        "--halving": "drops the worse half early by itself with --psf auto",
        "--reference": "knows no clean image: sweep judges its choice by one",
    },
    "sweep": {
        **{f"--{name}": _PSF_IS_SOUGHT for name in _OPTICS},
        **{f"--{name}": _WRITES_NO_IMAGES for name in _OF_IMAGES},
        "--resume": _NO_STATES,
        "--save-every": _NO_STATES,
        "--model": "trains a model for each PSF; denoise uses one that is there",
        "--save-model": "keeps all models in its output, -o DIR",
        "--instant": _NOTHING_TRAINED,
        "--noise": _NOTHING_TRAINED,
        "--preview": "shows no preview: denoise --preview with the same flags does",
        "--crop": "shows no preview: denoise --crop with the same flags does",
        "--train-on": "trains on all its inputs: name those that it is to train on",
    },
}


def instead_of(verb: str, words: Sequence[str]) -> str | None:
    """Return a line on the first flag that the verb does not have; None if nothing is known of it.

    Args:
        verb: its name.
        words: of the command line, those that were not understood.
    """
    for word in words:
        flag = word.split("=")[0]
        text = _INSTEAD.get(verb, {}).get(flag)
        if text is not None:
            return f"{flag}: {verb} {text}"
    return None
