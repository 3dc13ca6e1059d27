"""Trainings as the workflows run them: progress, states kept on the way, cancellation. Host side.

The images are prepared once, before anything is written; the training takes that plan.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.runs.layout import clear, write_config
from jaxdenoise.runs.states import Saver, candidate_folder, write_scores
from jaxdenoise.system import meshes
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training import fit as fit_
from jaxdenoise.training.halving import HALVING, Schedule, epochs_in_all
from jaxdenoise.training.problem import Plan, prepare
from jaxdenoise.training.sweep import Model, Sweep, prepare_sweep, train_and_choose
from jaxdenoise.workflows.reporter import Cancelled, Reporter
from jaxdenoise.workflows.settings import Number, Training
from jaxdenoise.workflows.stacks import TrainingStack

Psfs = Mapping[str, Float[np.ndarray, "..."]]


class States(NamedTuple):
    """Where a training keeps the states to resume from.

    Attributes:
        run: the run folder.
        notes: JSON values for its config.json.
        every: seconds between two states.
        resumed: `fit.Snapshot` to go on from, or dict of the PSF's index to `sweep.Progress` where
            there are several PSFs; None to begin.
        choice: `choice_table` of a choice that was made before; None if there was none yet.
    """

    run: Path
    notes: dict[str, Any]
    every: Number
    resumed: Any = None
    choice: dict[str, Any] | None = None


class Outcome(NamedTuple):
    """A trained model.

    Attributes:
        denoiser: the model.
        choice: `choice_table` of a choice among PSFs; None if there was none.
        evidence: as of `problem.Plan`.
    """

    denoiser: Denoiser
    choice: dict[str, Any] | None
    evidence: tuple[str, ...]


def check_devices(count: int | None) -> None:
    """Raise a RequestError unless so many devices are there, and this is a single process."""
    if count is None:
        return
    if current_crew().count > 1:
        raise RequestError("devices=... is for a single process: of several, all devices take part")
    if count > jax.local_device_count():
        there = jax.local_device_count()
        raise RequestError(
            f"devices={count}: there are {there}; devices={there} or leaving it out takes all"
        )


def training_devices(
    count: int | None, *, batch_size: int, several: bool = False
) -> list[jax.Device]:
    """Return the devices that train: ``count`` of them, or all that can share a batch.

    Args:
        count: how many; None for the latter.
        batch_size: patches a step.
        several: whether several models are trained: then all take part, as with several processes.
    """
    here = jax.devices()
    if count is not None or several or current_crew().count > 1:
        return here[:count]
    return list(meshes.sharing(here, batch_size))


def fit_model(
    key: PRNGKeyArray,
    stack: Real[np.ndarray, "N H W"],
    *,
    psf: Real[Array | np.ndarray, "h w"],
    config: TrainConfig,
    reporter: Reporter,
) -> Denoiser:
    """Train one model on the default device; nothing is kept on the way."""
    stop = _after_epochs(None, None, reporter)
    with reporter.training(config) as on_epoch:

        def after_epoch(snapshot):
            on_epoch(snapshot.history[-1])
            stop({})

        return fit_.fit(key, stack, psf=psf, config=config, on_epoch=after_epoch)


def train_model(
    training: Training,
    stack: TrainingStack,
    psfs: Psfs,
    reporter: Reporter,
    *,
    devices: int | None = None,
    states: States | None = None,
    tell: bool = True,
) -> Outcome:
    """Train a model; of several PSFs one is chosen on the way.

    Args:
        training: the settings.
        stack: what is trained on.
        psfs: name to PSF: one, or several to choose from.
        reporter: hears of the progress.
        devices: how many devices, see `training_devices`.
        states: where to keep the states to resume from; None to keep none.
        tell: say what was chosen for the images, and why.

    Raises:
        Cancelled: the reporter asked to stop; the last state was kept.
        ValueError: as `fit.fit`; known before an earlier run is cleared.
    """
    config, arrays = training.config(), list(psfs.values())
    several = len(arrays) > 1
    shared = training_devices(devices, batch_size=config.batch_size, several=several)
    key = jax.random.key(training.seed)
    # The checks that need no training come first, so that bad input neither leaves a folder behind
    # nor costs an earlier run.
    options = _options(stack) | {"config": config, "devices": shared}
    if several:
        plan = prepare_sweep(key, stack.frames, psfs=arrays, **options)
    else:
        meshes.of_one_model(shared, batch_size=config.batch_size)
        plan = prepare(key, stack.frames, psf=arrays[0], **options)
    if states is not None and states.resumed is None:
        clear(states.run)
        _write_config(states, plan, psfs)
    for line in plan.evidence if tell else ():
        reporter.say(line)
    job = _Job(training.seed, key, plan, psfs, shared, states, reporter)
    denoiser, choice = _choose(job) if several else (_train_one(job), None)
    return Outcome(denoiser, choice, plan.evidence)


def _options(stack: TrainingStack) -> dict[str, Any]:
    about = {"targets": stack.targets, "exposure": stack.exposure}
    return about | {"clean": True, "whole": stack.whole}


class _Job(NamedTuple):
    """What a training is given."""

    seed: int
    key: PRNGKeyArray
    plan: Plan
    psfs: Psfs
    devices: list[jax.Device]
    states: States | None
    reporter: Reporter


def _write_config(states, plan, psfs, choice=None):
    widest = max(psfs.values(), key=len)
    notes = states.notes | ({"choice": choice} if choice else {})
    write_config(states.run, plan.request, psf_shape=widest.shape, notes=notes)


def _train_one(job: _Job) -> Denoiser:
    run, resumed = (job.states.run, job.states.resumed) if job.states else (None, None)
    done = len(resumed.history) if resumed else 0
    with job.reporter.training(job.plan.request, done=done) as on_epoch, Saver() as saver:
        keep = _after_epochs(job.states, saver, job.reporter)

        def after_epoch(snapshot):
            on_epoch(snapshot.history[-1])
            keep({run: snapshot})

        return fit_.train(
            job.key, job.plan, devices=job.devices, resume=resumed, on_epoch=after_epoch
        )


def _choose(job: _Job) -> tuple[Denoiser, dict[str, Any] | None]:
    """Train with several PSFs, and drop all but one on the way; the model and its table."""
    states, names, config = job.states, list(job.psfs), job.plan.request
    run, resumed, table = (states.run, states.resumed, states.choice) if states else (None,) * 3
    begun = {(psf, 0): one for psf, one in (resumed or {}).items()}
    done = sum(len(one.snapshot.history) for one in begun.values() if one.snapshot)
    total = epochs_in_all(HALVING, config.epochs, len(names))
    with job.reporter.training(config, done=done, total=total) as on_epoch, Saver() as saver:
        keep = _after_epochs(states, saver, job.reporter)

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot.history[-1])
            keep({run and candidate_folder(run, psf): snapshot for psf, _, snapshot in snapshots})

        def on_stage(models, kept):
            nonlocal table
            if not table and len(kept) == 1:
                table = choice_table(models, names, kept[0], seed=job.seed)
            if states is not None:
                write_scores(states.run, {model.psf_index: model for model in models})
                _write_config(states, job.plan, job.psfs, table)

        found = train_and_choose(
            job.key,
            job.plan,
            psfs=list(job.psfs.values()),
            halving=HALVING,
            devices=job.devices,
            resume=begun,
            on_epoch=after_epoch,
            on_stage=on_stage,
        )
    return found.denoiser, table


def sweep_models(
    training: Training,
    stack: TrainingStack,
    psfs: Psfs,
    reporter: Reporter,
    *,
    seeds: int = 1,
    halving: bool = False,
    devices: int | None = None,
) -> Sweep:
    """Train one model for each PSF and seed, and choose among the PSFs.

    Args:
        training: as of `train_model`.
        stack: as of `train_model`.
        psfs: as of `train_model`.
        reporter: as of `train_model`.
        seeds: models for each PSF, with the seeds ``training.seed``, ``training.seed`` + 1, ...
        halving: whether the worse half is dropped early.
        devices: as of `train_model`.

    Raises:
        Cancelled: the reporter asked to stop; nothing was kept.
        ValueError: as `sweep.sweep`.
    """
    config, arrays = training.config(), list(psfs.values())
    rounds: Schedule = HALVING if halving else ()
    total = seeds * epochs_in_all(rounds, config.epochs, len(psfs))
    stop = _after_epochs(None, None, reporter)
    with reporter.training(config, total=total) as on_epoch:

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot.history[-1])
            stop({})

        shared = training_devices(devices, batch_size=config.batch_size, several=True)
        key = jax.random.key(training.seed)
        options = _options(stack) | {"config": config, "devices": shared}
        plan = prepare_sweep(key, stack.frames, psfs=arrays, **options)
        return train_and_choose(
            key,
            plan,
            psfs=arrays,
            seeds=[jax.random.key(training.seed + number) for number in range(seeds)],
            halving=rounds,
            devices=shared,
            on_epoch=after_epoch,
        )


def choice_table(
    models: Sequence[Model], names: Sequence[str], chosen: int, *, seed: int
) -> dict[str, Any]:
    """Return the rows of a sweep for JSON: {"chosen": PSF, "candidates": [...]}.

    "score_se" is None where a single patch was scored.

    Args:
        models: of `sweep.Sweep`.
        names: of the PSFs; numbers become sigmas in pixels.
        chosen: index of the PSF that was chosen.
        seed: of the first model of each PSF; the others have the next ones.
    """
    rows = [
        {
            "psf": _value(names[model.psf_index]),
            "seed": seed + model.seed,
            "score": model.score,
            "score_se": None if math.isnan(model.score_se) else model.score_se,
            "psnr": None,
            "seconds": round(model.seconds, 1),
            "epochs": model.epochs,
        }
        for model in models
    ]
    return {"chosen": _value(names[chosen]), "candidates": rows}


def _value(name):
    try:
        return float(name)
    except ValueError:
        return 0.0 if name == "none" else name


def _after_epochs(
    states: States | None, saver: Saver | None, reporter: Reporter
) -> Callable[[Mapping[Any, Any]], None]:
    """The function to call after each epoch with the states, by folder.

    It saves them every few seconds, and ends the training where any process was asked to stop.
    """
    saved_at, crew = time.monotonic(), current_crew()
    every = states.every if states else 0

    def keep(snapshots):
        nonlocal saved_at
        stop, due = crew.any(reporter.cancelled(), time.monotonic() - saved_at >= every)
        if states is not None and saver is not None and (stop or due):
            saver.save(snapshots)
            saved_at = time.monotonic()
        if stop and states is not None and saver is not None:
            saver.wait()
            raise Cancelled(f"{states.run}: resume=True goes on with the training")
        if stop:
            raise Cancelled(
                "the training is not kept, and what was written before it stays; a training with a "
                "run folder keeps states to resume from"
            )

    return keep
