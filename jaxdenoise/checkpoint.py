"""Run folders: a trained model, or a training to be resumed, on disk. Host side.

    RUN/config.json      version, settings, and what the caller adds (seed, inputs, ...); readable, compared strictly when read
    RUN/history.csv      one row an epoch
    RUN/weights/         orbax: the best, averaged and last parameters, PSF, background, mean and standard deviation; SHA256SUMS
    RUN/epoch-NNNNN/     orbax: the last two states to resume from; only while the training is unfinished
    RUN/candidates/      instead, where several PSFs are tried, see `candidates`
    RUN/.lock            while a process trains

Everything appears by rename. Reading executes nothing: JSON, CSV and arrays only.
"""

import csv
import json
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise import __version__, errors, processes, storage, training
from jaxdenoise.config import ConfigError, TrainConfig
from jaxdenoise.problem import Scale
from jaxdenoise.storage import CheckpointError

CANDIDATES = "candidates"
FORMAT = 1  # of the folder; raised when an older reader would misread it
_KEPT = 2  # states to resume from, in case that the last one cannot be read
_COLUMNS = ("epoch", "learning_rate", "train_loss", "data_loss", "positivity_loss", "validation_loss", "chosen")  # of history.csv


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
        "scale": {name: jnp.float32(value) for name, value in denoiser.scale._asdict().items()},
    }
    write_config(path, denoiser.config, psf_shape=denoiser.psf.shape, notes=notes)
    write_history(path, denoiser.history)
    storage.save_arrays(path / "weights", arrays)
    if processes.crew().first:
        for folder in _resumable(path):
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
    arrays = storage.load_arrays(_weights(path), abstract)
    scale = Scale(**arrays.pop("scale"))
    if not 0 < scale.std < np.inf:
        raise CheckpointError(f"{path / 'weights'}: the standard deviation of the images cannot be {scale.std:g}; train again")
    return training.Denoiser(**arrays, scale=scale, history=read_history(path), config=config)


def has_model(path):
    """Whether the folder holds a finished model."""
    return _weights(path).is_dir()


def _weights(path):
    """Where the weights are: moved aside, if a save was killed between its two renames."""
    folder, aside = Path(path) / "weights", Path(path) / ".weights.old"
    return aside if aside.is_dir() and not folder.is_dir() else folder


def clear(path):
    """Remove what a run wrote into the folder, and nothing else. Of several processes the first one does, when all have come here."""
    path, crew = Path(path), processes.crew()
    crew.meet()
    if not crew.first:
        return
    for folder in [path / "weights", *_resumable(path)]:
        shutil.rmtree(folder, ignore_errors=True)
    storage.remove_leftovers(path)
    for name in ("config.json", "history.csv"):
        (path / name).unlink(missing_ok=True)


@contextmanager
def locked(path):
    """Keep a run folder for this process, until it ends or the context does. The folder is made if missing, and goes again if unused.

    Of several processes the first one keeps it for all.

    Raises:
        CheckpointError: another process holds it, or it cannot be written.
    """
    path = Path(path)
    if not processes.crew().first:
        yield
        return
    fresh, lock = not path.exists(), filelock.FileLock(path / ".lock")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise CheckpointError(f"{path}: another process is training into this folder; wait for it or choose another one") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({errors.one_line(error)})") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            (path / ".lock").unlink()  # before the release: who waits for it then sees that it is gone
        lock.release()
        if fresh and not any(path.iterdir()):
            path.rmdir()


class Saver:
    """Writes states to resume from in the background, while the training goes on. A context manager: leaving it waits for the last one."""

    def __init__(self):
        self._pool, self._pending = ThreadPoolExecutor(1), None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown()

    def save(self, snapshots):
        """Begin to write states, whose arrays may change afterwards; first wait for those before.

        Args:
            snapshots: dict of the folder, as of `save_snapshot`, to the `training.Snapshot`.

        Raises:
            CheckpointError: the ones before could not be written.
        """
        self.wait()
        if processes.crew().count > 1:  # which must not wait for each other in two threads at once
            for pair in snapshots.items():
                save_snapshot(*pair)
            return
        copies = {path: _copied(snapshot) for path, snapshot in snapshots.items()}
        self._pending = self._pool.submit(lambda: [save_snapshot(*pair) for pair in copies.items()])

    def wait(self):
        """Until what was begun is written; raises as `save`."""
        if self._pending is not None:
            self._pending.result()


