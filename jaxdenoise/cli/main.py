"""The command line: from words to an exit code."""

import os
import shlex
import sys
import warnings
from pathlib import Path

from jaxdenoise.cli.parser import parser
from jaxdenoise.cli.verbs import VERBS
from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew, join, run_to_exit_code
from jaxdenoise.system.errors import RequestError


def main(argv=None):
    """Run the command line; returns the exit code: 0 done, 2 the user's error, 130 interrupted."""
    args = parser().parse_args(argv)
    args.command = shlex.join(["jaxdenoise", *(sys.argv[1:] if argv is None else argv)])
    return run_to_exit_code(lambda: _run(args))


def _run(args):
    try:
        _keep_compiled_programs()
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning
            join_others(args)
            VERBS[args.verb](args)
            current_crew().barrier()
    except (ValueError, OSError) as error:
        print(f"jaxdenoise: error: {errors.one_line(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if current_crew().count > 1 and errors.is_lost_connection(error):
            print(
                f"jaxdenoise: error: another process of this run died ({errors.one_line(error)})",
                file=sys.stderr,
            )
            return 1
        if not errors.is_out_of_memory(error):
            raise
        print(
            f"jaxdenoise: error: out of memory ({errors.one_line(error)}); give less at a time, or smaller sizes",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt as interrupt:
        print(
            f"jaxdenoise: interrupted{f'; {interrupt}' if interrupt.args else ''}", file=sys.stderr
        )
        return 130
    return 0


def _show_warning(message, *_):
    if current_crew().is_primary:
        print(f"jaxdenoise: warning: {errors.one_line(message)}", file=sys.stderr)


def _keep_compiled_programs():
    """Between runs of the command line, in the user's cache folder unless JAX was told another. JAX reads this when it is imported."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdenoise"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # nowhere to keep them: each run compiles anew
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def join_others(args):
    """`join`, if the flags of the command line say that there are others; RequestError where these do not go together."""
    if not hasattr(args, "distributed"):  # a verb of one process
        return
    by_hand = args.coordinator, args.processes, args.process
    several = args.distributed or by_hand != (None, None, None)
    if args.devices is not None:
        _check_devices(args.devices, several)
    if not several:
        return
    if args.distributed and by_hand != (None, None, None):
        raise RequestError(
            "--distributed finds the other processes by itself: leave --coordinator, --processes and --process out"
        )
    if not args.distributed and None in by_hand:
        raise RequestError("--coordinator, --processes and --process go together")
    if not args.distributed and args.process >= args.processes:
        raise RequestError(
            f"--process {args.process}: the processes are numbered from 0 to {args.processes - 1}"
        )
    join(
        coordinator=args.coordinator,
        processes=args.processes,
        process=args.process,
        heartbeat=args.heartbeat,
    )
    if current_crew().is_primary and not args.quiet:
        print(
            f"jaxdenoise: {current_crew().count} processes; if one dies all end, and train goes on with --resume",
            file=sys.stderr,
        )


def _check_devices(count, several):
    if several:
        raise RequestError("--devices is for a single process: of several, all devices take part")
    import jax

    if count > jax.local_device_count():
        raise RequestError(f"--devices {count}: there are {jax.local_device_count()}")
