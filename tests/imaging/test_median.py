"""Medians of sliding windows against NumPy, window by window, through both kinds of network."""

import itertools
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdenoise.imaging import median
from jaxdenoise.imaging.filters import median_filter
from jaxdenoise.imaging.median import window_median

RNG = np.random.default_rng(0)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38], np.float32)
few = settings(deadline=None, max_examples=5)
seeds = st.integers(0, 2**32 - 1)


def reference(extended, sizes):
    """The middle of each sorted window; NumPy sorts NaN to the end."""
    windows = np.lib.stride_tricks.sliding_window_view(extended, sizes)
    return np.sort(windows.reshape(*windows.shape[: extended.ndim], -1))[..., np.prod(sizes) // 2]


def compiled(sizes):
    return jax.jit(lambda x: window_median(x, sizes))


def values(rng, shape, dtype):
    if dtype == "special":
        return rng.choice(SPECIAL, shape)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def extremes(rng, shape, dtype):
    """Mostly the least and the greatest value; the networks are padded with the greatest."""
    limits = np.iinfo(dtype)
    return rng.choice(
        [limits.min, limits.max, limits.min + 1, limits.max - 1], shape, p=[0.45, 0.45, 0.05, 0.05]
    ).astype(dtype)


PROGRAMS = {
    sizes: (shape, compiled(sizes))
    for shape, sizes in [
        ((20,), (1,)),
        ((20,), (9,)),
        ((20, 17), (5, 3)),
        ((20, 17), (7, 7)),
        ((8, 9, 7), (3, 3, 3)),
        ((8, 9, 7), (5, 1, 3)),
    ]
}


DTYPES = ["float32", "special", "float16", "uint8", "int8", "uint16"]
PRODUCT = list(itertools.product(PROGRAMS, DTYPES))


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        *zip(PROGRAMS, DTYPES, strict=True),
        *(pytest.param(*case, marks=pytest.mark.robustness) for case in PRODUCT),
    ],
    ids=str,
)
@few
@given(seed=seeds)
def test_medians_are_numpys(sizes, dtype, seed):
    shape, program = PROGRAMS[sizes]
    x = values(np.random.default_rng(seed), shape, dtype)
    result = program(x)
    assert result.dtype == x.dtype
    np.testing.assert_array_equal(result, reference(x, sizes))


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((60,), (21,)), ((20, 17), (3, 3)), ((20, 17), (1, 17)), ((8, 9, 7), (5, 1, 3))],
    ids=str,
)
def test_networks_that_windows_share_give_the_same(monkeypatch, shape, sizes):
    monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    program = compiled(sizes)
    for dtype in ("float32", "special"):
        x = values(RNG, shape, dtype)
        np.testing.assert_array_equal(program(x), reference(x, sizes))


@pytest.mark.parametrize(
    ("sizes", "network"),
    [
        ((13, 13), "_direct"),
        ((13, 15), "_in_blocks"),
        ((171,), "_in_blocks"),
        ((7, 5, 5), "_in_blocks"),
    ],
)
def test_windows_share_networks_beyond_169_pixels(monkeypatch, sizes, network):
    used = []

    def follow(call):
        return lambda *args: used.append(call.__name__) or call(*args)

    for name in ("_direct", "_in_blocks"):
        monkeypatch.setattr(median, name, follow(getattr(median, name)))
    result = jax.eval_shape(
        compiled(sizes), jax.ShapeDtypeStruct([size + 4 for size in sizes], np.float32)
    )
    assert result.shape == (5,) * len(sizes)
    assert used == [network]


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 171),
        pytest.param((13, 13), marks=pytest.mark.slow),
        pytest.param((13, 15), marks=pytest.mark.robustness),
    ],
    ids=str,
)
def test_large_windows_are_numpys(sizes):
    program = compiled(sizes)
    for dtype in ("float32", "special"):
        x = values(RNG, (14, 175), dtype)
        np.testing.assert_array_equal(program(x), reference(x, sizes))


@pytest.mark.parametrize(
    ("dtype", "shared"),
    [
        ("uint8", True),
        ("int8", False),
        *(
            pytest.param(dtype, shared, marks=pytest.mark.robustness)
            for dtype in ("uint8", "int8", "uint16")
            for shared in (False, True)
        ),
    ],
)
def test_a_dtypes_limits_are_values_like_others(monkeypatch, dtype, shared):
    if shared:
        monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    program, limits = compiled((5, 3)), np.iinfo(dtype)
    x = extremes(RNG, (20, 17), dtype)
    np.testing.assert_array_equal(program(x), reference(x, (5, 3)))
    for value in (limits.min, limits.max):
        full = np.full((20, 17), value, dtype)
        np.testing.assert_array_equal(program(full), full[4:, 2:])


