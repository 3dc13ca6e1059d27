"""Time rivals that take turns, so that a disturbance of the machine strikes all of them alike."""

import time

import jax


def times_in_turn(rivals, runs):
    """Return the seconds of each run of each rival, the rivals alternating: {name: [seconds]}.

    Args:
        rivals: {name: (function without arguments, limit)}. The limit is the number of timed runs
            of a slow rival, None for all. The first turn warms up and does not count, except for a
            rival of limit 0, which runs once.
        runs: number of timed turns.
    """
    times = {name: [] for name in rivals}
    for turn in range(runs + 1):
        for name, (function, limit) in rivals.items():
            if limit is not None and turn > limit:
                continue
            began = time.perf_counter()
            jax.block_until_ready(function())
            if turn or limit == 0:
                times[name].append(time.perf_counter() - began)
    return times


def seconds(function):
    """Return the seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
