"""The models of a choice among several PSFs, on disk in a run folder until the training is finished. Host side.

RUN/candidates/N/            states to resume from and history.csv of the N-th PSF's model, as in a run folder
RUN/candidates/scores.json   their scores so far, and the seconds that they took
"""

import json
from pathlib import Path

import numpy as np

from jaxdenoise import checkpoint, storage, sweeps
from jaxdenoise.errors import one_line


def folder(path, index):
    """Where the states of a PSF's model go, as `checkpoint.save_snapshot` writes them; ``path`` is the run folder."""
    return Path(path) / checkpoint.CANDIDATES / str(index)


def write_scores(path, progress):
    """Write scores.json: what `sweeps.Progress` says of each candidate beside its state.

    Args:
        path: the run folder.
        progress: dict of the PSF's index to `sweeps.Progress`.
    """
    scores = {
        index: {"seconds": one.seconds, "errors": {epoch: errors.tolist() for epoch, errors in one.errors.items()}}
        for index, one in progress.items()
    }
    storage.replace_text(Path(path) / checkpoint.CANDIDATES / "scores.json", json.dumps(scores) + "\n")


def load(path, config, count):
    """How far the models of ``count`` candidates have come: dict of the PSF's index to `sweeps.Progress`.

    Raises:
        CheckpointError: scores.json cannot be read.
    """
    file = Path(path) / checkpoint.CANDIDATES / "scores.json"
    try:
        scores = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found = {}
        for index in range(count):
            row = scores.get(str(index), {"errors": {}, "seconds": 0.0})
            errors = {int(epoch): np.array(values, np.float64) for epoch, values in row["errors"].items()}
            if not all(values.ndim == 1 and values.size and np.isfinite(values).all() for values in errors.values()):
                raise ValueError("errors must be lists of numbers")
            found[index] = sweeps.Progress(checkpoint.load_snapshot(folder(path, index), config), errors, float(row["seconds"]))
    except checkpoint.CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise checkpoint.CheckpointError(f"{file}: cannot be read ({type(error).__name__}: {one_line(error)})") from error
    return found
