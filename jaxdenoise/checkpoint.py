"""Run folders: a trained model, or a training to be resumed, on disk. Host side.

    RUN/config.json      version, settings, and what the caller adds (seed, inputs, ...); readable, compared strictly when read
    RUN/history.csv      one row an epoch
    RUN/weights/         orbax: the best, averaged and last parameters, PSF, background, mean and standard deviation
    RUN/epoch-NNNNN/     orbax: the state to resume from; only while the training is unfinished

Everything appears by rename. Reading executes nothing: JSON, CSV and arrays only.
"""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise import __version__, training
from jaxdenoise.config import ConfigError, TrainConfig
from jaxdenoise.problem import Scale

FORMAT = 1  # of the folder; raised when an older reader would misread it


class CheckpointError(ValueError):
    """A run folder that cannot be read or written."""


def save(path, denoiser, *, notes=None, overwrite=False):
    """Write a trained model as a run folder.

    Args:
        path: the folder; made if missing.
        denoiser: `training.Denoiser`.
        notes: dict of JSON values to keep in config.json, such as the seed and the inputs.
        overwrite: replace a model that the folder already holds.

    Raises:
        CheckpointError: the folder holds a model and ``overwrite`` is False, or cannot be written.
    """
    path = Path(path)
    if has_model(path) and not overwrite:
        raise CheckpointError(f"{path}: holds a model already; choose another folder or ask to overwrite it")
    arrays = {
        "best": denoiser.best,
        "averaged": denoiser.averaged,
        "last": denoiser.last,
        "psf": jnp.asarray(denoiser.psf),
        "scale": denoiser.scale._asdict(),
    }
    write_config(path, denoiser.config, psf_shape=denoiser.psf.shape, notes=notes)
    write_history(path, denoiser.history)
    _save_arrays(path / "weights", arrays)
    for _, folder in _unfinished(path):
        shutil.rmtree(folder)


def load(path, *, weights=None):
    """Read a model that `save` wrote.

    Args:
        path: the run folder.
        weights: "best", "averaged" or "last" instead of what the training's settings say.

    Returns:
        `training.Denoiser`.

    Raises:
        CheckpointError: missing, unfinished, damaged, or of another version.
    """
    path = Path(path)
    config, header = read_config(path)
    if not has_model(path):
        raise CheckpointError(f"{path}: the training is unfinished; run `jaxdenoise train ... -o {path} --resume` first")
    if weights is not None:
        config = TrainConfig.from_dict({**config.to_dict(), "weights": weights})
    params = jax.eval_shape(lambda: training.start(jax.random.key(0), config).state.params)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    abstract = {
        "best": params,
        "averaged": params,
        "last": params,
        "psf": jax.ShapeDtypeStruct(tuple(header["psf_shape"]), jnp.float32),
        "scale": {name: scalar for name in Scale._fields},
    }
    arrays = _load_arrays(path / "weights", abstract)
    scale = Scale(**arrays.pop("scale"))
    return training.Denoiser(**arrays, scale=scale, history=read_history(path), config=config)


def has_model(path):
    """Whether the folder holds a finished model."""
    return (Path(path) / "weights").is_dir()


def clear(path):
    """Remove what a run wrote into the folder, and nothing else."""
    path = Path(path)
    for folder in [path / "weights", *(folder for _, folder in _unfinished(path))]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("config.json", "history.csv"):
        (path / name).unlink(missing_ok=True)


def save_snapshot(path, snapshot):
    """Write the state to resume from after an epoch; the previous one goes only when this one is whole."""
    path = Path(path)
    epoch = len(snapshot.history)
    write_history(path, history_columns(snapshot.history))
    _save_arrays(path / f"epoch-{epoch:05d}", {"state": snapshot.state._asdict(), "best": snapshot.best, "lowest": snapshot.lowest})
    for number, folder in _unfinished(path):
        if number != epoch:
            shutil.rmtree(folder)


