"""Do neighbouring planes or time points help? A real time lapse of volumes with noise added, plane by plane and with neighbours.

    python experiments/volume.py ../shared/data/volume/cho_nuclei_tzyx.tif

The file (T, Z, Y, X) is taken for the truth, though it is noisy itself (4.8 grey levels of at most
255), and gets so much Poisson-Gaussian noise that its own hardly counts. Rows: the noisy
volume; filters of planes (y, x), of volumes (z, y, x) and of time lapses (t, y, x), their size
chosen with the truth; trainings that see each plane alone, with its neighbours in depth, or with
those in time. PSNR with the range of the truth +- standard error over seeds.
"""

import argparse
import dataclasses
import itertools
import time
from pathlib import Path

import jax
import numpy as np

import jaxdenoise as jd

CAMERAS = {
    "strong": {"gain": 10.0, "read_std": 10.0},
    "very strong": {"gain": 30.0, "read_std": 20.0},
}
SIGMAS = (0.5, 0.7, 1.0, 1.4, 2.0)
ACROSS = (0.3, 0.5, 0.7, 1.0)  # sigma in depth or time
AXES = {
    "y, x": None,
    "z, y, x": 0,
    "t, y, x": 1,
}  # of (T, Z, Y, X): which one numbers the stacks that are filtered


def stacks(volume, axis):
    """(T, Z, Y, X) as a list of stacks (N, Y, X); None: each plane is one."""
    return list(
        volume.reshape(-1, 1, *volume.shape[2:]) if axis is None else np.moveaxis(volume, axis, 0)
    )


def together(stacks, axis, shape):
    """The inverse of `stacks`."""
    return np.reshape(stacks, shape) if axis is None else np.moveaxis(np.stack(stacks), 0, axis)


def filters(axis):
    """(name, filter of a stack, its candidates) of the filters that are compared."""
    planes = [(1,)] if axis is None else [(3,), (5,)]
    sizes = [(*first, size, size) for first in planes for size in (3, 5)]
    across = [()] if axis is None else [(sigma,) for sigma in ACROSS]
    sigmas = [(*first, sigma, sigma) for first in across for sigma in SIGMAS]
    yield "Gaussian", lambda stack, sigma: jd.gaussian_filter(stack, sigma), sigmas
    yield "median", lambda stack, size: jd.median_filter(stack, size), sizes
    yield "box", lambda stack, size: jd.box3d_filter(stack, size), sizes


def filtered(filter, candidates, noisy, truth, axis):
    """The result for the candidate that the truth chooses."""
    results = (
        [np.asarray(filter(stack, value)) for stack in stacks(noisy, axis)] for value in candidates
    )
    return max(
        (together(result, axis, noisy.shape) for result in results),
        key=lambda result: quality(result, truth),
    )


def trained(noisy, axis, neighbours, preset, seed):
    """A training on all planes; ``axis`` and ``neighbours`` say which of them it sees together."""
    config = jd.TrainConfig.preset(preset)
    config = dataclasses.replace(
        config, network=dataclasses.replace(config.network, neighbours=neighbours)
    )
    sequences = np.stack(stacks(noisy, axis))
    denoiser = jd.fit(jax.random.key(seed), sequences, psf=jd.gaussian_psf(1.0), config=config)
    return together(list(jd.denoise(denoiser, sequences).denoised), axis, noisy.shape)


def quality(result, truth):
    """PSNR in decibels."""
    return float(jd.psnr(truth, result, data_range=float(np.ptp(truth))))


def main():
    """Add noise, run all methods, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path)
    parser.add_argument("--presets", default="best", help="with commas")
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--noise", default=",".join(CAMERAS), help="with commas")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    image = jd.read(args.volume, axes="TZYX")
    truth = image.frames.reshape(image.info.shape)
    print("| noise | method | PSNR | seconds |\n|---|---|---|---|")
    for name in args.noise.split(","):
        noisy = np.asarray(jd.poisson_gaussian_noise(jax.random.key(0), truth, **CAMERAS[name]))
        print(f"| {name} | noisy | {quality(noisy, truth):.2f} | |")
        for label, axis in AXES.items():
            for kind, filter, candidates in filters(axis):
                print(
                    f"| {name} | {kind} {label} | {quality(filtered(filter, candidates, noisy, truth, axis), truth):.2f} | |",
                    flush=True,
                )
        for preset, (label, axis) in itertools.product(args.presets.split(","), AXES.items()):
            began, neighbours = time.monotonic(), 0 if axis is None else args.neighbours
            found = [
                quality(trained(noisy, axis, neighbours, preset, seed), truth)
                for seed in range(args.seeds)
            ]
            error = (
                f" \N{PLUS-MINUS SIGN} {np.std(found, ddof=1) / len(found) ** 0.5:.2f}"
                if len(found) > 1
                else ""
            )
            seconds = (time.monotonic() - began) / len(found)
            print(
                f"| {name} | {preset} {label} | {np.mean(found):.2f}{error} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
