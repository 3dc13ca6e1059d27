"""Batches: what inputs stand for, what fails alone, and what a killed batch goes on with."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from jaxdenoise import workflows
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.workflows import batches
from jaxdenoise.workflows.inputs import expand
from jaxdenoise.workflows.reporter import SILENT

TYX = {"axes": "TYX"}
KINDS = ("denoised", "deconvolved")


@pytest.fixture
def tree(tmp_path, shared):
    """Nested folders with images of several types and sizes, a broken one, and no image."""
    noisy = tifffile.imread(shared.noisy)
    data = tmp_path / "data"
    (data / "day 1" / "cells").mkdir(parents=True)
    (data / "day 2").mkdir()
    shutil.copy(shared.noisy, data / "a.tif")
    tifffile.imwrite(data / "day 1" / "a.tif", noisy[0, :40, :50])
    tifffile.imwrite(data / "day 1" / "cells" / "b.ome.tif", noisy[:, :33], ome=True, metadata=TYX)
    tifffile.imwrite(data / "day 1" / "cells" / "[c].tif", noisy[0].astype(np.float32))
    (data / "day 2" / "broken.tif").write_bytes(shared.noisy.read_bytes()[:9000])
    (data / "day 2" / "notes.txt").write_text("no image")
    (data / ".hidden.tif").write_text("of the system")
    return data


def found(*names, output="out", recursive=False):
    batch = expand(names, Path(output), recursive=recursive, kinds=KINDS, reporter=SILENT)
    return [(one.path, str(one.folder), one.stem) for one in batch.inputs]


def test_folders_and_patterns_stand_for_the_images_in_them(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found("data") == [("data/a.tif", ".", "a")]
    everything = [
        ("data/a.tif", ".", "a"),
        ("data/day 1/a.tif", "day 1", "a"),
        ("data/day 1/cells/[c].tif", "day 1/cells", "[c]"),
        ("data/day 1/cells/b.ome.tif", "day 1/cells", "b"),
        ("data/day 2/broken.tif", "day 2", "broken"),
    ]
    assert found("data", recursive=True) == everything
    assert sorted(found("data/**/*.tif")) == sorted(everything)
    assert found("data/day*/a.tif") == [("data/day 1/a.tif", ".", "a")]
    # A name that is there is no pattern; a file that is named twice is one.
    odd = "data/day 1/cells/[c].tif"
    assert found(odd, "data/day 1/cells/../cells/[c].tif") == [(odd, ".", "[c]")]
    # Of several folders each is mirrored below its own name.
    assert found("data/day 1", "data/day 2")[0] == ("data/day 1/a.tif", "day 1", "a")


def test_what_stands_for_no_image_says_so(tree, tmp_path):
    with pytest.raises(ImageError, match=r"holds no image of a known kind.*recursive=True"):
        found(str(tmp_path))
    with pytest.raises(ImageError, match="no file has such a name"):
        found(str(tree / "*.png"))
    with pytest.raises(RequestError, match="address in the web; download"):
        found("https://example.org/a.tif")


def test_no_two_images_write_one_file(tmp_path):
    for name in ("a.tif", "a.png", "A.ome.tif", "b.tif"):
        (tmp_path / name).touch()
    stems = {one[0].rsplit("/")[-1]: one[2] for one in found(str(tmp_path))}
    assert stems == {"a.tif": "a_tif", "a.png": "a_png", "A.ome.tif": "A_ome_tif", "b.tif": "b"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.tif").touch()
    with pytest.raises(ImageError, match=r"would both become .*b_"):
        found(str(tmp_path / "b.tif"), str(tmp_path / "other" / "b.tif"))


def test_results_and_their_folder_are_no_inputs(tmp_path):
    for name in ("a.tif", "a_denoised.tif", "b_denoised.tif"):
        (tmp_path / name).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.tif").touch()
    names = [one[0].rsplit("/")[-1] for one in found(str(tmp_path), output=tmp_path)]
    assert names == ["a.tif", "b_denoised.tif"]
    nested = found(str(tmp_path), output=tmp_path / "out", recursive=True)
    assert [one[0].rsplit("/")[-1] for one in nested] == [
        "a.tif",
        "a_denoised.tif",
        "b_denoised.tif",
    ]


def run(tree, output, reporter=SILENT, **options):
    options = {"recursive": True, "report": False, "dtype": "float32", **options}
    request = workflows.DenoiseRequest(inputs=[tree], output=output, **options)
    return workflows.denoise(request, reporter)


def test_one_failure_does_not_end_a_batch(tree, shared, tmp_path, recorder):
    hears = recorder()
    result = run(tree, tmp_path / "out", hears, model=shared.run)
    assert [row.status for row in result.files] == ["done"] * 4 + ["failed"]
    (failed,) = result.failed
    assert failed.file == str(tree / "day 2" / "broken.tif")
    assert "cut short" in failed.error
    assert any("[5/5]" in line and "failed: the file is cut short" in line for line in hears.said)
    assert hears.said[-1].startswith("5 files: 4 done, 0 skipped, 1 failed")
    assert "left out, as no images to denoise: 1 of .txt" in hears.said
    out = tmp_path / "out"
    assert (out / "day 1" / "cells" / "b_denoised.ome.tif").exists()
    assert len(list(out.rglob("*_denoised*.tif"))) == 4
    rows = json.loads(json.dumps(result.to_dict()))["files"]
    assert rows[1]["outputs"]["denoised"] == str(out / "day 1" / "a_denoised.tif")
    # Each as if it were alone.
    request = workflows.DenoiseRequest(
        inputs=[tree / "day 1" / "a.tif"],
        output=tmp_path / "alone",
        model=shared.run,
        report=False,
        dtype="float32",
    )
    workflows.denoise(request)
    for kind in KINDS:
        alone = (tmp_path / "alone" / f"a_{kind}.tif").read_bytes()
        assert (out / "day 1" / f"a_{kind}.tif").read_bytes() == alone


def test_a_batch_goes_on_with_what_is_missing(tree, shared, tmp_path, recorder, monkeypatch):
    out = tmp_path / "out"
    first = run(tree, out, model=shared.run)
    with pytest.raises(ImageError, match="the file exists"):
        run(tree, out, model=shared.run)
    (out / "a_deconvolved.tif").unlink()  # as if killed between two files
    whole = {path: path.stat().st_mtime_ns for path in out.rglob("*.tif")}
    done = []
    inner = batches.denoise_file

    def noted(request, *args, **options):
        done.append(request.inputs[0])
        return inner(request, *args, **options)

    monkeypatch.setattr(batches, "denoise_file", noted)
    again = run(tree, out, model=shared.run, skip_existing=True)
    assert done == [str(tree / "a.tif"), str(tree / "day 2" / "broken.tif")]
    assert [row.status for row in again.files] == ["done", *["skipped"] * 3, "failed"]
    assert [row.verdict for row in again.files] == [row.verdict for row in first.files]
    for path, moment in whole.items():
        assert (path.stat().st_mtime_ns == moment) == (path != out / "a_denoised.tif")


@pytest.mark.parametrize(
    "train_on", ["all", "first", pytest.param("each", marks=pytest.mark.slow), "files"]
)
def test_what_is_trained_on(tree, shared, training_of, tmp_path, recorder, train_on):
    hears = recorder()
    named = [tree / "day 1" / "cells" / "*.tif"] if train_on == "files" else train_on
    training = training_of(epochs=1)
    result = run(tree, tmp_path / "out", hears, training=training, train_on=named)
    assert [row.status for row in result.files] == ["done"] * 4 + ["failed"]
    assert len(hears.begun) == (4 if train_on == "each" else 1)
    assert ("training on 4 files together" in " ".join(hears.said)) == (train_on == "all")
    assert ("training on 2 files together" in " ".join(hears.said)) == (train_on == "files")
    if train_on in ("first", "each"):
        # The first file is denoised as if it were alone.
        options = {"training": training, "report": False, "dtype": "float32"}
        request = workflows.DenoiseRequest(
            inputs=[tree / "a.tif"], output=tmp_path / "alone", **options
        )
        workflows.denoise(request)
        alone = (tmp_path / "alone" / "a_denoised.tif").read_bytes()
        assert (tmp_path / "out" / "a_denoised.tif").read_bytes() == alone


def test_a_shared_training_goes_on_to_the_same_bits(tree, training_of, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    training = training_of(epochs=1)
    run(tree, whole, training=training)
    run(tree, out, training=training)
    missing = out / "day 1" / "a_denoised.tif"
    missing.unlink()
    run(tree, out, training=training, skip_existing=True)
    assert missing.read_bytes() == (whole / "day 1" / "a_denoised.tif").read_bytes()


def test_a_cancelled_batch_says_what_is_whole(tree, training_of, tmp_path, recorder):
    hears = recorder(cancel_after=2)
    with pytest.raises(workflows.Cancelled, match=r"1 of 5 files are whole.*skip_existing=True"):
        run(tree, tmp_path, hears, training=training_of(epochs=1), train_on="each")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instant": True, "train_on": "first"}, "instant=True takes no train_on"),
        ({"train_on": "each", "save_model": "run"}, "keeps one training"),
        ({"skip_existing": True, "overwrite": True}, "leave one out"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(RequestError, match=message):
        workflows.DenoiseRequest(inputs=["a.tif"], output="out", **options)
