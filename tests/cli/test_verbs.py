"""Each verb once: the files it writes, its lines, and what it prints as JSON."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
import tifffile
from skimage.metrics import peak_signal_noise_ratio

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.cli import terminal, verbs
from jaxdenoise.workflows import DemoRequest, demonstration, making

DATA = Path(__file__).parents[3] / "shared" / "data"


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_denoise(denoised):
    assert denoised.code == 0, denoised.err
    said = json.loads(denoised.out)
    assert said.keys() == {"outputs", "models", "verdicts", "files"}
    assert said["outputs"] == {
        kind: [f"out/{stem}_{kind}.tif" for stem in ("noisy", "second")]
        for kind in ("denoised", "deconvolved")
    }
    assert said["models"] == [
        {"channel": None, "report": "out/noisy_report.html", "choice": None, "evidence": []}
    ]
    verdicts = [(one["file"], one["channel"], one["level"]) for one in said["verdicts"]]
    assert verdicts == [(f"{stem}.tif", None, "stop") for stem in ("noisy", "second")]
    # A training of a moment is not to be relied on, which the last lines say.
    *_, first, second, wrote, end = denoised.err.splitlines()
    assert wrote == "wrote out/index.html"
    for number, (stem, line) in enumerate((("noisy", first), ("second", second))):
        assert line.startswith(f"[{number + 1}/2] {stem}.tif: "), line
        assert f"wrote out/{stem}_denoised.tif and 1 more; verdict: do not rely on it: " in line
        assert line.endswith(f"; see out/{stem}_report.html")
    assert end == "2 files: 2 done, 0 skipped, 0 failed; verdicts: do not rely on it: 2"
    rows = said["files"]
    assert [(row["file"], row["status"], row["level"]) for row in rows] == [
        (f"{stem}.tif", "done", "stop") for stem in ("noisy", "second")
    ]
    assert rows[1]["outputs"] == {
        kind: f"out/second_{kind}.tif" for kind in ("denoised", "deconvolved")
    }
    assert all(row["seconds"] > 0 for row in rows)
    out = denoised.folder / "out"
    assert "jaxdenoise denoise noisy.tif second.tif -o out" in (
        (out / "noisy_report.html").read_text()
    )
    result = jd.read(out / "noisy_denoised.tif")
    assert result.info == jd.read(denoised.folder / "noisy.tif").info
    assert jd.load(denoised.folder / "model").config.symmetries == 1


def test_denoise_again_asks_for_the_flag(denoised, run):
    code, out, err = run(denoised.folder, *denoised.words)
    assert (code, out) == (2, "")
    assert err.startswith("jaxdenoise: error: out/noisy_denoised.tif: the file exists; ")
    assert "--overwrite" in err
    assert len(err.splitlines()) == 1
    (denoised.folder / "other").mkdir(exist_ok=True)
    (denoised.folder / "other" / "noisy_report.html").touch()
    words = ["denoise", "noisy.tif", "-o", "other", "--model", "model"]
    code, _, err = run(denoised.folder, *words)
    assert code == 2
    assert err == (
        "jaxdenoise: error: other/noisy_report.html: the file exists; --overwrite replaces it, "
        "--no-report writes none\n"
    )


def test_a_model_denoises_in_silence(denoised, run):
    words = ["denoise", "noisy.tif", "-o", "again", "--model", "model", "--no-report", "--quiet"]
    code, out, err = run(denoised.folder, *words)
    assert (code, out) == (0, "")
    # What not to rely on is said even so.
    told = ("jaxdenoise: warning: ", "verdict: do not rely on it: ")
    assert all(line.startswith(told) for line in err.splitlines())
    first, again = (
        tifffile.imread(denoised.folder / folder / "noisy_denoised.tif")
        for folder in ("out", "again")
    )
    np.testing.assert_array_equal(again, first)


@pytest.mark.slow
def test_three_lines_of_python_do_what_the_verb_does(denoised, run, tmp_path, monkeypatch):
    """With nothing but the network's size changed: background, blind spots, stride are found."""
    # So short a training fails the verdict, after which what was found would not be kept.
    monkeypatch.setattr(making.Maker, "has_chosen", lambda self, part: False)
    words = ["--epochs", "1", "--filters", "2", "--patch-size", "16", "--symmetries", "1"]
    words += ["--seed", "3", "--psf", "0.7"]
    words = ["denoise", denoised.folder / "noisy.tif", "-o", tmp_path / "verb", *words]
    assert run(denoised.folder, *words, "--dtype", "float32", "--no-report")[0] == 0
    training = workflows.Training(epochs=1, filters=2, patch_size=16, symmetries=1, seed=3, psf=0.7)
    inputs, output = [denoised.folder / "noisy.tif"], tmp_path / "python"
    workflows.denoise(
        workflows.DenoiseRequest(
            inputs=inputs, output=output, training=training, dtype="float32", report=False
        )
    )
    frames = jd.read(inputs[0]).frames
    psf = jd.gaussian_psf(0.7)
    denoiser = jd.fit(jax.random.key(3), frames, psf=psf, config=training.config())
    expected = jd.denoise(denoiser, frames).denoised
    for folder in ("verb", "python"):
        written = tifffile.imread(tmp_path / folder / "noisy_denoised.tif")
        np.testing.assert_array_equal(written, expected)


