"""Make the models that denoise the parts of files. Host side."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.settings import Settings
from jaxdenoise.runs.layout import locked
from jaxdenoise.runs.models import Models, load_all
from jaxdenoise.workflows.applying import Group, Job, job_of
from jaxdenoise.workflows.instant import instant_model
from jaxdenoise.workflows.movies import axis_seen, run_of
from jaxdenoise.workflows.parts import Part
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.settings import Training
from jaxdenoise.workflows.stacks import stack_of
from jaxdenoise.workflows.training import Trained, train_members

_MEASURED = 2**23  # pixels by which the shipped network is fitted to images, at most


class Maker:
    """Makes the models of one name: loaded, trained, or the shipped network for each part."""

    def __init__(
        self, request: DenoiseRequest, name: str, parts: Sequence[Part], reporter: Reporter
    ) -> None:
        self._request, self._name, self._parts, self._reporter = request, name, parts, reporter
        self._training = request.training
        self._trained: Trained | None = None
        self._fallen: set[str] = set()  # files that are denoised without automatic choices
        self._harmless: Trained | None = None
        self._instant: dict[str, tuple[Trained, Job]] = {}

    def trained(self, part: Part) -> Trained:
        """Return the models for a part, made when they are first wanted."""
        if self._request.instant:
            return self._of_instant(part)[0]
        if not part.ordinary:
            return Trained(Models((), None), None)
        if str(part.path) in self._fallen:
            if self._harmless is None:
                self._harmless = self._train(self._without_choices())
            return self._harmless
        if self._trained is None:
            self._trained = self._load() if self._request.model else self._train(self._training)
        return self._trained

    def job(self, part: Part) -> Job:
        """Return which models denoise which frames of a part."""
        if not part.ordinary:
            return Job(part, [])
        if self._request.instant:
            return self._of_instant(part)[1]
        return job_of(part, self.trained(part).models.members)

    def has_chosen(self, part: Part) -> bool:
        """Return whether a choice that was left to the images is not the harmless one."""
        if self._request.model:
            return False
        asked = self._training.config()
        settings = [model.config for group in self.job(part).groups for model in group.denoisers]
        return any(_has_chosen(asked, one) for one in settings)

    def take_harmless(self, part: Part) -> None:
        """Make the models of a part's file anew, with the harmless value for each choice.

        Other files keep theirs: what they look like must not depend on this one.
        """
        self._fallen.add(str(part.path))
        self._instant.pop(str(part.path), None)

    def _without_choices(self) -> Training:
        asked, changes = self._training.config(), dict[str, Any]()
        if asked.network.stride == "auto":
            changes["stride"] = 1
        network = asked.network
        if network.guided or network.planes or self._training.neighbours is None:
            changes |= {"neighbours": 0, "guided": None, "planes": None}
        if not self._request.instant:
            changes |= {"blind": (0, 0)} if asked.blind == "auto" else {}
            changes |= {"targets": "own"} if asked.targets == "auto" else {}
        return replace(self._training, **changes)

    def _of_instant(self, part: Part) -> tuple[Trained, Job]:
        path = str(part.path)
        if path not in self._instant:
            training = self._without_choices() if path in self._fallen else self._training
            self._instant[path] = _instant(self._request, training, part, self._reporter)
        return self._instant[path]

    def _load(self) -> Trained:
        run = Path(self._request.model or "")
        folder = run / self._name if (run / self._name).is_dir() else run
        return Trained(load_all(folder, weights=self._training.weights), None)

    def _train(self, training: Training) -> Trained:
        train = partial(
            train_members,
            training,
            self._request.inputs,
            self._parts,
            self._reporter,
            devices=self._request.devices,
        )
        # The run folder keeps the models that were asked for.
        if not self._request.save_model or training is not self._training:
            return train()
        run = Path(self._request.save_model) / self._name
        with locked(run):
            return train(run=run)


def _has_chosen(asked: TrainConfig, settings: Settings) -> bool:
    return (
        (asked.network.stride == "auto" and settings.network.stride > 1)
        or settings.network.guided
        or settings.network.planes
        or (asked.blind == "auto" and any(settings.blind))
        or (asked.targets == "auto" and settings.targets == "repeats")
    )


def _gist(line: str) -> str:
    """A line without its numbers: groups of frames often differ in no more."""
    return re.sub(r"[0-9.]+", "", line)


def _instant(
    request: DenoiseRequest, training: Training, part: Part, reporter: Reporter
) -> tuple[Trained, Job]:
    """The shipped networks, fitted to each group of a part's frames as if it were alone.

    A volume is one group if other planes help: its planes differ in brightness, but they are seen
    together.
    """
    groups: list[Group] = []
    evidence: list[str] = []
    noise, config = request.noise, training.config()
    axis = axis_seen(part.file) if training.neighbours is None else None

    def try_on(some, row):
        options: dict[str, Any] = {"seed": training.seed, "reach": 0, "reporter": SILENT}
        stack = stack_of([some], pixels=_MEASURED, **options)
        planes = axis == "Z"
        model, lines = instant_model(stack, noise=noise, config=config, row=row, planes=planes)
        evidence.extend(line for line in lines if _gist(line) not in map(_gist, evidence))
        return model

    if axis == "Z":
        everything = range(len(part.frames))
        model = try_on(part, run_of(part, everything))
        if model.config.network.planes:
            groups.append(Group([model], everything))
    for numbers in [] if groups else part.groups():
        row = run_of(part, numbers) if axis == "T" else None
        groups.append(Group([try_on(part.of_frames(numbers), row)], numbers))
    channel = "" if part.channel is None else f"channel {part.channel_label}: "
    file = f"{part.path}: " if len(request.inputs) > 1 else ""
    for line in evidence:
        reporter.say(f"{file}{channel}{line}")
    members = tuple(model for group in groups[:1] for model in group.denoisers)
    return Trained(Models(members, None), None, tuple(evidence)), Job(part, groups)
