"""The scripts that train the shipped networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import pretraining

from jaxdenoise.config import PRETRAINED_VOLUMES
from jaxdenoise.network import unet
from jaxdenoise.network.settings import shape_of


@pytest.fixture(scope="module")
def script():
    import pretrain_volumes

    return pretrain_volumes


def test_a_sample_of_a_stack_is_noisy_and_its_planes_lie_beside_it(script, monkeypatch):
    monkeypatch.setattr(script, "SIDE", 32)
    monkeypatch.setattr(script, "PATCH", 24)
    clean, noisy, beside, means = data = script.material(3, 1)
    assert clean.shape == noisy.shape
    assert beside.shape == (len(clean), 2 * PRETRAINED_VOLUMES.neighbours)
    # The planes beside each one are of the same stack, whose mean is subtracted.
    np.testing.assert_array_equal(np.asarray(means)[np.asarray(beside)].T, [means] * len(beside.T))
    assert 0.7 < float(jnp.std((noisy - clean).astype(jnp.float32))) < 1.3  # units of the noise
    truth, seen = script.sample(jax.random.key(0), data)
    assert truth.shape == (24, 24)
    assert seen.shape == (1 + 2 * PRETRAINED_VOLUMES.neighbours, 24, 24)


def test_the_first_weights_are_those_of_a_network_for_volumes(script):
    shapes = jax.eval_shape(
        lambda key: unet.init(key, shape_of(PRETRAINED_VOLUMES)), jax.random.key(0)
    )
    found = script.first_weights()
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, shapes)
    single = pretraining.shipped(pretraining.pretrained.FRAMES)["down_convs_0"]["conv1"]["kernel"]
    total = found["down_convs_0"]["conv1"]["kernel"].sum(axis=2, keepdims=True)
    np.testing.assert_allclose(total, single, atol=1e-5)
