"""The models of a choice among several PSFs, on disk in a run folder until the training is finished. Host side.

RUN/candidates/N/            states to resume from and history.csv of the N-th PSF's model, as in a
run folder RUN/candidates/scores.json   their scores so far, and the seconds that they took
"""

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from jaxdenoise.network.settings import settle
from jaxdenoise.runs.arrays import load_arrays, save_arrays
from jaxdenoise.runs.layout import (
    CANDIDATES,
    history_columns,
    read_history,
    unfinished_epochs,
    write_history,
)
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError, one_line
from jaxdenoise.system.files import replace_text
from jaxdenoise.training.candidates import Progress
from jaxdenoise.training.epochs import Snapshot
from jaxdenoise.training.fit import start
from jaxdenoise.training.step import TrainState

_KEPT = 2  # states to resume from, in case that the last one cannot be read


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
            snapshots: dict of the folder, as of `save_snapshot`, to the `epochs.Snapshot`.

        Raises:
            CheckpointError: the ones before could not be written.
        """
        self.wait()
        if current_crew().count > 1:  # which must not wait for each other in two threads at once
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
    """Write the state to resume from after an epoch into a run folder, or a `states.candidate_folder`; older ones go when it is whole."""
    path = Path(path)
    write_history(path, history_columns(snapshot.history))
    arrays = {"state": snapshot.state._asdict(), "best": snapshot.best, "lowest": snapshot.lowest}
    save_arrays(path / f"epoch-{len(snapshot.history):05d}", arrays)
    if current_crew().is_primary:
        for _, folder in unfinished_epochs(path)[:-_KEPT]:
            shutil.rmtree(folder)


def load_snapshot(path, config):
    """The `epochs.Snapshot` of the last epoch whose state can be read, or None; a warning for each that cannot."""
    path = Path(path)
    saved = unfinished_epochs(path)
    if not saved:
        return None
    columns = read_history(path)
    history = tuple(
        dict(zip(columns, map(float, row), strict=True))
        for row in zip(*columns.values(), strict=True)
    )
    abstract = jax.eval_shape(lambda: start(jax.random.key(0), settle(config)))
    abstract = {"state": abstract.state._asdict(), "best": abstract.best, "lowest": abstract.lowest}
    for epoch, folder in reversed(saved):
        if len(history) < epoch:
            raise CheckpointError(
                f"{path / 'history.csv'}: has {len(history)} epochs, the saved state {epoch}; the folder is damaged"
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


def candidate_folder(path, index):
    """Where the states of a PSF's model go, as `states.save_snapshot` writes them; ``path`` is the run folder."""
    return Path(path) / CANDIDATES / str(index)


def write_scores(path, progress):
    """Write scores.json: what `candidates.Progress` says of each candidate beside its state.

    Args:
        path: the run folder.
        progress: dict of the PSF's index to `candidates.Progress`.
    """
    scores = {
        index: {
            "seconds": one.seconds,
            "errors": {epoch: errors.tolist() for epoch, errors in one.errors.items()},
        }
        for index, one in progress.items()
    }
    replace_text(Path(path) / CANDIDATES / "scores.json", json.dumps(scores) + "\n")


def load_candidates(path, config, count):
    """How far the models of ``count`` candidates have come: dict of the PSF's index to `candidates.Progress`.

    Raises:
        CheckpointError: scores.json cannot be read.
    """
    file = Path(path) / CANDIDATES / "scores.json"
    try:
        scores = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found = {}
        for index in range(count):
            row = scores.get(str(index), {"errors": {}, "seconds": 0.0})
            errors = {
                int(epoch): np.array(values, np.float64) for epoch, values in row["errors"].items()
            }
            if not all(
                values.ndim == 1 and values.size and np.isfinite(values).all()
                for values in errors.values()
            ):
                raise ValueError("errors must be lists of numbers")
            found[index] = Progress(
                load_snapshot(candidate_folder(path, index), config), errors, float(row["seconds"])
            )
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({type(error).__name__}: {one_line(error)})"
        ) from error
    return found
