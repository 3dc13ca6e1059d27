"""What a run folder says of its training, and whether the training can go on. Host side."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import numpy as np
from jaxtyping import Real

from jaxdenoise.io import images
from jaxdenoise.network import convolution
from jaxdenoise.runs.layout import read_config
from jaxdenoise.runs.states import load_candidates, load_snapshot
from jaxdenoise.system import meshes
from jaxdenoise.system.errors import CheckpointError, RequestError
from jaxdenoise.training.sweep import SIGMAS
from jaxdenoise.workflows.run import States
from jaxdenoise.workflows.settings import Training

_ROW = {  # of a table of candidates: the types of its values
    "psf": (int, float),
    "seed": (int,),
    "score": (int, float),
    "score_se": (int, float, NoneType),
    "psnr": (int, float, NoneType),
    "seconds": (int, float),
    "epochs": (int,),
}


def pixels_digest(stack: Real[np.ndarray, "*frames H W"]) -> str:
    """Return the SHA-256 of the pixels, as hexadecimal digits; at most 134 MB, which take 0.1 s."""
    return hashlib.sha256(np.ascontiguousarray(stack).data.cast("B")).hexdigest()


def notes_of(
    training: Training,
    inputs: Sequence[str | Path],
    digest: str,
    choice: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what config.json keeps beside the settings.

    Args:
        training: for the seed, the PSF as named and the precision that the hardware gives.
        inputs: names of the files.
        digest: `pixels_digest` of what is trained on.
        choice: `run.choice_table` of a choice among PSFs.
    """
    psf: Any = training.psf_name
    if training.optics is not None:
        later = ("refractive_index", "z_step")  # which older runs do not know
        optics = asdict(training.optics)
        psf = {name: v for name, v in optics.items() if v is not None or name not in later}
    return {
        "seed": training.seed,
        "psf": psf,
        "pixels_sha256": digest,
        "precision": convolution.resolve(
            training.config().precision, meshes.platform_of(jax.devices())
        ),
        "inputs": list(map(str, inputs)),
        **({} if choice is None else {"choice": choice}),
    }


def resumed(training: Training, states: States) -> States:
    """Return the states with what to go on from, or, with a warning, as they are if none was saved.

    Raises:
        RequestError: the run folder's inputs or settings are others.
        CheckpointError: it cannot be read, or says no choice that can be.
    """
    run = states.run
    if not (run / "config.json").exists():
        warnings.warn(f"{run}: holds no run yet; starting from the first epoch", stacklevel=2)
        return states
    config, header = read_config(run)
    before, now = config.to_dict(), training.config().to_dict()
    changed = [name for name in now if name != "precision" and before[name] != now[name]]
    if changed:
        raise RequestError(
            f"{run}: was trained with another {', '.join(changed)}; resume with the same settings"
        )
    _check_notes(run, header["notes"], states.notes)
    choice = choice_in(run, header["notes"])
    found: Any
    if training.psf_name == "auto":
        found = load_candidates(run, config, len(SIGMAS))
        begun = any(one.snapshot for one in found.values())
    else:
        found = load_snapshot(run, config)
        begun = found is not None
    if not begun:
        warnings.warn(f"{run}: no epoch was saved yet; starting from the first", stacklevel=2)
        return states
    return states._replace(resumed=found, choice=choice)


def choice_in(run: str | Path, notes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the table of a choice among PSFs that a run folder's notes hold; None without one.

    Raises:
        CheckpointError: it is no `run.choice_table` of a training's own choice.
    """
    choice = notes.get("choice")
    if choice is not None and not _is_choice(choice):
        raise CheckpointError(
            f"{run}: its config.json does not say which PSF was chosen; overwrite=True trains anew"
        )
    return choice


def _is_choice(choice):
    rows = choice.get("candidates") if isinstance(choice, dict) else None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        return False
    chosen = choice.get("chosen")
    return chosen in SIGMAS and chosen in [row["psf"] for row in rows]


def _is_row(row):
    return isinstance(row, dict) and all(
        type(row.get(name, "")) in kinds
        and (row[name] is None or abs(row[name]) < np.finfo(np.float32).max)
        for name, kinds in _ROW.items()
    )


def _check_notes(run, before, now):
    for name, value in now.items():
        if name != "inputs" and before.get(name) != value:
            hint = f" ({before.get(name)}, here it is {value})" if name == "precision" else ""
            raise RequestError(
                f"{run}: was trained with another {name}{hint}; resume with the same inputs and "
                "settings"
            )


def check_run_folder(run: str | Path, *, overwrite: bool, resumable: bool = False) -> None:
    """Raise an error unless a run can be written into the folder.

    Args:
        run: the folder; it need not exist.
        overwrite: whether it may hold a run already.
        resumable: whether the run could be resumed instead, for the message.

    Raises:
        RequestError: the folder holds a run already.
        ImageError: nothing can be written there.
    """
    run = Path(run)
    images.check_directory(run)
    if (run / "config.json").exists() and not overwrite:
        advice = "resume=True goes on with it, " if resumable else ""
        raise RequestError(f"{run}: holds a run already; {advice}overwrite=True replaces it")
