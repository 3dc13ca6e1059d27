import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile

import jaxdenoise as jd
from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.runs.layout import HISTORY_COLUMNS
from jaxdenoise.system import crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import (
    DenoiseRequest,
    Training,
    applying,
    batches,
    denoising,
    making,
    reports,
    stacks,
)
from jaxdenoise.workflows.parts import Part

KINDS = ("deconvolved", "denoised")


def denoise(shared, output, *, reporter=None, **options):
    options = {"inputs": [shared.noisy], "report": False, **options}
    request = DenoiseRequest(output=output, **options)
    return workflows.denoise(request, *([] if reporter is None else [reporter]))


def test_both_results_are_written_like_the_input(shared, training_of, tmp_path, recorder):
    hears = recorder()
    inputs = [shared.noisy, shared.second]
    result = denoise(
        shared, tmp_path, inputs=inputs, training=training_of(), reporter=hears, report=True
    )
    assert {kind: [path.name for path in paths] for kind, paths in result.outputs.items()} == {
        kind: [f"{stem}_{kind}.tif" for stem in ("noisy", "second")] for kind in reversed(KINDS)
    }
    original, written = jd.read(shared.noisy), jd.read(tmp_path / "noisy_denoised.tif")
    assert written.info == original.info
    assert written.info.pixel_size_um == (0.1, 0.1)
    assert written.info.frame_interval == 0.5
    assert written.frames.std() > 0
    assert [row["epoch"] for row in hears.rows] == [1, 2]
    assert hears.tiles[-2:] == [("second_denoised.tif", 3, 3), ("files", 2, 2)]
    said, together, assumed, *lines, wrote, end = hears.said
    assert assumed.startswith("PSF: sigma 1.0 pixels is assumed")
    assert wrote == f"wrote {tmp_path / 'index.html'}"
    assert said.startswith("estimate: about ")
    assert together.startswith("training on 2 files together")
    for number, (path, line) in enumerate(zip(inputs, lines, strict=True)):
        assert line.startswith(f"[{number + 1}/2] {path}: ")
        assert f"wrote {tmp_path / path.stem}_denoised.tif and 1 more; verdict: " in line
        assert line.endswith(f"see {tmp_path / path.stem}_report.html")
    assert end == "2 files: 2 done, 0 skipped, 0 failed; verdicts: do not rely on it: 2"
    assert "0.1" in result.reports[""].read_text()  # the pixel size
    (model,) = result.to_dict()["models"]
    assert model["channel"] is None
    assert model["report"] == str(tmp_path / "noisy_report.html")
    assert model["choice"] is None
    verdicts = result.to_dict()["verdicts"]
    assert [one["file"] for one in verdicts] == list(map(str, inputs))
    assert all(one["frames"] == 3 for one in verdicts)


def test_a_result_that_fails_is_made_again_without_automatic_choices(
    shared, training_of, tmp_path, recorder, monkeypatch
):
    # As if a choice had been made: these images give no reason for one.
    monkeypatch.setattr(making, "_has_chosen", lambda asked, settings: asked.blind == "auto")
    hears = recorder()
    training = training_of(blind="auto")
    result = denoise(shared, tmp_path, training=training, reporter=hears, dtype="float32")
    assert [judged.verdict.to_dict()["level"] for judged in result.verdicts] == ["stop"]
    assert sum("again without automatic choices" in line for line in hears.said) == 1
    assert len(hears.begun) == 2
    assert hears.begun[0][0].blind == "auto"
    assert hears.begun[1][0].blind == (0, 0)
    frames = jd.read(shared.noisy).frames
    written = tifffile.imread(tmp_path / "noisy_denoised.tif")
    np.testing.assert_array_equal(written, jd.denoise(jd.load(shared.run), frames).denoised)


def test_a_model_that_is_there_gives_what_python_gives(shared, tmp_path, training_of):
    denoise(shared, tmp_path / "a", model=shared.run, dtype="float32")
    written = tifffile.imread(tmp_path / "a" / "noisy_denoised.tif")
    frames = jd.read(shared.noisy).frames
    np.testing.assert_array_equal(written, jd.denoise(jd.load(shared.run), frames).denoised)
    options = {"model": shared.run, "dtype": "float32", "tile_size": 48}
    denoise(shared, tmp_path / "b", **options)
    tiled = tifffile.imread(tmp_path / "b" / "noisy_denoised.tif")
    np.testing.assert_allclose(tiled, written, atol=1e-3)
    # The same, trained anew and kept.
    run = tmp_path / "run"
    options = {"training": training_of(), "save_model": run, "dtype": "float32"}
    denoise(shared, tmp_path / "c", **options)
    trained = tifffile.imread(tmp_path / "c" / "noisy_denoised.tif")
    np.testing.assert_array_equal(trained, written)
    with pytest.raises(RequestError, match="run: holds a run already; overwrite=True replaces it"):
        denoise(shared, tmp_path / "d", **options)


