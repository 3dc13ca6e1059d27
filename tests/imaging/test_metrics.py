from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_pairs import SHAPE, pair
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxdenoise.imaging.metrics import (
    mean_over_frames,
    mean_over_std,
    psnr,
    si_psnr,
    snr_db,
    ssim,
)
from jaxdenoise.microscope.psf import convolve, gaussian_psf

WITH_RANGE = (psnr, si_psnr, ssim)
SKIMAGE_WINDOW = {
    "uniform": {},
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}
seeds = st.integers(0, 2**32 - 1)


PAIRS = {
    "float": (pair(), 1.0),
    "float with offset": (pair(offset=100.0), 1.0),
    "uint8": (pair(dtype=np.uint8, scale=200, offset=20), 255),
    "uint16": (pair(dtype=np.uint16, scale=4000, offset=100), 65535),
    "uint16 on an offset": (pair(dtype=np.uint16, scale=300, offset=60000), 300),
    "int32": (pair(dtype=np.int32, scale=4000, offset=-2000), 4000),
}
pairs = pytest.mark.parametrize(("images", "data_range"), PAIRS.values(), ids=PAIRS)
few = settings(deadline=None, max_examples=10)


@pairs
def test_psnr_is_scikit_images(images, data_range):
    expected = peak_signal_noise_ratio(
        *(i.astype(np.float64) for i in images), data_range=data_range
    )
    np.testing.assert_allclose(psnr(*images, data_range=data_range), expected, atol=1e-3)


@pytest.mark.parametrize("window", SKIMAGE_WINDOW)
@pairs
def test_ssim_is_scikit_images(images, data_range, window):
    expected = structural_similarity(
        *(i.astype(np.float64) for i in images), data_range=data_range, **SKIMAGE_WINDOW[window]
    )
    np.testing.assert_allclose(
        ssim(*images, data_range=data_range, window=window), expected, atol=2e-5
    )


@pytest.mark.parametrize("window", SKIMAGE_WINDOW)
def test_ssim_sees_a_difference_in_brightness(window):
    reference, image = pair(scale=100, offset=30)
    expected = structural_similarity(
        reference, image + 40, data_range=255, **SKIMAGE_WINDOW[window]
    )
    np.testing.assert_allclose(
        ssim(reference, image + 40, data_range=255, window=window), expected, atol=2e-5
    )


@pytest.mark.parametrize("shape", [(25,), (12, 13, 14)])
@pytest.mark.parametrize("window", SKIMAGE_WINDOW)
def test_ssim_in_other_dimensions(shape, window):
    rng = np.random.default_rng(0)
    reference, image = rng.uniform(size=(2, *shape))
    expected = structural_similarity(reference, image, data_range=1, **SKIMAGE_WINDOW[window])
    np.testing.assert_allclose(
        ssim(reference, image, data_range=1, window=window, ndim=len(shape)), expected, atol=2e-5
    )


def test_snr_db_by_numpy():
    reference, image = pair(scale=50.0, offset=7.0)
    expected = 10 * np.log10(
        np.sum(reference.astype(float) ** 2) / np.sum((reference.astype(float) - image) ** 2)
    )
    np.testing.assert_allclose(snr_db(reference, image), expected, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 60000.0])
def test_mean_over_std_by_numpy(offset):
    image = pair(dtype=np.uint16, scale=300, offset=offset)[1]
    np.testing.assert_allclose(mean_over_std(image), image.mean() / image.std(), rtol=1e-5)


def test_mean_over_std_rewards_blur():
    # The reason why its docstring warns: the blurred image has lost its detail and scores higher
    # than the clean one.
    clean = np.random.default_rng(0).uniform(size=SHAPE)
    blurred = (clean + np.roll(clean, 1, 0) + np.roll(clean, 1, 1)) / 3
    assert mean_over_std(blurred) > mean_over_std(clean)
    assert mean_over_std(np.full(SHAPE, 10000.1)) == jnp.inf


