"""The command line: one function a verb. JAX is imported only after the arguments parse, so that --help answers at once."""

import json
import math
import os
import shlex
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

from jaxdenoise import __version__, arguments, errors, processes


def main(argv=None):
    """Run the command line; returns the exit code: 0 done, 2 the user's error, 130 interrupted."""
    args = arguments.parser().parse_args(argv)
    args.command = shlex.join(["jaxdenoise", *(sys.argv[1:] if argv is None else argv)])
    return processes.ended(lambda: _run(args))


def _run(args):
    try:
        _keep_compiled_programs()
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning
            processes.join_others(args)
            VERBS[args.verb](args)
            processes.crew().meet()
    except (ValueError, OSError) as error:
        print(f"jaxdenoise: error: {errors.one_line(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if processes.crew().count > 1 and errors.is_lost_connection(error):
            print(f"jaxdenoise: error: another process of this run died ({errors.one_line(error)})", file=sys.stderr)
            return 1
        if not errors.is_out_of_memory(error):
            raise
        print(f"jaxdenoise: error: out of memory ({errors.one_line(error)}); give less at a time, or smaller sizes", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"jaxdenoise: interrupted{f'; {interrupt}' if interrupt.args else ''}", file=sys.stderr)
        return 130
    return 0


def _show_warning(message, *_):
    if processes.crew().first:
        print(f"jaxdenoise: warning: {errors.one_line(message)}", file=sys.stderr)


def demo(args):
    """Synthetic stack, training, comparison table, TIFFs and a picture."""
    from jaxdenoise import demo as demonstration
    from jaxdenoise import report

    with _progress(args.quiet) as bars:
        settings = _settings(args) if args.report else None
        results = demonstration.run(args.output, seed=args.seed, overwrite=args.overwrite, bars=bars, settings=settings)
    if args.json:
        print(json.dumps(results))
    else:
        report.print_table("PSNR and SSIM against the known truth, means over the frames", results["methods"], ("psnr", "ssim"))
        print(f"trained in {results['training_seconds']:.0f} s; pictures and TIFFs are in {args.output}")


def denoise(args):
    """Noisy files in, denoised and deconvolved files out."""
    from jaxdenoise import images, members, results, runs

    options = {"form": args.format, "overwrite": args.overwrite}
    if args.model and args.save_model:
        raise arguments.UsageError("--save-model keeps a new model; it does not go with --model")
    if args.instant and (args.model or args.save_model or args.psf or args.na or args.members > 1 or args.neighbours):
        raise arguments.UsageError("--instant takes no model, no PSF, no members and no neighbours: the network is used as it is")
    if args.noise and not args.instant:
        raise arguments.UsageError("--noise goes with --instant; a training measures the noise itself")
    names = members.names(args)
    outputs = {name: images.output_paths(args.input, args.output, name, **options) for name in members.outputs(names)}
    files = images.open_many(args.input, axes=args.axes)
    if processes.crew().count > 1 and any(path.suffix != ".zarr" for path in outputs["denoised"]):
        raise arguments.UsageError("several processes write one image together as OME-Zarr only: say --format zarr")
    stored = (file.frames.size * (4 if args.dtype == "float32" else file.info.dtype.itemsize) for file in files)
    images.check_space(args.output, len(outputs) * sum(stored))
    channels = members.channels(args, files)
    stem = outputs["denoised"][0].name.rsplit("denoised", 1)[0]
    reports = {name: _report_path(args, Path(args.output) / f"{stem}{name}{'_' if name else ''}report.html") for name in channels}
    if args.save_model:
        for name in channels:
            runs.refuse_run(Path(args.save_model) / name, overwrite=args.overwrite)
    processes.crew().meet()  # all have checked before the first writes
    with _progress(args.quiet) as bars:
        models = [members.of_channel(args, name, own, bars) for name, own in channels.items()]
        random = outputs.pop("random_start", [])
        first = None
        for number, parts in enumerate(zip(*channels.values(), strict=True)):
            targets = {name: paths[number] for name, paths in outputs.items()}
            keep = bool(random) or (args.report and first is None)
            found = results.denoise_file(args, [one.members for one, _ in models], parts, targets, bars, keep=keep)
            first = first or found
            if random:
                beside, target = [[one.random_start] for one, _ in models], {"denoised": random[number]}
                others = results.denoise_file(args, beside, parts, target, bars, keep=True)
                results.compare_with_random(parts, found, others, bars)
        for (name, own), (one, choice), kept in zip(channels.items(), models, first, strict=True):
            _write_report(args, reports[name], own, one.members[0], bars, results=kept, sweep=choice)


def train(args):
    """Training only: noisy files in, a run folder out."""
    from jaxdenoise import images, members, runs

    run = Path(args.output)
    runs.refuse_run(run, overwrite=args.overwrite or args.resume)
    channels = members.channels(args, images.open_many(args.input, axes=args.axes))
    reports = {name: _report_path(args, run / name / "report.html", overwrite=args.resume or args.overwrite) for name in channels}
    for name in channels:
        runs.refuse_run(run / name, overwrite=args.overwrite or args.resume)
    processes.crew().meet()  # all have checked before the first writes
    with _progress(args.quiet) as bars:
        for name, files in channels.items():
            _train_into(args, run / name, files, reports[name], bars)


def _train_into(args, run, files, report_path, bars):
    """Train on the files, or go on with it; the run folder, and the report unless its path is None."""
    from jaxdenoise import checkpoint, members

    with checkpoint.locked(run):
        if args.resume and all(checkpoint.has_model(run / name) for name in members.wanted(args)):
            if processes.crew().first:
                print(f"{run}: the training is complete; nothing to resume")
            return
        models, choice = members.train(args, run, files, bars)
        bars.say(f"wrote {run}")
        _write_report(args, report_path, files, models.members[0], bars, sweep=choice)


def sweep(args):
    """One model a PSF and seed, the table of their scores, the choice."""
    import numpy as np

    from jaxdenoise import checkpoint, comparison, images, members, report, results, runs, storage

    folder, psfs = Path(args.output), runs.psfs_of(args.psf, several=True)
    file = folder / "sweep.json"
    images.check_directory(folder)
    if file.exists() and not args.overwrite:
        raise arguments.UsageError(f"{file}: the file exists; say --overwrite to replace it, or -o for another folder")
    report_path = _report_path(args, folder / "report.html")
    files = images.open_many(args.input, axes=args.axes)
    reference = comparison.read_reference(args.reference, axes=args.axes) if args.reference else None

    def judge(stacks):
        if reference is not None:
            named = zip(args.input, stacks, strict=True)
            return comparison.mean([comparison.compare(reference, frames, name=path) for path, frames in named])["psnr"]

    noisy_psnr = judge(np.asarray(noisy.frames) for noisy in files)  # before the training, which a wrong reference should not cost
    files = members.rows(args, files)
    processes.crew().meet()  # all have checked before the first writes
    with checkpoint.locked(folder), _progress(args.quiet) as bars:
        stack = members.stack_of(args, files, bars)
        found = runs.sweep(args, stack, bars, psfs=psfs)
        result = runs.table(found.models, list(psfs), found.chosen) | {"noisy_psnr": noisy_psnr}
        for model, row in zip(found.models, result["candidates"], strict=True):
            if model.epochs < found.denoiser.config.epochs:  # dropped on the way
                continue
            label = f"{row['psf']:g}" if isinstance(row["psf"], float) else Path(row["psf"]).stem
            run = folder / f"psf-{label}-seed-{model.seed}"
            checkpoint.clear(run)
            checkpoint.save(run, model.denoiser, notes=runs.notes_of(args, stack) | {"psf": row["psf"]})
            row["run"] = str(run)
            row["psnr"] = judge(results.denoised(model.denoiser, noisy.frames) for noisy in files)
        storage.replace_text(file, json.dumps(result, indent=2) + "\n")
        truth = None if reference is None else reference.frames
        _write_report(args, report_path, files, found.denoiser, bars, sweep=result, truth=truth)
    if not processes.crew().first:
        return
    if args.json:
        print(json.dumps(result))
        return
    rows = {f"{row['psf']} (seed {row['seed']})" if args.seeds > 1 else str(row["psf"]): row for row in result["candidates"]}
    report.print_table("held-out error of each PSF", rows, ("score", "score_se", "psnr", "epochs", "seconds"))
    print(f"chosen: {result['chosen']} (the widest within one standard error of the best); models are in {folder}")


def filter_files(args):
    """Files in, classically filtered files out."""
    from jaxdenoise import filtering, images

    targets = images.output_paths(args.input, args.output, args.filter, form=args.format, overwrite=args.overwrite)
    dtype = None if args.dtype == "same" else args.dtype
    rows = []
    with _progress(args.quiet) as bars:
        for path, target in zip(args.input, targets, strict=True):
            image = images.read(path, axes=args.axes)
            options = {"sigma": args.sigma, "size": args.size, "mode": args.mode, "dtype": dtype}
            frames, parameter, found = filtering.apply(args.filter, image, **options)
            images.write(target, frames, image.info, dtype=dtype, overwrite=args.overwrite)
            chosen = {}
            if found is not None:  # the variance is an estimate, and may be below 0 where structure is all there is
                noise_std = math.sqrt(max(float(found.noise_variance), 0))
                chosen = {"noise_std": noise_std, "noise_correlation": float(found.correlation)}
            rows.append({"file": path, "output": str(target), "filter": args.filter, **parameter, **chosen})
            width = ", ".join(f"{name} {value}" for name, value in parameter.items())
            bars.say(f"wrote {target} ({width}{', found from the image' if found else ''})")
    if args.json:
        print(json.dumps(rows))


def evaluate(args):
    """The metrics of images against a reference."""
    from jaxdenoise import comparison, images, report

    reference = comparison.read_reference(args.reference, axes=args.axes, data_range=args.data_range)
    rows = []
    for path in args.input:
        frames = images.read(path, axes=args.axes).frames
        rows.append({"file": path, "frames": len(frames), **comparison.compare(reference, frames, name=path)})
    mean = comparison.mean(rows)
    if args.json:
        print(json.dumps({"images": rows, "mean": mean, "data_range": reference.data_range}))
        return
    table = {row["file"]: row for row in rows} | ({"mean": mean} if len(rows) > 1 else {})
    report.print_table(f"against {args.reference}, data range {reference.data_range:g}", table, comparison.METRICS)


def info(args):
    """Versions, devices, and what files hold."""
    from jaxdenoise import images

    facts = _versions()
    files = [{"file": path, **images.open_image(path, axes=args.axes or None).info.describe()} for path in args.input]
    if args.json:
        print(json.dumps({**facts, "files": files}))
        return
    for facts_of_one in [facts, *files]:
        for name, value in facts_of_one.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{name:18} {'-' if shown is None else shown}")


def psf(args):
    """A measured PSF from an image or a stack of beads."""
    import numpy as np

    from jaxdenoise import beads, images
    from jaxdenoise.metadata import ImageInfo

    target = Path(args.output)
    if target.exists() and not args.overwrite:
        raise arguments.UsageError(f"{target}: the file exists; say --overwrite to replace it, or name another one")
    image = images.read(args.input, axes=args.axes)
    saturation = args.saturation or (255 if image.info.dtype == np.uint8 else None)  # of other dtypes the frames have to tell
    found = beads.measure_psf(image.frames, size=args.size, bead_diameter=args.bead_diameter, saturation=saturation)
    images.write(target, found.psf[None], ImageInfo("YX", found.psf.shape, np.dtype(np.float32)), overwrite=args.overwrite)
    facts = {
        "output": str(target),
        "beads": len(found.positions),
        "rejected": found.rejected,
        "sigma": list(found.sigma),
        "fwhm": list(found.fwhm),
        "deconvolved_sigma": found.deconvolved_sigma and list(found.deconvolved_sigma),
        "noise": found.noise,
        "shape": list(found.psf.shape),
    }
    if args.json:
        print(json.dumps(facts))
        return
    print(f"wrote {target}, the mean of {len(found.positions)} beads")
    print(f"sigma {_pair(found.sigma)}, full width at half maximum {_pair(found.fwhm)}; in pixels, y and x")
    print(f"noise {100 * found.noise:.2g} % of the peak")
    left_out = ", ".join(f"{count} {reason}" for reason, count in found.rejected.items() if count)
    print(f"left out: {left_out or 'none'}")


VERBS = {
    "demo": demo,
    "denoise": denoise,
    "train": train,
    "sweep": sweep,
    "psf": psf,
    "filter": filter_files,
    "evaluate": evaluate,
    "info": info,
}


def _versions():
    import importlib.metadata

    import jax

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tifffile", "imagecodecs")
    return {
        "jaxdenoise": __version__,
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in names},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def _settings(args):
    return {"Flags": {name.replace("_", "-"): value for name, value in vars(args).items() if name != "command"}, "Versions": _versions()}


def _report_path(args, path, *, overwrite=None):
    """Where the report goes, checked before the work starts; None for --no-report."""
    if args.report and path.exists() and not (args.overwrite if overwrite is None else overwrite):
        raise arguments.UsageError(f"{path}: the file exists; say --overwrite to replace it, or --no-report")
    return path if args.report else None


def _write_report(args, path, files, denoiser, bars, **options):
    """The report on the first file."""
    from jaxdenoise import report

    if path is not None and processes.crew().first:
        report.write_for(path, files[0], denoiser, title=args.input[0], settings=_settings(args), commands=[args.command], **options)
        bars.say(f"wrote {path}")


def _pair(values):
    return " x ".join(f"{value:.2f}" for value in values)


def _keep_compiled_programs():
    """Between runs of the command line, in the user's cache folder unless JAX was told another. JAX reads this when it is imported."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdenoise"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # nowhere to keep them: each run compiles anew
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@contextmanager
def _progress(quiet):
    from jaxdenoise.progress import Bars, Silence

    if quiet or not processes.crew().first:
        yield Silence(quiet=True)
    elif not sys.stderr.isatty():
        yield Silence(quiet=False)
    else:
        with Bars() as bars:
            yield bars
