"""A sweep over PSFs as the command line runs it. Host side."""

import jax

from jaxdenoise.training import sweep as sweep_
from jaxdenoise.training.halving import HALVING, epochs_in_all
from jaxdenoise.workflows.requests import config_of, devices


def sweep(args, stack, bars, *, psfs):
    """The `sweep.Sweep` that the flags of the verb `sweep` ask for; arguments as of `train`."""
    config, halving = config_of(args), HALVING if args.halving else ()
    epochs = args.seeds * epochs_in_all(halving, config.epochs, len(psfs))
    on_epoch = bars.training(config, total=epochs)
    return sweep_.sweep(
        jax.random.key(args.seed),
        stack,
        psfs=list(psfs.values()),
        seeds=args.seeds,
        config=config,
        halving=halving,
        devices=devices(args, several=True),
        on_epoch=lambda snapshots: [on_epoch(snapshot) for *_, snapshot in snapshots],
    )


def table(models, names, chosen):
    """The rows of a sweep for JSON: {"chosen": PSF, "candidates": [...]}.

    Args:
        models: of `sweep.Sweep`.
        names: of the PSFs, as given to `psfs_of`; numbers become sigmas in pixels.
        chosen: index of the PSF that was chosen.
    """
    rows = [
        {
            "psf": _value(names[model.psf_index]),
            "seed": model.seed,
            "score": model.score,
            "score_se": model.score_se,
            "psnr": None,
            "seconds": round(model.seconds, 1),
            "epochs": model.epochs,
        }
        for model in models
    ]
    return {"chosen": _value(names[chosen]), "candidates": rows}


def _value(name):
    try:
        return float(name)
    except ValueError:
        return 0.0 if name == "none" else name
