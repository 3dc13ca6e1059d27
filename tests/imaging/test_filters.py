"""The classical filters against scipy and OpenCV, and by the laws of a filter."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from jaxdenoise.imaging import median
from jaxdenoise.imaging.filters import (
    box3d_filter,
    box_filter,
    gaussian_filter,
    median_filter,
    wiener_filter,
)

RNG = np.random.default_rng(0)
MODES = {  # scipy's names: OpenCV's
    "reflect": cv2.BORDER_REFLECT,
    "mirror": cv2.BORDER_REFLECT_101,
    "nearest": cv2.BORDER_REPLICATE,
    "wrap": cv2.BORDER_WRAP,
    "constant": cv2.BORDER_CONSTANT,
}
TABLES = {
    3: (1, 2, 1),
    5: (1, 4, 6, 4, 1),
    7: (2, 7, 14, 18, 14, 7, 2),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}
SHAPES = [
    (12,),
    (1,),
    (11, 8),
    (2, 3),
    (1, 6),
    (5, 4, 6),
    (2, 3, 4, 5),
]  # the smallest are narrower than most borders
SIDES = [1, 3, 5, 7, 9, 11]
IMAGE = RNG.uniform(0, 100, (11, 8)).astype(np.float32)
LINEAR = {
    "gaussian": partial(gaussian_filter, sigma=1.2),
    "gaussian-table": partial(gaussian_filter, size=5),
    "box": partial(box_filter, size=(3, 5)),
}
FILTERS = {
    **LINEAR,
    "median": partial(median_filter, size=(3, 5)),
    "wiener": partial(wiener_filter, size=3),
}
linear = pytest.mark.parametrize("apply", LINEAR.values(), ids=LINEAR)
every = pytest.mark.parametrize("apply", FILTERS.values(), ids=FILTERS)
modes = pytest.mark.parametrize("mode", MODES)

some = settings(deadline=None, max_examples=10)
seeds = st.integers(0, 2**32 - 1)


def many(test):
    """Each example compiles a program, so these full products are no part of the fast tests."""
    return pytest.mark.robustness(settings(deadline=None, max_examples=60)(test))


def extra(*values, **options):
    """A case that fast tests leave out, because others reach the same code."""
    return pytest.param(*values, **options, marks=pytest.mark.robustness)


def case(*values, **options):
    """A case of the fast tests."""
    return pytest.param(*values, **options)


# Each border mode once, with windows smaller and larger than the image.
WINDOWS = [
    ((12,), 5, "reflect"),
    ((11, 8), (3, 5), "nearest"),
    ((2, 3), 7, "wrap"),
    ((1, 6), (3, 5), "constant"),
    ((5, 4, 6), (5, 1, 3), "mirror"),
]
INTEGERS = [np.uint8, np.uint16, np.int8, np.int16]


@st.composite
def windows(draw, most):
    """A shape with the size of a window of at most `most` pixels: a number, or one an axis."""
    shape = draw(st.sampled_from(SHAPES))
    if draw(st.booleans()):
        return shape, draw(st.sampled_from([side for side in SIDES if side ** len(shape) <= most]))
    sizes = []
    for _ in shape:
        sizes.append(
            draw(
                st.sampled_from(
                    [side for side in SIDES if side * np.prod(sizes, dtype=int) <= most]
                )
            )
        )
    return shape, tuple(draw(st.permutations(sizes)))


def floats(seed, shape, level=0.0):
    return (level + np.random.default_rng(seed).uniform(-3, 3, shape)).astype(np.float32)


def whole(seed, shape, dtype):
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def assert_close(result, expected, averaged, *, steps=8):
    """To 1e-5 of the averaged range and a few of float32's steps at its largest value."""
    assert result.dtype == jnp.float32
    assert result.shape == expected.shape
    atol = 1e-5 * np.ptp(averaged) + steps * np.spacing(np.float32(np.abs(averaged).max()))
    np.testing.assert_allclose(result, expected, rtol=0, atol=atol)


def exact_sums(image, kernels, mode, cval=0):
    """Exact correlation with one whole-numbered kernel an axis, and the kernels' sum."""
    sums, total = image.astype(np.int64), 1
    for axis, kernel in enumerate(kernels):
        sums = ndimage.correlate1d(sums, kernel, axis, mode=mode, cval=cval * total)
        total *= sum(kernel)
    return sums, total


def exact_box(image, size, mode, cval=0):
    sums, total = exact_sums(
        image, [(1,) * side for side in np.broadcast_to(size, image.ndim)], mode, cval
    )
    return np.rint(sums / total).astype(image.dtype)


def in_double(function, image, *args, **kwargs):
    return function(np.asarray(image, np.float64), *args, **kwargs)


# scipy


@pytest.mark.parametrize("level", [0, 60000])
@pytest.mark.parametrize(
    ("shape", "sigma", "radius", "mode"),
    [
        ((12,), 0.7, None, "reflect"),
        ((11, 8), (1.0, 0), (3, 1), "nearest"),
        ((2, 3), 2.6, 5, "wrap"),
        ((1, 6), (0.1, 1.0), (0, 3), "constant"),
        ((5, 4, 6), (0, 0.7, 1.0), None, "mirror"),
    ],
    ids=str,
)
def test_gaussian_is_scipys(shape, sigma, radius, mode, level):
    check_gaussian(shape, sigma, radius, mode, level, seed=1)


def check_gaussian(shape, sigma, radius, mode, level, seed):
    image, cval = floats(seed, shape, level), level + 2.5
    result = gaussian_filter(image, sigma, radius=radius, mode=mode, cval=cval)
    expected = in_double(ndimage.gaussian_filter, image, sigma, radius=radius, mode=mode, cval=cval)
    assert_close(result, expected, np.append(image, cval), steps=16)


