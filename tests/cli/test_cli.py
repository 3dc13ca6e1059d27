import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import tifffile
from skimage.metrics import peak_signal_noise_ratio

import jaxdenoise as jd
from jaxdenoise.cli.main import _keep_compiled_programs, main
from jaxdenoise.cli.terminal import Bars, Silence
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.runs.layout import has_model
from jaxdenoise.workflows import demo as demo_module
from jaxdenoise.workflows import denoise as denoise_module
from jaxdenoise.workflows.stacks import training_stack

SMALL = [
    "--epochs",
    "1",
    "--filters",
    "2",
    "--patch-size",
    "16",
    "--batch-size",
    "1",
    "--symmetries",
    "1",
    "--no-report",
]
WITH_REPORT = SMALL[:-1]
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def images(tmp_path, scene, monkeypatch):
    """A working directory with a noisy stack, its truth and a second stack of the same size."""
    monkeypatch.chdir(tmp_path)
    noisy = np.clip(np.asarray(scene.noisy), 0, 65535).round().astype(np.uint16)
    metadata = {"axes": "TYX", "unit": "um", "finterval": 0.5}
    tifffile.imwrite("noisy.tif", noisy, imagej=True, resolution=(10, 10), metadata=metadata)
    tifffile.imwrite("second.tif", noisy[0, ::-1].copy())
    tifffile.imwrite("truth.tif", np.asarray(scene.clean))
    return tmp_path


def run(capsys, *words):
    """Exit code, standard output, standard error of a command line."""
    try:
        code = main(list(map(str, words)))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def written(folder="."):
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


# --- the verbs
# ---------------------------------------------------------------------------------------------------------------------------


def test_denoise_writes_both_results_like_the_input(images, capsys):
    code, out, _ = run(capsys, "denoise", "noisy.tif", "second.tif", "-o", "out", *SMALL)
    assert (code, out) == (0, "")
    assert sorted(p.name for p in Path("out").iterdir()) == [
        f"{stem}_{kind}.tif" for stem in ("noisy", "second") for kind in ("deconvolved", "denoised")
    ]
    original, result = jd.read("noisy.tif"), jd.read("out/noisy_denoised.tif")
    assert result.info == original.info
    assert result.info.pixel_size_um == (0.1, 0.1)
    assert result.info.frame_interval == 0.5
    assert result.frames.std() > 0
    assert jd.read("out/second_denoised.tif").info.axes == "YX"


def test_denoise_float32_and_saved_model(images, capsys):
    assert (
        run(
            capsys,
            "denoise",
            "noisy.tif",
            "-o",
            "a",
            "--dtype",
            "float32",
            "--save-model",
            "run",
            *SMALL,
        )[0]
        == 0
    )
    assert (
        run(
            capsys,
            "denoise",
            "noisy.tif",
            "-o",
            "b",
            "--dtype",
            "float32",
            "--model",
            "run",
            "--quiet",
            "--no-report",
        )[0]
        == 0
    )
    a, b = tifffile.imread("a/noisy_denoised.tif"), tifffile.imread("b/noisy_denoised.tif")
    assert a.dtype == np.float32
    np.testing.assert_array_equal(a, b)
    run(
        capsys,
        "denoise",
        "noisy.tif",
        "-o",
        "c",
        "--dtype",
        "float32",
        "--model",
        "run",
        "--tile-size",
        "80",
        "--no-report",
    )
    np.testing.assert_allclose(tifffile.imread("c/noisy_denoised.tif"), a, atol=1e-3)


