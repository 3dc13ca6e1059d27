"""Work on several items at once, by threads of this process, in order. Host side.

NumPy and SciPy let other threads run while they compute.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD = 2  # items a thread that are begun before the first result is taken


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mapped(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int | None = None
) -> Iterator[_Result]:
    """Yield the results of a function, in the order of its items.

    The items are drawn by the caller's thread, a few ahead of the results, so that memory does not
    grow with their number. An error of the function is raised where its result would come.

    Args:
        function: of one item; it is called by several threads at once.
        items: what is drawn one after the other.
        threads: how many; default: one a core.
    """
    threads = threads or cores()
    if threads == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[_Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) >= _AHEAD * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
