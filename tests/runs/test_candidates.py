"""The candidates of a training that chooses among several PSFs, in a run folder."""

import jax
import numpy as np
import pytest

from jaxdenoise.runs.layout import CheckpointError, clear
from jaxdenoise.runs.states import candidate_folder, load_candidates, save_snapshot, write_scores
from jaxdenoise.training.sweep import Progress


@pytest.fixture(scope="module")
def begun(trained, tmp_path_factory):
    """A run folder with the first of two candidates, after an epoch, and what it holds."""
    run, snapshot = tmp_path_factory.mktemp("begun"), trained[1][0]
    progress = Progress(snapshot, {1: np.array([0.1, 1 / 3])}, 2.5)
    save_snapshot(candidate_folder(run, 0), snapshot)
    write_scores(run, {0: progress})
    return run, progress


def test_what_is_written_is_read(begun, tiny_config):
    run, written = begun
    read = load_candidates(run, tiny_config, 2)
    jax.tree.map(np.testing.assert_array_equal, read[0], written)
    assert read[1] == Progress()


def test_a_cleared_run_has_none(trained, tmp_path):
    save_snapshot(candidate_folder(tmp_path, 0), trained[1][0])
    write_scores(tmp_path, {0: Progress(trained[1][0])})
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


def scored(errors, seconds="1"):
    return f'{{"0": {{"seconds": {seconds}, "errors": {errors}}}}}'


DAMAGED = [
    *(
        "",
        "[]",
        "{",
        "\xff",
        "[" * 100_000,
        '{"0": 1}',
        '{"0": {}}',
        '{"0": {"seconds": 1}}',
        scored("{}", '"long"'),
        scored("[]"),
    ),
    *(scored(f'{{"1": {values}}}') for values in ("[[1]]", "[NaN]", "[]", '"none"', "null")),
    scored('{"first": [1]}'),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_scores_are_refused(begun, tiny_config, content):
    file = begun[0] / "candidates" / "scores.json"
    sound = file.read_bytes()
    file.write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"scores\.json: cannot be read"):
        load_candidates(begun[0], tiny_config, 2)
    file.write_bytes(sound)