def test_the_command_line_is_the_python_interface(images, capsys):
    run(
        capsys,
        "denoise",
        "noisy.tif",
        "-o",
        "out",
        "--dtype",
        "float32",
        "--seed",
        "3",
        "--psf",
        "0.7",
        *SMALL,
    )
    image = jd.read("noisy.tif")
    config = jd.TrainConfig(epochs=1, patch_size=16, batch_size=1, symmetries=1)
    config = jd.TrainConfig.from_dict(
        {**config.to_dict(), "network": {**config.to_dict()["network"], "filters": 2}}
    )
    denoiser = jd.fit(jax.random.key(3), image.frames, psf=jd.gaussian_psf(0.7), config=config)
    np.testing.assert_array_equal(
        tifffile.imread("out/noisy_denoised.tif"), jd.denoise(denoiser, image.frames).denoised
    )


def test_a_measured_psf(images, capsys):
    tifffile.imwrite("psf.tif", np.array([[0, 1, 0], [2, 9, 1], [0, 1, 0]], np.uint8))
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--psf", "psf.tif", *SMALL)[0] == 0
    np.testing.assert_allclose(
        np.asarray(jd.load("run").psf) * 14, [[0, 1, 0], [2, 9, 1], [0, 1, 0]], rtol=1e-6
    )
    assert run(capsys, "train", "noisy.tif", "-o", "no-psf", "--psf", "none", *SMALL)[0] == 0
    assert jd.load("no-psf").psf.shape == (1, 1)


def test_train_keeps_what_it_was_given(images, capsys):
    assert (
        run(capsys, "train", "noisy.tif", "-o", "run", "--seed", "4", "--background", "90", *SMALL)[
            0
        ]
        == 0
    )
    header = json.loads(Path("run/config.json").read_text())
    assert header["notes"]["seed"] == 4
    assert header["notes"]["inputs"] == ["noisy.tif"]
    assert header["config"]["background"] == 90
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--resume", *SMALL)[1].endswith(
        "nothing to resume\n"
    )
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--overwrite", *SMALL)[0] == 0


def interrupted_after(epochs, capsys, monkeypatch, *words):
    """Run a training that a Ctrl-C ends after so many epochs, of all models."""

    def interrupting(self, config, *, done=0, total=None):
        numbers = itertools.count(1)

        def on_epoch(snapshot):
            if next(numbers) == epochs:
                os.kill(os.getpid(), signal.SIGINT)

        return on_epoch

    with monkeypatch.context() as patch:
        patch.setattr(Silence, "training", interrupting)
        code, _, err = run(capsys, *words)
    assert code == 130
    assert "--resume" in err


def test_interrupt_and_resume_give_the_uninterrupted_model(images, capsys, monkeypatch):
    words = ["train", "noisy.tif", *SMALL, "--epochs", "3"]
    run(capsys, *words, "-o", "whole")
    interrupted_after(2, capsys, monkeypatch, *words, "-o", "run")
    assert not has_model("run")
    code, _, err = run(capsys, "denoise", "noisy.tif", "-o", "out", "--model", "run")
    assert code == 2
    assert "unfinished" in err
    assert run(capsys, *words, "-o", "run", "--resume", "--seed", "1")[0] == 2
    assert run(capsys, *words, "-o", "run", "--resume", "--epochs", "4")[0] == 2
    assert run(capsys, "train", "second.tif", *words[2:], "-o", "run", "--resume")[0] == 2
    assert run(capsys, *words, "-o", "run", "--resume")[0] == 0
    jax.tree.map(np.testing.assert_array_equal, jd.load("run"), jd.load("whole"))


def test_resuming_what_never_began_begins(images, capsys):
    code, _, err = run(capsys, "train", "noisy.tif", "-o", "run", "--resume", *SMALL)
    assert code == 0
    assert (
        err.splitlines()[0]
        == "jaxdenoise: warning: run: holds no run yet; starting from the first epoch"
    )
    assert has_model("run")


