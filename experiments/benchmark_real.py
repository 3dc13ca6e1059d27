"""Compare methods on real images with known truth: FMD (stack and single) and W2S (single).

    python experiments/benchmark_real.py DATA -o results.json --methods raw,instant,best --seeds 3

Protocols:

- *FMD stack*: train on the captures of a type together, denoise each, clamp to [0, 255], PSNR with
  range 255, mean over the captures.
- *FMD single*: the same with the first capture alone.
- *W2S single*: train on the one image. Its noisy and clean versions were contrast-stretched apart,
  so the PSNR is scale-invariant (least-squares affine fit first), in the range of the clean image.

The truth is used to measure, and to choose the parameter of the filters that say "best".

The folder keeps each measurement as soon as it is made; a run that is started again continues where
it stopped. The tables are printed, written, and drawn as a chart in the folder. Standard errors are
over captures and seeds. A training of `fast` takes about two minutes on two cores.
"""

import json
import time

import numpy as np
from common import arguments, store
from common.data import tasks
from common.methods import NEIGHBOURS, chooses_psf, methods
from common.quality import criterion, mean_and_error, qualities
from common.tables import Table
from matplotlib.figure import Figure

import jaxdenoise as jd

PROTOCOLS = {"fmd-stack": "C0", "fmd-single": "C1", "w2s-single": "C2"}  # and their colours
NOTE = """\
PSNR in dB (scale-invariant for W2S) and its standard error over captures and seeds / SSIM; the \
parameter that was chosen in brackets."""


def quality_table(results, names):
    """Return a row for each experiment, then the means of PSNR, SSIM and seconds by protocol."""
    table = Table("Quality by experiment and method", ["experiment", *names])
    for task, rows in results.items():
        cells = [cell(rows.get(name), criterion(task)) for name in names]
        table.add(task, *cells, show=False)
    for protocol in dict.fromkeys(task.split("/")[0] for task in results):
        own = [rows for task, rows in results.items() if task.startswith(protocol)]
        for label, key in (("PSNR", criterion(protocol)), ("SSIM", "ssim"), ("seconds", "seconds")):
            cells = [mean_cell(own, name, key) for name in names]
            table.add(f"**{protocol}, mean {label}**", *cells, show=False)
    return table


def cell(runs, key):
    """Return PSNR +- standard error / SSIM (parameter) of a method, or a dash."""
    if not runs:
        return "-"
    mean, error = mean_and_error(runs, key)
    told = dict.fromkeys(run["parameter"] for run in runs.values() if "parameter" in run)
    spread = f" \N{PLUS-MINUS SIGN} {error:.2f}" if error else ""
    return f"{mean:.2f}{spread} / {mean_and_error(runs, 'ssim')[0]:.3f}" + (
        f" ({', '.join(f'{value:.2g}' for value in told)})" if told else ""
    )


def mean_cell(own, name, key):
    """Return the mean of a method over all experiments, or a dash if one of them lacks it."""
    values = [mean_and_error(rows[name], key)[0] for rows in own if name in rows]
    if len(values) < len(own):
        return "-"
    return f"{np.mean(values):{'.3g' if key == 'seconds' else '.3f'}}"


def save_chart(results, names, path):
    """Draw how far each method is above the best Gaussian filter, a dot for each experiment."""
    figure = Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        for task, rows in results.items():
            if name in rows and "gaussian best" in rows:
                key = criterion(task)
                gain = (
                    mean_and_error(rows[name], key)[0]
                    - mean_and_error(rows["gaussian best"], key)[0]
                )
                axes.plot(gain, place, "o", color=PROTOCOLS[task.split("/")[0]], alpha=0.7)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="dB above the best Gaussian filter (chosen with the truth)",
    )
    for protocol, colour in PROTOCOLS.items():
        axes.plot([], [], "o", color=colour, label=protocol)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=120)


def configured(args):
    """Return the `TrainConfig` of the method "deconoising"."""
    epochs = {"epochs": args.epochs} if args.epochs else {}
    config = jd.TrainConfig.preset(args.preset, **epochs).to_dict()
    for setting in args.set:
        name, value = setting.split("=", 1)
        *place, field = name.split(".")
        (config[place[0]] if place else config)[field] = json.loads(value)
    return jd.TrainConfig.from_dict(config)


def label_of(name, args):
    """Return the column of a method; "deconoising" is told apart by its settings."""
    if name != "deconoising":
        return name
    numbers = [
        f"{field}={value:g}"
        for field, value, usual in (("epochs", args.epochs, None), ("psf", args.psf, 1.0))
        if value != usual
    ]
    return " ".join([name, args.preset, *numbers, *args.set])


def measure(args, chosen, results, keep):
    """Add to `results` what is not there yet; `keep` is called after each measurement."""
    known = methods(configured(args), args.psf)
    for name in list(known) if args.methods == ["all"] else args.methods:
        method, seeded = known[name]
        label = label_of(name, args)
        for task, noisy, truth, protocol in chosen:
            if name == NEIGHBOURS and len(noisy) < 3:
                continue
            runs = results.setdefault(task, {}).setdefault(label, {})
            for seed in range(args.seeds if seeded else 1):
                if str(seed) in runs:
                    continue
                again = seed and chooses_psf(method)
                options = {"chosen": runs["0"].get("parameter")} if again else {}
                began = time.monotonic()
                images, told = method(noisy, truth, protocol, seed, **options)
                seconds = [(time.monotonic() - began) / len(noisy)] * len(noisy)
                runs[str(seed)] = qualities(images, truth, protocol) | {"seconds": seconds} | told
                keep()
                shown = cell({"0": runs[str(seed)]}, criterion(protocol))
                print(f"{task} {label} {seed}: {shown}", flush=True)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "benchmark_real.json")
    arguments.add_data(parser)
    arguments.add_folder(parser, "benchmark_real", "the measurements and the chart")
    arguments.add_only(parser)
    parser.add_argument(
        "--methods",
        type=arguments.comma_list,
        default=["raw", "gaussian 1", "gaussian auto", "gaussian best", "deconoising"],
        help="names separated by commas, or all",
    )
    parser.add_argument("--seeds", type=int, default=1)
    training = parser.add_argument_group('the method "deconoising"')
    training.add_argument("--preset", default="fast", choices=("fast", "best", "paper"))
    training.add_argument("--epochs", type=int)
    training.add_argument("--psf", type=float, default=1.0, help="sigma in pixels, 0 for none")
    training.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=JSON",
        help="a field of its TrainConfig, such as batch_size=8 or network.depth=4",
    )
    return parser


def main(argv=None):
    """Run what is not there yet, print and write the table, draw the chart."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    kept = args.folder / "measurements.json"
    results = arguments.read_kept(kept)
    chosen = [task for task in tasks(args.data) if arguments.is_chosen(task[0], args.only)]
    measure(args, chosen, results, lambda: kept.write_text(json.dumps(results, indent=1)))
    results = {task: results[task] for task, *_ in chosen}
    names = list(dict.fromkeys(name for rows in results.values() for name in rows))
    table = quality_table(results, names)
    print(table.markdown())
    title = "Methods on real images"
    store.write(args.output, group="quality", title=title, tables=[table], note=NOTE)
    save_chart(results, names, args.folder / "chart.png")


if __name__ == "__main__":
    main()
