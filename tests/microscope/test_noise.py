import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdenoise.imaging.levels import quantize
from jaxdenoise.microscope.noise import gaussian_noise, poisson_gaussian_noise
from jaxdenoise.microscope.noise_estimation import estimate_noise
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.microscope.synthetic import phantom

KEY = jax.random.key(0)
SHAPE = (
    200,
    300,
)  # 60,000 draws: a mean is good to 0.4 % of a standard deviation, a variance to 0.6 % (Gaussian)


def check_moments(noisy, mean, variance):
    """Five standard errors, with room for the heavier tails of few photons."""
    noisy = np.asarray(noisy, np.float64)
    assert abs(noisy.mean() - mean) < 5 * np.sqrt(variance / noisy.size)
    assert abs(noisy.var() / variance - 1) < 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_gaussian_moments(dtype):
    image = np.full(SHAPE, 100, dtype)
    noisy = gaussian_noise(KEY, image, 10)
    assert noisy.dtype == jnp.result_type(image, jnp.float32)  # float64 only where x64 is enabled
    check_moments(noisy, 100, 100)


def test_gaussian_noise_is_not_clipped():
    assert gaussian_noise(KEY, np.zeros(SHAPE, np.uint8), 10.0).min() < -20


def test_gaussian_std_may_differ_between_pixels():
    noisy = gaussian_noise(KEY, np.zeros((2, 30000)), np.array([[1.0], [5.0]]))
    np.testing.assert_allclose(noisy.std(axis=1), [1, 5], rtol=0.03)


@pytest.mark.parametrize("level", [0.0, 3.0, 40.0, 5000.0])
@pytest.mark.parametrize(("gain", "read_std"), [(1.0, 2.0), (25.0, 4.0)])
def test_poisson_gaussian_moments(level, gain, read_std):
    noisy = poisson_gaussian_noise(
        KEY, np.full(SHAPE, level, np.float32), gain=gain, read_std=read_std, offset=100.0
    )
    assert noisy.dtype == jnp.float32
    check_moments(noisy, level + 100, gain * level + read_std**2)


def test_without_read_noise_the_photons_are_whole():
    noisy = poisson_gaussian_noise(
        KEY, np.full(SHAPE, 6.0, np.float32), gain=2.0, read_std=0.0, offset=10
    )
    photons = (noisy - 10) / 2
    assert photons.min() == 0
    np.testing.assert_array_equal(photons, np.round(photons))


def test_below_the_offset_there_are_no_photons():
    np.testing.assert_array_equal(
        poisson_gaussian_noise(KEY, np.array([[-5.0, 0.0]]), gain=1, read_std=0, offset=7), [[7, 7]]
    )


def test_what_is_not_finite_stays_so():
    noisy = poisson_gaussian_noise(KEY, np.array([np.nan, np.inf, 1.0]), gain=1, read_std=1)
    np.testing.assert_array_equal(np.isfinite(noisy), [False, False, True])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_key_decides(seed):
    image = np.linspace(0, 50, 64).reshape(8, 8)
    key, other = jax.random.split(jax.random.key(seed))
    for noise in (
        lambda key: gaussian_noise(key, image, 3.0),
        lambda key: poisson_gaussian_noise(key, image, gain=1.0, read_std=3.0),
    ):
        np.testing.assert_array_equal(noise(key), noise(key))
        assert not np.array_equal(noise(key), noise(other))


def test_pixels_are_independent():
    image = np.full(SHAPE, 20.0)
    for noisy in (
        gaussian_noise(KEY, image, 1.0),
        poisson_gaussian_noise(KEY, image, gain=1.0, read_std=1.0),
    ):
        z = np.asarray((noisy - noisy.mean()) / noisy.std())
        assert abs((z[1:] * z[:-1]).mean()) < 0.02
        assert abs((z[:, 1:] * z[:, :-1]).mean()) < 0.02


def test_transforms():
    image = jnp.linspace(1, 50, 30).reshape(5, 6)
    levels = {"gain": 2.0, "read_std": 1.0, "offset": 3.0}
    keys = jax.random.split(KEY, 4)

    def camera(key, image, levels):
        return poisson_gaussian_noise(key, image, **levels)

    np.testing.assert_allclose(
        jax.jit(camera)(KEY, image, levels), camera(KEY, image, levels), rtol=1e-5
    )
    np.testing.assert_allclose(
        jax.jit(gaussian_noise)(KEY, image, 2.0), gaussian_noise(KEY, image, 2.0), rtol=1e-5
    )
    frames = jax.vmap(camera, in_axes=(0, None, None))(keys, image, levels)
    np.testing.assert_allclose(frames[2], camera(keys[2], image, levels), rtol=1e-5)
    frames = jax.vmap(gaussian_noise, in_axes=(0, None, None))(keys, image, 2.0)
    np.testing.assert_allclose(frames[2], gaussian_noise(keys[2], image, 2.0), rtol=1e-5)