@many
@given(
    data=st.data(), mode=st.sampled_from(list(MODES)), level=st.sampled_from([0, 60000]), seed=seeds
)
def test_any_gaussian_is_scipys(data, mode, level, seed):
    shape = data.draw(st.sampled_from(SHAPES))
    sigma, radius = (
        data.draw(st.one_of(values, st.tuples(*[values] * len(shape))))
        for values in (st.sampled_from([0, 0.1, 0.7, 1.0, 2.6]), st.sampled_from([0, 1, 3, 5]))
    )
    radius = data.draw(st.sampled_from([None, radius]))
    check_gaussian(shape, sigma, radius, mode, level, seed)


@pytest.mark.parametrize("level", [0, 60000])
@pytest.mark.parametrize(("shape", "size", "mode"), WINDOWS, ids=str)
def test_box_is_scipys(shape, size, mode, level):
    check_box(shape, size, mode, level, seed=2)


@many
@given(
    window=windows(11**4),
    mode=st.sampled_from(list(MODES)),
    level=st.sampled_from([0, 60000]),
    seed=seeds,
)
def test_any_box_is_scipys(window, mode, level, seed):
    check_box(*window, mode, level, seed)


def check_box(shape, size, mode, level, seed):
    image, cval = floats(seed, shape, level), level + 2.5
    expected = in_double(ndimage.uniform_filter, image, size, mode=mode, cval=cval)
    assert_close(box_filter(image, size, mode=mode, cval=cval), expected, np.append(image, cval))


@pytest.mark.parametrize(
    ("dtype", "shape", "size", "mode"),
    [(INTEGERS[i % 4], *window) for i, window in enumerate(WINDOWS)],
    ids=str,
)
@some
@given(cval=st.integers(0, 127), seed=seeds)
def test_box_of_integers_is_the_exact_mean_rounded_half_to_even(
    dtype, shape, size, mode, cval, seed
):
    check_box_of_integers(shape, size, mode, dtype, cval, seed)


@many
@given(
    window=windows(11**4),
    mode=st.sampled_from(list(MODES)),
    dtype=st.sampled_from(INTEGERS),
    cval=st.integers(0, 127),
    seed=seeds,
)
def test_any_box_of_integers_is_exact(window, mode, dtype, cval, seed):
    check_box_of_integers(*window, mode, dtype, cval, seed)


def check_box_of_integers(shape, size, mode, dtype, cval, seed):
    image = whole(seed, shape, dtype)
    result = box_filter(image, size, mode=mode, cval=cval)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, exact_box(image, size, mode, cval))


@pytest.mark.parametrize(
    ("dtype", "shape", "size", "mode"),
    [
        ([np.float32, np.uint8, np.uint16, np.int16][i % 4], *window)
        for i, window in enumerate(WINDOWS)
    ],
    ids=str,
)
@some
@given(cval=st.integers(0, 200), seed=seeds)
def test_median_is_scipys_exactly(dtype, shape, size, mode, cval, seed):
    check_median(shape, size, mode, dtype, cval, seed)


@many
@given(
    window=windows(49),
    mode=st.sampled_from(list(MODES)),
    dtype=st.sampled_from([np.float32, np.uint8, np.uint16, np.int16]),
    cval=st.integers(0, 200),
    seed=seeds,
)
def test_any_median_is_scipys_exactly(window, mode, dtype, cval, seed):
    check_median(*window, mode, dtype, cval, seed)


def check_median(shape, size, mode, dtype, cval, seed):
    image = floats(seed, shape, 60000) if dtype == np.float32 else whole(seed, shape, dtype)
    result = median_filter(image, size, mode=mode, cval=cval)
    assert result.dtype == dtype
    # On a single axis SciPy 1.17 has a path of its own, which mirrors images shorter than the
    # window wrongly.
    expected = ndimage.median_filter(
        image[None], (1, *np.broadcast_to(size, image.ndim)), mode=mode, cval=cval
    )[0]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((5, 4, 6), 3, "reflect"),
        ((5, 4, 6), (5, 1, 3), "constant"),
        ((2, 5, 4, 6), 3, "constant"),
        ((2, 2, 5, 4, 6), (7, 3, 5), "reflect"),
    ],
    ids=str,
)
def test_box3d_is_scipys_mean_over_the_last_three_axes(shape, size, mode):
    image = floats(1, shape, 100)
    expected = in_double(
        ndimage.uniform_filter, image, size, mode=mode, cval=99.0, axes=(-3, -2, -1)
    )
    assert_close(box3d_filter(image, size, mode=mode, cval=99.0), expected, image)


# Images many times as wide as the window, whose interior is filtered apart from the edges.

WIDE = [((90,), 11), ((50, 37), (3, 5)), ((2, 33, 16), (5, 3)), ((17, 18, 16), 3)]


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        (case if (i + j) % 5 == 0 else extra)(*WIDE[i], mode)
        for i in range(len(WIDE))
        for j, mode in enumerate(MODES)
    ],
    ids=str,
)
def test_wide_images_are_scipys(shape, size, mode):
    image = whole(15, shape, np.uint8)
    sizes = (1,) * (len(shape) - np.size(size)) + size if np.ndim(size) else size
    np.testing.assert_array_equal(
        box_filter(image, size, mode=mode, cval=7), exact_box(image, sizes, mode, 7)
    )


