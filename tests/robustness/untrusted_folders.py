"""What somebody may put into a run folder: code, pickles, and metadata that point elsewhere."""

import json
import os
import pickle
import struct


class Bomb:
    """Unpickled, it leaves a file in the run folder, which is current, and in its parent."""

    def __reduce__(self):
        return os.system, ("touch executed ../executed",)


NPY = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    + b" " * 58
    + b"\n"
)  # an array of objects
SCRIPT = b"import os\nos.system('touch executed ../executed')\n"
PLANTED = {
    **dict.fromkeys(
        ("checkpoint.pkl", "model.pickle", "state.pt", "weights.pth", "checkpoint", "data.joblib"),
        pickle.dumps(Bomb()),
    ),
    **dict.fromkeys(
        (
            "conftest.py",
            "sitecustomize.py",
            "usercustomize.py",
            "__init__.py",
            "setup.py",
            "evil.py",
        ),
        SCRIPT,
    ),
    **dict.fromkeys(
        ("numpy.py", "json.py", "csv.py", "tensorstore.py", "orbax.py", "evil.pth"), SCRIPT
    ),
    **dict.fromkeys(
        ("evil.so", "evil.dll", "libtensorstore.so", "_json.so", "evil.pyc"), b"\x7fELF" + SCRIPT
    ),
    "model.safetensors": struct.pack("<Q", 2**60) + b"{}",
    "arrays.npy": NPY + pickle.dumps(Bomb()),
    "pyproject.toml": b'[build-system]\nbuild-backend = "evil"\nbackend-path = ["."]\n',
}


def planted(run):
    for folder in (run, run / "weights", run / "weights/state", run / "weights/state/d"):
        for name, content in PLANTED.items():
            (folder / name).write_bytes(content)


def in_file(name, change):
    """A damage: the change of the JSON of a file among the arrays."""

    def damage(run, outside, port):
        file = run / "weights" / name
        content = json.loads(file.read_text())
        content = change(content, str(outside), f"http://127.0.0.1:{port}/") or content
        file.write_text(json.dumps(content))

    return damage


def each_value(change):
    """A damage: the change of each array's entry in _METADATA."""
    return in_file(
        "state/_METADATA",
        lambda content, *where: [
            change(entry, *where) for entry in content["tree_metadata"].values()
        ][:0],
    )


def each_array(change):
    """A damage: the change of each array's entry in array_metadatas."""
    name = "state/array_metadatas/process_0"
    return in_file(
        name,
        lambda content, *where: [
            change(entry["array_metadata"], *where) for entry in content["array_metadatas"]
        ][:0],
    )


def in_checkpoint(change):
    return in_file("_CHECKPOINT_METADATA", change)


def in_sharding(value):
    """A damage: another sharding of every array."""
    return in_file(
        "state/_sharding", lambda content, *where: dict.fromkeys(content, json.dumps(value))
    )


def in_zarr(change):
    """A damage: the change of the JSON of each array, which orbax keeps in a database."""

    def damage(run, outside, port):
        import tensorstore

        store = tensorstore.KvStore.open(
            {"driver": "ocdbt", "base": f"file://{run}/weights/state/"}
        ).result()
        keys = [key for key in store.list().result() if key.endswith(b"zarr.json")]
        assert keys
        for key in keys:
            content = json.loads(store.read(key).result().value)
            change(content, str(outside), f"http://127.0.0.1:{port}/")
            store.write(key, json.dumps(content).encode()).result()

    return damage


