"""Trainings as the workflows run them: progress, states kept on the way, cancellation. Host side.

All calls of `fit`, `sweep`, `instant` and `prepare` are here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray, Real

from jaxdenoise.config import TrainConfig
from jaxdenoise.network.denoiser import Denoiser
from jaxdenoise.runs.layout import clear, write_config
from jaxdenoise.runs.states import Saver, candidate_folder, write_scores
from jaxdenoise.system import meshes
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training import fit as fit_
from jaxdenoise.training import sweep as sweep_
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.sweep import HALVING, epochs_in_all
from jaxdenoise.workflows.reporter import Cancelled, Reporter
from jaxdenoise.workflows.settings import Number, Training

Stack = Real[np.ndarray, "*frames H W"]
Psfs = Mapping[str, Float[np.ndarray, "h w"]]


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


def check_devices(count: int | None) -> None:
    """Raise a RequestError unless so many devices are there, and this is a single process."""
    if count is None:
        return
    if current_crew().count > 1:
        raise RequestError("devices=... is for a single process: of several, all devices take part")
    if count > jax.local_device_count():
        raise RequestError(f"devices={count}: there are {jax.local_device_count()}")


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
    return meshes.sharing(here, batch_size)


def instant_model(stack: Stack, *, noise: Number | None, config: TrainConfig) -> Denoiser:
    """Return the network that comes with the package as a model for these images."""
    return fit_.instant(stack, noise_std=noise, config=config)


def fit_model(
    key: PRNGKeyArray,
    stack: Stack,
    *,
    psf: Real[ArrayLike, "h w"],
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
    stack: Stack,
    psfs: Psfs,
    reporter: Reporter,
    *,
    devices: int | None = None,
    states: States | None = None,
) -> tuple[Denoiser, dict[str, Any] | None]:
    """Train a model; of several PSFs one is chosen on the way.

    Args:
        training: the settings.
        stack: (N, H, W) in grey levels, or (S, N, H, W), rows of frames.
        psfs: name to PSF: one, or several to choose from.
        reporter: hears of the progress.
        devices: how many devices, see `training_devices`.
        states: where to keep the states to resume from; None to keep none.

    Returns:
        The model, and the `choice_table`, or None where there was no choice.

    Raises:
        Cancelled: the reporter asked to stop; the last state was kept.
        ValueError: as `fit.fit`; known before an earlier run is cleared.
    """
    config, widest = training.config(), max(psfs.values(), key=len)
    key = jax.random.key(training.seed)
    if len(psfs) == 1:  # said before the training, and before an earlier run is cleared
        meshes.of_one_model(
            training_devices(devices, batch_size=config.batch_size), batch_size=config.batch_size
        )
    if states is not None and states.resumed is None:
        # The checks that need no training come first, so that bad input neither leaves a folder
        # behind nor costs an earlier run.
        prepare(key, stack, psf=widest, config=config)
        clear(states.run)
        write_config(states.run, config, psf_shape=widest.shape, notes=states.notes)
    if len(psfs) > 1:
        return _choose(key, stack, psfs, config, reporter, devices=devices, states=states)
    return _train_one(key, stack, widest, config, reporter, devices=devices, states=states), None


def _train_one(key, stack, psf, config, reporter, *, devices, states):
    run, resumed = (states.run, states.resumed) if states else (None, None)
    done = len(resumed.history) if resumed else 0
    with reporter.training(config, done=done) as on_epoch, Saver() as saver:
        keep = _after_epochs(states, saver, reporter)

        def after_epoch(snapshot):
            on_epoch(snapshot.history[-1])
            keep({run: snapshot})

        shared = training_devices(devices, batch_size=config.batch_size)
        options = {"devices": shared, "resume": resumed, "on_epoch": after_epoch}
        return fit_.fit(key, stack, psf=psf, config=config, **options)


def _choose(key, stack, psfs, config, reporter, *, devices, states):
    """Train with several PSFs, and drop all but one on the way; the model and its table."""
    run, resumed, table = (states.run, states.resumed, states.choice) if states else (None,) * 3
    begun = {(psf, 0): one for psf, one in (resumed or {}).items()}
    done = sum(len(one.snapshot.history) for one in begun.values() if one.snapshot)
    total = epochs_in_all(HALVING, config.epochs, len(psfs))
    widest = max(psfs.values(), key=len)
    with reporter.training(config, done=done, total=total) as on_epoch, Saver() as saver:
        keep = _after_epochs(states, saver, reporter)

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot.history[-1])
            keep({run and candidate_folder(run, psf): snapshot for psf, _, snapshot in snapshots})

        def on_stage(models, kept):
            nonlocal table
            if not table and len(kept) == 1:
                table = choice_table(models, list(psfs), kept[0])
            if run is not None:
                write_scores(run, {model.psf: model for model in models})
                notes = states.notes | ({"choice": table} if table else {})
                write_config(run, config, psf_shape=widest.shape, notes=notes)

        options = {"config": config, "halving": HALVING, "resume": begun, "on_stage": on_stage}
        shared = training_devices(devices, batch_size=config.batch_size, several=True)
        found = sweep_.sweep(
            key, stack, psfs=list(psfs.values()), devices=shared, on_epoch=after_epoch, **options
        )
    return found.denoiser, table


def sweep_models(
    training: Training,
    stack: Stack,
    psfs: Psfs,
    reporter: Reporter,
    *,
    seeds: int = 1,
    halving: bool = False,
    devices: int | None = None,
) -> sweep_.Sweep:
    """Train one model for each PSF and seed, and choose among the PSFs; arguments as `train_model`.

    Raises:
        Cancelled: the reporter asked to stop; nothing was kept.
        ValueError: as `sweep.sweep`.
    """
    config, rounds = training.config(), HALVING if halving else ()
    total = seeds * epochs_in_all(rounds, config.epochs, len(psfs))
    stop = _after_epochs(None, None, reporter)
    with reporter.training(config, total=total) as on_epoch:

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot.history[-1])
            stop({})

        options = {"seeds": seeds, "config": config, "halving": rounds, "on_epoch": after_epoch}
        shared = training_devices(devices, batch_size=config.batch_size, several=True)
        key = jax.random.key(training.seed)
        return sweep_.sweep(key, stack, psfs=list(psfs.values()), devices=shared, **options)


def choice_table(
    models: Sequence[sweep_.Model], names: Sequence[str], chosen: int
) -> dict[str, Any]:
    """Return the rows of a sweep for JSON: {"chosen": PSF, "candidates": [...]}.

    Args:
        models: of `sweep.Sweep`.
        names: of the PSFs; numbers become sigmas in pixels.
        chosen: index of the PSF that was chosen.
    """
    rows = [
        {
            "psf": _value(names[model.psf]),
            "seed": model.seed,
            "score": model.score,
            "score_se": model.score_se,
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
            raise Cancelled

    return keep