def test_channels_apart(images, capsys):
    noisy = tifffile.imread("noisy.tif")[:2]
    both = np.stack(
        [noisy, np.clip(1000 + 7 * noisy.astype(int), 0, 65535).astype(np.uint16)], axis=1
    )
    tifffile.imwrite("both.tif", both, imagej=True, metadata={"axes": "TCYX"})
    tifffile.imwrite("first.tif", noisy, imagej=True, metadata={"axes": "TYX"})
    small = [*WITH_REPORT, "--channels", "separate"]
    assert run(capsys, "denoise", "both.tif", "-o", "out", "--save-model", "run", *small)[0] == 0
    assert run(capsys, "denoise", "first.tif", "-o", "alone", *SMALL)[0] == 0
    result = jd.read("out/both_denoised.tif")
    assert result.info == jd.read("both.tif").info
    np.testing.assert_array_equal(result.frames[::2], jd.read("alone/first_denoised.tif").frames)
    assert abs(result.frames[1::2].mean() / both[:, 1].mean() - 1) < 0.1
    assert sorted(path.name for path in Path("out").glob("*.html")) == [
        f"both_channel-{n}_report.html" for n in (0, 1)
    ]
    assert (
        run(
            capsys,
            "denoise",
            "both.tif",
            "-o",
            "again",
            "--model",
            "run",
            "--channels",
            "separate",
            "--no-report",
        )[0]
        == 0
    )
    np.testing.assert_array_equal(jd.read("again/both_denoised.tif").frames, result.frames)
    assert (
        run(capsys, "train", "both.tif", "-o", "trained", *SMALL, "--channels", "separate")[0] == 0
    )
    jax.tree.map(
        np.testing.assert_array_equal, jd.load("trained/channel-1"), jd.load("run/channel-1")
    )
    code, _, err = run(
        capsys, "denoise", "first.tif", "-o", "none", *SMALL, "--channels", "separate"
    )
    assert code == 2
    assert "needs a C axis" in err


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_omezarr_in_and_out(images, capsys, zarr_format):
    noisy = jd.read("noisy.tif")
    info = ImageInfo(
        "TYX",
        noisy.info.shape,
        noisy.info.dtype,
        "omezarr",
        metadata={"zarr_format": zarr_format, "PhysicalSizeX": "0.1"},
    )
    jd.write("noisy.ome.zarr", noisy.frames, info)
    assert run(capsys, "denoise", "noisy.tif", "-o", "tiff", *SMALL)[0] == 0
    assert run(capsys, "denoise", "noisy.ome.zarr", "-o", "zarr", *WITH_REPORT)[0] == 0
    assert sorted(path.name for path in Path("zarr").iterdir()) == [
        "noisy_deconvolved.ome.zarr",
        "noisy_denoised.ome.zarr",
        "noisy_report.html",
    ]
    assert (Path("zarr/noisy_denoised.ome.zarr/zarr.json").exists()) == (zarr_format == 3)
    result = jd.read("zarr/noisy_denoised.ome.zarr")
    np.testing.assert_array_equal(result.frames, jd.read("tiff/noisy_denoised.tif").frames)
    assert float(result.info.metadata["PhysicalSizeX"]) == 0.1
    assert run(capsys, "denoise", "noisy.ome.zarr", "-o", "zarr", *SMALL)[0] == 2
    assert run(capsys, "denoise", "noisy.ome.zarr", "-o", "zarr", *SMALL, "--overwrite")[0] == 0
    assert (
        run(
            capsys, "filter", "noisy.ome.zarr", "-o", "filtered", "--format", "tiff", "--sigma", "1"
        )[0]
        == 0
    )
    assert (
        run(capsys, "filter", "noisy.tif", "-o", "filtered", "--format", "zarr", "--sigma", "1")[0]
        == 0
    )
    first, second = (
        jd.read(path)
        for path in ("filtered/noisy_gaussian.tif", "filtered/noisy_gaussian.ome.zarr")
    )
    np.testing.assert_array_equal(first.frames, second.frames)
    assert second.info.pixel_size_um == (0.1, 0.1)
    out = run(capsys, "info", "noisy.ome.zarr", "--json")[1]
    assert json.loads(out)["files"][0]["format"] == "omezarr"