@pytest.mark.parametrize(
    "mode", ["constant", *map(extra, ("reflect", "mirror", "nearest", "wrap"))]
)
def test_gaussian_and_median_of_wide_images_are_scipys(mode):
    image = floats(16, (50, 37))
    expected = in_double(
        ndimage.gaussian_filter, image, (1.0, 0.6), radius=(3, 2), mode=mode, cval=2.5
    )
    assert_close(
        gaussian_filter(image, (1.0, 0.6), radius=(3, 2), mode=mode, cval=2.5), expected, image
    )
    np.testing.assert_array_equal(
        median_filter(image, (3, 5), mode=mode, cval=2),
        ndimage.median_filter(image, (3, 5), mode=mode, cval=2),
    )


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ((17, 31), "reflect"),
        ((33, 47), "constant"),
        *(extra((33, 47), mode) for mode in MODES if mode != "constant"),
    ],
    ids=str,
)
def test_long_windows_are_scipys(size, mode):
    image = floats(2, (40, 23), 100)
    assert_close(
        box_filter(image, size, mode=mode, cval=99.0),
        in_double(ndimage.uniform_filter, image, size, mode=mode, cval=99.0),
        image,
    )
    counts = whole(2, (40, 23), np.uint16)
    np.testing.assert_array_equal(
        box_filter(counts, size, mode=mode, cval=7), exact_box(counts, size, mode, 7)
    )


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_sums_that_32_bits_do_not_hold_are_right_to_a_grey_level(dtype):
    volume = whole(14, (5, 4, 6), dtype)
    assert 41**3 * np.iinfo(dtype).max > 2**31
    np.testing.assert_allclose(
        box_filter(volume, 41).astype(int), exact_box(volume, 41, "reflect"), rtol=0, atol=1
    )
    sums, total = exact_sums(volume, [TABLES[9]] * 3, "reflect")
    np.testing.assert_allclose(
        gaussian_filter(volume, size=9).astype(int), sums / total, rtol=0, atol=0.6
    )


@pytest.mark.parametrize(
    "mode", ["reflect", "constant", *map(extra, ("mirror", "nearest", "wrap"))]
)
def test_long_gaussians_are_scipys(mode):
    for level in (0, 60000):
        image, cval = floats(3, (40, 23), level), level + 2.5
        expected = in_double(
            ndimage.gaussian_filter, image, (20.0, 40.0), radius=(64, 65), mode=mode, cval=cval
        )
        result = gaussian_filter(
            image, (20.0, 40.0), radius=(64, 65), mode=mode, cval=cval
        )  # weights added one by one, and through Fourier
        assert_close(result, expected, image, steps=16)


def test_a_gaussians_size_with_sigma_is_its_radius():
    by_size = gaussian_filter(IMAGE, (1.0, 2.0), size=(5, 9))
    np.testing.assert_array_equal(by_size, gaussian_filter(IMAGE, (1.0, 2.0), radius=(2, 4)))
    assert_close(
        by_size, in_double(ndimage.gaussian_filter, IMAGE, (1.0, 2.0), radius=(2, 4)), IMAGE
    )


# OpenCV

PHOTO = RNG.integers(0, 256, (40, 37), np.uint8)
CAMERA = RNG.integers(0, 65536, (40, 37), np.uint16)
FLOATS = RNG.uniform(0, 100, (40, 37)).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (PHOTO, 3),
        (CAMERA, 5),
        (FLOATS, 5),
        (PHOTO, 7),
        *(extra(*case) for case in ((PHOTO, 5), (CAMERA, 3), (FLOATS, 3), (PHOTO, 9), (PHOTO, 21))),
    ],
)
def test_median_is_opencvs_exactly(image, size):
    result = median_filter(image, size, mode="nearest")
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, cv2.medianBlur(image, size))


