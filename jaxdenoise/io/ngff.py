"""The metadata of OME-Zarr images (OME-NGFF 0.1 to 0.5): which array is the image, and its axes, units, steps and channels.

Their translation from and to `ImageInfo`, in whose OME vocabulary they are kept. JAX is never
imported here.
"""

import json
import math
import os
import re
from pathlib import PureWindowsPath
from string import ascii_uppercase

from jaxdenoise.io.info import number
from jaxdenoise.system.errors import ImageError

MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")  # a folder with one of these files is Zarr's
# OME-XML's symbols of units, and NGFF's names.
_LENGTHS = {"pm": "picometer", "\u00c5": "angstrom", "nm": "nanometer", "\u00b5m": "micrometer"}
_LENGTHS |= {"mm": "millimeter", "cm": "centimeter", "m": "meter", "in": "inch"}
_TIMES = {
    "ns": "nanosecond",
    "\u00b5s": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_TYPES = {"T": "time", "C": "channel", "S": "channel", "Z": "space", "Y": "space", "X": "space"}


def is_array(folder):
    """Whether a folder is a Zarr array."""
    return (
        os.path.isfile(folder / ".zarray")
        or (_json(folder / "zarr.json") or {}).get("node_type") == "array"
    )


def first_image(path):
    """Find the image in a folder that may hold several.

    Args:
        path: The folder of an image, of a well, of several series (bioformats2raw's layout), or of
            a bare array.

    Returns:
        tuple: The folder of the first image, and how many others there are.

    Raises:
        ImageError: The folder is a plate, or is nothing of this.
    """
    attributes = _attributes(path)
    if "multiscales" in attributes:
        return path, len(attributes["multiscales"]) - 1
    if "plate" in attributes:
        wells = attributes["plate"]["wells"]
        image, _ = first_image(_inside(path, wells[0]["path"]))
        raise ImageError(
            f"{path}: is a plate of {len(wells)} wells, expected one image; give one of them, such as {image}"
        )
    if "well" in attributes:
        names = [image["path"] for image in attributes["well"]["images"]]
    elif "bioformats2raw.layout" in attributes:
        numbered = sorted((name for name in os.listdir(path) if name.isdecimal()), key=int)
        names = _attributes(path / "OME").get("series") or numbered
    elif is_array(path):
        return path, 0
    else:
        raise ImageError(
            f"{path}: holds no OME-Zarr image (no multiscales in its metadata); give the folder of an image"
        )
    return _inside(path, names[0]), len(names) - 1


def read_group(folder):
    """What the metadata of an image's folder say.

    Args:
        folder: As `first_image` gives it.

    Returns:
        tuple: The folder of the array of full resolution; the dictionaries of the multiscale image
            and of its first dataset, empty for a
        bare array; and the "omero" section.
    """
    attributes = _attributes(folder)
    if "multiscales" not in attributes:
        return folder, {}, {}, None
    multiscale = attributes["multiscales"][0]
    dataset = multiscale["datasets"][0]
    return _inside(folder, dataset["path"]), multiscale, dataset, attributes.get("omero")


def read_axes(path, multiscale, shape, labels, given):
    """The axes' letters and units.

    Args:
        path: For messages.
        multiscale: As `read_group` gives it.
        shape: The array's shape.
        labels: The names that the array itself gives its axes, empty strings where it does not.
        given: Letters that overrule the metadata, or None.

    Returns:
        tuple: One letter an axis, such as "TZYX", and as many units, None where the metadata name
            none.

    Raises:
        ImageError: The axes are not known or do not fit.
    """
    entries, rank = multiscale.get("axes"), len(shape)
    if entries is None:  # NGFF 0.1 and 0.2 have no other axes than TCZYX
        entries = list("TCZYX" if multiscale and rank == 5 else "YX" if rank == 2 else labels)
    entries = [
        {"name": entry} if isinstance(entry, str) else entry for entry in entries
    ]  # as in NGFF 0.3
    letters = given.upper() if given else "".join(_letter(entry) for entry in entries)
    if (
        len(letters) != rank
        or len(set(letters)) < rank
        or not {"Y", "X"} <= set(letters) <= set(ascii_uppercase)
    ):
        found = f"axes {letters}" if letters else "no axes"
        advice = f"say --axes, such as {'TCZYX'[-rank:]}" if 1 < rank < 6 else "give another array"
        raise ImageError(
            f"{path}: {found} for the shape {shape}, expected one letter an axis with Y and X; {advice}"
        )
    return letters, [entry.get("unit") for entry in entries] if len(entries) == rank else [
        None
    ] * rank


def read_metadata(folder, letters, units, multiscale, dataset, omero):
    """The metadata of an `ImageInfo`: physical sizes, channels and name.

    Args:
        folder: For messages.
        letters: As `read_axes` gives them.
        units: As `read_axes` gives them.
        multiscale: As `read_group` gives it.
        dataset: As `read_group` gives it.
        omero: As `read_group` gives it.

    Returns:
        dict: OME attributes, in the terms of `metadata`.

    Raises:
        ImageError: The scale does not fit the axes.
    """
    metadata = {}
    for axis, unit, step in zip(
        letters, units, _scale(folder, multiscale, dataset, len(letters)), strict=True
    ):
        symbol = _symbol(axis, unit)
        if (
            axis not in "TZYX"
            or not 0 < step < math.inf
            or (symbol is None and (axis == "T" or step == 1))
        ):
            continue
        # Steps without a unit say how pixels compare, not how large they are: in OME-XML's words a
        # frame of reference.
        metadata |= {_key(axis): float(step), f"{_key(axis)}Unit": symbol or "reference frame"}
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels):
        metadata["Channel"] = [_read_channel(channel) for channel in channels]
    return metadata | (
        {"Name": multiscale["name"]} if isinstance(multiscale.get("name"), str) else {}
    )


