"""Each program of a training is compiled once, in its first epoch."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.system import meshes
from jaxdenoise.training.fit import fit
from jaxdenoise.training.sweep import sweep

KEY, PSF = jax.random.key(0), np.asarray(gaussian_psf(1.0))


class Compilations(logging.Handler):
    """Counts the programs that JAX says it compiles, whether they come from a cache or not."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        text = record.getMessage()
        if text.startswith("Compiling "):
            self.names.append(text.split(" ")[1])


@pytest.fixture
def compilations():
    handler, logger = Compilations(), logging.getLogger("jax")
    logger.addHandler(handler)
    with jax.log_compiles():
        yield handler.names
    logger.removeHandler(handler)


def quick(config, **changes):
    options = {"targets": "own", "blind": (0, 0), "background": 90.0, "epochs": 4}
    network = dataclasses.replace(config.network, stride=1)
    return dataclasses.replace(config, network=network, **{**options, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"schedule": "plateau", "validation_redraw": True}, marks=pytest.mark.slow),
    ],
)
def test_later_epochs_of_a_training_compile_nothing(scene, tiny_config, compilations, changes):
    counts = []
    config = quick(tiny_config, **changes)
    fit(
        KEY,
        scene.noisy,
        psf=PSF,
        config=config,
        on_epoch=lambda _: counts.append(len(compilations)),
    )
    assert counts[0] > 0  # the count works
    assert compilations[counts[1] : counts[-1]] == []


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_later_epochs_of_a_sweep_compile_nothing(scene, tiny_config, compilations, together):
    counts = []
    sweep(
        KEY,
        scene.noisy,
        psfs=[PSF, np.ones((1, 1))],
        config=quick(tiny_config),
        together=together,
        on_epoch=lambda _: counts.append(len(compilations)),
    )
    second = counts[1 if together else 3]
    assert compilations[second : counts[-1]] == []


def test_results_of_several_devices_are_gathered_by_one_program(compilations):
    """Simulated by a mesh of one device: a program is compiled for a mesh, however many it has."""
    mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), (meshes.MEMBERS, meshes.DATA))
    tree = {"a": jnp.arange(7.0), "b": jnp.ones((2, 3))}
    meshes.replicate_results(tree, mesh)
    before = len(compilations)
    same = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), (meshes.MEMBERS, meshes.DATA))
    again = meshes.replicate_results(jax.tree.map(jnp.negative, tree), same)
    np.testing.assert_array_equal(again["a"], -np.arange(7))
    assert [name for name in compilations[before:] if "lambda" in name] == []
