"""Which epoch denoises, and which would have been best: the choice by held-out pixels against the choice with the truth.

    python experiments/stopping.py ../shared/data --only w2s-single/010_0,fmd-single/TwoPhoton_MICE

Protocols as in benchmark_real.py, without the averaging over symmetries. After each epoch the
averaged weights denoise; for FMD too the PSNR is scale-invariant, because the captures differ in
brightness from the truth.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import numpy as np
from benchmark_real import quality, tasks

import jaxdenoise as jd
from jaxdenoise.training.fit import denoiser_of
from jaxdenoise.training.problem import prepare


def qualities(noisy, truth, protocol, config, seed):
    """Scale-invariant PSNR after each epoch, and the index of the epoch that the training chose."""
    key, psf = jax.random.key(seed), jd.gaussian_psf(1.0)
    problem, prepared = prepare(key, noisy, psf=psf, config=config)
    last = dataclasses.replace(prepared, weights="averaged")
    found = []

    def after_epoch(snapshot):
        denoised = jd.denoise(denoiser_of(snapshot, problem, last), noisy).denoised
        found.append(quality(denoised, truth, protocol)["si_psnr"])

    denoiser = jd.fit(key, noisy, psf=psf, config=config, on_epoch=after_epoch)
    return found, int(np.flatnonzero(denoiser.history["chosen"])[-1])


def main():
    """One row a data set, preset and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--only",
        default="",
        help="the experiments whose names hold one of these texts, with commas",
    )
    parser.add_argument("--presets", default="fast,best", help="with commas")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    print(
        "| experiment | preset | seed | first epoch | best epoch | chosen epoch | behind the best |\n|---|---|---|---|---|---|---|"
    )
    for name, noisy, truth, protocol in tasks(args.data):
        if not any(part in name for part in args.only.split(",")):
            continue
        for preset in args.presets.split(","):
            config = jd.TrainConfig.preset(preset, symmetries=1)
            for seed in range(args.seeds):
                found, chosen = qualities(noisy, truth, protocol, config, seed)
                rows = [(found[epoch], epoch + 1) for epoch in (0, int(np.argmax(found)), chosen)]
                told = " | ".join(f"{psnr:.2f} ({epoch})" for psnr, epoch in rows)
                print(
                    f"| {name} | {preset} | {seed} | {told} | {max(found) - found[chosen]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