@pytest.mark.parametrize("offset", [0.0, 60000.0])
def test_si_psnr_by_numpys_least_squares(offset):
    reference, image = (
        i.astype(np.float64) for i in pair(dtype=np.uint16, scale=3000, offset=offset)
    )
    image = np.round(0.4 * image) + 500
    slope, intercept = np.polyfit(image.ravel(), reference.ravel(), 1)
    expected = peak_signal_noise_ratio(reference, slope * image + intercept, data_range=3000)
    np.testing.assert_allclose(si_psnr(reference, image, data_range=3000), expected, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 10000.1])
def test_si_psnr_fits_a_constant_image_by_the_mean(value):
    reference = pair(scale=100.0)[0]
    expected = 10 * np.log10(100**2 / reference.astype(float).var())
    np.testing.assert_allclose(
        si_psnr(reference, np.full(SHAPE, value), data_range=100), expected, atol=1e-3
    )
    slopes = jax.jit(jax.grad(si_psnr, argnums=1))(
        jnp.asarray(reference), jnp.full(SHAPE, value), data_range=100
    )
    assert jnp.isfinite(slopes).all()


def test_identical_images():
    reference = pair(dtype=np.uint16, scale=3000)[0]
    assert psnr(reference, reference, data_range=255) == jnp.inf
    assert snr_db(reference, reference) == jnp.inf
    assert si_psnr(reference, reference, data_range=3000) > 120
    for window in SKIMAGE_WINDOW:
        np.testing.assert_allclose(
            ssim(reference, reference, data_range=3000, window=window), 1, atol=1e-6
        )


@few
@given(seeds, st.floats(0.01, 100), st.floats(-1000, 1000))
def test_si_psnr_ignores_affine_maps(seed, slope, intercept):
    reference, image = pair(seed, scale=100.0)
    plain = si_psnr(reference, image, data_range=100)
    # The map itself rounds the image to float32, which moves it by an offset's share of 2^-24;
    # float64 keeps that out of the test.
    mapped = slope * image.astype(np.float64) + intercept
    tolerance = 1e-3 + 1e-4 * abs(intercept) / slope
    np.testing.assert_allclose(si_psnr(reference, mapped, data_range=100), plain, atol=tolerance)
    assert plain >= psnr(reference, image, data_range=100) - 1e-3


@few
@given(seeds, st.floats(0.1, 1e5))
def test_psnr_and_ssim_are_symmetric(seed, scale):
    reference, image = pair(seed, scale=scale)
    assert psnr(reference, image, data_range=scale) == psnr(image, reference, data_range=scale)
    np.testing.assert_allclose(
        ssim(reference, image, data_range=scale),
        ssim(image, reference, data_range=scale),
        atol=1e-6,
    )


@few
@given(seeds, st.floats(1e-3, 1e4))
def test_figures_do_not_depend_on_the_unit(seed, scale):
    reference, image = pair(seed)
    for metric in WITH_RANGE:
        expected = metric(reference, image, data_range=1)
        np.testing.assert_allclose(
            metric(scale * reference, scale * image, data_range=scale), expected, rtol=1e-4
        )
    np.testing.assert_allclose(mean_over_std(scale * image), mean_over_std(image), rtol=1e-4)


def test_a_small_integer_range_does_not_overflow():
    images, _ = PAIRS["uint8"]
    assert psnr(*images, data_range=np.uint8(255)) == psnr(*images, data_range=255)


