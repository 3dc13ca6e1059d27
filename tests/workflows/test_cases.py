"""Inputs that went wrong, each of a kind, and what is right: small, written here."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from jaxdenoise import workflows
from jaxdenoise.report.findings import HEADLINES, STOP
from jaxdenoise.report.guard import Guard
from jaxdenoise.report.index import read_row
from jaxdenoise.workflows import DenoiseRequest, Training, applying, making
from jaxdenoise.workflows.results import LEVELS


class Heard(list):
    """A reporter that keeps the lines."""

    def training(self, config, *, done=0, total=None):
        raise AssertionError("nothing is trained")

    def predicting(self, name):
        return lambda done, total: None

    def say(self, text):
        self.append(text)

    insist = say

    def cancelled(self):
        return False


def instant(folder, image, **options):
    """Denoise an image with the shipped network; the result as it is in the file, and the lines."""
    tifffile.imwrite(folder / "in.tif", image, photometric="minisblack")
    request = DenoiseRequest(
        inputs=[folder / "in.tif"],
        output=folder / "out",
        instant=True,
        training=Training(symmetries=1),
        report=False,
        overwrite=True,
        **options,
    )
    heard = Heard()
    (path,) = workflows.denoise(request, heard).outputs["denoised"]
    return tifffile.imread(path), heard


def scene(seed, side=64, background=100.0):
    """Spots of some hundred photons, without noise."""
    rng = np.random.default_rng(seed)
    spots = ndimage.gaussian_filter((rng.random((side, side)) > 0.98) * 2000.0, 1.5)
    return spots + background


def good():
    return np.random.default_rng(0).poisson(scene(1)).astype(np.uint16)


def shared_noise():
    """Noise that neighbours share."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 1.0)
    return (scene(2) + 60 * noise / noise.std()).astype(np.float32)


def of_one_grey_level_in_part():
    image = np.repeat(good()[None], 3, axis=0)
    image[1] = 7
    return image


def of_few_photons():
    return np.random.default_rng(0).poisson(scene(3, background=0.02) / 500).astype(np.uint8)


def saturated():
    return np.minimum(good(), 255).astype(np.uint8)


