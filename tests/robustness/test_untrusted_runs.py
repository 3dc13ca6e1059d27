"""Reading a run folder executes nothing, writes nothing and looks nowhere else, whatever is in it.

Each folder is loaded in a child process under an audit hook, which sees what Python does. What
libraries do past Python is seen from outside: by inotify, when they open a decoy beside the folder,
and by a server that nobody may call.
"""

import ctypes
import json
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from untrusted_folders import METADATA, SCRIPT, Bomb, planted

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
    """Load each folder, the first unwatched; print outcome and events, a line of JSON each."""
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


@pytest.mark.robustness
def test_a_good_folder(good, tmp_path):
    assert outcomes(good, [Path(shutil.copytree(good, tmp_path / "run"))]) == ["loaded"]


def test_the_hook_sees_what_it_should(tmp_path):
    code = """
import os, pickle, socket, subprocess, sys
from test_untrusted_runs import suspicious
from untrusted_folders import Bomb

sys.addaudithook(lambda event, args: suspicious(event, args) and print(event))
pickle.loads(pickle.dumps(Bomb()))
exec("1")
open("x", "w")
os.system("true")
subprocess.run(["true"])
import evil
"""
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


@pytest.mark.robustness
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


FEW = [name for number, name in enumerate(METADATA) if number % 6 == 0]
ALL = pytest.param(list(METADATA), marks=pytest.mark.robustness)


@linux
@pytest.mark.parametrize("names", [FEW, ALL], ids=["few", "all"])
def test_metadata_that_point_elsewhere(good, outside, tmp_path, names):
    folders = [Path(shutil.copytree(good, tmp_path / "runs" / "planted"))]
    planted(folders[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        for number, name in enumerate(names):
            folders.append(Path(shutil.copytree(good, tmp_path / "runs" / str(number))))
            planted(folders[-1])
            METADATA[name](folders[-1], outside, server.getsockname()[1])
        watch = Watch(outside)
        first, *found = outcomes(good, folders)
        assert watch.opened() == b""
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert first == "loaded"
    assert found.count("refused") > len(found) / 3
    assert not list(tmp_path.rglob("executed"))


if __name__ == "__main__":
    child(*map(Path, sys.argv[1:]))