@pytest.mark.parametrize("metric", WITH_RANGE)
def test_transforms(metric):
    reference, images = jnp.asarray(pair()[0]), jnp.stack([pair(seed)[1] for seed in range(3)])
    expected = jnp.stack([metric(reference, image, data_range=1.0) for image in images])

    def of_stack(images, data_range):
        return jax.vmap(lambda image: metric(reference, image, data_range=data_range))(images)

    np.testing.assert_allclose(jax.jit(of_stack)(images, 1.0), expected, rtol=1e-5)
    slopes = jax.jit(jax.grad(lambda *args: of_stack(*args).sum(), argnums=(0, 1)))(images, 1.0)
    assert all(jnp.isfinite(s).all() and jnp.any(s != 0) for s in slopes)
    uphill = images[0] + 1e-3 * slopes[0][0] / jnp.linalg.norm(slopes[0][0])
    assert metric(reference, uphill, data_range=1.0) > expected[0]


def stacks(count=3, **options):
    """References and images (count, H, W)."""
    pairs = [pair(seed, **options) for seed in range(count)]
    return tuple(np.stack(images) for images in zip(*pairs, strict=True))


def test_each_image_of_a_stack_is_judged_by_itself_as_scikit_image_does():
    references, images = stacks(6, dtype=np.uint16, scale=4000, offset=100)
    ours = {
        metric: metric(references, images, data_range=4000)
        for metric in (psnr, partial(ssim, window="gaussian"), ssim)
    }
    theirs = (
        peak_signal_noise_ratio,
        partial(structural_similarity, **SKIMAGE_WINDOW["gaussian"]),
        structural_similarity,
    )
    for (metric, found), theirs_of_frame in zip(ours.items(), theirs, strict=True):
        expected = [
            theirs_of_frame(*(i.astype(float) for i in images), data_range=4000)
            for images in zip(references, images, strict=True)
        ]
        assert found.shape == (6,)
        np.testing.assert_allclose(found, expected, atol=1e-3)
        two = (array.reshape(2, 3, *SHAPE) for array in (references, images))
        np.testing.assert_array_equal(metric(*two, data_range=4000), found.reshape(2, 3))


def test_a_stack_is_what_it_is_for_convolve():
    references, images = stacks(4)
    blurred, psf = convolve(images, gaussian_psf(1.0)), gaussian_psf(1.0)
    alone = [
        float(psnr(reference, convolve(image, psf), data_range=1))
        for reference, image in zip(references, images, strict=True)
    ]
    np.testing.assert_allclose(psnr(references, blurred, data_range=1), alone, rtol=1e-5)


@pytest.mark.parametrize("metric", [*WITH_RANGE, snr_db])
def test_one_reference_serves_a_stack_and_one_image_several_references(metric):
    options = {} if metric is snr_db else {"data_range": 1}
    references, images = stacks()
    for one, many in ((references[0], images), (references[:1], images)):
        expected = [metric(references[0], image, **options) for image in images]
        np.testing.assert_allclose(metric(one, many, **options), expected, rtol=1e-5)
    expected = [metric(reference, images[0], **options) for reference in references]
    np.testing.assert_allclose(metric(references, images[0], **options), expected, rtol=1e-5)


def test_mean_over_std_of_a_stack():
    _, images = stacks()
    expected = images.mean((1, 2)) / images.std((1, 2))
    np.testing.assert_allclose(mean_over_std(images), expected, rtol=1e-5)


def test_a_volume_has_one_value():
    references, images = stacks(8)
    for metric, theirs in ((psnr, peak_signal_noise_ratio), (ssim, structural_similarity)):
        expected = theirs(references, images, data_range=1)
        found = metric(references, images, data_range=1, ndim=3)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(
        mean_over_std(images, ndim=3), images.mean() / images.std(), rtol=1e-5
    )


@pytest.mark.parametrize("metric", [*WITH_RANGE, snr_db])
def test_images_with_too_few_axes_are_refused(metric):
    options = {} if metric is snr_db else {"data_range": 1}
    with pytest.raises(ValueError, match=r"an image has 2 axes here, got shape \(9,\)"):
        metric(np.ones(9), np.ones(9), **options)
    with pytest.raises(ValueError, match=r"an image has 3 axes here, got shape \(9, 9\)"):
        metric(np.ones((9, 9)), np.ones((9, 9)), **options, ndim=3)


