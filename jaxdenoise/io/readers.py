"""What the readers of all formats share: errors and warnings in one line. Needs no JAX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from jaxdenoise.system.errors import ImageError, translated


def reading(path: Path, expected: str = "a sound image file") -> AbstractContextManager[None]:
    """Return a context in which any error of a reader becomes an ImageError of one line.

    On damaged files readers and decoders raise all sorts, from struct.error to MemoryError.
    """
    advice = f"expected {expected}, copy or export it again"
    return translated(ImageError, f"{path}: cannot be read", advice=advice)


def warn_of_others(path: Path, count: int, what: str, first: str, *, stacklevel: int) -> None:
    """Warn that only the first of several images in a file is read.

    Args:
        path: The file.
        count: How many images it holds; there is no warning for a single one.
        what: What they are called.
        first: Which one is read.
        stacklevel: As of `warnings.warn`, counted from the caller of this function.
    """
    if count > 1:
        message = f"{count - 1} of {count} {what} were left out, only the first is read: {first}"
        warnings.warn(f"{path}: {message}", stacklevel=stacklevel + 1)


@contextmanager
def quiet_readers() -> Iterator[list[str]]:
    """Keep the logs of tifffile and imagecodecs off the terminal; yield a list of their errors."""
    messages = []

    def collect(record):
        if record.levelno >= logging.ERROR:
            messages.append(record.getMessage())
        return False

    loggers = [logging.getLogger(name) for name in ("tifffile", "imagecodecs")]
    for logger in loggers:
        logger.addFilter(collect)
    try:
        yield messages
    finally:
        for logger in loggers:
            logger.removeFilter(collect)
