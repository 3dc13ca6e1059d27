"""Checks of the letters that name an image's axes. JAX is never imported here."""

import math
from pathlib import Path

from jaxdenoise.system.errors import ImageError

LETTERS = "STCZYX"  # what a user may call axes
_UNNAMED = "IQ"  # how tifffile calls pages in a row of which the file says no more


def time_axis(axes: str) -> str | None:
    """Return the letter of the axis along which frames may follow each other in time.

    It is T; without it, the one that the file leaves unnamed, as many programs write movies. None:
    there is neither, or there are several without a name.
    """
    unnamed = [letter for letter in axes if letter in _UNNAMED]
    if "T" in axes:
        return "T"
    return unnamed[0] if len(unnamed) == 1 else None


def checked_letters(path: Path, axes: str) -> str:
    """Return the axes that a user gave, in capitals.

    Raises:
        ImageError: They are not letters of STCZYX, once each, with Y and X.
    """
    letters = axes.upper()
    if (
        set(letters) - set(LETTERS)
        or len(set(letters)) < len(letters)
        or not {"Y", "X"} <= set(letters)
    ):
        raise ImageError(
            f"{path}: axes {axes!r}, expected letters of {LETTERS} once each with Y and X; "
            "give such as TZYX"
        )
    return letters


def _example(found, shape):
    """As many letters as the shape has, those of the file where they are known ones."""
    letters = "".join(letter if letter in LETTERS else "T" for letter in found)
    fits = len(set(letters)) == len(letters) == len(shape)
    return letters if fits and {"Y", "X"} <= set(letters) else "STCZYX"[-len(shape) :]


def checked_axes(
    path: Path, found: str, shape: tuple[int, ...] | list[int], given: str | None = None
) -> str:
    """Return the axes of an image: those that a user gave, or else those of the file.

    Args:
        path: For messages.
        found: What the file says, a letter an axis.
        shape: The file's shape.
        given: What the user says, or None.

    Raises:
        ImageError: The image is empty, or RGB and no axes were given; or the axes do not fit.
    """
    shape = tuple(shape)
    if math.prod(shape) == 0:
        raise ImageError(f"{path}: the image is empty, shape {shape}; export it again")
    if given is None and "S" in found:
        hint = found if "C" in found else found.replace("S", "C")
        hint = hint.translate(str.maketrans("IQ", "TT"))
        raise ImageError(
            f"{path}: is RGB (axes {found}, shape {shape}), expected grey levels; "
            f'axes="{hint}" treats each channel as an image of its own, or save it as grey'
        )
    axes = given or found
    if len(axes) != len(shape):
        raise ImageError(
            f"{path}: axes {axes} do not fit the file's shape {shape} ({found}); "
            f'give one letter each, such as axes="{_example(found, shape)}"'
        )
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise ImageError(
            f'{path}: axes {axes}, shape {shape}, lack Y or X; name both, such as axes="YX"'
        )
    return axes