def test_gradients():
    image = jnp.linspace(1, 50, 30).reshape(5, 6)
    np.testing.assert_array_equal(
        jax.grad(lambda x: gaussian_noise(KEY, x, 2.0).sum())(image), jnp.ones_like(image)
    )

    def total(image, offset, read_std):
        return poisson_gaussian_noise(KEY, image, gain=1.0, read_std=read_std, offset=offset).sum()

    by_image, by_offset, by_read_std = jax.grad(total, argnums=(0, 1, 2))(image, 1.0, 2.0)
    np.testing.assert_array_equal(by_image, jnp.zeros_like(image))  # photons are discrete
    assert by_offset == image.size
    assert jnp.isfinite(by_read_std)


def test_levels_are_checked():
    image = np.ones((4, 5))
    with pytest.raises(ValueError, match=r"std must not be negative, got a minimum of -1"):
        gaussian_noise(KEY, image, -1)
    with pytest.raises(ValueError, match=r"std must .* \(4, 5\), got shape \(3, 4, 5\)"):
        gaussian_noise(KEY, image, np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match="gain must be greater than 0"):
        poisson_gaussian_noise(KEY, image, gain=0, read_std=1)
    with pytest.raises(ValueError, match="read_std must not be negative"):
        poisson_gaussian_noise(KEY, image, gain=1, read_std=-1)
    poisson_gaussian_noise(KEY, image, gain=1, read_std=1, offset=-100)


def test_another_key_implementation_is_explained():
    with pytest.raises(ValueError, match=r"threefry2x32, got one of rbg"):
        poisson_gaussian_noise(jax.random.key(0, impl="rbg"), np.ones((4, 5)), gain=1, read_std=1)


def scene(peak=1000.0):
    image = np.asarray(convolve(phantom(jax.random.key(0), (192, 192)), gaussian_psf(1.3)))
    return peak * np.maximum(image, 0) / image.max()


SCENE = scene()
CAMERA = {"gain": 5.0, "read_std": 15.0}
camera = jax.jit(poisson_gaussian_noise)


def static(count, image=SCENE):
    return np.broadcast_to(image, (count, *image.shape))


def moving():
    return np.stack([SCENE, SCENE[::-1], SCENE.T, SCENE[:, ::-1]])


def check_estimate(noisy, *, gain, read_std, offset=0.0, rtol=(0.05, 0.1)):
    estimate = estimate_noise(noisy, offset=offset)
    np.testing.assert_allclose(estimate.gain, gain, rtol=rtol[0])
    np.testing.assert_allclose(estimate.read_std, read_std, rtol=rtol[1])


@pytest.mark.parametrize(
    ("gain", "read_std", "offset"),
    [(5.0, 15.0, 0.0), (0.7, 8.0, 100.0), (40.0, 40.0, 1000.0), (3.0, 5.0, -20.0)],
)
@pytest.mark.parametrize(
    ("clean", "rtol"),
    [
        (static(1), (0.15, 0.2)),
        (static(4), (0.05, 0.1)),
        (static(32, SCENE[:96, :96]), (0.05, 0.1)),
        (moving(), (0.15, 0.2)),
    ],
    ids=["one", "static", "many", "moving"],
)
def test_the_camera_is_found_again(clean, rtol, gain, read_std, offset):
    noisy = camera(KEY, clean, gain=gain, read_std=read_std, offset=offset)
    check_estimate(noisy, gain=gain, read_std=read_std, offset=offset, rtol=rtol)


@pytest.mark.parametrize("clean", [static(1), static(4)], ids=["one", "static"])
def test_single_photons_are_no_outliers(clean):
    gain, read_std = estimate_noise(camera(KEY, clean * 1e-3, gain=1.0, read_std=0.0))
    np.testing.assert_allclose(gain, 1, rtol=0.1)
    assert read_std < 0.1


@pytest.mark.parametrize("clean", [static(1), static(4), moving()], ids=["one", "static", "moving"])
def test_more_noise_gives_a_larger_estimate(clean):
    def estimates(name, values):
        return [
            getattr(estimate_noise(camera(KEY, clean, **(CAMERA | {name: value}))), name)
            for value in values
        ]

    for name, values in (("gain", [3.0, 5.0, 8.0]), ("read_std", [10.0, 15.0, 25.0])):
        assert np.all(np.diff(estimates(name, values)) > 0)


@pytest.mark.parametrize("factor", [1 / 512, 3.0, 1000.0])
@pytest.mark.parametrize("clean", [static(1), static(4)], ids=["one", "static"])
def test_estimates_scale_with_the_unit_and_follow_the_offset(clean, factor):
    noisy = camera(KEY, clean, **CAMERA)
    expected = estimate_noise(noisy)
    np.testing.assert_allclose(
        estimate_noise(factor * noisy), factor * np.array(expected), rtol=0.01
    )
    np.testing.assert_allclose(estimate_noise(noisy + 500, offset=500), expected, rtol=0.01)


