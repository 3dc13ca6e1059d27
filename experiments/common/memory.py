"""Measure the peak memory of processes. Host side."""

import resource
import sys
from pathlib import Path

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss in bytes


def peak_of(usage):
    """Return the peak memory in bytes of a process from what `os.wait4` tells of its resources."""
    return _UNIT * usage.ru_maxrss


def peak_of_this_process():
    """Return the peak memory of this process in bytes.

    Linux counts a parent's peak as its child's, so it is asked for that of this program's memory.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak_of(resource.getrusage(resource.RUSAGE_SELF))