def test_nothing_is_written_where_something_is_wrong(shared, training_of, tmp_path):
    with pytest.raises(ValueError, match="tile size 8 leaves nothing"):
        denoise(shared, tmp_path / "out", training=training_of(), tile_size=8)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "noisy_report.html").touch()
    with pytest.raises(RequestError, match="the file exists; overwrite=True replaces it, report="):
        denoise(shared, tmp_path / "there", report=True)
    with pytest.raises(RequestError, match="devices=99: there are"):
        denoise(shared, tmp_path / "out", devices=99)
    training = training_of(optics=workflows.Optics(na=1.2, emission=0.5))
    with pytest.raises(RequestError, match="does not say its pixel size; give it with pixel_size="):
        denoise(shared, tmp_path / "out", inputs=[shared.second], training=training, tile_size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_several_processes_write_omezarr_only(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "ALONE", crew.Crew(0, 2))
    with pytest.raises(RequestError, match='OME-Zarr only: say format="zarr"'):
        denoise(shared, tmp_path / "out", model=shared.run)


@pytest.mark.slow
def test_channels_apart(shared, training_of, tmp_path):
    noisy = tifffile.imread(shared.noisy)
    brighter = np.clip(1000 + 7 * noisy.astype(int), 0, 65535).astype(np.uint16)
    both = np.stack([noisy, brighter], axis=1)
    path = tmp_path / "both.tif"
    tifffile.imwrite(path, both, imagej=True, metadata={"axes": "TCYX"})
    run, separate = tmp_path / "run", {"inputs": [path], "channels": "separate"}
    options = {"training": training_of(), "save_model": run, **separate}
    result = denoise(shared, tmp_path / "out", report=True, **options)
    written = jd.read(tmp_path / "out" / "both_denoised.tif")
    assert written.info == jd.read(path).info
    denoise(shared, tmp_path / "alone", model=shared.run)
    alone = jd.read(tmp_path / "alone" / "noisy_denoised.tif").frames
    np.testing.assert_array_equal(written.frames[::2], alone)
    assert abs(written.frames[1::2].mean() / both[:, 1].mean() - 1) < 0.3
    page = tmp_path / "out" / "both_report.html"
    assert result.reports == {f"channel-{n}": page for n in (0, 1)}
    text = page.read_text(encoding="utf-8")
    assert "2 channels" in text
    assert "Channel 1: " in text
    denoise(shared, tmp_path / "again", model=run, **separate)
    again = jd.read(tmp_path / "again" / "both_denoised.tif").frames
    np.testing.assert_array_equal(again, written.frames)
    with pytest.raises(RequestError, match="needs a C axis"):
        denoise(shared, tmp_path / "none", model=shared.run, channels="separate")
    three = tmp_path / "three.tif"
    tifffile.imwrite(three, both[:, [0, 1, 1]].copy(), imagej=True, metadata={"axes": "TCYX"})
    with pytest.raises(RequestError, match="differ in their number of channels"):
        denoise(shared, tmp_path / "none", channels="separate", inputs=[path, three])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_omezarr_in_and_out(shared, tmp_path, zarr_format):
    noisy = jd.read(shared.noisy)
    metadata = {"zarr_format": zarr_format, "PhysicalSizeX": "0.1"}
    info = ImageInfo("TYX", noisy.info.shape, noisy.info.dtype, "omezarr", metadata=metadata)
    jd.write(tmp_path / "noisy.ome.zarr", noisy.frames, info)
    inputs = [tmp_path / "noisy.ome.zarr"]
    denoise(shared, tmp_path / "tiff", model=shared.run)
    denoise(shared, tmp_path / "zarr", model=shared.run, inputs=inputs)
    assert sorted(path.name for path in (tmp_path / "zarr").iterdir()) == [
        f"noisy_{kind}.ome.zarr" for kind in KINDS
    ]
    written = tmp_path / "zarr" / "noisy_denoised.ome.zarr"
    assert (written / "zarr.json").exists() == (zarr_format == 3)
    expected = jd.read(tmp_path / "tiff" / "noisy_denoised.tif")
    result = jd.read(written)
    np.testing.assert_array_equal(result.frames, expected.frames)
    assert float(result.info.metadata["PhysicalSizeX"]) == 0.1
    with pytest.raises(ValueError, match=r"is a directory|exists"):
        denoise(shared, tmp_path / "zarr", model=shared.run, inputs=inputs)
    denoise(shared, tmp_path / "zarr", model=shared.run, inputs=inputs, overwrite=True)


def test_large_files_are_learned_from_in_part(shared, monkeypatch, recorder):
    monkeypatch.setattr(stacks, "PIXELS", 48 * 56 * 2)
    hears = recorder()
    part = Part(shared.noisy, 0, images.open_image(shared.noisy))
    stack = stacks.stack_of([part], seed=0, reach=0, reporter=hears)
    assert stack.frames.shape == (2, 48, 56)
    assert hears.said == ["learning from 2 random places of 48 x 56 pixels, 66.7% of all"]


def test_reports_on_large_files_read_what_was_written(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(applying, "KEPT", 0)
    result = denoise(shared, tmp_path, model=shared.run, report=True)
    assert jd.read(tmp_path / "noisy_denoised.tif").frames.shape == (3, 48, 56)
    assert result.reports[""].exists()


def test_reports_on_large_files_show_the_mean_of_an_ensemble(
    shared, make_denoiser, tmp_path, monkeypatch
):
    members = [make_denoiser(depth=2, seed=seed) for seed in range(2)]
    history = {name: np.ones(1) for name in HISTORY_COLUMNS}
    for name, member in zip(("", "member-2"), members, strict=True):
        jd.save(tmp_path / "run" / name, dataclasses.replace(member, history=history))
    shown = []
    monkeypatch.setattr(reports, "write_html", lambda path, one: shown.append(one))
    monkeypatch.setattr(applying, "KEPT", 0)
    denoise(shared, tmp_path / "out", model=tmp_path / "run", report=True, dtype="float32")
    for name in ("denoised", "deconvolved"):
        mean = tifffile.imread(tmp_path / "out" / f"noisy_{name}.tif")[[0, 2]]
        found = getattr(shown[0].channels[0], name)
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-2)


def test_the_mean_of_an_ensemble_is_written(shared, training_of, tmp_path):
    options = {"training": training_of(members=2), "dtype": "float32"}
    result = denoise(shared, tmp_path / "a", save_model=tmp_path / "run", **options)
    denoise(shared, tmp_path / "b", model=tmp_path / "run", dtype="float32")
    frames = jd.read(shared.noisy).frames
    expected = jd.denoise_ensemble(result.models[""].models.members, frames)
    for folder in ("a", "b"):
        mean = tifffile.imread(tmp_path / folder / "noisy_denoised.tif")
        np.testing.assert_array_equal(mean, expected.denoised)
        apart = tifffile.imread(tmp_path / folder / "noisy_disagreement.tif")
        np.testing.assert_array_equal(apart, expected.disagreement)


def test_an_instant_result_needs_no_training(shared, tmp_path):
    options = {"training": Training(symmetries=1), "instant": True, "dtype": "float32"}
    denoise(shared, tmp_path / "a", **options)
    frames = jd.read(shared.noisy).frames
    model = jd.instant(frames, config=Training(symmetries=1).config())
    result = jd.denoise(model, frames).denoised
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a" / "noisy_denoised.tif"), result)
    denoise(shared, tmp_path / "b", noise=500, **options)
    assert tifffile.imread(tmp_path / "b" / "noisy_denoised.tif").std() < result.std()


@pytest.mark.slow
def test_pretrained_weights_are_shown_beside_random_ones(shared, tmp_path, recorder):
    fast = Training(init="pretrained", epochs=1, patch_size=16, symmetries=1)
    hears = recorder()
    denoise(shared, tmp_path / "out", training=fast, reporter=hears)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "noisy_deconvolved.tif",
        "noisy_denoised.tif",
        "noisy_random_start.tif",
    ]
    a, b = (
        tifffile.imread(tmp_path / "out" / f"noisy_{name}.tif").astype(float)
        for name in ("denoised", "random_start")
    )
    assert np.abs(a - b).max() > 1


