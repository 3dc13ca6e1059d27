"""What an image file says about its pixels: `ImageInfo`. Host side; JAX is never imported here."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from jaxdenoise.io.units import size_along

RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}  # by TIFF tag 296; 1 is "none"
_SCREEN = 72  # dots an inch


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
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)
    display: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, (y, x) in micrometres, or None where the file is silent."""
        y, x = (self._ome_length(f"PhysicalSize{axis}") for axis in "YX")
        if y is not None and x is not None:
            return y, x
        unit = self._unit_um()
        if unit is None:
            return None
        return unit / float(self.resolution[1]), unit / float(self.resolution[0])

    @property
    def z_spacing(self) -> float | None:
        """Distance between z planes in micrometres, or None where the file is silent."""
        if "PhysicalSizeZ" in self.metadata:
            return self._ome_length("PhysicalSizeZ")
        spacing, unit = number(self.metadata.get("spacing")), self._unit_um()
        return None if spacing is None or unit is None else abs(spacing) * unit  # ImageJ allows -z

    @property
    def frame_interval(self) -> float | None:
        """Time between frames in seconds, or None where the file is silent."""
        ome = "TimeIncrement" in self.metadata
        key, unit_key = ("TimeIncrement", "TimeIncrementUnit") if ome else ("finterval", "tunit")
        value = number(self.metadata.get(key))
        unit = size_along("T", self.metadata.get(unit_key, "s"))
        return None if not value or unit is None else value * unit

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the channels, empty where the file has none for each of them."""
        count = dict(zip(self.axes, self.shape, strict=True)).get("C", 1)
        names = tuple(str(own.get("Name") or "") for own in self.metadata.get("Channel", ()))
        return names if len(names) == count and all(names) else ()

    @property
    def objective_na(self) -> float | None:
        """Numerical aperture of the objective, or None where the file is silent."""
        value = number(self.metadata.get("LensNA"))
        return value if value is not None and value > 0 else None

    def wavelengths_um(self, channel: int | None) -> tuple[float | None, float | None]:
        """Return the wavelengths of excitation and emission in micrometres, None where silent.

        Args:
            channel: its number; None of a file without channels.
        """
        channels = self.metadata.get("Channel", ())
        own = channels[channel or 0] if (channel or 0) < len(channels) else {}
        excitation, emission = (_wavelength(own, name) for name in ("Excitation", "Emission"))
        return excitation, emission

    def describe(self) -> dict[str, Any]:
        """Return what the file says as a dict for JSON, None where it is silent."""
        return {
            "axes": self.axes,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "format": self.kind,
            "pixel_size_um": self.pixel_size_um,
            "z_spacing_um": self.z_spacing,
            "frame_interval_s": self.frame_interval,
            "channels": list(self.channel_names) or None,
            "objective_na": self.objective_na,
        }

    def _ome_length(self, key):
        value = number(self.metadata.get(key))
        unit = size_along(key[-1], self.metadata.get(f"{key}Unit", "um"))
        return None if value is None or unit is None else value * unit

    def _unit_um(self):
        if "unit" in self.metadata:  # ImageJ's own unit overrules the tag
            return size_along("X", self.metadata["unit"])
        if self.resolution_unit == 2 and self.resolution[0] == _SCREEN:
            return None  # a screen's default, not a measurement; ImageJ ignores it too
        return size_along("X", RESOLUTION_UNITS.get(self.resolution_unit))


def _wavelength(channel, name):
    """In micrometres; OME's unit is nanometres unless the file says another one."""
    value = number(channel.get(f"{name}Wavelength"))
    unit = size_along("X", channel.get(f"{name}WavelengthUnit", "nm"))
    return None if value is None or unit is None or value <= 0 else value * unit


def number(value: Any) -> float | None:
    """Convert to a finite float, or else return None."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