@pytest.mark.parametrize(
    "size", [(5, 5), (31, 31), (3, 9), *map(extra, ((3, 3), (7, 7), (11, 1)))], ids=str
)
def test_box_is_opencvs(size):
    for image in (PHOTO, CAMERA):
        result = box_filter(image, size, mode="mirror")
        assert result.dtype == image.dtype
        np.testing.assert_array_equal(result, exact_box(image, size, "mirror"))
        opencv_is_exact = image is PHOTO or size != (31, 31)
        np.testing.assert_allclose(
            result.astype(int),
            cv2.blur(image, size[::-1]),
            rtol=0,
            atol=0 if opencv_is_exact else 1,
        )
    assert_close(box_filter(FLOATS, size, mode="mirror"), cv2.blur(FLOATS, size[::-1]), FLOATS)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        *((PHOTO, size) for size in (3, 5, 7)),
        *((CAMERA, size) for size in (9, 11)),
        *(extra(PHOTO, size) for size in (9, 11)),
        *(extra(CAMERA, size) for size in (3, 5, 7)),
    ],
)
def test_gaussian_by_size_is_opencvs_to_a_grey_level(image, size):
    result, theirs, exact = (
        gaussian_filter(image, size=size, mode="mirror"),
        *(cv2.GaussianBlur(x, (size, size), 0) for x in (image, image * 1.0)),
    )
    assert result.dtype == image.dtype
    np.testing.assert_allclose(result.astype(float), exact, rtol=0, atol=0.51)
    rounded_weights = image is CAMERA and size > max(
        TABLES
    )  # OpenCV's own are two bytes long there
    np.testing.assert_allclose(result.astype(int), theirs, rtol=0, atol=2 if rounded_weights else 1)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_where_opencv_rounds_a_tie_up_we_round_it_to_even(size):
    sums, total = exact_sums(PHOTO, [TABLES[size]] * 2, "mirror")
    ties = sums % total == total // 2
    result, theirs = (
        np.asarray(gaussian_filter(PHOTO, size=size, mode="mirror")),
        cv2.GaussianBlur(PHOTO, (size, size), 0),
    )
    np.testing.assert_array_equal(result, np.rint(sums / total))
    np.testing.assert_array_equal(theirs, (sums + total // 2) // total)
    np.testing.assert_array_equal(result != theirs, ties & (sums // total % 2 == 0))
    assert size == 7 or (result != theirs).any()  # among 4096ths ties are rare


@pytest.mark.parametrize(
    "size", [9, 15, (13, 5), *map(extra, (3, 5, 7, 11, 13, (3, 11), (9, 1)))], ids=str
)
def test_gaussian_of_floats_by_size_is_opencvs(size):
    height, width = np.broadcast_to(size, 2)
    expected = cv2.GaussianBlur(FLOATS, (int(width), int(height)), 0)
    assert_close(gaussian_filter(FLOATS, size=size, mode="mirror"), expected, FLOATS)


@pytest.mark.parametrize(
    ("sigma", "size"),
    [(1.0, 7), ((1.0, 3.0), (9, 15)), extra(0.5, 3), extra(2.3, 15)],
    ids=str,
)
def test_gaussian_of_floats_by_sigma_is_opencvs(sigma, size):
    (sigma_y, sigma_x), (height, width) = np.broadcast_to(sigma, 2), np.broadcast_to(size, 2)
    expected = cv2.GaussianBlur(FLOATS, (int(width), int(height)), sigma_x, sigmaY=sigma_y)
    assert_close(gaussian_filter(FLOATS, sigma, size=size, mode="mirror"), expected, FLOATS)


@modes
def test_each_border_is_opencvs_of_the_docstring(mode):
    size, (above, beside) = (7, 5), (3, 2)
    if mode != "wrap":  # which OpenCV's filters do not know
        assert_close(
            box_filter(FLOATS, size, mode=mode),
            cv2.blur(FLOATS, size[::-1], borderType=MODES[mode]),
            FLOATS,
        )
    extended = cv2.copyMakeBorder(FLOATS, above, above, beside, beside, MODES[mode], value=7)
    inner = np.s_[above:-above, beside:-beside]
    assert_close(
        box_filter(FLOATS, size, mode=mode, cval=7), cv2.blur(extended, size[::-1])[inner], FLOATS
    )
    expected = cv2.GaussianBlur(extended, size[::-1], 1.0)[inner]
    assert_close(gaussian_filter(FLOATS, 1.0, size=size, mode=mode, cval=7), expected, FLOATS)


# wiener_filter


@pytest.mark.parametrize(
    ("size", "noise"),
    [
        ((3, 5), None),
        (5, 300.0),
        (3, 0.5),
        (3, 5000.0),
        *(extra(size, noise) for size in (3, 5) for noise in (None, 20.0)),
    ],
    ids=str,
)
def test_wiener_is_scipys(size, noise):
    assert_close(
        wiener_filter(IMAGE, size, noise=noise), in_double(signal.wiener, IMAGE, size, noise), IMAGE
    )


def test_wieners_defaults_are_scipys():
    for image in (IMAGE, floats(4, (5, 4, 6), 20), floats(4, (30,), 20)):
        assert_close(wiener_filter(image), in_double(signal.wiener, image), image)


@pytest.mark.parametrize("noise", [None, 2.0])
def test_wiener_at_a_large_offset_is_as_without(noise):
    image = floats(5, (40, 37), 60000)
    image[:, 20:] += 8
    low = image.astype(np.float64) - 60000
    extended = np.pad(low, 1, mode="symmetric")
    mean, square = (ndimage.uniform_filter(x, 3)[1:-1, 1:-1] for x in (extended, extended**2))
    variance = square - mean**2
    level = variance.mean() if noise is None else noise
    expected = 60000 + mean + np.maximum(0, 1 - level / variance) * (low - mean)
    assert_close(wiener_filter(image, noise=noise, mode="reflect"), expected, image)


@pytest.mark.parametrize("noise", [None, 4.0, extra(0.0)])
def test_wiener_leaves_a_constant_and_has_its_gradient(noise):
    apply = partial(wiener_filter, mode="reflect", noise=noise)
    gradient = jax.jit(jax.grad(lambda x: (apply(x) ** 2).sum()))
    for value in (0.0, 0.1, 60000.7):
        image = np.full((11, 8), value, np.float32)
        np.testing.assert_allclose(apply(image), image, rtol=1e-6)
        assert jnp.isfinite(gradient(image)).all()


def test_wiener_without_noise_is_the_image_and_with_much_the_mean():
    assert_close(wiener_filter(IMAGE, noise=0, mode="reflect"), IMAGE, IMAGE)
    assert_close(wiener_filter(IMAGE, noise=1e6, mode="reflect"), box_filter(IMAGE), IMAGE)


# laws


@linear
@some
@given(seed=seeds, a=st.floats(-3, 3, width=32), b=st.floats(-3, 3, width=32))
def test_linear(apply, seed, a, b):
    x, y = floats(seed, (2, 11, 8))
    np.testing.assert_allclose(
        apply(np.float32(a) * x + np.float32(b) * y), a * apply(x) + b * apply(y), atol=3e-5
    )


@every
@some
@given(seed=seeds, shift=st.tuples(st.integers(-11, 11), st.integers(-8, 8)))
def test_a_shifted_image_gives_a_shifted_result(apply, seed, shift):
    image = floats(seed, (11, 8))
    assert_close(
        apply(np.roll(image, shift, (0, 1)), mode="wrap"),
        np.roll(apply(image, mode="wrap"), shift, (0, 1)),
        image,
    )


def test_a_shifted_volume_gives_a_shifted_result():
    volume = floats(6, (5, 4, 6))
    shifted = box3d_filter(np.roll(volume, (1, 2, -3), (0, 1, 2)), (3, 5, 3), mode="wrap")
    assert_close(
        shifted,
        np.roll(box3d_filter(volume, (3, 5, 3), mode="wrap"), (1, 2, -3), (0, 1, 2)),
        volume,
    )


@every
@some
@given(value=st.floats(-1e5, 1e5, width=32))
def test_a_constant_stays(apply, value):
    image = np.full((11, 8), value, np.float32)
    np.testing.assert_allclose(
        apply(image, mode="reflect"),
        image,
        rtol=0 if apply is FILTERS["median"] else 1e-6,
        atol=1e-37,
    )


@every
@some
@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.int16]))
def test_a_constant_of_integers_stays_exactly(apply, data, dtype):
    value = data.draw(st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max))
    image = np.full((11, 8), value, dtype)
    np.testing.assert_array_equal(apply(image, mode="reflect"), image)


