"""Measure whether neighbouring planes or time points help, on a real time lapse of volumes.

    python experiments/volume.py VOLUME.tif -o volume.json

The file (T, Z, Y, X) is taken for the truth, though it is noisy itself (the CHO nuclei have 4.8
grey levels of at most 255), and gets so much Poisson-Gaussian noise that its own hardly counts.
Rows: the noisy volume; filters of planes (y, x), of volumes (z, y, x) and of time lapses (t, y, x),
their size chosen with the truth; trainings that see each plane alone, with its neighbours in depth,
or with those in time. PSNR with the range of the truth +- standard error over seeds.
"""

import dataclasses
import itertools
import time
from pathlib import Path

import jax
import numpy as np
from common import arguments, store
from common.tables import Table

import jaxdenoise as jd

CAMERAS = {
    "strong": {"gain": 10.0, "read_std": 10.0},
    "very strong": {"gain": 30.0, "read_std": 20.0},
}
SIGMAS = (0.5, 0.7, 1.0, 1.4, 2.0)
ACROSS = (0.3, 0.5, 0.7, 1.0)  # sigma in depth or time
AXES = {"y, x": None, "z, y, x": 0, "t, y, x": 1}  # which axis of (T, Z, Y, X) numbers the stacks


def stacks(volume, axis):
    """Return (T, Z, Y, X) as a list of stacks (N, Y, X); without an axis each plane is one."""
    return list(
        volume.reshape(-1, 1, *volume.shape[2:]) if axis is None else np.moveaxis(volume, axis, 0)
    )


def together(parts, axis, shape):
    """Return the volume that `stacks` divided into these parts."""
    return np.reshape(parts, shape) if axis is None else np.moveaxis(np.stack(parts), 0, axis)


def filters(axis):
    """Yield (name, filter of a stack, its candidates)."""
    planes = [(1,)] if axis is None else [(3,), (5,)]
    sizes = [(*first, size, size) for first in planes for size in (3, 5)]
    across = [()] if axis is None else [(sigma,) for sigma in ACROSS]
    sigmas = [(*first, sigma, sigma) for first in across for sigma in SIGMAS]
    yield "Gaussian", lambda stack, sigma: jd.gaussian_filter(stack, sigma), sigmas
    yield "median", lambda stack, size: jd.median_filter(stack, size), sizes
    yield "box", lambda stack, size: jd.box3d_filter(stack, size), sizes


def filtered(smooth, candidates, noisy, truth, axis):
    """Return the result for the candidate that the truth chooses."""
    results = (
        [np.asarray(smooth(stack, value)) for stack in stacks(noisy, axis)] for value in candidates
    )
    return max(
        (together(result, axis, noisy.shape) for result in results),
        key=lambda result: psnr(result, truth),
    )


def trained(noisy, axis, neighbours, preset, seed):
    """Return the result of a training on all planes, each seen with its neighbours on the axis."""
    config = jd.TrainConfig.preset(preset)
    config = dataclasses.replace(
        config, network=dataclasses.replace(config.network, neighbours=neighbours)
    )
    sequences = np.stack(stacks(noisy, axis))
    denoiser = jd.fit(jax.random.key(seed), sequences, psf=jd.gaussian_psf(1.0), config=config)
    return together(list(jd.denoise(denoiser, sequences).denoised), axis, noisy.shape)


def psnr(result, truth):
    """Return the PSNR in dB with the range of the truth."""
    return float(jd.psnr(truth, result, data_range=float(np.ptp(truth)), ndim=3))


def add_trained(table, name, noisy, truth, args):
    """Add a row for each preset and axis: the mean over seeds."""
    for preset, (label, axis) in itertools.product(args.presets, AXES.items()):
        began, neighbours = time.monotonic(), 0 if axis is None else args.neighbours
        found = [
            psnr(trained(noisy, axis, neighbours, preset, seed), truth)
            for seed in range(args.seeds)
        ]
        seconds = (time.monotonic() - began) / len(found)
        told = f"{np.mean(found):.2f}"
        if len(found) > 1:
            told += f" \N{PLUS-MINUS SIGN} {np.std(found, ddof=1) / len(found) ** 0.5:.2f}"
        table.add(name, f"{preset} {label}", told, f"{seconds:.0f}")


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "volume.json")
    parser.add_argument("volume", type=Path, help="file of (T, Z, Y, X)")
    parser.add_argument(
        "--presets", type=arguments.comma_list, default=["best"], help="separated by commas"
    )
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument(
        "--noise", type=arguments.comma_list, default=list(CAMERAS), help="separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=1)
    return parser


def main(argv=None):
    """Add noise, run all methods, print and write the table."""
    args = build_parser().parse_args(argv)
    image = jd.read(args.volume, axes="TZYX")
    truth = image.frames.reshape(image.info.shape)
    title = "Neighbouring planes and time points"
    table = Table(title, ["noise", "method", "PSNR in dB", "seconds"]).start()
    for name in args.noise:
        noisy = np.asarray(jd.poisson_gaussian_noise(jax.random.key(0), truth, **CAMERAS[name]))
        table.add(name, "noisy", f"{psnr(noisy, truth):.2f}", None)
        for label, axis in AXES.items():
            for kind, smooth, candidates in filters(axis):
                result = filtered(smooth, candidates, noisy, truth, axis)
                table.add(name, f"{kind} {label}", f"{psnr(result, truth):.2f}", None)
        add_trained(table, name, noisy, truth, args)
    store.write(args.output, group="pieces", title=title, tables=[table])


if __name__ == "__main__":
    main()
