"""What one check of a result says: a level, a title and a text. Host side."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, SupportsFloat, runtime_checkable

from jaxtyping import ArrayLike, Float

from jaxdenoise.config import TrainConfig

FINE, CARE, STOP = range(3)
NOT_APPLICABLE = -1  # a check that this model cannot be asked: no passed one
HEADLINES = ("No problems found", "Use with care", "Do not rely on it")  # by level
# By level, on pages; the last is for NOT_APPLICABLE.
MARKS = ("\N{CHECK MARK}", "!", "\N{MULTIPLICATION X}", "\N{EN DASH}")
CLASSES = ("fine", "care", "stop", "none")
# What a report adds where the network saw every second, third or fourth row and column.
STRIDE_NOTES = {
    1: "",
    2: " The network saw every second row and column as an image of its own.",
    3: " The network saw every third row and column as an image of its own.",
    4: " The network saw every fourth row and column as an image of its own.",
}


class Finding(NamedTuple):
    """The outcome of one check.

    Attributes:
        level: `FINE`, `CARE`, `STOP` or `NOT_APPLICABLE`.
        title: a few words.
        text: what was measured, and what to do.
    """

    level: int
    title: str
    text: str


@runtime_checkable
class GreyScale(Protocol):
    """The scale of a model: scalars in grey levels, as of `denoiser.Scale`."""

    @property
    def background(self) -> SupportsFloat: ...

    @property
    def mean(self) -> SupportsFloat: ...

    @property
    def std(self) -> SupportsFloat: ...


@runtime_checkable
class NetworkSettings(Protocol):
    """What a report needs to know of a `settings.NetworkShape`."""

    @property
    def stride(self) -> int: ...

    @property
    def neighbours(self) -> int: ...


@runtime_checkable
class TrainingSettings(Protocol):
    """What a report needs to know of the `settings.Settings` that a model was trained with."""

    @property
    def network(self) -> NetworkSettings: ...

    @property
    def blind(self) -> tuple[int, int]: ...

    @property
    def targets(self) -> str: ...

    @property
    def weights(self) -> str: ...

    @property
    def validation_redraw(self) -> bool: ...


@runtime_checkable
class TrainedModel(Protocol):
    """What a report needs to know of a `denoiser.Denoiser`."""

    @property
    def psf(self) -> Float[ArrayLike, "h w"]: ...

    @property
    def scale(self) -> GreyScale: ...

    @property
    def history(self) -> Mapping[str, ArrayLike]: ...

    @property
    def config(self) -> TrainingSettings: ...

    def request(self) -> TrainConfig: ...


def sentence(text: str) -> str:
    """Return a text with a capital letter first and a full stop last."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