@pytest.mark.parametrize("apply", [*LINEAR.values(), box3d_filter], ids=[*LINEAR, "box3d"])
@some
@given(seed=seeds)
def test_the_sum_stays_where_the_border_wraps(apply, seed):
    image = floats(seed, (5, 4, 6) if apply is box3d_filter else (11, 8), 10)
    np.testing.assert_allclose(
        np.asarray(apply(image, mode="wrap")).sum(dtype=np.float64),
        image.sum(dtype=np.float64),
        rtol=1e-6,
    )


INCREASING = {
    "exp": np.exp,
    "affine": lambda x: 2 * x + 1,
    "cube": lambda x: x**3,
    "ranks": lambda x: np.arange(len(x), dtype=np.float32) ** 2,
}


@pytest.mark.parametrize("increase", INCREASING.values(), ids=INCREASING)
@some
@given(seed=seeds, spread=st.sampled_from([1, 1000]))
def test_the_median_commutes_with_increasing_maps(increase, seed, spread):
    image = np.round(floats(seed, (11, 8)) * spread) / np.float32(spread)  # many ties, or few
    values, places = np.unique(image, return_inverse=True)
    mapped = increase(values).astype(np.float32)
    expected = mapped[np.searchsorted(values, median_filter(image, (3, 5)))]
    np.testing.assert_array_equal(
        median_filter(mapped[places].reshape(image.shape), (3, 5)), expected
    )


@some
@given(seed=seeds, dtype=st.sampled_from([np.uint8, np.uint16, np.int16]))
def test_the_median_commutes_with_increasing_maps_of_integers(seed, dtype):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (11, 8)).astype(dtype)
    table = np.sort(
        rng.choice(np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1), 40, replace=False)
    ).astype(dtype)
    np.testing.assert_array_equal(
        median_filter(table[image], (3, 5)), table[median_filter(image, (3, 5))]
    )


@some
@given(seed=seeds)
def test_the_median_of_the_negative_is_the_negative_median(seed):
    image = floats(seed, (11, 8))
    np.testing.assert_array_equal(median_filter(-image, (3, 5)), -median_filter(image, (3, 5)))
    counts = np.maximum(whole(seed, (11, 8), np.int16), -(2**15 - 1))
    np.testing.assert_array_equal(median_filter(-counts, (3, 5)), -median_filter(counts, (3, 5)))


@pytest.mark.parametrize("size", [3, 5, 11])
@some
@given(seed=seeds, sign=st.sampled_from([1, -1]))
def test_the_median_leaves_what_only_rises_or_only_falls(size, seed, sign):
    ramp = sign * np.sort(floats(seed, (12,)))
    np.testing.assert_array_equal(median_filter(ramp, size, mode="nearest"), ramp)


@every
@some
@given(seed=seeds)
def test_a_flipped_image_gives_a_flipped_result(apply, seed):
    image = floats(seed, (11, 8))
    result = apply(image, mode="reflect")
    for axis in (0, 1):
        assert_close(apply(np.flip(image, axis), mode="reflect"), np.flip(result, axis), image)


TURNED = {
    "gaussian": (
        partial(gaussian_filter, sigma=(0.7, 2.0)),
        partial(gaussian_filter, sigma=(2.0, 0.7)),
    ),
    "box": (partial(box_filter, size=(3, 5)), partial(box_filter, size=(5, 3))),
    "median": (partial(median_filter, size=(3, 5)), partial(median_filter, size=(5, 3))),
    "wiener": (partial(wiener_filter, size=(3, 5)), partial(wiener_filter, size=(5, 3))),
}


@pytest.mark.parametrize(("apply", "turned"), TURNED.values(), ids=TURNED)
@some
@given(seed=seeds)
def test_a_transposed_image_gives_a_transposed_result(apply, turned, seed):
    image = floats(seed, (11, 8))
    assert_close(turned(image.T, mode="reflect"), apply(image, mode="reflect").T, image)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int16"])
def test_a_window_of_one_pixel_is_the_identity(dtype):
    image = jnp.asarray(IMAGE).astype(dtype)
    for apply in (gaussian_filter, box_filter, median_filter):
        np.testing.assert_array_equal(apply(image, size=1), image)
    np.testing.assert_array_equal(box3d_filter(image[None], 1)[0], image)
    np.testing.assert_allclose(
        wiener_filter(image, 1), image, rtol=0, atol=1e-5 if dtype == "float32" else 0
    )


def test_sigma_0_is_the_identity():
    np.testing.assert_array_equal(gaussian_filter(IMAGE, 0), IMAGE)
    np.testing.assert_array_equal(gaussian_filter(IMAGE, 0.0, radius=3), IMAGE)
    np.testing.assert_array_equal(gaussian_filter(IMAGE, (0, 1.0)), gaussian_filter(IMAGE, (1.0,)))


