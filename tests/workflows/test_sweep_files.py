import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.metrics import peak_signal_noise_ratio

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import EvaluateRequest, PsfRequest, SweepRequest, sweeps
from jaxdenoise.workflows.psfs import psfs_of


def request_of(shared, output, training, **options):
    return SweepRequest(inputs=[shared.noisy], output=output, training=training, **options)


def test_the_table_and_the_models_of_a_sweep(shared, training_of, tmp_path):
    options = {"psfs": (1, "none"), "seeds": 2, "reference": shared.truth}
    request = request_of(shared, tmp_path / "swept", training_of(), **options)
    result = workflows.sweep(request)
    table = result.to_dict()
    assert table == json.loads((tmp_path / "swept" / "sweep.json").read_text())
    assert [(row["psf"], row["seed"]) for row in table["candidates"]] == [
        (psf, seed) for psf in (1.0, 0.0) for seed in (0, 1)
    ]
    assert table["chosen"] in (0.0, 1.0)
    truth = tifffile.imread(shared.truth)
    for row in table["candidates"]:
        assert row["score"] > 0 < row["score_se"]
        assert row["seconds"] > 0
        frames = jd.denoise(jd.load(row["run"]), jd.read(shared.noisy).frames).denoised
        scores = [
            peak_signal_noise_ratio(truth, frame, data_range=truth.max() - truth.min())
            for frame in frames
        ]
        assert row["psnr"] == pytest.approx(np.mean(scores), abs=1e-3)
    page = result.report.read_text()
    assert "Several PSFs were tried" in page
    assert "PSNR against the clean image" in page
    with pytest.raises(RequestError, match=r"sweep.json: the file exists; overwrite=True replaces"):
        workflows.sweep(request)


@pytest.mark.slow
def test_halving_keeps_what_was_trained_to_the_end(shared, training_of, tmp_path):
    options = {"halving": True, "report": False}
    request = request_of(shared, tmp_path / "swept", training_of(epochs=6), **options)
    result = workflows.sweep(request)
    kept = [row for row in result.table["candidates"] if "run" in row]
    assert [row["psf"] for row in kept] == [result.table["chosen"]]
    assert kept[0]["epochs"] == 6
    assert kept[0]["psnr"] is None
    assert [row["psf"] for row in result.table["candidates"]] == [0, 0.5, 0.75, 1, 1.25, 1.5, 2]
    assert [path.name for path in (tmp_path / "swept").iterdir() if path.is_dir()] == [
        f"psf-{result.table['chosen']:g}-seed-0"
    ]


def test_each_model_of_a_sweep_has_a_folder_and_a_seed_of_its_own(shared, training_of, tmp_path):
    files = [tmp_path / day / "psf.tif" for day in ("day1", "day2")]
    for file, sigma in zip(files, (0.8, 1.2), strict=True):
        file.parent.mkdir()
        tifffile.imwrite(file, np.asarray(jd.gaussian_psf(sigma, size=9)))
    training = training_of(epochs=1, seed=5)
    request = request_of(
        shared, tmp_path / "out", training, psfs=files, seeds=2, report=False, overwrite=True
    )
    rows = workflows.sweep(request).table["candidates"]
    assert [row["seed"] for row in rows] == [5, 6, 5, 6]
    assert len({row["run"] for row in rows}) == 4
    for row in rows:
        notes = json.loads((Path(row["run"]) / "config.json").read_text())["notes"]
        assert (notes["psf"], notes["seed"]) == (row["psf"], row["seed"])
    # The seed that is noted is the one that draws the weights, as in a training of its own.
    own = workflows.train(
        workflows.TrainRequest(
            inputs=[shared.noisy],
            output=tmp_path / "own",
            training=training_of(epochs=1, seed=6, psf=files[0]),
            report=False,
        )
    )
    swept, trained = jd.load(rows[1]["run"]), own.trained[""].models.members[0]
    first = [model.last["down_convs_0"]["conv1"]["kernel"] for model in (swept, trained)]
    np.testing.assert_allclose(*first, atol=0.02)


def two_channels(folder, shared):
    """A file of two channels, the second of which is the first turned, and their truth."""
    noisy, truth = tifffile.imread(shared.noisy)[0], tifffile.imread(shared.truth)
    for name, frames in (("noisy", noisy), ("truth", np.squeeze(truth))):
        frames = frames if frames.ndim == 2 else frames[0]
        both = np.stack([frames, frames[::-1, ::-1]])
        tifffile.imwrite(folder / f"{name}.ome.tif", both, metadata={"axes": "CYX"})
    return folder / "noisy.ome.tif", folder / "truth.ome.tif"


def test_channels_are_swept_each_by_itself(shared, training_of, tmp_path):
    noisy, truth = two_channels(tmp_path, shared)
    options = {"inputs": [noisy], "psfs": (1, "none"), "training": training_of(epochs=1)}
    request = SweepRequest(**options, output=tmp_path / "out", reference=truth)
    result = workflows.sweep(request)
    assert list(result.channels) == ["channel-0", "channel-1"]
    for name, swept in result.channels.items():
        assert swept.output == tmp_path / "out" / name
        assert swept.table == json.loads((swept.output / "sweep.json").read_text())
        assert swept.report.exists()
        assert all(
            Path(row["run"]).is_relative_to(swept.output) for row in swept.table["candidates"]
        )
    first, second = (one.table for one in result.channels.values())
    assert result.to_dict() == {"channels": {"channel-0": first, "channel-1": second}}
    # A turned image is as noisy as it was, and each is judged by its own truth.
    assert first["noisy_psnr"] == pytest.approx(second["noisy_psnr"], abs=1e-3)
    together = SweepRequest(**options, output=tmp_path / "one", channels="together", report=False)
    assert list(workflows.sweep(together).channels) == [""]
    assert (tmp_path / "one" / "sweep.json").exists()


