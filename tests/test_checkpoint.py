import contextlib
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise import checkpoint, prediction, training
from jaxdenoise.checkpoint import CheckpointError
from jaxdenoise.psf import gaussian_psf

KEY = jax.random.key(0)
PSF = gaussian_psf(1.0)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def trained(scene, tiny_config):
    snapshots = []
    copy = lambda snapshot: snapshots.append(jax.tree.map(jnp.copy, snapshot))  # noqa: E731
    return training.fit(KEY, scene.noisy, psf=PSF, config=tiny_config, on_epoch=copy), snapshots


@pytest.fixture
def run(trained, tmp_path):
    checkpoint.save(tmp_path / "run", trained[0], notes={"seed": 0})
    return tmp_path / "run"


def test_the_model_file_alone_denoises(trained, run, scene):
    loaded = checkpoint.load(run)
    assert_same(loaded, trained[0])
    assert loaded.config == trained[0].config
    expected = prediction.denoise(trained[0], scene.noisy)
    assert_same(prediction.denoise(loaded, scene.noisy), expected)


def test_the_folder_is_readable(trained, run):
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "history.csv", "weights"]
    header = json.loads((run / "config.json").read_text())
    assert header["notes"] == {"seed": 0}
    lines = (run / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,learning_rate,train_loss")
    assert len(lines) == 1 + trained[0].config.epochs


def test_other_weights_on_request(trained, run):
    assert_same(checkpoint.load(run, weights="last").params, trained[0].last)
    assert_same(checkpoint.load(run, weights="averaged").params, trained[0].averaged)


def test_saving_over_a_model_must_be_asked_for(trained, run):
    with pytest.raises(CheckpointError, match="holds a model already"):
        checkpoint.save(run, trained[0])
    changed = dataclasses.replace(trained[0], psf=np.asarray(gaussian_psf(0.5)))
    checkpoint.save(run, changed, overwrite=True)
    assert_same(checkpoint.load(run).psf, changed.psf)
    assert not list(run.glob("*.old"))


def test_resuming_from_disk_is_bit_identical(trained, scene, tiny_config, tmp_path):
    whole, snapshots = trained
    checkpoint.write_config(tmp_path, tiny_config, psf_shape=PSF.shape)
    for snapshot in snapshots[:3]:
        checkpoint.save_snapshot(tmp_path, snapshot)
    assert [path.name for path in tmp_path.glob("epoch-*")] == ["epoch-00003"]
    restored = checkpoint.load_snapshot(tmp_path, tiny_config)
    assert restored.history == snapshots[2].history
    resumed = training.fit(KEY, scene.noisy, psf=PSF, config=tiny_config, resume=restored)
    assert_same(resumed, whole)
    checkpoint.save(tmp_path, resumed)
    assert not list(tmp_path.glob("epoch-*"))


def test_an_unfinished_run_says_how_to_go_on(trained, tiny_config, tmp_path):
    checkpoint.write_config(tmp_path, tiny_config, psf_shape=PSF.shape)
    checkpoint.save_snapshot(tmp_path, trained[1][0])
    with pytest.raises(CheckpointError, match="--resume"):
        checkpoint.load(tmp_path)


def test_clear_removes_the_run_and_nothing_else(run):
    (run / "mine.txt").write_text("keep")
    checkpoint.clear(run)
    assert [path.name for path in run.iterdir()] == ["mine.txt"]


def edit(run, change):
    header = json.loads((run / "config.json").read_text())
    change(header)
    (run / "config.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "not a run folder"),
        (lambda run: (run / "config.json").write_text("{"), "JSONDecodeError"),
        (lambda run: (run / "config.json").write_text("[]"), "TypeError"),
        (lambda run: (run / "config.json").write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
        (lambda run: edit(run, lambda header: header.update(format=99)), "format 99"),
        (lambda run: edit(run, lambda header: header.pop("psf_shape")), "KeyError"),
        (lambda run: edit(run, lambda header: header.update(psf_shape=[4, 4])), "psf_shape cannot be"),
        (lambda run: edit(run, lambda header: header["config"].update(speed=1)), "unknown fields"),
        (lambda run: edit(run, lambda header: header["config"].pop("epochs")), "missing fields"),
        (lambda run: edit(run, lambda header: header["config"].update(epochs="many")), "epochs must be of type int"),
        (lambda run: edit(run, lambda header: header["config"]["network"].update(filters=8)), "cannot be read"),
        (lambda run: (run / "history.csv").unlink(), "history.csv: cannot be read"),
        (lambda run: (run / "history.csv").write_text("a,b\n1,x\n"), "history.csv: cannot be read"),
        (lambda run: [path.unlink() for path in (run / "weights").rglob("*") if path.is_file()], "weights: cannot be read"),
    ],
)
def test_damaged_runs(run, damage, message):
    damage(run)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoint.load(run)
    assert "\n" not in str(error.value)


def test_loading_executes_nothing(run, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    for path in [path for path in run.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.write_bytes(pickle.dumps(Bomb()))
        with contextlib.suppress(CheckpointError):  # some files hold nothing that loading reads
            checkpoint.load(run)
        path.write_bytes(content)
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_cannot_be_written(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "run", trained[0])