# dtypes


DTYPES = ["float16", "bfloat16", "float32", "uint8", "uint16", "int8", "int16"]


@pytest.mark.parametrize(
    ("apply", "dtype"),
    [
        (case if (i + j) % 3 == 0 else extra)(apply, dtype, id=f"{name}-{dtype}")
        for i, (name, apply) in enumerate(FILTERS.items())
        for j, dtype in enumerate(DTYPES)
    ],
)
def test_the_result_has_the_images_dtype_and_float32s_values(apply, dtype):
    top = 100 if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).max
    image = (
        jnp.asarray(RNG.uniform(-top if dtype != "uint8" else 0, top, (11, 8)))
        .clip(-(2**15), 2**15 - 1)
        .astype(dtype)
    )
    result, unrounded = apply(image), np.asarray(apply(image.astype(jnp.float32)))
    assert result.dtype == dtype
    values = np.asarray(result.astype(jnp.float32))
    if jnp.issubdtype(dtype, jnp.floating):
        expected = jnp.asarray(unrounded).astype(dtype).astype(jnp.float32)
        np.testing.assert_array_equal(values, expected)
        return
    # Compiled programs differ in the last bit of float32: next to a half, either side is right.
    tie = np.abs(unrounded) * 2 * np.finfo(np.float32).eps
    np.testing.assert_array_equal(values, np.rint(values))
    assert (np.abs(values - unrounded) <= 0.5 + tie).all()


def test_ties_are_rounded_to_even():
    counts = np.array([[0, 1, 0, 1, 2, 3, 4, 5, 250, 253, 255, 254]], np.uint8)
    sums, total = exact_sums(counts, [(1,), (1, 2, 1)], "mirror")
    assert total == 4
    assert (sums % 4 == 2).sum() > 3
    np.testing.assert_array_equal(
        gaussian_filter(counts, size=(1, 3), mode="mirror"), np.rint(sums / 4)
    )
    below = -counts.astype(np.int16)
    np.testing.assert_array_equal(
        gaussian_filter(below, size=(1, 3), mode="mirror"), np.rint(-sums / 4)
    )


@linear
@pytest.mark.parametrize("dtype", [np.uint16, extra(np.uint8), extra(np.int16)])
def test_the_means_of_integers_may_stay_unrounded(apply, dtype):
    image = whole(7, (11, 8), dtype)
    result = apply(image, dtype="float32")
    assert_close(result, apply(image.astype(np.float32)), image)
    assert not np.array_equal(result, np.rint(result))


def test_floats_become_integers_half_to_even_within_their_range():
    image = np.array([0.5, 1.5, 2.5, -0.5, -7.0, 254.5, 255.5, 1000.0], np.float32)
    for apply in (gaussian_filter, box_filter, median_filter):
        result = apply(image, size=1, dtype=jnp.uint8)
        assert result.dtype == jnp.uint8
        np.testing.assert_array_equal(result, [0, 2, 2, 0, 0, 254, 255, 255])


@every
@pytest.mark.parametrize("given_as", ["uint16", extra("int16")])
def test_integers_saturate_in_a_smaller_dtype(apply, given_as):
    image = whole(8, (11, 8), given_as)
    expected = np.clip(np.asarray(apply(image)).astype(int), 0, 255)
    result = apply(image, dtype="uint8")
    assert result.dtype == "uint8"
    np.testing.assert_array_equal(result, expected)


DOUBLE = {
    "gaussian": (partial(gaussian_filter, sigma=1.3), lambda x: ndimage.gaussian_filter(x, 1.3)),
    "gaussian-long": (
        partial(gaussian_filter, sigma=20.0),
        lambda x: ndimage.gaussian_filter(x, 20.0),
    ),
    "gaussian-table": (
        partial(gaussian_filter, size=5, mode="mirror"),
        lambda x: cv2.GaussianBlur(x, (5, 5), 0),
    ),
    "gaussian-size": (
        partial(gaussian_filter, size=11, mode="mirror"),
        lambda x: cv2.GaussianBlur(x, (11, 11), 0),
    ),
    "box": (partial(box_filter, size=5), lambda x: ndimage.uniform_filter(x, 5)),
    "median": (partial(median_filter, size=3), lambda x: ndimage.median_filter(x, 3)),
    "wiener": (wiener_filter, signal.wiener),
}


@pytest.mark.parametrize(("apply", "reference"), DOUBLE.values(), ids=DOUBLE)
def test_float64_stays_float64_where_enabled(apply, reference):
    image = RNG.normal(size=(11, 8))
    with jax.enable_x64(True):
        result = apply(image)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, reference(image), atol=1e-12)


# transforms


@every
def test_jit_and_vmap_change_nothing(apply):
    images = floats(9, (3, 17, 33), 50)
    expected = np.stack([apply(image) for image in images])
    np.testing.assert_allclose(jax.jit(apply)(images[0]), expected[0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(apply))(images), expected, rtol=1e-6)


SHORTER = {
    "gaussian": partial(gaussian_filter, sigma=(1.0, 1.5)),
    "gaussian-radius": partial(gaussian_filter, sigma=1.0, radius=(2, 3)),
    "gaussian-table": partial(gaussian_filter, size=(3, 5)),
    "box": partial(box_filter, size=(3, 5)),
    "median": partial(median_filter, size=np.array([3, 5])),
    "wiener": partial(wiener_filter, size=[3, 5], noise=1.0),
}


@pytest.mark.parametrize("apply", SHORTER.values(), ids=SHORTER)
def test_a_shorter_size_leaves_the_leading_axes_alone(apply):
    stack = floats(10, (3, 17, 33))
    result = apply(stack)
    assert_close(result, jax.vmap(apply)(stack), stack)


