"""Hot pixels, replaced; everything else stays."""

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.imaging.hotpixels import replace_hot_pixels, replaced
from jaxdenoise.microscope import synthetic

RNG = np.random.default_rng(0)
HOT = ((3, 7), (20, 20), (20, 22), (47, 55))


def with_hot_pixels(stack, level):
    stack = stack.copy()
    for place in HOT:
        stack[(..., *place)] = level
    return stack


@pytest.mark.parametrize("level", [65535, -30000, 1e9])
def test_hot_pixels_become_the_median_of_their_neighbours(scene, level):
    noisy = np.asarray(scene.noisy)
    found = replaced(with_hot_pixels(noisy, level))
    changed = np.zeros(noisy.shape[1:], bool)
    changed[tuple(np.transpose(HOT))] = True
    np.testing.assert_array_equal(found[:, ~changed], noisy[:, ~changed])
    assert abs(found - noisy).max() < 6 * noisy.std()


@pytest.mark.parametrize("factor", [0.01, 1, 1000])
def test_images_without_them_stay_as_they_are(scene, factor):
    stack = np.asarray(scene.noisy) * np.float32(factor)
    assert replaced(stack) is stack
    for rate in (0.005, 0.05, 3):  # photons a pixel
        stack = RNG.poisson(rate, (4, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(replaced(stack), stack)
    np.testing.assert_array_equal(replaced(np.zeros((1, 9, 9), np.float32)), 0)


@pytest.mark.parametrize("sigma", [0.5, 0.65, 1.0])
def test_point_sources_are_not_taken_for_hot_pixels(sigma):
    image = 100 + RNG.normal(0, 1, (64, 64)).astype(np.float32)
    psf = np.asarray(jd.gaussian_psf(sigma, size=7))
    for _ in range(3):
        y, x = RNG.integers(7, 50, 2)
        image[y : y + 7, x : x + 7] += 30000 * psf / psf.max()
    np.testing.assert_array_equal(replace_hot_pixels(image, std=1.0, background=100), image)


@pytest.mark.parametrize("place", [(0, 0), (0, 4), (8, 8), (4, 4)])
def test_anywhere_in_the_image(place):
    image = np.zeros((9, 9), np.float32)
    image[place] = 21
    assert replace_hot_pixels(image, std=1.0, background=0.0).max() == 0
    assert replace_hot_pixels(image, std=1.1, background=0.0).max() == 21


def test_a_pair():
    image = np.zeros((9, 9), np.float32)
    image[4, 4:6] = 21
    assert replace_hot_pixels(image, std=1.0, background=0.0).max() == 0


@pytest.mark.slow
def test_they_cost_no_quality(tiny_config):
    scene = synthetic.static_scene(jax.random.key(1), frames=4, shape=(64, 64), psf_sigma=1.0)
    noisy, clean = np.asarray(scene.noisy), np.asarray(scene.clean)
    psnr = {}
    for name, stack in (("without", noisy), ("with", with_hot_pixels(noisy, 65535))):
        denoiser = jd.fit(jax.random.key(0), stack, psf=jd.gaussian_psf(1.0), config=tiny_config)
        result = jd.denoise(denoiser, stack).denoised
        psnr[name] = np.mean([jd.psnr(clean, frame, data_range=np.ptp(clean)) for frame in result])
    assert abs(psnr["with"] - psnr["without"]) < 0.3
