"""Reading a run folder executes nothing, writes nothing, and looks nowhere else, whatever somebody has put into it.

Each folder is loaded in a child process under an audit hook, which sees what Python does. What
libraries do past Python is seen from
outside: by inotify, when they open a decoy beside the folder, and by a server that nobody may call.
"""

import ctypes
import json
import os
import pickle
import resource
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdenoise.runs.models import load, save
from jaxdenoise.system.errors import CheckpointError

DECOY = 7.0  # every number of the arrays outside
ALWAYS = {  # events that reading has no use for
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "urllib.Request",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
    "webbrowser.open",
    "code.__new__",
}
MEMORY = 16 * 2**30  # address space of the child, in bytes
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# --- the child
# ---------------------------------------------------------------------------------------------------------------------------


def installed(name):
    """Whether code of this name came with Python, a package or the tests."""
    roots = [
        sys.prefix,
        sys.base_prefix,
        *sysconfig.get_paths().values(),
        str(Path(__file__).parents[2]),
    ]
    return name.startswith(("<frozen ", *roots))


def suspicious(event, args):
    """Whether an event is none of reading's."""
    if event == "open":
        path, _, flags = args
        return (
            isinstance(path, str | bytes)
            and bool(flags & WRITES)
            and os.fsdecode(path) != os.devnull
        )
    if event == "exec":
        return not installed(args[0].co_filename)
    if event == "compile":  # "<unknown>" is only parsed, as tracebacks do
        return (
            args[1] is not None
            and os.fsdecode(args[1]) != "<unknown>"
            and not installed(os.fsdecode(args[1]))
        )
    if event == "import":
        return args[1] is not None and not installed(args[1])
    if event == "marshal.loads":
        return (
            sys._getframe(2).f_code.co_filename != "<frozen importlib._bootstrap_external>"
        )  # compiled modules
    if event == "ctypes.dlopen":
        return (
            args[0] is not None and not installed(os.fspath(args[0])) and "/" in os.fspath(args[0])
        )
    return event in ALWAYS


def child(good, *folders):
    """Load each folder, the first before anything is watched; one line of JSON each: outcome, events."""
    load(good)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = None

    def hook(event, args):
        if found is not None and suspicious(event, args):
            found.append(f"{event} {str(args)[:300]}")

    sys.addaudithook(hook)
    for folder in folders:
        os.chdir(folder)
        found = []
        try:
            leaves = jax.tree.leaves(load(folder))
            outcome = (
                "decoy" if any((np.asarray(leaf) == DECOY).any() for leaf in leaves) else "loaded"
            )
        except CheckpointError:
            outcome = "refused"
        except BaseException as error:
            outcome = repr(error)[:300]
        events, found = found, None
        print(json.dumps([outcome, events]), flush=True)


# --- folders
# -----------------------------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it leaves a file in the current directory, which is the run folder, and in the parent's."""

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
    """What would point somewhere else, were it read."""
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


# --- the tests
# ---------------------------------------------------------------------------------------------------------------------------


def model(make_denoiser):
    denoiser = make_denoiser(depth=1, filters=2)
    return jax.tree.map(jnp.asarray, denoiser)


@pytest.fixture(scope="module")
def good(make_denoiser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "run"
    save(folder, model(make_denoiser))
    (folder / "weights/SHA256SUMS").unlink()  # else it would stop every damage before orbax sees it
    return folder


@pytest.fixture
def outside(tmp_path, make_denoiser):
    """A model beside the run folder, of which nothing may be read."""
    save(
        tmp_path / "outside",
        jax.tree.map(lambda leaf: jnp.full_like(leaf, DECOY), model(make_denoiser)),
    )
    return tmp_path / "outside"


linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


class Watch:
    """Names of the files in some folders that any process has opened, by Linux's inotify."""

    OPENED = 0x20

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self.libc.inotify_init1(os.O_NONBLOCK)
        for path in (folder, *folder.rglob("*")):
            assert self.libc.inotify_add_watch(self.descriptor, os.fsencode(path), self.OPENED) > 0

    def opened(self):
        try:
            return os.read(self.descriptor, 2**16)
        except BlockingIOError:
            return b""
        finally:
            os.close(self.descriptor)


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def outcomes(good, folders):
    """What became of each folder, which must be nothing but a model or a CheckpointError."""
    top = folders[0].parent
    before = tree(top)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    words = [sys.executable, __file__, *map(str, [good, *folders])]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(folders), done.stderr[-3000:]
    bad = {
        folder.name: line
        for folder, line in zip(folders, lines, strict=True)
        if line[0] not in ("loaded", "refused") or line[1]
    }
    assert not bad
    assert tree(top) == before
    return [line[0] for line in lines]


def test_a_good_folder(good, tmp_path):
    assert outcomes(good, [Path(shutil.copytree(good, tmp_path / "run"))]) == ["loaded"]


def test_the_hook_sees_what_it_should(tmp_path):
    code = "import sys, test_untrusted_runs as t\nsys.addaudithook(lambda event, args: t.suspicious(event, args) and print(event))\n"
    code += "import pickle, subprocess, os, socket\n"
    code += "pickle.loads(pickle.dumps(t.Bomb())); exec('1'); open('x', 'w'); os.system('true'); subprocess.run(['true'])\n"
    code += "import evil"
    (tmp_path / "evil.py").write_bytes(SCRIPT)
    path = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[2]), str(tmp_path)]
    )
    (tmp_path / "here").mkdir()
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path / "here",
        check=True,
    )
    assert {"pickle.find_class", "exec", "compile", "open", "os.system", "subprocess.Popen"} <= set(
        done.stdout.split()
    )
    assert (tmp_path / "executed").exists()


@linux
def test_the_watch_sees_what_it_should(tmp_path):
    (tmp_path / "file").write_text("x")
    watch = Watch(tmp_path)
    (tmp_path / "file").read_text()
    assert b"file" in watch.opened()


def test_planted_files(good, tmp_path):
    """Code and pickles of many names beside the files of a run, and in the place of each."""
    folders = [Path(shutil.copytree(good, tmp_path / "planted"))]
    planted(folders[0])
    for number, file in enumerate(
        sorted(file.relative_to(good) for file in good.rglob("*") if file.is_file())
    ):
        for kind, content in (("pickle", pickle.dumps(Bomb())), ("script", SCRIPT)):
            folders.append(Path(shutil.copytree(good, tmp_path / f"{kind}-{number}")))
            (folders[-1] / file).write_bytes(content)
    found = outcomes(good, folders)
    assert found[0] == "loaded"
    assert found.count("refused") > 10
    assert not list(tmp_path.rglob("executed"))


@linux
def test_metadata_that_point_elsewhere(good, outside, tmp_path):
    folders = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        for number, damage in enumerate(METADATA.values()):
            folders.append(Path(shutil.copytree(good, tmp_path / "runs" / str(number))))
            planted(folders[-1])
            damage(folders[-1], outside, server.getsockname()[1])
        watch = Watch(outside)
        found = dict(zip(METADATA, outcomes(good, folders), strict=True))
        assert watch.opened() == b""
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert list(found.values()).count("refused") > len(found) / 3
    assert not list(tmp_path.rglob("executed"))


if __name__ == "__main__":
    child(*map(Path, sys.argv[1:]))
