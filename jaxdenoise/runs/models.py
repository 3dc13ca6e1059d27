"""Finished models on disk. Host side.

`save` and `load` are for one model in a folder of its own. `load_all` is for a run, which may be an
ensemble: the run folder holds the first member, and a folder in it each other one. `runs.layout`
shows the files.
"""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    writing,
)
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError
from jaxdenoise.system.files import recover, remove_folder
from jaxdenoise.training.fit import start

_NEW = ".model.unfinished"  # in a run folder: a model that is being written
RANDOM_START = "random-start"  # the folder of the member that starts from random weights


def save(
    path: str | Path,
    denoiser: Denoiser,
    *,
    notes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write one trained model as a run folder.

    Args:
        path: The folder; made if missing.
        denoiser: The model.
        notes: JSON values to keep in config.json, such as the seed and the inputs.
        overwrite: Replace a model that the folder already holds. It stays until the new one is
            written.

    Raises:
        CheckpointError: The folder holds a model and ``overwrite`` is False, or cannot be written.
    """
    path = Path(path)
    if has_model(path) and not overwrite:
        raise CheckpointError(
            f"{path}: holds a model already; overwrite=True replaces it, or choose another folder"
        )
    arrays = {
        "best": denoiser.best,
        "averaged": denoiser.averaged,
        "last": denoiser.last,
        "psf": jnp.asarray(denoiser.psf),
        "scale": {name: jnp.float32(value) for name, value in denoiser.scale._asdict().items()},
    }
    crew, new = current_crew(), path / _NEW
    try:
        if crew.is_primary:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                recover(path)  # what a killed save left
        write_config(new, denoiser.request(), psf_shape=denoiser.psf.shape, notes=notes)
        write_history(new, denoiser.history)
        save_arrays(new / "weights", arrays)
        if crew.is_primary:
            with writing(path):
                _move_in(new, path)
                for folder in resumable_folders(path):
                    shutil.rmtree(folder)
    finally:
        if crew.is_primary:
            remove_folder(new)
    crew.barrier()


def _move_in(new, path):
    """Put a whole new model in the place of an old one.

    A folder without weights holds no model. So the old ones go first and the new ones come last: at
    no moment do the parts of two models stand there as one.
    """
    old = new / "replaced"
    replaces = (path / "weights").is_dir()
    if replaces:
        os.rename(path / "weights", old)
    try:
        os.replace(new / "config.json", path / "config.json")
    except OSError:  # nothing of the new model is there yet
        if replaces:
            os.rename(old, path / "weights")
        raise
    os.replace(new / "history.csv", path / "history.csv")
    os.rename(new / "weights", path / "weights")


def load(path: str | Path, *, weights: str | None = None) -> Denoiser:
    """Read one model that `save` wrote; of an ensemble, the first member.

    Args:
        path: The run folder.
        weights: "best", "averaged" or "last" instead of what the training's settings say.

    Raises:
        CheckpointError: It is missing, unfinished, damaged, or of another version.
    """
    path = Path(path)
    config, header = read_config(path)
    if not has_model(path):
        raise CheckpointError(
            f"{path}: the training is unfinished; resume it first: train with resume=True"
        )
    if weights is not None:
        config = TrainConfig.from_dict({**config.to_dict(), "weights": weights})
    settings = settle(config)
    params = jax.eval_shape(lambda: start(jax.random.key(0), settings).state.params)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    scale_fields = Scale._fields[: None if header["format"] > 1 else 3]
    abstract = {
        "best": params,
        "averaged": params,
        "last": params,
        "psf": jax.ShapeDtypeStruct(tuple(header["psf_shape"]), jnp.float32),
        "scale": {name: scalar for name in scale_fields},
    }
    arrays = load_arrays(weights_folder(path), abstract)
    scale = Scale(**arrays.pop("scale"))
    if not 0 < scale.std < np.inf:
        raise CheckpointError(
            f"{path / 'weights'}: the standard deviation of the images cannot be {scale.std:g}; "
            "train again"
        )
    return Denoiser(**arrays, scale=scale, history=read_history(path), config=settings)


class Models(NamedTuple):
    """The models of a run.

    Attributes:
        members: Of the ensemble, or the only model.
        random_start: The one that starts from random weights, if there is one.
    """

    members: tuple[Denoiser, ...]
    random_start: Denoiser | None


def those_in(run: str | Path) -> list[str]:
    """Return the names of the models that a run folder holds; the first member's is empty."""
    run = Path(run)
    names = ("", *sorted(folder.name for folder in run.glob("member-*")), RANDOM_START)
    return [name for name in names if has_model(run / name)]


def grouped(models: Mapping[str, Denoiser]) -> Models:
    """Group models by their names, see `those_in`."""
    members = tuple(model for name, model in models.items() if name != RANDOM_START)
    return Models(members, models.get(RANDOM_START))


def load_all(run: str | Path, *, weights: str | None = None) -> Models:
    """Read all models of a run, with ``weights`` and errors as of `load`."""
    run = Path(run)
    return grouped({name: load(run / name, weights=weights) for name in those_in(run) or [""]})


def remove_others(run: str | Path, names: Collection[str]) -> None:
    """Remove the members of an earlier training from a run folder, except those of these names."""
    if not current_crew().is_primary:
        return
    for folder in (*Path(run).glob("member-*"), Path(run) / RANDOM_START):
        if folder.name not in names and (folder / "config.json").exists():
            shutil.rmtree(folder)