def _copied(snapshot):
    arrays = snapshot._replace(history=())  # whose numbers must stay numbers
    return jax.tree.map(np.array, arrays)._replace(history=snapshot.history)


def save_snapshot(path, snapshot):
    """Write the state to resume from after an epoch into a run folder, or a `candidates.folder`; older ones go when it is whole."""
    path = Path(path)
    write_history(path, history_columns(snapshot.history))
    arrays = {"state": snapshot.state._asdict(), "best": snapshot.best, "lowest": snapshot.lowest}
    storage.save_arrays(path / f"epoch-{len(snapshot.history):05d}", arrays)
    if processes.crew().first:
        for _, folder in _unfinished(path)[:-_KEPT]:
            shutil.rmtree(folder)


def load_snapshot(path, config):
    """The `training.Snapshot` of the last epoch whose state can be read, or None; a warning for each that cannot."""
    path = Path(path)
    saved = _unfinished(path)
    if not saved:
        return None
    columns = read_history(path)
    history = tuple(dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True))
    abstract = jax.eval_shape(lambda: training.start(jax.random.key(0), config))
    abstract = {"state": abstract.state._asdict(), "best": abstract.best, "lowest": abstract.lowest}
    for epoch, folder in reversed(saved):
        if len(history) < epoch:
            raise CheckpointError(f"{path / 'history.csv'}: has {len(history)} epochs, the saved state {epoch}; the folder is damaged")
        try:
            arrays = storage.load_arrays(folder, abstract)
        except CheckpointError as error:
            warnings.warn(f"{error}; left out", stacklevel=2)
            continue
        return training.Snapshot(training.TrainState(**arrays["state"]), arrays["best"], arrays["lowest"], history[:epoch])
    return None


def write_config(path, config, *, psf_shape, notes=None):
    """Write RUN/config.json."""
    header = {
        "format": FORMAT,
        "jaxdenoise": __version__,
        "psf_shape": list(map(int, psf_shape)),
        "notes": notes or {},
        "config": config.to_dict(),
    }
    storage.replace_text(Path(path) / "config.json", json.dumps(header, indent=2) + "\n")


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
        if len(psf_shape) != 2 or not all(type(n) is int and n % 2 == 1 and 0 < n < 2**15 for n in psf_shape):
            raise CheckpointError(f"{file}: psf_shape cannot be {psf_shape}")
        if not isinstance(header["notes"], dict):
            raise CheckpointError(f"{file}: notes cannot be {header['notes']}")
        return TrainConfig.from_dict(header["config"]), header
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({type(error).__name__}: {errors.one_line(error)})") from error


def history_columns(rows):
    """A snapshot's history as a dict of (epochs,) float64 arrays."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def write_history(path, columns):
    """Write RUN/history.csv; numbers in full, so that reading gives the same bits."""
    lines = [",".join(columns)]
    lines += [",".join(repr(float(value)) for value in row) for row in zip(*columns.values(), strict=True)]
    storage.replace_text(Path(path) / "history.csv", "\n".join(lines) + "\n")


def read_history(path):
    """RUN/history.csv as a dict of (epochs,) float64 arrays."""
    file = Path(path) / "history.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({type(error).__name__}: {errors.one_line(error)})") from error
    if names and (not rows or not set(_COLUMNS) <= set(names)):
        raise CheckpointError(f"{file}: cannot be read (it lacks epochs, or one of the columns {', '.join(_COLUMNS)})")
    if np.any(np.isfinite(values) & (abs(values) > np.finfo(np.float32).max)):
        raise CheckpointError(f"{file}: cannot be read (it holds numbers that no training writes)")
    return dict(zip(names, values.T, strict=True))


def _unfinished(path):
    """(epoch, folder) of each state to resume from, oldest first."""
    folders = (f for f in path.glob("epoch-*") if f.is_dir() and re.fullmatch(r"epoch-\d{5,}", f.name))
    return sorted((int(folder.name[6:]), folder) for folder in folders)


def _resumable(path):
    """Folders of what is there to resume from."""
    candidates = path / CANDIDATES
    return [folder for _, folder in _unfinished(path)] + [candidates] * candidates.is_dir()
