"""States on disk from which an unfinished training is resumed. Host side.

A training of one model saves them in its run folder. One that tries several PSFs saves those of
each candidate, and their scores so far, in RUN/candidates. `runs.layout` shows the files.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.settings import settle
from jaxdenoise.runs.arrays import load_arrays, save_arrays
from jaxdenoise.runs.layout import (
    CANDIDATES,
    read_history,
    unfinished_epochs,
    write_history,
    write_text,
)
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError, translated
from jaxdenoise.training.candidates import Progress
from jaxdenoise.training.epochs import Snapshot
from jaxdenoise.training.fit import start
from jaxdenoise.training.step import TrainState
from jaxdenoise.training.sweep import Model

_NO_SCORES: dict[str, Any] = {"errors": {}, "seconds": 0.0}
_KEPT = 2  # states, in case that the last one cannot be read


class Saver:
    """Writes states in the background, while the training goes on.

    It is a context manager: leaving it waits for the last state.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def save(self, snapshots: Mapping[Path, Snapshot]) -> None:
        """Begin to write states, whose arrays may change afterwards; first wait for earlier ones.

        Args:
            snapshots: By the folder, as of `save_snapshot`.

        Raises:
            CheckpointError: The earlier ones could not be written.
        """
        self.wait()
        if current_crew().count > 1:  # processes must not wait for each other in two threads
            _save_all(snapshots)
            return
        copies = {path: _copied(snapshot) for path, snapshot in snapshots.items()}
        self._pending = self._pool.submit(_save_all, copies)

    def wait(self) -> None:
        """Wait until the states that were begun are written; errors as of `save`."""
        if self._pending is not None:
            self._pending.result()


def _save_all(snapshots):
    for path, snapshot in snapshots.items():
        save_snapshot(path, snapshot)


def _copied(snapshot):
    arrays = snapshot._replace(history=())  # whose numbers must stay numbers
    return jax.tree.map(np.array, arrays)._replace(history=snapshot.history)


def save_snapshot(path: str | Path, snapshot: Snapshot) -> None:
    """Write the state after an epoch; older states go when it is whole.

    Args:
        path: A run folder, or a `candidate_folder`.
        snapshot: The state.

    Raises:
        CheckpointError: It cannot be written.
    """
    path = Path(path)
    write_history(path, _columns(snapshot.history))
    arrays = {"state": snapshot.state._asdict(), "best": snapshot.best, "lowest": snapshot.lowest}
    save_arrays(path / f"epoch-{len(snapshot.history):05d}", arrays)
    if current_crew().is_primary:
        for _, folder in unfinished_epochs(path)[:-_KEPT]:
            shutil.rmtree(folder)


def _columns(rows):
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def load_snapshot(path: str | Path, config: TrainConfig) -> Snapshot | None:
    """Read the state of the last epoch whose state can be read, or None if there is none.

    There is a warning for each one that cannot be read.

    Args:
        path: As of `save_snapshot`.
        config: The settings of the training.

    Raises:
        CheckpointError: history.csv cannot be read, or has fewer epochs than the states.
    """
    path = Path(path)
    saved = unfinished_epochs(path)
    if not saved:
        return None
    columns = read_history(path)
    history = tuple(
        dict(zip(columns, map(float, row), strict=True))
        for row in zip(*columns.values(), strict=True)
    )
    shapes = jax.eval_shape(lambda: start(jax.random.key(0), settle(config)))
    abstract = {"state": shapes.state._asdict(), "best": shapes.best, "lowest": shapes.lowest}
    for epoch, folder in reversed(saved):
        if len(history) < epoch:
            raise CheckpointError(
                f"{path / 'history.csv'}: has {len(history)} epochs, the saved state {epoch}; "
                "the folder is damaged"
            )
        try:
            arrays = load_arrays(folder, abstract)
        except CheckpointError as error:
            warnings.warn(f"{error}; left out", stacklevel=2)
            continue
        return Snapshot(
            TrainState(**arrays["state"]), arrays["best"], arrays["lowest"], history[:epoch]
        )
    return None


def candidate_folder(run: str | Path, index: int) -> Path:
    """Return the folder for the states of the model of PSF number `index`."""
    return Path(run) / CANDIDATES / str(index)


def write_scores(run: str | Path, progress: Mapping[int, Progress | Model]) -> None:
    """Write what a `candidates.Progress` says of each candidate, by number, beside its state."""
    scores = {
        index: {
            "seconds": one.seconds,
            "errors": {epoch: errors.tolist() for epoch, errors in one.errors.items()},
        }
        for index, one in progress.items()
    }
    write_text(_scores_file(run), json.dumps(scores) + "\n")


def load_candidates(run: str | Path, config: TrainConfig, count: int) -> dict[int, Progress]:
    """Read how far the models of ``count`` candidates have come, by number.

    Raises:
        CheckpointError: scores.json cannot be read; or as of `load_snapshot`.
    """
    file = _scores_file(run)
    caught = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
    with translated(CheckpointError, f"{file}: cannot be read", caught=caught):
        scores = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {
            index: _progress(run, config, index, scores.get(str(index), _NO_SCORES))
            for index in range(count)
        }


def _scores_file(run):
    return Path(run) / CANDIDATES / "scores.json"


def _progress(run, config, index, row):
    errors = {int(epoch): np.array(values, np.float64) for epoch, values in row["errors"].items()}
    for values in errors.values():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError("errors must be lists of numbers")
    snapshot = load_snapshot(candidate_folder(run, index), config)
    return Progress(snapshot, errors, float(row["seconds"]))
