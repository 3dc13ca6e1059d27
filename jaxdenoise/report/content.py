"""What a report is about: the channels of one file, how they were made, and when."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import ArrayLike, Real

from jaxdenoise.report.findings import TrainedModel
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.report.traces import Traces
from jaxdenoise.report.transients import LeakTest


class Shown(NamedTuple):
    """A frame that a report shows.

    Attributes:
        number: among the frames that the guard judged, 0-based.
        name: such as "plane 18".
        why: the reason for which it is shown, such as "the worst".
    """

    number: int
    name: str
    why: str


class Origin(NamedTuple):
    """Where a setting came from.

    Attributes:
        what: such as "PSF".
        value: in words.
        how: "given", "assumed", "found", "file" (it says so), "network" (the one that comes
            with the package has it) or "not used".
    """

    what: str
    value: str
    how: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel of a file, or a file without channels.

    Attributes:
        name: such as "channel 0"; empty of a file without channels.
        noisy: (N, H, W) real, in grey levels, at least 5 x 5 pixels: the frames that are shown,
            the first one first. The verdict judges by them whether there was enough to learn from.
        denoised: the same shape and unit.
        deconvolved: the same shape and unit.
        denoiser: the `denoiser.Denoiser` that made them.
        shown: one a frame; empty: they are counted.
        frames: how many there are in all; None: those that are shown.
        frame_names: of all of them, for the verdict on each; empty: they are counted.
        odd: number of a frame to why it was not judged, but written as it is.
        place: row and column of the first shown pixel in the whole frame, whose shape follows;
            None: frames are shown whole.
        sweep: the table of a sweep over PSFs: "chosen" (a sigma, a file name or "none") and
            "candidates", a list of dicts with "psf", "seed", "score" (masked squared error on
            held-out pixels over the data's variance), "score_se" (None: not known), "psnr" (in dB
            or None), "seconds" and "epochs" (of its training until it was complete or dropped).
        truth: the clean image in grey levels, (H, W) or (N, H, W), if there is one.
        guard: the verdict of the guard on all frames, if there is one.
        evidence: a line for each choice that was made for the images.
        origins: of the settings that matter.
        random_start: (N, H, W) the result from random weights, if there is one.
        disagreement: (N, H, W) standard deviation of an ensemble's results in grey levels.
        leaks: what became of known transients, or why that was not tested; None: it was not asked.
        traces: of the places of a movie that change most.
    """

    name: str = ""
    noisy: Real[ArrayLike, "N H W"]
    denoised: Real[ArrayLike, "N H W"]
    deconvolved: Real[ArrayLike, "N H W"]
    denoiser: TrainedModel
    shown: Sequence[Shown] = ()
    frames: int | None = None
    frame_names: Sequence[str] = ()
    odd: Mapping[int, str] = dataclasses.field(default_factory=dict)
    place: tuple[int, int, int, int] | None = None
    sweep: Mapping[str, Any] | None = None
    truth: Real[ArrayLike, "*frames H W"] | None = None
    guard: GuardVerdict | None = None
    evidence: Sequence[str] = ()
    origins: Sequence[Origin] = ()
    random_start: Real[ArrayLike, "N H W"] | None = None
    disagreement: Real[ArrayLike, "N H W"] | None = None
    leaks: LeakTest | str | None = None
    traces: Traces | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circumstances:
    """When and from what a result was made.

    Attributes:
        date: such as "2026-12-01 10:40 UTC".
        seconds: that the file took; None: not measured.
        versions: of the packages, by name.
        checksums: of the inputs: name to SHA-256 in hexadecimal digits.
    """

    date: str
    seconds: float | None = None
    versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report is about.

    Attributes:
        title: one line, such as the name of the input.
        channels: at least one.
        settings: all that the user set. Each dict in it becomes a group.
        commands: the commands that give this result again.
        pixel_size_um: height and width of a pixel in micrometres, if known.
        made: when and from what.
    """

    title: str
    channels: Sequence[Channel]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commands: Sequence[str] = ()
    pixel_size_um: Sequence[float] | None = None
    made: Circumstances | None = None
