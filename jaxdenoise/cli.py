"""The command line: one function a verb. JAX is imported only after the arguments parse, so that --help answers at once."""

import dataclasses
import hashlib
import json
import math
import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from jaxdenoise import __version__, arguments
from jaxdenoise.config import TrainConfig


class UsageError(ValueError):
    """Flags that do not go together."""


def main(argv=None):
    """Run the command line; returns the exit code: 0 done, 2 the user's error, 130 interrupted."""
    args = arguments.parser().parse_args(argv)
    try:
        _keep_compiled_programs()
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = lambda message, *_: print(f"jaxdenoise: warning: {_one_line(message)}", file=sys.stderr)
            VERBS[args.verb](args)
    except (ValueError, OSError) as error:
        print(f"jaxdenoise: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"jaxdenoise: interrupted{f'; {interrupt}' if interrupt.args else ''}", file=sys.stderr)
        return 130
    return 0


def demo(args):
    """Synthetic stack, training, comparison table, TIFFs and a picture."""
    from jaxdenoise import demo as demonstration
    from jaxdenoise import report

    with _progress(args.quiet) as bars:
        results = demonstration.run(args.output, seed=args.seed, overwrite=args.overwrite, bars=bars)
    if args.json:
        print(json.dumps(results))
    else:
        report.print_table("PSNR and SSIM against the known truth, means over the frames", results["methods"], ("psnr", "ssim"))
        print(f"trained in {results['training_seconds']:.0f} s; pictures and TIFFs are in {args.output}")


def denoise(args):
    """Noisy files in, denoised and deconvolved files out."""
    from jaxdenoise import checkpoint, images, prediction

    outputs = [images.output_paths(args.input, args.output, suffix, overwrite=args.overwrite) for suffix in ("denoised", "deconvolved")]
    if args.model and args.save_model:
        raise UsageError("--save-model keeps a new model; it does not go with --model")
    if args.save_model:
        _refuse_run(args.save_model, overwrite=args.overwrite)
    files = images.read_many(args.input, axes=args.axes)
    with _progress(args.quiet) as bars:
        denoiser = checkpoint.load(args.model, weights=args.weights) if args.model else _train(args, _stack(files), bars)
        if args.save_model:
            checkpoint.clear(args.save_model)
            checkpoint.save(args.save_model, denoiser, notes=_notes(args, files))
        for file, *targets in zip(files, *outputs, strict=True):
            on_tile = bars.predicting(Path(targets[0]).name)
            results = prediction.denoise(denoiser, file.frames, tile_size=args.tile_size, on_tile=on_tile)
            for target, frames in zip(targets, results, strict=True):
                dtype = None if args.dtype == "same" else args.dtype
                images.write(target, frames, file.info, dtype=dtype, overwrite=args.overwrite)
                bars.say(f"wrote {target}")


def train(args):
    """Training only: noisy files in, a run folder out."""
    from jaxdenoise import checkpoint, images

    run = Path(args.output)
    files = images.read_many(args.input, axes=args.axes)
    stack, notes = _stack(files), _notes(args, files)
    resume = None
    if args.resume:
        if checkpoint.has_model(run):
            print(f"{run}: the training is complete; nothing to resume")
            return
        resume = _resumable(args, run, notes)
    else:
        _refuse_run(run, overwrite=args.overwrite)
    with _progress(args.quiet) as bars:
        denoiser = _train(args, stack, bars, run=run, notes=notes, resume=resume)
        checkpoint.save(run, denoiser, notes=notes)
        bars.say(f"wrote {run}")


def filter_files(args):
    """Files in, classically filtered files out."""
    from jaxdenoise import filtering, images

    targets = images.output_paths(args.input, args.output, args.filter, overwrite=args.overwrite)
    dtype = None if args.dtype == "same" else args.dtype
    rows = []
    with _progress(args.quiet) as bars:
        for path, target in zip(args.input, targets, strict=True):
            image = images.read(path, axes=args.axes)
            options = {"sigma": args.sigma, "size": args.size, "mode": args.mode, "dtype": dtype}
            frames, parameter, found = filtering.apply(args.filter, image, **options)
            images.write(target, frames, image.info, dtype=dtype, overwrite=args.overwrite)
            chosen = {} if found is None else {"noise_std": math.sqrt(found.noise_variance), "noise_correlation": float(found.correlation)}
            rows.append({"file": path, "output": str(target), "filter": args.filter, **parameter, **chosen})
            width = ", ".join(f"{name} {value}" for name, value in parameter.items())
            bars.say(f"wrote {target} ({width}{', found from the image' if found else ''})")
    if args.json:
        print(json.dumps(rows))


def evaluate(args):
    """The metrics of images against a reference."""
    from jaxdenoise import images, report

    reference = images.read(args.reference, axes=args.axes).frames
    data_range = float(reference.max() - reference.min()) if args.data_range == "gt" else args.data_range
    if not data_range > 0:
        raise UsageError(f"{args.reference}: is constant, so it gives no data range; say --data-range R")
    rows = []
    for path in args.input:
        frames = images.read(path, axes=args.axes).frames
        scores = _compare(reference, frames, data_range, path, args.reference)
        rows.append({"file": path, "frames": len(frames), **scores})
    mean = {name: _mean(row[name] for row in rows) for name in _METRICS}
    if args.json:
        print(json.dumps({"images": rows, "mean": mean, "data_range": data_range}))
        return
    table = {row["file"]: row for row in rows} | ({"mean": mean} if len(rows) > 1 else {})
    report.print_table(f"against {args.reference}, data range {data_range:g}", table, _METRICS)


def info(args):
    """Versions, devices, and what files hold."""
    import importlib.metadata

    import jax

    from jaxdenoise import images

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tifffile", "imagecodecs")
    facts = {
        "jaxdenoise": __version__,
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in names},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }
    files = [{"file": path, **images.read(path, axes=args.axes or None).info.describe()} for path in args.input]
    if args.json:
        print(json.dumps({**facts, "files": files}))
        return
    for facts_of_one in [facts, *files]:
        for name, value in facts_of_one.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{name:18} {'-' if shown is None else shown}")


