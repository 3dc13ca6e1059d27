"""A training as the command line runs it: from flags to a model, saved on the way, interrupted, resumed. Host side."""

import dataclasses
import hashlib
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from jaxdenoise import candidates, checkpoint, convolution, images, meshes, optics, processes, sweeps, tiling, training
from jaxdenoise.arguments import UsageError
from jaxdenoise.config import TrainConfig
from jaxdenoise.problem import prepare
from jaxdenoise.psf import gaussian_psf, normalized_psf, trimmed

_CHANGES = ("init", "epochs", "batch_size", "background", "blind", "targets", "weights", "precision", "symmetries")  # flags that are fields
_WIDEST = 200  # sigma of a Gaussian PSF in pixels


def train(args, stack, bars, *, psfs, run=None, notes=None, resume=None):
    """Train as the flags say.

    Args:
        args: the parsed command line.
        stack: (N, H, W) array, in grey levels, or (S, N, H, W), rows of frames.
        bars: `progress.Bars` or `progress.Silence`.
        psfs: dict of name to PSF: one, or several to choose from.
        run: the run folder that keeps the state to resume from.
        notes: dict of JSON values for its config.json.
        resume: what `resumable` returned.

    Returns:
        `training.Denoiser`, and what `table` says of the choice, or None where there was none.
    """
    config, arrays = config_of(args), list(psfs.values())
    if len(arrays) == 1:  # said before the training, and before an earlier run is cleared
        meshes.of_one_model(devices(args), batch_size=config.batch_size)
    widest = max(arrays, key=len)
    if getattr(args, "tile_size", None) is not None:  # a wrong one must not be noticed after minutes of training
        tiling.core_size(stack.shape[-2:], args.tile_size, config.network, trimmed(widest))
    key, resumed, rows = jax.random.key(args.seed), *(resume or (None, None))
    if run is not None and resume is None:
        # The checks that need no training come first, so that bad input neither leaves a folder behind nor costs an earlier run.
        prepare(key, stack, psf=widest, config=config)
        checkpoint.clear(run)
        checkpoint.write_config(run, config, psf_shape=widest.shape, notes=notes)
    with _interruptible() as interrupted, checkpoint.Saver() as saver:
        keep = _keeper(run, saver, interrupted, every=getattr(args, "save_every", 0))
        if len(arrays) == 1:
            on_epoch = bars.training(config, done=len(resumed.history) if resumed else 0)
            steps = {"resume": resumed, "on_epoch": lambda snapshot: (on_epoch(snapshot), keep({run: snapshot}))}
            return training.fit(key, stack, psf=arrays[0], config=config, devices=devices(args), **steps), None
        done = sum(len(one.snapshot.history) for one in (resumed or {}).values() if one.snapshot)
        on_epoch = bars.training(config, done=done, total=sweeps.epochs_in_all(sweeps.HALVING, config.epochs, len(arrays)))

        def after_epoch(snapshots):
            for *_, snapshot in snapshots:
                on_epoch(snapshot)
            keep({run and candidates.folder(run, psf): snapshot for psf, _, snapshot in snapshots})

        def on_stage(models, kept):
            nonlocal rows
            rows = rows or (table(models, list(psfs), kept[0]) if len(kept) == 1 else None)
            if run is not None:
                candidates.write_scores(run, {model.psf: model for model in models})
                checkpoint.write_config(run, config, psf_shape=widest.shape, notes=notes | ({"choice": rows} if rows else {}))

        begun = {(psf, 0): one for psf, one in (resumed or {}).items()}
        options = {"config": config, "halving": sweeps.HALVING, "resume": begun, "devices": devices(args, several=True)}
        found = sweeps.sweep(key, stack, psfs=arrays, on_epoch=after_epoch, on_stage=on_stage, **options)
    return found.denoiser, rows


def sweep(args, stack, bars, *, psfs):
    """The `sweeps.Sweep` that the flags of the verb `sweep` ask for; arguments as of `train`."""
    config, halving = config_of(args), sweeps.HALVING if args.halving else ()
    epochs = args.seeds * sweeps.epochs_in_all(halving, config.epochs, len(psfs))
    on_epoch = bars.training(config, total=epochs)
    return sweeps.sweep(
        jax.random.key(args.seed),
        stack,
        psfs=list(psfs.values()),
        seeds=args.seeds,
        config=config,
        halving=halving,
        devices=devices(args, several=True),
        on_epoch=lambda snapshots: [on_epoch(snapshot) for *_, snapshot in snapshots],
    )


