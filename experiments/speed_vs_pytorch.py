"""Speed beside PyTorch in one run, the rivals taking turns: training, compiling, prediction, sweeps, filters, memory.

    pip install torch==2.13.0
    python experiments/speed_vs_pytorch.py -o speed_vs_pytorch.json

Rivals (pytorch_rivals.py; the parity tests hold their loss and gradients against ours):
"published", the published procedure, one patch at a time with Python loops for the blind spots and
a dense PSF of 81x81; "tuned", the same network and loss with channels last, real batches,
everything on the device, a separable PSF, autocast and torch.compile where they help here, which is
tried first. Rows that say float32 hold everyone to float32. Medians of several runs in turn after a
warm-up, with the lowest and highest; compile times apart. Beside the JSON a bar chart of the ratios
is written. --quick does it in three minutes: two runs, smaller images, shorter trainings, no
float32 rows, and no torch.compile.
"""

import argparse
import dataclasses
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import tifffile
import torch
from pytorch_rivals import VIRTUAL_BATCH, Published, Tuned
from speed_filters import times_in_turn
from torch.nn import functional as F

import jaxdenoise as jd
from jaxdenoise.config import UNetConfig
from jaxdenoise.prediction.tiles import denoise
from jaxdenoise.training.fit import run_epoch, start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import batch_gradients, draw_batch
from jaxdenoise.training.sweep import sweep

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = (
    "1"  # of earlier runs: compile times are those of a first one
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KEY = jax.random.key(0)
PSF = np.asarray(jd.gaussian_psf(1.0, size=81))  # the published size
STEPS = 1 if DEVICE == "cpu" else 50  # of 20 patches, that are timed at once


def frames(count=4, side=512):
    """Noise about 100 grey levels: what the pixels hold does not matter for the speed."""
    return np.random.default_rng(0).normal(100, 20, (count, side, side)).astype(np.float32)


def measurement(what, unit, times, *, amount=None, **more):
    """One object of the output: the median of each rival, as a rate if there is an amount, else in seconds, and their ranges."""
    values = {
        name: [amount / t if amount else t for t in seconds] for name, seconds in times.items()
    }
    medians = {name: round(statistics.median(v), 4) for name, v in values.items()}
    ranges = {name: [round(min(v), 4), round(max(v), 4)] for name, v in values.items()}
    row = {"what": what, "ours": None, "published": None, "tuned": None} | medians
    return (
        row | {"unit": unit, "device": device(), "runs": len(times["ours"]), "range": ranges} | more
    )


def device():
    """The name of what everything runs on."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {os.cpu_count()} cores"


def waiting(function):
    """The function, until the device has done what it asked for."""

    def run():
        function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return run


def steps_of(rival, count=STEPS):
    """A function that trains a rival for some steps."""
    return waiting(lambda: [rival.step() for _ in range(count)])


def precisions(args):
    """(what a row is called, our precision, whether the tuned rival may use bfloat16) of the rows of a measurement."""
    return (("", "auto", (True, False)), (", float32", "float32", (False,)))[
        : 1 if args.quick else 2
    ]


def fastest(args, bfloat16s=(True, False), work=Tuned.step, **options):
    """The fastest variant of the tuned rival at some work, its name, and the seconds that its first time took longer than the next."""
    trials = {}
    for bfloat16, compiled in itertools.product(
        bfloat16s, (False,) if args.quick else (False, True)
    ):
        # else a shape that was seen before counts as compiled, and another one is compiled for all
        # shapes
        torch.compiler.reset()
        rival = Tuned(
            frames(),
            PSF.sum(axis=0),
            bfloat16=bfloat16,
            compiled=compiled,
            device=DEVICE,
            **options,
        )
        first, *rest = (seconds(waiting(partial(work, rival))) for _ in range(4))
        name = f"{'bfloat16' if bfloat16 else 'float32'}, {'compiled' if compiled else 'eager'}"
        trials[name] = (min(rest), rival, first - min(rest))
    name = min(trials, key=lambda name: trials[name][0])
    return trials[name][1], name, trials[name][2]


def seconds(function):
    """How long it takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class Ours:
    """Our training, step by step, as `jaxdenoise.fit` does it."""

    def __init__(self, config, stack, psf=PSF):
        self.problem, self.config = prepare(KEY, stack, psf=psf, config=config)
        self.snapshot = start(KEY, self.config)

    def epoch(self):
        """One epoch."""
        self.snapshot = run_epoch(KEY, self.snapshot, self.problem, self.config)
        jax.block_until_ready(self.snapshot.state.params)


def training_speed(args):
    """Patches a second at the published settings, in anything and in float32, and the time to compile."""
    for what, precision, bfloat16s in precisions(args):
        config = jd.TrainConfig.paper(
            precision=precision, steps_per_epoch=STEPS, validation_patches=1, epochs=10**6
        )
        ours, published = Ours(config, frames()), Published(frames(), PSF, device=DEVICE)
        tuned, name, compiling = fastest(args, bfloat16s)
        compiled = seconds(ours.epoch)
        rivals = {"ours": ours.epoch, "published": steps_of(published), "tuned": steps_of(tuned)}
        times = times_in_turn(
            {key: (function, None) for key, function in rivals.items()}, args.runs
        )
        amount = VIRTUAL_BATCH * STEPS
        yield measurement(
            f"training at the published settings{what}",
            "patches a second",
            times,
            amount=amount,
            tuned_is=name,
        )
        first = {"ours": [compiled - statistics.median(times["ours"])], "tuned": [compiling]}
        yield measurement(f"compiling the training{what}", "seconds", first, tuned_is=name)


def fast_training(args):
    """The whole training of the preset: everyone the same network, patches and steps."""
    config = jd.TrainConfig(
        targets="own", **({"epochs": 1, "steps_per_epoch": 40} if args.quick else {})
    )
    options = {
        "patch_size": config.patch_size,
        "filters": config.network.filters,
        "depth": config.network.depth,
    }
    count = config.epochs * config.steps_per_epoch * config.batch_size
    tuned, name, _ = fastest(args, batch_size=config.batch_size, **options)
    published = Published(frames(), PSF, device=DEVICE, **options)
    rivals = {
        "ours": lambda: jax.block_until_ready(
            jd.fit(KEY, frames(), psf=jd.gaussian_psf(1.0), config=config).last
        ),
        "published": steps_of(published, max(1, count // VIRTUAL_BATCH)),
        "tuned": steps_of(tuned, count // config.batch_size),
    }
    once = {key: (function, 0) for key, function in rivals.items()}
    yield measurement(
        f"{config.epochs * config.steps_per_epoch:,} steps of fast, compiling included",
        "seconds",
        times_in_turn(once, 0),
        tuned_is=name,
    )


def cold_start(args):
    """The command line with the preset fast, from a file of 4 x 512 x 512 pixels to the result, first with an empty compilation cache."""
    with tempfile.TemporaryDirectory() as folder:
        tifffile.imwrite(f"{folder}/noisy.tif", frames())
        options = [
            "--no-report",
            "--overwrite",
            "--quiet",
            *(["--epochs", "1", "--symmetries", "1"] if args.quick else []),
        ]
        files = [f"{folder}/noisy.tif", "-o", folder, "--axes", "TYX"]
        command = [sys.executable, "-m", "jaxdenoise", "denoise", *files, "--psf", "1", *options]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        for state in "cold", "warm":
            took = seconds(
                lambda: subprocess.run(command, env=environment, check=True, capture_output=True)
            )
            length = "1 epoch of fast, 1 symmetry," if args.quick else "fast"
            yield measurement(
                f"{length} from file to written result, {state} compilation cache",
                "seconds",
                {"ours": [took]},
            )


def published_procedure(args):
    """The whole published training on an accelerator, compiling included, and the share that it has of the device's matrix products."""
    if DEVICE == "cpu":
        return  # hours
    config = jd.TrainConfig.paper(precision="auto")
    times = [
        seconds(lambda: jax.block_until_ready(jd.fit(KEY, frames(), psf=PSF, config=config).last))
        for _ in range(3)
    ]
    count = config.epochs * config.steps_per_epoch * config.batch_size
    yield measurement(f"the published procedure, {count:,} patches", "seconds", {"ours": times})
    ours = Ours(config, frames())
    one = dataclasses.replace(config, batch_size=1)
    batch = draw_batch(KEY, 0, ours.problem, one)
    gradients = jax.jit(batch_gradients, static_argnames="config")
    operations = (
        gradients.lower(ours.snapshot.state.params, batch, ours.problem, config=one)
        .compile()
        .cost_analysis()["flops"]
    )
    factor = jnp.ones((8192, 8192), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    products = times_in_turn({"ours": (lambda: product(factor, factor), None)}, args.runs)["ours"]
    rate = 2 * len(factor) ** 3 / statistics.median(products)
    share = {"ours": [count * operations / t / rate for t in times]}
    yield measurement(
        "share of the measured rate of bfloat16 matrix products",
        "1",
        share,
        operations_a_patch=operations,
        rate=rate,
    )


def prediction_speed(args):
    """Megapixels a second of the published network, without averaging over symmetries."""
    for what, precision, bfloat16s in precisions(args):
        config = jd.TrainConfig.paper(
            precision=precision, batch_size=1, epochs=1, steps_per_epoch=1, validation_patches=1
        )
        denoiser = jd.fit(KEY, frames(), psf=PSF, config=config)
        published = Published(frames(), PSF, device=DEVICE)
        for side in args.sizes or ((512,) if args.quick else (512, 2048, 4096)):
            image = frames(1, side)[0]
            tuned, name, _ = fastest(
                args, bfloat16s, lambda rival, image=image: rival.predict(image)
            )
            rivals = {
                "ours": (partial(denoise, denoiser, image), None),
                "published": (partial(published.predict, image), None if side == 512 else 1),
                "tuned": (partial(tuned.predict, image), None),
            }
            times = times_in_turn(rivals, args.runs)
            what_size = f"prediction, {side} x {side}{what}"
            yield measurement(
                what_size, "megapixels a second", times, amount=side**2 / 1e6, tuned_is=name
            )


def sweep_speed(args):
    """Several PSFs at once; the rivals train them one after the other."""
    steps = 10 if args.quick else 20 if DEVICE == "cpu" else 100
    config = jd.TrainConfig(epochs=1, steps_per_epoch=steps, validation_patches=1, targets="own")
    options = {
        "patch_size": config.patch_size,
        "filters": config.network.filters,
        "depth": config.network.depth,
    }
    tuned, name, _ = fastest(args, batch_size=config.batch_size, **options)
    for count in (3,) if args.quick else (3, 8):
        psfs = [jd.gaussian_psf(sigma, size=17) for sigma in np.linspace(0.5, 2, count)]
        alone = [Ours(config, frames(), psf) for psf in psfs]
        rivals = {
            "ours": lambda psfs=psfs: sweep(KEY, frames(), psfs=psfs, config=config),
            "ours_one_by_one": lambda alone=alone: [ours.epoch() for ours in alone],
            "tuned": steps_of(tuned, count * config.steps_per_epoch),
        }
        times = times_in_turn(
            {key: (function, None) for key, function in rivals.items()}, args.runs
        )
        what = f"sweep over {count} PSFs, {steps} steps each, scored"
        yield measurement(what, "seconds", times, tuned_is=name)


def filter_speed(args):
    """16 images; everyone gets them as it likes them best."""
    for side in (512,) if args.quick else (512, 2048):
        stack = frames(16, side)
        ours, theirs = jnp.asarray(stack), torch.from_numpy(stack)[:, None].to(DEVICE)
        kernel = torch.tensor([1.0, 4, 6, 4, 1], device=DEVICE) / 16

        def median(x):
            patches = F.unfold(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3)
            return patches.median(dim=1).values

        def gaussian(x, kernel=kernel):
            padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
            return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])

        filters = {
            "median 3x3": (
                lambda ours=ours: jd.median_filter(ours, (3, 3), mode="nearest"),
                lambda theirs=theirs: median(theirs),
                lambda x: cv2.medianBlur(x, 3),
                lambda x: scipy.ndimage.median_filter(x, 3, mode="nearest"),
            ),
            "Gaussian 5x5": (
                lambda ours=ours: jd.gaussian_filter(ours, size=(5, 5), mode="mirror"),
                lambda theirs=theirs: gaussian(theirs),
                lambda x: cv2.GaussianBlur(x, (5, 5), 0),
                lambda x: scipy.ndimage.gaussian_filter(x, 1.1, radius=2, mode="mirror"),
            ),
            "box 3x3": (
                lambda ours=ours: jd.box_filter(ours, (3, 3), mode="mirror"),
                lambda theirs=theirs: F.avg_pool2d(
                    F.pad(theirs, (1, 1, 1, 1), mode="reflect"), 3, stride=1
                ),
                lambda x: cv2.blur(x, (3, 3)),
                lambda x: scipy.ndimage.uniform_filter(x, 3, mode="mirror"),
            ),
        }
        for name, (mine, torchs, opencv, scipys) in filters.items():
            rivals = {
                "ours": (mine, None),
                "tuned": (waiting(torchs), None if "median" not in name else 1),
                "opencv": (
                    lambda opencv=opencv, stack=stack: [opencv(image) for image in stack],
                    None,
                ),
                "scipy": (lambda scipys=scipys, stack=stack: [scipys(image) for image in stack], 1),
            }
            times = times_in_turn(rivals, args.runs)
            yield measurement(
                f"{name} filter, 16 images of {side} x {side}",
                "megapixels a second",
                times,
                amount=16 * side**2 / 1e6,
            )


def memory(args):
    """Peak memory of a process that trains at the published settings, each in a process of its own."""
    peaks = {}
    for name in "ours", "published", "tuned":
        told = subprocess.run(
            [sys.executable, __file__, "--memory-of", name, *(["--quick"] if args.quick else [])],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[name] = [float(told.stdout.split()[-1])]
    yield measurement("peak memory of a process that trains at the published settings", "MB", peaks)


def print_memory_of(args):
    """Train a little, print the peak in MB: of the device if it has memory of its own, else of the process."""
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
    print((peak or peak_of_process()) / 1e6)


def peak_of_process():
    """Bytes. Linux counts a parent's peak as its child's, so it is asked for that of this program's memory."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(
            int(line.split()[1])
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine():
    """What it was measured on."""
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
    }
    network = UNetConfig()
    return {
        "device": device(),
        "torch_threads": torch.get_num_threads(),
        **versions,
        "network": f"{network.depth} x {network.filters}",
    }


def save_chart(path, rows):
    """Bars: how many times as fast as each rival we are; for memory, how many times as much the rival takes."""
    from matplotlib.figure import Figure

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


def main():
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("speed_vs_pytorch.json"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="three minutes, see above")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="of the images to predict, pixels a side"
    )
    parser.add_argument(
        "--only",
        default="",
        help="of: training, published, fast, cold, prediction, sweep, filter, memory",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a measurement")
    parser.add_argument(
        "--memory-of", choices=("ours", "published", "tuned"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.memory_of:
        print_memory_of(args)
        return
    args.runs = 2 if args.quick else args.runs
    print(json.dumps(machine()), file=sys.stderr)
    rows, parts = (
        [],
        (
            training_speed,
            published_procedure,
            fast_training,
            cold_start,
            prediction_speed,
            sweep_speed,
            filter_speed,
            memory,
        ),
    )
    for part in parts:
        if args.only not in part.__name__:
            continue
        for row in part(args):
            rows.append(row)
            print(json.dumps(row) if args.json else markdown(row), flush=True)
            args.output.write_text(
                json.dumps({"machine": machine(), "measurements": rows}, indent=1)
            )
    save_chart(args.output.with_suffix(".png"), rows)


def markdown(row):
    """A row of the table."""
    values = [
        "-" if row[name] is None else f"{row[name]:.3g}" for name in ("ours", "published", "tuned")
    ]
    return f"| {row['what']} | {' | '.join(values)} | {row['unit']} | {row.get('tuned_is', '')} |"


if __name__ == "__main__":
    main()
