"""Train and keep the models that one denoising takes. Host side.

RUN/               the first member, a run folder of its own
RUN/member-N/      the others, from 2 on, each with the next seed
RUN/random-start/  the first member from random weights, where it began from pretrained ones
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxdenoise.io import images
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.runs import models as models_
from jaxdenoise.runs.layout import has_model, locked, read_config
from jaxdenoise.runs.models import RANDOM_START, Models, grouped, remove_others, save
from jaxdenoise.system.crew import current_crew
from jaxdenoise.training.problem import DEEPEST
from jaxdenoise.workflows import run as run_
from jaxdenoise.workflows.inputs import images_of
from jaxdenoise.workflows.instant import together_if_better
from jaxdenoise.workflows.movies import axis_of, for_movies
from jaxdenoise.workflows.partition import check_sizes, parts_by_model
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.psfs import known_psf, mixes_planes, psfs_for, psfs_of
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.reports import report_path, write_report
from jaxdenoise.workflows.requests import TrainRequest
from jaxdenoise.workflows.resuming import (
    check_run_folder,
    choice_in,
    notes_of,
    pixels_digest,
    resumed,
)
from jaxdenoise.workflows.run import Psfs, States
from jaxdenoise.workflows.settings import Number, Training
from jaxdenoise.workflows.stacks import TrainingStack, check_data, stack_of


class Trained(NamedTuple):
    """Models of one set of frames.

    Attributes:
        models: members and, beside pretrained ones, the model from random weights.
        choice: `run.choice_table` of a choice among PSFs; None if there was none.
        evidence: a line for each choice that was made for the images; none of models that were
            loaded.
    """

    models: Models
    choice: dict[str, Any] | None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainResult:
    """What `train` has made; the keys are "", or those of the channels: "channel-0", ...

    Attributes:
        runs: the run folders.
        trained: the models and the choice among PSFs; None of a training that was complete
            before, which `runs.models.load_all` reads.
        reports: the reports; None where there is none.
    """

    runs: dict[str, Path]
    trained: dict[str, Trained | None]
    reports: dict[str, Path | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: a list of one entry a run folder."""
        return {
            "runs": [
                {
                    "run": str(run),
                    "complete_before": self.trained[name] is None,
                    "report": _text(self.reports[name]),
                    "choice": _choice(self.trained[name]),
                }
                for name, run in self.runs.items()
            ]
        }


def _text(path):
    return None if path is None else str(path)


def _choice(trained):
    return None if trained is None else trained.choice


class _Member(NamedTuple):
    """All that the training of one model takes."""

    training: Training
    inputs: Sequence[str | Path]
    stack: TrainingStack
    digest: str
    psfs: Psfs
    devices: int | None


class Keep(NamedTuple):
    """How a training keeps states to resume from, beside its model.

    Attributes:
        every: seconds between two states.
        resume: go on from the last one.
    """

    every: Number
    resume: bool


def train(request: TrainRequest, reporter: Reporter = SILENT) -> TrainResult:
    """Train on the files and keep the models in run folders.

    Args:
        request: what is asked for.
        reporter: hears of the progress; it may stop the training after an epoch.

    Raises:
        Cancelled: the reporter asked to stop; ``resume=True`` goes on.
        JaxdenoiseError, ValueError: the request does not hold, or the images cannot be trained on;
            said before an earlier run is cleared.
    """
    replaces = request.overwrite or request.resume
    output = Path(request.output)
    request = replace(request, inputs=images_of(request, reporter))
    run_.check_devices(request.devices)
    check_run_folder(output, overwrite=replaces, resumable=True)
    opened = images.open_many(request.inputs, axes=request.axes)
    training = for_movies(request.training, opened, request.along)
    request = replace(request, training=training)
    check_sizes(request.inputs, opened)
    mixed, network = mixes_planes(training, opened), training.config().network
    parts = parts_by_model(
        request.inputs,
        opened,
        channels=request.channels,
        reach=network.neighbours,
        along=axis_of(network, request.along),
        line_noise=request.line_noise,
        planes=mixed,
    )
    runs = {name: output / name for name in parts}
    reports = {
        name: report_path(run / "report.html", wanted=request.report, overwrite=replaces)
        for name, run in runs.items()
    }
    for run in runs.values():
        check_run_folder(run, overwrite=replaces, resumable=True)
    for own in parts.values():
        check_data(own)
    current_crew().barrier()  # all have checked before the first writes
    trained = {
        name: _train_into(request, run, parts[name], reports[name], reporter)
        for name, run in runs.items()
    }
    written = {name: path if trained[name] else None for name, path in reports.items()}
    return TrainResult(runs, trained, written)


