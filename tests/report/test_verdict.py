from types import SimpleNamespace

import numpy as np
import pytest

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.report import diagnostics, limits, result_checks
from jaxdenoise.report.findings import CARE, FINE, NOT_APPLICABLE, STOP
from jaxdenoise.report.guard import judge_frames
from jaxdenoise.report.halves import Halves, compare_halves
from jaxdenoise.report.verdict import HEADLINES, judge

HISTORY = {
    "epoch": np.arange(1, 10),
    "validation_loss": np.array([9, 5, 4, 3, 3, 2, 2, 2, 2]) / 10,
    "chosen": np.ones(9),
}


def denoiser_of(noisy, *, history=HISTORY, psf_sigma=1.0, **config):
    scale = Scale(*(np.float32(v) for v in (100, noisy.mean() - 100, noisy.std())))
    return SimpleNamespace(
        history=history,
        config=settle(TrainConfig(**config)),
        request=lambda: TrainConfig(**config),
        psf=np.asarray(gaussian_psf(psf_sigma)),
        scale=scale,
    )


def verdict_of(noisy, denoised, **options):
    denoiser = denoiser_of(noisy, **options)
    found = diagnostics.examine_input(noisy, background=float(denoiser.scale.background))
    residual = diagnostics.examine_residual(noisy, denoised)
    return judge(found, residual, compare_halves(noisy, denoised), denoiser)


def titles(judgement, level):
    return [finding.title for finding in judgement.findings if finding.level == level]


@pytest.fixture(scope="module")
def noisy(static, white):
    return static + 20 * white


@pytest.fixture(scope="module")
def correlated(static, white):
    """Noise that neighbours share."""
    return np.asarray(static + 40 * np.asarray(gaussian_filter(white, (0.7, 0.7))))


@pytest.fixture(scope="module")
def measured(noisy, static):
    """What is measured of a good result."""
    found = diagnostics.examine_input(noisy, background=100.0)
    return found, diagnostics.examine_residual(noisy, static)


@pytest.fixture(scope="module")
def judged(noisy, measured):
    """The verdict after changes to what was measured of the input."""
    found, residual = measured

    def judged(**changes):
        return judge(
            found._replace(**changes), residual, Halves(None, None, "no"), denoiser_of(noisy)
        )

    return judged


def test_white_noise_removed_without_a_trace(noisy, static):
    judgement = verdict_of(noisy, static)
    assert judgement.level == FINE
    assert judgement.headline == "No problems found"
    assert len(titles(judgement, FINE)) == len(judgement.findings) == 11
    assert all(finding.text.endswith(".") for finding in judgement.findings)


def test_noise_that_neighbours_share(correlated, static):
    judgement = verdict_of(correlated, static)
    assert judgement.headline == "Do not rely on it"
    assert "Neighbouring pixels share their noise" in titles(judgement, STOP)
    assert "Gaussian filter" in judgement.findings[0].text
    assert "The noise was removed" not in titles(judgement, FINE)  # its power is not known


def test_noise_that_neighbours_share_and_blind_spots_hide(correlated, static):
    judgement = verdict_of(correlated, static, blind=(1, 2))
    assert judgement.headline == "Use with care"
    assert titles(judgement, CARE)[0] == "Neighbouring pixels share their noise"
    assert "3 x 5 pixels" in judgement.findings[0].text


def test_noise_that_neighbours_share_and_other_frames_do_not(correlated, static):
    judgement = verdict_of(correlated, static, targets="repeats")
    texts = {finding.title: finding.text for finding in judgement.findings}
    assert "Neighbouring pixels share their noise" in titles(judgement, CARE)
    assert "other frames of the same scene" in texts["Neighbouring pixels share their noise"]
    assert "The network learned from frames of the same scene" in titles(judgement, FINE)


def test_neighbouring_frames_may_smooth_changes():
    (finding,) = result_checks.neighbours(2)
    assert finding.level == CARE
    assert "together with 4 neighbouring frames" in finding.text
    assert not list(result_checks.neighbours(0))


def test_lost_signal(noisy, static):
    judgement = verdict_of(noisy, np.asarray(gaussian_filter(static, (3.0, 3.0))))
    assert judgement.level == STOP
    assert "More than noise was removed" in titles(judgement, STOP)


def test_noise_that_is_left(noisy, static, white):
    judgement = verdict_of(noisy, static + 10 * white)
    assert titles(judgement, CARE) == ["Noise is left in the result"]
    assert judgement.headline == "Use with care"


def test_changed_brightness(noisy, static):
    assert "The mean brightness changed" in titles(verdict_of(noisy, static + 5), CARE)
    dimmed = static - 30 * (static > 200) + 0.9 * np.mean(30 * (static > 200))
    assert "The brightest pixels are too dim" in titles(verdict_of(noisy, dimmed), CARE)


def test_a_psf_that_is_wider_than_the_detail(static, white):
    title, noisy = "The images hold finer detail than the PSF passes", static + 5 * white
    assert title in titles(verdict_of(noisy, static, psf_sigma=4.0), CARE)
    assert verdict_of(noisy, static).level == FINE


@pytest.mark.parametrize("change", [lambda level: level + 200, lambda level: 3 * level])
def test_a_model_of_other_images(measured, judged, change):
    found = measured[0]
    ends = change(np.array([found.mean - found.std, found.mean + found.std]))
    judgement = judged(mean=float(ends.mean()), std=float(np.ptp(ends) / 2))
    assert "The model was trained on different images" in titles(judgement, CARE)


