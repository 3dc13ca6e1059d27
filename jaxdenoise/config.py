"""What is asked of a training, as frozen dataclasses that go to JSON and come back strictly.

Needs no JAX. What is decided from a request and the images is `network.settings.Settings`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jaxdenoise.system.errors import ConfigError

_MOST_CHANNELS = 2**13  # of the last level, and
_MOST_PATCHES = 2**14  # at a time: far beyond any use, and the memory of any machine
_WIDEST_BLIND = 16  # pixels that a blind spot hides on each side
_LARGEST_STRIDE = 4  # pixels
_MOST_NEIGHBOURS = 8  # frames on each side
_SEVERAL_TYPES = {"background": (str, int, float), "blind": (str, tuple), "stride": (str, int)}

PRESETS = ("fast", "best", "paper")
REPLACEMENTS = ("random", "median", "mean")
TARGETS = ("auto", "own", "repeats")
INITS = ("random", "pretrained")
PRECISIONS = ("auto", "float32", "bfloat16")

# Fields, whether a value is allowed, and the words for what is.
_Rule = tuple[tuple[str, ...], Callable[[Any], bool], str]


def _one_of(*values: str | int) -> tuple[Callable[[Any], bool], str]:
    """Return the test and the words of a rule that allows some values only."""
    *others, last = map(repr, values)
    return lambda value: value in values, f"{', '.join(others)} or {last}"


def _is_blind(value: str | tuple[int, int]) -> bool:
    return value == "auto" or (
        len(value) == 2 and all(type(n) is int and 0 <= n <= _WIDEST_BLIND for n in value)
    )


def _is_grey_level(value: str | int | float) -> bool:
    """Whether float32 holds a number, or the word is "auto"."""
    return value == "auto" if isinstance(value, str) else abs(value) < 2.0**127


_NETWORK_RULES: tuple[_Rule, ...] = (
    (("depth",), lambda value: 1 <= value <= 8, "from 1 to 8"),
    (("skip",), *_one_of("add", "concat")),
    (("pooling",), *_one_of("max", "blur")),
    (
        ("stride",),
        lambda value: value == "auto" or value in range(1, _LARGEST_STRIDE + 1),
        f"'auto' or a whole number from 1 to {_LARGEST_STRIDE}",
    ),
    (("space_to_depth",), *_one_of(1, 2)),
    (("neighbours",), lambda n: 0 <= n <= _MOST_NEIGHBOURS, f"from 0 to {_MOST_NEIGHBOURS}"),
)
_TRAINING_RULES: tuple[_Rule, ...] = (
    (
        ("batch_size", "epochs", "steps_per_epoch", "patience", "radius", "validation_patches"),
        lambda value: value >= 1,
        "at least 1",
    ),
    (
        ("batch_size", "validation_patches"),
        lambda value: value <= _MOST_PATCHES,
        f"at most {_MOST_PATCHES}",
    ),
    (("blind",), _is_blind, f"'auto' or two whole numbers from 0 to {_WIDEST_BLIND}"),
    (("replacement",), *_one_of(*REPLACEMENTS)),
    (("targets",), *_one_of(*TARGETS)),
    (("output_scale", "learning_rate"), lambda value: 0 < value < math.inf, "positive"),
    (("positivity", "positivity_margin", "variation"), lambda n: 0 <= n < math.inf, "at least 0"),
    (("density",), lambda value: 0 < value <= 0.25, "above 0, at most 0.25"),
    (("averaging",), lambda value: 0 <= value < 1, "at least 0, below 1"),
    (("validation_fraction",), lambda value: 0 < value < 1, "between 0 and 1"),
    (("init",), *_one_of(*INITS)),
    (("axial",), *_one_of("auto", "trained", "fitted")),
    (("schedule",), *_one_of("cosine", "plateau")),
    (("validation",), *_one_of("auto", "frames", "pixels")),
    (("weights",), *_one_of("best", "averaged", "last")),
    (("precision",), *_one_of(*PRECISIONS)),
    (("symmetries",), *_one_of(1, 2, 4, 8)),
    (("background",), _is_grey_level, "'auto' or a grey level"),
)


def _check(config, name, holds, expected):
    if not holds:
        raise ConfigError(f"{name} must be {expected}, not {getattr(config, name)!r}")


def _check_rules(config, rules):
    for names, holds, expected in rules:
        for name in names:
            _check(config, name, holds(getattr(config, name)), expected)


def _check_types(config):
    """Check that each value is of its field's type, which JSON keeps; an int may be a float."""
    for field in dataclasses.fields(config):
        number = (int, float) if isinstance(field.default, float) else (type(field.default),)
        allowed = _SEVERAL_TYPES.get(field.name, number)
        expected = f"of type {' or '.join(kind.__name__ for kind in allowed)}"
        _check(config, field.name, type(getattr(config, field.name)) in allowed, expected)


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Shape of the network. The defaults are the published ones.

    Attributes:
        depth: levels; the image is halved depth - 1 times.
        filters: channels of the first level, doubled on each next one.
        skip: how the skip connections join, "add" (published) or "concat".
        top_skip: whether the first level has one (published); without it, and with ``pooling``
            "blur", this is the network of N2V2.
        pooling: "max" (published) or "blur", which blurs the maxima before it takes every second
            one, against checkerboards.
        stride: pixel-shuffle downsampling factor, from 1 to 4: the network sees every stride-th row
            and column as an image of its own, which decorrelates noise that neighbours share.
            "auto": measured on the images.
        space_to_depth: 1 (published), or 2: the first level sees blocks of 2 x 2 pixels as channels
            of one pixel, so that the network has half the rows and columns, and a quarter of the
            work (Shi et al., CVPR 2016; Zhang et al., FFDNet, 2018).
        neighbours: number of frames on each side, in time or depth, that the network sees beside
            the one that it denoises; 0 for none.
        guided: whether the network sees the guide of each frame, what all frames of its movie
            together say about it (`network.guides`).
        planes: whether the neighbours are planes of a volume, above and below. At its ends, planes
            that are missing on one side are replaced by those on the other
            (`network.stacks.mirrored_table`), and pretrained weights are those for volumes.
    """

    depth: int = 3
    filters: int = 64
    skip: str = "add"
    top_skip: bool = True
    pooling: str = "max"
    stride: int | str = "auto"
    space_to_depth: int = 1
    neighbours: int = 0
    guided: bool = False
    planes: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        _check_rules(self, _NETWORK_RULES)
        most = _MOST_CHANNELS // 2 ** (self.depth - 1)
        expected = f"from 1 to {most} in a network of depth {self.depth}"
        _check(self, "filters", 1 <= self.filters <= most, expected)
        if self.guided:
            _check(self, "neighbours", self.neighbours > 0, "at least 1 in a guided network")
        if self.planes:
            _check(self, "neighbours", self.neighbours > 0, "at least 1 in a network for volumes")
            _check(self, "guided", not self.guided, "False in a network for volumes")


# Shapes of the networks that the package ships: for single frames, for movies, and for volumes.
PRETRAINED = UNetConfig(filters=32)
PRETRAINED_MOVIES = UNetConfig(filters=32, space_to_depth=2, neighbours=1, guided=True)
PRETRAINED_VOLUMES = UNetConfig(filters=32, neighbours=4, planes=True)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A request for a training. ``TrainConfig()`` is the preset "fast".

    Attributes:
        network: shape of the U-Net.
        init: the weights that training starts from, "random" or "pretrained", those that the
            package ships (module `pretrained`).
        output_scale: the network's output is multiplied by this before the normalisation is undone.
        patch_size: side of a training patch in pixels; made smaller for images that are smaller.
        batch_size: patches per step.
        epochs: how many times validation takes place.
        steps_per_epoch: optimiser steps between two validations.
        learning_rate: the highest learning rate of Adam.
        schedule: "cosine" falls to 0 over the whole training after a warm-up over its first 2 %;
            "plateau" halves the rate when the validation loss has not improved for ``patience``
            epochs.
        patience: see ``schedule``.
        density: blind spots per pixel.
        radius: the replacement of a blind spot comes from the (2 radius + 1)^2 neighbourhood.
        replacement: which of its pixels, "random" (published), or their "median" or "mean" (N2V2).
        blind: pixels along y and x that a blind spot hides on each side of the scored pixel, for
            noise that neighbours share: (0, 0) hides none (published); "auto" measures the noise's
            correlation, unless all frames have repeats.
        targets: what the network learns to predict: "own", blind spots of the frame itself
            (published); "repeats", all pixels of other frames that show the same scene
            (Noise2Noise), and blind spots where no other frame does; "auto" finds out whether there
            are such frames, unless ``blind`` says what blind spots hide.
        positivity: weight of the penalty on negative deconvolved values.
        positivity_margin: standard deviations of the images' noise by which deconvolved values may
            be negative without a penalty; 0 as published, which makes faint light too bright.
        variation: weight of the total variation of the deconvolved image.
        averaging: decay per step of the exponential moving average of the weights; 0 averages
            nothing.
        validation: "frames" holds out the last frames, "pixels" holds out pixels that are never
            targets, "auto" takes frames when at least ``FRAMES_TO_SPARE`` are there. A single
            frame, or a network that sees neighbouring frames, always holds out pixels.
        validation_fraction: share of the frames held out.
        validation_patches: patches per validation.
        validation_redraw: draw new validation patches each epoch (published) instead of keeping one
            set, whose losses can be compared.
        background: grey level without light, subtracted first; "auto" estimates it from the images.
        weights: the weights that denoise: "best" (the latest that validation does not speak
            against), "averaged" or "last".
        precision: of the products between the network's channels, in training and prediction:
            "float32"; "bfloat16", factors rounded to 8 bits, sums in float32; "auto", bfloat16
            where the hardware has units for it (GPUs, TPUs, CPUs with AMX or AVX-512's bfloat16).
            Parameters, loss and everything else are float32.
        symmetries: predictions are averaged over this many of the eight rotations and mirror images
            (1, 2, 4 or 8).
        axial: of a PSF that mixes planes: "trained", the network learns from slabs; "fitted" (and
            "auto" of one for volumes), light blurred by the PSF is fitted to what it denoised.
    """

    network: UNetConfig = UNetConfig(filters=32)
    init: str = "random"
    output_scale: int | float = 10.0
    patch_size: int = 96
    batch_size: int = 1
    epochs: int = 22
    steps_per_epoch: int = 100
    learning_rate: int | float = 1e-3
    schedule: str = "cosine"
    patience: int = 10
    density: int | float = 1 / 32
    radius: int = 2
    replacement: str = "random"
    blind: str | tuple[int, int] = "auto"
    targets: str = "auto"
    positivity: int | float = 1.0
    positivity_margin: int | float = 1.0
    variation: int | float = 0.0
    averaging: int | float = 0.99
    validation: str = "auto"
    validation_fraction: int | float = 0.3
    validation_patches: int = 16
    validation_redraw: bool = False
    background: int | float | str = "auto"
    weights: str = "best"
    precision: str = "auto"
    symmetries: int = 8
    axial: str = "auto"

    FRAMES_TO_SPARE = 10  # unannotated: a constant, not a field

    def __post_init__(self) -> None:
        _check_types(self)
        _check_rules(self, _TRAINING_RULES)
        stride = 1 if isinstance(self.network.stride, str) else self.network.stride
        multiple = 2 ** (self.network.depth - 1) * stride
        fits = self.patch_size >= 8 and self.patch_size % multiple == 0
        _check(self, "patch_size", fits, f"a multiple of {multiple}, at least 8")
        few = self.epochs * self.steps_per_epoch < 2**31
        _check(self, "epochs", few, f"fewer than 2^31 steps in all, {self.steps_per_epoch} each")
        if self.network.neighbours:
            sees = "for a network that sees neighbouring frames"
            _check(self, "targets", self.targets != "repeats", f"'auto' or 'own' {sees}")
            _check(self, "validation", self.validation != "frames", f"'auto' or 'pixels' {sees}")
        if self.init == "pretrained":
            shipped = PRETRAINED_MOVIES if self.network.guided else PRETRAINED
            shipped = PRETRAINED_VOLUMES if self.network.planes else shipped
            shape = dataclasses.replace(self.network, stride=shipped.stride)
            if not shipped.neighbours:  # that for single frames sees the mean of any number of them
                shape = dataclasses.replace(shape, neighbours=0)
            _check(self, "network", shape == shipped, f"{shipped} for pretrained weights")

    @classmethod
    def best(cls, **changes: Any) -> "TrainConfig":
        """Return the preset "best": pretrained weights, fitted to the images by a short training.

        Args:
            **changes: fields that differ from the preset.
        """
        return cls(**{"init": "pretrained", "epochs": 12, "learning_rate": 3e-4, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> "TrainConfig":
        """Return the published procedure: every row of its table, with the published network.

        Args:
            **changes: fields that differ from the preset.
        """
        published = {
            "network": UNetConfig(stride=1),
            "patch_size": 100,
            "batch_size": 20,
            "epochs": 200,
            "steps_per_epoch": 10,
            "schedule": "plateau",
            "averaging": 0.0,
            "blind": (0, 0),
            "targets": "own",
            "positivity_margin": 0.0,
            "validation": "frames",
            "validation_patches": 20,
            "validation_redraw": True,
            "precision": "float32",
            "symmetries": 1,
        }
        return cls(**{**published, **changes})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "TrainConfig":
        """Return the preset "fast", "best" or "paper", with some fields changed.

        Raises:
            ConfigError: another name, or a value that a field cannot have.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
        return cls(**changes) if name == "fast" else getattr(cls, name)(**changes)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain numbers, strings and dicts, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "TrainConfig":
        """Return the config that `to_dict` wrote.

        Raises:
            ConfigError: no dict, a missing or unknown field, or a value that a field cannot have.
        """
        if isinstance(values, dict) and isinstance(values.get("network"), dict):
            later = {"guided": False, "planes": False, "space_to_depth": 1}  # than version 0.1.0
            network = _strict(UNetConfig, {**later, **values["network"]})
            values = {**values, "network": network}
        if isinstance(values, dict) and isinstance(values.get("blind"), list):  # JSON has no tuples
            values = {**values, "blind": tuple(values["blind"])}
        if isinstance(values, dict):  # version 0.1.0 had no margin, and learned from slabs
            values = {"positivity_margin": 0.0, "axial": "trained", **values}
        return _strict(cls, values)


def _strict(cls, values):
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__}: expected its fields, got {values!r}")
    known = {field.name for field in dataclasses.fields(cls)}
    if values.keys() != known:
        unknown, missing = sorted(values.keys() - known), sorted(known - values.keys())
        raise ConfigError(
            f"{cls.__name__}: unknown fields {unknown}, missing fields {missing}; "
            "was it written by another version?"
        )
    return cls(**values)
