"""What an image file says about its pixels, and how to say it again: `ImageInfo`, and its translation from and to tifffile's terms.

NumPy on the host; JAX is never imported here.
"""

import json
import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import tifffile

from jaxdenoise.system.errors import ImageError

_MICROMETRES = {
    "nm": 1e-3,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
}
_MICROMETRES |= {
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
    "pm": 1e-6,
    "\u00c5": 1e-4,
}
_SECONDS = {
    "ms": 1e-3,
    "msec": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "min": 60.0,
    "h": 3600.0,
}
_SECONDS |= {"ns": 1e-9, "\u00b5s": 1e-6, "d": 86400.0}
_RESOLUTION_UNITS = {
    2: "inch",
    3: "cm",
    4: "mm",
    5: "um",
}  # the values of TIFF tag 296; 1 is "none"
# What ImageJ keeps in a tag of its own; the rest of its metadata is lines of text in the image
# description.
_IMAGEJ_TAGS = ("Info", "Labels", "Ranges", "LUTs", "Plot", "ROI", "Overlays", "Properties")


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about its pixels, so that a result can be written back like the original.

    Attributes:
        axes: One letter an axis, in the file's order, such as "TZYX"; Y and X are among them.
        shape: The file's shape, in the order of `axes`.
        dtype: The file's dtype, in native byte order.
        kind: "imagej", "ome", "omezarr" or "plain".
        resolution: The TIFF tags XResolution and YResolution: pixels per unit, (x, y).
        resolution_unit: The TIFF tag ResolutionUnit: 1 none, 2 inch, 3 cm.
        metadata: By kind: ImageJ's dictionary, the OME attributes that are kept (of an OME-Zarr
            too), or tifffile's JSON.
        display: What `tifffile.imwrite` needs to keep a palette or an inverted grey scale; empty
            for plain grey.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str = "plain"
    resolution: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1))
    resolution_unit: int = 1
    metadata: dict = field(default_factory=dict, compare=False)
    display: dict = field(default_factory=dict, compare=False)

    @property
    def pixel_size_um(self):
        """Height and width of a pixel, (y, x) in micrometres, or None where the file does not say."""
        size = tuple(self._ome_length(f"PhysicalSize{axis}") for axis in "YX")
        if None not in size:
            return size
        unit = self._unit_um()
        return (
            None
            if unit is None
            else (unit / float(self.resolution[1]), unit / float(self.resolution[0]))
        )

    @property
    def z_spacing(self):
        """Distance between z planes in micrometres, or None where the file does not say."""
        if "PhysicalSizeZ" in self.metadata:
            return self._ome_length("PhysicalSizeZ")
        spacing, unit = number(self.metadata.get("spacing")), self._unit_um()
        return None if spacing is None or unit is None else abs(spacing) * unit  # ImageJ allows -z

    @property
    def frame_interval(self):
        """Time between frames in seconds, or None where the file does not say."""
        if "TimeIncrement" in self.metadata:
            value, unit = (
                self.metadata["TimeIncrement"],
                self.metadata.get("TimeIncrementUnit", "s"),
            )
        else:
            value, unit = self.metadata.get("finterval"), self.metadata.get("tunit", "s")
        value, unit = number(value), _SECONDS.get(unit)
        return None if not value or unit is None else value * unit

    def describe(self):
        """What the file says, as a dict for JSON; None where it says nothing."""
        return {
            "axes": self.axes,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "format": self.kind,
            "pixel_size_um": self.pixel_size_um,
            "z_spacing_um": self.z_spacing,
            "frame_interval_s": self.frame_interval,
        }

    def _ome_length(self, key):
        value = number(self.metadata.get(key))
        unit = _MICROMETRES.get(self.metadata.get(f"{key}Unit", "um"))
        return None if value is None or unit is None else value * unit

    def _unit_um(self):
        if "unit" in self.metadata:  # ImageJ's own unit overrules the tag
            return _MICROMETRES.get(self.metadata["unit"])
        if self.resolution_unit == 2 and self.resolution[0] == 72:
            # 72 dots an inch is a screen's default, not a measurement; ImageJ ignores it too
            return None
        return _MICROMETRES.get(_RESOLUTION_UNITS.get(self.resolution_unit))


