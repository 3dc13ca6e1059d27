"""Several processes, on one machine or on many, that work as one: who writes, and where they wait for each other. Host side.

`jax.distributed` is what connects them. All run the same program on the same flags and files, which
they share; each reads and denoises its part, and the first one writes what there is one of. If one
dies, JAX ends the others.
"""

import os
import sys
import time
from typing import NamedTuple

import numpy as np

_FAREWELL = 2  # seconds


class Crew(NamedTuple):
    """The processes of a run: the number of this one, 0-based, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def is_primary(self):
        """Whether this is the one that writes."""
        return self.index == 0

    def barrier(self):
        """Wait until all processes are here."""
        if self.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("barrier")

    def all_gather(self, array):
        """The arrays of all processes, which have one shape and dtype: (count, ...)."""
        if self.count == 1:
            return np.asarray(array)[None]
        from jax.experimental import multihost_utils

        bits = np.frombuffer(
            np.ascontiguousarray(array).tobytes(), np.uint8
        )  # as they are: JAX would round float64
        gathered = np.asarray(multihost_utils.process_allgather(bits))
        return np.frombuffer(gathered.tobytes(), np.asarray(array).dtype).reshape(
            self.count, *np.shape(array)
        )

    def any(self, *flags):
        """Of each flag whether any process has raised it: a tuple."""
        return tuple(self.all_gather(np.array(flags, bool)).any(axis=0).tolist())

    def read(self, shape, one):
        """An array of ``shape`` (N, ...), float32, of whose parts ``one(i)``, 0 <= i < N, each process reads its share."""
        share = -(-shape[0] // self.count)
        own = range(self.index * share, min((self.index + 1) * share, shape[0]))
        parts = np.zeros((share, *shape[1:]), np.float32)
        for i in own:
            parts[i - own.start] = one(i)
        return (
            parts if self.count == 1 else self.all_gather(parts).reshape(-1, *shape[1:])[: shape[0]]
        )


ALONE = Crew()


def current_crew():
    """The `Crew` that this process belongs to."""
    jax = sys.modules.get("jax")  # which only who needs it should import
    if jax is None or not jax.distributed.is_initialized():
        return ALONE
    return Crew(jax.process_index(), jax.process_count())


def join(*, coordinator=None, count=None, index=None, heartbeat=30):
    """Connect this process with the others of its run, before anything else is done with JAX.

    Args:
        coordinator: "HOST:PORT" of the first process; None to learn all from what SLURM, Open MPI,
            Kubernetes or a TPU pod says in the environment.
        count: how many processes there are.
        index: which of them this one is, 0-based.
        heartbeat: seconds after which a silent process counts as dead, and the others end.

    Raises:
        ValueError: the environment says nothing, or the others cannot be found.
    """
    import jax

    try:
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=heartbeat)
    except (ValueError, RuntimeError) as error:
        where = (
            f"at {coordinator}"
            if coordinator
            else "by the environment; name them with --coordinator, --processes and --process"
        )
        raise ValueError(f"cannot find the other processes {where} ({error})") from error


def ended(run):
    """The exit code that ``run()`` returns. With any but 0, or an error, this process ends at once if there are others.

    They wait for what it will not do, and see only so that it is gone. The first process is what
    the others are connected by, so it lets them say why they end before.
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
