"""Candidates of `--psf auto` in a run folder."""

import jax
import numpy as np
import pytest

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.runs.layout import CheckpointError, clear
from jaxdenoise.runs.states import candidate_folder, load_candidates, save_snapshot, write_scores
from jaxdenoise.training.fit import fit
from jaxdenoise.training.sweep import Progress

PSFS = [gaussian_psf(sigma) for sigma in (0.0, 1.0)]


@pytest.fixture
def begun(scene, tiny_config, tmp_path):
    """A run folder with the first of two candidates, after an epoch, and what it holds."""
    saved = []

    def keep(snapshot):
        saved.append(
            jax.tree.map(np.array, snapshot._replace(history=()))._replace(history=snapshot.history)
        )

    fit(jax.random.key(0), scene.noisy, psf=PSFS[0], config=tiny_config, on_epoch=keep)
    progress = Progress(saved[0], {1: np.array([0.1, 1 / 3])}, 2.5)
    save_snapshot(candidate_folder(tmp_path, 0), progress.snapshot)
    write_scores(tmp_path, {0: progress})
    return tmp_path, progress


def test_what_is_written_is_read(begun, tiny_config):
    path, written = begun
    read = load_candidates(path, tiny_config, 2)
    jax.tree.map(np.testing.assert_array_equal, read[0], written)
    assert read[1] == Progress()


def test_a_finished_or_cleared_run_has_none(begun, make_denoiser):
    path, _ = begun
    clear(path)
    assert not list(path.iterdir())


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
    path, _ = begun
    (path / "candidates" / "scores.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"scores\.json: cannot be read"):
        load_candidates(path, tiny_config, 2)