def test_large_files_are_learned_from_in_part(images, capsys, monkeypatch):
    whole = run(capsys, "train", "noisy.tif", "-o", "whole", *SMALL)
    monkeypatch.setattr(denoise_module, "_KEPT", 0)
    monkeypatch.setattr(training_stack, "__kwdefaults__", {"pixels": 48 * 56 * 2})
    code, _, err = run(capsys, "denoise", "noisy.tif", "-o", "out", *WITH_REPORT)
    assert (whole[0], code) == (0, 0)
    assert "learning from 2 random places of 48 x 56 pixels, 66.7% of all" in err
    assert jd.read("out/noisy_denoised.tif").frames.shape == (3, 48, 56)
    assert Path("out/noisy_report.html").exists()


@pytest.mark.parametrize(
    "epoch", [3, 9, 13]
)  # one of the first round, of the second, of the chosen model's last
def test_auto_interrupted_and_resumed_gives_the_uninterrupted_model(
    images, capsys, monkeypatch, epoch
):
    words = ["train", "noisy.tif", *SMALL, "--epochs", "6", "--psf", "auto"]
    run(capsys, *words, "-o", "whole")
    interrupted_after(epoch, capsys, monkeypatch, *words, "-o", "run")
    assert run(capsys, *words[:-1], "1.0", "-o", "run", "--resume")[0] == 2
    code, _, err = run(capsys, *words, "-o", "run", "--resume")
    assert code == 0
    assert "PSF: sigma" in err
    jax.tree.map(np.testing.assert_array_equal, jd.load("run"), jd.load("whole"))
    choices = [
        json.loads(Path(name, "config.json").read_text())["notes"]["choice"]
        for name in ("run", "whole")
    ]
    scores = [[(row["score"], row["epochs"]) for row in choice["candidates"]] for choice in choices]
    assert scores[0] == scores[1]
    assert {path.name for path in Path("run").iterdir()} == {
        path.name for path in Path("whole").iterdir()
    }


def test_sweep_prints_the_table_and_keeps_the_models(images, capsys):
    words = ["sweep", "noisy.tif", "--psf", "0.5,1,none", *SMALL]
    code, out, _ = run(
        capsys, *words, "-o", "swept", "--reference", "truth.tif", "--seeds", "2", "--json"
    )
    assert code == 0
    result = json.loads(out)
    assert result == json.loads(Path("swept/sweep.json").read_text())
    assert [(row["psf"], row["seed"]) for row in result["candidates"]] == [
        (psf, seed) for psf in (0.5, 1.0, 0.0) for seed in (0, 1)
    ]
    assert result["chosen"] in (0.0, 0.5, 1.0)
    for row in result["candidates"]:
        assert row["score"] > 0 < row["score_se"]
        assert row["seconds"] > 0
        frames = jd.denoise(jd.load(row["run"]), jd.read("noisy.tif").frames).denoised
        truth = tifffile.imread("truth.tif")
        expected = np.mean(
            [
                peak_signal_noise_ratio(truth, frame, data_range=truth.max() - truth.min())
                for frame in frames
            ]
        )
        assert row["psnr"] == pytest.approx(expected, abs=1e-3)
    code, out, _ = run(capsys, *words, "-o", "table")
    assert "chosen: " in out
    assert json.loads(Path("table/sweep.json").read_text())["candidates"][0]["psnr"] is None
    assert run(capsys, *words, "-o", "table")[0] == 2


def test_sweep_by_halving_keeps_what_was_trained_to_the_end(images, capsys):
    code, out, _ = run(
        capsys, "sweep", "noisy.tif", *SMALL, "--epochs", "6", "--halving", "-o", "swept", "--json"
    )
    assert code == 0
    result = json.loads(out)
    kept = [row for row in result["candidates"] if "run" in row]
    assert [row["psf"] for row in kept] == [result["chosen"]]
    assert kept[0]["epochs"] == 6
    assert [row["psf"] for row in result["candidates"]] == [0, 0.5, 0.75, 1, 1.25, 1.5, 2]
    assert sorted(p.name for p in Path("swept").iterdir() if p.is_dir()) == [
        f"psf-{result['chosen']:g}-seed-0"
    ]


