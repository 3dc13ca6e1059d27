"""The kinds of errors that a user can cause, and how other errors become them. Needs no JAX."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_CHARACTERS = 500  # of the text of another library's error
_TENSORSTORE_DETAILS = re.compile(
    r" \[[\w ]+='.*", re.DOTALL
)  # its settings and places in its source code
_LOST_CONNECTION = ("gloo", "NCCL", "Connection reset", "Connection closed", "UNAVAILABLE")


class JaxdenoiseError(ValueError):
    """Base of all errors that a user can cause.

    The message is one line on what was given, what was expected and what to do. It names options in
    the words of the Python API, such as ``overwrite=True``; the command line turns them into flags.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split("\n")))


class ConfigError(JaxdenoiseError):
    """A setting is unknown or outside its range."""


class RequestError(JaxdenoiseError):
    """Options do not go together, or do not fit the images."""


class ImageError(JaxdenoiseError):
    """A file cannot be read or written as an image."""


class CheckpointError(JaxdenoiseError):
    """A run folder cannot be read or written."""


class WeightsError(JaxdenoiseError):
    """Weights are not those of the published network."""


def one_line(error: object) -> str:
    """Return an error's message without line breaks, at most 500 characters, or else its type."""
    return " ".join(str(error).split())[:_MOST_CHARACTERS] or type(error).__name__


@contextmanager
def translated(
    kind: type[JaxdenoiseError],
    problem: str,
    *,
    caught: type[Exception] | tuple[type[Exception], ...] = Exception,
    advice: str = "",
) -> Iterator[None]:
    """Turn the errors of other libraries into one of ours, in a ``with`` block.

    Args:
        kind: The kind of the new error.
        problem: How its message begins, such as "a.tif: cannot be read". What the other library
            says follows in brackets.
        caught: The errors that are translated. Those of ours pass as they are.
        advice: How the message ends.
    """
    try:
        yield
    except JaxdenoiseError:
        raise
    except caught as error:
        reason, name = _TENSORSTORE_DETAILS.sub("", str(error)), type(error).__name__
        # An OSError's own words are enough; others, such as "KeyError: 'shape'", need their type.
        reason = reason if isinstance(error, OSError) and reason else f"{name}: {reason}"
        ending = f"; {advice}" if advice else ""
        raise kind(f"{problem} ({one_line(reason).rstrip(': ')}){ending}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device (in JAX's words) or the machine (in Python's) has no memory left."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def is_lost_connection(error: BaseException) -> bool:
    """Return whether JAX says that another process, with which this one computes, has gone."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST_CONNECTION)
