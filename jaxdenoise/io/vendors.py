"""Files of microscope makers: Zeiss CZI, Leica LIF and Nikon ND2. Host side.

The extra `vendors` installs their readers. The files become images of the OME kind, so that results
are OME-TIFFs with their sizes and names. JAX is never imported here, and a reader not before a file
of its format is opened.
"""

from pathlib import Path

from jaxdenoise.io import czi, lif, nd2
from jaxdenoise.io.axes import LETTERS, checked_axes
from jaxdenoise.io.frames import Pixels
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.io.planes import maker_reading
from jaxdenoise.io.readers import warn_of_others
from jaxdenoise.system.errors import ImageError

_OPENERS = {".czi": czi.open_first, ".lif": lif.open_first, ".nd2": nd2.open_first}
SUFFIXES = tuple(_OPENERS)


def open_image(path: str | Path, *, axes: str | None = None) -> tuple[Pixels, ImageInfo]:
    """Open a CZI, LIF or ND2 file.

    Axes of size 1 are dropped, but for Y and X. Of several images (scenes, series, positions) the
    first is opened, with a warning.

    Args:
        path: The file.
        axes: Letters of STCZYX, one an axis, such as "TZYX"; overrules what the file says.

    Returns:
        The pixels, which are read when they are indexed by one slice of step 1 an axis, and their
        `ImageInfo`.

    Raises:
        ImageError: The package that reads the format is missing; or the file is missing, damaged,
            incomplete, RGB (without `axes`) or not numeric; or its axes are not known, or `axes`
            does not fit.
    """
    path = Path(path)
    with maker_reading(path):
        image = _OPENERS[path.suffix.lower()](path)
        shape, dtype = tuple(image.pixels.shape), image.pixels.dtype.newbyteorder("=")
        letters = _letters(path, image.axes, shape, axes)
        if dtype.kind not in "iuf":
            raise ImageError(
                f"{path}: pixels are {dtype}, expected integers or floats; export them as such"
            )
    warn_of_others(path, image.images, "images", f"{letters} {shape}", stacklevel=4)
    return image.pixels, ImageInfo(letters, shape, dtype, "ome", metadata=image.metadata)


def _letters(path, names, shape, given):
    """One letter an axis."""
    letters = hint = "".join(name if len(name) == 1 else "?" for name in names)
    unknown = [letter for letter in letters if letter not in LETTERS]
    if unknown and given is None:
        free = [letter for letter in "TZCS" if letter not in letters]
        for old, new in zip(unknown, free, strict=False):
            hint = hint.replace(old, new, 1)
        raise ImageError(
            f"{path}: axes {letters}, shape {shape}, expected letters of {LETTERS}; "
            f'axes="{hint}" treats its parts along {" and ".join(unknown)} as images of their own'
        )
    return checked_axes(path, letters, shape, given)
