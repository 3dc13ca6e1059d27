"""One model for each PSF and seed, kept and judged. Host side."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Real

from jaxdenoise.io import images
from jaxdenoise.runs.layout import locked, write_text
from jaxdenoise.runs.models import save
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training.sweep import Sweep
from jaxdenoise.workflows import evaluation
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows.denoising import denoised
from jaxdenoise.workflows.inputs import images_of
from jaxdenoise.workflows.partition import channels_of, check_sizes, parts_by_model
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.psfs import fitted, psfs_of
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.reports import report_path, write_report
from jaxdenoise.workflows.requests import SweepRequest
from jaxdenoise.workflows.resuming import notes_of, pixels_digest
from jaxdenoise.workflows.stacks import check_data, stack_of


class Swept(NamedTuple):
    """What `sweep` has found for a channel, or for all together.

    Attributes:
        table: "chosen", the PSF; "candidates", a row a model: "psf", "seed", "score", "score_se"
            (None where a single patch was scored), "psnr", "seconds", "epochs", and "run" of those
            that were trained to the end; "noisy_psnr".
        found: the models, the index of the chosen PSF and its model.
        output: the folder that holds sweep.json with the table, the run folders and the report.
        report: the report; None if there is none.
    """

    table: dict[str, Any]
    found: Sweep
    output: Path
    report: Path | None


@dataclass(frozen=True)
class SweepResult:
    """What `sweep` has made.

    Attributes:
        channels: `Swept` by "", or by the names of the channels: "channel-0", ...
        output: the folder that holds all.
    """

    channels: dict[str, Swept]
    output: Path

    @property
    def table(self) -> dict[str, Any]:
        """Return the table of the first channel, which often is the only one."""
        return self._first.table

    @property
    def found(self) -> Sweep:
        """Return the models of the first channel."""
        return self._first.found

    @property
    def report(self) -> Path | None:
        """Return the report on the first channel."""
        return self._first.report

    @property
    def _first(self):
        return next(iter(self.channels.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the table, or one for each channel."""
        tables = {name: one.table for name, one in self.channels.items()}
        return tables[""] if list(tables) == [""] else {"channels": tables}


class _Channel(NamedTuple):
    """What is swept at once."""

    output: Path
    report: Path | None
    parts: Sequence[Part]
    judge: "_Judge"
    noisy_psnr: float | None


def sweep(request: SweepRequest, reporter: Reporter = SILENT) -> SweepResult:
    """Train one model for each PSF and seed, keep them, and choose among the PSFs.

    Args:
        request: what is asked for.
        reporter: hears of the progress; it may stop the training after an epoch.

    Raises:
        Cancelled: the reporter asked to stop; of the channel that was being swept nothing was kept.
        JaxdenoiseError, ValueError: the request does not hold, or the images cannot be trained on;
            said before anything is written.
    """
    run_.check_devices(request.devices)
    output = Path(request.output)
    request = replace(request, inputs=images_of(request, reporter))
    images.check_directory(output)
    files = images.open_many(request.inputs, axes=request.axes)
    check_sizes(request.inputs, files)
    psfs = psfs_of(*(request.psfs or ("auto",)), files=files, reporter=reporter, volumes=False)
    psfs = fitted(psfs, request.inputs, files, some=request.psfs is None)
    channels = _channels(request, files)
    for one in channels.values():
        check_data(one.parts)
    current_crew().barrier()  # all have checked before the first writes
    swept = {name: _sweep(request, one, psfs, reporter) for name, one in channels.items()}
    return SweepResult(swept, output)


def _channels(request, files):
    """What is swept for each channel, or for all together, checked before the training."""
    parts = parts_by_model(
        request.inputs,
        files,
        channels=request.channels,
        reach=request.training.config().network.neighbours,
        along=request.along,
        line_noise=request.line_noise,
    )
    found = {}
    for number, (name, own) in enumerate(parts.items()):
        output = Path(request.output) / name
        report = _checked_paths(request, output)
        judge = _Judge(request, number if name else None)
        noisy = [
            channels_of(path, file)[number] if name else file
            for path, file in zip(request.inputs, files, strict=True)
        ]
        psnr = judge(np.asarray(file.frames) for file in noisy)
        found[name] = _Channel(output, report, own, judge, psnr)
    return found