def test_a_volume_within_leading_axes_is_filtered_alone():
    stack = floats(11, (2, 5, 4, 6))
    result = box3d_filter(stack, (3, 1, 5))
    assert_close(result, jax.vmap(partial(box3d_filter, size=(3, 1, 5)))(stack), stack)
    assert_close(result[1], box_filter(stack[1], (3, 1, 5)), stack)


@pytest.mark.parametrize("extent", [{"radius": 4}, {"size": 9}], ids=str)
def test_mapping_over_sigmas_is_a_loop(extent):
    sigmas = np.array([0.0, 0.4, 1.0, 3.0], np.float32)
    for result, sigma in zip(
        jax.vmap(lambda s: gaussian_filter(IMAGE, s, **extent))(sigmas), sigmas, strict=True
    ):
        assert_close(result, in_double(ndimage.gaussian_filter, IMAGE, sigma, radius=4), IMAGE)
    pair = jax.jit(lambda s: gaussian_filter(IMAGE, s, **extent))(jnp.array([0.5, 2.0]))
    assert_close(pair, in_double(ndimage.gaussian_filter, IMAGE, (0.5, 2.0), radius=4), IMAGE)


def test_the_gradient_by_sigma_is_the_finite_difference():
    weights = RNG.normal(size=IMAGE.shape)

    def energy(sigma):
        return np.vdot(in_double(ndimage.gaussian_filter, IMAGE, sigma, radius=4), weights)

    gradient = jax.jit(jax.grad(lambda s: jnp.vdot(gaussian_filter(IMAGE, s, radius=4), weights)))
    for sigma in (0.5, 1.0, 2.5):
        assert gradient(sigma) == pytest.approx(
            (energy(sigma + 1e-5) - energy(sigma - 1e-5)) / 2e-5, rel=1e-4, abs=1e-2
        )


MATRICES = {
    "gaussian": (LINEAR["gaussian"], lambda x, mode: ndimage.gaussian_filter(x, 1.2, mode=mode)),
    "gaussian-long": (
        partial(gaussian_filter, sigma=20.0),
        lambda x, mode: ndimage.gaussian_filter(x, 20.0, mode=mode),
    ),
    "gaussian-table": (
        LINEAR["gaussian-table"],
        lambda x, mode: ndimage.correlate(x, np.outer(TABLES[5], TABLES[5]) / 256, mode=mode),
    ),
    "box": (LINEAR["box"], lambda x, mode: ndimage.uniform_filter(x, (3, 5), mode=mode)),
    "box-long": (
        partial(box_filter, size=(33, 17)),
        lambda x, mode: ndimage.uniform_filter(x, (33, 17), mode=mode),
    ),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    list(zip(MATRICES, ["constant", "reflect", "mirror", "wrap", "nearest"], strict=True)),
)
def test_the_gradient_of_a_linear_filter_is_its_adjoint(name, mode):
    apply, reference = MATRICES[name]
    matrix = np.stack(
        [reference(pulse.reshape(5, 6), mode).ravel() for pulse in np.eye(30)], axis=1
    )
    x, y = floats(12, (2, 5, 6))
    (back,) = jax.jit(lambda x, y: jax.vjp(partial(apply, mode=mode), x)[1](y))(x, y)
    np.testing.assert_allclose(apply(x, mode=mode).ravel(), matrix @ x.ravel(), atol=1e-5)
    np.testing.assert_allclose(back.ravel(), matrix.T @ y.ravel(), atol=1e-5)


@linear
def test_the_gradient_of_a_wide_image_is_the_adjoint(apply):
    x, y = floats(17, (2, 33, 40))
    (back,) = jax.jit(lambda x, y: jax.vjp(apply, x)[1](y))(x, y)
    assert np.vdot(apply(x), y) == pytest.approx(np.vdot(x, back), abs=1e-2)


@pytest.mark.parametrize("noise", [None, 400.0])
def test_wieners_gradient_is_the_finite_difference(noise):
    weights, along = RNG.normal(size=(2, *IMAGE.shape))

    def energy(step):
        return np.vdot(in_double(signal.wiener, IMAGE + step * along, 3, noise), weights)

    gradient = jax.grad(lambda x: jnp.vdot(wiener_filter(x, noise=noise), weights))(
        jnp.asarray(IMAGE)
    )
    assert np.vdot(gradient, along) == pytest.approx(
        (energy(1e-6) - energy(-1e-6)) / 2e-6, rel=1e-3
    )


def test_wiener_learns_its_noise():
    weights = RNG.normal(size=IMAGE.shape)

    def energy(noise):
        return np.vdot(in_double(signal.wiener, IMAGE, 3, noise), weights)

    gradient = jax.jit(
        jax.grad(lambda noise: jnp.vdot(wiener_filter(IMAGE, noise=noise), weights))
    )(400.0)
    assert gradient == pytest.approx((energy(400.01) - energy(399.99)) / 0.02, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "shared"), [(3, False), ((1, 7), True), extra((1, 5), False), extra((1, 171), True)]
)
def test_the_medians_gradient_goes_to_the_pixels_that_are_the_median(monkeypatch, size, shared):
    if shared:
        monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    image = RNG.permutation(3 * 90).reshape(3, 90).astype(np.float32)
    along = RNG.uniform(-0.4, 0.4, image.shape).astype(np.float32)  # leaves the order as it is
    weights = RNG.normal(size=image.shape).astype(np.float32)
    (gradient,) = jax.jit(lambda x, y: jax.vjp(partial(median_filter, size=size), x)[1](y))(
        image, weights
    )
    difference = ndimage.median_filter(
        image + along.astype(np.float64), size
    ) - ndimage.median_filter(image, size)
    assert np.vdot(gradient, along) == pytest.approx(np.vdot(difference, weights), abs=1e-4)
    assert gradient.sum() == pytest.approx(weights.sum(), abs=1e-4)


