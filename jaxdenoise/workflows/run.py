"""A training as the command line runs it: from flags to a model, saved on the way, interrupted, resumed. Host side."""

import hashlib
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import jax

from jaxdenoise.io import images
from jaxdenoise.microscope.psf import trimmed
from jaxdenoise.network.settings import settle, shape_of
from jaxdenoise.prediction import tiling
from jaxdenoise.runs.layout import clear, read_config, write_config
from jaxdenoise.runs.states import (
    Saver,
    candidate_folder,
    load_candidates,
    load_snapshot,
    write_scores,
)
from jaxdenoise.system import meshes
from jaxdenoise.system.crew import current_crew
from jaxdenoise.system.errors import RequestError
from jaxdenoise.training import sweep as sweep_
from jaxdenoise.training.fit import fit
from jaxdenoise.training.halving import HALVING, epochs_in_all
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.sweep import SIGMAS
from jaxdenoise.workflows.requests import config_of, devices, psf_named
from jaxdenoise.workflows.sweep import table


def train(args, stack, bars, *, psfs, run=None, notes=None, resume=None):
    """Train as the flags say.

    Args:
        args: the parsed command line.
        stack: (N, H, W) array, in grey levels, or (S, N, H, W), rows of frames.
        bars: `terminal.Bars` or `terminal.Silence`.
        psfs: dict of name to PSF: one, or several to choose from.
        run: the run folder that keeps the state to resume from.
        notes: dict of JSON values for its config.json.
        resume: what `resumable` returned.

    Returns:
        `denoiser.Denoiser`, and what `table` says of the choice, or None where there was none.
    """
    config, arrays = config_of(args), list(psfs.values())
    if len(arrays) == 1:  # said before the training, and before an earlier run is cleared
        meshes.of_one_model(devices(args), batch_size=config.batch_size)
    widest = max(arrays, key=len)
    if (
        getattr(args, "tile_size", None) is not None
    ):  # a wrong one must not be noticed after minutes of training
        tiling.core_size(stack.shape[-2:], args.tile_size, shape_of(config.network), trimmed(widest))
    key, resumed, rows = jax.random.key(args.seed), *(resume or (None, None))
    if run is not None and resume is None:
        # The checks that need no training come first, so that bad input neither leaves a folder
        # behind nor costs an earlier run.
        prepare(key, stack, psf=widest, config=config)
        clear(run)
        write_config(run, config, psf_shape=widest.shape, notes=notes)
    with _interruptible() as interrupted, Saver() as saver:
        keep = _keeper(run, saver, interrupted, every=getattr(args, "save_every", 0))
        if len(arrays) == 1:
            on_epoch = bars.training(config, done=len(resumed.history) if resumed else 0)
            steps = {
                "resume": resumed,
                "on_epoch": lambda snapshot: (on_epoch(snapshot), keep({run: snapshot})),
            }
            return fit(
                key, stack, psf=arrays[0], config=config, devices=devices(args), **steps
            ), None
        done = sum(len(one.snapshot.history) for one in (resumed or {}).values() if one.snapshot)
        on_epoch = bars.training(
            config, done=done, total=epochs_in_all(HALVING, config.epochs, len(arrays))
        )

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot)
            keep({run and candidate_folder(run, psf): snapshot for psf, _, snapshot in snapshots})

        def on_stage(models, kept):
            nonlocal rows
            rows = rows or (table(models, list(psfs), kept[0]) if len(kept) == 1 else None)
            if run is not None:
                write_scores(run, {model.psf_index: model for model in models})
                write_config(
                    run,
                    config,
                    psf_shape=widest.shape,
                    notes=notes | ({"choice": rows} if rows else {}),
                )

        begun = {(psf, 0): one for psf, one in (resumed or {}).items()}
        options = {
            "config": config,
            "halving": HALVING,
            "resume": begun,
            "devices": devices(args, several=True),
        }
        found = sweep_.sweep(
            key, stack, psfs=arrays, on_epoch=after_epoch, on_stage=on_stage, **options
        )
    return found.denoiser, rows


def notes_of(args, stack, choice=None):
    """What config.json keeps beside the settings: seed, PSF as named, inputs, digest of the pixels, precision, `table` of a choice."""
    optics = {
        name: getattr(args, name, None)
        for name in ("na", "emission", "excitation", "pinhole", "pixel_size")
    }
    return {
        "seed": args.seed,
        "psf": psf_named(args) if optics["na"] is None else optics,
        "pixels_sha256": hashlib.sha256(stack.tobytes()).hexdigest(),
        "precision": settle(config_of(args), devices=devices(args)).precision,
        "inputs": list(map(str, args.input)),
        **({} if choice is None else {"choice": choice}),
    }


def resumable(args, run, notes):
    """What to go on from, or None, with a warning, if no epoch was saved. RequestError unless inputs and flags are the same.

    Returns:
        (Snapshot, None), or with ``--psf auto`` (dict of the PSF's index to `candidates.Progress`,
        `table` of the choice or None).
    """
    if not (Path(run) / "config.json").exists():
        warnings.warn(f"{run}: holds no run yet; starting from the first epoch", stacklevel=2)
        return None
    config, header = read_config(run)
    before, now = config.to_dict(), config_of(args).to_dict()
    changed = [name for name in now if name != "precision" and before[name] != now[name]]
    if changed:
        raise RequestError(
            f"{run}: was trained with another {', '.join(changed)}; resume with the same flags"
        )
    for name, value in notes.items():
        if name != "inputs" and header["notes"].get(name) != value:
            hint = (
                f" ({header['notes'].get(name)}, here it is {value})" if name == "precision" else ""
            )
            raise RequestError(
                f"{run}: was trained with another {name}{hint}; resume with the same inputs and flags"
            )
    choice = header["notes"].get("choice")
    if psf_named(args) == "auto":
        resumed = load_candidates(run, config, len(SIGMAS))
        begun = any(one.snapshot for one in resumed.values())
    else:
        resumed = load_snapshot(run, config)
        begun = resumed is not None
    if not begun:
        warnings.warn(f"{run}: no epoch was saved yet; starting from the first", stacklevel=2)
        return None
    if choice is not None and not (isinstance(choice, dict) and choice.get("chosen") in SIGMAS):
        raise RequestError(
            f"{run}: its config.json does not say which PSF was chosen; train anew with --overwrite"
        )
    return resumed, choice


def refuse_run(run, *, overwrite):
    """RequestError if the folder holds a run that is not to be overwritten; ImageError if nothing can be written there."""
    run = Path(run)
    images.check_directory(run)
    if (run / "config.json").exists() and not overwrite:
        raise RequestError(
            f"{run}: holds a run already; --resume goes on with it, --overwrite replaces it"
        )


def _keeper(run, saver, interrupted, *, every):
    """What happens after an epoch with the states, by folder: every few seconds they are saved, and a Ctrl-C is heeded."""
    saved_at, crew = time.monotonic(), current_crew()

    def keep(snapshots):
        nonlocal saved_at
        stop, due = crew.any(interrupted(), time.monotonic() - saved_at >= every)
        if run is not None and (stop or due):
            saver.save(snapshots)
            saved_at = time.monotonic()
        if stop:
            saver.wait()
            raise KeyboardInterrupt(*([f"go on with --resume -o {run}"] if run is not None else []))

    return keep


@contextmanager
def _interruptible():
    """The first Ctrl-C asks the training to stop after its epoch (the yielded function says so); a second one stops at once."""
    asked = False

    def ask(signum, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("jaxdenoise: stopping after this epoch; Ctrl-C again stops at once", file=sys.stderr)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: leave signals to their owner
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
