"""Each compiled function lowers for an accelerator on a machine without one, in its own way."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.prediction.tiles import denoise_image
from jaxdenoise.training.epochs import _validation_losses, steps_at_once, take_steps
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare

KEY = jax.random.key(0)
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}  # as lowering and `jax.Device` name them


@pytest.fixture(scope="module")
def plan(scene, tiny_config):
    """A plan whose network has enough channels for bfloat16."""
    network = dataclasses.replace(tiny_config.network, filters=8)
    config = dataclasses.replace(tiny_config, network=network, targets="own", blind=(0, 0))
    return prepare(KEY, scene.noisy, psf=gaussian_psf(1.0), config=config)


def settings_for(plan, platform, precision):
    config = dataclasses.replace(plan.settings, precision=precision, precision_by_device=False)
    return config.for_platform(PLATFORMS[platform])


def exported(function, platform, *arguments):
    """The text of the module that a function lowers to."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    found = export.export(jax.jit(function), platforms=[platform])(*shapes)
    assert found.platforms == (platform,)
    return found.mlir_module()


def convolutions(text):
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]


def check(text, platform, precision):
    """Whether the network's convolutions are those that the platform is fast at."""
    found = convolutions(text)
    rounded = [line for line in found if "bf16" in line]
    if precision == "float32":
        assert found
        assert not rounded
        assert "bf16" not in text
    elif platform == "cpu":  # products of rounded factors; the last layer, of 1x1, is float32
        assert not rounded
        assert "stablehlo.dot_general" in text
        assert "bf16" in text
    else:
        assert rounded
        assert "optimization_barrier" not in text


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_train_step_lowers_for_each_platform(plan, platform, precision):
    config = settings_for(plan, platform, precision)
    state = start(KEY, config).state

    def epoch(state, problem):
        steps = steps_at_once(config)
        state, terms = take_steps(KEY, state, problem, 1.0, config=config, steps=steps)
        options = {"config": config, "parts": 1, "mesh": None}
        return state, terms, _validation_losses(KEY, state.averaged, problem, **options)

    text = exported(epoch, platform, state, plan.problem)
    check(text, platform, precision)
    assert ("stablehlo.while" in text) or platform == "cpu"  # an epoch is one call


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_prediction_lowers_for_each_platform(make_denoiser, platform, precision):
    denoiser = make_denoiser(depth=2, filters=8, precision=precision)
    config = dataclasses.replace(denoiser.config, symmetries=2).for_platform(PLATFORMS[platform])
    denoiser = dataclasses.replace(denoiser, config=config)
    text = exported(denoise_image, platform, denoiser, jnp.zeros((24, 20)))
    check(text, platform, precision)


def test_settings_follow_the_platform_where_the_precision_is_left_to_the_device(make_denoiser):
    config = make_denoiser(precision="auto").config
    assert config.precision_by_device
    for platform in ("gpu", "tpu"):
        moved = config.for_platform(platform)
        assert (moved.platform, moved.precision, moved.fast_in_loops) == (
            platform,
            "bfloat16",
            True,
        )
    assert moved.for_platform("cpu") == config
    fixed = make_denoiser(precision="float32").config
    assert fixed.for_platform("gpu").precision == "float32"
    assert fixed.for_platform("gpu").fast_in_loops
    assert not fixed.fast_in_loops
