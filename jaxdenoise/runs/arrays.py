"""Pytrees of arrays on disk, as folders that appear whole or not at all. Host side.

A folder is orbax's, with SHA256SUMS of its files beside them, because orbax keeps no checksum of
the numbers themselves. Reading executes nothing.
"""

import hashlib
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from jaxdenoise.system import meshes
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import CheckpointError, is_lost_connection, one_line, translated
from jaxdenoise.system.files import new_folder, recover, write_text

_SUMS = "SHA256SUMS"


def save_arrays(folder: Path, tree: PyTree) -> None:
    """Write a pytree of arrays as a folder, in place of one of that name.

    Several processes, which have the same arrays, write a part of them each. What a killed save
    left beside the folder is cleaned up.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    from orbax.checkpoint import v1 as ocp  # late: it takes a second to import

    folder, crew = folder.absolute(), current_crew()
    tree = meshes.replicate(tree, meshes.mesh_of_all_processes())
    try:
        _recover(folder.parent)
        # Orbax would delete the old folder before it writes the new one, so it writes beside it.
        with new_folder(folder, replace=True, crew=crew) as new:
            ocp.save(new, tree)
            if crew.is_primary:
                write_text(new / _SUMS, "".join(_sums(new)))
    except Exception as error:  # a full disk is an OSError, or whatever tensorstore makes of it
        if crew.count > 1 and is_lost_connection(error):
            raise
        raise CheckpointError(f"{folder}: cannot be written ({one_line(error)})") from error
    finally:
        _recover(folder.parent)  # orbax, too, leaves something after an error


def _recover(parent):
    if current_crew().is_primary:
        recover(parent)


def load_arrays(folder: Path, abstract: PyTree) -> PyTree:
    """Read what `save_arrays` wrote.

    Args:
        folder: The folder.
        abstract: A pytree of the shapes and dtypes that the arrays must have.

    Raises:
        CheckpointError: The folder cannot be read, or its arrays do not fit or hold NaN.
    """
    from orbax.checkpoint import v1 as ocp

    # The device of each array is given, so that a model saved on a GPU loads without one.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), abstract
    )
    problem = f"{folder}: cannot be read"
    with translated(CheckpointError, problem):  # orbax raises many kinds for a damaged folder
        # Errors are found before orbax reads the numbers: when that fails, its threads write pages
        # on the terminal.
        if not _has_its_sums(folder):
            raise CheckpointError(
                f"{problem} (files are damaged or missing, says {_SUMS}; copy the folder again)"
            )
        if _shapes(ocp.metadata(folder.absolute()).metadata) != _shapes(abstract):
            raise CheckpointError(f"{problem} (the arrays do not fit config.json)")
        arrays = ocp.load(folder.absolute(), abstract)
        # By NumPy, which compiles nothing.
        if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(arrays)):
            raise CheckpointError(f"{problem} (the arrays hold NaN; train again)")
        return arrays


def _has_its_sums(folder):
    """Whether the files are those that SHA256SUMS names, if there is one."""
    if not (folder / _SUMS).is_file():
        return True
    return set((folder / _SUMS).read_text().splitlines(keepends=True)) <= set(_sums(folder))


def _sums(folder):
    """A line for each file of the arrays, as ``sha256sum -c`` reads it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != _SUMS)
    return [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
        for file in files
    ]


def _shapes(tree):
    return sorted((tuple(leaf.shape), str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
