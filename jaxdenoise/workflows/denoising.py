"""Denoise files: from models and opened images to what is written. Host side."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxdenoise.io import images
from jaxdenoise.microscope.psf import in_plane, trimmed
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.settings import shape_of
from jaxdenoise.prediction import tiling
from jaxdenoise.prediction.tiles import denoise as denoise_stack
from jaxdenoise.report.findings import FINE, STOP
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.report.verdict import Verdict, in_a_line
from jaxdenoise.runs.layout import read_config
from jaxdenoise.runs.models import those_in
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows import training as training_
from jaxdenoise.workflows.applying import Applied, Job, Targets, apply, job_of
from jaxdenoise.workflows.making import Maker
from jaxdenoise.workflows.movies import axis_of, for_movies
from jaxdenoise.workflows.partition import check_sizes, parts_alone, parts_by_model
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.psfs import is_volume, mixes_planes, psfs_for
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.reports import Denoised, report_path, write_file_report
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.resuming import check_run_folder
from jaxdenoise.workflows.stacks import check_data
from jaxdenoise.workflows.training import Trained


class Judged(NamedTuple):
    """The verdict on a channel of a file, or on a file without channels.

    Attributes:
        path: of the input.
        channel: its number; None of a file without channels.
        verdict: on what is in the file.
        line_noise: a line for each kind of line noise that was taken out.
    """

    path: str
    channel: int | None
    verdict: GuardVerdict
    line_noise: tuple[str, ...]


@dataclass(frozen=True)
class DenoiseResult:
    """What `denoise` has made; keys of models and reports are "", or "channel-0", ...

    Attributes:
        outputs: "denoised", "deconvolved", and with several models "disagreement" and
            "random_start", to the files that were written, one an input.
        models: the models that denoised, and the choice among PSFs; where each image has a scale of
            its own, those of the first file.
        reports: the reports on the first file that each model denoised; None where there is none.
        verdicts: one a file and channel, in order.
    """

    outputs: dict[str, list[Path]]
    models: dict[str, Trained]
    reports: dict[str, Path | None]
    verdicts: list[Judged]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the files by kind, and a list of one entry a model."""
        return {
            "outputs": {name: list(map(str, paths)) for name, paths in self.outputs.items()},
            "models": [
                {
                    "channel": name or None,
                    "report": None if self.reports[name] is None else str(self.reports[name]),
                    "choice": trained.choice,
                    "evidence": list(trained.evidence),
                }
                for name, trained in self.models.items()
            ],
            "verdicts": [
                {"file": one.path, "channel": one.channel, "line_noise": list(one.line_noise)}
                | one.verdict.to_dict()
                for one in self.verdicts
            ],
        }


class _File(NamedTuple):
    """A file that is denoised: its parts and what makes their models, by model; what is written."""

    makers: Mapping[str, Maker]
    parts: Mapping[str, Part]
    targets: Targets


class _Plan(NamedTuple):
    """What is done, after all checks, and with which request: movies are told from other files."""

    request: DenoiseRequest
    outputs: dict[str, list[Path]]
    parts: dict[str, list[Part]]
    reports: list[Path | None]


