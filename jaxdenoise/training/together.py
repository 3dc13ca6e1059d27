"""An epoch of several models of a sweep as one program."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdenoise.network.settings import Settings
from jaxdenoise.system import meshes
from jaxdenoise.training import streams
from jaxdenoise.training.epochs import Snapshot, conclude_epoch, rate_factor, steps_at_once
from jaxdenoise.training.problem import Problem
from jaxdenoise.training.step import take_steps, validation_losses


@runtime_checkable
class Trainable(Protocol):
    """What `run_epoch_together` must know of a model, as `candidates.Candidate` has it."""

    psf_index: int
    key: PRNGKeyArray
    snapshot: Snapshot


def run_epoch_together(
    group: Sequence[Trainable],
    problem: Problem,
    psfs: Float[Array, "K h w"],
    config: Settings,
    mesh: Mesh | None,
) -> list[Snapshot]:
    """Train some models for an epoch as one program, on all devices of a mesh. Host side.

    Args:
        group: models that were trained for equally many epochs.
        problem: `Problem`, on all devices of the mesh; its PSF does not count.
        psfs: (K, h, w), all PSFs of the sweep.
        config: `Settings`.
        mesh: as `meshes.mesh` makes it; None for one device.

    Returns:
        The `Snapshot` of each model after the epoch, on one device of this process.
    """
    # The mesh may have more places than there are models: the results that fill them are dropped.
    places = -(-len(group) // meshes.places(mesh)) * meshes.places(mesh)
    filled = [*group, *[group[-1]] * (places - len(group))]
    histories = [model.snapshot.history for model in filled]
    keys = jnp.stack([model.key for model in filled])
    own_psfs = psfs[np.array([model.psf_index for model in filled])]
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(model.snapshot.state for model in filled)
    )
    scales = jnp.array([rate_factor(history, config) for history in histories])
    drawn = partial(
        streams.validation_key, epoch=len(histories[0]), redraw=config.validation_redraw
    )
    keys, own_psfs, states, scales, validation_keys = meshes.replicate(
        (keys, own_psfs, states, scales, jax.vmap(drawn)(keys)), mesh
    )
    steps, terms = steps_at_once(config), []
    for _ in range(config.steps_per_epoch // steps):
        options = {"config": config, "steps": steps, "mesh": mesh}
        states, term = meshes.wait_on_cpu(
            _steps_together(keys, states, own_psfs, scales, problem, **options), mesh
        )
        terms.append(term)
    losses = _validation_together(
        validation_keys, states.averaged, own_psfs, problem, config=config, mesh=mesh
    )
    found = meshes.replicate_results((states, terms, losses), mesh)
    states, terms, losses = found if mesh is None else meshes.local(found)

    def part(tree, index):
        return jax.tree.map(lambda leaf: leaf[index], tree)

    return [
        conclude_epoch(
            model.snapshot, part(states, i), [part(term, i) for term in terms], losses[i], config
        )
        for i, model in enumerate(group)
    ]


@partial(jax.jit, static_argnames=("config", "steps", "mesh"), donate_argnames="states")
def _steps_together(keys, states, psfs, rate_scales, problem, *, config, steps, mesh):
    def together(keys, states, psfs, rate_scales, problem, axis=None):
        options = {"config": config, "steps": steps, "axis": axis}

        def one(key, state, psf, rate_scale):
            return take_steps(key, state, problem._replace(psf=psf), rate_scale, **options)

        return meshes.vmap_or_single(one, keys, states, psfs, rate_scales)

    return meshes.shard(together, mesh, members=(0, 1, 2, 3))(
        keys, states, psfs, rate_scales, problem
    )


@partial(jax.jit, static_argnames=("config", "mesh"))
def _validation_together(keys, params, psfs, problem, *, config, mesh):
    def together(keys, params, psfs, problem, axis=None):
        def one(key, params, psf):
            own = problem._replace(psf=psf)
            return validation_losses(key, params, own, config=config, axis=axis)

        return meshes.vmap_or_single(one, keys, params, psfs)

    return meshes.shard(together, mesh, members=(0, 1, 2))(keys, params, psfs, problem)
