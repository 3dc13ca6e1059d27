"""Programs that XLA's CPU backend runs many times slower than the ones that we chose.

Each test guards about half of the ratio that was measured.

Run by hand on a quiet machine: pytest -m benchmark -n 0 -s
"""

import dataclasses
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.timing import times_in_turn
from flax import linen as nn
from jax.scipy.signal import convolve2d

from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.network import convolution, unet
from jaxdenoise.network.settings import settle
from jaxdenoise.training.epochs import step_by_patches, take_steps
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import batch_gradients, draw_batch

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="cliffs of XLA's CPU backend"),
]
KEY = jax.random.key(0)
CONFIG = settle(TrainConfig(precision="float32", validation_patches=1))
_CPUS = Path("/proc/cpuinfo")
HAS_MATRIX_UNITS = _CPUS.exists() and "amx_bf16" in _CPUS.read_text()


def times_as_fast(slow, fast, runs=5):
    """How many times as fast `fast` is, the two taking turns; printed for the record."""
    times = times_in_turn({"slow": (slow, None), "fast": (fast, None)}, runs)
    slow, fast = (statistics.median(times[name]) for name in ("slow", "fast"))
    print(
        f" {1e3 * slow:.1f} ms against {1e3 * fast:.1f} ms: {slow / fast:.1f} times as fast", end=""
    )
    return slow / fast


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def gradient_of(function):
    """Compiled gradients of a sum of squares with respect to both arguments."""
    return jax.jit(jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) ** 2), argnums=(0, 1)))


@pytest.fixture(scope="module")
def problem():
    config, frames = TrainConfig(precision="float32"), 100 + 10 * normal(2, 128, 128)
    return prepare(KEY, frames, psf=gaussian_psf(1.0), config=config).problem


def eight_steps(problem, a_call, **changes):
    """A function that takes them, so many a call."""
    config = dataclasses.replace(CONFIG, **changes)

    def run():
        state = start(KEY, config).state
        for _ in range(8 // a_call):
            state, _ = take_steps(KEY, state, problem, 1.0, config=config, steps=a_call)
        return state

    return run


def test_steps_one_by_one_are_10_times_as_fast_as_a_scan_in_float32(problem):
    assert times_as_fast(eight_steps(problem, 8), eight_steps(problem, 1)) > 10


@pytest.mark.skipif(not HAS_MATRIX_UNITS, reason="no matrix units for bfloat16")
def test_a_scan_is_1_2_times_as_fast_as_steps_one_by_one_in_bfloat16(problem):
    one_by_one, scan = (eight_steps(problem, a_call, precision="bfloat16") for a_call in (1, 8))
    assert times_as_fast(one_by_one, scan) > 1.2


def test_models_one_by_one_are_1_5_times_as_fast_as_vmapped_parameters(problem):
    together = jax.jit(
        jax.vmap(lambda params, batch: batch_gradients(params, batch, problem, CONFIG), (0, None))
    )
    alone = jax.jit(lambda params, batch: batch_gradients(params, batch, problem, CONFIG))
    models = [start(jax.random.key(seed), CONFIG).state.params for seed in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    batch = draw_batch(KEY, 0, problem, CONFIG)
    assert (
        times_as_fast(
            lambda: together(stacked, batch), lambda: [alone(params, batch) for params in models]
        )
        > 1.5
    )


def test_a_batch_patch_by_patch_is_1_2_times_as_fast_as_at_once(problem):
    config = dataclasses.replace(CONFIG, batch_size=8, patch_size=100)

    def run(step):
        return lambda: step(start(KEY, config).state)

    at_once = run(lambda state: take_steps(KEY, state, problem, 1.0, config=config, steps=1))
    assert (
        times_as_fast(at_once, run(lambda state: step_by_patches(KEY, state, problem, 1.0, config)))
        > 1.2
    )


def test_a_large_psf_is_10_times_as_fast_as_directly():
    image, psf = normal(512, 512), gaussian_psf(1.0, size=81)
    direct = jax.jit(
        lambda image, psf: convolve2d(jnp.pad(image, 40, mode="reflect"), psf, mode="valid")
    )
    ours = jax.jit(convolve)
    np.testing.assert_allclose(ours(image, psf), direct(image, psf), atol=1e-5)
    assert times_as_fast(lambda: direct(image, psf), lambda: ours(image, psf), runs=3) > 10


def test_the_transposed_convolution_is_5_times_as_fast_as_jaxs():
    x, kernel = normal(1, 48, 48, 128), normal(2, 2, 128, 64)

    def jaxs(x, kernel):
        return jax.lax.conv_transpose(
            x,
            kernel.swapaxes(2, 3),
            (2, 2),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            transpose_kernel=True,
        )

    theirs, ours = (
        gradient_of(jaxs),
        gradient_of(lambda x, kernel: unet._transposed_conv(x, kernel, "float32", "cpu")),
    )
    assert times_as_fast(lambda: theirs(x, kernel), lambda: ours(x, kernel)) > 5


def test_max_pooling_is_5_times_as_fast_as_a_window():
    x = normal(1, 96, 96, 64)
    window = jax.jit(jax.grad(lambda x: jnp.sum(nn.max_pool(x, (2, 2), (2, 2)) ** 2)))
    ours = jax.jit(jax.grad(lambda x: jnp.sum(unet._max_pool(x) ** 2)))
    np.testing.assert_allclose(window(x), ours(x))
    assert times_as_fast(lambda: window(x), lambda: ours(x)) > 5


@pytest.mark.skipif(not HAS_MATRIX_UNITS, reason="no matrix units for bfloat16")
def test_bfloat16_convolutions_are_twice_as_fast_as_float32_where_there_are_matrix_units():
    x, kernel = normal(1, 96, 96, 64), normal(3, 3, 64, 64)
    exact, ours = (
        gradient_of(
            lambda x, kernel, precision=precision: convolution.conv3x3(
                x, kernel, precision=precision, platform="cpu"
            )
        )
        for precision in ("float32", "bfloat16")
    )
    assert times_as_fast(lambda: exact(x, kernel), lambda: ours(x, kernel)) > 2
