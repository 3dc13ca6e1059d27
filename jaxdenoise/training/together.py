"""Several models of a sweep as one program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.system import meshes
from jaxdenoise.training import fit
from jaxdenoise.training.fit import conclude_epoch, steps_at_once, validation_key
from jaxdenoise.training.step import take_steps, validation_losses


def run_epoch_together(group, problem, psfs, config, mesh):
    """An epoch of some models as one program, on all devices of a mesh; the `Snapshot`s that come back are on one of this process."""
    places = -(-len(group) // meshes.places(mesh)) * meshes.places(mesh)
    filled = group + group[-1:] * (
        places - len(group)
    )  # the results of those that fill up are thrown away
    histories = [model.snapshot.history for model in filled]
    keys, own_psfs = (
        jnp.stack([model.key for model in filled]),
        psfs[np.array([model.psf for model in filled])],
    )
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(model.snapshot.state for model in filled)
    )
    scales = jnp.array([fit.rate_scale(history, config) for history in histories])
    validation_keys = jax.vmap(lambda key: validation_key(key, len(histories[0]), config))(keys)
    keys, own_psfs, states, scales, validation_keys = meshes.replicate(
        (keys, own_psfs, states, scales, validation_keys), mesh
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
        def one(key, state, psf, rate_scale):
            return take_steps(
                key,
                state,
                problem._replace(psf=psf),
                rate_scale,
                config=config,
                steps=steps,
                axis=axis,
            )

        return meshes.vmap_or_single(one, keys, states, psfs, rate_scales)

    return meshes.shard(together, mesh, members=(0, 1, 2, 3))(
        keys, states, psfs, rate_scales, problem
    )


@partial(jax.jit, static_argnames=("config", "mesh"))
def _validation_together(keys, params, psfs, problem, *, config, mesh):
    def together(keys, params, psfs, problem, axis=None):
        def one(key, params, psf):
            return validation_losses(
                key, params, problem._replace(psf=psf), config=config, axis=axis
            )

        return meshes.vmap_or_single(one, keys, params, psfs)

    return meshes.shard(together, mesh, members=(0, 1, 2))(keys, params, psfs, problem)
