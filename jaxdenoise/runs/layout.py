"""Run folders: a trained model, or a training to be resumed, on disk. Host side.

    RUN/config.json      version, settings, and what the caller adds (seed, inputs, ...); readable,
    compared strictly when read RUN/history.csv      one row an epoch
    RUN/weights/         orbax: the best, averaged and last parameters, PSF, background, mean and
    standard deviation; SHA256SUMS RUN/epoch-NNNNN/     orbax: the last two states to resume from;
    only while the training is unfinished RUN/candidates/      instead, where several PSFs are
    tried, see `runs.states` RUN/.lock            while a process trains

Everything appears by rename. Reading executes nothing: JSON, CSV and arrays only.
"""

import csv
import json
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import numpy as np

from jaxdenoise import __version__
from jaxdenoise.config import ConfigError, TrainConfig
from jaxdenoise.runs.arrays import remove_leftovers
from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError
from jaxdenoise.system.files import replace_text

CANDIDATES = "candidates"
FORMAT = 1  # of the folder; raised when an older reader would misread it
_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "data_loss",
    "positivity_loss",
    "validation_loss",
    "chosen",
)  # of history.csv


def has_model(path):
    """Whether the folder holds a finished model."""
    return weights_folder(path).is_dir()


def weights_folder(path):
    """Where the weights are: moved aside, if a save was killed between its two renames."""
    folder, aside = Path(path) / "weights", Path(path) / ".weights.old"
    return aside if aside.is_dir() and not folder.is_dir() else folder


def clear(path):
    """Remove what a run wrote into the folder, and nothing else. Of several processes the first one does, when all have come here."""
    path, crew = Path(path), current_crew()
    crew.barrier()
    if not crew.is_primary:
        return
    for folder in [path / "weights", *resumable_folders(path)]:
        shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(path)
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
    if not current_crew().is_primary:
        yield
        return
    fresh, lock = not path.exists(), filelock.FileLock(path / ".lock")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise CheckpointError(
            f"{path}: another process is training into this folder; wait for it or choose another one"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({errors.one_line(error)})") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            (
                path / ".lock"
            ).unlink()  # before the release: who waits for it then sees that it is gone
        lock.release()
        if fresh and not any(path.iterdir()):
            path.rmdir()


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
            raise CheckpointError(
                f"{file}: is of format {header['format']}, this version reads {FORMAT}"
            )
        psf_shape = header["psf_shape"]
        if len(psf_shape) != 2 or not all(
            type(n) is int and n % 2 == 1 and 0 < n < 2**15 for n in psf_shape
        ):
            raise CheckpointError(f"{file}: psf_shape cannot be {psf_shape}")
        if not isinstance(header["notes"], dict):
            raise CheckpointError(f"{file}: notes cannot be {header['notes']}")
        return TrainConfig.from_dict(header["config"]), header
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({type(error).__name__}: {errors.one_line(error)})"
        ) from error


def history_columns(rows):
    """A snapshot's history as a dict of (epochs,) float64 arrays."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def write_history(path, columns):
    """Write RUN/history.csv; numbers in full, so that reading gives the same bits."""
    lines = [",".join(columns)]
    lines += [
        ",".join(repr(float(value)) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    replace_text(Path(path) / "history.csv", "\n".join(lines) + "\n")


def read_history(path):
    """RUN/history.csv as a dict of (epochs,) float64 arrays."""
    file = Path(path) / "history.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({type(error).__name__}: {errors.one_line(error)})"
        ) from error
    if names and (not rows or not set(_COLUMNS) <= set(names)):
        raise CheckpointError(
            f"{file}: cannot be read (it lacks epochs, or one of the columns {', '.join(_COLUMNS)})"
        )
    if np.any(np.isfinite(values) & (abs(values) > np.finfo(np.float32).max)):
        raise CheckpointError(f"{file}: cannot be read (it holds numbers that no training writes)")
    return dict(zip(names, values.T, strict=True))


def unfinished_epochs(path):
    """(epoch, folder) of each state to resume from, oldest first."""
    folders = (
        f for f in path.glob("epoch-*") if f.is_dir() and re.fullmatch(r"epoch-\d{5,}", f.name)
    )
    return sorted((int(folder.name[6:]), folder) for folder in folders)


def resumable_folders(path):
    """Folders of what is there to resume from."""
    candidates = path / CANDIDATES
    return [folder for _, folder in unfinished_epochs(path)] + [candidates] * candidates.is_dir()