def group_axis(info, axis):
    """An axis of `info` in NGFF's terms.

    Args:
        info: The `ImageInfo`.
        axis: Its letter.

    Returns:
        tuple: A dictionary of name, type and unit; and the step between pixels, 1.0 where it is not
            known.
    """
    kind = {"type": _TYPES[axis]} if axis in _TYPES else {}
    entry = {"name": "c" if axis == "S" else axis.lower()} | kind
    if axis not in "TZYX":
        return entry, 1.0
    unit = "s" if axis == "T" else "\u00b5m"
    step = number(info.metadata.get(_key(axis)))
    if step is not None:
        unit = info.metadata.get(f"{_key(axis)}Unit", unit)
    else:  # the file was not of the OME family, or said less of X than of Y
        y, x = info.pixel_size_um or (None, None)
        step = {"T": info.frame_interval, "Z": info.z_spacing, "Y": y, "X": x}[axis]
    if not step or step < 0:
        return entry, 1.0
    name = (_TIMES if axis == "T" else _LENGTHS).get(_symbol(axis, unit))
    return entry | ({"unit": name} if name else {}), step


def group_files(info, axes, scale, ranges, name, zarr_format):
    """The metadata files of the folder of an image, whose one array is in the folder "0".

    Args:
        info: The `ImageInfo`.
        axes: The axes' dictionaries, in the array's order.
        scale: The steps between pixels, in the same order.
        ranges: The smallest and the largest value of each channel, for those without a display
            window.
        name: What the image is called if `info` does not say.
        zarr_format: 2 or 3.

    Returns:
        dict: Names of files and what they hold.
    """
    known = info.metadata if info.kind in ("ome", "omezarr") else {}
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    multiscale = {"name": known.get("Name", name), "axes": list(axes), "datasets": [dataset]}
    channels = known.get("Channel", ())
    omero = {}
    if channels and len(channels) == len(ranges):  # else other axes were given than the file's
        omero["omero"] = {
            "channels": [_group_channel(*pair) for pair in zip(channels, ranges, strict=True)]
        }
    if zarr_format == 2:
        attributes = {"multiscales": [{"version": "0.4"} | multiscale]} | omero
        files = {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
    else:
        ome = {"version": "0.5", "multiscales": [multiscale]} | omero
        files = {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}}
    return {name: json.dumps(content, indent=2) for name, content in files.items()}


def _json(path):
    if not os.path.isfile(path):
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: is no JSON ({error}); copy or export the image again") from error
    if not isinstance(content, dict):
        raise ImageError(
            f"{path}: is a JSON {type(content).__name__}, expected an object; copy or export the image again"
        )
    return content


def _attributes(folder):
    """What a group says in NGFF's terms: its attributes, in version 0.5 those under "ome"."""
    content = _json(folder / "zarr.json")
    attributes = (
        (_json(folder / ".zattrs") or {}) if content is None else content.get("attributes") or {}
    )
    return attributes.get("ome", attributes)


def _inside(folder, name):
    """A path that the metadata name, which must not lead out of the folder."""
    place = PureWindowsPath(name)  # knows the separators of all systems
    if place.anchor or ".." in place.parts:
        raise ImageError(
            f"{folder}: its metadata lead to {name!r}, expected a path inside the folder; export it again"
        )
    return folder / name


def _letter(entry):
    return {"time": "T", "channel": "C"}.get(entry.get("type")) or entry["name"][:1].upper()


def _scale(folder, multiscale, dataset, rank):
    """The step between pixels along each axis: the scales of the dataset and of the whole, multiplied."""
    result, key = [1.0] * rank, "coordinateTransformations"
    for transformation in (*(multiscale.get(key) or ()), *(dataset.get(key) or ())):
        scale = transformation.get("scale", [1.0] * rank)  # translations have none
        if (
            not isinstance(scale, list)
            or len(scale) != rank
            or not all(isinstance(step, int | float) for step in scale)
        ):
            raise ImageError(
                f"{folder}: its metadata give the scale {scale}, expected {rank} numbers; mend them or export it again"
            )
        result = [step * factor for step, factor in zip(result, scale, strict=True)]
    return result


def _key(axis):
    return "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"


def _symbol(axis, unit):
    """OME-XML's symbol of a unit, None of what is none; other than NGFF's own names are understood where there is no doubt."""
    if unit in ("um", "\u03bcm", "micron", "microns"):
        unit = "micrometer"
    symbols = _TIMES if axis == "T" else _LENGTHS
    return next((symbol for symbol, name in symbols.items() if unit in (symbol, name)), None)


def _read_channel(channel):
    label, color, window = (channel.get(key) for key in ("label", "color", "window"))
    result = {"Name": label} if isinstance(label, str) else {}
    if isinstance(color, str) and re.fullmatch("[0-9a-fA-F]{6}", color):
        value = int(color, 16) << 8 | 0xFF  # OME-XML: signed, red, green, blue and opacity
        result["Color"] = value - 2**32 if value >= 2**31 else value
    if isinstance(window, dict):
        limits = {key: number(window.get(key)) for key in ("min", "max", "start", "end")}
        result |= {} if None in limits.values() else {"Window": limits}
    return result


def _group_channel(channel, limits):
    color = number(channel.get("Color"))
    color = "FFFFFF" if color is None else f"{int(color) >> 8 & 0xFFFFFF:06X}"
    low, high = limits
    window = channel.get("Window") or {"min": low, "max": high, "start": low, "end": high}
    return ({"label": channel["Name"]} if "Name" in channel else {}) | {
        "color": color,
        "window": window,
    }
