"""Synthetic scenes: what they show, their noise, their keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.imaging.metrics import psnr
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.microscope.synthetic import phantom, static_scene

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "shape",
    [(128, 128), *(pytest.param(s, marks=pytest.mark.robustness) for s in ((9, 200), (1, 1)))],
)
def test_phantom_is_an_image_from_0_to_1(shape):
    image = phantom(KEY, shape)
    assert image.shape == shape
    assert image.dtype == jnp.float32
    assert image.min() >= 0
    assert image.max() == pytest.approx(1)


def test_phantom_has_a_dark_background_and_fine_structure():
    image = np.asarray(phantom(KEY, (128, 128)))
    assert np.percentile(image, 10) < 0.02
    assert 0.01 < image.mean() < 0.2
    # Lines and points without width: neighbours differ, which a PSF then hides.
    assert np.abs(np.diff(image)).max() > 0.3


def test_phantom_is_made_of_its_parts():
    haze = phantom(KEY, (128, 128), filaments_per_cell=0, spots_per_cell=0)
    assert np.abs(np.diff(haze)).max() < 0.1
    nothing = phantom(KEY, (128, 128), filaments_per_cell=0, spots_per_cell=0, haze=0)
    np.testing.assert_array_equal(nothing, 0)


def test_the_key_decides():
    np.testing.assert_array_equal(phantom(KEY, (40, 48)), phantom(KEY, [40, 48]))
    assert not np.allclose(phantom(KEY, (40, 48)), phantom(jax.random.key(1), (40, 48)), atol=0.1)
    one, same = (static_scene(KEY, frames=2, shape=(40, 48)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one.noisy[0], one.noisy[1])


def test_more_frames_leave_the_first_ones_alone():
    few, more = (static_scene(KEY, frames=n, shape=(40, 48)) for n in (2, 3))
    np.testing.assert_allclose(more.noisy[:2], few.noisy, rtol=1e-5)


@jax.jit
def levels_of(stack):
    data_range = stack.clean.max() - stack.clean.min()
    return jax.vmap(lambda frame: psnr(stack.clean, frame, data_range=data_range))(stack.noisy)


@pytest.mark.parametrize("shape", [(96, 96), pytest.param((75, 141), marks=pytest.mark.robustness)])
def test_noise_level(shape):
    for seed in range(4):
        stack = static_scene(jax.random.key(seed), frames=4, shape=shape)
        assert stack.noisy.shape == (4, *shape)
        np.testing.assert_allclose(levels_of(stack), 23, atol=0.3)


def test_other_noise_level():
    stack = static_scene(KEY, frames=4, shape=(96, 96), psnr=30.0, read_share=0.5)
    np.testing.assert_allclose(levels_of(stack), 30, atol=0.3)


@pytest.mark.parametrize(
    "psf_sigma", [1.0, *(pytest.param(s, marks=pytest.mark.robustness) for s in (0.0, 2.0))]
)
def test_clean_is_the_phantom_blurred(psf_sigma):
    stack = static_scene(KEY, frames=2, shape=(40, 48), psf_sigma=psf_sigma)
    np.testing.assert_allclose(
        stack.clean, convolve(stack.phantom, gaussian_psf(psf_sigma)), rtol=1e-5, atol=0.05
    )


def test_grey_levels():
    stack = static_scene(KEY, frames=4, shape=(96, 96), peak=3000.0, offset=100.0)
    assert stack.clean.max() == pytest.approx(3100)
    assert stack.clean.min() >= 100
    assert stack.phantom.min() >= 100
    # Fits 16 bits, so that a stack written as uint16 keeps its mean.
    assert stack.noisy.min() >= 0
    assert stack.noisy.max() < 65535
    error = stack.noisy.mean(axis=0) - stack.clean
    assert abs(error.mean()) < 0.02 * (stack.clean - 100).mean()


def test_phantoms_under_vmap():
    keys = jax.random.split(KEY, 2)
    images = jax.jit(jax.vmap(lambda key: phantom(key, (40, 48))))(keys)
    np.testing.assert_allclose(images[1], phantom(keys[1], (40, 48)), atol=1e-5)


@pytest.mark.robustness
def test_transforms_of_a_static_scene():
    scene = jax.jit(static_scene, static_argnames=("frames", "shape", "psf_sigma"))
    got = scene(KEY, frames=2, shape=(40, 48), psf_sigma=1.0, psnr=23.0, peak=3000.0)
    np.testing.assert_allclose(
        got.clean, static_scene(KEY, frames=2, shape=(40, 48)).clean, rtol=1e-4
    )

    def mean_brightness(peak):
        return static_scene(KEY, frames=2, shape=(40, 48), peak=peak).clean.mean()

    assert jax.grad(mean_brightness)(3000.0) > 0


def test_options_are_checked():
    for shape in ((64,), (2, 64, 64), (0, 64)):
        with pytest.raises(ValueError, match="two positive integers"):
            phantom(KEY, shape)
    with pytest.raises(ValueError, match="spots_per_cell must not be negative"):
        phantom(KEY, (40, 48), spots_per_cell=-1)
    with pytest.raises(ValueError, match="frames must be at least 1"):
        static_scene(KEY, frames=0)
    with pytest.raises(ValueError, match="peak must be greater than 0"):
        static_scene(KEY, peak=0)
    with pytest.raises(ValueError, match="read_share must be from 0"):
        static_scene(KEY, read_share=1)
