"""Rounding of grey levels, and the dtypes that are computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdenoise.imaging.levels import as_float, convert, quantize

IMAGE = np.arange(6).reshape(2, 3)


@settings(deadline=None, max_examples=40)
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
            quantize(IMAGE, dtype)
    with pytest.raises(ValueError, match="got rounding='up'"):
        quantize(IMAGE, np.uint8, rounding="up")


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.float16, np.float32])
def test_everything_is_computed_in_float32(dtype):
    values = as_float(IMAGE.astype(dtype))
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, IMAGE.astype(dtype).astype(np.float32))


def test_float64_is_computed_in_float64_where_enabled():
    with jax.enable_x64(True):
        assert as_float(np.ones(3)).dtype == np.float64
        assert as_float(np.ones(3, np.uint8)).dtype == np.float32


@pytest.mark.parametrize(
    ("given_as", "asked", "expected"),
    [
        ("uint16", "uint8", [0, 255, 255]),
        ("uint16", "int16", [0, 300, 32767]),
        ("int32", "uint16", [0, 300, 65535]),
        ("float32", "int16", [0, 300, 32767]),
        ("uint16", "float32", [0, 300, 65535]),
        ("uint16", "uint16", [0, 300, 65535]),
    ],
)
def test_converted_levels_saturate(given_as, asked, expected):
    result = convert(jnp.array([0, 300, 65535], given_as), asked)
    assert result.dtype == asked
    np.testing.assert_array_equal(result, expected)