def test_another_model_from_random_weights_is_compared(shared, tmp_path, recorder, monkeypatch):
    """As after pretrained weights, but with two models that are there already."""
    trained = shared.result.trained[""]
    # Channels in another order: the light is kept, but the image is another one.
    member = trained.models.members[0]
    mixed = jax.tree.map(lambda leaf: np.asarray(leaf)[..., ::-1], member.params)
    other = dataclasses.replace(member, **{member.config.weights: mixed})
    models = trained.models._replace(random_start=other)
    monkeypatch.setattr(denoising, "model_names", lambda request: ["", "random-start"])
    monkeypatch.setattr(batches, "model_names", denoising.model_names)
    both = trained._replace(models=models)
    monkeypatch.setattr(making.Maker, "trained", lambda *_: both)
    hears = recorder()
    result = denoise(shared, tmp_path, reporter=hears, dtype="float32")
    (judged,) = result.verdicts
    assert judged.verdict.checks["invention"] == {"passed": 0, "failed": 3, "not applicable": 0}
    paths = [result.outputs[name][0] for name in ("denoised", "random_start")]
    a, b = (tifffile.imread(path).astype(float) for path in paths)
    assert np.abs(a - b).max() > 1


def test_a_path_is_text_or_path(shared, tmp_path):
    result = denoise(
        shared, str(tmp_path), inputs=str(shared.noisy), model=str(shared.run), report=False
    )
    assert result.outputs["denoised"] == [Path(tmp_path) / "noisy_denoised.tif"]
    assert result.to_dict()["outputs"]["denoised"] == [str(tmp_path / "noisy_denoised.tif")]
