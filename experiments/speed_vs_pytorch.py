"""Measure the speed beside PyTorch in one run, the rivals taking turns.

    python experiments/speed_vs_pytorch.py -o speed_vs_pytorch.json

Training, compiling, prediction, sweeps, filters, memory. The rivals (common/pytorch_rivals.py; the
parity tests hold their loss and gradients against ours) are "published", the published procedure,
one patch at a time with Python loops for the blind spots and a dense PSF of 81x81 pixels; and
"tuned", the same network and loss with channels last, real batches, everything on the device, a
separable PSF, and autocast and torch.compile where a trial says that they help here. Rows that say
float32 hold everyone to float32. Medians of several runs in turn after a warm-up, with the lowest
and highest; compile times apart. A bar chart of the ratios is written beside the JSON file. 50
minutes on two cores; --quick takes three: two runs, smaller images, shorter trainings, no float32
rows, and no torch.compile.
"""

import argparse
import os
import subprocess
import sys

import cv2
import jax
import torch
from common import arguments, memory, pytorch_race, store
from common.pytorch_race import (
    PSF,
    RIVALS,
    STEPS,
    Ours,
    fastest,
    frames,
    measurement,
    steps_of,
)
from common.pytorch_rivals import DEVICE, Published
from common.tables import Table
from matplotlib.figure import Figure

import jaxdenoise as jd

# Compile times are those of a first run: no caches of earlier ones.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
COLUMNS = ["what", *RIVALS, "unit", "the tuned one is", "lowest to highest, and others"]


def memory_use(args):
    """Peak memory of training at the published settings, each in a process of its own."""
    peaks = {}
    for name in RIVALS:
        told = subprocess.run(
            [sys.executable, __file__, "--memory-of", name, *(["--quick"] if args.quick else [])],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[name] = [float(told.stdout.split()[-1])]
    yield measurement("peak memory of a process that trains at the published settings", "MB", peaks)


def print_memory_of(args):
    """Train a little, print the peak in MB.

    That of the device if it has memory of its own, else that of the process.
    """
    name = args.memory_of
    if name == "ours":
        config = jd.TrainConfig.paper(
            precision="auto", epochs=1, steps_per_epoch=STEPS, validation_patches=1
        )
        Ours(config, frames()).epoch()
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        rival = (
            Published(frames(), PSF, device=DEVICE)
            if name == "published"
            else fastest(args, (True,))[0]
        )
        steps_of(rival)()
        peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
    print((peak or memory.peak_of_this_process()) / 1e6)


def save_chart(path, rows):
    """Draw how many times as fast as each rival we are, or how much more memory it takes."""
    figure = Figure(figsize=(9, 0.45 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    for offset, rival, colour in ((-0.2, "published", "#0072b2"), (0.2, "tuned", "#d55e00")):
        with_rival = [(place, row) for place, row in enumerate(rows) if row[rival] and row["ours"]]
        ratios = [
            row["ours"] / row[rival] if "a second" in row["unit"] else row[rival] / row["ours"]
            for _, row in with_rival
        ]
        places = [place + offset for place, _ in with_rival]
        axes.barh(places, ratios, 0.38, color=colour, label=f"against the {rival} one")
    axes.axvline(1, color="#33383d", linewidth=0.8)
    axes.set(
        yticks=range(len(rows)),
        yticklabels=[row["what"] for row in rows],
        xscale="log",
        xlabel="times as fast, or as little memory",
    )
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=150)


def cells(row):
    """Return the cells of a measurement."""
    values = [None if row[name] is None else f"{row[name]:.3g}" for name in RIVALS]
    told = []
    for name, (low, high) in row["range"].items():
        between = f"{low:.3g} to {high:.3g}"
        told.append(
            f"{name} {between}" if name in RIVALS else f"{name} {row[name]:.3g} ({between})"
        )
    shown = {"what", "unit", "tuned_is", "range", *RIVALS, *row["range"]}
    told += [f"{name} {value:.4g}" for name, value in row.items() if name not in shown]
    return [row["what"], *values, row["unit"], row.get("tuned_is"), "; ".join(told)]


PARTS = {
    "training": pytorch_race.training_speed,
    "published": pytorch_race.published_procedure,
    "fast": pytorch_race.fast_training,
    "cold": pytorch_race.cold_start,
    "prediction": pytorch_race.prediction_speed,
    "sweep": pytorch_race.sweep_speed,
    "filter": pytorch_race.filter_speed,
    "memory": memory_use,
}


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "speed_vs_pytorch.json")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="three minutes instead of 50")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="of the images to predict, pixels a side"
    )
    arguments.add_only(parser, f"measurements ({', '.join(PARTS)})")
    parser.add_argument("--memory-of", choices=RIVALS, help=argparse.SUPPRESS)
    return parser


def main(argv=None):
    """Measure, print and write the table after each row, draw the chart."""
    args = build_parser().parse_args(argv)
    if args.memory_of:
        print_memory_of(args)
        return
    args.runs = 2 if args.quick else args.runs
    title, rows, network = "Speed beside PyTorch", [], jd.UNetConfig()
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    note = (
        f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads; "
        f"OpenCV {cv2.__version__}; network of `fast`: {network.depth} x {network.filters}."
    )
    table = Table(title, COLUMNS).start()
    for name, part in PARTS.items():
        if not arguments.is_chosen(name, args.only):
            continue
        for row in part(args):
            rows.append(row)
            table.add(*cells(row))
            store.write(args.output, group="speed", title=title, tables=[table], note=note)
    save_chart(args.output.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
