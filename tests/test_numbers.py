"""Grey levels of every kind: the result is as good as for those that a camera usually gives."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.config import UNetConfig
from jaxdenoise.microscope import synthetic

PSF = jd.gaussian_psf(1.0)


@pytest.fixture(scope="module")
def stack():
    return synthetic.static_scene(jax.random.key(2), frames=4, shape=(64, 64), psf_sigma=1.0)


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(
        tiny_config, network=UNetConfig(depth=2, filters=8), steps_per_epoch=25, precision="float32"
    )


def gained(config, noisy, clean, keep=slice(None)):
    """By how many decibels the result is nearer to the truth than the noisy stack."""
    result = jd.denoise(jd.fit(jax.random.key(0), noisy, psf=PSF, config=config), noisy).denoised
    assert np.isfinite(result).all()
    before, after = (
        np.mean(((frames - clean) ** 2)[keep])
        for frames in (noisy.astype(np.float64), result.astype(np.float64))
    )
    return 10 * np.log10(before / after)


@pytest.fixture(scope="module")
def usual(config, stack):
    return gained(config, np.asarray(stack.noisy), np.asarray(stack.clean))


def test_the_usual_gain_is_one(usual):
    assert usual > 2.5


def some(fast, *others):
    """The first value, and the others of the whole product."""
    return [fast, *(pytest.param(other, marks=pytest.mark.robustness) for other in others)]


@pytest.mark.parametrize("factor", some(1000, 0.01))
def test_any_scale(config, stack, usual, factor):
    assert (
        abs(
            gained(config, factor * np.asarray(stack.noisy), factor * np.asarray(stack.clean))
            - usual
        )
        < 0.05
    )


@pytest.mark.parametrize("offset", some(60000, -5000))
def test_any_offset(config, stack, usual, offset):
    assert (
        abs(
            gained(config, np.asarray(stack.noisy) + offset, np.asarray(stack.clean) + offset)
            - usual
        )
        < 0.1
    )


def test_a_weak_signal_on_a_large_offset(config, stack, usual):
    # uint16 at 60,000 +- 3: rounding to whole grey levels is part of the noise.
    factor = 3 / np.std(stack.noisy)
    noisy = np.rint(60000 + factor * np.asarray(stack.noisy)).astype(np.uint16)
    assert gained(config, noisy, 60000 + factor * np.asarray(stack.clean)) > usual - 0.5


@pytest.mark.parametrize("dtype", some(">u2", "float16", "uint32", "int16", "float64"))
def test_any_dtype(config, stack, usual, dtype):
    noisy = np.rint(np.asarray(stack.noisy)).clip(0).astype(dtype)
    assert abs(gained(config, noisy, np.asarray(stack.clean)) - usual) < 0.3


@pytest.mark.slow
def test_a_frame_of_zeros_and_saturated_pixels(config, stack, usual):
    noisy, clean = np.asarray(stack.noisy).copy(), np.asarray(stack.clean)
    noisy[2] = 0
    assert gained(config, noisy, clean, keep=[0, 1, 3]) > usual - 1.5
    bright = np.quantile(noisy[0], 0.95)
    saturated = np.minimum(np.asarray(stack.noisy), bright)
    assert gained(config, saturated, np.minimum(clean, bright)) > usual - 1.5


@pytest.mark.slow
def test_hot_pixels(config, stack, usual):
    noisy, clean = np.asarray(stack.noisy).copy(), np.asarray(stack.clean)
    hot = np.zeros(clean.shape, bool)
    hot[tuple(np.random.default_rng(0).integers(0, 64, (2, 6)))] = True
    noisy[:, hot] = 65535
    assert gained(config, noisy, clean, keep=(slice(None), ~hot)) > usual - 0.3
