"""Command lines in a child process, and the rule that each wrong one must follow.

They run one after another under a limit of time and memory. Standard output and error of the child
are files, so that text which libraries print past Python is seen, too. A hang or a crash fails one
test.
"""

import faulthandler
import gc
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from jaxdenoise.cli.main import main

SECONDS = 60  # for one command line: a hang, not a slow machine
MEMORY = 16 * 2**30  # address space of the child, in bytes


class Shell:
    """Command lines in a child process that imports JAX once."""

    def __init__(self, folder):
        self.folder, self.process = folder, None

    def __call__(self, words):
        """Exit code, standard output, standard error, seconds."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            said = (self.folder / "stderr").read_text(errors="replace")
            pytest.fail(
                f"jaxdenoise {' '.join(words)}: died with {self.process.wait()}: {said[-3000:]}"
            )
        return json.loads(answer)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()

    def _start(self):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__, str(self.folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )


def child(folder):
    """Run the words of each line of standard input as a command line, in the subfolder "here"."""
    folder, answers = Path(folder), os.fdopen(os.dup(1), "w")
    said = [os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("stdout", "stderr")]
    for number, file in enumerate(said, 1):
        os.dup2(file, number)
    jax.devices()
    os.chdir(folder / "here")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        for file in said:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        began = time.monotonic()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            code = main(json.loads(line))
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = repr(error)[:1000]
        if "--model" in line or "--resume" in line:
            gc.collect()  # orbax complains of an object when it is collected
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        sys.stderr.flush()
        texts = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        print(json.dumps([code, *texts, time.monotonic() - began]), file=answers, flush=True)


def tree():
    """All in the current directory, and when each file was changed, which no program can set."""
    found = {}
    for folder, folders, files in os.walk("."):
        found |= {
            os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_mode
            for name in folders
        }
        stats = {os.path.join(folder, name): os.lstat(os.path.join(folder, name)) for name in files}
        found |= {
            path: (stat.st_mode, stat.st_size, stat.st_ino, stat.st_ctime_ns)
            for path, stat in stats.items()
        }
    return found


def refused(shell, words):
    """Assert that a command line is refused as it must be, and return what it says.

    It ends with code 2 and one line without a traceback, and nothing is written or changed.
    """
    before = tree()
    try:
        code, out, err, seconds = shell(words)
    finally:
        after = tree()
        new = map(Path, after.keys() - before.keys())
        for path in sorted(new, reverse=True):  # for the tests that follow
            path.rmdir() if path.is_dir() else path.unlink()
    assert (code, out) == (2, ""), err
    # What was said before the error was met is no part of it.
    said = r"((estimate|PSF): .+\n)*"
    assert re.fullmatch(said + r"jaxdenoise( \w+)?: error: .+\n", err), err
    assert len(err) < 600, err
    assert before == after, set(before.items()) ^ set(after.items())
    assert seconds < SECONDS
    return err


def named(table, slow=()):
    """Parameters for command lines with names. Those that are slow are marked ``robustness``."""
    marks = {True: [pytest.mark.robustness], False: []}
    return [
        pytest.param(words, id=name, marks=marks[name in slow]) for name, words in table.items()
    ]


def spread(verbs, kinds, excluded=()):
    """Parameters for the product of verbs and kinds of bad input: command lines with names.

    The fast tests pair them in turn, so that each verb and each kind stands at least once.
    The other combinations are marked ``robustness``.

    Args:
        verbs: name to command line, with {} for the bad input.
        kinds: name to bad input.
        excluded: pairs of names that are no error.
    """
    fast = set()
    for number in range(max(len(verbs), len(kinds))):
        kind = list(kinds)[number % len(kinds)]
        allowed = [verb for verb in verbs if (verb, kind) not in excluded]
        fast.add((allowed[number % len(allowed)], kind))
    pairs = [(verb, kind) for verb in verbs for kind in kinds if (verb, kind) not in excluded]
    table = {f"{verb}: {kind}": verbs[verb].format(kinds[kind]) for verb, kind in pairs}
    return named(table, {f"{verb}: {kind}" for verb, kind in pairs if (verb, kind) not in fast})


def skip_what_root_may(words):
    if ("unreadable" in words or "locked" in words) and os.geteuid() == 0:
        pytest.skip("no file is locked for root")


if __name__ == "__main__":
    child(*sys.argv[1:])