VERBS = {"demo": demo, "denoise": denoise, "train": train, "filter": filter_files, "evaluate": evaluate, "info": info}

_METRICS = ("psnr", "si_psnr", "snr_db", "ssim", "mean_over_std")


def _train(args, stack, bars, *, run=None, notes=None, resume=None):
    import jax

    from jaxdenoise import checkpoint, prediction, training
    from jaxdenoise.problem import prepare

    config, psf = _config(args), _psf(args)
    if getattr(args, "tile_size", None) is not None:  # a wrong one must not be noticed after minutes of training
        prediction.core_size(stack.shape[1:], args.tile_size, config.network, psf)
    if run is not None and resume is None:
        # The checks that need no training come first, so that bad input neither leaves a folder behind nor costs an earlier run.
        prepare(jax.random.key(args.seed), stack, psf=psf, config=config)
        checkpoint.clear(run)
        checkpoint.write_config(run, config, psf_shape=psf.shape, notes=notes)
    on_epoch = bars.training(config, done=len(resume.history) if resume else 0)
    with _interruptible() as interrupted:
        saved_at = time.monotonic()

        def after_epoch(snapshot):
            nonlocal saved_at
            on_epoch(snapshot)
            if run is not None and (interrupted() or time.monotonic() - saved_at > 10):
                checkpoint.save_snapshot(run, snapshot)
                saved_at = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt(*([f"go on with --resume -o {run}"] if run is not None else []))

        return training.fit(jax.random.key(args.seed), stack, psf=psf, config=config, resume=resume, on_epoch=after_epoch)


