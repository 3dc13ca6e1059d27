"""The report of a run: where it goes, and which frames it shows. Host side."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real

from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.report.html import ReportContent, write_html
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.applying import Arrays, denoise_shown
from jaxdenoise.workflows.facts import versions
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import Reporter
from jaxdenoise.workflows.requests import DenoiseRequest, SweepRequest, TrainRequest
from jaxdenoise.workflows.settings import flat

_PIXELS = 2**21  # of the frames that a report is about: eight frames of 512 x 512


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
    """Return what a report says of a request, and of the versions."""
    options = {name: value for name, value in flat(request).items() if name != "command"}
    return {"Request": options, "Versions": versions()}


def write_report(
    request: DenoiseRequest | TrainRequest | SweepRequest,
    path: Path | None,
    part: Part,
    denoisers: Sequence[Denoiser],
    reporter: Reporter,
    **options: Any,
) -> None:
    """Write the report on a part of a file, unless its path is None; the rest as of `write_for`."""
    if path is None or not current_crew().is_primary:
        return
    channel = "" if part.channel is None else f", channel {part.channel_label}"
    about: dict[str, Any] = {"title": f"{part.path}{channel}", "settings": settings_of(request)}
    commands = None if request.command is None else [request.command]
    write_for(path, part, denoisers, commands=commands, **about, **options)
    reporter.say(f"wrote {path}")


def write_for(
    path: Path,
    part: Part,
    denoisers: Sequence[Denoiser],
    *,
    results: Arrays | None = None,
    truth: Real[np.ndarray, "_ H W"] | None = None,
    **options: Any,
) -> Path:
    """Write the report on the frames of a part, or on some of them where they are large.

    Args:
        path: of the report.
        part: of a file.
        denoisers: the members of the ensemble that denoised it.
        results: "denoised" and "deconvolved" of all frames; None: those that are shown are
            denoised here.
        truth: one frame, or as many as the part has, the clean image in grey levels, if there is
            one.
        **options: of `ReportContent`: title, settings, sweep, commands.
    """
    numbers = np.array(part.ordinary or range(len(part.frames)))
    chosen, rows, columns = _shown((len(numbers), *part.frames.shape[1:]))
    shown = numbers[chosen], rows, columns
    noisy = np.stack([part.frames[n, rows, columns] for n in shown[0]])
    if results is None:
        found = denoise_shown(denoisers, part.frames, shown)
        denoised, deconvolved = found.denoised, found.deconvolved
    else:
        denoised, deconvolved = (results[name][shown] for name in ("denoised", "deconvolved"))
    if truth is not None:
        there = np.array(part.frames.numbers)[shown[0]] if len(truth) > 1 else slice(None)
        truth = truth[there, rows, columns]
    stacks: dict[str, Any] = {"noisy": noisy, "denoised": denoised, "deconvolved": deconvolved}
    stacks["truth"] = truth
    content = ReportContent(
        denoiser=denoisers[0], pixel_size_um=part.file.info.pixel_size_um, **stacks, **options
    )
    return write_html(path, content)


def _shown(shape):
    """Index of evenly spread frames, from the middle of large ones.

    Their number is even where there are several, for the two halves of the stack.
    """
    side = math.isqrt(_PIXELS)
    rows, columns = (
        slice(max(0, (length - side) // 2), max(0, (length - side) // 2) + side)
        for length in shape[1:]
    )
    count = min(shape[0], max(1, _PIXELS // (min(side, shape[1]) * min(side, shape[2]))))
    count -= count % 2 if count > 1 else 0
    return np.linspace(0, shape[0] - 1, count).round().astype(int), rows, columns
