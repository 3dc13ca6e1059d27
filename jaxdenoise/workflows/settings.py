"""The parts that requests share: a training, optics, and checks of values. Needs no JAX."""

import dataclasses
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from jaxdenoise.config import PRETRAINED_MOVIES, TrainConfig
from jaxdenoise.system.errors import RequestError

Number = int | float
_IMAGES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".zarr", ".czi", ".lif", ".nd2")

_CHANGES = (
    "init",
    "epochs",
    "batch_size",
    "background",
    "blind",
    "targets",
    "weights",
    "precision",
    "symmetries",
)  # that are fields of `TrainConfig`
# Those that are fields of `UNetConfig`.
_OF_NETWORK = ("filters", "stride", "neighbours", "guided", "planes")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise a RequestError unless the option has one of the values."""
    if value not in choices:
        expected = ", ".join(map(str, choices))
        raise RequestError(f"{name}={value!r} is unknown; expected one of {expected}")


def check_whole(name: str, value: Any, *, least: int = 1, below: int = 2**31) -> None:
    """Raise a RequestError unless the option is None or a whole number of the range."""
    if value is not None and not (type(value) is int and least <= value < below):
        raise RequestError(f"{name}={value!r}: expected a whole number from {least} to {below - 1}")


def check_positive(name: str, value: Any) -> None:
    """Raise a RequestError unless the option is None or a positive number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):
        raise RequestError(f"{name}={value!r}: expected a positive number")


def check_folder(output: Path) -> None:
    """Raise a RequestError if a folder for results has the name of an image."""
    if output.suffix.lower() in _IMAGES and not output.is_dir():
        raise RequestError(
            f"output={str(output)!r}: results go into a folder, such as output={output.stem!r}; "
            f"their names come from the inputs"
        )


def file_names(paths: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Return the paths as they were written; a single path counts as a list of one."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    return tuple(os.fspath(path) for path in paths)


def set_values(request: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(request, name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optics:
    """The microscope's optics, from which a Gaussian PSF follows.

    Attributes:
        na: numerical aperture of the objective.
        emission: wavelength of the emission in micrometres.
        excitation: wavelength of the excitation in micrometres, of a confocal microscope; None for
            wide-field.
        pinhole: diameter of the pinhole in Airy units, of a confocal microscope.
        pixel_size: size of a pixel in the sample in micrometres; None: what the file says.
        refractive_index: of the immersion: then the PSF mixes the planes of stacks along Z.
        z_step: distance between planes in micrometres; None: what the file says.
    """

    na: Number
    emission: Number | None = None
    excitation: Number | None = None
    pinhole: Number = 1.0
    pixel_size: Number | None = None
    refractive_index: Number | None = None
    z_step: Number | None = None

    def __post_init__(self) -> None:
        if self.emission is None:
            raise RequestError(
                "na=... needs emission=..., the wavelength of the emission in micrometres"
            )
        for field in dataclasses.fields(self):
            check_positive(field.name, getattr(self, field.name))
        if self.excitation is None and self.pinhole != 1:
            raise RequestError(
                "pinhole=... needs excitation=..., the wavelength that excites, in micrometres"
            )
        if self.refractive_index is None and self.z_step is not None:
            raise RequestError(
                "z_step=... needs refractive_index=..., of the immersion, such as 1.515 of oil"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and how. Settings that are None are those of the preset.

    Attributes:
        preset: "fast", "best" or "paper"; or a `TrainConfig`, all settings at once.
        psf: sigma of a Gaussian PSF in pixels; a file with a measured PSF; "none"; or "auto",
            chosen from the data. None: 1.0, or "auto" with the preset "best". For stacks along Z
            two numbers, sigma along z in planes, and in the plane in pixels; or three, (z, y, x):
            then the PSF mixes planes. So does a file that holds a volume, where the stack says the
            distance between its planes.
        optics: from which the PSF follows, instead of ``psf``.
        seed: of all randomness, 0 to 2^32 - 1.
        members: models of an ensemble, with the seeds ``seed``, ``seed`` + 1, ...
        init: weights to start from, "random" or "pretrained". Beside pretrained ones a model from
            random weights is trained.
        epochs: as in `TrainConfig`, as are all below.
        patch_size: in pixels.
        batch_size: patches a step.
        background: grey level of no light, or "auto".
        blind: pixels that a blind spot hides on each side along y and x, or "auto".
        targets: "auto", "own" or "repeats".
        weights: "best", "averaged" or "last".
        precision: "auto", "float32" or "bfloat16".
        symmetries: predictions that are averaged: 1, 2, 4 or 8.
        filters: channels of the network's first level.
        stride: the network sees every stride-th row and column as an image of its own, or "auto".
        neighbours: frames on each side that the network sees too. None: of a movie one, and the
            guide of each frame (`network.guides`), of a volume four planes, if the estimated error
            says that they help; else 0.
        guided: whether the network sees the guides; None as for ``neighbours``.
        planes: whether the neighbours are planes of a volume; None as for ``neighbours``.
    """

    preset: str | TrainConfig = "fast"
    psf: Number | str | Path | tuple[Number, ...] | None = None
    optics: Optics | None = None
    seed: int = 0
    members: int = 1
    init: str | None = None
    epochs: int | None = None
    patch_size: int | None = None
    batch_size: int | None = None
    background: Number | str | None = None
    blind: tuple[int, int] | str | None = None
    targets: str | None = None
    weights: str | None = None
    precision: str | None = None
    symmetries: int | None = None
    filters: int | None = None
    stride: int | str | None = None
    neighbours: int | None = None
    guided: bool | None = None
    planes: bool | None = None

    def __post_init__(self) -> None:
        if self.psf is not None and self.optics is not None:
            raise RequestError("psf=... and na=... both say what the PSF is: leave one of them out")
        check_whole("seed", self.seed, least=0, below=2**32)
        check_whole("members", self.members)
        self.config()

    def config(self) -> TrainConfig:
        """Return the settings of the training; ConfigError if they do not hold."""
        changes = self._given(_CHANGES)
        if isinstance(self.preset, str):
            config = TrainConfig.preset(self.preset, **changes)
        else:
            config = dataclasses.replace(self.preset, **changes)
        network = dataclasses.replace(config.network, **self._given(_OF_NETWORK))
        if self.guided:
            of_movies = PRETRAINED_MOVIES.space_to_depth
            network = dataclasses.replace(network, space_to_depth=of_movies)
        config = dataclasses.replace(config, network=network)
        return dataclasses.replace(config, **self._given(["patch_size"]))

    @property
    def psf_name(self) -> str | None:
        """Return ``psf`` or its default as text; None with optics."""
        if self.optics is not None:
            return None
        if self.psf is None:
            return "auto" if self.preset == "best" else "1.0"
        if isinstance(self.psf, tuple | list):
            return ",".join(map(str, self.psf))
        return str(self.psf)

    def changed(self) -> list[str]:
        """Return the names of the options that have not their defaults; "na" stands for optics."""
        names = [field.name for field in dataclasses.fields(self)]
        defaults = type(self)()
        return [
            "na" if name == "optics" else name
            for name in names
            if getattr(self, name) != getattr(defaults, name)
        ]

    def _given(self, names):
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


def flat(request: Any) -> dict[str, Any]:
    """Return all options of a request by name, those of its parts among them."""
    options: dict[str, Any] = {}
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if isinstance(value, Training | Optics):
            options |= flat(value)
        elif isinstance(value, TrainConfig):
            options[field.name] = value.to_dict()
        else:
            options[field.name] = value
    return options
