"""The measurements of `speed_vs_pytorch`: ours and both PyTorch rivals, taking turns.

Each part is a function of the command line's arguments that yields rows, dicts of `measurement`.
"""

import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tifffile
import torch

import jaxdenoise as jd
from common.filter_rivals import filter_rivals
from common.pytorch_rivals import DEVICE, VIRTUAL_BATCH, Published, Tuned
from common.timing import seconds, times_in_turn
from jaxdenoise.training.epochs import run_epoch
from jaxdenoise.training.fit import start
from jaxdenoise.training.problem import prepare
from jaxdenoise.training.step import batch_gradients, draw_batch

RIVALS = ("ours", "published", "tuned")
KEY = jax.random.key(0)
PSF = np.asarray(jd.gaussian_psf(1.0, size=81))  # the published size
STEPS = 1 if DEVICE == "cpu" else 50  # of 20 patches, timed at once


def frames(count=4, side=512):
    """Return noise about 100 grey levels: the values do not matter for the speed."""
    return np.random.default_rng(0).normal(100, 20, (count, side, side)).astype(np.float32)


def measurement(what, unit, times, *, amount=None, **more):
    """Return the median and the range of each rival: rates if there is an amount, else seconds."""
    values = {
        name: [amount / t if amount else t for t in seconds] for name, seconds in times.items()
    }
    medians = {name: round(statistics.median(v), 4) for name, v in values.items()}
    ranges = {name: [round(min(v), 4), round(max(v), 4)] for name, v in values.items()}
    row = {"what": what, "ours": None, "published": None, "tuned": None} | medians
    return row | {"unit": unit, "range": ranges} | more


def waiting(function):
    """Return the function with a wait for the device to finish."""

    def run():
        function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return run


def steps_of(rival, count=STEPS):
    """Return a function that trains a rival for some steps."""
    return waiting(lambda: [rival.step() for _ in range(count)])


def precisions(args):
    """Return (suffix of the name, our precision, choices of bfloat16 in PyTorch) for each row."""
    rows = (("", "auto", (True, False)), (", float32", "float32", (False,)))
    return rows[:1] if args.quick else rows


def fastest(args, bfloat16s=(True, False), work=Tuned.step, **options):
    """Return the fastest tuned rival at some work, its name, and the seconds of its compiling.

    Those are the seconds by which its first time took longer than the best of the next three.
    """
    trials = {}
    for bfloat16, compiled in itertools.product(
        bfloat16s, (False,) if args.quick else (False, True)
    ):
        # Without this a shape that was seen before counts as compiled, and another one is compiled
        # for all shapes.
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


class Ours:
    """Our training, step by step, as `jaxdenoise.fit` does it."""

    def __init__(self, config, stack, psf=PSF):
        plan = prepare(KEY, stack, psf=psf, config=config)
        self.problem, self.config = plan.problem, plan.settings
        self.snapshot = start(KEY, self.config)

    def epoch(self):
        """Train for one epoch."""
        self.snapshot = run_epoch(KEY, self.snapshot, self.problem, self.config)
        jax.block_until_ready(self.snapshot.state.params)


def training_speed(args):
    """Patches a second at the published settings, in any precision and float32; compile time."""
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
    """The whole training of the preset: the same network, patches and steps for everyone."""
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
    """The command line with the preset fast, first with an empty compilation cache.

    From a file of 4 x 512 x 512 pixels to the result.
    """
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
    """The whole published training on an accelerator, compiling included.

    And its share of the rate that the device's matrix products reach. Skipped on CPUs.
    """
    if DEVICE == "cpu":
        return  # it would take hours
    config = jd.TrainConfig.paper(precision="auto")
    times = [
        seconds(lambda: jax.block_until_ready(jd.fit(KEY, frames(), psf=PSF, config=config).last))
        for _ in range(3)
    ]
    count = config.epochs * config.steps_per_epoch * config.batch_size
    yield measurement(f"the published procedure, {count:,} patches", "seconds", {"ours": times})
    ours = Ours(config, frames())
    one = dataclasses.replace(ours.config, batch_size=1)
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
                "ours": (partial(jd.denoise, denoiser, image), None),
                "published": (partial(published.predict, image), None if side == 512 else 1),
                "tuned": (partial(tuned.predict, image), None),
            }
            times = times_in_turn(rivals, args.runs)
            what_size = f"prediction, {side} x {side}{what}"
            yield measurement(
                what_size, "megapixels a second", times, amount=side**2 / 1e6, tuned_is=name
            )


def sweep_speed(args):
    """Several PSFs at once; the tuned rival trains them one after the other."""
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
            "ours": lambda psfs=psfs: jd.sweep(KEY, frames(), psfs=psfs, config=config),
            "ours_one_by_one": lambda alone=alone: [ours.epoch() for ours in alone],
            "tuned": steps_of(tuned, count * config.steps_per_epoch),
        }
        times = times_in_turn(
            {key: (function, None) for key, function in rivals.items()}, args.runs
        )
        what = f"sweep over {count} PSFs, {steps} steps each, scored"
        yield measurement(what, "seconds", times, tuned_is=name)


def filter_speed(args):
    """16 images; everyone gets them in the form that suits it best."""
    for side in (512,) if args.quick else (512, 2048):
        for name, rivals in filter_rivals(frames(16, side), DEVICE).items():
            functions = {
                "ours": (rivals.ours, None),
                "tuned": (waiting(rivals.torch), None if "median" not in name else 1),
                "opencv": (rivals.opencv, None),
                "scipy": (rivals.scipy, 1),
            }
            yield measurement(
                f"{name} filter, 16 images of {side} x {side}",
                "megapixels a second",
                times_in_turn(functions, args.runs),
                amount=16 * side**2 / 1e6,
            )
