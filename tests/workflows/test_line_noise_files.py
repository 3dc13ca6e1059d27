"""Structured noise in files: taken out before all else, said, kept on demand."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from jaxdenoise import workflows
from jaxdenoise.io import images
from jaxdenoise.workflows import DenoiseRequest, FilterRequest, Reporter, Silent, Training
from jaxdenoise.workflows.partition import parts_alone
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import SILENT

SIDE, FRAMES = 96, 4


class Heard(Silent):
    """A reporter that keeps the lines."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def clean_scene():
    """Cells that move along x, in photons."""
    rng, (y, x) = np.random.default_rng(10), np.mgrid[:SIDE, :SIDE]
    light = np.zeros((SIDE, SIDE))
    for _ in range(10):
        cy, cx, radius = *rng.uniform(0, SIDE, 2), rng.uniform(3, 9)
        light += rng.uniform(0.2, 0.8) * ((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    light = ndimage.gaussian_filter(light, 1.2)
    return np.stack([np.roll(light / light.max(), 3 * n, 1) for n in range(FRAMES)])


CLEAN = clean_scene()


def camera(clean, seed=1):
    """Grey levels at 20 photons, and what they would be without noise."""
    rng = np.random.default_rng(seed)
    return rng.poisson(20 * clean) * 4 + rng.normal(100, 4, clean.shape), 80 * clean + 100


def spoilt(kind):
    """A movie with and without a structured noise as strong as the shot noise, and the truth."""
    drawn = np.random.default_rng(2).normal(0, 15, (FRAMES, SIDE))
    drawn -= drawn.mean(axis=1, keepdims=True)  # the mean of each frame is kept
    noisy, truth = camera(CLEAN)
    if kind == "rows":
        return noisy + drawn[:, :, None], noisy, truth
    if kind == "columns":
        return noisy + drawn[:1, None, :], noisy, truth
    comb = CLEAN.copy()
    comb[:, 1::2] = np.roll(CLEAN[:, 1::2], 2, axis=2)
    return camera(comb)[0], noisy, truth


def stored(frames):
    return np.clip(np.rint(frames), 0, 65535).astype(np.uint16)


def write(path, frames, axes="TYX"):
    tifffile.imwrite(path, stored(frames), imagej=True, metadata={"axes": axes})
    return path


def filtered(path, output, reporter: Reporter = SILENT, **options):
    request = FilterRequest(inputs=[path], output=output, sigma="auto", **options)
    return workflows.filter_files(request, reporter)


def instant(path, output, reporter: Reporter = SILENT, **options):
    options = {"training": Training(symmetries=1), "report": False} | options
    request = DenoiseRequest(inputs=[path], output=output, instant=True, **options)
    return workflows.denoise(request, reporter)


def error(path, truth):
    return float(np.sqrt(np.mean((tifffile.imread(path) - truth) ** 2)))


@pytest.mark.parametrize(
    "kind", ["rows", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("columns", "scan"))]
)
def test_a_result_is_as_good_as_without_the_structured_noise(tmp_path, kind):
    noisy, plain, truth = spoilt(kind)
    both = [write(tmp_path / f"{name}.tif", one) for name, one in (("a", noisy), ("b", plain))]
    heard = Heard()
    mine, best = (filtered(one, tmp_path / "filtered", heard).outputs[0] for one in both)
    assert error(mine, truth) < 1.15 * error(best, truth)
    said = {"rows": "each row, ", "columns": "the same in all frames, ", "scan": "2.0 pixels"}[kind]
    assert [said in line for line in heard.lines if "noise:" in line or "scan:" in line] == [True]


@pytest.mark.slow  # compiles the shipped network
@pytest.mark.parametrize(
    "kind", ["rows", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("columns", "scan"))]
)
def test_so_is_that_of_the_shipped_network(tmp_path, kind):
    noisy, plain, truth = spoilt(kind)
    both = [write(tmp_path / f"{name}.tif", one) for name, one in (("a", noisy), ("b", plain))]
    mine, best = (instant(one, tmp_path / "instant").outputs["denoised"][0] for one in both)
    assert error(mine, truth) < 1.15 * error(best, truth)


