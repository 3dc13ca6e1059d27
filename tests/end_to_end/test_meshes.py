"""Eight simulated devices: the same figures as on one, and what they send to each other."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.system import meshes

SCRIPT = Path(__file__).with_name("on_eight_devices.py")


def found_by(extent, folder):
    """What `on_eight_devices` prints."""
    words = [sys.executable, str(SCRIPT), str(folder), extent]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return found_by("few", tmp_path_factory.mktemp("states"))


@pytest.fixture(scope="module")
def found_all(tmp_path_factory):
    return found_by("all", tmp_path_factory.mktemp("states"))


def assert_close(got, expected, tolerance=1e-5):
    """Relative to the largest: rounding may change small weights by more than their size."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_equal_trainings(found, count):
    for name in ("losses", "validation", "weights"):
        assert_close(found["train"][count][name], found["train"]["1"][name])


def test_a_training_has_the_losses_and_weights_of_one_device(found):
    assert_equal_trainings(found, "8")


def test_a_prediction_has_the_bits_of_one_device(found):
    assert found["denoised"]["8"] == found["denoised"]["1"]


def test_a_run_goes_on_with_another_number_of_devices(found):
    assert_close(found["resumed"]["8 to 1"], found["train"]["1"]["weights"])


@pytest.mark.slow
def test_two_devices_and_more_of_them_after_a_stop(found_all):
    assert_equal_trainings(found_all, "2")
    assert found_all["denoised"]["2"] == found_all["denoised"]["1"]
    assert_close(found_all["resumed"]["1 to 8"], found_all["train"]["1"]["weights"])


@pytest.mark.slow
def test_a_sweep_has_the_scores_and_the_choice_of_one_device(found_all):
    # Four models side by side, of which one is thrown away, on two devices each.
    got, expected = found_all["sweep"]["8"], found_all["sweep"]["1"]
    assert got["chosen"] == expected["chosen"]
    for name in ("scores", "weights"):
        assert_close(got[name], expected[name])


def test_a_step_sends_its_gradients_once_and_nothing_else(found):
    ((shape, operation),) = found["collectives"]["found"]
    assert operation == "all-reduce"
    size = int(shape.split("[")[1].split("]")[0])
    assert 0 <= size - found["collectives"]["parameters"] < 8  # and the terms of the loss


def test_a_batch_that_cannot_be_shared_is_an_error(scene, tiny_config):
    message = "3 devices cannot share a batch of 4; choose a batch size that is a multiple of 3"
    with pytest.raises(ValueError, match=message):
        jd.fit(
            jax.random.key(0),
            scene.noisy,
            psf=jd.gaussian_psf(1.0),
            config=tiny_config,
            devices=jax.devices() * 3,
        )


@pytest.mark.parametrize(
    ("devices", "batch", "models", "shape"),
    [
        (8, 8, 1, (1, 8)),
        (8, 2, 7, (4, 2)),
        (8, 1, 7, (8, 1)),
        (8, 4, 2, (2, 4)),
        (4, 1, 1, (4, 1)),
        (6, 2, 7, (6, 1)),
    ],
)
def test_models_stand_side_by_side_as_far_as_batches_can_be_shared(devices, batch, models, shape):
    mesh = meshes.mesh_for(jax.devices() * devices, batch_size=batch, models=models)
    assert (mesh.shape["members"], mesh.shape["data"]) == shape


def test_without_a_choice_as_many_devices_train_as_can_share_a_batch():
    counts = [len(meshes.sharing(list(range(8)), batch)) for batch in (1, 2, 6, 8, 12)]
    assert counts == [1, 2, 6, 8, 6]


def test_one_device_needs_no_mesh():
    assert meshes.mesh_for(None, batch_size=1) is None
    assert meshes.mesh_for(jax.devices()[:1], batch_size=1) is None
