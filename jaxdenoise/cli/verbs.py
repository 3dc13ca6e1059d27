"""The command line: one function a verb. JAX is imported only after the arguments parse, so that --help answers at once."""

import json
import math
import sys
from contextlib import contextmanager
from pathlib import Path

from jaxdenoise.system import errors
from jaxdenoise.system.crew import current_crew


def demo(args):
    """Synthetic stack, training, comparison table, TIFFs and a picture."""
    from jaxdenoise.cli.terminal import print_table
    from jaxdenoise.workflows import demo as demo_

    with _progress(args.quiet) as bars:
        settings = _settings(args) if args.report else None
        results = demo_.run(
            args.output, seed=args.seed, overwrite=args.overwrite, bars=bars, settings=settings
        )
    if args.json:
        print(json.dumps(results))
    else:
        print_table(
            "PSNR and SSIM against the known truth, means over the frames",
            results["methods"],
            ("psnr", "ssim"),
        )
        print(
            f"trained in {results['training_seconds']:.0f} s; pictures and TIFFs are in {args.output}"
        )


def denoise(args):
    """Noisy files in, denoised and deconvolved files out."""
    from jaxdenoise.io import images
    from jaxdenoise.workflows import stacks as stacks_
    from jaxdenoise.workflows import train as train_
    from jaxdenoise.workflows.denoise import compare_with_random, denoise_file
    from jaxdenoise.workflows.run import refuse_run
    from jaxdenoise.workflows.train import of_channel

    options = {"form": args.format, "overwrite": args.overwrite}
    if args.model and args.save_model:
        raise errors.RequestError("--save-model keeps a new model; it does not go with --model")
    if args.instant and (
        args.model or args.save_model or args.psf or args.na or args.members > 1 or args.neighbours
    ):
        raise errors.RequestError(
            "--instant takes no model, no PSF, no members and no neighbours: the network is used as it is"
        )
    if args.noise and not args.instant:
        raise errors.RequestError(
            "--noise goes with --instant; a training measures the noise itself"
        )
    names = train_.names(args)
    outputs = {
        name: images.output_paths(args.input, args.output, name, **options)
        for name in train_.outputs(names)
    }
    files = images.open_many(args.input, axes=args.axes)
    if current_crew().count > 1 and any(path.suffix != ".zarr" for path in outputs["denoised"]):
        raise errors.RequestError(
            "several processes write one image together as OME-Zarr only: say --format zarr"
        )
    stored = (
        file.frames.size * (4 if args.dtype == "float32" else file.info.dtype.itemsize)
        for file in files
    )
    images.check_space(args.output, len(outputs) * sum(stored))
    channels = stacks_.channels(args, files)
    stem = outputs["denoised"][0].name.rsplit("denoised", 1)[0]
    reports = {
        name: _report_path(
            args, Path(args.output) / f"{stem}{name}{'_' if name else ''}report.html"
        )
        for name in channels
    }
    if args.save_model:
        for name in channels:
            refuse_run(Path(args.save_model) / name, overwrite=args.overwrite)
    current_crew().barrier()  # all have checked before the first writes
    with _progress(args.quiet) as bars:
        models = [of_channel(args, name, own, bars) for name, own in channels.items()]
        random = outputs.pop("random_start", [])
        first = None
        for number, parts in enumerate(zip(*channels.values(), strict=True)):
            targets = {name: paths[number] for name, paths in outputs.items()}
            keep = bool(random) or (args.report and first is None)
            found = denoise_file(
                args, [one.members for one, _ in models], parts, targets, bars, keep=keep
            )
            first = first or found
            if random:
                beside, target = (
                    [[one.random_start] for one, _ in models],
                    {"denoised": random[number]},
                )
                others = denoise_file(args, beside, parts, target, bars, keep=True)
                compare_with_random(parts, found, others, bars)
        for (name, own), (one, choice), kept in zip(channels.items(), models, first, strict=True):
            _write_report(
                args, reports[name], own, one.members[0], bars, results=kept, sweep=choice
            )


def train(args):
    """Training only: noisy files in, a run folder out."""
    from jaxdenoise.io import images
    from jaxdenoise.workflows import stacks as stacks_
    from jaxdenoise.workflows.run import refuse_run

    run = Path(args.output)
    refuse_run(run, overwrite=args.overwrite or args.resume)
    channels = stacks_.channels(args, images.open_many(args.input, axes=args.axes))
    reports = {
        name: _report_path(
            args, run / name / "report.html", overwrite=args.resume or args.overwrite
        )
        for name in channels
    }
    for name in channels:
        refuse_run(run / name, overwrite=args.overwrite or args.resume)
    current_crew().barrier()  # all have checked before the first writes
    with _progress(args.quiet) as bars:
        for name, files in channels.items():
            _train_into(args, run / name, files, reports[name], bars)


