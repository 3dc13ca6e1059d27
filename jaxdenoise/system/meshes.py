"""Work on several devices, by `jax.sharding`: batches are sharded, parameters and data replicated.

A mesh has two axes: the models of a sweep, and the patches of their batches. What a step computes
does not depend on the mesh, except for the order in which a batch is summed.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from jaxdenoise.system.errors import ConfigError, RequestError, one_line

MEMBERS, DATA = "members", "data"  # the axes of a mesh
_REMARK = re.compile(r" *\(set JAX_PLATFORMS.*", re.DOTALL)  # of JAX, beside which ours stands

Tree = TypeVar("Tree")
Device = TypeVar("Device")


def check_platforms() -> None:
    """Raise a RequestError unless JAX finds a device of the platforms that it was told to use."""
    try:
        jax.devices()
    except Exception as error:  # JAX 0.10 has an AssertionError without a word for "cuda"
        told = jax.config.jax_platforms  # type: ignore[attr-defined] # set at run time
        reason = f" ({_REMARK.sub('', one_line(error)).rstrip('.')})" if str(error) else ""
        raise RequestError(
            f"JAX finds no device of JAX_PLATFORMS={told}{reason}; unset JAX_PLATFORMS, or name "
            "what is there, such as cpu"
        ) from error


def mesh_for(
    devices: Sequence[jax.Device] | None, *, batch_size: int, models: int = 1
) -> Mesh | None:
    """Return the mesh on which some models train at once, or None for a single device.

    As many models as possible train side by side, as long as the devices that are left to each can
    share its batch. Where they cannot, the mesh has more places than there are models.

    Args:
        devices: Such as `jax.devices()` gives; None for the default device alone.
        batch_size: How many patches a step of each model takes.
        models: How many models there are.
    """
    count = 1 if devices is None else len(devices)
    if devices is None or count == 1:
        return None
    widths = [
        count // shares
        for shares in range(1, count + 1)
        if count % shares == 0 and batch_size % shares == 0
    ]
    members = max((width for width in widths if width <= models), default=min(widths))
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


def of_one_model(devices: Sequence[jax.Device] | None, *, batch_size: int) -> Mesh | None:
    """Return the mesh on which a single model trains, or None for a single device.

    Raises:
        ConfigError: The devices cannot share the batch.
    """
    found = mesh_for(devices, batch_size=batch_size)
    if devices is not None and places(found) > 1:
        count = len(devices)
        raise ConfigError(
            f"{count} devices cannot share a batch of {batch_size}; "
            f"choose a batch size that is a multiple of {count}"
        )
    return found


def places(mesh: Mesh | None) -> int:
    """Return how many models train side by side on a mesh, or without one."""
    return 1 if mesh is None else mesh.shape[MEMBERS]


def sharing(devices: Sequence[Device], batch_size: int) -> Sequence[Device]:
    """Return the first of some devices, as many as can share a batch."""
    return devices[: next(count for count in range(len(devices), 0, -1) if batch_size % count == 0)]


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """Return a pytree of arrays with a copy on each device of a mesh; unchanged without a mesh."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, P())
    if everywhere.is_fully_addressable:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: _of_all_processes(leaf, everywhere), tree)


def _of_all_processes(leaf, sharding):
    # Each process has the array already; `jax.device_put` would send it once more, to compare.
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _of_all_processes(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda place: leaf[place])


def mesh_of_all_processes() -> Mesh | None:
    """Return a mesh of all devices of all processes, or None if this process is the only one."""
    if jax.process_count() == 1:
        return None
    return Mesh(np.asarray(jax.devices()).reshape(1, -1), (MEMBERS, DATA))


def replicate_results(tree: Tree, mesh: Mesh | None) -> Tree:
    """Return what `shard` computed for several models, with a copy on each device."""
    if mesh is None:
        return tree
    return _replicating(mesh)(tree)


@cache
def _replicating(mesh: Mesh) -> Callable[[Any], Any]:
    """One function for each mesh: `jax.jit` would compile a new one again after every epoch."""
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))


def local(tree: Tree) -> Tree:
    """Return replicated arrays as arrays on a single device of this process."""
    return jax.tree.map(
        lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree
    )


def wait_on_cpu(tree: Tree, mesh: Mesh | None) -> Tree:
    """Return results of a mesh, on a mesh of CPUs when they are computed.

    With many steps under way, the threads of simulated devices end up waiting for each other.
    """
    return (
        tree
        if mesh is None or mesh.devices.flat[0].platform != "cpu"
        else jax.block_until_ready(tree)
    )


def vmap_or_single(function: Callable[..., Any], *stacked: PyTree) -> PyTree:
    """Return `jax.vmap` of a function, computed without it if there is only one.

    Vmapped parameters are slow on CPU.
    """
    if len(jax.tree.leaves(stacked)[0]) > 1:
        return jax.vmap(function)(*stacked)
    return jax.tree.map(
        lambda leaf: leaf[None], function(*jax.tree.map(lambda leaf: leaf[0], stacked))
    )


def shard(
    function: Callable[..., Any], mesh: Mesh | None, *, members: Sequence[int] = ()
) -> Callable[..., Any]:
    """Return a function that all devices of a mesh compute, each on its share.

    Args:
        function: It takes ``axis``, the name of the mesh's axis over which a batch is shared, see
            `step.train_step`.
        mesh: As `mesh_for` makes it. None for a single device: `function` is returned as it is.
        members: Places of the arguments that have a leading axis of models. If there are any, the
            results have one too.
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