def load_snapshot(path, config):
    """The `training.Snapshot` of the last epoch that was saved, or None."""
    path = Path(path)
    saved = _unfinished(path)
    if not saved:
        return None
    epoch, folder = saved[-1]
    abstract = jax.eval_shape(lambda: training.start(jax.random.key(0), config))
    arrays = _load_arrays(folder, {"state": abstract.state._asdict(), "best": abstract.best, "lowest": abstract.lowest})
    columns = read_history(path)
    history = tuple(dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True))
    if len(history) < epoch:
        raise CheckpointError(f"{path / 'history.csv'}: has {len(history)} epochs, the saved state {epoch}; the folder is damaged")
    return training.Snapshot(training.TrainState(**arrays["state"]), arrays["best"], arrays["lowest"], history[:epoch])


def write_config(path, config, *, psf_shape, notes=None):
    """Write RUN/config.json."""
    header = {
        "format": FORMAT,
        "jaxdenoise": __version__,
        "psf_shape": list(map(int, psf_shape)),
        "notes": notes or {},
        "config": config.to_dict(),
    }
    replace_text(Path(path) / "config.json", json.dumps(header, indent=2) + "\n")


def read_config(path):
    """RUN/config.json as (`TrainConfig`, the whole dict). CheckpointError when it is missing, no JSON, or of another version."""
    file = Path(path) / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{path}: not a run folder (it has no config.json)")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            raise CheckpointError(f"{file}: is of format {header['format']}, this version reads {FORMAT}")
        psf_shape = header["psf_shape"]
        if len(psf_shape) != 2 or not all(isinstance(n, int) and n % 2 == 1 and 0 < n < 2**15 for n in psf_shape):
            raise CheckpointError(f"{file}: psf_shape cannot be {psf_shape}")
        return TrainConfig.from_dict(header["config"]), header
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({type(error).__name__}: {_one_line(error)})") from error
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error


def history_columns(rows):
    """A snapshot's history as a dict of (epochs,) float64 arrays."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def write_history(path, columns):
    """Write RUN/history.csv; numbers in full, so that reading gives the same bits."""
    lines = [",".join(columns)]
    lines += [",".join(repr(float(value)) for value in row) for row in zip(*columns.values(), strict=True)]
    replace_text(Path(path) / "history.csv", "\n".join(lines) + "\n")


def read_history(path):
    """RUN/history.csv as a dict of (epochs,) float64 arrays."""
    file = Path(path) / "history.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({type(error).__name__}: {_one_line(error)})") from error
    return dict(zip(names, values.T, strict=True))


def _unfinished(path):
    """(epoch, folder) of each state to resume from, oldest first."""
    folders = (f for f in path.glob("epoch-*") if f.is_dir() and re.fullmatch(r"epoch-\d{5,}", f.name))
    return sorted((int(folder.name[6:]), folder) for folder in folders)


def _save_arrays(folder, tree):
    from orbax.checkpoint import v1 as ocp  # late: it takes a second to import

    # Orbax writes beside the target and renames; `overwrite` would delete the old one first, so it is moved aside instead.
    folder = folder.absolute()
    old = folder.with_name(folder.name + ".old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        ocp.save(folder, tree)
    except OSError as error:
        if old.exists():
            old.rename(folder)
        raise CheckpointError(f"{folder}: cannot be written ({_one_line(error)})") from error
    shutil.rmtree(old, ignore_errors=True)


def _load_arrays(folder, abstract):
    from orbax.checkpoint import v1 as ocp

    # Said for each array, so that a model saved on a GPU loads on a machine without one.
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract)
    try:
        return ocp.load(folder.absolute(), abstract)
    except Exception as error:  # orbax raises many kinds for a damaged folder
        raise CheckpointError(f"{folder}: cannot be read ({type(error).__name__}: {_one_line(error)})") from error


def replace_text(file, text):
    """Write a text file so that it appears whole, by rename."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written ({_one_line(error)})") from error


def _one_line(error):
    return " ".join(str(error).split())[:200]
