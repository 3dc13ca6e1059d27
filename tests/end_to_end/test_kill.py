"""Processes that are killed at any moment: nothing is lost, and what was begun goes on to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile

import jaxdenoise as jd

TRAINING = [
    "--epochs",
    "8",
    "--filters",
    "4",
    "--patch-size",
    "16",
    "--batch-size",
    "2",
    "--symmetries",
    "1",
    "--no-report",
    "--quiet",
]
TRAINING += [
    "--targets",
    "own",
    "--blind",
    "0",
    "--stride",
    "1",
]  # what finds that out takes long to compile
KILLS = [pytest.param(seed, marks=[] if seed < 1 else pytest.mark.slow) for seed in range(25)]
PSFS = ["1.0", pytest.param("auto", marks=pytest.mark.slow)]


def command(*words):
    return [sys.executable, "-m", "jaxdenoise", *map(str, words)]


def killed(words, seconds):
    """Start the command line, kill it after so long; whether it was still running then."""
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    return False


def timed(words):
    began = time.monotonic()
    subprocess.run(command(*words), check=True, capture_output=True)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scene):
    path = tmp_path_factory.mktemp("killed")
    tifffile.imwrite(
        path / "noisy.tif",
        np.clip(np.asarray(scene.noisy), 0, 65535).round().astype(np.uint16),
        photometric="minisblack",
    )
    return path


@pytest.fixture(scope="module")
def whole(folder):
    """Trains with a PSF when asked, once, undisturbed: the run folder, and how long that takes from a warm cache."""

    @cache
    def trained(psf):
        words = [
            "train",
            folder / "noisy.tif",
            "-o",
            folder / psf,
            "--psf",
            psf,
            "--overwrite",
            *TRAINING,
        ]
        timed(words)
        return folder / psf, timed(words)

    return trained


@pytest.mark.parametrize("seed", KILLS)
@pytest.mark.parametrize("psf", PSFS)
def test_a_killed_training_resumes_to_the_same_bits(folder, whole, tmp_path, psf, seed):
    path, seconds = whole(psf)
    expected = jd.load(path)
    words = [
        "train",
        folder / "noisy.tif",
        "-o",
        tmp_path / "run",
        "--psf",
        psf,
        "--resume",
        "--save-every",
        "0",
        *TRAINING,
    ]
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        killed(words, rng.uniform(0.2, 1.0) * seconds)
    subprocess.run(command(*words), check=True, capture_output=True)
    found = jd.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    for name, values in expected.history.items():
        np.testing.assert_array_equal(found.history[name], values)
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(path))


@pytest.mark.parametrize("seed", KILLS)
def test_a_killed_prediction_leaves_a_whole_file_or_none(folder, whole, tmp_path, seed):
    large = folder / "large.tif"
    if not large.exists():
        tifffile.imwrite(
            large,
            np.tile(tifffile.imread(folder / "noisy.tif"), (4, 6, 6)),
            photometric="minisblack",
        )
    words = [
        "denoise",
        large,
        "-o",
        tmp_path / "out",
        "--model",
        whole("1.0")[0],
        "--tile-size",
        "100",
        "--no-report",
        "--quiet",
    ]
    if not (folder / "expected").exists():
        other = [folder / "expected" if word == tmp_path / "out" else word for word in words]
        Path(folder / "seconds").write_text(str(timed(other)))
    seconds = float((folder / "seconds").read_text())
    killed(words, random.Random(seed).uniform(0.3, 1.05) * seconds)
    for file in (tmp_path / "out").glob("*.tif"):
        np.testing.assert_array_equal(
            tifffile.imread(file), tifffile.imread(folder / "expected" / file.name)
        )
    subprocess.run(command(*words, "--overwrite"), check=True, capture_output=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["large_deconvolved.tif", "large_denoised.tif"]
