"""The report of a run: where it goes, and what it shows. Host side."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Real

from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.report.content import Channel, Circumstances, ReportContent
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.report.html import write_html
from jaxdenoise.report.verdict import Verdict
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.system.files import checksum
from jaxdenoise.workflows.applying import Arrays, Job, denoise_shown
from jaxdenoise.workflows.facts import versions
from jaxdenoise.workflows.movie_tests import leak_test, traces_of
from jaxdenoise.workflows.origins import origins_of
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.requests import DenoiseRequest, SweepRequest, TrainRequest
from jaxdenoise.workflows.settings import flat
from jaxdenoise.workflows.shown_frames import Results, window


class Denoised(NamedTuple):
    """A channel of a file that was denoised, for its report.

    Attributes:
        job: which models denoised which frames.
        results: in memory, see `applying.Applied`; None: they are read from what was written.
        verdict: of the guard.
        sweep: of a choice among PSFs, see `content.Channel`.
        evidence: a line for each choice.
    """

    job: Job
    results: Arrays | None
    verdict: GuardVerdict
    sweep: Mapping[str, Any] | None
    evidence: Sequence[str]


def report_path(path: Path, *, wanted: bool, overwrite: bool) -> Path | None:
    """Return where the report goes, or None if there is to be none.

    Raises:
        RequestError: there is a file already.
    """
    if wanted and path.exists() and not overwrite:
        raise RequestError(
            f"{path}: the file exists; overwrite=True replaces it, report=False writes none"
        )
    return path if wanted else None


def settings_of(request: Any) -> dict[str, Any]:
    """Return what a report says of a request."""
    return {name: value for name, value in flat(request).items() if name != "command"}


def write_file_report(
    request: DenoiseRequest,
    path: Path | None,
    channels: Sequence[Denoised],
    written: Mapping[str, Path],
    reporter: Reporter,
    *,
    began: float | None = None,
) -> Verdict | None:
    """Write the report on a file that was denoised, and return its verdict.

    Args:
        request: what was asked for.
        path: of the report; None: there is to be none.
        channels: of the file, those of which something was denoised.
        written: field of `ensemble.Combined`, or "random_start", to the file with these results.
        reporter: hears of it.
        began: `time.perf_counter` when the file's turn came.
    """
    if path is None or not channels or not current_crew().is_primary:
        return None
    part = channels[0].job.part
    ordinary = sorted(set.intersection(*(set(one.job.part.ordinary) for one in channels)))
    shown = window(part.frames.shape, ordinary, [one.verdict for one in channels])
    content = ReportContent(
        title=Path(part.path).name,
        channels=[_channel(request, one, written, shown) for one in channels],
        made=_circumstances(part, began),
        **_about(request, part),
    )
    verdict = write_html(path, content)
    reporter.say(f"wrote {path}")
    return verdict


def _channel(request, one, written, shown):
    part, results = one.job.part, Results(one.job.part, one.results, written)
    # Frames of like noise are a group of their own; the largest one stands for all.
    denoisers, numbers = max(one.job.groups, key=lambda group: len(group.numbers))
    stacks: dict[str, Any] = {
        name: results.stack(name, shown)
        for name in ("denoised", "deconvolved", "random_start", "disagreement")
    }
    return Channel(
        noisy=_noisy(part, shown),
        denoiser=denoisers[0],
        guard=one.verdict,
        sweep=one.sweep,
        evidence=one.evidence,
        origins=origins_of(request, denoisers[0], one.evidence),
        leaks=leak_test(part, denoisers, numbers),
        traces=traces_of(part, lambda n: results.frame("denoised", n)),
        **stacks,
        **_places(part, shown),
    )


def write_report(
    request: TrainRequest | SweepRequest,
    path: Path | None,
    part: Part,
    denoisers: Sequence[Denoiser],
    reporter: Reporter,
    *,
    truth: Real[np.ndarray, "_ H W"] | None = None,
    sweep: Mapping[str, Any] | None = None,
    evidence: Sequence[str] = (),
) -> None:
    """Write the report on a training, unless its path is None: what it makes of some frames.

    Args:
        request: what was asked for.
        path: of the report.
        part: of a file that was trained on.
        denoisers: the members of the ensemble.
        reporter: hears of it.
        truth: one frame, or as many as the part has, the clean image in grey levels, if there is
            one.
        sweep: as of `content.Channel`.
        evidence: as of `content.Channel`.
    """
    if path is None or not current_crew().is_primary:
        return
    shown = window(part.frames.shape, part.ordinary)
    index = np.array(shown.numbers), shown.rows, shown.columns
    found = denoise_shown(denoisers, part.frames, index)
    if truth is not None:
        there = np.array(part.frames.numbers)[index[0]] if len(truth) > 1 else slice(None)
        truth = truth[there, shown.rows, shown.columns]
    channel = Channel(
        noisy=_noisy(part, shown),
        denoised=found.denoised,
        deconvolved=found.deconvolved,
        disagreement=found.disagreement if len(denoisers) > 1 else None,
        denoiser=denoisers[0],
        origins=origins_of(request, denoisers[0], evidence),
        truth=truth,
        sweep=sweep,
        evidence=evidence,
        **_places(part, shown),
    )
    name = Path(part.path).name
    title = name if part.channel is None else f"{name}, channel {part.channel_label}"
    about = _about(request, part)
    content = ReportContent(
        title=title, channels=[channel], made=_circumstances(part, None), **about
    )
    write_html(path, content)
    reporter.say(f"wrote {path}")


def _noisy(part, shown):
    return np.stack([part.frames[n, shown.rows, shown.columns] for n in shown.numbers])


def _places(part, shown):
    """What a channel says of where its frames are."""
    place = shown.rows.start, shown.columns.start, *part.frames.shape[1:]
    names = [part.frame_names[n] for n in range(len(part.frames))]
    channel = "" if part.channel is None else f"channel {part.channel_label}"
    own = {"name": channel, "shown": shown.shown(part), "frames": len(names), "frame_names": names}
    return own | {"place": place, "odd": part.survey.odd}


def _about(request, part):
    commands = [] if request.command is None else [request.command]
    size = part.file.info.pixel_size_um
    return {"settings": settings_of(request), "commands": commands, "pixel_size_um": size}


def _circumstances(part, began):
    seconds = None if began is None else time.perf_counter() - began
    name = Path(part.path).name
    return Circumstances(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        seconds=seconds,
        versions=versions(),
        checksums={name: checksum(Path(part.path))},
    )
