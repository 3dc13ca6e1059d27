"""Damaged image files, read in child processes.

A hang, a crash or a memory bomb is found, with the number of the mutation that makes it.
``FUZZ=2000 python -m pytest -m robustness tests/robustness/test_fuzz.py`` tries so many mutations
of each format. ``python tests/robustness/test_fuzz.py read lzw.tif 17 18 FOLDER`` tries the one of
number 17 alone and leaves it in the folder. `commands` in place of `read` sends them through the
command line.
"""

import contextlib
import faulthandler
import io
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mutations import FORMATS, Mutator

from jaxdenoise.cli.main import main
from jaxdenoise.io import images
from jaxdenoise.io.images import ImageError

MUTATIONS = int(os.environ.get("FUZZ", 100))  # of each format
SECONDS = {"read": 10, "commands": 60}  # for one file; a shape that was never filtered is compiled
MEMORY = 8 * 2**30  # address space of a child, in bytes
GROWTH = 2**20  # what a file of some kB may add to the memory of a child, in kB
FINE = ("read", "refused", "not written")


def attempt(call, *args, **options):
    """The result, or the text of the ImageError; whatever is said is one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call(*args, **options)
        except ImageError as error:
            result = str(error)
            assert "\n" not in result
    assert not any("\n" in str(warning.message) for warning in caught)
    return result


def read(path, seed):
    """Read a damaged file, write what was read, and read that; the outcome in a word."""
    result, out = attempt(images.read, path), path.parent / "out" / "again.tif"
    if isinstance(result, str):
        return "refused"
    frames, info = result
    sizes = dict(zip(info.axes, info.shape, strict=True))
    assert frames.shape == (
        math.prod(info.shape) // (sizes["Y"] * sizes["X"]),
        sizes["Y"],
        sizes["X"],
    )
    assert frames.dtype == np.float32
    assert not np.isinf(frames).any()  # NaN marks pixels without data
    json.dumps(info.describe(), allow_nan=False)
    refusal = attempt(images.write, out, frames, info, overwrite=True)
    assert [file.name for file in out.parent.iterdir()] == ([] if refusal else ["again.tif"])
    if refusal:
        return "not written"
    again = attempt(images.read, out, axes=info.axes if set(info.axes) <= set("STCZYX") else None)
    np.testing.assert_array_equal(again.frames, frames)
    out.unlink()
    return "read"


def commands(path, seed):
    """Filter a damaged file by the command line; the outcome in a word."""
    out, err = path.parent / "out", io.StringIO()
    shutil.rmtree(out, ignore_errors=True)
    chosen = [["median", "--size", "3"], ["gaussian", "--sigma", "1"], ["box", "--size", "3"]][
        seed % 3
    ]
    with contextlib.redirect_stderr(err):
        code = main(["filter", str(path), "-o", str(out), "--quiet", "--filter", *chosen])
    *warned, last = err.getvalue().splitlines() or [""]
    left = [file.name for file in out.iterdir()] if out.exists() else []
    assert all(line.startswith("jaxdenoise: warning: ") for line in warned), err.getvalue()
    if code == 0:
        assert left == [f"{path.stem}_{chosen[0]}.tif"]
        assert not last or last.startswith("jaxdenoise: warning: "), last
        return "read"
    assert code == 2
    assert last.startswith("jaxdenoise: error: "), last
    assert left == []
    return "refused"


def child(verb, name, first, last, folder):
    """Try mutations of a format, or of "all" in turn; print number and outcome, a line each."""
    folder, names = Path(folder), list(FORMATS) if name == "all" else [name]
    for whole in names:
        FORMATS[whole](folder / whole)
    mutators = [Mutator(folder / whole) for whole in names]
    call = {"read": read, "commands": commands}[verb]
    for path in (
        folder / whole for whole in names
    ):  # what is imported and compiled late is not the file's fault
        assert call(path, 0) == "read", path
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for seed in range(int(first), int(last)):
        print(seed, end=" ", flush=True)
        mutate = mutators[seed % len(mutators)]
        path = folder / f"damaged{mutate.path.suffix}"
        path.write_bytes(mutate(seed))
        memory, said = peak(), os.fstat(2).st_size
        faulthandler.dump_traceback_later(SECONDS[verb], exit=True)
        try:
            outcome = call(path, seed)
        except Exception as error:
            outcome = " ".join(repr(error).split())
        faulthandler.cancel_dump_traceback_later()
        if peak() - memory > GROWTH:
            outcome += f", took {(peak() - memory) // 1024} MB"
        if os.fstat(2).st_size != said:  # by a library, past Python
            outcome += ", wrote to standard error"
        print(outcome, flush=True)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def outcomes(verb, name, first, last, folder):
    """The outcome of each mutation. After a child that dies, another one goes on."""
    found, environment = {}, os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    while first < last:
        words = [sys.executable, __file__, verb, name, str(first), str(last), str(folder)]
        with open(folder / "stderr", "w+") as err:
            done = subprocess.run(
                words,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=environment,
                timeout=1800,
                check=False,
            )
            err.seek(0)
            said = " ".join(err.read().split())
        for line in done.stdout.splitlines():
            seed, _, outcome = line.partition(" ")
            found[int(seed)] = outcome or f"died with {done.returncode}: {said[-1500:]}"
        assert first in found, said
        first = max(found) + 1
    return found


def check(verb, name, first, last, folder):
    """Assert that nothing but one of FINE came of the mutations; returns how many of each."""
    found = outcomes(verb, name, first, last, folder)
    bad = [
        f"python {__file__} {verb} {name} {seed} {seed + 1} FOLDER: {text}"
        for seed, text in found.items()
        if text not in FINE
    ]
    assert not bad, "\n".join(bad)
    assert len(found) == last - first
    return Counter(found.values())


def test_a_few_damaged_files_of_each_format_are_read_or_refused(tmp_path):
    count = 10 * len(FORMATS)
    counts = check("read", "all", 0, count, tmp_path)
    assert counts["refused"] > count / 10
    assert counts["read"] > count / 50


@pytest.mark.robustness
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    counts = check("read", name, 0, MUTATIONS, tmp_path)
    assert counts["refused"] > MUTATIONS / 10  # else the mutations would be too weak,
    assert counts["read"] > MUTATIONS / 50  # or too strong


@pytest.mark.robustness
def test_a_damaged_file_leaves_nothing_half_written(tmp_path):
    counts = check("commands", "all", 0, MUTATIONS // 2, tmp_path)
    assert counts["read"] > 5 < counts["refused"]


if __name__ == "__main__":
    child(*sys.argv[1:])