def test_train_is_interrupted_and_goes_on(run, folder, small, monkeypatch):
    words = ["train", "noisy.tif", "second.tif", *small]
    assert run(folder, *words, "-o", "whole")[0] == 0
    page = (folder / "whole" / "report.html").read_text()
    assert "noisy.tif" in page
    original = terminal.Lines.training

    @contextlib.contextmanager
    def interrupting(self, config, **options):
        with original(self, config, **options):
            yield lambda row: os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(terminal.Lines, "training", interrupting)
        code, out, err = run(folder, *words, "-o", "part", "--no-report")
    assert (code, out) == (130, "")
    assert err.splitlines() == [
        "jaxdenoise: stopping after this epoch; Ctrl-C again stops at once",
        "jaxdenoise: interrupted; part: --resume goes on with the training",
    ]
    code, out, err = run(folder, *words, "-o", "part", "--no-report", "--resume", "--json")
    assert code == 0
    assert json.loads(out) == {
        "runs": [{"run": "part", "complete_before": False, "report": None, "choice": None}]
    }
    jax.tree.map(np.testing.assert_array_equal, jd.load(folder / "part"), jd.load(folder / "whole"))
    code, out, _ = run(folder, *words, "-o", "part", "--no-report", "--resume")
    assert (code, out) == (0, "part: the training is complete; nothing to resume\n")
    code, _, err = run(folder, *words, "-o", "part", "--no-report")
    assert code == 2
    assert "part: holds a run already; --resume goes on with it, --overwrite replaces it" in err


def test_resuming_what_never_began_warns(run, folder, small, tmp_path):
    words = ["train", "noisy.tif", "second.tif", "-o", tmp_path / "run", "--resume", "--no-report"]
    code, _, err = run(folder, *words, *small)
    assert code == 0
    assert err.splitlines() == [
        f"jaxdenoise: warning: {tmp_path}/run: holds no run yet; starting from the first epoch",
        f"wrote {tmp_path}/run",
    ]


def test_sweep_prints_the_table(run, folder, small):
    words = ["sweep", "noisy.tif", "second.tif", "-o", "swept", *small, "--psf", "0.5,1"]
    code, out, _ = run(folder, *words, "--no-report", "--seeds", "2", "--epochs", "1")
    assert code == 0
    assert "1.0 (seed 1)" in out
    assert "chosen: " in out
    table = json.loads((folder / "swept" / "sweep.json").read_text())
    assert [row["psnr"] for row in table["candidates"]] == [None] * 4
    code, _, err = run(folder, *words)
    assert code == 2
    assert "swept/sweep.json: the file exists; --overwrite replaces it" in err


def test_a_standard_error_that_is_not_known(capsys):
    """As of a sweep over one image no larger than a patch."""
    row = {"psf": 1.0, "score": 0.5, "score_se": None, "psnr": None, "epochs": 2, "seconds": 1.0}
    swept = SimpleNamespace(table={"chosen": 1.0, "candidates": [row]}, output="swept")
    result = SimpleNamespace(channels={"": swept})
    verbs._show_sweep(SimpleNamespace(seeds=1), result)
    out = capsys.readouterr().out
    assert "chosen: 1.0 (the best; a single patch was scored: its standard error is not" in out
    swept.table["candidates"].append(row | {"psf": 2.0, "score_se": 0.1})
    verbs._show_sweep(SimpleNamespace(seeds=1), result)
    assert "(the widest within one standard error of the best)" in capsys.readouterr().out