def stripes():
    return (1000 * (np.indices((64, 64))[0] // 2 % 2)).astype(np.float32)


CASES = (good, shared_noise, of_one_grey_level_in_part, of_few_photons, saturated, stripes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("harm", [False, True], ids=["as it is", "made worse"])
def test_the_terminal_says_what_the_report_says(case, harm, tmp_path, monkeypatch):
    """The worst level, and the words: in the last lines, in the row, in the report."""
    if harm:
        judged = Guard.add
        monkeypatch.setattr(
            Guard,
            "add",
            lambda guard, n, rows, columns, noisy, denoised: judged(
                guard, n, rows, columns, noisy, 1.3 * denoised
            ),
        )
    tifffile.imwrite(tmp_path / "in.tif", case(), photometric="minisblack")
    request = DenoiseRequest(
        inputs=[tmp_path / "in.tif"],
        output=tmp_path / "out",
        instant=True,
        training=Training(symmetries=1, neighbours=0),
    )
    heard = Heard()
    (row,) = workflows.denoise(request, heard).files
    (page,) = row.reports
    told = read_row(page, "in.tif")
    level = LEVELS[told.level]
    assert row.level == level
    verdicts = [line for line in heard if line.startswith("verdict: ")]
    assert verdicts == heard[-len(verdicts) :]
    verdicts = [line.removeprefix("verdict: ") for line in verdicts]
    assert f"<h2>{HEADLINES[told.level]}</h2>" in Path(page).read_text(encoding="utf-8")
    words = HEADLINES[told.level].lower()
    assert any(line.startswith(words) for line in verdicts)
    worse = [word.lower() for word in HEADLINES[told.level + 1 :]]
    assert not any(line.startswith(word) for line in verdicts for word in worse)
    if harm:
        assert level == "stop"


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def test_a_smooth_image_is_not_sharpened(tmp_path):
    """A camera image that was interpolated: hardly any noise, and smooth."""
    rng = np.random.default_rng(0)
    sharp = np.zeros((240, 320))
    for y, x, light in zip(*rng.uniform((10, 10, 200), (230, 310, 3000), (60, 3)).T, strict=True):
        sharp[int(y), int(x)] += light
    truth = 100 + 2 * np.pi * 2.5**2 * ndimage.gaussian_filter(sharp, 2.5)
    noisy = ndimage.gaussian_filter(rng.poisson(truth).astype(float), 1.2)
    image = np.round(noisy).astype(np.uint16)
    result, heard = instant(tmp_path, image)
    assert any("noise: taken as independent" in line for line in heard)
    assert rms(result - truth) <= 1.05 * rms(image - truth)
    bright = truth > np.quantile(truth, 0.995)
    assert result[bright].mean() < image[bright].mean() + 3 * np.sqrt(image[bright].mean())


def test_whole_grey_levels_do_not_cost_few_photons_their_light(tmp_path):
    y, x = np.mgrid[:96, :96]
    rate = 0.1 + 0.5 * np.sin(x / 9) ** 2 * np.sin(y / 7) ** 2
    image = np.random.default_rng(0).poisson(rate).astype(np.uint8)
    result, heard = instant(tmp_path, image)
    assert result.dtype == np.float32
    assert any("float32: whole grey levels would" in line for line in heard)
    assert heard[-1].startswith("verdict: ")
    kept, _ = instant(tmp_path, image, dtype="same")
    assert kept.dtype == np.uint8


def test_a_good_image_keeps_its_dtype_and_passes(tmp_path):
    rng = np.random.default_rng(1)
    clean = 200 + 800 * ndimage.gaussian_filter(rng.random((96, 96)) > 0.99, 2.0) * 30
    image = rng.poisson(clean).astype(np.uint16)
    result, heard = instant(tmp_path, image)
    assert result.dtype == np.uint16
    assert heard[-1] == "verdict: no problems found"
    assert rms(result - clean) < 0.6 * rms(image - clean)


def test_lines_of_a_scan_that_do_not_meet_are_named(tmp_path):
    rng = np.random.default_rng(2)
    sharp = np.zeros((96, 96))
    sharp[tuple(rng.integers(0, 96, (2, 60)))] = 1
    clean = ndimage.gaussian_filter(sharp, 1.5) * 1000 + 2
    clean[1::2] = np.roll(clean[1::2], 2, axis=1)
    image = rng.poisson(clean).astype(np.uint16)
    with pytest.warns(UserWarning, match=r"every other line is moved by \+2\.\d pixels along x"):
        instant(tmp_path, image, line_noise="keep")
    _, heard = instant(tmp_path, image)
    assert any("odd lines were 2." in line for line in heard)


@pytest.mark.parametrize("kept", [applying.KEPT, 0])
def test_a_result_that_fails_is_made_again_without_automatic_choices(tmp_path, monkeypatch, kept):
    """Whether the file is kept in memory or written piece by piece."""
    image = np.random.default_rng(3).poisson(50, (64, 64)).astype(np.uint16)
    strides, written, judge = [], [], Guard.verdict

    def failing(guard):
        written.append((tmp_path / "out" / "in_denoised.tif").exists())
        found = judge(guard)
        return dataclasses.replace(found, level=STOP, text="do not rely on it: a test says so")

    def made(stack, *, config, **options):
        strides.append(config.network.stride)
        return instant_model(stack, config=config, **options)

    instant_model = making.instant_model
    monkeypatch.setattr(applying, "KEPT", kept)
    monkeypatch.setattr(Guard, "verdict", failing)
    monkeypatch.setattr(making, "instant_model", made)
    monkeypatch.setattr(making, "_has_chosen", lambda asked, settings: True)
    _, heard = instant(tmp_path, image)
    assert strides == ["auto", 1]
    assert written == [False, False]
    again = [number for number, line in enumerate(heard) if "again without automatic" in line]
    assert len(again) == 2  # when it happens, and among the choices at the end
    assert all(line.startswith("wrote") for line in heard if "in_denoised.tif" in line)
    assert heard[-1] == "verdict: do not rely on it: a test says so"


def test_a_file_that_fails_costs_the_next_one_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{name}.tif" for name in "ab"]
    for path in paths:
        tifffile.imwrite(path, rng.poisson(50, (64, 64)).astype(np.uint16))
    strides, judged, judge, instant_model = [], [], Guard.verdict, making.instant_model

    def failing(guard):
        judged.append(judge(guard))
        if len(judged) == 1:
            return dataclasses.replace(judged[0], level=STOP, text="do not rely on it: a test")
        return judged[-1]

    def made(stack, *, config, **options):
        strides.append(config.network.stride)
        return instant_model(stack, config=config, **options)

    monkeypatch.setattr(Guard, "verdict", failing)
    monkeypatch.setattr(making, "instant_model", made)
    monkeypatch.setattr(making, "_has_chosen", lambda asked, settings: True)
    request = DenoiseRequest(
        inputs=paths, output=tmp_path / "out", instant=True, training=Training(symmetries=1)
    )
    workflows.denoise(request)
    assert strides == ["auto", 1, "auto"]


def test_a_blank_file_or_channel_hinders_no_other(tmp_path, training_of):
    good = np.random.default_rng(4).poisson(50, (64, 64)).astype(np.uint16)
    blank = np.full_like(good, 7)
    paths = [tmp_path / name for name in ("blank.tif", "good.tif", "both.tif")]
    for path, image in zip(paths, (blank, good), strict=False):
        tifffile.imwrite(path, image)
    metadata = {"axes": "CYX", "mode": "composite"}
    tifffile.imwrite(paths[2], np.stack([blank, good]), imagej=True, metadata=metadata)
    options = {"training": Training(symmetries=1), "instant": True}
    with pytest.warns(UserWarning, match=r"blank.tif: frame 1 holds a single grey level"):
        found = workflows.denoise(
            DenoiseRequest(inputs=paths[:2], output=tmp_path / "out", **options)
        )
    np.testing.assert_array_equal(tifffile.imread(found.outputs["denoised"][0]), blank)
    assert found.reports[""].exists()
    assert [one["channel"] for one in found.to_dict()["models"]] == [None]
    with pytest.warns(UserWarning, match=r"both.tif, channel 0: frame 1 holds"):
        found = workflows.denoise(
            DenoiseRequest(inputs=paths[2:], output=tmp_path / "t", training=training_of())
        )
    written = tifffile.imread(found.outputs["denoised"][0])
    np.testing.assert_array_equal(written[0], blank)
    assert written[1].std() > 0
