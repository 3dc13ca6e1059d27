"""Versions and devices, and what files hold. Host side."""

import importlib.metadata
import sys
from dataclasses import dataclass
from typing import Any

import jax

from jaxdenoise import __version__
from jaxdenoise.io import images
from jaxdenoise.workflows.other_requests import InfoRequest
from jaxdenoise.workflows.reporter import SILENT, Reporter

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "tifffile",
    "imagecodecs",
)


@dataclass(frozen=True)
class InfoResult:
    """What there is.

    Attributes:
        versions: of this package, Python and the packages that matter; and the devices.
        files: what each file says of its pixels, None where it says nothing.
    """

    versions: dict[str, Any]
    files: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.versions, "files": self.files}


def versions() -> dict[str, Any]:
    """Return the versions of Python and the packages, and the devices, by name."""
    return {
        "jaxdenoise": __version__,
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def info(request: InfoRequest, reporter: Reporter = SILENT) -> InfoResult:
    """Return versions and devices, and what files hold.

    Args:
        request: what is asked for.
        reporter: for calls like those of the other workflows; it hears nothing.

    Raises:
        ImageError: a file cannot be read.
    """
    found = versions()
    files = [
        {"file": str(path), **images.open_image(path, axes=request.axes).info.describe()}
        for path in request.inputs
    ]
    return InfoResult(found, files)