def test_transforms_without_range():
    reference, image = map(jnp.asarray, pair())
    for metric, args in ((snr_db, (reference, image)), (mean_over_std, (image,))):
        np.testing.assert_allclose(jax.jit(metric)(*args), metric(*args), rtol=1e-5)
        np.testing.assert_allclose(
            jax.vmap(metric)(*(jnp.stack([a, a]) for a in args)), [metric(*args)] * 2, rtol=1e-5
        )
        assert jnp.isfinite(jax.jit(jax.grad(metric))(*args)).all()


@pytest.mark.wrong_types
@pytest.mark.parametrize("metric", WITH_RANGE)
def test_a_data_range_is_demanded(metric):
    reference, image = pair()
    with pytest.raises(TypeError, match="data_range"):
        metric(reference, image)
    for wrong in (0, -1.0, np.nan):
        with pytest.raises(ValueError, match="data_range must be greater than 0"):
            metric(reference, image, data_range=wrong)
    with pytest.raises(ValueError, match="must be a scalar"):
        metric(reference, image, data_range=np.ones(3))


@pytest.mark.wrong_types
@pytest.mark.parametrize("metric", [*WITH_RANGE, snr_db])
def test_shapes_are_checked(metric):
    options = {} if metric is snr_db else {"data_range": 1}
    with pytest.raises(ValueError, match=r"\(8, 9\) and \(9, 8\)"):
        metric(np.zeros((8, 9)), np.zeros((9, 8)), **options)
    with pytest.raises(ValueError, match=r"\(2, 8, 9\) and \(3, 8, 9\)"):
        metric(np.zeros((2, 8, 9)), np.zeros((3, 8, 9)), **options)
    with pytest.raises(ValueError, match="at least one pixel"):
        metric(np.zeros((0, 9)), np.zeros((0, 9)), **options)


@pytest.mark.parametrize(("window", "side"), [("uniform", 7), ("gaussian", 11)])
def test_ssim_needs_a_whole_window(window, side):
    enough, short = np.ones((side, 20)), np.ones((20, side - 1))
    assert ssim(enough, enough, data_range=1, window=window) == pytest.approx(1)
    with pytest.raises(ValueError, match=rf"at least {side} pixels .* \(20, {side - 1}\)"):
        ssim(short, short, data_range=1, window=window)
    with pytest.raises(ValueError, match="'uniform' and 'gaussian'"):
        ssim(enough, enough, data_range=1, window="box")


@pytest.mark.parametrize("count", [1, 3])
def test_the_mean_over_frames_is_that_of_each_frame_alone(count):
    pairs = [pair(seed, scale=100.0) for seed in range(3)]
    frames = np.stack([image for _, image in pairs])
    reference = np.stack([reference for reference, _ in pairs])[:count]
    for metric, options in ((psnr, {"data_range": 100}), (snr_db, {})):
        values = [
            float(metric(reference[i % count], frame, **options)) for i, frame in enumerate(frames)
        ]
        assert mean_over_frames(metric, reference, frames, **options) == sum(values) / 3
    values = [float(mean_over_std(frame)) for frame in frames]
    assert mean_over_frames(mean_over_std, None, jnp.asarray(frames)) == sum(values) / 3
    assert mean_over_frames(psnr, frames, frames, data_range=1) == np.inf


def test_the_mean_over_frames_needs_matching_frames():
    frames = np.ones((3, 9, 9))
    for reference, stack in ((frames[:2], frames), (frames[:0], frames), (frames[:1], frames[:0])):
        with pytest.raises(ValueError, match=r"1 or as many reference frames as frames, .* got"):
            mean_over_frames(psnr, reference, stack, data_range=1)
    with pytest.raises(ValueError, match="got no reference for 0 frames"):
        mean_over_frames(mean_over_std, None, frames[:0])
