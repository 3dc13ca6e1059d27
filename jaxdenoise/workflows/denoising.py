"""Denoise files: from models and opened images to what is written. Host side."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32

from jaxdenoise.io import images, omezarr
from jaxdenoise.io.frames import Frames
from jaxdenoise.io.images import ImageFile
from jaxdenoise.microscope.psf import trimmed
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.network.settings import shape_of
from jaxdenoise.prediction import ensemble, tiling
from jaxdenoise.prediction.tiles import Denoised
from jaxdenoise.prediction.tiles import denoise as denoise_stack
from jaxdenoise.runs.layout import locked, read_config
from jaxdenoise.runs.models import Models, load_all, those_in
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows import training as training_
from jaxdenoise.workflows.psfs import psfs_for
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.reports import report_path, write_report
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.resuming import check_run_folder
from jaxdenoise.workflows.stacks import check_sizes, files_by_model, stack_of
from jaxdenoise.workflows.training import Trained, train_members

# Pixels of a file whose results are kept for the report; of a larger one the report denoises its
# examples again.
_KEPT = 2**23
_APART = 0.5  # of the noise: results of other weights that differ by more deserve a warning

Targets = Mapping[str, Path]


@dataclass(frozen=True)
class DenoiseResult:
    """What `denoise` has made; keys of models and reports are "", or "channel-0", ...

    Attributes:
        outputs: "denoised", "deconvolved", and with several models "disagreement" and
            "random_start", to the files that were written, one an input.
        models: the models that denoised, and the choice among PSFs.
        reports: the reports; None where there is none.
    """

    outputs: dict[str, list[Path]]
    models: dict[str, Trained]
    reports: dict[str, Path | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the files by kind, and a list of one entry a model."""
        return {
            "outputs": {name: list(map(str, paths)) for name, paths in self.outputs.items()},
            "models": [
                {
                    "channel": name or None,
                    "report": None if self.reports[name] is None else str(self.reports[name]),
                    "choice": trained.choice,
                }
                for name, trained in self.models.items()
            ],
        }


class _Plan(NamedTuple):
    """What is done, after all checks."""

    outputs: dict[str, list[Path]]
    files: dict[str, list[ImageFile]]
    reports: dict[str, Path | None]


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
    current_crew().barrier()  # all have checked before the first writes
    models = {name: _models(request, name, own, reporter) for name, own in plan.files.items()}
    random = plan.outputs.get("random_start", [])
    first = None
    for number, parts in enumerate(zip(*plan.files.values(), strict=True)):
        targets = {
            name: paths[number] for name, paths in plan.outputs.items() if name != "random_start"
        }
        keep = bool(random) or (request.report and first is None)
        members = [trained.models.members for trained in models.values()]
        found = denoise_file(request, members, parts, targets, reporter, keep=keep)
        first = first or found
        if random:
            beside, target = _random_starts(models), {"denoised": random[number]}
            others = denoise_file(request, beside, parts, target, reporter, keep=True)
            compare_with_random(parts, found, others, reporter)
    for (name, files), results in zip(plan.files.items(), first or [], strict=True):
        members, choice = models[name].models.members, models[name].choice
        path = plan.reports[name]
        write_report(request, path, files, members, reporter, results=results, sweep=choice)
    return DenoiseResult(plan.outputs, models, plan.reports)


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
    stored = (
        file.frames.size * (4 if request.dtype == "float32" else file.info.dtype.itemsize)
        for file in files
    )
    images.check_space(request.output, len(outputs) * sum(stored))
    separate = request.channels == "separate"
    by_model = files_by_model(
        request.inputs, files, separate=separate, reach=_reach(request), along=request.along
    )
    stem = outputs["denoised"][0].name.rsplit("denoised", 1)[0]
    reports = {
        name: report_path(
            Path(request.output) / f"{stem}{name}{'_' if name else ''}report.html",
            wanted=request.report,
            overwrite=request.overwrite,
        )
        for name in by_model
    }
    if request.save_model:
        for name in by_model:
            check_run_folder(Path(request.save_model) / name, overwrite=request.overwrite)
    if not (request.model or request.instant) and request.tile_size is not None:
        _check_tiles(request, files)
    return _Plan(outputs, by_model, reports)


def _names(request):
    """Of the models that denoise, before there are any."""
    if request.instant:
        return [""]
    if request.model:
        return those_in(request.model) or those_in(Path(request.model) / "channel-0")
    return list(training_.wanted(request.training))


def _reach(request):
    """How many neighbours on each side the network sees."""
    if request.instant:
        return 0
    if not request.model:
        return request.training.config().network.neighbours
    channel = Path(request.model) / "channel-0"
    own = [channel / name for name in those_in(channel)]
    return read_config(own[0] if own else request.model)[0].network.neighbours


