"""One run of the command line: processes, warnings, and errors as exit codes."""

import os
import sys
import traceback
import warnings
from argparse import Namespace
from pathlib import Path

from jaxdenoise.cli import options
from jaxdenoise.cli.verbs import VERBS
from jaxdenoise.cli.wording import in_flags
from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew, join, run_to_exit_code
from jaxdenoise.workflows.reporter import Cancelled


def run(args: Namespace, text: str) -> int:
    """Run a verb; the exit code is as of `main.main`.

    Args:
        args: what `parser.parser` has parsed.
        text: the command line, for reports.
    """
    return run_to_exit_code(lambda: _run(args, text))


def _run(args, text):
    verb = args.verb
    try:
        keep_compiled_programs()
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = lambda message, *_: _warn(message, verb)
            command = options.read(args, text)
            join_others(command)
            code = VERBS[command.verb](command)
            current_crew().barrier()
    except (Cancelled, KeyboardInterrupt) as interrupt:
        kept = str(interrupt) or "nothing is half-written, what was written stays"
        return _fail(130, f"interrupted; {in_flags(kept, verb)}")
    except (ValueError, OSError) as error:
        return _fail(2, f"error: {in_flags(errors.one_line(error), verb)}")
    except Exception as error:
        return _failed(error)
    return code


def _failed(error):
    """The exit code of an error that is no wrong value or file, after a line that says why."""
    reason = errors.one_line(error)
    if errors.is_out_of_memory(error):
        advice = "give less at a time, or smaller sizes"
        return _fail(2, f"error: out of memory ({reason}); {advice}")
    if current_crew().count > 1 and errors.is_lost_connection(error):
        return _fail(1, f"error: another process of this run died ({reason})")
    traceback.print_exception(error)
    name = type(error).__name__
    return _fail(1, f"internal error: {name}: {reason}; please report it with the lines above")


def _fail(code, text):
    print(f"jaxdenoise: {text}", file=sys.stderr)
    return code


def _warn(message, verb):
    if current_crew().is_primary:
        text = in_flags(errors.one_line(message), verb)
        print(f"jaxdenoise: warning: {text}", file=sys.stderr)


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless it was told another one.

    JAX reads this when it is imported.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdenoise"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # nowhere to keep them: each run compiles anew
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def join_others(command: options.Command) -> None:
    """Connect with the other processes, if the flags say that there are others."""
    if command.processes is None:
        return
    coordinator, count, index, heartbeat = command.processes
    join(coordinator=coordinator, processes=count, process=index, heartbeat=heartbeat)
    if current_crew().is_primary and not command.quiet:
        count = current_crew().count
        print(
            f"jaxdenoise: {count} processes; if one dies all end, and train goes on with --resume",
            file=sys.stderr,
        )
