"""Several processes, on one machine or on many, that work as one. Host side.

`jax.distributed` connects them. All run the same program with the same options and share their
files; each reads and denoises its part, and the primary process writes the files that exist once.
If one process dies, JAX ends the others.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxdenoise.system.errors import RequestError

_FAREWELL = 2  # seconds in which the other processes can say why they end


@dataclass(frozen=True)
class Crew:
    """The processes of a run: the number of this one, from 0, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def is_primary(self) -> bool:
        """Whether this is the process that writes the files that exist once."""
        return self.index == 0

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("barrier")

    def all_gather(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "count ..."]:
        """Return the arrays of all processes, which have one shape and dtype: (count, ...)."""
        if self.count == 1:
            return array[None]
        from jax.experimental import multihost_utils

        # The bytes as they are, because JAX would round float64.
        own_bytes = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        gathered = np.asarray(multihost_utils.process_allgather(own_bytes))
        return np.frombuffer(gathered.tobytes(), array.dtype).reshape(self.count, *array.shape)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process has raised it."""
        raised = self.all_gather(np.array(flags, bool))
        return tuple(bool(raised[:, i].any()) for i in range(len(flags)))

    def read(self, shape: tuple[int, ...], one: Callable[[int], Any]) -> Float[np.ndarray, "N ..."]:
        """Return an array of ``shape`` (N, ...), float32, of which each process reads its share.

        ``one(i)`` reads part i, for 0 <= i < N, as an array or a sequence of arrays. The shares are
        all-gathered.
        """
        share = -(-shape[0] // self.count)
        own = range(self.index * share, min((self.index + 1) * share, shape[0]))
        parts = np.zeros((share, *shape[1:]), np.float32)
        for i in own:
            parts[i - own.start] = one(i)
        if self.count == 1:
            return parts
        return self.all_gather(parts).reshape(-1, *shape[1:])[: shape[0]]


ALONE = Crew()


def current_crew() -> Crew:
    """Return the `Crew` that this process belongs to."""
    jax = sys.modules.get("jax")  # not imported here: a process without JAX is alone
    if jax is None or not jax.distributed.is_initialized():
        return ALONE
    return Crew(jax.process_index(), jax.process_count())


def join(
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    heartbeat: int = 30,
) -> None:
    """Connect this process with the others of its run, before anything else is done with JAX.

    Args:
        coordinator: "HOST:PORT" of the primary process. None takes all from what SLURM, Open MPI,
            Kubernetes or a TPU pod says in the environment.
        processes: How many processes there are.
        process: The number of this one, from 0.
        heartbeat: After so many seconds a silent process counts as dead, and the others end.

    Raises:
        RequestError: The environment says nothing, or the others cannot be found.
    """
    import jax

    try:
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=heartbeat
        )
    except (ValueError, RuntimeError) as error:
        where = (
            f"at {coordinator}"
            if coordinator
            else "by the environment; name them with coordinator=HOST:PORT, processes=N, process=I"
        )
        raise RequestError(f"cannot find the other processes {where} ({error})") from error


def run_to_exit_code(run: Callable[[], int]) -> int:
    """Return the exit code of ``run()``; after a failure in one of several processes, exit at once.

    The other processes block on a collective that this one never joins, so it must exit. The
    primary process hosts the coordinator and exits last, so that the others can say why they end.
    """
    try:
        code = run()
    except BaseException:
        if current_crew().count == 1:
            raise
        sys.excepthook(*sys.exc_info())
        code = 1
    if code and current_crew().count > 1:
        time.sleep(_FAREWELL if current_crew().is_primary else 0)
        sys.stderr.flush()
        os._exit(code)
    return code
