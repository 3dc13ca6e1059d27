"""The units of lengths and times that image files name: one table for all formats."""

from typing import NamedTuple


class Unit(NamedTuple):
    """A unit of length or of time.

    Attributes:
        symbol: What OME-XML calls it.
        name: What OME-NGFF calls it.
        size: Its size in micrometres or in seconds.
        spellings: What other programs call it.
    """

    symbol: str
    name: str
    size: float
    spellings: tuple[str, ...] = ()


METRE = Unit("m", "meter", 1e6)
LENGTHS = (
    Unit("pm", "picometer", 1e-6),
    Unit("\u00c5", "angstrom", 1e-4),
    Unit("nm", "nanometer", 1e-3),
    Unit("\u00b5m", "micrometer", 1.0, ("um", "\u03bcm", "micron", "microns")),
    Unit("mm", "millimeter", 1e3),
    Unit("cm", "centimeter", 1e4),
    METRE,
    Unit("in", "inch", 25400.0),
)
TIMES = (
    Unit("ns", "nanosecond", 1e-9),
    Unit("\u00b5s", "microsecond", 1e-6),
    Unit("ms", "millisecond", 1e-3, ("msec",)),
    Unit("s", "second", 1.0, ("sec", "seconds")),
    Unit("min", "minute", 60.0),
    Unit("h", "hour", 3600.0),
    Unit("d", "day", 86400.0),
)


def unit_along(axis: str, word: object) -> Unit | None:
    """Return the unit that a file means, or None.

    Args:
        axis: "T" for a time, another letter for a length.
        word: A symbol, a name or another spelling; or whatever a damaged file holds instead.
    """
    for unit in TIMES if axis == "T" else LENGTHS:
        if word in (unit.symbol, unit.name, *unit.spellings):
            return unit
    return None


def size_along(axis: str, word: object) -> float | None:
    """Return the size of a unit, see `unit_along`, in seconds or micrometres, or None."""
    unit = unit_along(axis, word)
    return None if unit is None else unit.size