def _train_into(args, run, files, report_path, bars):
    """Train on the files, or go on with it; the run folder, and the report unless its path is None."""
    from jaxdenoise.runs.layout import has_model, locked
    from jaxdenoise.workflows import train as train_
    from jaxdenoise.workflows.train import wanted

    with locked(run):
        if args.resume and all(has_model(run / name) for name in wanted(args)):
            if current_crew().is_primary:
                print(f"{run}: the training is complete; nothing to resume")
            return
        models, choice = train_.train(args, run, files, bars)
        bars.say(f"wrote {run}")
        _write_report(args, report_path, files, models.members[0], bars, sweep=choice)


def sweep(args):
    """One model a PSF and seed, the table of their scores, the choice."""
    import numpy as np

    from jaxdenoise.cli.terminal import print_table
    from jaxdenoise.io import images
    from jaxdenoise.runs.layout import clear, locked, write_text
    from jaxdenoise.runs.models import save
    from jaxdenoise.workflows import evaluate as evaluate_
    from jaxdenoise.workflows import stacks as stacks_
    from jaxdenoise.workflows import sweep as sweep_
    from jaxdenoise.workflows.denoise import denoised
    from jaxdenoise.workflows.evaluate import compare, read_reference
    from jaxdenoise.workflows.psfs import psfs_of
    from jaxdenoise.workflows.run import notes_of
    from jaxdenoise.workflows.stacks import stack_of

    folder, psfs = Path(args.output), psfs_of(args.psf, several=True)
    file = folder / "sweep.json"
    images.check_directory(folder)
    if file.exists() and not args.overwrite:
        raise errors.RequestError(
            f"{file}: the file exists; say --overwrite to replace it, or -o for another folder"
        )
    report_path = _report_path(args, folder / "report.html")
    files = images.open_many(args.input, axes=args.axes)
    reference = read_reference(args.reference, axes=args.axes) if args.reference else None

    def judge(stacks):
        if reference is not None:
            named = zip(args.input, stacks, strict=True)
            return evaluate_.mean(
                [compare(reference, frames, name=path) for path, frames in named]
            )["psnr"]

    noisy_psnr = judge(
        np.asarray(noisy.frames) for noisy in files
    )  # before the training, which a wrong reference should not cost
    files = stacks_.rows(args, files)
    current_crew().barrier()  # all have checked before the first writes
    with locked(folder), _progress(args.quiet) as bars:
        stack = stack_of(args, files, bars)
        found = sweep_.sweep(args, stack, bars, psfs=psfs)
        result = sweep_.table(found.models, list(psfs), found.chosen) | {"noisy_psnr": noisy_psnr}
        for model, row in zip(found.models, result["candidates"], strict=True):
            if model.epochs < found.denoiser.config.epochs:  # dropped on the way
                continue
            label = f"{row['psf']:g}" if isinstance(row["psf"], float) else Path(row["psf"]).stem
            run = folder / f"psf-{label}-seed-{model.seed}"
            clear(run)
            save(run, model.denoiser, notes=notes_of(args, stack) | {"psf": row["psf"]})
            row["run"] = str(run)
            row["psnr"] = judge(denoised(model.denoiser, noisy.frames) for noisy in files)
        write_text(file, json.dumps(result, indent=2) + "\n")
        truth = None if reference is None else reference.frames
        _write_report(args, report_path, files, found.denoiser, bars, sweep=result, truth=truth)
    if not current_crew().is_primary:
        return
    if args.json:
        print(json.dumps(result))
        return
    rows = {
        f"{row['psf']} (seed {row['seed']})" if args.seeds > 1 else str(row["psf"]): row
        for row in result["candidates"]
    }
    print_table(
        "held-out error of each PSF", rows, ("score", "score_se", "psnr", "epochs", "seconds")
    )
    print(
        f"chosen: {result['chosen']} (the widest within one standard error of the best); models are in {folder}"
    )


