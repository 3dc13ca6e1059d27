"""Work laid out over several devices, by `jax.sharding`: batches are cut up, parameters and data are on each of them.

A mesh has two axes: the models of a sweep, and the patches of their batches. What a step computes
does not depend on the mesh, but for the order of the sums over a batch.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

MEMBERS, DATA = "members", "data"


def mesh(devices, *, batch_size, models=1):
    """The mesh on which some models train at once.

    Args:
        devices: sequence of `jax.Device`, as of `jax.devices()`; None for the default device alone.
        batch_size: patches a step of each model.
        models: how many models there are.

    Returns:
        `jax.sharding.Mesh` with as many models side by side as there are, as far as the devices
        that are left to each can share its batch, with more places than models where they cannot;
        None for a single device.
    """
    count = 1 if devices is None else len(devices)
    if count == 1:
        return None
    wide = [
        count // shares
        for shares in range(1, count + 1)
        if count % shares == 0 and batch_size % shares == 0
    ]
    members = max((width for width in wide if width <= models), default=min(wide))
    return Mesh(np.asarray(devices).reshape(members, -1), (MEMBERS, DATA))


def chosen(devices: Sequence[jax.Device] | None) -> Sequence[jax.Device]:
    """Return the devices that were asked for; None is the default device of this process."""
    if devices is not None:
        return devices
    default = jax.config.jax_default_device  # type: ignore[attr-defined] # set at run time
    if default is None:
        return jax.local_devices()[:1]
    return jax.local_devices(backend=default)[:1] if isinstance(default, str) else [default]


def platform_of(devices: Sequence[jax.Device] | None) -> str:
    """Return the platform of devices, "cpu", "gpu" or "tpu"; None is the default device."""
    return chosen(devices)[0].platform


def computing_on(devices: Sequence[jax.Device] | None) -> AbstractContextManager:
    """Return a context in which the first of some devices of this process is the default one."""
    if devices is None:
        return nullcontext()
    own = (device for device in devices if device.process_index == jax.process_index())
    return jax.default_device(next(own))


def on_single(tree: Any, devices: Sequence[jax.Device] | None) -> Any:
    """Return a pytree of arrays on the one device that is given; as it is for none or several."""
    return jax.device_put(tree, devices[0]) if devices is not None and len(devices) == 1 else tree


def of_one_model(devices, *, batch_size):
    """`mesh` for a single model; ValueError if the devices cannot share its batch."""
    found = mesh(devices, batch_size=batch_size)
    if places(found) > 1:
        count = len(devices)
        raise ValueError(
            f"{count} devices cannot share a batch of {batch_size}; choose a batch size that is a multiple of {count}"
        )
    return found


def places(mesh):
    """How many models train side by side on a mesh, or without one."""
    return 1 if mesh is None else mesh.shape[MEMBERS]


def sharing(devices, batch_size):
    """The first of some devices, as many as can share a batch."""
    return devices[: next(count for count in range(len(devices), 0, -1) if batch_size % count == 0)]


def replicate(tree, mesh):
    """A pytree of arrays with a copy on each device of a mesh; as it is without one."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, P())
    if everywhere.is_fully_addressable:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: _of_all_processes(leaf, everywhere), tree)


def _of_all_processes(leaf, sharding):
    """An array whose copy each process has already; `jax.device_put` would send it around once more, to compare."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _of_all_processes(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda place: leaf[place])


def mesh_of_all_processes():
    """A mesh of all devices of all processes; None if this process is the only one."""
    return (
        None
        if jax.process_count() == 1
        else Mesh(np.asarray(jax.devices()).reshape(1, -1), (MEMBERS, DATA))
    )


def replicate_results(tree, mesh):
    """What `shard` computed for several models, with a copy on each device."""
    return (
        tree
        if mesh is None
        else jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))(tree)
    )


def local(tree):
    """A pytree of arrays of which each device has a copy as one of arrays on a single device of this process."""
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree
    )


def wait_on_cpu(tree, mesh):
    """What was asked of a mesh; of one of CPUs when it is there: with many steps under way, these end up waiting for each other."""
    return tree if mesh is None or not _is_of_cpus(mesh) else jax.block_until_ready(tree)


def _is_of_cpus(mesh):
    return mesh.devices.flat[0].platform == "cpu"


def vmap_or_single(function, *stacked):
    """`jax.vmap`, which is no detour where there is a single one: vmapped parameters are slow on CPU."""
    if len(jax.tree.leaves(stacked)[0]) > 1:
        return jax.vmap(function)(*stacked)
    return jax.tree.map(
        lambda leaf: leaf[None], function(*jax.tree.map(lambda leaf: leaf[0], stacked))
    )


def shard(function, mesh, *, members=()):
    """A function computed by all devices of a mesh, each on its share; the function itself without a mesh.

    Args:
        function: takes ``axis``, the name of the mesh's axis over which a batch is shared, see
            `step.train_step`.
        mesh: as `mesh` makes it; None for a single device.
        members: places of the arguments that have a leading axis of models, of which the results
            have one too if there are any.
    """
    if mesh is None:
        return function

    def call(*arguments):
        specs = tuple(P(MEMBERS) if place in members else P() for place in range(len(arguments)))
        # Unchecked: replication is not inferred through the custom gradients of `convolution`.
        sharded = jax.shard_map(
            partial(function, axis=DATA),
            mesh=mesh,
            in_specs=specs,
            out_specs=P(MEMBERS) if members else P(),
            check_vma=False,
        )
        return sharded(*arguments)

    return call