def test_tied_pixels_share_the_medians_gradient_equally():
    image = np.array([0, 2, 2, 2, 7, 9], np.float32)
    matrix = jax.jacrev(partial(median_filter, size=3, mode="constant", cval=2))(image)
    third = 1 / 3
    expected = [
        [0, 1 / 2, 0, 0, 0, 0],
        [0, 1 / 2, 1 / 2, 0, 0, 0],
        [0, third, third, third, 0, 0],
        [0, 0, 1 / 2, 1 / 2, 0, 0],
    ]
    np.testing.assert_allclose(matrix[:4], expected, rtol=1e-6)
    np.testing.assert_array_equal(matrix[4:], np.eye(6)[[4, 4]])


def test_the_medians_gradient_of_a_constant_is_the_boxs():
    weights, ones = jnp.asarray(floats(13, (11, 8))), jnp.ones((11, 8))
    (gradient,), (expected,) = (
        jax.vjp(apply, ones)[1](weights) for apply in (median_filter, box_filter)
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


# errors


def by_traced_size(apply, image):
    return jax.jit(lambda size: apply(image, size=size))(3)


def by_traced_sigma(image):
    return jax.jit(lambda sigma: gaussian_filter(image, sigma))(1.0)


BYTES = IMAGE.astype(np.uint8)
IMPOSSIBLE = [
    (partial(gaussian_filter, IMAGE), "needs sigma in pixels, or size"),
    (partial(gaussian_filter, IMAGE, 1.0, size=3, radius=1), "both size and radius"),
    (partial(gaussian_filter, IMAGE, size=3, radius=1), "both size and radius"),
    *[
        (partial(gaussian_filter, IMAGE, sigma, size=size), ">= 0")
        for sigma in (-1, (1.0, -0.1), np.nan, np.inf)
        for size in (None, 3)
    ],
    (partial(gaussian_filter, IMAGE, (1.0, 1.0, 1.0)), "sigma has 3 values for 2 axes"),
    (partial(gaussian_filter, IMAGE, 1.0, radius=(1, 1, 1)), "radius has 3 values for 2 axes"),
    *[
        (
            partial(gaussian_filter, IMAGE, 1.0, radius=radius),
            f"radius must be a whole number.*>= 0, not {radius}",
        )
        for radius in (-1, 1.5, "a")
    ],
    (partial(by_traced_sigma, IMAGE), "a traced sigma needs a static size"),
    (
        partial(box_filter, BYTES, mode="constant", cval=300),
        "cval must be a whole number that uint8 holds, not 300",
    ),
    (
        partial(box_filter, BYTES, mode="constant", cval=0.5),
        "cval must be a whole number that uint8 holds, not 0.5",
    ),
    (
        partial(median_filter, BYTES, mode="constant", cval=-1),
        "cval must be a whole number that uint8 holds, not -1",
    ),
    (partial(box_filter, IMAGE, dtype="int32"), "at most 16 bits, not int32"),
    (
        partial(box3d_filter, IMAGE),
        r"expected a volume \(Z, Y, X\), got shape \(11, 8\); box_filter is for images",
    ),
    (partial(box3d_filter, IMAGE[None], (1, 1, 3, 3)), "size has 4 values for 3 axes"),
    (partial(wiener_filter, IMAGE, noise=-1.0), "noise must be one variance >= 0 .*, not -1.0"),
    (partial(wiener_filter, IMAGE, noise=np.nan), "noise must be one variance >= 0 .*, not nan"),
    (partial(wiener_filter, IMAGE, noise=np.ones(8)), "noise must be one variance"),
]
for _apply in (gaussian_filter, box_filter, median_filter, wiener_filter):
    IMPOSSIBLE += [
        (partial(_apply, IMAGE, size=size), f"odd number of pixels.*, not {size}")
        for size in (4, 10)
    ]
    IMPOSSIBLE += [
        (partial(_apply, IMAGE, size=size), f"whole number of pixels >= 1, not {size}")
        for size in (0, -3, 3.5, np.inf, np.nan, True, "a")
    ]
    IMPOSSIBLE += [
        (partial(_apply, IMAGE, size=(3, 4)), "odd number of pixels.*, not 4"),
        (partial(_apply, IMAGE, size=(3, 3, 3)), "size has 3 values for 2 axes"),
        (partial(_apply, IMAGE, size=()), "size has 0 values for 2 axes"),
        (partial(by_traced_size, _apply, IMAGE), "a size cannot be traced"),
        (
            partial(_apply, IMAGE, size=3, mode="symmetric"),
            "unknown border mode 'symmetric'; choose one of reflect, mirror, nearest, wrap",
        ),
        (
            partial(_apply, IMAGE.astype(np.int32), size=3),
            "at most 16 bits, not int32; convert the image to float32",
        ),
        (partial(_apply, IMAGE > 50, size=3), "not bool"),
        (partial(_apply, IMAGE.astype(np.complex64), size=3), "not complex64"),
        (partial(_apply, np.float32(1), size=3), r"expected an image, got shape \(\)"),
        (partial(_apply, IMAGE[:0], size=3), r"expected an image, got shape \(0, 8\)"),
    ]


@pytest.mark.wrong_types
@pytest.mark.parametrize(("call", "message"), IMPOSSIBLE)
def test_what_cannot_be_filtered(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