@pytest.mark.parametrize("shared", [False, True])
def test_floats_sort_with_their_signs_and_nan(monkeypatch, shared):
    if shared:
        monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    program, nan, inf = compiled((3,)), np.float32(np.nan), np.float32(np.inf)

    def middle(*window):
        return np.asarray(program(np.array(window, np.float32)))[0]

    for window in itertools.permutations([nan, 1, 2]):
        assert middle(*window) == 2
    for window in itertools.permutations([np.copysign(nan, np.float32(-1)), 1, 2]):
        assert middle(*window) == 1
    assert np.isnan(middle(nan, 1, nan))
    assert middle(nan, inf, 5) == inf
    assert middle(-inf, -inf, inf) == -inf
    assert middle(-inf, -1, -2) == -2
    np.testing.assert_array_equal(
        np.signbit([middle(-0.0, 0.0, -0.0), middle(0.0, -0.0, 0.0)]), [True, False]
    )


@pytest.mark.parametrize("count", [*range(1, 26, 2), 121, 169])
def test_the_comparators_find_the_median_of_every_0_1_input(count):
    if count <= 13:
        inputs = np.array(list(itertools.product([0, 1], repeat=count)), np.uint8).T
    else:  # the hardest: as many zeros as ones, but for one
        ones = np.arange(count)[:, None] < count // 2 + RNG.integers(0, 2, 2**13)
        inputs = RNG.permuted(ones, axis=0).astype(np.uint8)
    expected = inputs.sum(axis=0) > count // 2
    for low, high in median._median_network(count):
        inputs[[low, high]] = (
            np.minimum(inputs[low], inputs[high]),
            np.maximum(inputs[low], inputs[high]),
        )
    np.testing.assert_array_equal(inputs[count // 2], expected)


def test_the_blocks_size_does_not_matter(monkeypatch):
    monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    x, sizes, programs, results = RNG.normal(size=(37, 41)).astype(np.float32), (5, 3), set(), []
    for block in (1, 10**9):  # one tile a block, or one block
        monkeypatch.setattr(median, "_BLOCK", block)
        lowered = compiled(sizes).lower(x)
        programs.add(lowered.as_text())
        results.append(lowered.compile()(x))
    assert len(programs) == 2
    for result in results:
        np.testing.assert_array_equal(result, reference(x, sizes))


def test_the_gradient_counts_more_ties_than_half_precision_does(monkeypatch):
    monkeypatch.setattr(
        median, "_in_blocks", lambda x, sizes: x[sizes[0] - 1 :]
    )  # all pixels are the median
    gradient = jax.jit(jax.grad(lambda x: window_median(x, (513,)).astype(np.float32).sum()))(
        jnp.ones(514, jnp.bfloat16)
    )
    assert gradient.dtype == jnp.bfloat16  # whose whole numbers end at 256
    np.testing.assert_allclose(gradient[1:-1].astype(np.float32), 2 / 513, rtol=0.02)


def workspace(program):
    """Bytes that a compiled program takes besides its image and its result."""
    return program.memory_analysis().temp_size_in_bytes


def test_the_gradient_of_a_shared_network_keeps_no_array_a_pixel_of_the_window(monkeypatch):
    monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    image = values(RNG, (500, 512), "float32")
    program = jax.jit(jax.grad(lambda x: (median_filter(x, 7) ** 2).sum())).lower(image).compile()
    assert 0 < workspace(program) < 7 * 7 * image.nbytes / 3


@pytest.mark.slow
def test_the_gradient_of_a_larger_window_keeps_no_array_a_pixel_of_it():
    image = values(RNG, (512, 512), "float32")
    program = jax.jit(jax.grad(lambda x: (median_filter(x, 31) ** 2).sum())).lower(image).compile()
    assert 0 < workspace(program) < 31 * 31 * image.nbytes / 20


@pytest.mark.slow
def test_a_large_window_is_opencvs_without_memory_for_window_times_image():
    image = values(RNG, (512, 512), "uint8")
    program = jax.jit(partial(median_filter, size=31, mode="nearest")).lower(image).compile()
    assert 0 < workspace(program) < 31 * 31 * image.nbytes / 20
    np.testing.assert_array_equal(program(image), cv2.medianBlur(image, 31))


def test_memory_grows_with_the_image_by_a_few_copies(monkeypatch):
    monkeypatch.setattr(median, "LARGEST_DIRECT", 0)
    small, large = (
        compiled((3, 3)).lower(jax.ShapeDtypeStruct((side, side), np.float32)).compile()
        for side in (512, 1024)
    )
    assert 0 < workspace(small) < workspace(large) < workspace(small) + 4 * 4 * (1024**2 - 512**2)