def denoise(request: DenoiseRequest, reporter: Reporter = SILENT) -> DenoiseResult:
    """Train on the files, or take models that are there, and write the denoised files.

    Args:
        request: what is asked for.
        reporter: hears of the progress; it may stop a training after an epoch.

    Raises:
        Cancelled: the reporter asked to stop.
        JaxdenoiseError, ValueError: the request does not hold, or the images cannot be trained on;
            said before anything is written.
    """
    plan = _checked(request)
    request = plan.request
    check_data([part for parts in plan.parts.values() for part in parts])
    current_crew().barrier()  # all have checked before the first writes
    makers = {name: Maker(request, name, parts, reporter) for name, parts in plan.parts.items()}
    if request.channels == "auto" and len(makers) > 1 and not (request.instant or request.model):
        reporter.say(f"channels: {len(makers)}, a network of its own for each")
    models: dict[str, Trained] = {}
    verdicts: list[Judged] = []
    reports: dict[str, Path | None] = dict.fromkeys(plan.parts)
    pages: dict[str, Path | None] = {}
    whole: dict[str, Verdict | None] = {}
    for number in range(len(request.inputs)):
        own = {
            name: part
            for name, parts in plan.parts.items()
            for part in parts
            if part.number == number
        }
        targets = {name: paths[number] for name, paths in plan.outputs.items()}
        file = _File({name: makers[name] for name in own}, own, targets)
        began = time.perf_counter()
        trained, applied = _denoise_file(request, file, reporter)
        shown: dict[str, Denoised] = {}
        for (name, part), results, verdict in zip(
            own.items(), applied.results, applied.verdicts, strict=True
        ):
            verdicts.append(Judged(str(part.path), part.channel, verdict, part.line_evidence))
            if part.ordinary:
                models.setdefault(name, trained[name])
                lines = (*part.line_evidence, *trained[name].evidence)
                own_models = makers[name].job(part), results, verdict, trained[name].choice
                shown[name] = Denoised(*own_models, lines)
        path, page = str(request.inputs[number]), plan.reports[number] if shown else None
        told = page, list(shown.values()), targets, reporter
        whole[path], pages[path] = write_file_report(request, *told, began=began), page
        reports |= {name: page for name in shown if reports[name] is None}
    _say_verdicts(verdicts, pages, whole, reporter)
    return DenoiseResult(plan.outputs, models, reports, verdicts)


def _denoise_file(
    request: DenoiseRequest, file: _File, reporter: Reporter
) -> tuple[dict[str, Trained], Applied]:
    """Denoise a file; if that fails and choices were automatic, denoise it again without them."""
    makers, parts, _ = file
    for part in parts.values():
        part.tell(reporter)
    applied = _apply(request, file, reporter, give_up=True)
    if not applied.written:
        for (name, part), verdict in zip(parts.items(), applied.verdicts, strict=True):
            if verdict.level == STOP and makers[name].has_chosen(part):
                reporter.say(
                    f"{part.path}: {verdict.text}: again without automatic choices (stride 1, no "
                    "hidden neighbours, targets of the image's own)"
                )
                makers[name].take_harmless(part)
        applied = _apply(request, file, reporter, give_up=False)
    return {name: makers[name].trained(part) for name, part in parts.items()}, applied


def _apply(request: DenoiseRequest, file: _File, reporter: Reporter, *, give_up: bool) -> Applied:
    makers, parts, targets = file
    jobs = [makers[name].job(part) for name, part in parts.items()]
    random = None
    if "random_start" in targets:
        starts = [makers[name].trained(part).models.random_start for name, part in parts.items()]
        random = [
            Job(part, []) if start is None else job_of(part, [start])
            for part, start in zip(parts.values(), starts, strict=True)
        ]
    doubtful = [give_up and makers[name].has_chosen(part) for name, part in parts.items()]
    return apply(request, jobs, targets, reporter, random=random, doubtful=doubtful)


def _say_verdicts(
    verdicts: Sequence[Judged],
    pages: Mapping[str, Path | None],
    whole: Mapping[str, Verdict | None],
    reporter: Reporter,
) -> None:
    """The last lines: that nothing was found, or as warnings what not to rely on.

    Where a report found more than the guard alone, that is said too.
    """
    worst = max((one.verdict.level for one in verdicts), default=FINE)
    more = {path: one for path, one in whole.items() if one is not None and one.level > FINE}
    if worst == FINE and not more:
        reporter.say("verdict: no problems found")
        return
    several = len({one.path for one in verdicts}) > 1
    for path, verdict in more.items():
        own = [one.verdict.level for one in verdicts if one.path == path]
        if verdict.level > max(own, default=FINE):
            name = f"{path}: " if several else ""
            reporter.insist(f"verdict: {name}{in_a_line(verdict)}; see {pages[path]}")
    for one in verdicts:
        if one.verdict.level > FINE:
            name = f"{one.path}: " if several else ""
            page = pages.get(one.path)
            see = f"; see {page}" if page is not None else ""
            reporter.insist(f"verdict: {name}{one.verdict.text}{see}")


