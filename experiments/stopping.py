"""Compare the epoch that held-out pixels choose with the one that the truth would have chosen.

    python experiments/stopping.py DATA --only w2s-single/010_0,fmd-single/TwoPhoton_MICE

Protocols as in benchmark_real.py, without the averaging over symmetries. After each epoch the
averaged weights denoise. For FMD too the PSNR is scale-invariant, because the captures differ in
brightness from the truth.
"""

import dataclasses

import jax
import numpy as np
from common import arguments, store
from common.data import tasks
from common.quality import quality
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.training.fit import denoiser_of, train
from jaxdenoise.training.problem import prepare

COLUMNS = ["experiment", "preset", "seed", "first epoch", "best epoch", "chosen epoch"]
COLUMNS += ["behind the best"]


def qualities(noisy, truth, protocol, config, seed):
    """Return the scale-invariant PSNR after each epoch, and the index of the chosen epoch."""
    key, psf = jax.random.key(seed), jd.gaussian_psf(1.0)
    plan = prepare(key, noisy, psf=psf, config=config)
    last = dataclasses.replace(plan.settings, weights="averaged")
    found = []

    def after_epoch(snapshot):
        denoised = jd.denoise(denoiser_of(snapshot, plan.problem, last), noisy).denoised
        found.append(quality(denoised, truth, protocol)["si_psnr"])

    denoiser = train(key, plan, on_epoch=after_epoch)
    return found, int(np.flatnonzero(denoiser.history["chosen"])[-1])


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "stopping.json")
    arguments.add_data(parser)
    arguments.add_only(parser)
    parser.add_argument(
        "--presets",
        type=arguments.comma_list,
        default=["fast", "best"],
        help="separated by commas",
    )
    parser.add_argument("--seeds", type=int, default=1)
    return parser


def main(argv=None):
    """Print and write a row for each experiment, preset and seed."""
    args = build_parser().parse_args(argv)
    title = "Which epoch denoises"
    table = Table("Scale-invariant PSNR in dB, epoch in brackets", COLUMNS).start()
    for name, noisy, truth, protocol in tasks(args.data):
        if not arguments.is_chosen(name, args.only):
            continue
        for preset in args.presets:
            config = jd.TrainConfig.preset(preset, symmetries=1)
            for seed in range(args.seeds):
                found, chosen = qualities(noisy, truth, protocol, config, seed)
                epochs = 0, int(np.argmax(found)), chosen
                told = (f"{found[epoch]:.2f} ({epoch + 1})" for epoch in epochs)
                table.add(name, preset, seed, *told, f"{max(found) - found[chosen]:.2f}")
                store.write(args.output, group="pieces", title=title, tables=[table])


if __name__ == "__main__":
    main()
