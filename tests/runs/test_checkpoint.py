import contextlib
import dataclasses
import errno
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.runs import models
from jaxdenoise.runs import states as states_module
from jaxdenoise.runs.layout import HISTORY_COLUMNS, CheckpointError, clear, locked, write_config
from jaxdenoise.runs.models import load
from jaxdenoise.runs.states import Saver, load_snapshot, save_snapshot
from jaxdenoise.training.fit import fit

KEY = jax.random.key(0)
PSF = gaussian_psf(1.0)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def run(trained, tmp_path):
    models.save(tmp_path / "run", trained[0], notes={"seed": 0})
    return tmp_path / "run"


def test_the_model_file_alone_denoises(trained, run, scene):
    loaded = load(run)
    assert_same(loaded, trained[0])
    assert loaded.config == trained[0].config
    expected = denoise(trained[0], scene.noisy)
    assert_same(denoise(loaded, scene.noisy), expected)


def test_the_folder_is_readable(trained, run):
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "history.csv", "weights"]
    header = json.loads((run / "config.json").read_text())
    assert header["notes"] == {"seed": 0}
    lines = (run / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,learning_rate,train_loss")
    assert len(lines) == 1 + trained[0].config.epochs


def test_other_weights_on_request(trained, run):
    assert_same(load(run, weights="last").params, trained[0].last)
    assert_same(load(run, weights="averaged").params, trained[0].averaged)


def test_saving_over_a_model_must_be_asked_for(trained, run):
    with pytest.raises(CheckpointError, match="holds a model already"):
        models.save(run, trained[0])
    changed = dataclasses.replace(trained[0], psf=np.asarray(gaussian_psf(0.5)))
    models.save(run, changed, overwrite=True)
    assert_same(load(run).psf, changed.psf)
    assert {path.name for path in run.iterdir()} == {"config.json", "history.csv", "weights"}


def other_than(denoiser):
    """A model of the same shapes that differs in each part that is saved."""
    history = {name: values + 1 for name, values in denoiser.history.items()}
    config = dataclasses.replace(denoiser.config, learning_rate=0.5)
    best, psf = jax.tree.map(lambda leaf: leaf + 1, denoiser.best), np.ones((1, 1), np.float32)
    return dataclasses.replace(denoiser, best=best, psf=psf, history=history, config=config)


def test_a_model_that_cannot_be_written_leaves_the_old_one_whole(trained, run, monkeypatch):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def fail(folder, tree):
        raise CheckpointError(f"{folder}: cannot be written (No space left on device)")

    monkeypatch.setattr(models, "save_arrays", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        models.save(run, other_than(trained[0]), overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("moves", range(5))
def test_a_model_that_is_replaced_in_part_is_none(trained, run, monkeypatch, moves):
    """Whichever of the moves at the end is the last: what is there is one of the two, or none."""
    other, move_in, moved = other_than(trained[0]), models._move_in, []

    def until_the_last(move, *places):
        if len(moved) == moves:
            raise KeyboardInterrupt
        moved.append(places)
        move(*places)

    def interrupted(new, path):
        with monkeypatch.context() as patched:
            for name in ("rename", "replace"):
                patched.setattr(os, name, partial(until_the_last, getattr(os, name)))
            move_in(new, path)

    monkeypatch.setattr(models, "_move_in", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        models.save(run, other, overwrite=True)
    assert len(moved) == moves
    try:
        found = load(run)
    except CheckpointError:
        return
    (same,) = [model for model in (trained[0], other) if model.config == found.config]
    assert_same(found, same)
    assert_same(found.history, same.history)


def test_the_last_two_states_are_kept_until_the_model_is_saved(trained, tiny_config, tmp_path):
    denoiser, snapshots = trained
    write_config(tmp_path, tiny_config, psf_shape=PSF.shape)
    for snapshot in snapshots[:3]:
        save_snapshot(tmp_path, snapshot)
    assert sorted(path.name for path in tmp_path.glob("epoch-*")) == ["epoch-00002", "epoch-00003"]
    restored = load_snapshot(tmp_path, tiny_config)
    assert restored.history == snapshots[2].history
    assert_same(restored, snapshots[2])
    models.save(tmp_path, denoiser)
    assert not list(tmp_path.glob("epoch-*"))


@pytest.mark.slow
def test_resuming_from_disk_is_bit_identical(scene, tiny_config, tmp_path):
    snapshots = []
    options = {"psf": PSF, "config": tiny_config}
    whole = fit(
        KEY,
        scene.noisy,
        **options,
        on_epoch=lambda snapshot: snapshots.append(jax.tree.map(jnp.copy, snapshot)),
    )
    for snapshot in snapshots[:3]:
        save_snapshot(tmp_path, snapshot)
    restored = load_snapshot(tmp_path, tiny_config)
    assert restored.history == snapshots[2].history
    resumed = fit(KEY, scene.noisy, **options, resume=restored)
    assert_same(resumed, whole)
    models.save(tmp_path, resumed)
    assert_same(load(tmp_path), whole)


def test_a_state_that_cannot_be_read_is_left_out(trained, tiny_config, tmp_path):
    snapshots = trained[1]
    for snapshot in snapshots[:3]:
        save_snapshot(tmp_path, snapshot)
    for file in (tmp_path / "epoch-00003").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match="epoch-00003: cannot be read"):
        restored = load_snapshot(tmp_path, tiny_config)
    assert restored.history == snapshots[1].history
    assert_same(restored.best, snapshots[1].best)


@pytest.mark.parametrize(
    "before", [".weights.unfinished", ".weights.unfinished.orbax-checkpoint-tmp-7"]
)
def test_what_a_killed_save_left_is_removed(trained, run, before):
    (run / before).mkdir()
    models.save(run, trained[0], overwrite=True)
    assert {path.name for path in run.iterdir()} == {"config.json", "history.csv", "weights"}


def test_a_save_killed_between_its_renames_loses_nothing(trained, run):
    (run / "weights").rename(run / ".weights.old")
    assert_same(load(run).best, trained[0].best)
    with pytest.raises(CheckpointError, match="holds a model already"):
        models.save(run, trained[0])
    models.save(run, trained[0], overwrite=True)
    assert {path.name for path in run.iterdir()} == {"config.json", "history.csv", "weights"}


def test_a_model_put_together_by_hand_is_saved(trained, tmp_path):
    scale = Scale(*map(np.float32, (100.0, 50.0, 30.0)))  # NumPy's scalars
    history = {name: np.ones(2) for name in HISTORY_COLUMNS}
    denoiser = dataclasses.replace(trained[0], history=history, scale=scale)
    models.save(tmp_path / "run", denoiser)
    assert load(tmp_path / "run").scale == scale


def test_states_are_saved_in_the_background(trained, tiny_config, tmp_path, monkeypatch):
    started, go_on, save = threading.Event(), threading.Event(), save_snapshot

    def slow(path, snapshot):
        started.set()
        assert go_on.wait(30)
        save(path, snapshot)

    monkeypatch.setattr(states_module, "save_snapshot", slow)
    snapshot = jax.tree.map(np.array, trained[1][0]._replace(history=()))._replace(
        history=trained[1][0].history
    )
    with Saver() as saver:
        saver.save({tmp_path: snapshot})
        assert started.wait(30)
        first = jax.tree.leaves(snapshot.best)[0]
        first += 1  # what is saved is a copy
        go_on.set()
    assert_same(load_snapshot(tmp_path, tiny_config).best, trained[1][0].best)


def test_a_state_that_could_not_be_saved_is_told(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with Saver() as saver:
        saver.save({tmp_path / "file": trained[1][0]})
        with pytest.raises(CheckpointError, match="cannot be written"):
            saver.save({tmp_path / "file": trained[1][1]})


def test_one_process_at_a_time(tmp_path):
    run = tmp_path / "run"
    other = "import sys; from jaxdenoise.runs import layout\nwith layout.locked(sys.argv[1]): pass"
    with locked(run):
        told = subprocess.run([sys.executable, "-c", other, run], capture_output=True, text=True)
        (run / "mine.txt").write_text("keep")
    assert "another process is training into this folder" in told.stderr
    assert (run / "mine.txt").exists()
    with locked(tmp_path / "unused"):
        pass
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("reason", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, reason):
    fcntl, number = pytest.importorskip("fcntl"), getattr(errno, reason)

    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.warns(UserWarning, match="run: its file system has no locks") as told,
        locked(tmp_path / "run"),
    ):
        (tmp_path / "run" / "mine.txt").write_text("keep")
    assert len(told) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
    number = errno.EIO
    with pytest.raises(CheckpointError, match="cannot be written"), locked(tmp_path / "run"):
        pass


def test_a_full_disk_leaves_the_earlier_state(trained, tiny_config, tmp_path):
    resource = pytest.importorskip("resource")
    snapshots = trained[1]
    save_snapshot(tmp_path, snapshots[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, limits[1])
    )  # no file may be longer: writing fails as on a full disk
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_snapshot(tmp_path, snapshots[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(load_snapshot(tmp_path, tiny_config).best, snapshots[0].best)
    time.sleep(1)  # until orbax's threads have given up
    save_snapshot(tmp_path, snapshots[2])
    assert not list(tmp_path.glob(".*"))


def test_an_unfinished_run_says_how_to_go_on(trained, tiny_config, tmp_path):
    write_config(tmp_path, tiny_config, psf_shape=PSF.shape)
    save_snapshot(tmp_path, trained[1][0])
    with pytest.raises(CheckpointError, match="resume=True"):
        load(tmp_path)


def test_clear_removes_the_run_and_nothing_else(run):
    (run / "mine.txt").write_text("keep")
    clear(run)
    assert [path.name for path in run.iterdir()] == ["mine.txt"]


def edit(run, change):
    header = json.loads((run / "config.json").read_text())
    change(header)
    (run / "config.json").write_text(json.dumps(header))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "not a run folder"),
        (lambda run: (run / "config.json").write_text("{"), "JSONDecodeError"),
        (lambda run: (run / "config.json").write_text("[]"), "TypeError"),
        (lambda run: (run / "config.json").write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
        (lambda run: edit(run, lambda header: header.update(format=99)), "format 99"),
        (lambda run: edit(run, lambda header: header.pop("psf_shape")), "KeyError"),
        (
            lambda run: edit(run, lambda header: header.update(psf_shape=[4, 4])),
            "psf_shape cannot be",
        ),
        (lambda run: edit(run, lambda header: header["config"].update(speed=1)), "unknown fields"),
        (lambda run: edit(run, lambda header: header["config"].pop("epochs")), "missing fields"),
        (
            lambda run: edit(run, lambda header: header["config"].update(epochs="many")),
            "epochs must be of type int",
        ),
        (
            lambda run: edit(run, lambda header: header["config"]["network"].update(filters=8)),
            "cannot be read",
        ),
        (lambda run: (run / "history.csv").unlink(), "history.csv: cannot be read"),
        (lambda run: (run / "history.csv").write_text("a,b\n1,x\n"), "history.csv: cannot be read"),
        (
            lambda run: [path.unlink() for path in (run / "weights").rglob("*") if path.is_file()],
            "weights: cannot be read",
        ),
    ],
)
def test_damaged_runs(run, damage, message):
    damage(run)
    with pytest.raises(CheckpointError, match=message) as error:
        load(run)
    assert "\n" not in str(error.value)


def test_loading_executes_nothing(run, tmp_path):
    (run / "weights" / "SHA256SUMS").unlink()  # else orbax would not see what does not fit it

    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    for path in [path for path in run.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.write_bytes(pickle.dumps(Bomb()))
        with contextlib.suppress(CheckpointError):  # some files hold nothing that loading reads
            load(run)
        path.write_bytes(content)
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_cannot_be_written(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        models.save(tmp_path / "file" / "run", trained[0])


def test_clear_removes_what_a_killed_save_left(trained, run):
    (run / "weights").rename(run / ".weights.old")
    (run / ".weights.unfinished").mkdir()
    clear(run)
    assert not list(run.iterdir())