def table(models, names, chosen):
    """The rows of a sweep for JSON: {"chosen": PSF, "candidates": [...]}.

    Args:
        models: of `sweeps.Sweep`.
        names: of the PSFs, as given to `psfs_of`; numbers become sigmas in pixels.
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


def config_of(args):
    """`TrainConfig` of the flags."""
    changes = {name: getattr(args, name) for name in _CHANGES}
    changes = {name: value for name, value in changes.items() if value is not None}
    config = TrainConfig.preset(args.preset, **changes)
    network = {name: getattr(args, name) for name in ("filters", "stride", "neighbours") if getattr(args, name) is not None}
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, **network))
    return dataclasses.replace(config, patch_size=args.patch_size) if args.patch_size is not None else config


def devices(args, *, several=False):
    """The devices that train: those that --devices names, or all that can share a batch; all for ``several`` models, or processes."""
    here = jax.devices()
    if args.devices is not None or several or processes.crew().count > 1:
        return here[: args.devices]
    return meshes.sharing(here, config_of(args).batch_size)


def psfs_of(text, *, several=False):
    """The PSFs that a flag names: dict of name to (h, w) array of sum 1.

    Args:
        text: a sigma in pixels, "none", a file, or "auto" for the Gaussians of `sweeps.SIGMAS`.
        several: whether commas stand between several of them.
    """
    names = [f"{sigma:g}" for sigma in sweeps.SIGMAS] if text == "auto" else text.split(",") if several else [text]
    if len(set(names)) < len(names):
        raise UsageError(f"--psf {text}: names a PSF twice")
    return {name: _psf(name) for name in names}


def psf_named(args):
    """What --psf says, or what stands for it where nothing says what the PSF is; None with --na."""
    if args.psf is None and getattr(args, "na", None) is None:
        return "auto" if args.preset == "best" else "1.0"
    return args.psf


def psfs_asked_for(args, files):
    """The PSFs of --psf, or the one of --na and its companions: as `psfs_of`.

    Args:
        args: the parsed command line.
        files: list of `images.Image`, whose pixel size counts if --pixel-size does not say it.
    """
    if args.na is None:
        psfs = psfs_of(psf_named(args))
        # Of those to choose from the ones that fit; a single one that does not is the user's error.
        fitting = {name: psf for name, psf in psfs.items() if len(psfs) == 1 or max(psf.shape) <= min(files[0].frames.shape[1:])}
        return fitting or psfs
    if args.psf is not None:
        raise UsageError("--psf and --na both say what the PSF is: leave one of them out")
    size = args.pixel_size or files[0].info.pixel_size_um
    if size is None:
        raise UsageError(f"{args.input[0]}: does not say its pixel size; give it with --pixel-size, in micrometres")
    if args.emission is None:
        raise UsageError("--na needs --emission, the wavelength of the emission in micrometres")
    if args.excitation is None:
        sigma = optics.widefield_sigma(args.na, args.emission, pixel_size=size)
    else:
        sigma = optics.confocal_sigma(args.na, args.excitation, args.emission, pixel_size=size, pinhole=args.pinhole)
    sigmas = np.broadcast_to(sigma, 2)
    return {" ".join(f"{value:.3f}" for value in sigmas): _gaussian(*sigmas.tolist())}


def notes_of(args, stack, choice=None):
    """What config.json keeps beside the settings: seed, PSF as named, inputs, digest of the pixels, precision, `table` of a choice."""
    optics = {name: getattr(args, name, None) for name in ("na", "emission", "excitation", "pinhole", "pixel_size")}
    return {
        "seed": args.seed,
        "psf": psf_named(args) if optics["na"] is None else optics,
        "pixels_sha256": hashlib.sha256(stack.tobytes()).hexdigest(),
        "precision": convolution.resolve(config_of(args).precision),
        "inputs": list(map(str, args.input)),
        **({} if choice is None else {"choice": choice}),
    }


def resumable(args, run, notes):
    """What to go on from, or None, with a warning, if no epoch was saved. UsageError unless inputs and flags are the same.

    Returns:
        (Snapshot, None), or with ``--psf auto`` (dict of the PSF's index to `sweeps.Progress`, `table` of the choice or None).
    """
    if not (Path(run) / "config.json").exists():
        warnings.warn(f"{run}: holds no run yet; starting from the first epoch", stacklevel=2)
        return None
    config, header = checkpoint.read_config(run)
    before, now = config.to_dict(), config_of(args).to_dict()
    changed = [name for name in now if name != "precision" and before[name] != now[name]]
    if changed:
        raise UsageError(f"{run}: was trained with another {', '.join(changed)}; resume with the same flags")
    for name, value in notes.items():
        if name != "inputs" and header["notes"].get(name) != value:
            hint = f" ({header['notes'].get(name)}, here it is {value})" if name == "precision" else ""
            raise UsageError(f"{run}: was trained with another {name}{hint}; resume with the same inputs and flags")
    choice = header["notes"].get("choice")
    if psf_named(args) == "auto":
        resumed = candidates.load(run, config, len(sweeps.SIGMAS))
        begun = any(one.snapshot for one in resumed.values())
    else:
        resumed = checkpoint.load_snapshot(run, config)
        begun = resumed is not None
    if not begun:
        warnings.warn(f"{run}: no epoch was saved yet; starting from the first", stacklevel=2)
        return None
    if choice is not None and not (isinstance(choice, dict) and choice.get("chosen") in sweeps.SIGMAS):
        raise UsageError(f"{run}: its config.json does not say which PSF was chosen; train anew with --overwrite")
    return resumed, choice


def refuse_run(run, *, overwrite):
    """UsageError if the folder holds a run that is not to be overwritten; ImageError if nothing can be written there."""
    run = Path(run)
    images.check_directory(run)
    if (run / "config.json").exists() and not overwrite:
        raise UsageError(f"{run}: holds a run already; --resume goes on with it, --overwrite replaces it")


def _psf(name):
    if name == "none":
        return np.ones((1, 1), np.float32)
    try:
        sigma = float(name)
    except ValueError:
        frames = images.read(name).frames
        if len(frames) != 1:
            raise UsageError(f"{name}: a PSF is one 2-D image, this file holds {len(frames)}") from None
        return normalized_psf(frames[0])
    return _gaussian(sigma, sigma)


def _gaussian(*sigmas):
    if max(sigmas) > _WIDEST:  # said before its pixels fill the memory
        raise UsageError(f"a PSF of sigma {max(sigmas):g} pixels is too wide, expected at most {_WIDEST}; check the units")
    return np.asarray(gaussian_psf(sigmas))


def _value(name):
    try:
        return float(name)
    except ValueError:
        return 0.0 if name == "none" else name


def _keeper(run, saver, interrupted, *, every):
    """What happens after an epoch with the states, by folder: every few seconds they are saved, and a Ctrl-C is heeded."""
    saved_at, crew = time.monotonic(), processes.crew()

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
