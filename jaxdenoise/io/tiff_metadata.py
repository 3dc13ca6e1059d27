"""Translation of `ImageInfo` from and to tifffile's terms. Host side; needs no JAX."""

import json
import re
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from jaxdenoise.io.info import RESOLUTION_UNITS, ImageInfo

# What ImageJ keeps in a tag of its own; the rest of its metadata is lines of text in the image
# description.
_IMAGEJ_TAGS = ("Info", "Labels", "Ranges", "LUTs", "Plot", "ROI", "Overlays", "Properties")


def info_of_series(tif: tifffile.TiffFile, axes: str) -> ImageInfo:
    """Return the `ImageInfo` of the first series of an open file, with these axes."""
    series = tif.series[0]
    kind = series.kind if series.kind in ("imagej", "ome") else "plain"
    read = {"imagej": _imagej_metadata, "ome": _ome_metadata, "plain": _plain_metadata}[kind]
    resolution, unit = _resolution(series.keyframe)
    dtype, display = series.dtype.newbyteorder("="), _display(series.keyframe)
    return ImageInfo(axes, tuple(series.shape), dtype, kind, resolution, unit, read(tif), display)


def _resolution(page):
    """The pair (x, y) of pixels per unit, and the unit; 1 and "none" for senseless tags."""
    values = [page.tags.valueof(code) for code in (282, 283)]
    if not all(isinstance(value, tuple) and len(value) == 2 and min(value) > 0 for value in values):
        return (Fraction(1), Fraction(1)), 1
    unit = page.tags.valueof(296, default=2)
    known = unit in RESOLUTION_UNITS
    return tuple(Fraction(*value) for value in values), int(unit) if known else 1


def _display(page):
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        return {"photometric": "miniswhite"}
    if (
        page.photometric == tifffile.PHOTOMETRIC.PALETTE
        and page.dtype == np.uint8
        and page.colormap is not None
    ):
        return {"photometric": "palette", "colormap": page.colormap}
    return {}


def _imagej_metadata(tif):
    metadata = dict(tif.imagej_metadata)
    for key, value in metadata.items():
        # In its description ImageJ escapes what is not ASCII.
        if isinstance(value, str) and key not in _IMAGEJ_TAGS:
            metadata[key] = re.sub(
                r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value
            )
    return metadata


def _ome_metadata(tif):
    root = ElementTree.fromstring(tif.ome_metadata)
    image = next(root.iterfind("{*}Image"))
    pixels = next(image.iterfind("{*}Pixels"))
    kept = ("PhysicalSize", "TimeIncrement", "SignificantBits")
    metadata: dict[str, Any] = {
        key: value for key, value in pixels.attrib.items() if key.startswith(kept)
    }
    metadata["Channel"] = [dict(channel.attrib) for channel in pixels.findall("{*}Channel")]
    about = {"Name": image.get("Name"), "Description": image.findtext("{*}Description")}
    about |= {"LensNA": _lens_na(root, image)}
    return metadata | {key: value for key, value in about.items() if value}


def _lens_na(root, image):
    """The aperture of the image's objective, or of the only one there is."""
    objectives = {one.get("ID"): one for one in root.iterfind("{*}Instrument/{*}Objective")}
    settings = image.find("{*}ObjectiveSettings")
    used = objectives.get(settings.get("ID")) if settings is not None else None
    if used is None and len(objectives) == 1:
        (used,) = objectives.values()
    return None if used is None else used.get("LensNA")


def _plain_metadata(tif):
    metadata: dict[str, Any] = (tif.shaped_metadata or ({},))[0]  # the JSON of tifffile's own files
    return {
        key: value for key, value in metadata.items() if key not in ("shape", "axes", "truncated")
    }


def tiff_options(info: ImageInfo, dtype: np.dtype) -> dict[str, Any]:
    """Return the arguments of `tifffile.imwrite` that make a file like the original.

    Args:
        info: Of the original.
        dtype: Of the new file.
    """
    kind = _output_kind(info, dtype)
    translate = {"imagej": _to_imagej, "ome": _to_ome, "plain": _to_plain}[kind]
    options: dict[str, Any] = {
        "imagej": kind == "imagej",
        "ome": kind == "ome",
        "metadata": translate(info, dtype) | {"axes": info.axes},
        "photometric": "minisblack",
        "resolution": tuple((value.numerator, value.denominator) for value in info.resolution),
        "resolutionunit": info.resolution_unit,
    }
    samples = info.shape[-1] if info.axes[:-1].endswith("YX") else 1
    if samples > 1:
        rgb = samples in (3, 4) and dtype in (np.uint8, np.uint16)
        return options | {"photometric": "rgb" if rgb else "minisblack", "planarconfig": "contig"}
    return options | (info.display if dtype == info.dtype else {})


def _output_kind(info, dtype):
    if info.kind == "imagej" and dtype.name in ("uint8", "uint16", "int16", "float32"):
        ordered = info.axes == "".join(axis for axis in "TZCYX" if axis in info.axes)
        # In an ImageJ file tifffile drops a width of 1.
        return "imagej" if ordered and info.shape[-1] > 1 else "plain"
    if info.kind in ("ome", "omezarr") and dtype.name not in ("int64", "uint64", "float16"):
        return "ome" if info.axes.endswith("YX") and set(info.axes) <= set("TZCYX") else "plain"
    return "plain"


def _to_imagej(info, dtype):
    metadata = {}
    for key, value in info.metadata.items():
        if key in _IMAGEJ_TAGS:
            metadata[key] = value
        elif not key.isascii():  # of a damaged file: ImageJ's own are
            continue
        elif isinstance(value, str):
            metadata[key] = "".join(c if " " <= c <= "~" else f"\\u{ord(c):04X}" for c in value)
        elif isinstance(value, int | float):
            metadata[key] = value
    return metadata


def _to_ome(info, dtype):
    metadata = {name: value for name, value in info.metadata.items() if name != "LensNA"}
    channels = dict(zip(info.axes, info.shape, strict=True)).get("C", 1)
    if len(metadata.get("Channel", ())) != channels:
        metadata.pop("Channel", None)  # other axes were given than the file's
    if dtype != info.dtype:
        metadata.pop("SignificantBits", None)
    return metadata


def _to_plain(info, dtype):
    return {
        key: value
        for key, value in info.metadata.items()
        if _is_json(value) and key != "zarr_format"
    }


def _is_json(value):
    try:
        return bool(json.dumps(value))
    except TypeError:
        return False