def test_reports_are_written_where_they_belong(images, capsys):
    words = ["denoise", "noisy.tif", "second.tif", "-o", "out", *WITH_REPORT]
    assert run(capsys, *words)[0] == 0
    page = Path("out/noisy_report.html").read_text()
    assert "jaxdenoise denoise noisy.tif second.tif -o out" in page
    assert "0.1" in page  # the pixel size
    for name in Path("out").glob("*.tif"):
        name.unlink()
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "noisy_report.html: the file exists" in err
    assert run(capsys, "train", "second.tif", "-o", "run", *WITH_REPORT)[0] == 0
    assert "second.tif" in Path("run/report.html").read_text()
    assert (
        run(
            capsys,
            "sweep",
            "noisy.tif",
            "-o",
            "swept",
            "--psf",
            "0.5,1",
            "--reference",
            "truth.tif",
            *WITH_REPORT,
        )[0]
        == 0
    )
    page = Path("swept/report.html").read_text()
    assert "Several PSFs were tried" in page
    assert "PSNR against the clean image" in page


def test_the_psf_from_the_optics(images, capsys):
    optics = ["--na", "1.2", "--emission", "0.52"]
    assert (
        run(capsys, "train", "noisy.tif", "-o", "file", *optics, *SMALL)[0] == 0
    )  # 0.1 um, says the file
    expected = jd.gaussian_psf(0.2103 * 0.52 / 1.2 / 0.1)
    np.testing.assert_allclose(jd.load("file").psf, expected, atol=1e-4)
    confocal = [*optics, "--excitation", "0.488", "--pixel-size", "0.05"]
    assert run(capsys, "train", "second.tif", "-o", "flag", *confocal, *SMALL)[0] == 0
    assert jd.load("flag").psf.shape[0] > 9