def checked_axes(path, found, shape, given=None):
    """The axes of an image: those that a user gave, or those that were found in the file, if they make sense; else an ImageError."""
    if math.prod(shape) == 0:
        raise ImageError(f"{path}: the image is empty, shape {tuple(shape)}; export it again")
    if given is None and "S" in found:
        hint = (found if "C" in found else found.replace("S", "C")).translate(
            str.maketrans("IQ", "TT")
        )
        advice = (
            f"say --axes {hint} to treat each channel as an image of its own, or save it as grey"
        )
        raise ImageError(
            f"{path}: is RGB (axes {found}, shape {tuple(shape)}), expected grey levels; {advice}"
        )
    axes = given or found
    if len(axes) != len(shape):
        raise ImageError(
            f"{path}: axes {axes} do not fit the file's shape {tuple(shape)} ({found}); give one letter each"
        )
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise ImageError(
            f"{path}: axes {axes}, shape {tuple(shape)}, lack Y or X; say --axes with both, such as YX"
        )
    return axes


def info_of_series(tif, axes):
    """`ImageInfo` of the first series of an open `tifffile.TiffFile`, its axes overruled by ``axes``."""
    series = tif.series[0]
    kind = series.kind if series.kind in ("imagej", "ome") else "plain"
    metadata = {"imagej": _imagej_metadata, "ome": _ome_metadata, "plain": _plain_metadata}[kind](
        tif
    )
    resolution, unit = _resolution(series.keyframe)
    dtype, display = series.dtype.newbyteorder("="), _display(series.keyframe)
    return ImageInfo(axes, tuple(series.shape), dtype, kind, resolution, unit, metadata, display)


def _resolution(page):
    """The pair (x, y) of pixels per unit, and the unit; 1 and "none" where the tags are missing or senseless."""
    values = [page.tags.valueof(code) for code in (282, 283)]
    if not all(isinstance(value, tuple) and len(value) == 2 and min(value) > 0 for value in values):
        return (Fraction(1), Fraction(1)), 1
    unit = page.tags.valueof(296, default=2)
    return tuple(Fraction(*value) for value in values), int(
        unit
    ) if unit in _RESOLUTION_UNITS else 1


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
        if (
            isinstance(value, str) and key not in _IMAGEJ_TAGS
        ):  # ImageJ escapes what is not ASCII in its description
            metadata[key] = re.sub(
                r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value
            )
    return metadata


def _ome_metadata(tif):
    image = ElementTree.fromstring(tif.ome_metadata).find("{*}Image")
    pixels = image.find("{*}Pixels")
    kept = ("PhysicalSize", "TimeIncrement", "SignificantBits")
    metadata = {key: value for key, value in pixels.attrib.items() if key.startswith(kept)}
    metadata["Channel"] = [dict(channel.attrib) for channel in pixels.findall("{*}Channel")]
    about = {"Name": image.get("Name"), "Description": image.findtext("{*}Description")}
    return metadata | {key: value for key, value in about.items() if value}


def _plain_metadata(tif):
    metadata = (tif.shaped_metadata or ({},))[0]  # tifffile's JSON, if it wrote the file
    return {
        key: value for key, value in metadata.items() if key not in ("shape", "axes", "truncated")
    }


def tiff_options(info, dtype):
    """The arguments of `tifffile.imwrite` that make the file like the original."""
    kind = _output_kind(info, dtype)
    metadata = {"imagej": _to_imagej, "ome": _to_ome, "plain": _to_plain}[kind](info, dtype) | {
        "axes": info.axes
    }
    resolution = tuple((value.numerator, value.denominator) for value in info.resolution)
    options = {
        "imagej": kind == "imagej",
        "ome": kind == "ome",
        "metadata": metadata,
        "photometric": "minisblack",
    }
    options |= {"resolution": resolution, "resolutionunit": info.resolution_unit}
    samples = info.shape[-1] if info.axes[:-1].endswith("YX") else 1
    if samples > 1:
        rgb = samples in (3, 4) and dtype in (np.uint8, np.uint16)
        return options | {"photometric": "rgb" if rgb else "minisblack", "planarconfig": "contig"}
    return options | (info.display if dtype == info.dtype else {})


def _output_kind(info, dtype):
    if info.kind == "imagej" and dtype.name in ("uint8", "uint16", "int16", "float32"):
        ordered = info.axes == "".join(axis for axis in "TZCYX" if axis in info.axes)
        return (
            "imagej" if ordered and info.shape[-1] > 1 else "plain"
        )  # tifffile drops a width of 1 here
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
    metadata = dict(info.metadata)
    if len(metadata.get("Channel", ())) != dict(zip(info.axes, info.shape, strict=True)).get(
        "C", 1
    ):
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


def number(value):
    """A finite float, or None of what is none."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
