"""The two scripts on harm: what a row says, and the exit code; nothing is denoised here."""

import guard_rates
import harm_audit
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from jaxdenoise.report.findings import FINE
from jaxdenoise.report.guard import GuardVerdict, judge_frames
from jaxdenoise.system.errors import ImageError

FINE_VERDICT = GuardVerdict(FINE, (), "no problems found", {}, 1)


@pytest.fixture(scope="module")
def spots():
    """Noisy frames (2, 96, 96) of spots, and their truth."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter((rng.uniform(size=(2, 96, 96)) < 0.01) * 1.0, (0, 2, 2))
    truth = (100 + 300 * image / image.max()).astype(np.float32)
    return (truth + rng.normal(0, 10, truth.shape)).astype(np.float32), truth


@pytest.fixture
def folder(tmp_path, spots):
    """A hyperstack (T 2, C 2), a damaged file, and one of no known kind."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    stack = np.stack([spots[0], spots[0]]).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "in" / "deep" / "a.tif", stack, imagej=True, metadata={"axes": "TCYX"}
    )
    (tmp_path / "in" / "bad.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def run(folder, tmp_path, monkeypatch, change, verdict=None):
    """The exit code and the printed table, where `change` stands for denoising."""

    def denoise(path, output, *, epochs):
        noisy = harm_audit.images.read(path).frames
        denoised = change(noisy)
        return noisy, denoised, ["wrote x", "a choice"], verdict or judge_frames(noisy, denoised)

    monkeypatch.setattr(harm_audit, "denoise", denoise)
    return harm_audit.main([str(folder), "--crop", "80", "-o", str(tmp_path / "harm.json")])


def test_harm_that_the_verdict_tells_is_no_failure(folder, tmp_path, monkeypatch, capsys):
    assert run(folder, tmp_path, monkeypatch, lambda noisy: 1.2 * noisy) == 0
    told = capsys.readouterr().out
    assert "4x96x96 (crop 4x80x80)" in told
    assert "mean +20.0%" in told
    assert "do not rely on it" in told
    assert "not denoised: " in told  # the damaged file
    assert "notes.txt" not in told
    assert (tmp_path / "harm.json").exists()


def test_harm_that_nobody_tells_is_a_failure(folder, tmp_path, monkeypatch, capsys):
    assert run(folder, tmp_path, monkeypatch, lambda noisy: 1.2 * noisy, FINE_VERDICT) == 1
    assert "1 harm without a verdict that says so: deep/a.tif" in capsys.readouterr().out


def test_a_good_result_does_no_harm(folder, tmp_path, monkeypatch, capsys):
    smooth = lambda noisy: ndimage.gaussian_filter(noisy, (0, 0.6, 0.6))  # noqa: E731
    assert run(folder, tmp_path, monkeypatch, smooth) == 0
    assert "| no | no problems found |" in capsys.readouterr().out


def test_peaks_grow_in_units_of_their_noise(spots):
    noisy, truth = spots
    assert harm_audit.peak_growth(noisy[0], truth[0]) < 0
    assert harm_audit.peak_growth(noisy[0], 100 + 1.3 * (noisy[0] - 100)) > harm_audit.GROWTH


def test_a_crop_keeps_all_channels(tmp_path, folder):
    target, shape = harm_audit.crop_of(folder / "deep" / "a.tif", tmp_path, side=32, frames=2)
    cropped = harm_audit.images.read(target)
    assert (shape, cropped.frames.shape, cropped.info.axes) == ((4, 96, 96), (2, 32, 32), "TCYX")
    assert cropped.info.shape == (1, 2, 32, 32)
    with pytest.raises(ImageError):
        harm_audit.crop_of(folder / "bad.tif", tmp_path, side=32, frames=2)


def test_rates_count_what_was_judged_wrongly(spots):
    noisy, truth = (stack[0] for stack in spots)
    rates = guard_rates.Rates()
    rates.add("good", "truth", "spots", noisy, truth, (0, 0))
    rates.add("good", "scaled", "spots", noisy, 1.2 * truth, (0, 0))
    rates.add("bad", "scaled", "spots", noisy, 1.2 * truth, (0, 0))
    assert [row[-1] for row in rates.rates().rows] == ["0.0%", "100.0%", "0.0%"]
    assert [error[1] for error in rates.errors] == ["scaled"]


def test_scenes_span_what_they_promise():
    rng = np.random.default_rng(0)
    clean = guard_rates.scene("texture", 1.0, rng, 0.5)
    assert clean.min() == pytest.approx(1 / 3)
    assert clean.max() == pytest.approx(1)
    noisy, truth = guard_rates.camera(clean, 20, "smoothed", rng)
    residual = noisy - truth
    assert np.mean(residual[:, 1:] * residual[:, :-1]) > 0.5 * residual.var()
    sides = [guard_rates.good_or_bad("instant", error, 1.0, 100) for error in (0.5, 1.0, 1.5)]
    assert sides == ["good", None, "bad"]
    assert guard_rates.good_or_bad("sharpened", 2.0, 1.0, 100) == "bad"