@pytest.mark.slow  # compiles the shipped network
def test_it_is_said_in_the_results(tmp_path):
    path, heard = write(tmp_path / "in.tif", spoilt("rows")[0]), Heard()
    result = instant(path, tmp_path / "out", heard, report=True)
    (line,) = result.to_dict()["verdicts"][0]["line_noise"]
    assert "an offset of each row" in line
    assert f"{path}: {line}" in heard.lines
    assert "an offset of each row" in result.reports[""].read_text(encoding="utf-8")


def test_it_is_kept_on_demand(tmp_path):
    path, heard = write(tmp_path / "in.tif", spoilt("rows")[0]), Heard()
    (row,) = filtered(path, tmp_path / "out", heard).to_dict()
    assert f"{path}: {row['line_noise'][0]}" in heard.lines
    (row,) = filtered(path, tmp_path / "kept", line_noise="keep").to_dict()
    assert row["line_noise"] == []
    assert Part(path, 0, images.open_image(path), line_noise="keep").lines is None


def test_the_published_procedure_changes_no_pixel():
    request = DenoiseRequest(inputs=["a.tif"], output="out", training=Training(preset="paper"))
    assert request.line_noise == "keep"
    with pytest.raises(ValueError, match="line_noise"):
        FilterRequest(inputs=["a.tif"], output="out", line_noise="remove")


def test_channels_are_looked_at_alone(tmp_path):
    noisy, plain, _ = spoilt("rows")
    path = write(tmp_path / "in.tif", np.stack([plain, noisy], axis=1), "TCYX")
    (row,) = filtered(path, tmp_path / "out").to_dict()
    assert [line.split(":")[0] for line in row["line_noise"]] == ["channel 1"]
    first, second = parts_alone([path], [images.open_image(path)]).values()
    assert first[0].lines is None
    everything = slice(None), slice(None)
    np.testing.assert_array_equal(first[0].frames[1, *everything], stored(plain)[1])
    assert len(second[0].line_evidence) == 1


@pytest.mark.slow  # compiles the shipped network
def test_odd_frames_and_padding_come_out_as_they_went_in(tmp_path):
    noisy = stored(spoilt("rows")[0])
    noisy[1] = 7
    noisy[:, :, :9] = 0
    path = write(tmp_path / "in.tif", noisy)
    result = instant(path, tmp_path / "out")
    denoised = tifffile.imread(result.outputs["denoised"][0])
    assert len(result.verdicts[0].line_noise) == 1
    np.testing.assert_array_equal(denoised[1], noisy[1])
    np.testing.assert_array_equal(denoised[:, :, :9], noisy[:, :, :9])


def test_the_parts_of_a_frame_are_read_without_it(tmp_path):
    noisy, plain, _ = spoilt("rows")
    part = Part("", 0, images.open_image(write(tmp_path / "in.tif", noisy)))
    whole = part.frames[2, slice(None), slice(None)]
    np.testing.assert_array_equal(part.frames[2, slice(9, 70), slice(5, 50)], whole[9:70, 5:50])
    assert np.std((whole - plain[2]).mean(axis=1)) < 1
    some = part.of_frames([2, 0])
    np.testing.assert_array_equal(some.frames[0, slice(None), slice(None)], whole)
    expected = Part("", 0, images.open_image(write(tmp_path / "plain.tif", plain)))
    np.testing.assert_allclose(part.survey.noise, expected.survey.noise, rtol=0.05)
    comb = Part("", 0, images.open_image(write(tmp_path / "comb.tif", spoilt("scan")[0])))
    whole = comb.frames[1, slice(None), slice(None)]
    np.testing.assert_array_equal(comb.frames[1, slice(3, 9), slice(90, 96)], whole[3:9, 90:])
