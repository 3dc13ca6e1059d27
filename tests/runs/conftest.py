import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import settle
from jaxdenoise.runs.layout import HISTORY_COLUMNS
from jaxdenoise.training.fit import start


def snapshot_after(epoch, config):
    """A snapshot with numbers of its own; a training would cost much compiling."""
    rng = np.random.default_rng(epoch)
    shapes = jax.eval_shape(lambda: start(jax.random.key(0), settle(config)))._replace(history=())
    arrays = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.01, 1, leaf.shape).astype(leaf.dtype)), shapes
    )
    rows = ({name: n / 3 for name in HISTORY_COLUMNS} | {"epoch": n} for n in range(1, epoch + 1))
    return arrays._replace(history=tuple(rows))


@pytest.fixture(scope="session")
def trained(tiny_config):
    """A model, and the snapshots after each epoch of its training."""
    snapshots = [snapshot_after(n, tiny_config) for n in range(1, tiny_config.epochs + 1)]
    last = snapshots[-1]
    denoiser = Denoiser(
        best=last.best,
        averaged=last.state.averaged,
        last=last.state.params,
        psf=np.asarray(gaussian_psf(1.0)),
        scale=Scale(*(jnp.asarray(np.float32(value)) for value in (100, 50, 30))),
        history={name: np.array([row[name] for row in last.history]) for name in HISTORY_COLUMNS},
        config=settle(tiny_config),
    )
    return denoiser, snapshots
