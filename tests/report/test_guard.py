"""The guard: what it warns of, what it lets pass, and that tiles make no difference."""

import itertools
import json

import numpy as np
import pytest
from scipy import ndimage, stats

from jaxdenoise.report.findings import CARE, FINE, STOP
from jaxdenoise.report.guard import Guard, judge_frames
from jaxdenoise.report.guard_checks import CHECKS

NOISE = 20.0


@pytest.fixture(scope="module")
def scene():
    """Blobs of sigma 2 between 100 and 400 grey levels, and white noise on them."""
    rng = np.random.default_rng(0)
    points = (rng.uniform(size=(160, 160)) < 0.01) * rng.uniform(0.3, 1, (160, 160))
    image = ndimage.gaussian_filter(points, 2)
    truth = (100 + 300 * image / image.max()).astype(np.float32)
    return truth, (truth + rng.normal(0, NOISE, truth.shape)).astype(np.float32)


def verdict(noisy, denoised, **options):
    return judge_frames(noisy[None], np.asarray(denoised, np.float32)[None], **options)


def checks(found):
    return {finding.check for finding in found.findings}


def blobs_at(places, height, shape, sigma=2.0):
    image = np.zeros(shape)
    for place in places:
        image[place] = 1
    image = ndimage.gaussian_filter(image, sigma)
    return height * image / image.max()


def test_a_good_result_passes_all_checks(scene):
    truth, noisy = scene
    found = verdict(noisy, truth)
    assert (found.level, found.text, found.findings) == (FINE, "no problems found", ())
    counts = {name: dict(found.checks[name]) for name in CHECKS}
    assert all(
        count == {"passed": 1, "failed": 0, "not applicable": 0} for count in counts.values()
    )
    assert found.checks["invention"]["not applicable"] == 1


def test_smoothing_that_suits_the_scene_passes(scene):
    noisy = scene[1]
    assert verdict(noisy, ndimage.gaussian_filter(noisy, 1)).level == FINE


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        (lambda y, x: x + 2.0 * (x - ndimage.gaussian_filter(x, 2)), "sharpening"),
        (lambda y, x: x + 2.0 * (x - ndimage.gaussian_filter(x, 2)), "peaks"),
        (lambda y, x: ndimage.gaussian_filter(y, 4), "structure"),
        (lambda y, x: ndimage.gaussian_filter(y, 4), "dimmed peaks"),
        (lambda y, x: 100 + 1.05 * (x - 100), "mean"),
        (lambda y, x: x - 3, "mean"),
        (lambda y, x: x + blobs_at([(40, 40), (90, 120)], 3 * NOISE, x.shape), "structure"),
        (lambda y, x: x - blobs_at([(40, 40), (90, 120)], 3 * NOISE, x.shape), "structure"),
        (lambda y, x: np.full_like(x, y.mean()), "power"),
        (lambda y, x: y, "power"),
    ],
)
def test_harm_is_found(scene, harm, check):
    truth, noisy = scene
    found = verdict(noisy, harm(noisy, truth))
    assert check in checks(found)
    assert found.level >= CARE


def test_totals_that_moved_where_the_mean_did_not(scene):
    truth, noisy = scene
    tilt = np.linspace(-0.2, 0.2, truth.shape[1], dtype=np.float32) * (truth.mean() - 100)
    found = verdict(noisy, truth + tilt)
    assert "totals" in checks(found)
    assert "mean" not in checks(found)


def test_deleted_photons():
    photons = np.random.default_rng(0).poisson(0.05, (128, 128)).astype(np.float32)
    assert verdict(photons, np.full_like(photons, photons.mean())).level == FINE
    found = verdict(photons, np.zeros_like(photons))
    assert (found.level, "mean" in checks(found)) == (STOP, True)


def test_light_that_goes_from_a_small_frame_is_told_whatever_the_noise():
    frame = np.zeros((30, 36), np.float32)
    frame[5::10, 5::12] = [[60, 4, 12], [6, 40, 8], [4, 12, 73]]
    found = verdict(frame, 0.4 * frame)
    mean = next(finding for finding in found.findings if finding.check == "mean")
    assert mean.text == "the mean is 60 % lower than before"


def test_hot_pixels_may_be_removed(scene):
    truth, noisy = scene
    hot = noisy.copy()
    hot[::80, ::80] += 1000
    repaired = verdict(hot, truth)
    assert checks(repaired) <= {"mean", "totals", "power"}  # their light is gone, no structure


def test_one_line_names_the_worst_frame(scene):
    truth, noisy = scene
    stack = np.stack([noisy] * 3)
    denoised = np.stack([truth, 100 + 1.06 * (truth - 100), 100 + 1.5 * (truth - 100)])
    names = ["frame 1, channel 1", "frame 1, channel 2", "frame 2, channel 1"]
    found = judge_frames(stack, denoised, name=names.__getitem__)
    assert found.text.startswith("do not rely on it: the ")
    assert "(frame 2, channel 1; " in found.text
    assert found.text.count("\n") == 0
    assert {finding.frame for finding in found.findings} == {1, 2}
    assert found.checks["mean"] == {"passed": 1, "failed": 2, "not applicable": 0}
    told = json.loads(json.dumps(found.to_dict()))
    assert told["level"] == "stop"
    assert told["findings"][0]["place"] == "frame 2, channel 1"


@pytest.mark.parametrize("size", [32, 50, 160])
def test_tiles_make_no_difference(scene, size):
    truth, noisy = scene
    harmed = truth + blobs_at([(42, 42)], 3 * NOISE, truth.shape)
    guard = Guard((1, *truth.shape))
    starts = list(itertools.product(range(0, 160, size), repeat=2))
    for row, column in reversed(starts):
        rows, columns = slice(row, row + size), slice(column, column + size)
        guard.add(0, rows, columns, noisy[rows, columns], harmed[rows, columns])
    found = guard.verdict()
    assert checks(found) == checks(verdict(noisy, harmed)) == {"structure"}
    expected = verdict(noisy, harmed).findings[0].measured
    assert found.findings[0].measured == pytest.approx(expected, rel=0.1)


