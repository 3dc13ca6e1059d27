"""Denoise a file: from models and an opened image to what is written. Host side."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxdenoise.config import TrainConfig
from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope.psf import in_plane, trimmed
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.settings import shape_of
from jaxdenoise.prediction import tiling
from jaxdenoise.prediction.tiles import denoise as denoise_stack
from jaxdenoise.report.findings import FINE, STOP
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
from jaxdenoise.workflows.results import DenoiseResult, Judged, say_verdicts
from jaxdenoise.workflows.resuming import check_run_folder
from jaxdenoise.workflows.stacks import check_data
from jaxdenoise.workflows.training import Trained


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
    report: Path | None


def denoise_file(
    request: DenoiseRequest,
    reporter: Reporter = SILENT,
    *,
    stem: str | None = None,
    shared: dict[str, Maker] | None = None,
    report_fine: bool = True,
    on_checked: Callable[[], object] | None = None,
) -> DenoiseResult:
    """Train on a file, or take models that are there, and write the denoised file.

    Args:
        request: what is asked for; its input is one file.
        reporter: hears of the progress; it may stop a training after an epoch.
        stem: with which the names of the results begin; None: the file's own.
        shared: what makes the models of each channel, for several files; those of a model that is
            there are added. None: the file is alone.
        report_fine: whether a file without a problem has a report, if reports are wanted.
        on_checked: called before the work, when all is checked.

    Raises:
        Cancelled: the reporter asked to stop.
        JaxdenoiseError, ValueError: the request does not hold, or the images cannot be trained on;
            said before anything is written.
    """
    plan = _checked(request, stem, shared)
    request = plan.request
    if on_checked is not None:
        on_checked()
    if shared is None:
        check_data([part for parts in plan.parts.values() for part in parts])
    current_crew().barrier()  # all have checked before the first writes
    makers = {} if shared is None else shared
    for name, parts in plan.parts.items():
        makers.setdefault(name, Maker(request, name, parts, reporter))
    trains = shared is None and not (request.instant or request.model)
    if trains and request.channels == "auto" and len(makers) > 1:
        reporter.say(f"channels: {len(makers)}, a network of its own for each")
    own = {name: part for name, (part,) in plan.parts.items()}
    targets = {name: paths[0] for name, paths in plan.outputs.items()}
    file = _File({name: makers[name] for name in own}, own, targets)
    began = time.perf_counter()
    trained, applied = _denoise_file(request, file, reporter)
    verdicts = [
        Judged(str(part.path), part.channel, verdict, part.line_evidence)
        for part, verdict in zip(own.values(), applied.verdicts, strict=True)
    ]
    models = {name: trained[name] for name, part in own.items() if part.ordinary}
    shown = _shown(file, models, applied)
    page = plan.report if shown and (report_fine or not _all_fine(verdicts)) else None
    whole = write_file_report(request, page, list(shown.values()), targets, reporter, began=began)
    reports = {name: page if name in shown else None for name in own}
    say_verdicts(verdicts, page, whole, reporter)
    return DenoiseResult(plan.outputs, models, reports, verdicts, whole=whole)


def _shown(file, models, applied):
    """What the report shows of each channel with frames that were denoised."""
    found = {}
    for (name, part), results, verdict in zip(
        file.parts.items(), applied.results, applied.verdicts, strict=True
    ):
        if name in models:
            lines = (*part.line_evidence, *models[name].evidence)
            job = file.makers[name].job(part)
            found[name] = Denoised(job, results, verdict, models[name].choice, lines)
    return found


def _all_fine(verdicts):
    return all(one.verdict.level == FINE for one in verdicts)


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


def _checked(request, stem, shared):
    """The `_Plan` of a request; raises what can be known before the work.

    Where models are shared, their settings are decided, and the file may hold nothing to learn.
    """
    run_.check_devices(request.devices)
    outputs = output_paths(request, request.inputs[0], request.output, stem)
    files = images.open_many(request.inputs, axes=request.axes)
    if not request.model:
        check_sizes(request.inputs, files)
    if current_crew().count > 1 and any(path.suffix != ".zarr" for path in outputs["denoised"]):
        raise RequestError(
            'several processes write one image together as OME-Zarr only: say format="zarr"'
        )
    images.check_space(request.output, len(outputs) * stored_size(request, files[0].info))
    trains = not (request.instant or request.model or shared)
    if trains:
        request = replace(request, training=for_movies(request.training, files, request.along))
    by_model = _parts(request, files, shared)
    (path,) = outputs["denoised"]
    report = report_path(
        path.with_name(f"{path.name.rsplit('denoised', 1)[0]}report.html"),
        wanted=request.report,
        overwrite=request.overwrite,
    )
    if trains and request.save_model:
        for name in by_model:
            check_run_folder(Path(request.save_model) / name, overwrite=request.overwrite)
    if trains and request.tile_size is not None:
        check_tiles(request, files)
    return _Plan(request, outputs, by_model, report)


def output_paths(
    request: DenoiseRequest, path: str, folder: str | Path, stem: str | None = None
) -> dict[str, list[Path]]:
    """Return the files that a file's results become: field of `ensemble.Combined` to one path.

    Raises:
        ImageError: as `images.output_paths`.
    """
    options: dict[str, Any] = {"form": request.format, "overwrite": request.overwrite}
    stems = None if stem is None else [stem]
    return {
        name: images.output_paths([path], folder, name, stems=stems, **options)
        for name in training_.outputs(model_names(request))
    }


def stored_size(request: DenoiseRequest, info: ImageInfo) -> int:
    """Return the most bytes that one result of a file takes."""
    # With "auto", any file may become float32.
    least = {"float32": 4, "auto": 4}.get(request.dtype, 0)
    own = 0 if request.dtype == "float32" else info.dtype.itemsize
    return math.prod(info.shape) * max(least, own)


def _parts(request, files, shared):
    """The parts of the file, by model."""
    if request.instant:
        return parts_alone(request.inputs, files, line_noise=request.line_noise)
    network, planes = _network(request), _mixes_planes(request, files)
    if planes and current_crew().count > 1:
        raise RequestError("a PSF that mixes planes needs all of them: run a single process")
    found = parts_by_model(
        request.inputs,
        files,
        channels=_channels(request),
        reach=network.neighbours,
        along=axis_of(network, request.along),
        line_noise=request.line_noise,
        planes=planes,
    )
    if shared and not request.model and not found.keys() <= shared.keys():
        raise RequestError(
            f"{request.inputs[0]}: has {len(found)} channels, what was trained on {len(shared)}; "
            'train_on="each" trains on each file by itself'
        )
    return found


def _channels(request):
    """Of a model that is there, what it was trained for."""
    if request.channels == "auto" and request.model:
        return "separate" if (Path(request.model) / "channel-0").is_dir() else "together"
    return request.channels


def model_names(request: DenoiseRequest) -> list[str]:
    """Return the names of the models that denoise, before there are any."""
    if request.instant:
        return [""]
    if request.model:
        return those_in(request.model) or those_in(Path(request.model) / "channel-0")
    return list(training_.wanted(request.training))


def _network(request):
    """The shape of the network that is trained or loaded."""
    config = model_config(request)[0] if request.model else request.training.config()
    return config.network


def _mixes_planes(request, files):
    """Whether the PSF mixes planes; then the network's frames stand in rows along Z."""
    if request.instant:
        return False
    if not request.model:
        return mixes_planes(request.training, files)
    mixed = len(model_config(request)[1]["psf_shape"]) == 3
    for path, file in zip(request.inputs, files, strict=True):
        if mixed and not is_volume(file):
            raise RequestError(
                f"{path}: the model's PSF mixes planes: it denoises stacks along Z alone"
            )
    return mixed


def model_config(request: DenoiseRequest) -> tuple[TrainConfig, dict[str, Any]]:
    """Return the settings of a model that is there, and all that its run folder says."""
    model = Path(request.model or "")
    channel = model / "channel-0"
    own = [channel / name for name in those_in(channel)]
    return read_config(own[0] if own else model)


def check_tiles(request: DenoiseRequest, files: Sequence[ImageFile]) -> None:
    """Raise a ValueError for a wrong size of tiles, not after minutes of training."""
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
