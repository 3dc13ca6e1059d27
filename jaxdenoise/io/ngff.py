"""The metadata of OME-Zarr images (OME-NGFF 0.1 to 0.5), from and to `ImageInfo`.

Which array is the image, and its axes, units, steps and channels; `ImageInfo` keeps them in the
words of OME-XML. JAX is never imported here.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from string import ascii_uppercase
from typing import Any, NamedTuple

from jaxdenoise.io.info import ImageInfo, number
from jaxdenoise.io.units import unit_along
from jaxdenoise.system.errors import ImageError

MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")  # a folder with one of these files is Zarr's
_TYPES = {"T": "time", "C": "channel", "S": "channel", "Z": "space", "Y": "space", "X": "space"}


class Group(NamedTuple):
    """What the metadata of an image's folder say.

    Attributes:
        array: The folder of the array of full resolution.
        multiscale: The multiscale image; empty for a bare array.
        dataset: Its first dataset; empty for a bare array.
        omero: The "omero" section, if there is one.
    """

    array: Path
    multiscale: dict[str, Any]
    dataset: dict[str, Any]
    omero: Any


def is_array(folder: Path) -> bool:
    """Return whether a folder is a Zarr array."""
    return (
        os.path.isfile(folder / ".zarray")
        or (_json(folder / "zarr.json") or {}).get("node_type") == "array"
    )


def first_image(path: Path) -> tuple[Path, int]:
    """Find the image in a folder that may hold several.

    Args:
        path: The folder of an image, of a well, of several series (bioformats2raw's layout), or of
            a bare array.

    Returns:
        The folder of the first image, and how many images there are.

    Raises:
        ImageError: The folder is a plate, or none of these.
    """
    attributes = _attributes(path)
    if "multiscales" in attributes:
        return path, len(attributes["multiscales"])
    if "plate" in attributes:
        wells = attributes["plate"]["wells"]
        image, _ = first_image(_inside(path, wells[0]["path"]))
        raise ImageError(
            f"{path}: is a plate of {len(wells)} wells, expected one image; "
            f"give one of them, such as {image}"
        )
    if "well" in attributes:
        names = [image["path"] for image in attributes["well"]["images"]]
    elif "bioformats2raw.layout" in attributes:
        numbered = sorted((name for name in os.listdir(path) if name.isdecimal()), key=int)
        names = _attributes(path / "OME").get("series") or numbered
    elif is_array(path):
        return path, 1
    else:
        raise ImageError(
            f"{path}: holds no OME-Zarr image (no multiscales in its metadata); "
            "give the folder of an image"
        )
    return _inside(path, names[0]), len(names)


def read_group(folder: Path) -> Group:
    """Read the metadata of an image's folder, as `first_image` gives it."""
    attributes = _attributes(folder)
    if "multiscales" not in attributes:
        return Group(folder, {}, {}, None)
    multiscale = attributes["multiscales"][0]
    dataset = multiscale["datasets"][0]
    return Group(_inside(folder, dataset["path"]), multiscale, dataset, attributes.get("omero"))


def read_axes(
    path: Path,
    multiscale: Mapping[str, Any],
    shape: tuple[int, ...],
    labels: Sequence[str],
    given: str | None,
) -> tuple[str, list[Any]]:
    """Return the axes' letters and units.

    Args:
        path: For messages.
        multiscale: Of the `Group`.
        shape: The array's shape.
        labels: The names that the array itself gives its axes, empty strings where it does not.
        given: Letters that overrule the metadata, or None.

    Returns:
        One letter an axis, such as "TZYX", and as many units, None where the metadata name none.

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
        advice = f'name them, such as axes="{"TCZYX"[-rank:]}"'
        raise ImageError(
            f"{path}: {found} for the shape {shape}, expected one letter an axis with Y and X; "
            + (advice if 1 < rank < 6 else "give another array")
        )
    known = len(entries) == rank
    return letters, [entry.get("unit") for entry in entries] if known else [None] * rank


def read_metadata(folder: Path, group: Group, letters: str, units: Sequence[Any]) -> dict[str, Any]:
    """Return the metadata of an `ImageInfo`: physical sizes, channels and name, as OME attributes.

    Args:
        folder: For messages.
        group: As `read_group` gives it.
        letters: As `read_axes` gives them.
        units: As `read_axes` gives them.

    Raises:
        ImageError: The scale does not fit the axes.
    """
    multiscale, omero = group.multiscale, group.omero
    metadata: dict[str, Any] = {}
    steps = _scale(folder, multiscale, group.dataset, len(letters))
    for axis, word, step in zip(letters, units, steps, strict=True):
        unit = unit_along(axis, word)
        if (
            axis not in "TZYX"
            or not 0 < step < math.inf
            or (unit is None and (axis == "T" or step == 1))
        ):
            continue
        # Steps without a unit say how pixels compare, not how large they are: in OME-XML's words a
        # frame of reference.
        symbol = "reference frame" if unit is None else unit.symbol
        metadata |= {_key(axis): float(step), f"{_key(axis)}Unit": symbol}
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels):
        metadata["Channel"] = [_read_channel(channel) for channel in channels]
    return metadata | (
        {"Name": multiscale["name"]} if isinstance(multiscale.get("name"), str) else {}
    )


def group_axis(info: ImageInfo, axis: str) -> tuple[dict[str, str], float]:
    """Return an axis, given by its letter, in NGFF's terms.

    Returns:
        A dictionary of name, type and unit; and the step between pixels, 1.0 where it is not known.
    """
    kind = {"type": _TYPES[axis]} if axis in _TYPES else {}
    entry = {"name": "c" if axis == "S" else axis.lower()} | kind
    if axis not in "TZYX":
        return entry, 1.0
    word = "s" if axis == "T" else "\u00b5m"
    step = number(info.metadata.get(_key(axis)))
    if step is not None:
        word = info.metadata.get(f"{_key(axis)}Unit", word)
    else:  # the file was not of the OME family, or said less of X than of Y
        y, x = info.pixel_size_um or (None, None)
        step = {"T": info.frame_interval, "Z": info.z_spacing, "Y": y, "X": x}[axis]
    if not step or step < 0:
        return entry, 1.0
    unit = unit_along(axis, word)
    return entry | ({} if unit is None else {"unit": unit.name}), step


def group_files(
    info: ImageInfo,
    axes: Sequence[dict[str, str]],
    scale: Sequence[float],
    ranges: Sequence[tuple[float, float]],
    *,
    name: str,
    zarr_format: int,
) -> dict[str, str]:
    """Return the metadata files, by name, of the folder of an image, whose array is in "0".

    Args:
        info: What describes the image.
        axes: As `group_axis` gives them, in the array's order.
        scale: The steps between pixels, in the same order.
        ranges: The smallest and the largest value of each channel, for those without a display
            window.
        name: What the image is called if `info` does not say.
        zarr_format: 2 or 3.
    """
    known = info.metadata if info.kind in ("ome", "omezarr") else {}
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    multiscale = {"name": known.get("Name", name), "axes": list(axes), "datasets": [dataset]}
    channels = known.get("Channel", ())
    omero: dict[str, Any] = {}
    if channels and len(channels) == len(ranges):  # else other axes were given than the file's
        omero["omero"] = {
            "channels": [_group_channel(*pair) for pair in zip(channels, ranges, strict=True)]
        }
    if zarr_format == 2:
        attributes = {"multiscales": [{"version": "0.4"} | multiscale]} | omero
        files: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": attributes}
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
            f"{path}: is a JSON {type(content).__name__}, expected an object; "
            "copy or export the image again"
        )
    return content


def _attributes(folder):
    """The attributes of a group, in version 0.5 those under "ome"."""
    content = _json(folder / "zarr.json")
    attributes = (
        (_json(folder / ".zattrs") or {}) if content is None else content.get("attributes") or {}
    )
    return attributes.get("ome", attributes)


def _inside(folder, name):
    """A path that the metadata name. It must not lead out of the folder."""
    place = PureWindowsPath(name)  # knows the separators of all systems
    if place.anchor or ".." in place.parts:
        raise ImageError(
            f"{folder}: its metadata lead to {name!r}, expected a path inside the folder; "
            "export it again"
        )
    return folder / name


def _letter(entry):
    return {"time": "T", "channel": "C"}.get(entry.get("type")) or entry["name"][:1].upper()


def _scale(folder, multiscale, dataset, rank):
    """The step between pixels along each axis, in the dataset's and in the whole image's scale."""
    result, key = [1.0] * rank, "coordinateTransformations"
    for transformation in (*(multiscale.get(key) or ()), *(dataset.get(key) or ())):
        scale = transformation.get("scale", [1.0] * rank)  # translations have none
        if (
            not isinstance(scale, list)
            or len(scale) != rank
            or not all(isinstance(step, int | float) for step in scale)
        ):
            raise ImageError(
                f"{folder}: its metadata give the scale {scale}, expected {rank} numbers; "
                "mend them or export it again"
            )
        result = [step * factor for step, factor in zip(result, scale, strict=True)]
    return result


def _key(axis):
    return "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"


def _read_channel(channel):
    label, color, window = (channel.get(key) for key in ("label", "color", "window"))
    result: dict[str, Any] = {"Name": label} if isinstance(label, str) else {}
    if isinstance(color, str) and re.fullmatch("[0-9a-fA-F]{6}", color):
        value = int(color, 16) << 8 | 0xFF  # OME-XML: signed, red, green, blue and opacity
        result["Color"] = value - 2**32 if value >= 2**31 else value
    if isinstance(window, dict):
        limits = {key: number(window.get(key)) for key in ("min", "max", "start", "end")}
        result |= {} if None in limits.values() else {"Window": limits}
    return result


def _group_channel(channel, limits):
    value = number(channel.get("Color"))
    color = "FFFFFF" if value is None else f"{int(value) >> 8 & 0xFFFFFF:06X}"
    low, high = limits
    window = channel.get("Window") or {"min": low, "max": high, "start": low, "end": high}
    label = {"label": channel["Name"]} if "Name" in channel else {}
    return {**label, "color": color, "window": window}