@pytest.mark.parametrize(
    ("clean", "rtol"), [(static(1), (0.15, 0.2)), (static(4), (0.05, 0.1))], ids=["one", "static"]
)
def test_hot_and_saturated_pixels_do_not_count(clean, rtol):
    noisy = np.array(camera(KEY, clean, **CAMERA))
    check_estimate(np.minimum(noisy, 500), **CAMERA, rtol=rtol)
    hot = np.random.default_rng(0).random(SCENE.shape) < 1e-3
    for level in (2000, 65535):
        check_estimate(np.where(hot, level, noisy), **CAMERA, rtol=rtol)


def test_bleaching_is_not_noise():
    fading = SCENE * 0.98 ** np.arange(4)[:, None, None]
    check_estimate(camera(KEY, fading, **CAMERA), **CAMERA)


def test_stored_integers_give_the_same_estimate():
    noisy = camera(KEY, static(4), **CAMERA, offset=100.0)
    estimate = estimate_noise(quantize(noisy, np.uint16), offset=100)
    np.testing.assert_allclose(estimate, estimate_noise(noisy, offset=100), rtol=0.01)
    assert {x.dtype for x in estimate} == {jnp.dtype("float32")}


def test_an_image_is_a_stack_of_one():
    noisy = camera(KEY, static(1), **CAMERA)
    np.testing.assert_array_equal(estimate_noise(noisy[0]), estimate_noise(noisy))


def test_estimates_under_jit_and_vmap():
    noisy = camera(KEY, static(4), **CAMERA)
    stacks, offsets = (
        jnp.stack([noisy, noisy / 2, jnp.ones_like(noisy)]),
        jnp.array([0.0, -5.0, 0.0]),
    )
    gains, read_stds = jax.jit(
        jax.vmap(lambda stack, offset: estimate_noise(stack, offset=offset))
    )(stacks, offsets)
    for i in range(2):
        np.testing.assert_allclose(
            (gains[i], read_stds[i]), estimate_noise(stacks[i], offset=offsets[i]), rtol=1e-4
        )
    assert gains[2] == read_stds[2] == 0  # what is traced cannot be refused


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(
        ValueError, match=r"stack must be \(N, H, W\).*16 x 16.*got shape \(3, 15, 40\)"
    ):
        estimate_noise(np.ones((3, 15, 40)))
    for shape in [(40,), (2, 3, 40, 40), (0, 40, 40)]:
        with pytest.raises(ValueError, match="stack must be"):
            estimate_noise(np.ones(shape))
    with pytest.raises(ValueError, match=r"constant, got 7.0 everywhere"):
        estimate_noise(np.full((2, 40, 40), 7, np.uint8))
    with pytest.raises(ValueError, match=r"offset must be a scalar, got shape \(2,\)"):
        estimate_noise(SCENE, offset=np.ones(2))


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(
        np.float32,
        (2, 5),
        elements=st.floats(width=32) | st.integers(-600, 600).map(lambda n: n / 2),
    ),
    st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    st.sampled_from(["nearest", "truncate"]),
)
def test_quantize_is_what_numpy_does(image, dtype, rounding):
    limits = np.iinfo(dtype)
    clipped = np.clip(np.where(np.isnan(image), 0, image), limits.min, limits.max)
    expected = (np.rint(clipped) if rounding == "nearest" else clipped).astype(dtype)
    quantized = quantize(image, dtype, rounding=rounding)
    assert quantized.dtype == dtype
    np.testing.assert_array_equal(quantized, expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float64])
def test_quantize_takes_any_real_dtype(dtype):
    image = np.array([[0, 1, 100]], dtype)
    np.testing.assert_array_equal(quantize(image, jnp.uint8), image.astype(np.uint8))


def test_quantize_clips_integers():
    np.testing.assert_array_equal(
        quantize(np.array([-(2**40), -1, 300, 2**40]), np.uint8), [0, 0, 255, 255]
    )


def test_quantize_under_transforms():
    images = np.array([[-3.0, 0.5, 1.5], [2.7, 254.6, np.nan]], np.float32)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(lambda image: quantize(image, np.uint8)))(images), [[0, 0, 2], [3, 255, 0]]
    )


def test_what_cannot_be_quantized_is_refused():
    for dtype in (np.float32, np.bool_, np.int32, np.uint64):
        with pytest.raises(
            ValueError, match=f"integer dtype of at most 16 bits, got {np.dtype(dtype)}"
        ):
            quantize(SCENE, dtype)
    with pytest.raises(ValueError, match="got rounding='up'"):
        quantize(SCENE, np.uint8, rounding="up")


def test_the_noise_of_the_report():
    image = np.full((100, 100, 3), 100, np.uint8)
    noisy = quantize(gaussian_noise(KEY, image, jnp.sqrt(100.0)), jnp.uint8, rounding="truncate")
    assert noisy.dtype == jnp.uint8
    check_moments(noisy, 99.5, 100 + 1 / 12)  # truncation takes half a grey level
    first, second = np.asarray(noisy, np.float64)[..., :2].reshape(-1, 2).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05  # a draw for each channel