def filter_files(args):
    """Files in, classically filtered files out."""
    from jaxdenoise.io import images
    from jaxdenoise.workflows.filter import apply

    targets = images.output_paths(
        args.input, args.output, args.filter, form=args.format, overwrite=args.overwrite
    )
    dtype = None if args.dtype == "same" else args.dtype
    rows = []
    with _progress(args.quiet) as bars:
        for path, target in zip(args.input, targets, strict=True):
            image = images.read(path, axes=args.axes)
            options = {"sigma": args.sigma, "size": args.size, "mode": args.mode, "dtype": dtype}
            frames, parameter, found = apply(args.filter, image, **options)
            images.write(target, frames, image.info, dtype=dtype, overwrite=args.overwrite)
            chosen = {}
            if (
                found is not None
            ):  # the variance is an estimate, and may be below 0 where structure is all there is
                noise_std = math.sqrt(max(float(found.noise_variance), 0))
                chosen = {"noise_std": noise_std, "noise_correlation": float(found.correlation)}
            rows.append(
                {"file": path, "output": str(target), "filter": args.filter, **parameter, **chosen}
            )
            width = ", ".join(f"{name} {value}" for name, value in parameter.items())
            bars.say(f"wrote {target} ({width}{', found from the image' if found else ''})")
    if args.json:
        print(json.dumps(rows))


def evaluate(args):
    """The metrics of images against a reference."""
    from jaxdenoise.cli.terminal import print_table
    from jaxdenoise.io import images
    from jaxdenoise.workflows import evaluate as evaluate_
    from jaxdenoise.workflows.evaluate import METRICS, compare, read_reference

    reference = read_reference(args.reference, axes=args.axes, data_range=args.data_range)
    rows = []
    for path in args.input:
        frames = images.read(path, axes=args.axes).frames
        rows.append({"file": path, "frames": len(frames), **compare(reference, frames, name=path)})
    mean = evaluate_.mean(rows)
    if args.json:
        print(json.dumps({"images": rows, "mean": mean, "data_range": reference.data_range}))
        return
    table = {row["file"]: row for row in rows} | ({"mean": mean} if len(rows) > 1 else {})
    print_table(f"against {args.reference}, data range {reference.data_range:g}", table, METRICS)


def info(args):
    """Versions, devices, and what files hold."""
    from jaxdenoise.io import images
    from jaxdenoise.workflows.reports import versions

    facts = versions()
    files = [
        {"file": path, **images.open_image(path, axes=args.axes or None).info.describe()}
        for path in args.input
    ]
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

    from jaxdenoise.io import images
    from jaxdenoise.io.info import ImageInfo
    from jaxdenoise.microscope import beads

    target = Path(args.output)
    if target.exists() and not args.overwrite:
        raise errors.RequestError(
            f"{target}: the file exists; say --overwrite to replace it, or name another one"
        )
    image = images.read(args.input, axes=args.axes)
    saturation = args.saturation or (
        255 if image.info.dtype == np.uint8 else None
    )  # of other dtypes the frames have to tell
    found = beads.measure_psf(
        image.frames, size=args.size, bead_diameter=args.bead_diameter, saturation=saturation
    )
    images.write(
        target,
        found.psf[None],
        ImageInfo("YX", found.psf.shape, np.dtype(np.float32)),
        overwrite=args.overwrite,
    )
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
    print(
        f"sigma {_pair(found.sigma)}, full width at half maximum {_pair(found.fwhm)}; in pixels, y and x"
    )
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


def _settings(args):
    from jaxdenoise.workflows.reports import versions

    return {
        "Flags": {
            name.replace("_", "-"): value for name, value in vars(args).items() if name != "command"
        },
        "Versions": versions(),
    }


def _report_path(args, path, *, overwrite=None):
    """Where the report goes, checked before the work starts; None for --no-report."""
    if args.report and path.exists() and not (args.overwrite if overwrite is None else overwrite):
        raise errors.RequestError(
            f"{path}: the file exists; say --overwrite to replace it, or --no-report"
        )
    return path if args.report else None


def _write_report(args, path, files, denoiser, bars, **options):
    """The report on the first file."""
    from jaxdenoise.workflows.reports import write_for

    if path is not None and current_crew().is_primary:
        write_for(
            path,
            files[0],
            denoiser,
            title=args.input[0],
            settings=_settings(args),
            commands=[args.command],
            **options,
        )
        bars.say(f"wrote {path}")


def _pair(values):
    return " x ".join(f"{value:.2f}" for value in values)


@contextmanager
def _progress(quiet):
    from jaxdenoise.cli.terminal import Bars, Silence

    if quiet or not current_crew().is_primary:
        yield Silence(quiet=True)
    elif not sys.stderr.isatty():
        yield Silence(quiet=False)
    else:
        with Bars() as bars:
            yield bars