def _check_tiles(request, files):
    """A wrong size must not be noticed after minutes of training."""
    psfs = psfs_for(request.training, request.inputs, files)
    network = shape_of(request.training.config().network)
    widest = max(psfs.values(), key=len)
    tiling.core_size(files[0].frames.shape[1:], request.tile_size, network, trimmed(widest))


def _models(request, name, files, reporter):
    """`Trained` for the files of a channel: loaded, or trained."""
    training = request.training
    if request.instant:
        stack = stack_of(files, seed=training.seed, reach=0, reporter=reporter)
        model = run_.instant_model(stack, noise=request.noise, config=training.config())
        return Trained(Models((model,), None), None)
    if request.model:
        own = Path(request.model) / name
        folder = own if own.is_dir() else request.model
        return Trained(load_all(folder, weights=training.weights), None)
    train = partial(
        train_members, training, request.inputs, files, reporter, devices=request.devices
    )
    if not request.save_model:
        return train()
    run = Path(request.save_model) / name
    with locked(run):
        return train(run=run)


def _random_starts(models):
    return [[trained.models.random_start] for trained in models.values()]


def denoise_file(
    request: DenoiseRequest,
    ensembles: Sequence[Sequence[Denoiser]],
    parts: Sequence[ImageFile],
    targets: Targets,
    reporter: Reporter,
    *,
    keep: bool,
) -> list[Denoised | None]:
    """Denoise a file tile by tile into others, ``targets``, which appear when they are whole.

    Args:
        request: for dtype, size of the tiles, devices and overwriting.
        ensembles: the models, one list a part.
        parts: the frames of the file that each of them denoises.
        targets: field of `ensemble.Combined` to the path of these images.
        reporter: hears of the progress.
        keep: whether the results are wanted.

    Returns:
        Results of the parts, or None where they are not wanted or too large to be kept, or where
        each of several processes denoises its share of the file.
    """
    dtype = None if request.dtype in ("auto", "same") else request.dtype
    crew = current_crew()
    share = tiling.Share(crew.index, crew.count, square=omezarr.CHUNK) if crew.count > 1 else None
    keep = keep and share is None  # of several processes none has all
    kept = [
        _empty(part.frames.shape) if keep and part.frames.size <= _KEPT else None for part in parts
    ]
    # How far models disagree is mostly less than a grey level.
    dtypes = {name: "float32" if name == "disagreement" else dtype for name in targets}
    create = partial(images.create, info=parts[0].info, overwrite=request.overwrite, crew=crew)
    options = {
        "tile_size": request.tile_size,
        "share": share,
        "on_tile": reporter.predicting(next(iter(targets.values())).name),
        "devices": jax.local_devices()[: request.devices],
    }
    with ExitStack() as opened:
        stores = {
            name: opened.enter_context(create(path, dtype=dtypes[name]))
            for name, path in targets.items()
        }
        for denoisers, part, own in zip(ensembles, parts, kept, strict=True):
            frames = part.frames
            options["sequence"] = frames.row
            for (n, rows, columns), results in ensemble.ensemble_tiles(
                denoisers, frames, **options
            ):
                for name, store in stores.items():
                    store[frames.numbers[n], rows, columns] = getattr(results, name)
                if own is not None:
                    own.denoised[n, rows, columns] = results.denoised
                    own.deconvolved[n, rows, columns] = results.deconvolved
    for path in targets.values():
        reporter.say(f"wrote {path}")
    return kept


def denoised(denoiser: Denoiser, frames: Frames) -> Float32[np.ndarray, "N H W"]:
    """Return all frames of a file denoised, in the file's order."""
    rows = np.asarray(frames).reshape(-1, frames.row, *frames.shape[1:])
    result = np.asarray(denoise_stack(denoiser, rows).denoised)
    return result.reshape(frames.shape)[np.argsort(frames.numbers)]


def compare_with_random(
    parts: Sequence[ImageFile],
    results: Sequence[Denoised | None],
    others: Sequence[Denoised | None],
    reporter: Reporter,
) -> None:
    """Say how far results from pretrained and from random weights differ, and warn if it is much.

    Args:
        parts: as in `denoise_file`.
        results: what it returned with pretrained weights.
        others: with random ones.
        reporter: takes the message.
    """
    for part, result, other in zip(parts, results, others, strict=True):
        if result is None or other is None:
            continue
        apart = ensemble.rms_difference_over_noise(
            result.denoised, other.denoised, np.asarray(part.frames)
        )
        reporter.say(
            f"from pretrained and from random weights: results differ by {apart:.0%} of the noise "
            "(root mean squares)"
        )
        if apart > _APART:
            warnings.warn(
                f"results from pretrained and from random weights differ by {apart:.0%} of the "
                "noise: compare denoised with random_start, and do not trust structure that only "
                "one of them shows",
                stacklevel=2,
            )


def _empty(shape):
    return Denoised(np.empty(shape, np.float32), np.empty(shape, np.float32))
