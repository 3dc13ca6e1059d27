import os
import subprocess
import sys
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from jaxdenoise.system import crew
from jaxdenoise.system.crew import ALONE, Crew, current_crew, join, run_to_exit_code
from jaxdenoise.system.errors import RequestError


@dataclass(frozen=True)
class Pair(Crew):
    """The primary one of two processes; the other one has numbers that are larger by one."""

    def all_gather(self, array):
        return np.stack([array, array + np.ones((), array.dtype)])


def test_a_process_is_alone_until_it_is_joined():
    assert current_crew() is ALONE
    assert ALONE.is_primary
    assert not Crew(1, 2).is_primary
    ALONE.barrier()
    np.testing.assert_array_equal(ALONE.all_gather(np.arange(3)), [[0, 1, 2]])
    assert ALONE.any(True, False) == (True, False)


def test_flags_of_any_process_count():
    assert Pair(0, 2).any(False, True) == (True, True)


def test_a_process_without_jax_is_alone_and_does_not_import_it():
    use = "from jaxdenoise.system.crew import current_crew; current_crew()"
    code = f"import sys; {use}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_are_read_in_order():
    parts = ALONE.read((3, 2), lambda i: [i, 10 * i])
    assert parts.dtype == np.float32
    np.testing.assert_array_equal(parts, [[0, 0], [1, 10], [2, 20]])


def test_each_process_reads_its_share():
    seen = []

    def one(i):
        seen.append(i)
        return np.float32(i)

    np.testing.assert_array_equal(Pair(0, 2).read((3,), one), [0, 1, 1])
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "by the environment; name them with coordinator=HOST:PORT, processes=N, process=I"),
        ({"coordinator": "here:1", "processes": 2, "process": 0}, "at here:1 "),
    ],
)
def test_processes_that_cannot_be_found(monkeypatch, options, message):
    def fail(*given, heartbeat_timeout_seconds):
        assert given == tuple(options.get(name) for name in ("coordinator", "processes", "process"))
        raise RuntimeError("nobody")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(RequestError, match=f"cannot find the other processes {message}.*nobody"):
        join(**options)


def test_a_single_process_passes_codes_and_errors_on():
    assert run_to_exit_code(lambda: 2) == 2
    with pytest.raises(KeyError):
        run_to_exit_code(lambda: {}["x"])


def test_one_of_several_processes_exits_at_once(monkeypatch, capsys):
    slept = []
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(crew.time, "sleep", slept.append)
    for index in (0, 1):
        monkeypatch.setattr(crew, "ALONE", Crew(index, 2))
        assert run_to_exit_code(lambda: 0) == 0
        with pytest.raises(SystemExit, match="2"):
            run_to_exit_code(lambda: 2)
    assert slept == [2, 0]  # the primary process exits last
    with pytest.raises(SystemExit, match="1"):
        run_to_exit_code(lambda: {}["x"])
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_arrays_are_gathered_bit_for_bit(monkeypatch):
    """JAX would round float64, so it is given bytes."""
    from jax.experimental import multihost_utils

    called = []
    monkeypatch.setattr(multihost_utils, "sync_global_devices", called.append)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda array: np.stack([array, array[::-1]])
    )
    two, array = Crew(0, 2), np.array([[1 / 3, 2.0**60 + 1]])
    two.barrier()
    assert len(called) == 1
    gathered = two.all_gather(array)
    assert (gathered.shape, gathered.dtype) == ((2, 1, 2), np.float64)
    np.testing.assert_array_equal(gathered[0], array)
    np.testing.assert_array_equal(gathered[1].tobytes()[::-1], array.tobytes())
