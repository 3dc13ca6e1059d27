"""The verbs: each runs its workflow and prints the result, as a table, as lines, or as JSON.

JAX is imported only here, after the arguments are parsed, so that --help answers at once.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxdenoise.cli.options import Command
from jaxdenoise.cli.wording import in_flags
from jaxdenoise.system.crew import current_crew


def run(command: Command) -> int:
    """Run the workflow of a verb and print its result; of several processes the first prints.

    Returns:
        The exit code: 0, or 2 where a file of a batch failed.
    """
    from jaxdenoise import workflows
    from jaxdenoise.cli.terminal import Log, reporter
    from jaxdenoise.system.meshes import check_platforms

    check_platforms()
    previews = isinstance(command.request, workflows.PreviewRequest)
    name, show = ("preview", _show_nothing) if previews else _WORKFLOWS[command.verb]
    log = Log(command.log)
    heard = reporter(
        quiet=command.quiet,
        log=log,
        tensorboard=command.tensorboard,
        words=partial(in_flags, verb=command.verb),
    )
    with heard as reports:
        result = getattr(workflows, name)(command.request, reports)
    if current_crew().is_primary:
        if command.json:
            print(json.dumps(result.to_dict()))
        elif not (command.quiet and show is _show_denoise):
            show(command.request, result)
    return 2 if getattr(result, "failed", None) else 0


def _show_denoise(request, result):
    """A table of a batch; the reporter has said what was written of a single file."""
    from jaxdenoise.cli.tables import print_cells

    if len(result.files) < 2:
        return
    rows = [(row.file, row.status, _seconds(row.seconds), _told(row)) for row in result.files]
    print_cells("files", ("file", "status", "seconds", "verdict"), rows)


def _told(row):
    """The verdict on a file, or why it failed."""
    return (row.error or row.verdict or "").removeprefix(f"{row.file}: ")


def _seconds(value):
    return "-" if value is None else f"{value:.1f}"


def _show_demo(request, result):
    from jaxdenoise.cli.tables import print_table

    title = "PSNR and SSIM against the known truth, means over the frames"
    print_table(title, result.methods, ("psnr", "ssim"))
    print(f"trained in {result.training_seconds:.0f} s; pictures and TIFFs are in {result.output}")


def _show_train(request, result):
    for name, run_folder in result.runs.items():
        if result.trained[name] is None:
            print(f"{run_folder}: the training is complete; nothing to resume")


def _show_sweep(request, result):
    from jaxdenoise.cli.tables import print_table

    for name, swept in result.channels.items():
        rows = {
            f"{row['psf']} (seed {row['seed']})" if request.seeds > 1 else str(row["psf"]): row
            for row in swept.table["candidates"]
        }
        columns = ("score", "score_se", "psnr", "epochs", "seconds")
        of = f", {name}" if name else ""
        print_table(f"held-out error of each PSF{of}", rows, columns)
        known = any(row["score_se"] is not None for row in rows.values())
        rule = (
            "the widest within one standard error of the best"
            if known
            else "the best; a single patch was scored: its standard error is not known"
        )
        print(f"chosen{of}: {swept.table['chosen']} ({rule}); models are in {swept.output}")


def _show_evaluate(request, result):
    from jaxdenoise.cli.tables import print_table
    from jaxdenoise.workflows.evaluation import METRICS

    table = {row["file"]: row for row in result.images}
    table |= {"mean": result.mean} if len(result.images) > 1 else {}
    title = f"against {request.reference}, data range {result.data_range:g}"
    print_table(title, table, METRICS)


def _show_info(request, result):
    for facts in [result.versions, *result.files]:
        for name, value in facts.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{name:18} {'-' if shown is None else shown}")


def _show_psf(request, result):
    found = result.measured
    print(f"wrote {result.output}, the mean of {len(found.positions)} beads")
    wide = result.volume or found
    widths = f"sigma {_pair(wide.sigma)}, full width at half maximum {_pair(wide.fwhm)}"
    axes = "in pixels, y and x" if result.volume is None else "z in planes, y and x in pixels"
    print(f"{widths}; {axes}")
    print(f"noise {100 * found.noise:.2g} % of the peak")
    left_out = ", ".join(f"{count} {reason}" for reason, count in found.rejected.items() if count)
    print(f"left out: {left_out or 'none'}")


def _pair(values):
    return " x ".join(f"{value:.2f}" for value in values)


def _show_nothing(request, result):
    """The reporter has said which files were written."""


# Verb to the name of its workflow and to what shows the result.
_WORKFLOWS: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "demo": ("demo", _show_demo),
    "denoise": ("denoise", _show_denoise),
    "train": ("train", _show_train),
    "sweep": ("sweep", _show_sweep),
    "psf": ("measure_psf", _show_psf),
    "filter": ("filter_files", _show_nothing),
    "evaluate": ("evaluate", _show_evaluate),
    "info": ("info", _show_info),
}
VERBS: dict[str, Callable[[Command], int]] = dict.fromkeys(_WORKFLOWS, run)
