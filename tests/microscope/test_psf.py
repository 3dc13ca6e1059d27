"""PSFs and their convolution, against scipy.ndimage in float64 and by the laws of a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxdenoise.microscope.psf import (
    check_psf_fits,
    convolve,
    convolve_inside,
    gaussian_psf,
    in_plane,
    normalized_psf,
    padded,
    psf_sigma,
    psf_sigmas,
    square,
    trimmed,
)
from jaxdenoise.microscope.widths import full_widths

RNG = np.random.default_rng(0)
SIGMAS = [0, 0.1, 0.5, 1, 1.5, 2.6, (0.5, 2.0), (0, 1.3)]
few = settings(deadline=None, max_examples=10)
seeds = st.integers(0, 2**32 - 1)


def sampled(sigma, size):
    """exp(-x^2 / 2 sigma^2) on the pixels of a size x size window, sum 1, in float64."""
    x = np.arange(size) - size // 2
    line = np.exp(-(x**2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


def reference(image, psf):
    return ndimage.convolve(
        np.asarray(image, np.float64), np.asarray(psf, np.float64), mode="mirror"
    )


def asymmetric(*shape):
    psf = RNG.uniform(0.1, 1, shape)
    return (psf / psf.sum()).astype(np.float32)


# Each pair of shapes is compiled once: images of odd and even sides, PSFs as large as the image,
# single rows and columns.
SHAPES = [
    ((9, 8), (3, 5)),
    ((7, 7), (7, 7)),
    ((5, 12), (5, 1)),
    ((1, 6), (1, 5)),
    ((11, 1), (3, 1)),
    ((1, 1), (1, 1)),
    ((4, 3), (3, 3)),
]
blur = jax.jit(convolve)


# gaussian_psf


@pytest.mark.parametrize("sigma", SIGMAS, ids=str)
def test_a_gaussian_psf_is_what_scipy_makes_of_one_pixel(sigma):
    pulse = np.zeros((41, 41))
    pulse[20, 20] = 1
    psf = gaussian_psf(sigma)
    h, w = psf.shape
    assert h % 2 == w % 2 == 1
    padded = np.pad(psf, [((41 - h) // 2,) * 2, ((41 - w) // 2,) * 2])
    np.testing.assert_allclose(
        padded, ndimage.gaussian_filter(pulse, sigma, truncate=4.0), atol=1e-7
    )


@pytest.mark.parametrize("sigma", SIGMAS, ids=str)
def test_a_gaussian_psf_is_a_symmetric_float32_of_sum_1(sigma):
    psf = gaussian_psf(sigma)
    assert psf.dtype == jnp.float32
    assert psf.sum() == pytest.approx(1, abs=1e-6)
    assert (psf >= 0).all()
    np.testing.assert_array_equal(psf, psf[::-1])
    np.testing.assert_array_equal(psf, psf[:, ::-1])


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_the_published_81_pixels_add_only_the_last_traces(sigma):
    large, small = gaussian_psf(sigma, size=81), gaussian_psf(sigma)
    assert large.shape == (81, 81)
    np.testing.assert_allclose(large, sampled(sigma, 81), atol=1e-7)
    np.testing.assert_allclose(large, np.pad(small, (81 - len(small)) // 2), atol=1e-4)


def test_size_may_be_a_pair_and_may_cut():
    psf = gaussian_psf((1.0, 2.0), size=(3, 7))
    assert psf.shape == (3, 7)
    np.testing.assert_allclose(
        psf,
        np.outer(
            sampled(1, 3)[1] / sampled(1, 3)[1].sum(), sampled(2, 7)[3] / sampled(2, 7)[3].sum()
        ),
        atol=1e-7,
    )


def test_sigma_0_is_a_pulse():
    np.testing.assert_array_equal(gaussian_psf(0), [[1]])
    np.testing.assert_array_equal(gaussian_psf(0.0, size=5), np.pad([[1.0]], 2))
    np.testing.assert_array_equal(
        jax.jit(lambda s: gaussian_psf(s, size=5))(0.0), np.pad([[1.0]], 2)
    )
    assert np.isfinite(jax.jit(jax.grad(lambda s: gaussian_psf(s, size=5)[2, 3]))(0.0))


@pytest.mark.parametrize(
    "sigma",
    [np.float64(1.5), np.array(1.5), jnp.float32(1.5), np.array([1.5, 1.5]), [1.5, 1.5]],
    ids=repr,
)
def test_sigma_may_come_as_any_number(sigma):
    np.testing.assert_array_equal(gaussian_psf(sigma), gaussian_psf(1.5))


def test_a_traced_sigma_with_a_static_size():
    sigmas = jnp.array([0.4, 1.0, 2.0])
    stack = jax.jit(jax.vmap(lambda s: gaussian_psf(s, size=9)))(sigmas)
    for psf, sigma in zip(stack, sigmas, strict=True):
        np.testing.assert_allclose(psf, sampled(float(sigma), 9), atol=1e-7)


def test_a_traced_pair_of_sigmas():
    expected = gaussian_psf((1.0, 2.0), size=9)
    np.testing.assert_allclose(
        jax.jit(lambda s: gaussian_psf(s, size=9))(jnp.array([1.0, 2.0])), expected, atol=1e-7
    )
    np.testing.assert_allclose(
        jax.jit(lambda s: gaussian_psf((s, 2.0), size=9))(1.0), expected, atol=1e-7
    )


def test_the_gradient_by_sigma_is_the_finite_difference():
    weights = RNG.normal(size=(9, 9))
    gradient = jax.jit(jax.grad(lambda s: jnp.sum(gaussian_psf(s, size=9) * weights)))
    for sigma in (0.5, 1.0, 2.5):
        difference = np.sum((sampled(sigma + 1e-5, 9) - sampled(sigma - 1e-5, 9)) * weights) / 2e-5
        assert gradient(sigma) == pytest.approx(difference, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("sigma", "size", "message"),
    [
        (1.0, 4, "odd"),
        (1.0, 0, "odd"),
        (1.0, -3, "odd"),
        (1.0, 2.5, "odd"),
        (1.0, (3, 4), "odd"),
        (1.0, (3, 3, 3, 3), "pair"),
        ((1.0, 1.0), (3, 3, 3), "3 numbers for a PSF of 2 axes"),
        (-1.0, None, ">= 0"),
        (-1.0, 5, ">= 0"),
        (float("nan"), None, ">= 0"),
        (float("nan"), 5, ">= 0"),
        (float("inf"), None, ">= 0"),
        ((1.0, -1.0), None, ">= 0"),
        ((1.0, 1.0, 1.0, 1.0), None, "pair"),
        ([1.0], None, "pair"),
    ],
    ids=str,
)
@pytest.mark.wrong_types
def test_a_psf_that_cannot_be(sigma, size, message):
    with pytest.raises(ValueError, match=message):
        gaussian_psf(sigma, size=size)


def test_a_traced_sigma_without_a_size_says_what_is_missing():
    with pytest.raises(ValueError, match="size=9"):
        jax.jit(gaussian_psf)(1.0)


# normalized_psf


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64", ">u2", "bool"])
def test_a_measured_psf_is_scaled_to_sum_1(dtype):
    measured = np.array([[0, 3, 0], [1, 9, 2], [0, 4, 1], [0, 0, 0], [0, 1, 0]]).astype(dtype)
    psf = normalized_psf(measured)
    assert psf.dtype == np.float32
    np.testing.assert_allclose(psf, measured / measured.astype(float).sum(), rtol=1e-6)
    np.testing.assert_allclose(normalized_psf(psf), psf, rtol=1e-6)


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        (np.ones((4, 3)), "odd"),
        (np.ones((3, 4)), "odd"),
        (np.ones((0, 0)), "odd"),
        (np.ones((1, 3, 3, 3)), "2-D"),
        (np.ones(3), "2-D"),
        (np.full((3, 3), np.nan), "NaN"),
        (np.where(np.eye(3), np.inf, 1), "NaN or infinite"),
        (np.zeros((3, 3)), "sum"),
        (-np.ones((3, 3)), "sum"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.shape),
)
def test_a_measured_psf_that_cannot_be(psf, message):
    with pytest.raises(ValueError, match=message):
        normalized_psf(psf)


@pytest.mark.parametrize(
    "sigma", [0.0, 1.0, 12.0, *(pytest.param(s, marks=pytest.mark.robustness) for s in (0.5, 2.0))]
)
def test_a_margin_that_float32_does_not_feel_is_cut_off(sigma):
    psf = np.asarray(gaussian_psf(sigma, size=81))
    kept = trimmed(psf)
    image = np.random.default_rng(0).gamma(1, 100, (100, 100)).astype(np.float32)
    np.testing.assert_allclose(
        convolve(image, kept), convolve(image, psf), rtol=0, atol=1e-6 * image.max()
    )
    assert kept.shape < psf.shape or sigma == 12
    np.testing.assert_array_equal(trimmed(kept), kept)


def test_a_measured_psf_keeps_what_lies_off_its_centre():
    psf = np.zeros((9, 11), np.float32)
    psf[4, 5], psf[4, 8], psf[3, 5] = 1, 1e-3, -1e-7
    np.testing.assert_array_equal(trimmed(psf), psf[3:6, 2:9])


@pytest.mark.parametrize(
    ("shape", "wanted"), [((3, 5), (5, 9)), ((3, 3), (3, 3)), ((1, 7), (7, 7))]
)
def test_a_padded_psf_keeps_its_centre(shape, wanted):
    psf = asymmetric(*shape)
    result = padded(psf, wanted)
    assert result.shape == wanted
    assert result.dtype == psf.dtype
    inner = tuple(
        slice((side - n) // 2, (side + n) // 2) for side, n in zip(wanted, shape, strict=True)
    )
    np.testing.assert_array_equal(result[inner], psf)
    assert np.count_nonzero(result) == psf.size


@pytest.mark.parametrize(
    ("shape", "wanted", "message"),
    [
        ((3, 5), (3, 3), "3x5 pixels is larger than the 3x3 to pad it to"),
        ((5, 3), (3, 3), "5x3 pixels is larger than the 3x3"),
        ((3, 3), (4, 5), "odd .* got 4x5"),
        ((3, 4), (5, 5), "odd .* got 3x4"),
    ],
)
def test_a_psf_that_cannot_be_padded(shape, wanted, message):
    with pytest.raises(ValueError, match=message):
        padded(np.ones(shape), wanted)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5), (1, 1)])
def test_a_square_psf_has_its_longer_side(shape):
    psf = asymmetric(*shape)
    np.testing.assert_array_equal(square(psf), padded(psf, (max(shape), max(shape))))


@pytest.mark.parametrize("sigma", [0.8, 2.0, (1.0, 2.0)], ids=str)
def test_the_sigma_of_a_psf_has_its_variance(sigma):
    expected = np.sqrt(np.mean(np.broadcast_to(sigma, 2) ** 2.0))
    assert psf_sigma(gaussian_psf(sigma, size=41)) == pytest.approx(expected, rel=1e-3)
    assert psf_sigma(np.ones((1, 1))) == 0


def test_a_psf_that_fits():
    check_psf_fits((3, 5), (3, 5))
    with pytest.raises(ValueError, match=r"PSF of 3x5 pixels is larger than the image of 3x4"):
        check_psf_fits((3, 5), (3, 4))


# convolve


@few
@given(shapes=st.sampled_from(SHAPES), seed=seeds)
def test_convolve_is_scipys_with_a_mirrored_border(shapes, seed):
    rng = np.random.default_rng(seed)
    image, psf = (
        rng.normal(size=shape).astype(np.float32) / rows
        for shape, rows in zip(shapes, (1, shapes[1][0]), strict=True)
    )
    result = blur(image, psf)
    assert result.shape == image.shape
    np.testing.assert_allclose(result, reference(image, psf), atol=1e-5)


def test_the_psf_is_turned_over_as_in_a_true_convolution():
    pulse = np.zeros((7, 7), np.float32)
    pulse[3, 3] = 1
    psf = asymmetric(3, 5)
    np.testing.assert_allclose(convolve(pulse, psf)[2:5, 1:6], psf, atol=1e-6)


@pytest.mark.parametrize("sigma", [0, 0.7, 2.0])
def test_a_gaussian_psf_is_scipys_gaussian_filter(sigma):
    image = RNG.uniform(0, 100, (24, 31))
    expected = ndimage.gaussian_filter(image, sigma, mode="mirror", truncate=4.0)
    np.testing.assert_allclose(convolve(image, gaussian_psf(sigma)), expected, rtol=1e-5)


@few
@given(seed=seeds, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_convolve_is_linear(seed, a, b):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 9, 8)).astype(np.float32)
    p, q = rng.uniform(0, 0.2, (2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(
        blur(np.float32(a) * x + np.float32(b) * y, p), a * blur(x, p) + b * blur(y, p), atol=1e-5
    )
    np.testing.assert_allclose(
        blur(x, np.float32(a) * p + np.float32(b) * q), a * blur(x, p) + b * blur(x, q), atol=1e-5
    )


@few
@given(value=st.floats(-1e4, 1e4, width=32))
def test_a_constant_stays_to_the_border(value):
    np.testing.assert_allclose(
        blur(np.full((9, 8), value, np.float32), asymmetric(3, 5)), value, rtol=1e-5, atol=1e-30
    )


@few
@given(dy=st.integers(-3, 3), dx=st.integers(-3, 3))
def test_a_shifted_image_gives_a_shifted_result(dy, dx):
    image, psf = RNG.normal(size=(20, 21)).astype(np.float32), asymmetric(5, 3)
    shifted, inner = np.roll(image, (dy, dx), (0, 1)), np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(
        blur(shifted, psf)[inner], np.roll(blur(image, psf), (dy, dx), (0, 1))[inner], atol=1e-5
    )


@pytest.mark.parametrize(("shape", "sides"), [((6, 7), (5, 3)), ((5, 5), (5, 5))])
def test_vjp_is_the_adjoint(shape, sides):
    psf, n = asymmetric(*sides), shape[0] * shape[1]
    matrix = np.stack([reference(pulse.reshape(shape), psf).ravel() for pulse in np.eye(n)], axis=1)
    x, y = RNG.normal(size=(2, *shape)).astype(np.float32)
    result = blur(x, psf)
    (back,) = jax.jit(lambda x, y: jax.vjp(lambda image: convolve(image, psf), x)[1](y))(x, y)
    np.testing.assert_allclose(back.ravel(), matrix.T @ y.ravel(), atol=1e-5)
    assert np.vdot(result, y) == pytest.approx(np.vdot(x, back), abs=1e-4)


def test_gradients_are_finite_differences():
    image, psf = RNG.normal(size=(7, 6)), asymmetric(3, 5).astype(np.float64)
    along_image, along_psf = RNG.normal(size=image.shape), RNG.normal(size=psf.shape)

    def energy(step):
        return np.sum(reference(image + step * along_image, psf + step * along_psf) ** 3)

    gradient = jax.jit(jax.grad(lambda x, h: jnp.sum(convolve(x, h) ** 3), argnums=(0, 1)))
    by_image, by_psf = gradient(jnp.asarray(image), jnp.asarray(psf))
    slope = np.vdot(by_image, along_image) + np.vdot(by_psf, along_psf)
    assert slope == pytest.approx((energy(1e-5) - energy(-1e-5)) / 2e-5, rel=1e-3)


def test_jit_and_vmap_over_images_and_over_psfs():
    images, psfs = (
        RNG.normal(size=(3, 9, 8)).astype(np.float32),
        np.stack([asymmetric(3, 5) for _ in range(3)]),
    )
    for result, image in zip(
        jax.jit(jax.vmap(convolve, (0, None)))(images, psfs[0]), images, strict=True
    ):
        np.testing.assert_allclose(result, reference(image, psfs[0]), atol=1e-5)
    for result, psf in zip(
        jax.jit(jax.vmap(convolve, (None, 0)))(images[0], psfs), psfs, strict=True
    ):
        np.testing.assert_allclose(result, reference(images[0], psf), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "sigma"), [("float32", 0.5), ("float16", 0), ("bfloat16", 0.5), ("bfloat16", 0)]
)
def test_the_images_dtype_is_kept(dtype, sigma):
    assert convolve(jnp.ones((8, 7), dtype), gaussian_psf(sigma)).dtype == dtype


def test_a_dark_image_stays_dark_within_rounding():
    image = np.zeros((32, 32), np.float32)
    image[16, 16] = 1000
    assert convolve(image, gaussian_psf(1.0)).min() > -1e-3


def test_a_stack_is_blurred_image_by_image():
    stack = np.random.default_rng(0).random((2, 3, 9, 8)).astype(np.float32)
    psf = gaussian_psf(0.8)
    found = convolve(stack, psf)
    assert found.shape == stack.shape
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(found[index], convolve(stack[index], psf), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "psf", "message"),
    [
        ((8, 8), (4, 3), "odd"),
        ((8, 8), (3, 4), "odd"),
        ((8, 8), (9, 3), "larger than the image"),
        ((8, 8), (3, 9), "larger than the image"),
        ((8,), (3, 3), "vmap"),
        ((8, 8), (3,), "vmap"),
        ((8, 8), (1, 3, 3), "vmap"),
    ],
    ids=str,
)
@pytest.mark.wrong_types
def test_what_cannot_be_convolved(image, psf, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.ones(image), jnp.ones(psf))


# Volumes


def volume_of(*shape):
    return np.random.default_rng(3).gamma(1, 100, shape).astype(np.float32)


def test_a_gaussian_psf_of_a_volume_is_what_scipy_makes_of_one_pixel():
    pulse = np.zeros((25, 21, 21))
    pulse[12, 10, 10] = 1
    psf = gaussian_psf((2.5, 1.0, 0.7))
    rims = [((n - s) // 2,) * 2 for n, s in zip(pulse.shape, psf.shape, strict=True)]
    expected = ndimage.gaussian_filter(pulse, (2.5, 1.0, 0.7), truncate=4.0)
    np.testing.assert_allclose(np.pad(psf, rims), expected, atol=1e-7)
    assert gaussian_psf(1.0, size=(3, 5, 7)).shape == (3, 5, 7)
    with pytest.raises(ValueError, match="2 numbers for a PSF of 3 axes"):
        gaussian_psf((1.0, 1.0, 1.0), size=(3, 3))


VOLUMES = [((6, 9, 8), (3, 3, 5)), ((4, 7, 7), (9, 3, 7)), ((1, 6, 5), (5, 1, 3))]


@pytest.mark.parametrize(("shape", "psf_shape"), VOLUMES, ids=str)
def test_a_volume_is_convolved_as_scipy_does(shape, psf_shape):
    volume, psf = volume_of(*shape), asymmetric(*psf_shape)
    result = jax.jit(convolve)(volume, psf)
    if shape[0] > 1:
        expected = reference(np.pad(volume, ((psf_shape[0],) * 2, (0, 0), (0, 0)), "reflect"), psf)
        expected = expected[psf_shape[0] : -psf_shape[0]]
    else:
        expected = np.broadcast_to(reference(volume[0], psf.sum(axis=0)), shape)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6 * volume.max())
    both = jax.vmap(convolve, (0, None))(np.stack([volume, 2 * volume]), psf)
    np.testing.assert_allclose(both[1], 2 * result, rtol=1e-5, atol=1e-6 * volume.max())


def test_the_gradient_of_a_convolved_volume_is_that_of_finite_differences():
    volume, psf, weights = volume_of(5, 8, 8) / 100, asymmetric(5, 3, 3), volume_of(5, 8, 8) / 100
    loss = jax.jit(lambda values: jnp.vdot(weights, convolve(values, psf) ** 2))
    slope, step = jax.grad(loss)(volume), np.float32(0.05)
    for place in [(0, 0, 0), (2, 4, 4), (4, 7, 1)]:
        change = np.zeros_like(volume)
        change[place] = step
        # The loss is quadratic: central differences are exact but for rounding.
        found = (loss(volume + change) - loss(volume - change)) / (2 * step)
        np.testing.assert_allclose(found, slope[place], rtol=2e-2, atol=2e-2)


def test_planes_that_are_blurred_alone_are_those_of_the_volume():
    volume, psf = volume_of(9, 8, 8), asymmetric(5, 3, 3)
    np.testing.assert_allclose(
        convolve_inside(volume, psf), convolve(volume, psf)[2:-2], rtol=1e-5, atol=1e-3
    )


def test_helpers_take_volumes():
    psf = np.asarray(gaussian_psf((2.0, 1.0, 0.8)))
    assert psf_sigmas(psf) == pytest.approx((2.0, 1.0, 0.8), rel=0.01)
    assert psf_sigma(psf) == pytest.approx(psf_sigma(in_plane(psf)), rel=1e-4)
    np.testing.assert_allclose(in_plane(psf), gaussian_psf((1.0, 0.8)), atol=1e-6)
    wide = padded(psf, (31, 21, 21))
    assert trimmed(wide).shape == trimmed(psf).shape
    assert square(psf).shape == (psf.shape[0], 9, 9)
    assert full_widths(psf) == pytest.approx((2.0 * 2.3548, 2.3548, 0.8 * 2.3548), rel=1e-3)
    np.testing.assert_allclose(normalized_psf(2 * psf).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "psf_shape", "message"),
    [
        ((5, 5), (3, 3, 3), "expected"),
        ((4, 5, 5), (3, 7, 3), "larger"),
        ((4, 5, 5), (2, 3, 3), "odd"),
    ],
)
def test_a_psf_and_a_volume_that_do_not_fit(shape, psf_shape, message):
    with pytest.raises(ValueError, match=message):
        convolve(np.ones(shape, np.float32), np.ones(psf_shape, np.float32))
