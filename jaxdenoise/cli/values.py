"""Values of flags: from text to a number, or a line that says what was expected."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def positive(text: str) -> int:
    """Return a whole number from 1 on."""
    return _number(text, int, lambda n: 1 <= n < 2**31, "a whole number from 1 to 2^31 - 1")


def whole(text: str) -> int:
    """Return a whole number from 0 on."""
    return _number(text, int, lambda n: 0 <= n < 2**31, "a whole number")


def neighbours(text: str) -> int | None:
    """Return a whole number from 0 on; None for "auto"."""
    return None if text == "auto" else whole(text)


def odd(text: str) -> int:
    """Return an odd number of pixels."""
    return _number(text, int, lambda n: 1 <= n < 2**31 and n % 2 == 1, "an odd number of pixels")


def seconds(text: str) -> float:
    """Return a number of seconds from 0 on."""
    return _number(text, float, lambda value: 0 <= value < math.inf, "a number of seconds")


def length(text: str) -> float:
    """Return a positive number."""
    return _number(text, float, lambda value: 0 < value < math.inf, "a positive number")


def seed(text: str) -> int:
    """Return a seed of 32 bits."""
    return _number(text, int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 2^32 - 1")


def data_range(text: str) -> float | str:
    """Return "gt" or a positive number of grey levels."""
    expected = "'gt' or a positive number of grey levels"
    return text if text == "gt" else _number(text, float, lambda r: 0 < r < math.inf, expected)


def sigma(text: str) -> float | tuple[float, ...] | str:
    """Return "auto", a sigma in pixels, or one an axis."""
    expected = "'auto' or a sigma in pixels (y,x or z,y,x: one an axis)"
    return _width(text, float, lambda sigma: 0 <= sigma < math.inf, expected)


def size(text: str) -> int | tuple[int, ...] | str:
    """Return "auto", an odd number of pixels, or one an axis."""
    expected = "'auto' or an odd number of pixels (y,x or z,y,x: one an axis)"
    return _width(text, int, lambda size: size >= 1 and size % 2 == 1, expected)


def background(text: str) -> float | str:
    """Return "auto" or a grey level."""
    return text if text == "auto" else _number(text, float, math.isfinite, "'auto' or a grey level")


def stride(text: str) -> int | str:
    """Return "auto" or a whole number from 1 on."""
    return text if text == "auto" else positive(text)


def crop(text: str) -> tuple[int, int, int]:
    """Return the row and the column of a square's first pixel, and its side, in pixels."""
    expected = "three whole numbers of pixels, Y,X,SIZE, such as 0,0,256"
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    y, x, size = (_number(part, int, lambda n: 0 <= n < 2**31, expected) for part in parts)
    return y, x, size


def reach(text: str) -> tuple[int, int] | str:
    """Return "auto" or pixels along y and x; one number stands for both."""
    if text == "auto":
        return text
    expected = "'auto', or one or two whole numbers of pixels"
    parts = text.split(",")
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    values = [_number(part, int, lambda n: 0 <= n < 2**31, expected) for part in parts]
    return values[0], values[-1]


def _width(text: str, kind: type, holds: Callable[[Any], bool], expected: str) -> Any:
    if text == "auto":
        return text
    parts = text.split(",")
    if len(parts) > 3:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    values = tuple(_number(part, kind, holds, expected) for part in parts)
    return values if len(values) > 1 else values[0]


def _number(text: str, kind: type, holds: Callable[[Any], bool], expected: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value
