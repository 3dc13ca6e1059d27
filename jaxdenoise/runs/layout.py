"""Run folders: a trained model, or a training to be resumed, on disk. Host side.

::

    RUN/config.json     version, settings, and notes of the caller (seed, inputs, ...)
    RUN/history.csv     a row for each epoch
    RUN/weights/        arrays: best, averaged and last parameters, PSF, background, mean, standard
                        deviation and exposure
    RUN/epoch-NNNNN/    arrays: the last two states to resume from; only while the training is
                        unfinished
    RUN/candidates/     instead of them, where the training tries several PSFs:
        N/              states and history.csv of the model of PSF number N
        scores.json     the scores of these models so far, and the seconds that they took
    RUN/.lock           while a process trains
    RUN/member-N/       a run folder for each further member of an ensemble
    RUN/random-start/   a run folder for the member that starts from random weights

Everything appears by rename. Reading executes nothing: JSON, CSV and arrays only. config.json is
compared strictly when it is read.
"""

import csv
import errno
import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from jaxtyping import Float

from jaxdenoise import __version__
from jaxdenoise.config import TrainConfig
from jaxdenoise.system import files
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError, ConfigError, translated

# Of NFS without its lock daemon, Lustre mounted without flock, and FUSE.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
CANDIDATES = "candidates"
FORMAT = 2  # of the folder; raised when an older reader would misread it
_READABLE = (1, FORMAT)  # models of format 1 do not know their exposure
HISTORY_COLUMNS = (  # of history.csv
    "epoch",
    "learning_rate",
    "train_loss",
    "data_loss",
    "positivity_loss",
    "validation_loss",
    "chosen",
)


def has_model(run: str | Path) -> bool:
    """Return whether a run folder holds a finished model."""
    return weights_folder(run).is_dir()


def weights_folder(run: str | Path) -> Path:
    """Return where the weights are: moved aside, if a save was killed between its two renames."""
    folder = Path(run) / "weights"
    aside = files.aside(folder)
    return aside if aside.is_dir() and not folder.is_dir() else folder


def unfinished_epochs(run: Path) -> list[tuple[int, Path]]:
    """Return (epoch, folder) of each state to resume from, oldest first."""
    folders = (
        folder
        for folder in run.glob("epoch-*")
        if folder.is_dir() and re.fullmatch(r"epoch-\d{5,}", folder.name)
    )
    return sorted((int(folder.name[len("epoch-") :]), folder) for folder in folders)


def resumable_folders(run: Path) -> list[Path]:
    """Return the folders from which a training can be resumed."""
    candidates = run / CANDIDATES
    return [folder for _, folder in unfinished_epochs(run)] + [candidates] * candidates.is_dir()


def clear(run: str | Path) -> None:
    """Remove what a training wrote into a folder, and nothing else.

    Of several processes the primary one does, when all have come here.
    """
    run, crew = Path(run), current_crew()
    crew.barrier()
    if not crew.is_primary:
        return
    files.recover(run)  # what waited aside would come back later
    for folder in [run / "weights", *resumable_folders(run)]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("config.json", "history.csv"):
        (run / name).unlink(missing_ok=True)


@contextmanager
def locked(run: str | Path) -> Iterator[None]:
    """Keep a run folder for this process in a ``with`` block.

    The folder is made if it is missing, and removed again if nothing was written into it. Of
    several processes the primary one keeps it for all. On a file system without locks there is a
    warning, and no process is kept out.

    Raises:
        CheckpointError: Another process holds it, or it cannot be written.
    """
    run = Path(run)
    if not current_crew().is_primary:
        yield
        return
    fresh = not run.exists()
    # A lock by the mere existence of a file would outlive a killed process.
    lock = filelock.FileLock(run / ".lock", fallback_to_soft=False)
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise CheckpointError(
                f"{run}: another process is training into this folder; "
                "wait for it or choose another one"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{run}: its file system has no locks ({error.strerror}); take care that no other "
                "process trains into this folder",
                stacklevel=3,
            )
    try:
        yield
    finally:
        # Before the release, so that a process that waits for the lock sees that it is gone.
        with suppress(OSError):  # Windows keeps files that are open
            (run / ".lock").unlink()
        lock.release()
        if fresh and not any(run.iterdir()):
            run.rmdir()


def write_text(file: Path, text: str) -> None:
    """Write a text file of a run. Of several processes the primary one writes.

    Raises:
        CheckpointError: It cannot be written.
    """
    if current_crew().is_primary:
        with writing(file):
            files.write_text(file, text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in a ``with`` block into a CheckpointError."""
    with translated(CheckpointError, f"{path}: cannot be written", caught=OSError):
        yield


def write_config(
    run: str | Path,
    config: TrainConfig,
    *,
    psf_shape: Sequence[int],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write RUN/config.json; ``notes`` are JSON values that the caller adds."""
    header = {
        "format": FORMAT,
        "jaxdenoise": __version__,
        "psf_shape": list(map(int, psf_shape)),
        "notes": notes or {},
        "config": config.to_dict(),
    }
    write_text(Path(run) / "config.json", json.dumps(header, indent=2) + "\n")


def read_config(run: str | Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Read RUN/config.json: the settings, and the whole file as a dict.

    Raises:
        CheckpointError: It is missing, no JSON, or of another version.
    """
    file = Path(run) / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{run}: not a run folder (it has no config.json)")
    errors = (OSError, ValueError, KeyError, TypeError, RecursionError)
    with translated(CheckpointError, f"{file}: cannot be read", caught=errors):
        header = json.loads(file.read_text(encoding="utf-8"))
        if header["format"] not in _READABLE:
            raise CheckpointError(
                f"{file}: is of format {header['format']}, this version reads "
                f"{' and '.join(map(str, _READABLE))}"
            )
        psf_shape = header["psf_shape"]
        if len(psf_shape) not in (2, 3) or not all(
            type(n) is int and n % 2 == 1 and 0 < n < 2**15 for n in psf_shape
        ):
            raise CheckpointError(f"{file}: psf_shape cannot be {psf_shape}")
        if not isinstance(header["notes"], dict):
            raise CheckpointError(f"{file}: notes cannot be {header['notes']}")
        try:
            return TrainConfig.from_dict(header["config"]), header
        except ConfigError as error:
            raise CheckpointError(f"{file}: {error}") from error


def write_history(run: str | Path, columns: Mapping[str, Any]) -> None:
    """Write RUN/history.csv, given arrays (epochs,); numbers in full, so that no bit is lost."""
    lines = [",".join(columns)]
    lines += [
        ",".join(repr(float(value)) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    write_text(Path(run) / "history.csv", "\n".join(lines) + "\n")


def read_history(run: str | Path) -> dict[str, Float[np.ndarray, " epochs"]]:
    """Read RUN/history.csv as a dict of (epochs,) float64 arrays.

    Raises:
        CheckpointError: It cannot be read.
    """
    file = Path(run) / "history.csv"
    problem = f"{file}: cannot be read"
    with translated(CheckpointError, problem, caught=(OSError, ValueError)):
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    if names and (not rows or not set(HISTORY_COLUMNS) <= set(names)):
        columns = ", ".join(HISTORY_COLUMNS)
        raise CheckpointError(f"{problem} (it lacks epochs, or one of the columns {columns})")
    if np.any(np.isfinite(values) & (abs(values) > np.finfo(np.float32).max)):
        raise CheckpointError(f"{problem} (it holds numbers that no training writes)")
    return dict(zip(names, values.T, strict=True))