def test_filter(run, folder):
    words = ["filter", "noisy.tif", "second.tif", "-o", "filtered", "--filter", "median"]
    code, out, err = run(folder, *words, "--size", "3", "--json")
    assert code == 0
    assert "wrote filtered/noisy_median.tif (size 3)" in err
    original = jd.read(folder / "noisy.tif")
    result = jd.read(folder / "filtered" / "noisy_median.tif")
    assert result.info == original.info
    np.testing.assert_array_equal(result.frames, jd.median_filter(original.frames, (3, 3)))
    rows = json.loads(out)
    assert [row["file"] for row in rows] == ["noisy.tif", "second.tif"]
    assert rows[0] == {
        "file": "noisy.tif",
        "output": "filtered/noisy_median.tif",
        "filter": "median",
        "dtype": str(original.info.dtype),
        "size": 3,
        "line_noise": [],
    }
    words = ["filter", "noisy.tif", "-o", "filtered", "--dtype", "float32", "--quiet", "--json"]
    code, out, err = run(folder, *words)
    assert (code, err) == (0, "")
    assert tifffile.imread(folder / "filtered" / "noisy_gaussian.tif").dtype == np.float32
    (found,) = json.loads(out)
    assert 0.3 < found["sigma"] < 5
    assert found["noise_std"] > 0
    code, _, err = run(folder, "filter", "noisy.tif", "-o", "x", "--filter", "box", "--sigma", "1")
    assert code == 2
    assert err == "jaxdenoise: error: the box filter has no sigma; give its window with --size\n"


def test_filter_from_tiff_to_zarr(run, folder):
    options = ["--sigma", "1,2.5", "--mode", "wrap"]
    words = ["filter", "noisy.tif", "-o", "zarr", "--format", "zarr", *options]
    assert run(folder, *words)[0] == 0
    result = jd.read(folder / "zarr" / "noisy_gaussian.ome.zarr")
    frames = jd.read(folder / "noisy.tif").frames.astype(np.uint16)
    np.testing.assert_array_equal(result.frames, jd.gaussian_filter(frames, (1, 2.5), mode="wrap"))
    assert result.info.pixel_size_um == (0.1, 0.1)
    out = run(folder, "info", "zarr/noisy_gaussian.ome.zarr", "--json")[1]
    assert json.loads(out)["files"][0]["format"] == "omezarr"


def test_evaluate(run, folder):
    words = ["evaluate", "noisy.tif", "truth.tif", "--reference", "truth.tif"]
    code, out, _ = run(folder, *words, "--json")
    assert code == 0
    result = json.loads(out)
    assert set(result) == {"images", "mean", "data_range"}
    metrics = {"psnr", "si_psnr", "snr_db", "ssim", "mean_over_std"}
    assert set(result["mean"]) == metrics
    assert set(result["images"][0]) == metrics | {"file", "frames"}
    assert result["images"][1]["psnr"] is None  # infinite
    code, out, _ = run(folder, *words)
    assert "against truth.tif, data range" in out
    assert "mean" in out


def test_info(run, folder):
    code, out, _ = run(folder, "info", "noisy.tif", "--json")
    facts = json.loads(out)
    assert code == 0
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
        "objective_na": None,
        "channels": None,
    }
    assert "devices" in run(folder, "info")[1]
    assert "uint16" in run(folder, "info", "noisy.tif")[1]