def test_a_finished_frame_takes_no_memory_and_no_tile_twice(scene):
    truth, noisy = scene
    guard, whole = Guard((2, *truth.shape)), slice(0, 160)
    for _ in range(2):
        guard.add(0, whole, whole, noisy, truth)
    assert guard._open == {}
    assert guard.verdict().frames == 1


def test_findings_are_bounded(scene):
    truth, noisy = scene
    guard = Guard((300, 40, 40))
    for n in range(300):
        guard.add(n, slice(0, 40), slice(0, 40), noisy[:40, :40], truth[:40, :40] + 50 + n)
    found = guard.verdict()
    assert len(found.findings) == 100
    assert found.checks["mean"]["failed"] == 300
    assert found.findings[0].frame == 299


def test_invalid_pixels_do_not_count(scene):
    truth, noisy = scene
    masked, denoised = noisy.copy(), truth.copy()
    masked[:, :60] = np.nan
    denoised[:, :60] = np.nan
    assert verdict(masked, denoised).level == FINE
    masked[:, :60] = denoised[:, :60] = 0  # a margin without data
    assert verdict(masked, denoised, background=100.0).level == FINE


def on_white(background, noise, density, side=256):
    """Dark things on white in 8 bits: the mean of many frames, and one frame."""
    rng = np.random.default_rng(3)
    points = (rng.uniform(size=(side, side)) < density) * rng.uniform(0.3, 1, (side, side))
    image = ndimage.gaussian_filter(points, 3)
    truth = background - (background - 60) * image / image.max()
    noisy = np.clip(np.rint(rng.normal(truth, noise)), 0, 255).astype(np.uint8)
    away = (255 - truth) / noise  # the mean of normal noise that is clipped
    lost = noise * (stats.norm.pdf(away) - away * stats.norm.sf(away))
    return truth - lost, noisy


# Background, noise and density of things: one to nine tenths of the pixels are saturated.
ON_WHITE = [(255, 6, 0.01), (265, 12, 0.003), (300, 6, 0.003), (300, 6, 0.001), (300, 12, 0.001)]


@pytest.mark.parametrize("scene_on_white", ON_WHITE)
def test_a_saturated_background_speaks_against_no_good_result(scene_on_white):
    mean, noisy = on_white(*scene_on_white)
    assert 0.1 < np.mean(noisy == 255) < 0.96
    # What a denoising leaves of the noise is smooth.
    left = ndimage.gaussian_filter(mean + 0.3 * (noisy - mean), 0.5)
    for result in (mean, np.rint(mean), left):
        assert verdict(noisy, result).text == "no problems found"


@pytest.mark.parametrize("scene_on_white", ON_WHITE)
@pytest.mark.parametrize(
    "harm",
    [
        lambda x: ndimage.gaussian_filter(x, 4),
        lambda x: np.full_like(x, x.mean()),
        lambda x: x - blobs_at([np.unravel_index(x.argmax(), x.shape)], 150, x.shape, 3.0),
        lambda x: np.maximum(x, 200),
    ],
    ids=["smoothed", "erased", "something dark added", "darkest things lost"],
)
def test_harm_on_a_saturated_background_is_found(scene_on_white, harm):
    mean, noisy = on_white(*scene_on_white)
    found = verdict(noisy, np.clip(harm(mean), 0, 255))
    assert checks(found) & {"structure", "totals"}
    assert found.level >= CARE


def test_the_highest_count_of_few_photons_is_not_saturated():
    rng = np.random.default_rng(1)
    truth = np.full((160, 160), 0.3)
    truth[40:120, 40:120] = 0.9
    photons = np.minimum(rng.poisson(truth), 2).astype(np.float32)
    assert verdict(photons, ndimage.gaussian_filter(truth, 6)).level >= CARE


@pytest.mark.parametrize("shape", [(3, 5), (1, 200), (12, 12), (64, 7)])
def test_small_and_narrow_frames(shape):
    noisy = np.random.default_rng(0).normal(100, 5, shape).astype(np.float32)
    assert verdict(noisy, np.full_like(noisy, noisy.mean())).level == FINE
    assert verdict(np.zeros(shape, np.float32), np.zeros(shape)).level == FINE


def test_noise_that_neighbours_share_is_allowed_for(scene):
    truth, _ = scene
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=truth.shape), 1)
    noisy = (truth + NOISE * noise / noise.std()).astype(np.float32)
    assert verdict(noisy, truth, reach=(2, 2)).level == FINE
    assert verdict(noisy, truth).level > FINE
    sharpened = truth + 2.0 * (truth - ndimage.gaussian_filter(truth, 2))
    assert "peaks" in checks(verdict(noisy, sharpened, reach=(2, 2)))


def test_rows_may_share_their_noise(scene):
    truth, noisy = scene
    rows = np.random.default_rng(2).normal(0, 10, (truth.shape[0], 1))
    found = verdict((noisy + rows).astype(np.float32), truth, reach=(0, 160))
    assert "mean" not in checks(found)


def test_results_of_two_starts_that_differ(scene):
    truth, noisy = scene
    guard = Guard((1, *truth.shape))
    guard.add(0, slice(0, 160), slice(0, 160), noisy, truth)
    guard.compare(0, 0.8)
    found = guard.verdict()
    assert found.level == CARE
    assert found.text == (
        "use with care: pretrained and random weights give results that differ by 80% of the noise "
        "(frame 1)"
    )
