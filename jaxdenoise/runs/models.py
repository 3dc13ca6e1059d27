"""Finished models on disk: one, or the members of an ensemble. Host side."""

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.runs.arrays import load_arrays, save_arrays
from jaxdenoise.runs.layout import (
    has_model,
    read_config,
    read_history,
    resumable_folders,
    weights_folder,
    write_config,
    write_history,
)
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError
from jaxdenoise.training.fit import start


def save(path, denoiser, *, notes=None, overwrite=False):
    """Write a trained model as a run folder.

    Args:
        path: the folder; made if missing.
        denoiser: `denoiser.Denoiser`.
        notes: dict of JSON values to keep in config.json, such as the seed and the inputs.
        overwrite: replace a model that the folder already holds.

    Raises:
        CheckpointError: the folder holds a model and ``overwrite`` is False, or cannot be written.
    """
    path = Path(path)
    if has_model(path) and not overwrite:
        raise CheckpointError(
            f"{path}: holds a model already; choose another folder or ask to overwrite it"
        )
    arrays = {
        "best": denoiser.best,
        "averaged": denoiser.averaged,
        "last": denoiser.last,
        "psf": jnp.asarray(denoiser.psf),
        "scale": {name: jnp.float32(value) for name, value in denoiser.scale._asdict().items()},
    }
    write_config(path, denoiser.config, psf_shape=denoiser.psf.shape, notes=notes)
    write_history(path, denoiser.history)
    save_arrays(path / "weights", arrays)
    if current_crew().is_primary:
        for folder in resumable_folders(path):
            shutil.rmtree(folder)


def load(path, *, weights=None):
    """Read a model that `save` wrote.

    Args:
        path: the run folder.
        weights: "best", "averaged" or "last" instead of what the training's settings say.

    Returns:
        `denoiser.Denoiser`.

    Raises:
        CheckpointError: missing, unfinished, damaged, or of another version.
    """
    path = Path(path)
    config, header = read_config(path)
    if not has_model(path):
        raise CheckpointError(
            f"{path}: the training is unfinished; run `jaxdenoise train ... -o {path} --resume` first"
        )
    if weights is not None:
        config = TrainConfig.from_dict({**config.to_dict(), "weights": weights})
    settings = settle(config)
    params = jax.eval_shape(lambda: start(jax.random.key(0), settings).state.params)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    abstract = {
        "best": params,
        "averaged": params,
        "last": params,
        "psf": jax.ShapeDtypeStruct(tuple(header["psf_shape"]), jnp.float32),
        "scale": {name: scalar for name in Scale._fields},
    }
    arrays = load_arrays(weights_folder(path), abstract)
    scale = Scale(**arrays.pop("scale"))
    if not 0 < scale.std < np.inf:
        raise CheckpointError(
            f"{path / 'weights'}: the standard deviation of the images cannot be {scale.std:g}; train again"
        )
    if config.background == "auto":
        settings = dataclasses.replace(settings, background=float(scale.background))
    return Denoiser(**arrays, scale=scale, history=read_history(path), config=settings)


RANDOM_START = "random-start"


class Models(NamedTuple):
    """The members of an ensemble, a tuple of `denoiser.Denoiser`, and the one from random weights, or None."""

    members: tuple
    random_start: Denoiser | None


def those_in(run):
    """Names, as in `wanted`, of the models that a run folder holds."""
    run = Path(run)
    return [
        name
        for name in ("", *sorted(folder.name for folder in run.glob("member-*")), RANDOM_START)
        if has_model(run / name)
    ]


def grouped(models):
    """`Models` of a dict of name to `denoiser.Denoiser`."""
    return Models(
        tuple(one for name, one in models.items() if name != RANDOM_START), models.get(RANDOM_START)
    )


def load_all(run, *, weights=None):
    """`Models` of a run folder; ``weights`` and errors as of `models.load`."""
    run = Path(run)
    return grouped({name: load(run / name, weights=weights) for name in those_in(run) or [""]})


def remove_others(run, names):
    """Remove what an earlier training left in a run folder: members that are not of these names."""
    if not current_crew().is_primary:
        return
    for folder in (*Path(run).glob("member-*"), Path(run) / RANDOM_START):
        if folder.name not in names and (folder / "config.json").exists():
            shutil.rmtree(folder)