def test_a_psf_from_beads(images, capsys):
    y, x = np.mgrid[:96, :96]
    beads = sum(
        np.exp(-((y - a) ** 2 / 2 / 2.0**2) - (x - b) ** 2 / 2 / 1.5**2)
        for a in (20.3, 50, 76.6)
        for b in (21, 48.4, 75)
    )
    beads = 100 + 1000 * beads + np.random.default_rng(0).normal(size=beads.shape)
    tifffile.imwrite("beads.tif", beads.round().astype(np.uint16))
    code, out, _ = run(capsys, "psf", "beads.tif", "-o", "psf.tif", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["beads"] == 9
    np.testing.assert_allclose(facts["sigma"], (2.0, 1.5), rtol=0.03)
    np.testing.assert_allclose(facts["fwhm"], np.multiply(2.3548, (2.0, 1.5)), rtol=0.03)
    assert tifffile.imread("psf.tif").sum() == pytest.approx(1, abs=1e-5)
    assert run(capsys, "psf", "beads.tif", "-o", "psf.tif")[0] == 2
    out = run(capsys, "psf", "beads.tif", "-o", "psf.tif", "--overwrite")[1]
    assert "full width at half maximum" in out
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--psf", "psf.tif", *SMALL)[0] == 0


def test_filter_writes_files_like_the_input(images, capsys):
    code, out, _ = run(
        capsys,
        "filter",
        "noisy.tif",
        "second.tif",
        "-o",
        "out",
        "--filter",
        "median",
        "--size",
        "3",
        "--json",
    )
    assert code == 0
    original, result = jd.read("noisy.tif"), jd.read("out/noisy_median.tif")
    assert result.info == original.info
    np.testing.assert_array_equal(result.frames, jd.median_filter(original.frames, (3, 3)))
    rows = json.loads(out)
    assert [row["file"] for row in rows] == ["noisy.tif", "second.tif"]
    assert rows[0] == {
        "file": "noisy.tif",
        "output": "out/noisy_median.tif",
        "filter": "median",
        "size": 3,
    }
    assert run(capsys, "filter", "noisy.tif", "-o", "out", "--dtype", "float32")[0] == 0
    assert tifffile.imread("out/noisy_gaussian.tif").dtype == np.float32
    found = json.loads(
        run(capsys, "filter", "noisy.tif", "-o", "out", "--overwrite", "--quiet", "--json")[1]
    )
    assert 0.3 < found[0]["sigma"] < 5
    assert found[0]["noise_std"] > 0
    assert (
        run(
            capsys,
            "filter",
            "noisy.tif",
            "-o",
            "y",
            "--sigma",
            "1,2.5",
            "--mode",
            "wrap",
            "--dtype",
            "float32",
        )[0]
        == 0
    )
    expected = jd.gaussian_filter(
        original.frames.astype(np.uint16), (1, 2.5), mode="wrap", dtype="float32"
    )
    np.testing.assert_array_equal(tifffile.imread("y/noisy_gaussian.tif"), expected)


def test_evaluate_prints_the_metrics(images, capsys):
    code, out, _ = run(
        capsys, "evaluate", "noisy.tif", "truth.tif", "--reference", "truth.tif", "--json"
    )
    result = json.loads(out)
    assert code == 0
    assert [row["file"] for row in result["images"]] == ["noisy.tif", "truth.tif"]
    truth, noisy = tifffile.imread("truth.tif"), tifffile.imread("noisy.tif").astype(np.float32)
    data_range = truth.max() - truth.min()
    expected = np.mean(
        [peak_signal_noise_ratio(truth, frame, data_range=data_range) for frame in noisy]
    )
    assert result["images"][0]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert set(result["images"][0]) >= {
        "file",
        "frames",
        "psnr",
        "si_psnr",
        "snr_db",
        "ssim",
        "mean_over_std",
    }
    assert result["images"][1]["psnr"] is None  # infinite
    assert result["images"][1]["ssim"] == pytest.approx(1)
    assert set(result["mean"]) == {"psnr", "si_psnr", "snr_db", "ssim", "mean_over_std"}
    wide = json.loads(
        run(
            capsys,
            "evaluate",
            "noisy.tif",
            "--reference",
            "truth.tif",
            "--data-range",
            2 * data_range,
            "--json",
        )[1]
    )
    assert wide["mean"]["psnr"] == pytest.approx(expected + 20 * np.log10(2), abs=1e-3)
    assert "noisy.tif" in run(capsys, "evaluate", "noisy.tif", "--reference", "truth.tif")[1]


def test_info(images, capsys):
    facts = json.loads(run(capsys, "info", "noisy.tif", "--json")[1])
    assert facts["jax"] == jax.__version__
    assert facts["files"][0] == {
        "file": "noisy.tif",
        "axes": "TYX",
        "shape": [3, 48, 56],
        "dtype": "uint16",
        "format": "imagej",
        "pixel_size_um": [0.1, 0.1],
        "z_spacing_um": None,
        "frame_interval_s": 0.5,
    }
    assert "devices" in run(capsys, "info")[1]
    assert "uint16" in run(capsys, "info", "noisy.tif")[1]


def test_demo_in_small(images, capsys, monkeypatch):
    monkeypatch.setattr(demo_module, "EPOCHS", 1)
    monkeypatch.setattr(demo_module, "FRAMES", 2)
    monkeypatch.setattr(demo_module, "SIDE", 64)
    code, out, _ = run(capsys, "demo", "--json")
    assert code == 0
    names = [
        "comparison.png",
        "deconvolved.tif",
        "denoised.tif",
        "ground_truth.tif",
        "noisy.tif",
        "report.html",
    ]
    assert sorted(path.name for path in Path("demo").iterdir()) == names
    scores = json.loads(out)["methods"]
    assert scores["raw"]["psnr"] == pytest.approx(23, abs=0.5)
    truth, noisy = tifffile.imread("demo/ground_truth.tif"), tifffile.imread("demo/noisy.tif")
    data_range = truth.max() - truth.min()
    blurred = [cv2.GaussianBlur(frame, (5, 5), 0) for frame in noisy]
    expected = np.mean(
        [
            peak_signal_noise_ratio(np.squeeze(truth), frame, data_range=data_range)
            for frame in blurred
        ]
    )
    assert scores["Gaussian 5x5"]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert cv2.imread("demo/comparison.png").std() > 0
    assert run(capsys, "demo")[0] == 2
    assert run(capsys, "demo", "--overwrite", "--quiet")[1].count("DecoNoising") == 1


@pytest.mark.slow
def test_the_demo_is_won_by_the_network(tmp_path, capsys):
    began = time.monotonic()
    code, out, _ = run(capsys, "demo", "-o", tmp_path / "demo", "--json")
    assert code == 0
    assert time.monotonic() - began < 120
    scores = json.loads(out)["methods"]
    network = scores.pop("DecoNoising")
    assert network["psnr"] > max(row["psnr"] for row in scores.values())
    assert network["ssim"] > max(row["ssim"] for row in scores.values())


def test_progress_bars_show_the_training(scene, tiny_config, capsys):
    with Bars() as bars:
        jd.fit(
            jax.random.key(0),
            scene.noisy,
            psf=jd.gaussian_psf(1.0),
            config=tiny_config,
            on_epoch=bars.training(tiny_config),
        )
        bars.predicting("x.tif")(1, 1)
        bars.say("wrote x.tif")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "4/4" in shown.err
    assert "patches/s" in shown.err
    assert "wrote x.tif" in shown.err


# --- start-up
# ----------------------------------------------------------------------------------------------------------------------------


def test_help_answers_at_once():
    seconds = []
    for words in (["--help"], ["denoise", "--help"], ["--version"]):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "jaxdenoise", *words], check=True, capture_output=True
        )
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[1] < 0.5