def test_every_finding_is_told(judged):
    judgement = judged(saturated=0.1, clipped=0.1, identical_frames=((1, 2),), constant_frames=1)
    assert len(titles(judgement, CARE)) == 4


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"saturated": 0.002}, "The camera was saturated"),
        ({"clipped": 0.02}, "Dark pixels were cut off"),
        ({"step": 100.0}, "The grey scale is too coarse"),
        ({"identical_frames": ((1, 2), (1, 3), (2, 4), (5, 6))}, "Frames are repeated"),
        ({"constant_frames": 2}, "Frames are empty"),
        ({"below_background": 0.05}, "The background is too high"),
        ({"pixels": 4096}, "There is little to learn from"),
    ],
)
def test_properties_of_the_input(judged, changes, title):
    judgement = judged(**changes)
    assert titles(judgement, CARE) == [title]
    assert judgement.headline == HEADLINES[CARE]


def test_hot_pixels(noisy, static):
    hot = noisy.copy()
    hot[:, ::48, ::48] += 1000
    assert "Single pixels stand out" in titles(verdict_of(hot, static), CARE)


def history_of(losses, chosen=None):
    losses = np.array(losses, float)
    chosen = np.ones(len(losses)) if chosen is None else np.array(chosen, float)
    return {"epoch": np.arange(1, len(losses) + 1), "validation_loss": losses, "chosen": chosen}


OVERFITTED = history_of([5, 2, 2, 2, 3, 4], [1, 1, 1, 1, 0, 0])
FRESH = {"validation_redraw": True}


@pytest.mark.parametrize(
    ("history", "config", "level", "title"),
    [
        (history_of([5, 4, 3, 2, 1, 0.5]), {}, CARE, "The training was too short"),
        (history_of([5]), {}, CARE, "The training was too short"),
        (history_of([5, 2, 2, 2, 2, 2]), {}, FINE, "The training has converged"),
        (OVERFITTED, {}, FINE, "The training was long enough"),
        (OVERFITTED, {"weights": "last"}, CARE, "The training was too long"),
        (history_of([5, 4, 2, 2, 2.1, 2, 3, 3.1, 3]), FRESH, CARE, "The training was too long"),
        (
            history_of([5, 4, 2, 2, 2.4, 1.8, 2, 2.5, 1.9]),
            FRESH,
            FINE,
            "The training has converged",
        ),
        (history_of([5, 2, 2, 2, 2]), FRESH, FINE, "The training has converged"),
        (history_of([5, np.nan]), {}, STOP, "The training failed"),
        ({}, {}, NOT_APPLICABLE, "The course of a training"),
    ],
)
def test_trainings(history, config, level, title):
    finding = result_checks.training(history, settle(TrainConfig(**config)))
    assert (finding.level, finding.title) == (level, title)


def test_a_failed_training_decides_the_verdict(measured, noisy):
    failed = denoiser_of(noisy, history=history_of([5, np.nan]))
    judgement = judge(*measured, Halves(None, None, "no"), failed)
    assert judgement.headline == "Do not rely on it"
    assert judgement.findings[0].title == "The training failed"


def test_what_an_untrained_model_cannot_be_asked_is_no_passed_check(noisy, static):
    judgement = verdict_of(noisy, static, history={})
    unasked = [finding for finding in judgement.findings if finding.level == NOT_APPLICABLE]
    assert len(unasked) == 3
    assert all("nothing was trained" in finding.text for finding in unasked)
    assert judgement.level == FINE
    assert judgement.findings[-1].level == NOT_APPLICABLE
    assert not any("training" in title.lower() for title in titles(judgement, FINE))


def test_without_a_training_no_blind_spot_hid_a_pixel(correlated, static):
    hidden = verdict_of(correlated, static, history={}, blind=(1, 2))
    strided = verdict_of(correlated, static, history={}, blind=(1, 2), network=UNetConfig(stride=3))
    for judgement in (hidden, strided):
        texts = " ".join(finding.text for finding in judgement.findings)
        assert "hid the" not in texts
        assert "The training" not in texts
    assert hidden.headline == "Do not rely on it"
    texts = {finding.title: finding.text for finding in strided.findings}
    assert "every third row" in texts["Neighbouring pixels share their noise"]


def test_the_verdict_holds_what_the_guard_found(noisy, static, measured):
    options = Halves(None, None, "no"), denoiser_of(noisy)
    good = judge(*measured, *options, judge_frames(noisy, static))
    assert good.level == FINE
    assert "All frames passed the guard" in titles(good, FINE)
    brighter = static.copy()
    brighter[1] = 100 + 1.2 * (static[1] - 100)
    bad = judge(*measured, *options, judge_frames(noisy, brighter))
    assert bad.headline == "Do not rely on it"
    texts = {finding.title: finding.text for finding in bad.findings}
    told = "Frame 2: the mean is 20 % higher than before (6.18 grey levels, limit 0.532)."
    assert texts["The mean of a frame changed"] == told
    assert "The brightest pixels are too bright" in texts
    assert "All frames passed the guard" not in texts


def test_what_no_check_can_rule_out_is_told():
    told = " ".join(f"{name} {text}" for name, text in limits.LIMITS)
    for word in ("noise", "PSF", "background", "deconvolved", "Invented", "Moving"):
        assert word in told