def test_a_reference_without_channels_judges_no_channels(shared, training_of, tmp_path):
    noisy, _ = two_channels(tmp_path, shared)
    request = SweepRequest(
        inputs=[noisy], output=tmp_path / "out", training=training_of(), reference=shared.truth
    )
    with pytest.raises(RequestError, match=r'channels="separate" needs a C axis'):
        workflows.sweep(request)


def test_labels_of_psfs_differ_on_any_file_system():
    names = ["a/psf.tif", "b/PSF.tif", "psf-2.tif", "1.0000001", "1", "none", "0.tif"]
    labels = sweeps._labels(names)
    assert labels[:2] == ["psf", "PSF-2"]
    assert len({label.casefold() for label in labels}) == len(names)


@pytest.mark.parametrize("names", [("1", "1.0"), ("none", "0"), ("a/p.tif", "b/../a/p.tif")])
def test_a_psf_of_two_names_is_named_twice(names):
    with pytest.raises(RequestError, match=f"{names[1]} is named twice, first as {names[0]}"):
        psfs_of(*names)


def test_psfs_that_cannot_be(tmp_path):
    with pytest.raises(RequestError, match="the PSF 1 is named twice; "):
        psfs_of("1", "0.5", "1")
    with pytest.raises(RequestError, match="sigma 1e\\+06 pixels is too wide"):
        psfs_of(1e6)
    tifffile.imwrite(
        tmp_path / "stack.tif", np.ones((3, 5, 5), np.float32), photometric="minisblack"
    )
    with pytest.raises(RequestError, match=r"stack\.tif: PSF: its 3 planes are equally sharp"):
        psfs_of(tmp_path / "stack.tif")


def test_metrics_against_a_reference(shared):
    request = EvaluateRequest(inputs=[shared.noisy, shared.truth], reference=shared.truth)
    result = workflows.evaluate(request)
    truth, noisy = tifffile.imread(shared.truth), tifffile.imread(shared.noisy).astype(np.float32)
    data_range = truth.max() - truth.min()
    expected = np.mean(
        [peak_signal_noise_ratio(truth, frame, data_range=data_range) for frame in noisy]
    )
    first, second = result.images
    assert first["psnr"] == pytest.approx(expected, abs=1e-3)
    assert first["frames"] == 3
    assert second["psnr"] is None  # infinite
    assert second["ssim"] == pytest.approx(1)
    assert result.mean["psnr"] is None
    wide = EvaluateRequest(
        inputs=[shared.noisy], reference=shared.truth, data_range=2 * float(data_range)
    )
    found = workflows.evaluate(wide).to_dict()
    assert found["mean"]["psnr"] == pytest.approx(expected + 20 * np.log10(2), abs=1e-3)
    other = EvaluateRequest(inputs=[shared.truth], reference=shared.noisy)
    with pytest.raises(RequestError, match="frames must match or be one"):
        workflows.evaluate(other)


def test_a_constant_reference_gives_no_range(shared, tmp_path):
    tifffile.imwrite(tmp_path / "flat.tif", np.full((48, 56), 7, np.uint8))
    with pytest.raises(RequestError, match="is constant"):
        workflows.evaluate(EvaluateRequest(inputs=[shared.noisy], reference=tmp_path / "flat.tif"))


def test_a_psf_from_beads(tmp_path):
    y, x = np.mgrid[:96, :96]
    beads = sum(
        np.exp(-((y - a) ** 2 / 2 / 2.0**2) - (x - b) ** 2 / 2 / 1.5**2)
        for a in (20.3, 50, 76.6)
        for b in (21, 48.4, 75)
    )
    beads = 100 + 1000 * beads + np.random.default_rng(0).normal(size=beads.shape)
    tifffile.imwrite(tmp_path / "beads.tif", beads.round().astype(np.uint16))
    request = PsfRequest(input=tmp_path / "beads.tif", output=tmp_path / "psf.tif")
    facts = workflows.measure_psf(request).to_dict()
    assert facts["beads"] == 9
    np.testing.assert_allclose(facts["sigma"], (2.0, 1.5), rtol=0.03)
    np.testing.assert_allclose(facts["fwhm"], np.multiply(2.3548, (2.0, 1.5)), rtol=0.03)
    assert tifffile.imread(tmp_path / "psf.tif").sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(RequestError, match="the file exists; overwrite=True replaces it"):
        workflows.measure_psf(request)
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, (beads / 6).clip(0, 255).round().astype(np.uint8))
    request = PsfRequest(input=small, output=tmp_path / "psf.tif", overwrite=True)
    assert workflows.measure_psf(request).measured.rejected is not None


def test_what_a_file_says(shared):
    result = workflows.info(workflows.InfoRequest(inputs=[shared.noisy]))
    assert result.to_dict()["files"][0]["pixel_size_um"] == (0.1, 0.1)
    assert result.versions["jaxdenoise"] == jd.__version__
