"""What was decided for a training: the request's values, with a value in place of each "auto".

`config.TrainConfig` is the request. `settle` makes `Settings` of it, which compiled functions take
as a static argument.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.network import convolution
from jaxdenoise.system import meshes


@dataclasses.dataclass(frozen=True)
class NetworkShape:
    """Shape of a network; as `config.UNetConfig`, but ``stride`` is a number."""

    depth: int = 3
    filters: int = 64
    skip: str = "add"
    top_skip: bool = True
    pooling: str = "max"
    stride: int = 1
    space_to_depth: int = 1
    neighbours: int = 0
    guided: bool = False
    planes: bool = False

    @property
    def beside(self) -> int:
        """How many images the network sees beside each frame: its neighbours and its guide."""
        return 2 * self.neighbours + self.guided

    @property
    def multiple(self) -> int:
        """Height and width of an input must be multiples of this many pixels."""
        return 2 ** (self.depth - 1) * self._step

    @property
    def _step(self) -> int:
        """Pixels of the image from one pixel of the first level to the next."""
        return self.stride * self.space_to_depth

    @property
    def radius(self) -> int:
        """Radius of the receptive field in pixels: no pixel further away changes the output.

        It holds for each axis. Each level adds its convolutions (two on the way down, two up, of
        radius 1 at its step; the last level has one pair), and the grids of the pooled levels
        shift the field by up to ``multiple`` - 1 pixels. A blur before a level adds one pixel at
        its step.
        """
        levels = sum(2**level for level in range(self.depth - 1))
        blurs = levels if self.pooling == "blur" else 0
        convolutions = 4 * levels + 2 * 2 ** (self.depth - 1)
        return (convolutions + blurs) * self._step + self.multiple - 1

    @property
    def rim(self) -> int:
        """Pixels on each side that a result without any zeros from outside lacks, at most `radius`.

        Each level has two convolutions on the way down and, but for the last, two up; a level
        begins on the grid of the pooled pixels. 0 for pooling with a blur, which always pads.
        """
        if self.pooling != "max":
            return 0
        place = 0
        for _ in range(self.depth - 1):
            place = -(-(place + 2) // 2)
        place += 2
        for _ in range(self.depth - 1):
            place = 2 * place + 2
        return place * self._step


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that a training runs with; as `config.TrainConfig`, but nothing is "auto".

    Images that differ in their grey levels only are trained with the same settings, so that one
    compiled program serves them: the background is in `denoiser.Scale`.

    Attributes:
        network: `NetworkShape`.
        blind: pixels along y and x that a blind spot hides on each side.
        targets: "own" or "repeats".
        validation: "frames" or "pixels".
        precision: "float32" or "bfloat16".
        axial: "trained" or "fitted"; it counts for a PSF that mixes planes.
        platform: of the devices that compute, as `jax.Device` names it: "cpu", "gpu" or "tpu".
        precision_by_device: whether the request left ``precision`` to the device. Then it is chosen
            anew for each platform.
    """

    network: NetworkShape
    init: str
    output_scale: int | float
    patch_size: int
    batch_size: int
    epochs: int
    steps_per_epoch: int
    learning_rate: int | float
    schedule: str
    patience: int
    density: int | float
    radius: int
    replacement: str
    blind: tuple[int, int]
    targets: str
    positivity: int | float
    positivity_margin: int | float
    variation: int | float
    averaging: int | float
    validation: str
    validation_fraction: int | float
    validation_patches: int
    validation_redraw: bool
    weights: str
    precision: str
    symmetries: int
    axial: str
    platform: str
    precision_by_device: bool

    @property
    def fast_in_loops(self) -> bool:
        """Whether the network keeps its speed inside ``jax.lax.scan`` and other loops."""
        return convolution.fast_in_loops(self.precision, self.platform)

    def for_platform(self, platform: str) -> "Settings":
        """Return the settings for devices of another platform."""
        asked = "auto" if self.precision_by_device else self.precision
        precision = convolution.resolve(asked, platform)
        return dataclasses.replace(self, platform=platform, precision=precision)

    def request(self, *, background: float) -> TrainConfig:
        """Return the request of which `settle` makes these settings, such as for JSON.

        Args:
            background: grey level without light; it belongs to the images, so `Scale` holds it.
        """
        values = {name: getattr(self, name) for name in _names(self)}
        del values["platform"]
        if values.pop("precision_by_device"):
            values["precision"] = "auto"
        network = UNetConfig(**dataclasses.asdict(self.network))
        return TrainConfig(**values | {"network": network, "background": background})


def shape_of(network: UNetConfig) -> NetworkShape:
    """Return the shape of a network before anything was measured: a stride of "auto" is 1."""
    values = dataclasses.asdict(network)
    return NetworkShape(**values | ({"stride": 1} if values["stride"] == "auto" else {}))


def settle(
    config: TrainConfig, *, devices: Sequence[jax.Device] | None = None, **decisions: Any
) -> Settings:
    """Return the settings of a request.

    Args:
        config: the request.
        devices: that compute; default: the default device.
        **decisions: fields that take the place of the request's. For a field that is "auto" and
            not given, the harmless value stands: a stride of 1, no hidden neighbours, targets of
            the frames' own, held-out pixels, a PSF that is trained with.
    """
    values = {name: getattr(config, name) for name in _names(config)}
    del values["background"]
    harmless = {"blind": (0, 0), "targets": "own", "validation": "pixels", "axial": "trained"}
    values |= {name: value for name, value in harmless.items() if values[name] == "auto"}
    platform = meshes.platform_of(devices)
    values |= {
        "network": shape_of(config.network),
        "platform": platform,
        "precision": convolution.resolve(config.precision, platform),
        "precision_by_device": config.precision == "auto",
    }
    return Settings(**values | decisions)


def _names(config):
    return [field.name for field in dataclasses.fields(config)]