def _train_into(request, run, parts, report, reporter):
    """Train or resume; `Trained`, or None if the training was complete."""
    with locked(run):
        for part in parts:
            part.tell(reporter)
        names = wanted(request.training)
        if request.resume and all(has_model(run / name) for name in names):
            return None
        keep = Keep(request.save_every, request.resume)
        options = {"devices": request.devices, "run": run, "keep": keep}
        trained = train_members(request.training, request.inputs, parts, reporter, **options)
        reporter.say(f"wrote {run}")
        evidence = (*parts[0].line_evidence, *trained.evidence)
        about: dict[str, Any] = {"sweep": trained.choice, "evidence": evidence}
        write_report(request, report, parts[0], trained.models.members, reporter, **about)
    return trained


def wanted(training: Training) -> dict[str, Training]:
    """Return the models that a training asks for: name of the folder to settings.

    The folders are in the run folder; the first one's name is "", the run folder itself.
    """
    found = {
        f"member-{number + 1}" if number else "": replace(training, seed=training.seed + number)
        for number in range(training.members)
    }
    if training.config().init == "pretrained":
        # Random weights take a longer training.
        preset = "fast" if training.preset == "best" else training.preset
        found[RANDOM_START] = replace(training, init="random", preset=preset)
    return found


def outputs(names: Iterable[str]) -> tuple[str, ...]:
    """Return the suffixes of the files that are written where these models denoise an image."""
    several, random = any(name.startswith("member-") for name in names), RANDOM_START in names
    return ("denoised", "deconvolved", *["disagreement"] * several, *["random_start"] * random)


def train_members(
    training: Training,
    inputs: Sequence[str | Path],
    parts: Sequence[Part],
    reporter: Reporter,
    *,
    devices: int | None = None,
    run: Path | None = None,
    keep: Keep | None = None,
) -> Trained:
    """Train all members on the files.

    Args:
        training: the settings of all of them.
        inputs: names of the files.
        parts: what is trained on.
        reporter: hears of the progress.
        devices: how many devices, see `run.training_devices`.
        run: the run folder that keeps the models; None to keep none.
        keep: keep states to resume from as well.

    Raises:
        Cancelled: the reporter asked to stop.
        ValueError: as `run.train_model`.
    """
    files = [part.file for part in parts]
    training, assumed = known_psf(training, parts[0], reporter)
    psfs, choice = psfs_for(training, inputs, files, reporter=reporter), None
    depth = _depth(psfs)
    reach = training.config().network.neighbours + depth
    guided = training.config().network.guided
    stack = stack_of(parts, seed=training.seed, reach=reach, reporter=reporter, movies=guided)
    said: tuple[str, ...] = ()
    if guided or training.planes:
        training, stack, said = together_if_better(training, stack, mixed=depth > 0)
        for line in said:
            reporter.say(line)
    digest = "" if run is None else pixels_digest(stack.frames)  # which only run folders keep
    models: dict[str, Denoiser] = {}
    evidence: tuple[str, ...] = ()
    for name, settings in wanted(training).items():
        own = replace(settings, members=1)
        if choice is not None:  # the PSF that was chosen is the others' too
            own = replace(own, psf=f"{choice['chosen']:g}")
            psfs = psfs_of(f"{choice['chosen']:g}")
        member = _Member(own, inputs, stack, digest, psfs, devices)
        tell = not models
        outcome = _train_member(member, run and run / name, reporter, keep, tell=tell)
        models[name] = outcome.denoiser
        choice, evidence = choice or outcome.choice, evidence or outcome.evidence
    if run is not None:
        remove_others(run, models)
    return Trained(grouped(models), choice, (*assumed, *evidence, *said))


def _depth(psfs):
    """How many planes on each side a PSF reaches; 0 if it is one of images."""
    return max((min(len(psf) // 2, DEEPEST) for psf in psfs.values() if psf.ndim == 3), default=0)


def _train_member(member, run, reporter, keep, *, tell):
    """The `run.Outcome` of a model, trained, resumed or loaded."""
    training, inputs, stack, digest, psfs, devices = member
    if keep and keep.resume and has_model(run):
        return run_.Outcome(models_.load(run), choice_in(run, read_config(run)[1]["notes"]), ())
    states = None
    if keep:
        states = States(run, notes_of(training, inputs, digest), keep.every)
        states = resumed(training, states) if keep.resume else states
    outcome = run_.train_model(
        training, stack, psfs, reporter, devices=devices, states=states, tell=tell
    )
    choice = outcome.choice
    if choice is not None:
        reporter.say(
            f"PSF: sigma {choice['chosen']:g} pixels, the widest whose error is within one "
            "standard error of the lowest"
        )
    if run is not None:
        notes = notes_of(training, inputs, digest, choice)
        save(run, outcome.denoiser, notes=notes, overwrite=True)
    return outcome