def _sweep(request, channel, psfs, reporter):
    """Sweep one channel, or all together."""
    output, report, parts, judge, noisy_psnr = channel
    seed, reach = request.training.seed, request.training.config().network.neighbours
    with locked(output):
        for part in parts:
            part.tell(reporter)
        stack = stack_of(parts, seed=seed, reach=reach, reporter=reporter)
        found = run_.sweep_models(
            request.training,
            stack,
            psfs,
            reporter,
            seeds=request.seeds,
            halving=request.halving,
            devices=request.devices,
        )
        table = run_.choice_table(found.models, list(psfs), found.chosen, seed=seed)
        table |= {"noisy_psnr": noisy_psnr}
        _keep_models(request, psfs, found, table, stack.frames, channel)
        write_text(output / "sweep.json", json.dumps(table, indent=2) + "\n")
        shown: dict[str, Any] = {
            "sweep": table,
            "truth": judge.truth,
            "evidence": parts[0].line_evidence,
        }
        write_report(request, report, parts[0], [found.denoiser], reporter, **shown)
    return Swept(table, found, output, report)


def _checked_paths(request, output):
    file = output / "sweep.json"
    if file.exists() and not request.overwrite:
        raise RequestError(
            f"{file}: the file exists; overwrite=True replaces it, or name another folder"
        )
    return report_path(output / "report.html", wanted=request.report, overwrite=request.overwrite)


class _Judge:
    """The mean PSNR of stacks against the reference; None without one."""

    def __init__(self, request: SweepRequest, channel: int | None) -> None:
        self._inputs: Sequence[str | Path] = request.inputs
        self._reference = None
        if request.reference:
            path, axes = request.reference, request.axes
            self._reference = evaluation.read_reference(path, axes=axes, channel=channel)

    @property
    def truth(self) -> np.ndarray | None:
        return None if self._reference is None else self._reference.frames

    def __call__(self, stacks: Iterable[np.ndarray]) -> float | None:
        if self._reference is None:
            return None
        scores = [
            evaluation.compare(self._reference, frames, name=path)
            for path, frames in zip(self._inputs, stacks, strict=True)
        ]
        return evaluation.mean(scores)["psnr"]


def _keep_models(
    request: SweepRequest,
    psfs: Collection[str],
    found: Sweep,
    table: dict[str, Any],
    stack: Real[np.ndarray, "*frames H W"],
    channel: _Channel,
) -> None:
    """Save the models that were trained to the end, and add their folder and PSNR to the table."""
    output, labels = channel.output, _labels(psfs)
    notes = notes_of(request.training, request.inputs, pixels_digest(stack))
    for model, row in zip(found.models, table["candidates"], strict=True):
        if model.epochs < found.denoiser.config.epochs:  # dropped on the way
            continue
        run = output / f"psf-{labels[model.psf_index]}-seed-{row['seed']}"
        own = {"psf": row["psf"], "seed": row["seed"]}
        save(run, model.denoiser, notes=notes | own, overwrite=True)
        row["run"] = str(run)
        row["psnr"] = channel.judge(denoised(model.denoiser, part) for part in channel.parts)


def _labels(psfs: Iterable[str]) -> list[str]:
    """A name of its own for each PSF: sigma, or the file's stem; unlike even without case."""
    taken: dict[str, str] = {}
    for psf in psfs:
        try:
            stem = "0" if psf == "none" else f"{float(psf):g}"
        except ValueError:
            stem = Path(psf).stem
        label, number = stem, 1
        while label.casefold() in taken:
            number += 1
            label = f"{stem}-{number}"
        taken[label.casefold()] = label
    return list(taken.values())
