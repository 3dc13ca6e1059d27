"""The settings of a training, as frozen dataclasses that go to JSON and come back strictly. Needs no JAX."""

import dataclasses
import math

from jaxdenoise.system.errors import ConfigError

_MOST_CHANNELS = 2**13  # of the last level, and
_MOST_PATCHES = 2**14  # at a time: far beyond any use, and the memory of any machine
_WIDEST = 16  # pixels that a blind spot hides on each side
_MOST_APART = 4  # pixels between those that a network sees
_MOST_BESIDE = 8  # frames on each side
_OF_SEVERAL_TYPES = {"background": (str, int, float), "blind": (str, tuple), "stride": (str, int)}


def _check(config, name, holds, expected):
    if not holds:
        raise ConfigError(f"{name} must be {expected}, not {getattr(config, name)!r}")


def _check_types(config):
    """Each value must be of its field's type, so that what is written as JSON can be read; a whole number may stand for a float."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        number = (int, float) if isinstance(field.default, float) else (type(field.default),)
        allowed = _OF_SEVERAL_TYPES.get(field.name, number)
        if type(value) not in allowed:
            _check(
                config,
                field.name,
                False,
                f"of type {' or '.join(kind.__name__ for kind in allowed)}",
            )


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Shape of the network. The defaults are the published ones.

    Attributes:
        depth: levels; the image is halved depth - 1 times.
        filters: channels of the first level, doubled on each next one.
        skip: how the skip connections join, "add" (published) or "concat".
        top_skip: whether the first level has one (published); without it, and with ``pooling``
            "blur", this is the network of N2V2.
        pooling: "max" (published) or "blur", maxima that are blurred before every second one is
            taken, against checkerboards.
        stride: the network sees every stride-th row and column as an image of its own, for noise
            that neighbours share; "auto" is 1 unless a training measures that they do.
        neighbours: how many frames on each side the network sees beside the one that it denoises,
            in time or depth; 0 for none.
    """

    depth: int = 3
    filters: int = 64
    skip: str = "add"
    top_skip: bool = True
    pooling: str = "max"
    stride: int | str = "auto"
    neighbours: int = 0

    def __post_init__(self):
        _check_types(self)
        _check(self, "depth", 1 <= self.depth <= 8, "from 1 to 8")
        most = _MOST_CHANNELS // 2 ** (self.depth - 1)
        _check(
            self,
            "filters",
            1 <= self.filters <= most,
            f"from 1 to {most} in a network of depth {self.depth}",
        )
        _check(self, "skip", self.skip in ("add", "concat"), "'add' or 'concat'")
        _check(self, "pooling", self.pooling in ("max", "blur"), "'max' or 'blur'")
        numbers = range(1, _MOST_APART + 1)
        _check(
            self,
            "stride",
            self.stride == "auto" or self.stride in numbers,
            f"'auto' or a whole number from 1 to {_MOST_APART}",
        )
        _check(
            self, "neighbours", 0 <= self.neighbours <= _MOST_BESIDE, f"from 0 to {_MOST_BESIDE}"
        )

    @property
    def apart(self):
        """``stride`` as a number: as long as nothing was measured, "auto" is 1."""
        return 1 if self.stride == "auto" else self.stride

    @property
    def multiple(self):
        """Height and width of an input must be multiples of this many pixels."""
        return 2 ** (self.depth - 1) * self.apart

    @property
    def radius(self):
        """Radius of the receptive field in pixels: no pixel further away, in either axis, changes the output.

        Each level adds its convolutions (two on the way down, two up, of radius 1 at its stride;
        the last level has one pair), and the grids of the pooled levels shift the field by up to
        ``multiple`` - 1 pixels. A blur before a level adds one pixel at its stride.
        """
        blurs = sum(2**level for level in range(self.depth - 1)) if self.pooling == "blur" else 0
        convolutions = sum(4 * 2**level for level in range(self.depth - 1)) + 2 * 2 ** (
            self.depth - 1
        )
        return (convolutions + blurs) * self.apart + self.multiple - 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All settings of a training. ``TrainConfig()`` is the preset "fast"; `TrainConfig.paper` is the published procedure.

    Attributes:
        network: shape of the U-Net.
        init: the weights that training starts from, "random" or "pretrained", those that the
            package ships (module `pretrained`).
        output_scale: the network's output is multiplied by this before the normalisation is undone.
        patch_size: side of a training patch in pixels; made smaller for images that are smaller.
        batch_size: patches a step.
        epochs: how many times validation takes place.
        steps_per_epoch: optimiser steps between two validations.
        learning_rate: Adam's, at its highest.
        schedule: "cosine" falls to 0 over the whole training after a warm-up over its first 2 %;
            "plateau" halves the rate when the validation loss has not improved for ``patience``
            epochs.
        patience: see ``schedule``.
        density: blind spots a pixel.
        radius: the replacement of a blind spot comes from the (2 radius + 1)^2 neighbourhood.
        replacement: which of its pixels, "random" (published), or their "median" or "mean" (N2V2).
        blind: pixels along y and x that a blind spot hides on each side of the one that is scored,
            for noise that neighbours share: (0, 0) hides none (published), "auto" measures the
                noise's correlation, unless all frames have repeats.
        targets: what the network learns to predict: "own", blind spots of the frame itself
            (published); "repeats", all pixels of other frames that show the same scene
            (Noise2Noise), and blind spots where no other frame does; "auto" finds out whether there
            are such frames, unless ``blind`` says what blind spots hide.
        positivity: weight of the penalty on negative deconvolved values.
        variation: weight of the total variation of the deconvolved image.
        averaging: decay of the exponential moving average of the weights a step; 0 averages
            nothing.
        validation: "frames" holds out the last frames, "pixels" holds out pixels that are never
            targets, "auto" takes frames when at least ``FRAMES_TO_SPARE`` are there. A single
            frame, or a network that sees neighbouring frames, always holds out pixels.
        validation_fraction: share of the frames held out.
        validation_patches: patches a validation.
        validation_redraw: draw new validation patches each epoch (published) instead of keeping one
            set, whose losses can be compared.
        background: grey level of no light, subtracted before everything; "auto" estimates it from
            the data.
        weights: which weights denoise: "best" (the latest that validation does not speak against),
            "averaged" or "last".
        precision: of the products between the network's channels, in training and prediction:
            "float32"; "bfloat16", factors rounded to 8 bits, sums in float32; "auto", bfloat16
            where the hardware has units for it (GPUs, TPUs, CPUs with AMX or AVX-512's bfloat16).
            Parameters, loss and everything else are float32.
        symmetries: predictions are averaged over this many of the eight rotations and mirror images
            (1, 2, 4 or 8).
    """

    network: UNetConfig = UNetConfig(filters=32)
    init: str = "random"
    output_scale: float = 10.0
    patch_size: int = 96
    batch_size: int = 1
    epochs: int = 22
    steps_per_epoch: int = 100
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    patience: int = 10
    density: float = 1 / 32
    radius: int = 2
    replacement: str = "random"
    blind: str | tuple = "auto"
    targets: str = "auto"
    positivity: float = 1.0
    variation: float = 0.0
    averaging: float = 0.99
    validation: str = "auto"
    validation_fraction: float = 0.3
    validation_patches: int = 16
    validation_redraw: bool = False
    background: float | str = "auto"
    weights: str = "best"
    precision: str = "auto"
    symmetries: int = 8

    FRAMES_TO_SPARE = 10  # unannotated: a constant, not a field

    def __post_init__(self):
        _check_types(self)
        multiple = self.network.multiple
        _check(
            self,
            "patch_size",
            self.patch_size >= 8 and self.patch_size % multiple == 0,
            f"a multiple of {multiple}, at least 8",
        )
        for name in (
            "batch_size",
            "epochs",
            "steps_per_epoch",
            "patience",
            "radius",
            "validation_patches",
        ):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("batch_size", "validation_patches"):
            _check(self, name, getattr(self, name) <= _MOST_PATCHES, f"at most {_MOST_PATCHES}")
        _check(
            self,
            "epochs",
            self.epochs * self.steps_per_epoch < 2**31,
            f"fewer than 2^31 steps in all, {self.steps_per_epoch} each",
        )
        reaches = (
            isinstance(self.blind, tuple)
            and len(self.blind) == 2
            and all(type(n) is int and 0 <= n <= _WIDEST for n in self.blind)
        )
        _check(
            self,
            "blind",
            self.blind == "auto" or reaches,
            f"'auto' or two whole numbers from 0 to {_WIDEST}",
        )
        _check(
            self, "replacement", self.replacement in REPLACEMENTS, "'random', 'median' or 'mean'"
        )
        _check(self, "targets", self.targets in TARGETS, "'auto', 'own' or 'repeats'")
        alone = self.targets != "repeats" or not self.network.neighbours
        _check(
            self, "targets", alone, "'auto' or 'own' for a network that sees neighbouring frames"
        )
        for name in ("output_scale", "learning_rate"):
            _check(self, name, 0 < getattr(self, name) < math.inf, "positive")
        for name in ("positivity", "variation"):
            _check(self, name, 0 <= getattr(self, name) < math.inf, "at least 0")
        _check(self, "density", 0 < self.density <= 0.25, "above 0, at most 0.25")
        _check(self, "averaging", 0 <= self.averaging < 1, "at least 0, below 1")
        _check(self, "validation_fraction", 0 < self.validation_fraction < 1, "between 0 and 1")
        _check(self, "init", self.init in INITS, "'random' or 'pretrained'")
        if self.init == "pretrained":
            alone = dataclasses.replace(self.network, stride=PRETRAINED.stride, neighbours=0)
            _check(self, "network", alone == PRETRAINED, f"{PRETRAINED} for pretrained weights")
        _check(self, "schedule", self.schedule in ("cosine", "plateau"), "'cosine' or 'plateau'")
        _check(
            self,
            "validation",
            self.validation in ("auto", "frames", "pixels"),
            "'auto', 'frames' or 'pixels'",
        )
        together = self.network.neighbours and self.validation == "frames"
        _check(
            self,
            "validation",
            not together,
            "'auto' or 'pixels' for a network that sees neighbouring frames",
        )
        _check(
            self,
            "weights",
            self.weights in ("best", "averaged", "last"),
            "'best', 'averaged' or 'last'",
        )
        _check(self, "precision", self.precision in PRECISIONS, "'auto', 'float32' or 'bfloat16'")
        _check(self, "symmetries", self.symmetries in (1, 2, 4, 8), "1, 2, 4 or 8")
        level = (
            self.background != "auto"
            and not isinstance(self.background, str)
            and abs(self.background) < 2.0**127
        )  # float32
        _check(self, "background", self.background == "auto" or level, "'auto' or a grey level")

    @property
    def hidden(self):
        """``blind`` as two numbers: as long as nothing was measured, "auto" hides none."""
        return (0, 0) if self.blind == "auto" else self.blind

    @classmethod
    def best(cls, **changes):
        """Pretrained weights, fitted to the images by a short training: what benchmarks won."""
        return cls(**{"init": "pretrained", "epochs": 12, "learning_rate": 3e-4, **changes})

    @classmethod
    def paper(cls, **changes):
        """The published procedure: every row of its table, with the published network."""
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
            "validation": "frames",
            "validation_patches": 20,
            "validation_redraw": True,
            "precision": "float32",
            "symmetries": 1,
        }
        return cls(**{**published, **changes})

    @classmethod
    def preset(cls, name, **changes):
        """The preset "fast", "best" or "paper", with some fields changed."""
        if name not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
        return {"fast": cls, "best": cls.best, "paper": cls.paper}[name](**changes)

    def to_dict(self):
        """Plain numbers, strings and dicts, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`; a missing or an unknown field is a `ConfigError`."""
        if isinstance(values, dict) and "network" in values:
            values = {**values, "network": _strict(UNetConfig, values["network"])}
        if isinstance(values, dict) and isinstance(
            values.get("blind"), list
        ):  # JSON knows no tuples
            values = {**values, "blind": tuple(values["blind"])}
        return _strict(cls, values)


PRESETS = ("fast", "best", "paper")
REPLACEMENTS = ("random", "median", "mean")
TARGETS = ("auto", "own", "repeats")
INITS = ("random", "pretrained")
PRETRAINED = UNetConfig(filters=32)  # shape of the network that the package ships
PRECISIONS = ("auto", "float32", "bfloat16")


def _strict(cls, values):
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__}: expected its fields, got {values!r}")
    known = {field.name: field.default for field in dataclasses.fields(cls)}
    if values.keys() != known.keys():
        unknown, missing = (
            sorted(values.keys() - known.keys()),
            sorted(known.keys() - values.keys()),
        )
        raise ConfigError(
            f"{cls.__name__}: unknown fields {unknown}, missing fields {missing}; was it written by another version?"
        )
    return cls(**values)
