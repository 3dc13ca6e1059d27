"""The plan of a training: images checked, split and scaled, and everything "auto" decided."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import scipy.ndimage

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.exposure import estimate_background
from jaxdenoise.network.settings import settle
from jaxdenoise.training import problem
from jaxdenoise.training.noise_sharing import Sharing
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import learning_rate

KEY = jax.random.key(0)
PSF = gaussian_psf(1.0)


def change(config, **changes):
    return dataclasses.replace(config, **changes)


def planned(stack, config, psf=PSF):
    return prepare(KEY, stack, psf=psf, config=config)


def values(settings):
    """All decided values, those of the network included."""
    own = dataclasses.asdict(settings)
    return {**own, **own.pop("network")}


# --- what was decided


def test_a_plan_decides_everything_and_keeps_the_request(scene, tiny_config):
    config = change(tiny_config, precision="auto")
    plan = planned(scene.noisy, config)
    assert plan.request == config
    assert {"stride", "blind", "targets", "validation", "precision"} <= values(plan.settings).keys()
    assert "auto" not in values(plan.settings).values()
    assert plan.settings.targets == ("own" if plan.problem.repeats is None else "repeats")
    assert plan.settings.validation == "pixels"
    assert hash(plan.settings) == hash(planned(scene.noisy, config).settings)


def test_what_was_asked_for_is_decided_so(scene, tiny_config):
    asked = {"blind": (1, 0), "targets": "own", "precision": "bfloat16"}
    network = UNetConfig(depth=2, filters=4, stride=2)
    settings = planned(scene.noisy, change(tiny_config, network=network, **asked)).settings
    assert settings.network.stride == 2
    assert {name: getattr(settings, name) for name in asked} == asked


def test_settings_come_back_from_json(scene, tiny_config):
    for precision in ("auto", "float32"):
        settings = planned(scene.noisy, change(tiny_config, precision=precision)).settings
        written = json.loads(json.dumps(settings.request(background=90.5).to_dict()))
        assert written.keys() == TrainConfig().to_dict().keys()
        assert (written["precision"], written["background"]) == (precision, 90.5)
        assert settle(TrainConfig.from_dict(written)) == settings


def test_a_request_from_before_the_measurement_is_settled_without_harm():
    settings = settle(TrainConfig())
    assert (settings.network.stride, settings.blind, settings.targets) == (1, (0, 0), "own")
    assert "auto" not in values(settings).values()


def test_every_published_row_reaches_the_step(scene):
    config = TrainConfig.paper()
    stack = np.tile(np.asarray(scene.noisy), (1, 3, 3))
    plan = planned(stack, config, psf=gaussian_psf(1.0, size=81))
    assert plan.settings == settle(config)
    assert plan.settings.validation == "frames"
    assert plan.problem.psf.shape == (81, 81)
    assert (len(plan.problem.frames), len(plan.problem.validation)) == (2, 1)
    assert learning_rate(1999, plan.settings) == np.float32(1e-3)


def test_patches_fit_small_frames_and_large_psfs(scene, tiny_config):
    small = planned(np.asarray(scene.noisy)[:, :21, :30], tiny_config)
    assert small.settings.patch_size == 20
    wide = planned(scene.noisy, tiny_config, psf=gaussian_psf(3.0, size=37))
    assert wide.settings.patch_size == 38


def test_patches_fit_a_stride_that_was_measured(scene, tiny_config, monkeypatch):
    """A patch of 32 pixels is no multiple of the 6 that a stride of 3 needs."""
    monkeypatch.setattr(problem, "decide", lambda *_, **__: Sharing(3, (0, 0), ""))
    plan = planned(np.asarray(scene.noisy), tiny_config)
    assert plan.settings.network.stride == 3
    assert plan.settings.patch_size % plan.settings.network.multiple == 0


def test_images_that_differ_in_their_levels_only_have_the_same_settings(scene, tiny_config):
    """So that one compiled program serves the channels of an image."""
    stack = np.asarray(scene.noisy)
    plans = [planned(levels, tiny_config) for levels in (stack, 2 * stack + 50)]
    assert plans[0].settings == plans[1].settings
    assert plans[0].problem.scale.background != plans[1].problem.scale.background


# --- the data


def test_many_frames_hold_out_the_last_ones(scene, tiny_config):
    stack = np.concatenate([np.asarray(scene.noisy)] * 4)[:10]
    plan = planned(stack, tiny_config)
    assert plan.settings.validation == "frames"
    problem = plan.problem
    assert problem.held_out is None
    assert (len(problem.frames), len(problem.validation)) == (7, 3)
    np.testing.assert_allclose(problem.validation + problem.scale.background, stack[7:], rtol=1e-5)
    single = planned(stack[:1], change(tiny_config, validation="frames"))
    assert single.settings.validation == "pixels"
    assert single.problem.held_out is not None


def test_the_scale_is_that_of_all_frames(scene, tiny_config):
    stack = np.asarray(scene.noisy)
    scale = planned(stack, change(tiny_config, background=100.0)).problem.scale
    np.testing.assert_allclose(scale.background, 100)
    np.testing.assert_allclose(scale.mean, stack.mean() - 100, rtol=1e-5)
    np.testing.assert_allclose(scale.std, stack.std(), rtol=1e-5)


def test_the_background_is_the_darkest_window():
    stack = np.random.default_rng(0).normal(500, 20, (2, 40, 50)).astype(np.float32)
    stack[1, 10:20, 10:20] = 120
    expected = min(
        scipy.ndimage.uniform_filter(frame.astype(np.float64), 5)[2:-2, 2:-2].min()
        for frame in stack
    )
    np.testing.assert_allclose(estimate_background(stack), expected, rtol=1e-6)
    assert estimate_background(np.full((1, 3, 4), 7, np.float32)) == pytest.approx(7)


NOISE = np.random.default_rng(0).normal(size=(3, 16, 60))


@pytest.mark.parametrize(
    ("stack", "psf", "message"),
    [
        (np.full((2, 32, 32), np.nan), PSF, "every pixel is NaN"),
        (np.full((2, 32, 32), np.inf), PSF, "2048 pixels are infinite"),
        (np.full((2, 32, 32), 7), PSF, "constant"),
        (100 * np.arange(4.0**5).reshape(1, 32, 32) * 1e-25, PSF, "is too small for the squares"),
        (np.full((2, 32, 32), 1e19), PSF, "too large for the squares of float32"),
        (NOISE + 1j, PSF, "the images are complex"),
        (np.zeros((0, 32, 32)), PSF, "at least one pixel"),
        (np.ones((32,)), PSF, "expected a stack"),
        (NOISE[:, :7], np.ones((1, 1)), "too small to train on"),
        (NOISE[:1, :, :16], np.ones((17, 17)), "larger than the image"),
        (NOISE[:1, :, :16], np.ones((4, 4)), "must be odd"),
        (NOISE[:1, :, :16], np.zeros((3, 3)), "sum must be positive"),
        (NOISE[:1, :, :16], np.ones((3, 3, 3)), "needs volumes"),
    ],
)
def test_bad_input(tiny_config, stack, psf, message):
    with pytest.raises(ValueError, match=message) as error:
        planned(stack, tiny_config, psf)
    assert "\n" not in str(error.value)


def test_blind_spots_too_wide_for_the_patches_are_refused(tiny_config):
    with pytest.raises(ValueError, match="do not fit into patches of 8 pixels"):
        planned(NOISE, change(tiny_config, patch_size=8, blind=(8, 8)), np.ones((1, 1)))


# --- where it is


def test_the_plan_is_on_the_device_that_is_given(scene, tiny_config):
    (device, *_) = jax.devices("cpu")
    plan = prepare(KEY, scene.noisy, psf=PSF, config=tiny_config, devices=[device])
    leaves = jax.tree.leaves(plan.problem)
    assert all(leaf.devices() == {device} and leaf.committed for leaf in leaves)
    assert plan.settings.platform == "cpu"