def test_psf(run, tmp_path):
    y, x = np.mgrid[:64, :64]
    beads = sum(np.exp(-((y - a) ** 2) / 8 - (x - b) ** 2 / 8) for a in (16, 48) for b in (16, 48))
    noise = np.random.default_rng(0).normal(size=beads.shape)
    tifffile.imwrite(tmp_path / "beads.tif", (100 + 1000 * beads + noise).astype(np.uint16))
    code, out, err = run(tmp_path, "psf", "beads.tif", "-o", "psf.tif", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["beads"] == 4
    code, _, err = run(tmp_path, "psf", "beads.tif", "-o", "psf.tif")
    assert code == 2
    assert err == (
        "jaxdenoise: error: psf.tif: the file exists; --overwrite replaces it, or name another "
        "one\n"
    )
    code, out, _ = run(tmp_path, "psf", "beads.tif", "-o", "psf.tif", "--overwrite")
    assert code == 0
    for text in ("wrote psf.tif, the mean of 4 beads", "full width at half maximum", "left out:"):
        assert text in out


def test_demo_in_small(run, tmp_path, monkeypatch):
    network = jd.UNetConfig(depth=2, filters=2, stride=1)
    decided = {"targets": "own", "blind": (0, 0), "symmetries": 1, "validation_patches": 2}
    sizes = {"patch_size": 16, "batch_size": 1, "epochs": 1, "steps_per_epoch": 5}
    config = jd.TrainConfig(network=network, **sizes, **decided)
    monkeypatch.setattr(demonstration, "CONFIG", config)
    monkeypatch.setattr(demonstration, "FRAMES", 2)
    monkeypatch.setattr(demonstration, "SIDE", 64)
    monkeypatch.setattr(demonstration, "SIGMAS", (1.0, 2.0))
    with contextlib.chdir(tmp_path):
        assert demonstration._in_free_folder(DemoRequest()).output == Path("demo")
    (tmp_path / "demo").mkdir()
    code, out, _ = run(tmp_path, "demo", "--json")
    assert code == 0
    demo = tmp_path / "demo-2"  # the next free name
    assert files_in(demo) == [
        "comparison.png",
        "deconvolved.tif",
        "denoised.tif",
        "ground_truth.tif",
        "noisy.tif",
        "report.html",
    ]
    result = json.loads(out)
    assert (result["frames"], result["shape"]) == (2, [64, 64])
    scores = result["methods"]
    assert scores["raw"]["psnr"] == pytest.approx(23, abs=0.5)
    truth, noisy = (tifffile.imread(demo / f"{name}.tif") for name in ("ground_truth", "noisy"))
    blurred = [cv2.GaussianBlur(frame, (5, 5), 0) for frame in noisy]
    clean, data_range = np.squeeze(truth), truth.max() - truth.min()
    expected = [peak_signal_noise_ratio(clean, frame, data_range=data_range) for frame in blurred]
    assert scores["Gaussian 5x5"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert cv2.imread(str(demo / "comparison.png")).std() > 0
    code, _, err = run(tmp_path, "demo", "-o", "demo-2")
    assert code == 2
    assert "the file exists; --overwrite replaces it" in err
    again = ["demo", "-o", "demo-2", "--overwrite", "--quiet", "--no-report"]
    code, out, _ = run(tmp_path, *again)
    assert code == 0
    assert all(f"│ {name} " in out for name in ("instant", "best", "median 3x3"))
    assert out.splitlines()[-1].endswith("pictures and TIFFs are in demo-2")


@pytest.mark.slow
def test_the_demo_is_won_by_the_network(run, tmp_path):
    code, out, _ = run(tmp_path, "demo", "--json")
    assert code == 0
    scores = json.loads(out)["methods"]
    best, instant = scores.pop("best"), scores.pop("instant")
    assert min(best["psnr"], instant["psnr"]) > max(row["psnr"] for row in scores.values())
    assert best["ssim"] > max(row["ssim"] for row in scores.values())


@pytest.mark.benchmark
def test_the_demo_takes_two_minutes_at_most(run, tmp_path):
    began = time.monotonic()
    assert run(tmp_path, "demo")[0] == 0
    assert time.monotonic() - began < 120


# --- real files
# --------------------------------------------------------------------------------------------------

REAL = [
    ("volume/cho_nuclei_tzyx.tif", "TZYX"),
    ("convallaria/20190520_tl_25um_50msec_05pc_488_130EM_Conv0000.tif", "YX"),
    ("livecell/A172_Phase_A7_1_00d00h00m_1.tif", "YX"),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(("name", "axes"), REAL, ids=lambda value: Path(value).name[:8])
def test_real_files_keep_what_they_say(run, tmp_path, small, name, axes):
    words = ["denoise", DATA / name, "-o", tmp_path, "--quiet", "--no-report", "--dtype", "same"]
    assert run(tmp_path, *words, *small)[0] == 0
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