def test_wrong_flags_do_not_load_jax():
    code = "import sys, jaxdenoise.cli.main as c\ntry: c.main(['denoise'])\nexcept SystemExit: sys.exit('jax' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode
        == 0
    )


# --- real files
# --------------------------------------------------------------------------------------------------------------------------

REAL = [
    ("volume/cho_nuclei_tzyx.tif", "TZYX"),
    ("convallaria/20190520_tl_25um_50msec_05pc_488_130EM_Conv0000.tif", "YX"),
    ("livecell/A172_Phase_A7_1_00d00h00m_1.tif", "YX"),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(("name", "axes"), REAL, ids=lambda value: Path(value).name[:8])
def test_real_files_keep_what_they_say(tmp_path, capsys, name, axes):
    assert run(capsys, "denoise", DATA / name, "-o", tmp_path, "--quiet", *SMALL)[0] == 0
    original = jd.read(DATA / name)
    for kind in ("denoised", "deconvolved"):
        path = tmp_path / f"{Path(name).stem}_{kind}.tif"
        result = jd.read(path)
        assert result.info == original.info
        assert result.info.axes == axes
        with tifffile.TiffFile(DATA / name) as before, tifffile.TiffFile(path) as after:
            assert after.series[0].shape == before.series[0].shape
            assert after.series[0].dtype == before.series[0].dtype
            for key, value in (before.imagej_metadata or {}).items():
                if key != "ImageJ":
                    assert after.imagej_metadata[key] == value


@pytest.mark.parametrize("usable", [True, False])
def test_compiled_programs_are_kept_where_the_user_can_write(tmp_path, monkeypatch, usable):
    home = tmp_path / "cache"
    home.mkdir() if usable else home.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    _keep_compiled_programs()
    assert os.environ.get("JAX_COMPILATION_CACHE_DIR") == (
        str(home / "jaxdenoise") if usable else None
    )


def test_an_ensemble_is_written_kept_and_resumed(images, capsys):
    options = ("--dtype", "float32", "--no-report")
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--members", "2", *SMALL)[0] == 0
    assert (Path("run") / "member-2" / "config.json").exists()
    assert (
        run(capsys, "train", "noisy.tif", "-o", "run", "--members", "2", "--resume", *SMALL)[
            1
        ].count("nothing to resume")
        == 1
    )
    assert run(capsys, "denoise", "noisy.tif", "-o", "a", "--model", "run", *options)[0] == 0
    assert (
        run(capsys, "denoise", "noisy.tif", "-o", "b", "--members", "2", *options, *SMALL)[0] == 0
    )
    single = [
        jd.denoise(jd.load(path), jd.read("noisy.tif").frames).denoised
        for path in ("run", "run/member-2")
    ]
    for folder in ("a", "b"):
        np.testing.assert_allclose(
            tifffile.imread(f"{folder}/noisy_denoised.tif").ravel(),
            np.mean(single, axis=0).ravel(),
            rtol=1e-5,
        )
        apart = tifffile.imread(f"{folder}/noisy_disagreement.tif")
        np.testing.assert_allclose(
            apart.ravel(), np.std(single, axis=0, ddof=1).ravel(), rtol=1e-3, atol=1e-3
        )
    # A member that was not trained to its end is trained when the others are loaded.
    before = (Path("run") / "weights" / "SHA256SUMS").read_text()
    for folder in Path("run/member-2").iterdir():
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    assert (
        run(capsys, "train", "noisy.tif", "-o", "run", "--members", "2", "--resume", *SMALL)[0] == 0
    )
    assert (Path("run") / "weights" / "SHA256SUMS").read_text() == before
    np.testing.assert_array_equal(
        jd.denoise(jd.load("run/member-2"), jd.read("noisy.tif").frames).denoised, single[1]
    )
    # One model instead of two: the other is not left behind.
    assert run(capsys, "train", "noisy.tif", "-o", "run", "--overwrite", *SMALL)[0] == 0
    assert not Path("run/member-2").exists()


def test_pretrained_weights_are_shown_beside_random_ones(images, capsys):
    fast = (
        "--init",
        "pretrained",
        "--epochs",
        "1",
        "--patch-size",
        "16",
        "--symmetries",
        "1",
        "--no-report",
    )
    code, _, said = run(capsys, "denoise", "noisy.tif", "-o", "out", *fast)
    assert code == 0
    assert re.search(
        r"from pretrained and from random weights: results differ by \d+% of the noise", said
    )
    assert [Path(path).name for path in written("out")] == [
        "noisy_deconvolved.tif",
        "noisy_denoised.tif",
        "noisy_random_start.tif",
    ]
    a, b = (
        tifffile.imread(f"out/noisy_{name}.tif").astype(float)
        for name in ("denoised", "random_start")
    )
    assert np.abs(a - b).max() > 1


def test_an_instant_result_needs_no_training(images, capsys):
    assert (
        run(capsys, "denoise", "noisy.tif", "-o", "out", "--instant", "--dtype", "float32")[0] == 0
    )
    frames = jd.read("noisy.tif").frames
    result = jd.denoise(jd.instant(frames), frames).denoised
    np.testing.assert_array_equal(tifffile.imread("out/noisy_denoised.tif").ravel(), result.ravel())
    assert Path("out/noisy_report.html").exists()
    told = ("--noise", "500", "--overwrite", "--dtype", "float32", "--no-report")
    assert run(capsys, "denoise", "noisy.tif", "-o", "out", "--instant", *told)[0] == 0
    assert tifffile.imread("out/noisy_denoised.tif").std() < result.std()