def elsewhere(outside, url):
    """Entries that would point somewhere else if they were read."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{outside}/weights/state/"}}
    return {
        "driver": "http",
        "kvstore": url,
        "base": {"driver": "http", "base_url": url},
        "path": outside,
        "ts_spec": spec,
        "tensorstore_spec": spec,
        "spec": spec,
    }


def replaced(name, old, new):
    return lambda run, outside, port: (run / "weights" / name).write_bytes(
        (run / "weights" / name).read_bytes().replace(old, new)
    )


def without(*names):
    return lambda run, outside, port: [(run / "weights" / name).unlink() for name in names]


VALUE_TYPES = (
    "os.system",
    "builtins.eval",
    "evil.Evil",
    "pickle",
    "np.ndarray",
    "string",
    "scalar",
    "jax.random.key",
    "None",
    "",
)
METADATA = {
    **{
        f"values of type {kind!r}": each_value(
            lambda entry, *where, kind=kind: entry["value_metadata"].update(value_type=kind)
        )
        for kind in VALUE_TYPES
    },
    "values elsewhere": each_value(
        lambda entry, *where: entry["value_metadata"].update(elsewhere(*where))
    ),
    "values that are skipped": each_value(
        lambda entry, *where: entry["value_metadata"].update(skip_deserialize=True)
    ),
    "keys elsewhere": each_value(
        lambda entry, outside, url: [
            key.update(key=f"{outside}/{key['key']}") for key in entry["key_metadata"]
        ]
    ),
    "keys above": each_value(
        lambda entry, *where: [
            key.update(key=f"../../../outside/{key['key']}") for key in entry["key_metadata"]
        ]
    ),
    "keys of another kind": each_value(
        lambda entry, *where: [key.update(key_type=99) for key in entry["key_metadata"]]
    ),
    "tree elsewhere": in_file(
        "state/_METADATA", lambda content, *where: content.update(elsewhere(*where))
    ),
    "tree in files": in_file(
        "state/_METADATA", lambda content, *where: content.update(use_ocdbt=False)
    ),
    "tree in zarr 2": in_file(
        "state/_METADATA", lambda content, *where: content.update(use_zarr3=False)
    ),
    "tree in files of zarr 2": in_file(
        "state/_METADATA", lambda content, *where: content.update(use_ocdbt=False, use_zarr3=False)
    ),
    "tree with metadata of its own": in_file(
        "state/_METADATA", lambda content, *where: content.update(custom_metadata=elsewhere(*where))
    ),
    "arrays elsewhere": each_array(
        lambda entry, *where: entry.update(ext_metadata=elsewhere(*where))
    ),
    "arrays of names elsewhere": each_array(
        lambda entry, outside, url: entry.update(param_name=f"{outside}/{entry['param_name']}")
    ),
    "arrays of names above": each_array(
        lambda entry, *where: entry.update(param_name=f"../../../outside/{entry['param_name']}")
    ),
    "arrays of terabytes": each_array(
        lambda entry, *where: entry.update(write_shape=[2**40], chunk_shape=[2**40])
    ),
    "arrays in chunks of nothing": each_array(lambda entry, *where: entry.update(chunk_shape=[0])),
    **{
        f"handler {kind!r}": in_checkpoint(
            lambda content, *where, kind=kind: content.update(item_handlers={"state": kind})
        )
        for kind in (
            "os.system",
            "evil.Evil",
            "orbax.checkpoint.PyTreeCheckpointHandler",
            "../evil",
            7,
        )
    },
    "one handler for all": in_checkpoint(
        lambda content, *where: content.update(item_handlers="evil.Evil")
    ),
    "checkpoint elsewhere": in_checkpoint(
        lambda content, *where: content.update(elsewhere(*where))
    ),
    "sharding unknown": in_sharding({"sharding_type": "os.system"}),
    "sharding on another device": in_sharding(
        {"sharding_type": "SingleDeviceSharding", "device_str": "evil:0"}
    ),
    "zarr elsewhere": in_zarr(lambda content, *where: content.update(elsewhere(*where))),
    "zarr with attributes": in_zarr(
        lambda content, *where: content.update(attributes=elsewhere(*where))
    ),
    "zarr with transformers": in_zarr(
        lambda content, *where: content.update(storage_transformers=[{"name": "evil"}])
    ),
    "zarr with a codec": in_zarr(
        lambda content, *where: content.update(
            codecs=[{"name": "evil", "configuration": elsewhere(*where)}]
        )
    ),
    "zarr of terabytes": in_zarr(
        lambda content, *where: content.update(shape=[2**20 for _ in content["shape"]])
    ),
    "zarr of terabytes in a chunk": in_zarr(
        lambda content, *where: content["chunk_grid"]["configuration"].update(
            chunk_shape=[2**20 for _ in content["shape"]]
        )
    ),
    "zarr of another dtype": in_zarr(
        lambda content, *where: content.update(data_type="complex128")
    ),
    "zarr of a group": in_zarr(lambda content, *where: content.update(node_type="group")),
    "database elsewhere": replaced("state/manifest.ocdbt", b"d/", b"//"),
    "layout of version 0": without("orbax.checkpoint"),
    "layout unknown": without("orbax.checkpoint", "_CHECKPOINT_METADATA"),
}
