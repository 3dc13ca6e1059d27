"""Arrays and text on disk, each appearing whole, by rename. Host side.

A folder of arrays is orbax's, with SHA256SUMS of its files beside them, because orbax keeps no
checksum of the numbers themselves. Reading executes nothing.
"""

import hashlib
import shutil

import jax
import numpy as np

from jaxdenoise.system import errors, meshes
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError
from jaxdenoise.system.files import replace_text

_SUMS = "SHA256SUMS"


def save_arrays(folder, tree):
    """Write a pytree of arrays as a folder, in place of one of that name; CheckpointError if it cannot be written.

    Several processes, which have the same arrays, write a part of them each.
    """
    from orbax.checkpoint import v1 as ocp  # late: it takes a second to import

    # Orbax would delete what is there before it writes: so it writes beside it, and two renames
    # make the exchange.
    folder = folder.absolute()
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    crew = current_crew()
    tree = meshes.replicate(tree, meshes.mesh_of_all_processes())
    try:
        remove_leftovers(folder.parent)
        crew.barrier()
        ocp.save(new, tree)
        if crew.is_primary:
            replace_text(new / _SUMS, "".join(_sums(new)))
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        crew.barrier()
    except Exception as error:  # a full disk is an OSError, or whatever tensorstore makes of it
        if crew.count > 1 and errors.is_lost_connection(error):
            raise
        raise CheckpointError(f"{folder}: cannot be written ({errors.one_line(error)})") from error
    finally:
        remove_leftovers(folder.parent)


def remove_leftovers(path):
    """What a save that was killed or failed left beside its target; what it had moved aside goes back."""
    if not current_crew().is_primary:
        return
    for old in path.glob(".*.old"):
        folder = path / old.name[1:-4]
        if not folder.exists():
            old.rename(folder)
    for pattern in (".*.old", ".*.new", ".*.new.orbax-checkpoint-tmp*"):
        for folder in path.glob(pattern):
            shutil.rmtree(
                folder, ignore_errors=True
            )  # after an error orbax's threads may still be writing: the next save removes that


def load_arrays(folder, abstract):
    """Read what `save_arrays` wrote, if it has the shapes and dtypes of the pytree ``abstract``; CheckpointError if it cannot be read."""
    from orbax.checkpoint import v1 as ocp

    # Said for each array, so that a model saved on a GPU loads on a machine without one.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract
    )
    try:
        # What is wrong is found before orbax reads the numbers: when that fails, its threads write
        # on the terminal for pages.
        if (folder / _SUMS).is_file() and not set(
            (folder / _SUMS).read_text().splitlines(keepends=True)
        ) <= set(_sums(folder)):
            raise ValueError("files are damaged or missing, says SHA256SUMS; copy the folder again")
        if _shapes(ocp.metadata(folder.absolute()).metadata) != _shapes(abstract):
            raise ValueError("the arrays do not fit config.json")
        arrays = ocp.load(folder.absolute(), abstract)
        if any(
            np.isnan(leaf).any() for leaf in jax.tree.leaves(arrays)
        ):  # by NumPy, which compiles nothing
            raise ValueError("the arrays hold NaN; train again")
        return arrays
    except Exception as error:  # orbax raises many kinds for a damaged folder
        raise CheckpointError(
            f"{folder}: cannot be read ({type(error).__name__}: {errors.one_line(error)})"
        ) from error


def _sums(folder):
    """A line for each file of the arrays, as ``sha256sum -c`` reads it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != _SUMS)
    return [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in files
    ]


def _shapes(tree):
    return sorted((tuple(leaf.shape), str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