def _checked(request):
    """The `_Plan` of a request; raises what can be known before the work."""
    run_.check_devices(request.devices)
    options = {"form": request.format, "overwrite": request.overwrite}
    outputs = {
        name: images.output_paths(request.inputs, request.output, name, **options)
        for name in training_.outputs(_names(request))
    }
    files = images.open_many(request.inputs, axes=request.axes)
    if not request.model:
        check_sizes(request.inputs, files)
    if current_crew().count > 1 and any(path.suffix != ".zarr" for path in outputs["denoised"]):
        raise RequestError(
            'several processes write one image together as OME-Zarr only: say format="zarr"'
        )
    # With "auto", any file may become float32.
    least = {"float32": 4, "auto": 4}.get(request.dtype, 0)
    sizes = [0 if request.dtype == "float32" else file.info.dtype.itemsize for file in files]
    stored = sum(
        file.frames.size * max(least, size) for file, size in zip(files, sizes, strict=True)
    )
    images.check_space(request.output, len(outputs) * stored)
    training = request.training
    if not (request.instant or request.model):
        training = for_movies(training, files, request.along)
        request = replace(request, training=training)
    network = _network(request)
    planes = _mixes_planes(request, files)
    if planes and current_crew().count > 1:
        raise RequestError("a PSF that mixes planes needs all of them: run a single process")
    by_model = (
        parts_alone(request.inputs, files, line_noise=request.line_noise)
        if request.instant
        else parts_by_model(
            request.inputs,
            files,
            channels=_channels(request),
            reach=network.neighbours,
            along=axis_of(network, request.along),
            line_noise=request.line_noise,
            planes=planes,
        )
    )
    reports = [
        report_path(
            path.with_name(f"{path.name.rsplit('denoised', 1)[0]}report.html"),
            wanted=request.report,
            overwrite=request.overwrite,
        )
        for path in outputs["denoised"]
    ]
    if request.save_model:
        for name in by_model:
            check_run_folder(Path(request.save_model) / name, overwrite=request.overwrite)
    if not (request.model or request.instant) and request.tile_size is not None:
        _check_tiles(request, files)
    return _Plan(request, outputs, by_model, reports)


def _channels(request):
    """Of a model that is there, what it was trained for."""
    if request.channels == "auto" and request.model:
        return "separate" if (Path(request.model) / "channel-0").is_dir() else "together"
    return request.channels


def _names(request):
    """Of the models that denoise, before there are any."""
    if request.instant:
        return [""]
    if request.model:
        return those_in(request.model) or those_in(Path(request.model) / "channel-0")
    return list(training_.wanted(request.training))


def _network(request):
    """The shape of the network that is trained or loaded."""
    config = _config(request)[0] if request.model else request.training.config()
    return config.network


def _mixes_planes(request, files):
    """Whether the PSF mixes planes; then the network's frames stand in rows along Z."""
    if request.instant:
        return False
    if not request.model:
        return mixes_planes(request.training, files)
    mixed = len(_config(request)[1]["psf_shape"]) == 3
    for path, file in zip(request.inputs, files, strict=True):
        if mixed and not is_volume(file):
            raise RequestError(
                f"{path}: the model's PSF mixes planes: it denoises stacks along Z alone"
            )
    return mixed


def _config(request):
    """The settings of a model that is there, and all that its run folder says."""
    channel = Path(request.model) / "channel-0"
    own = [channel / name for name in those_in(channel)]
    return read_config(own[0] if own else request.model)


def _check_tiles(request, files):
    """A wrong size must not be noticed after minutes of training."""
    psfs = psfs_for(request.training, request.inputs, files)
    network = shape_of(request.training.config().network)
    widest = max(psfs.values(), key=len)
    psf = in_plane(trimmed(widest))
    tiling.core_size(files[0].frames.shape[1:], request.tile_size, network, psf)


def denoised(denoiser: Denoiser, part: Part) -> Float32[np.ndarray, "N H W"]:
    """Return all frames of a part denoised, in the file's order."""
    frames = part.frames
    stack = np.stack([frames.marked((n, slice(None), slice(None))) for n in range(len(frames))])
    rows = stack.reshape(-1, frames.row, *frames.shape[1:])
    result = np.asarray(denoise_stack(denoiser.for_exposure(part.exposure), rows).denoised)
    return result.reshape(frames.shape)[np.argsort(frames.numbers)]
