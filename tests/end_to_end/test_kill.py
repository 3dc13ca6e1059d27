"""Killed processes: no finished work is lost, and what was begun goes on to the same bits.

The fast test kills as soon as there is something to lose, most slow ones at random moments.
"""

import os
import random
import signal
import subprocess
import sys
import time
from functools import cache

import jax
import numpy as np
import pytest
import tifffile
from small_training import EPOCHS, TRAINING

import jaxdenoise as jd
from jaxdenoise.cli.main import main

SEEDS = range(25)


def command(*words):
    return [sys.executable, "-m", "jaxdenoise", *map(str, words)]


def run_here(*words):
    assert main(list(map(str, words))) == 0


def killed_after(words, seconds):
    """Start the command line and kill it after so long, if it is still running then."""
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def killed_when(words, begun):
    """Start the command line and kill it as soon as `begun`; whether it was running then."""
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not begun():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


def timed(words):
    began = time.monotonic()
    subprocess.run(command(*words), check=True, capture_output=True)
    return time.monotonic() - began


def assert_equal_runs(run, expected):
    got, model = jd.load(run), jd.load(expected)
    jax.tree.map(np.testing.assert_array_equal, got, model)
    for name, values in model.history.items():
        np.testing.assert_array_equal(got.history[name], values)
    assert sorted(os.listdir(run)) == sorted(os.listdir(expected))


def assert_whole_files(folder, expected):
    for file in folder.glob("*.tif"):
        np.testing.assert_array_equal(tifffile.imread(file), tifffile.imread(expected / file.name))


@pytest.fixture(scope="module")
def folder(noisy):
    """The folder of noisy.tif and of a large image."""
    large = np.tile(tifffile.imread(noisy), (4, 6, 6))
    tifffile.imwrite(noisy.with_name("large.tif"), large, photometric="minisblack")
    return noisy.parent


def training(folder, run, *, psf="1.0", epochs=EPOCHS):
    words = ["train", folder / "noisy.tif", "-o", run, "--psf", psf, "--epochs", epochs]
    return [*words, *TRAINING]


def prediction(folder, model, out):
    words = ["denoise", folder / "large.tif", "-o", out, "--model", model]
    return [*words, "--tile-size", "100", "--no-report", "--quiet"]


@pytest.fixture(scope="module")
def predicted(folder, alone):
    """The folder of a prediction that nothing disturbed."""
    run_here(*prediction(folder, alone, folder / "predicted"))
    return folder / "predicted"


def test_a_killed_training_resumes_to_the_same_bits(folder, alone, tmp_path):
    words = [*training(folder, tmp_path / "run"), "--save-every", "0", "--resume"]
    assert killed_when(words, lambda: list((tmp_path / "run").glob("epoch-*")))
    assert not (tmp_path / "run" / "weights").exists()
    run_here(*words)
    assert_equal_runs(tmp_path / "run", alone)


@pytest.mark.slow
def test_a_killed_prediction_leaves_a_whole_file_or_none(folder, alone, predicted, tmp_path):
    out = tmp_path / "out"
    words = prediction(folder, alone, out)
    killed_when(words, lambda: out.exists() and any(out.iterdir()))
    assert_whole_files(out, predicted)
    run_here(*words, "--overwrite")
    assert sorted(os.listdir(out)) == ["large_deconvolved.tif", "large_denoised.tif"]
    assert_whole_files(out, predicted)


@pytest.fixture(scope="module")
def timed_training(folder):
    """Trains with a PSF, undisturbed and once: the run folder, and the time with a warm cache."""

    @cache
    def trained(psf):
        words = [*training(folder, folder / psf, psf=psf, epochs="8"), "--overwrite"]
        timed(words)
        return folder / psf, timed(words)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("psf", ["1.0", "auto"])
def test_a_training_killed_at_any_moment_resumes(folder, timed_training, tmp_path, psf, seed):
    expected, seconds = timed_training(psf)
    words = [*training(folder, tmp_path / "run", psf=psf, epochs="8"), "--resume"]
    words += ["--save-every", "0"]
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        killed_after(words, rng.uniform(0.2, 1.0) * seconds)
    subprocess.run(command(*words), check=True, capture_output=True)
    assert_equal_runs(tmp_path / "run", expected)


@pytest.fixture(scope="module")
def prediction_seconds(folder, alone, predicted):
    return timed(prediction(folder, alone, folder / "timed"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_prediction_killed_at_any_moment_leaves_a_whole_file_or_none(
    folder, alone, predicted, prediction_seconds, tmp_path, seed
):
    words = prediction(folder, alone, tmp_path / "out")
    killed_after(words, random.Random(seed).uniform(0.3, 1.05) * prediction_seconds)
    assert_whole_files(tmp_path / "out", predicted)
    subprocess.run(command(*words, "--overwrite"), check=True, capture_output=True)
    names = ["large_deconvolved.tif", "large_denoised.tif"]
    assert sorted(os.listdir(tmp_path / "out")) == names
