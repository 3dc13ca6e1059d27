"""Hot pixels, replaced; everything else stays."""

import math

import jax
import numpy as np
import pytest

import jaxdenoise as jd
from jaxdenoise.imaging.hotpixels import (
    describe,
    find_hot_pixels,
    replace_hot_pixels,
    replaced,
)
from jaxdenoise.microscope import synthetic

HOT = ((3, 7), (20, 20), (20, 22), (47, 55))
ALL = slice(None)


def camera(rng, light, frames=1, *, gain=2.0, read=3.0):
    """Frames of a camera that sees so many photons a pixel; whole grey levels above 100."""
    photons = rng.poisson(np.broadcast_to(light, (frames, *np.shape(light))))
    noisy = gain * photons + 100 + rng.normal(0, read, photons.shape)
    return np.rint(noisy).astype(np.float32)


def cells(side=96, photons=40.0):
    """Smooth light: bright discs on a dark background, in photons."""
    y, x = np.mgrid[:side, :side]
    return photons * (0.05 + (np.hypot(y - 30, x - 40) < 20) + 0.5 * np.exp(-((y - x) ** 2) / 8))


def add_points(rng, light, sigma, count, photons):
    """Point sources between the pixels, through a PSF sampled at the pixels' centres."""
    light = np.array(light)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    for cy, cx in rng.uniform(3, light.shape[0] - 4, (count, 2)):
        distance = (y - cy) ** 2 + (x - cx) ** 2
        light += photons * np.exp(-distance / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    return light


def with_hot_pixels(stack, level, places=HOT):
    stack = stack.copy()
    for place in places:
        stack[(..., *place)] = level
    return stack


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("level", [65535, -30000, 1e9])
def test_hot_pixels_become_the_median_of_their_neighbours(scene, level, frames):
    noisy = np.asarray(scene.noisy)[:frames]
    found = replaced(with_hot_pixels(noisy, level))
    changed = np.zeros(noisy.shape[1:], bool)
    changed[tuple(np.transpose(HOT))] = True
    np.testing.assert_array_equal(found[:, ~changed], noisy[:, ~changed])
    around = np.delete(noisy[:, 2:5, 6:9].reshape(frames, 9), 4, axis=1)
    np.testing.assert_allclose(found[:, 3, 7], np.median(around, axis=1), rtol=1e-6)
    assert abs(found - noisy).max() < 6 * noisy.std()


@pytest.mark.parametrize("factor", [0.01, 1, 1000])
def test_images_without_them_stay_as_they_are(scene, factor):
    stack = np.asarray(scene.noisy) * np.float32(factor)
    assert replaced(stack) is stack
    assert replaced(stack[:1]).base is stack


def counts(rng, light, frames):
    return rng.poisson(np.broadcast_to(light, (frames, 96, 96)))


def emccd(rng, light, frames):
    photons = counts(rng, light, frames)
    light = rng.gamma(np.maximum(photons, 1e-9), 300) * (photons > 0)
    return np.rint(light + 200 + rng.normal(0, 4, light.shape))


def single_bits(rng, light, frames):
    return rng.random((frames, 96, 96)) < light


@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize("photons", [0.002, 0.02, 0.2, 2.0])
@pytest.mark.parametrize("detector", [counts, emccd, single_bits])
def test_single_photons_are_kept(detector, photons, frames):
    stack = detector(np.random.default_rng(0), cells(photons=photons), frames).astype(np.float32)
    assert replaced(stack) is stack


def test_the_same_photon_in_two_frames_is_no_constant():
    stack = np.random.default_rng(0).poisson(0.05, (2, 256, 256)).astype(np.float32)
    assert (stack.min(axis=0) == 1).sum() > 50
    assert replaced(stack) is stack


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("photons", [1e-4, 2e-3, 2e-2])
def test_a_slope_of_the_offset_is_no_light(photons, frames):
    """It would say that a photon is small: much light with little noise."""
    light = np.full((256, 256), photons)
    rng = np.random.default_rng(0)
    count = rng.poisson(light, (frames, 256, 256))
    stack = rng.gamma(np.maximum(count, 1e-9), 300) * (count > 0) + rng.normal(100, 4, count.shape)
    stack = np.rint(stack + np.linspace(0, 20, 256)).astype(np.float32)
    assert replaced(stack) is stack


def test_a_tail_that_goes_on_is_kept():
    """As in deconvolved images: the spikes of the noise have all heights."""
    rng = np.random.default_rng(0)
    stack = camera(rng, np.full((128, 128), 20.0) + 200 * (np.mgrid[:128, :128][0] > 90))
    spikes = rng.random(stack.shape) < 2e-2
    stack = stack + np.rint(rng.exponential(70, stack.shape)).astype(np.float32) * spikes
    assert replaced(stack) is stack


@pytest.mark.parametrize("photons", [300, 10_000])
@pytest.mark.parametrize("sigma", [0.5, 0.65, 1.0])
def test_point_sources_are_kept(sigma, photons):
    rng = np.random.default_rng(1)
    for light in (np.full((96, 96), 2.0), cells()):
        stack = camera(rng, add_points(rng, light, sigma, 60, photons), 2)
        assert replaced(stack) is stack
        assert len(find_hot_pixels(stack[:1]).frames) == 0


def test_images_sampled_too_coarsely_are_kept():
    """A spot is one pixel or two, as it happens to lie."""
    rng = np.random.default_rng(2)
    light = cells()
    for cy, cx in rng.uniform(3, 92, (60, 2)):
        y, x = int(cy), int(cx)
        edges = [math.erf((cut - at) / 0.35) / 2 for at in (cy - y, cx - x) for cut in range(-1, 3)]
        light[y - 1 : y + 2, x - 1 : x + 2] += 3000 * np.outer(
            np.diff(edges[:4]), np.diff(edges[4:])
        )
    stack = camera(rng, light)
    assert replaced(stack) is stack


def test_many_isolated_pixels_are_the_signal():
    rng = np.random.default_rng(3)
    stack = camera(rng, cells())
    few, many = (np.where(rng.random(stack.shape) < share, 9000, stack) for share in (1e-3, 1e-2))
    assert len(find_hot_pixels(few).frames) == (few == 9000).sum() > 3
    assert replaced(many) is many


@pytest.mark.parametrize("level", [200, -100])
def test_weak_ones_that_stay_are_found_by_several_frames(level):
    stack = camera(np.random.default_rng(4), np.full((64, 64), 20.0) + np.arange(64), 16)
    offset = np.zeros(stack.shape[1:], np.float32)
    offset[tuple(np.transpose(HOT))] = level
    hot = find_hot_pixels(stack + offset)
    assert hot.stuck == len(HOT)
    np.testing.assert_array_equal(np.unique(hot.frames, return_counts=True)[1], [len(HOT)] * 16)
    assert {*zip(hot.rows.tolist(), hot.columns.tolist(), strict=True)} == {*HOT}
    assert describe(hot) == (
        "hot pixels: 64 of 65,536 replaced by their neighbours' median "
        "(4 in every frame at the same place)"
    )


def test_a_cosmic_ray_in_one_frame():
    stack = camera(np.random.default_rng(5), cells(), 5)
    spoilt = stack.copy()
    spoilt[3, 80, 70] = 3000
    hot = find_hot_pixels(spoilt)
    assert (hot.frames.tolist(), hot.rows.tolist(), hot.columns.tolist()) == ([3], [80], [70])
    assert hot.stuck == 0
    assert describe(hot) == "hot pixels: 1 of 46,080 replaced by their neighbours' median"
    assert describe(find_hot_pixels(stack)) is None


def test_beyond_all_counts():
    rng = np.random.default_rng(6)
    stack = rng.poisson(cells(photons=0.3), (1, 96, 96)).astype(np.float32)
    assert replaced(with_hot_pixels(stack, 200, [(60, 70)])).max() == stack.max()


@pytest.mark.parametrize("place", [(0, 0), (0, 40), (95, 95), (50, 0), (50, 51)])
def test_anywhere_in_the_image(place):
    stack = camera(np.random.default_rng(7), cells())
    found = find_hot_pixels(with_hot_pixels(stack, 30000, [place]))
    assert list(zip(found.rows, found.columns, strict=True)) == [place]


def test_a_pair():
    stack = camera(np.random.default_rng(8), cells())
    pair = [(70, 80), (70, 81)]
    spoilt = with_hot_pixels(stack, 30000, pair)
    spoilt[0, 70, 81] = 20000
    found = replaced(spoilt)
    assert (found != spoilt).sum() == 2
    assert found.max() == with_hot_pixels(stack, 0, pair).max()


@pytest.mark.parametrize("shape", [(0, 9, 9), (1, 1, 300), (2, 5, 300), (1, 6, 6), (3, 9, 70)])
def test_images_of_any_size(shape):
    stack = np.random.default_rng(9).normal(100, 5, shape).astype(np.float32)
    assert replaced(stack) is stack


@pytest.mark.parametrize("value", [0, 1e18, 3e38, np.inf, np.nan])
def test_levels_that_tell_nothing(value):
    stack = np.full((2, 32, 32), value, np.float32)
    assert replaced(stack) is stack
    stack[:, 5, 5] = 7
    replaced(stack)  # without a warning


def test_invalid_pixels_do_not_count():
    stack = camera(np.random.default_rng(10), cells(), 2)
    spoilt = with_hot_pixels(stack, 30000, [(60, 60), (20, 2)])
    valid = np.ones(stack.shape[1:], bool)
    valid[:, :5] = valid[59, 59:62] = False
    spoilt[:, :5] = 0
    spoilt[:, 59, 59:62] = 1e9
    hot = find_hot_pixels(np.where(valid, spoilt, np.nan).astype(np.float32))
    assert {*zip(hot.rows.tolist(), hot.columns.tolist(), strict=True)} == {(60, 60)}
    assert max(hot.values) < 200


class OnDisk:
    """Frames that are read one by one, and how many pixels the largest part had."""

    def __init__(self, stack):
        self._stack, self.shape, self.largest = stack, stack.shape, 0

    def __getitem__(self, place):
        n, rows, columns = place
        part = self._stack[n.__index__(), rows, columns]
        self.largest = max(self.largest, part.size)
        return part


def test_files_are_read_frame_by_frame_and_replaced_part_by_part():
    stack = with_hot_pixels(camera(np.random.default_rng(11), cells(), 6), 30000)
    stack[4, 60, 90] = 30000
    file = OnDisk(stack)
    hot = find_hot_pixels(file)
    assert file.largest == stack[0].size
    expected = replace_hot_pixels(stack, hot)
    np.testing.assert_array_equal(expected, replaced(stack))
    assert (expected != stack).sum() == 6 * len(HOT) + 1
    for n, *place in ((4, ALL, ALL), (4, slice(50, 96), slice(80, 91)), (3, ALL, slice(9))):
        part = hot.replaced_in(stack[n, *place], n, *place)
        np.testing.assert_array_equal(part, expected[n, *place])
    corner = slice(70, None)
    assert np.shares_memory(hot.replaced_in(stack[0, corner, corner], 0, corner, corner), stack)


def test_prediction_and_training_use_one_rule(make_denoiser):
    denoiser = make_denoiser(depth=2)
    stack = camera(np.random.default_rng(12), cells(), 2)
    spoilt = with_hot_pixels(stack, 30000)
    given = replaced(spoilt)
    for result, expected in zip(
        jd.denoise(denoiser, spoilt), jd.denoise(denoiser, given), strict=True
    ):
        np.testing.assert_array_equal(result, expected)
    ensemble = jd.denoise_ensemble([denoiser], spoilt)
    np.testing.assert_array_equal(ensemble.denoised, jd.denoise(denoiser, given).denoised)


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
