"""The network's convolutions: in bfloat16 they are XLA's convolutions of rounded factors."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.network import convolution, unet
from jaxdenoise.network.convolution import conv3x3, matmul
from jaxdenoise.network.denoiser import Scale, network_output
from jaxdenoise.network.settings import settle

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def rounded(x):
    return jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32)


def reference(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def results(function, x, kernel, gradient):
    """Value and both gradients."""
    value, pull_back = jax.vjp(function, x, kernel)
    return value, *pull_back(gradient)


def conv(precision, platform):
    return jax.jit(partial(conv3x3, precision=precision, platform=platform))


ON_CPU, ON_ACCELERATOR = conv("bfloat16", "cpu"), conv("bfloat16", "gpu")


def close(ours, theirs):
    return np.linalg.norm(np.asarray(ours) - theirs) <= 2e-6 * np.linalg.norm(theirs)


def check_rounded_factors(n, h, w, c, d):
    x, kernel, gradient = draw(n, h, w, c), draw(3, 3, c, d), draw(n, h, w, d)
    theirs = results(reference, rounded(x), rounded(kernel), rounded(gradient))
    ours = results(ON_CPU, x, kernel, gradient)
    for found in ours, results(ON_ACCELERATOR, x, kernel, gradient):
        for one, other in zip(found, theirs, strict=True):
            assert one.shape == other.shape
            assert one.dtype == jnp.float32
    assert all(close(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(1, 1, 1, 8, 1), (2, 5, 9, 12, 7)])
def test_bfloat16_is_the_convolution_of_rounded_factors(shape):
    check_rounded_factors(*shape)


@pytest.mark.robustness
@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(8, 12), st.integers(1, 12)
)
def test_bfloat16_is_the_convolution_of_rounded_factors_of_any_shape(n, h, w, c, d):
    check_rounded_factors(n, h, w, c, d)


def test_bfloat16_products_are_those_of_rounded_factors():
    x, matrix, gradient = draw(2, 5, 7, 9), draw(9, 4), draw(2, 5, 7, 4)
    ours = results(partial(matmul, precision="bfloat16", platform="cpu"), x, matrix, gradient)
    theirs = results(jnp.matmul, rounded(x), rounded(matrix), rounded(gradient))
    assert all(close(one, other) for one, other in zip(ours, theirs, strict=True))


def test_float32_is_xlas_convolution():
    x, kernel, gradient = draw(1, 6, 5, 9), draw(3, 3, 9, 4), draw(1, 6, 5, 4)
    ours = results(partial(conv3x3, precision="float32", platform="cpu"), x, kernel, gradient)
    jax.tree.map(np.testing.assert_array_equal, ours, results(reference, x, kernel, gradient))
    x = jnp.asarray(x)
    product = matmul(x, kernel[0, 0], precision="float32", platform="cpu")
    np.testing.assert_array_equal(product, x @ kernel[0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_few_channels_stay_float32(channels):
    x, kernel, gradient = draw(2, 6, 5, channels), draw(3, 3, channels, 4), draw(2, 6, 5, 4)
    ours = results(ON_CPU, x, kernel, gradient)
    assert all(
        close(one, other)
        for one, other in zip(ours, results(reference, x, kernel, gradient), strict=True)
    )


def test_one_kernel_for_each_of_several_images():
    x, kernels = draw(3, 1, 6, 5, 8), draw(3, 3, 3, 8, 4)
    together = jax.vmap(ON_CPU)(x, kernels)
    for one, image, kernel in zip(together, x, kernels, strict=True):
        assert close(one, reference(rounded(image), rounded(kernel)))


@pytest.mark.parametrize(("has_units", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_hardware_multiplies_fast(monkeypatch, has_units, expected):
    monkeypatch.setattr(convolution, "_multiplies_bfloat16", lambda: has_units)
    assert convolution.resolve("auto", "cpu") == expected
    assert convolution.resolve("float32", "cpu") == "float32"
    assert convolution.resolve("auto", "gpu") == "bfloat16"
    assert convolution.resolve("float32", "gpu") == "float32"


def test_loops_are_fast_but_for_xlas_convolutions_on_cpu():
    assert convolution.fast_in_loops("float32", "gpu")
    assert convolution.fast_in_loops("bfloat16", "cpu")
    assert not convolution.fast_in_loops("float32", "cpu")


def test_the_network_in_bfloat16_is_that_of_float32_to_its_rounding():
    config = settle(TrainConfig(network=UNetConfig(depth=2, filters=8), precision="float32"))
    params = unet.init(jax.random.key(0), config.network)
    images, scale = 100 + 10 * draw(2, 16, 24), Scale(0.0, 100.0, 10.0)

    @partial(jax.jit, static_argnames="precision")
    def output(params, precision):
        changed = dataclasses.replace(config, precision=precision)
        return network_output(params, images, scale, changed)

    @partial(jax.jit, static_argnames="precision")
    @jax.grad
    def gradient(params, precision):
        return jnp.mean(output(params, precision) ** 2)

    exact, coarse = output(params, "float32"), output(params, "bfloat16")
    assert not np.array_equal(exact, coarse)
    assert np.linalg.norm(coarse - exact) < 0.02 * np.linalg.norm(exact - 100)
    one, other = (
        ravel_pytree(gradient(params, precision))[0] for precision in ("float32", "bfloat16")
    )
    assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)  # measured 0.006
