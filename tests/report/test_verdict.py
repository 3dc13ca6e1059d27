from types import SimpleNamespace

import numpy as np
import pytest

from jaxdenoise.config import TrainConfig
from jaxdenoise.imaging.filters import gaussian_filter
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.report import diagnostics, limits
from jaxdenoise.report.halves import Halves, compare_halves
from jaxdenoise.report.findings import CARE, FINE, STOP
from jaxdenoise.report.verdict import HEADLINES, judge

SHAPE = (3, 192, 192)
HISTORY = {
    "epoch": np.arange(1, 10),
    "validation_loss": np.array([9, 5, 4, 3, 3, 2, 2, 2, 2]) / 10,
    "chosen": np.ones(9),
}


@pytest.fixture(scope="module")
def clean():
    rng = np.random.default_rng(0)
    image = np.asarray(
        gaussian_filter((rng.uniform(size=SHAPE[1:]) < 0.02).astype(np.float32), (1.5, 1.5))
    )
    return np.broadcast_to(100 + 300 * image / image.max(), SHAPE).astype(np.float32)


def noise(seed=1):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def denoiser_of(noisy, *, history=HISTORY, psf_sigma=1.0, **config):
    scale = Scale(100.0, float(noisy.mean()) - 100, float(noisy.std()))
    return SimpleNamespace(
        history=history,
        config=TrainConfig(**config),
        psf=np.asarray(gaussian_psf(psf_sigma)),
        scale=scale,
    )


def verdict_of(noisy, denoised, **options):
    denoiser = denoiser_of(noisy, **options)
    found = diagnostics.examine_input(noisy, background=float(denoiser.scale.background))
    return judge(
        found,
        diagnostics.examine_residual(noisy, denoised),
        compare_halves(noisy, denoised),
        denoiser,
    )


def titles(judgement, level):
    return [finding.title for finding in judgement.findings if finding.level == level]


def test_white_noise_removed_without_a_trace(clean):
    judgement = verdict_of(clean + 20 * noise(), clean)
    assert judgement.level == FINE
    assert judgement.headline == "Nothing speaks against it"
    assert len(titles(judgement, FINE)) == len(judgement.findings) == 11
    assert all(finding.text.endswith(".") for finding in judgement.findings)


def test_noise_that_neighbours_share(clean):
    noisy = np.asarray(clean + 40 * gaussian_filter(noise(), (0.7, 0.7)))
    judgement = verdict_of(noisy, clean)
    assert judgement.headline == "Do not rely on it"
    assert "Neighbouring pixels share their noise" in titles(judgement, STOP)
    assert "Gaussian filter" in judgement.findings[0].text
    assert "The noise was removed" not in titles(judgement, FINE)  # its power is not known


def test_noise_that_neighbours_share_and_blind_spots_hide(clean):
    noisy = np.asarray(clean + 40 * gaussian_filter(noise(), (0.7, 0.7)))
    judgement = verdict_of(noisy, clean, blind=(1, 2))
    assert judgement.headline == "Use with care"
    assert titles(judgement, CARE)[0] == "Neighbouring pixels share their noise"
    assert "3 x 5 pixels" in judgement.findings[0].text


def test_lost_signal(clean):
    judgement = verdict_of(clean + 20 * noise(), np.asarray(gaussian_filter(clean, (3.0, 3.0))))
    assert judgement.level == STOP
    assert "What was removed is not only noise" in titles(judgement, STOP)


def test_noise_that_is_left(clean):
    judgement = verdict_of(clean + 20 * noise(), clean + 10 * noise())
    assert titles(judgement, CARE) == ["Noise is left in the result"]
    assert judgement.headline == "Use with care"


def test_changed_brightness(clean):
    assert "The mean brightness changed" in titles(
        verdict_of(clean + 20 * noise(), clean + 5), CARE
    )
    dimmed = clean - 30 * (clean > 200) + 0.9 * np.mean(30 * (clean > 200))
    assert "The brightest pixels are too dim" in titles(
        verdict_of(clean + 20 * noise(), dimmed), CARE
    )


