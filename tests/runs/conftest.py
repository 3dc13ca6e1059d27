import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.training.fit import fit


@pytest.fixture(scope="session")
def tiny_config(tiny_config):
    """Nothing is measured on the frames, which would cost more compiling than the training."""
    return dataclasses.replace(
        tiny_config,
        network=dataclasses.replace(tiny_config.network, stride=1),
        blind=(0, 0),
        targets="own",
        validation="pixels",
        background=100.0,
        precision="float32",
    )


@pytest.fixture(scope="session")
def trained(scene, tiny_config):
    """A trained model, and its snapshots after each epoch."""
    snapshots = []
    denoiser = fit(
        jax.random.key(0),
        scene.noisy,
        psf=gaussian_psf(1.0),
        config=tiny_config,
        on_epoch=lambda snapshot: snapshots.append(jax.tree.map(jnp.copy, snapshot)),
    )
    return denoiser, snapshots
