"""The command line: from words to an exit code."""

import io
import shlex
import sys
from collections.abc import Sequence

from jaxdenoise.cli.parser import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after "jaxdenoise"; None: those of this process.

    Returns:
        The exit code: 0 done, 2 an error that the user can mend, 130 interrupted, 1 any other
        error. Each but 0 comes with a line on standard error that says why.

    Raises:
        SystemExit: with code 2 where the flags are wrong, with 0 after --help and --version.
    """
    _print_any_name()
    args = parser().parse_args(argv)
    text = shlex.join(["jaxdenoise", *(sys.argv[1:] if argv is None else argv)])
    from jaxdenoise.cli import session  # late: it takes NumPy, and --help should answer at once

    return session.run(args, text)


def _print_any_name() -> None:
    """Let names that a console or a log cannot show appear with "?", instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