def test_a_psf_that_is_wider_than_the_detail(clean):
    title = "The images hold finer detail than the PSF allows"
    assert title in titles(verdict_of(clean + 5 * noise(), clean, psf_sigma=4.0), CARE)
    assert verdict_of(clean + 5 * noise(), clean).level == FINE


def test_a_model_of_other_images(clean):
    noisy = clean + 20 * noise()
    for other in (noisy + 200, 100 + 3 * (noisy - 100)):
        found = diagnostics.examine_input(other, background=100.0)
        residual = diagnostics.examine_residual(noisy, clean)
        judgement = judge(found, residual, Halves(None, None, "no"), denoiser_of(noisy))
        assert "The model was trained on unlike images" in titles(judgement, CARE)


def test_every_finding_is_told(clean):
    noisy = clean + 20 * noise()
    found = diagnostics.examine_input(noisy, background=100.0)
    found = found._replace(
        saturated=0.1, clipped=0.1, identical_frames=((1, 2),), constant_frames=1
    )
    judgement = judge(
        found,
        diagnostics.examine_residual(noisy, clean),
        Halves(None, None, "no"),
        denoiser_of(noisy),
    )
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
def test_properties_of_the_input(clean, changes, title):
    noisy = clean + 20 * noise()
    found = diagnostics.examine_input(noisy, background=100.0)._replace(**changes)
    judgement = judge(
        found,
        diagnostics.examine_residual(noisy, clean),
        Halves(None, None, "no"),
        denoiser_of(noisy),
    )
    assert titles(judgement, CARE) == [title]
    assert judgement.headline == HEADLINES[CARE]


def test_hot_pixels(clean):
    noisy = clean + 20 * noise()
    noisy[:, ::48, ::48] += 1000
    assert "Single pixels stand out" in titles(verdict_of(noisy, clean), CARE)


def history_of(losses, chosen=None):
    losses = np.array(losses, float)
    chosen = np.ones(len(losses)) if chosen is None else np.array(chosen, float)
    return {"epoch": np.arange(1, len(losses) + 1), "validation_loss": losses, "chosen": chosen}


@pytest.mark.parametrize(
    ("history", "config", "level", "title"),
    [
        (history_of([5, 4, 3, 2, 1, 0.5]), {}, CARE, "The training was too short"),
        (history_of([5]), {}, CARE, "The training was too short"),
        (history_of([5, 2, 2, 2, 2, 2]), {}, FINE, "The training has converged"),
        (
            history_of([5, 2, 2, 2, 3, 4], [1, 1, 1, 1, 0, 0]),
            {},
            FINE,
            "The training went on for long enough",
        ),
        (
            history_of([5, 2, 2, 2, 3, 4], [1, 1, 1, 1, 0, 0]),
            {"weights": "last"},
            CARE,
            "The training was too long",
        ),
        (
            history_of([5, 4, 2, 2, 2.1, 2, 3, 3.1, 3]),
            {"validation_redraw": True},
            CARE,
            "The training was too long",
        ),
        (
            history_of([5, 4, 2, 2, 2.4, 1.8, 2, 2.5, 1.9]),
            {"validation_redraw": True},
            FINE,
            "The training has converged",
        ),
        (history_of([5, np.nan]), {}, STOP, "The training failed"),
        ({}, {}, FINE, "The training is not recorded"),
    ],
)
def test_trainings(clean, history, config, level, title):
    judgement = verdict_of(clean + 20 * noise(), clean, history=history, **config)
    assert title in titles(judgement, level)


def test_what_would_break_it_is_told():
    told = " ".join(f"{name} {text}" for name, text in limits.LIMITS)
    for word in ("noise", "PSF", "background", "deconvolved", "Invented", "Moving"):
        assert word in told