def _config(args):
    changes = {name: getattr(args, name) for name in ("epochs", "batch_size", "background", "weights", "symmetries")}
    changes = {name: value for name, value in changes.items() if value is not None}
    config = TrainConfig.preset(args.preset, **changes)
    if args.filters is not None:
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, filters=args.filters))
    return dataclasses.replace(config, patch_size=args.patch_size) if args.patch_size is not None else config


def _psf(args):
    """The PSF that --psf asks for, as an array of sum 1."""
    import numpy as np

    from jaxdenoise import images
    from jaxdenoise.psf import gaussian_psf, normalized_psf

    if args.psf == "none":
        return np.ones((1, 1), np.float32)
    try:
        sigma = float(args.psf)
    except ValueError:
        frames = images.read(args.psf).frames
        if len(frames) != 1:
            raise UsageError(f"{args.psf}: a PSF is one 2-D image, this file holds {len(frames)}") from None
        return normalized_psf(frames[0])
    return np.asarray(gaussian_psf(sigma))


def _resumable(args, run, notes):
    from jaxdenoise import checkpoint

    config, header = checkpoint.read_config(run)
    if config != _config(args):
        changed = [name for name, value in _config(args).to_dict().items() if value != config.to_dict()[name]]
        raise UsageError(f"{run}: was trained with another {', '.join(changed)}; resume with the same flags")
    for name, value in notes.items():
        if name != "inputs" and header["notes"].get(name) != value:
            raise UsageError(f"{run}: was trained with another {name}; resume with the same inputs and flags")
    snapshot = checkpoint.load_snapshot(run, config)
    if snapshot is None:
        print(f"jaxdenoise: warning: {run}: no epoch was saved yet; starting from the first", file=sys.stderr)
    return snapshot


def _refuse_run(run, *, overwrite):
    run = Path(run)
    if run.is_file():
        raise UsageError(f"{run}: is a file, a run folder was expected")
    if (run / "config.json").exists() and not overwrite:
        raise UsageError(f"{run}: holds a run already; --resume goes on with it, --overwrite replaces it")


def _stack(files):
    import numpy as np

    return np.concatenate([file.frames for file in files])


def _notes(args, files):
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.frames.tobytes())
    return {
        "seed": args.seed,
        "psf": args.psf,
        "pixels_sha256": digest.hexdigest(),
        "inputs": list(map(str, args.input)),
    }


def _compare(reference, frames, data_range, path, reference_path):
    from jaxdenoise import metrics

    if len(reference) not in (1, len(frames)) or reference.shape[1:] != frames.shape[1:]:
        raise UsageError(f"{path}: has shape {frames.shape}, the reference {reference_path} {reference.shape}; frames must match or be one")
    values = {name: [] for name in _METRICS}
    for i, frame in enumerate(frames):
        truth = reference[i if len(reference) > 1 else 0]
        values["psnr"].append(metrics.psnr(truth, frame, data_range=data_range))
        values["si_psnr"].append(metrics.si_psnr(truth, frame, data_range=data_range))
        values["snr_db"].append(metrics.snr_db(truth, frame))
        values["ssim"].append(metrics.ssim(truth, frame, data_range=data_range))
        values["mean_over_std"].append(metrics.mean_over_std(frame))
    return {name: _mean(map(float, numbers)) for name, numbers in values.items()}


def _mean(numbers):
    """The mean, or None where JSON has no number for it (identical images have an infinite PSNR)."""
    numbers = list(numbers)
    mean = sum(numbers) / len(numbers) if None not in numbers else math.nan
    return mean if math.isfinite(mean) else None


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def _keep_compiled_programs():
    """Between runs of the command line, in the user's cache folder unless JAX was told another. JAX reads this when it is imported."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdenoise"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


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


@contextmanager
def _progress(quiet):
    from jaxdenoise.progress import Bars, Silence

    if quiet:
        yield Silence(quiet=True)
    elif not sys.stderr.isatty():
        yield Silence(quiet=False)
    else:
        with Bars() as bars:
            yield bars
