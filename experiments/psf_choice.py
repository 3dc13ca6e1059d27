"""Measure whether the choice of the PSF without ground truth finds the right one.

    python experiments/psf_choice.py --data DATA -o psf_choice.json

Every candidate is trained to the end and judged with the truth. `auto` is read off the same
trainings: a model that successive halving drops is the beginning of the one that was trained to the
end. Without `--data` on synthetic stacks alone: true sigma 0.7, 1.0, 1.5 and 2.0, three seeds each,
8 frames of 256x256 pixels. With it also on FMD (stack and single protocol) and W2S (single), as in
benchmark_real.py. A synthetic stack takes five minutes on one core, a real one ten.

The folder keeps each result as soon as it is there; a run that is started again continues where it
stopped. `--report` shows the table of what is there.
"""

import json
import time

import jax
import numpy as np
from common import arguments, store
from common.data import tasks
from common.quality import criterion, quality
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.microscope import synthetic
from jaxdenoise.training.halving import HALVING
from jaxdenoise.training.selection import choose
from jaxdenoise.training.sweep import SIGMAS

TRUE_SIGMAS, SEEDS = (0.7, 1.0, 1.5, 2.0), 3
SYNTHETIC_EPOCHS = 10  # as in the demonstration, whose stacks these are
NOTE = """\
PSNR in dB (scale-invariant for W2S) of each candidate sigma, that of `auto` in bold; the rank \
correlation is Spearman's, between the final scores and the PSNR."""


def experiments(data):
    """Yield (name, function that returns (noisy, truth, protocol), true sigma, `TrainConfig`)."""
    for sigma in TRUE_SIGMAS:
        for seed in range(SEEDS):
            yield (
                f"synthetic/{sigma:g}-{seed}",
                lambda sigma=sigma, seed=seed: scene(sigma, seed),
                sigma,
                jd.TrainConfig(epochs=SYNTHETIC_EPOCHS, targets="own"),
            )
    for name, *images in tasks(data) if data else ():
        yield name, lambda images=images: images, None, jd.TrainConfig(targets="own")


def scene(sigma, seed):
    """Return a synthetic stack, its truth, and its protocol."""
    stack = synthetic.static_scene(
        jax.random.key(1000 + seed), frames=8, shape=(256, 256), psf_sigma=sigma
    )
    return np.asarray(stack.noisy), np.asarray(stack.clean), "synthetic"


def judged(noisy, truth, protocol, config, psfs, seed):
    """Return a row for each candidate: its errors at each stage of `HALVING`, and its quality."""
    everyone = [(share, len(psfs)) for share, _ in HALVING]  # none is dropped, all are scored
    found = jd.sweep(
        jax.random.key(seed),
        noisy,
        psfs=[jd.gaussian_psf(sigma) for sigma in psfs],
        config=config,
        halving=everyone,
    )
    rows = []
    for sigma, model in zip(psfs, found.models, strict=True):
        result = jd.denoise(model.denoiser, noisy).denoised
        errors = {
            str(epoch): [float(f"{error:.6g}") for error in values]
            for epoch, values in model.errors.items()
        }
        masked = float(model.denoiser.history["validation_loss"][-1])
        rows.append(
            {"psf": sigma, "seconds": round(model.seconds, 1), "errors": errors, "masked": masked}
            | quality(result, truth, protocol)
        )
    return rows


def automatic(rows, epochs):
    """Return the index of the candidate that successive halving chooses, as `sweep` does."""
    left = list(range(len(rows)))
    for share, keep in HALVING:
        errors = {k: np.array(rows[k]["errors"][str(max(1, round(share * epochs)))]) for k in left}
        if keep > 1:
            left = sorted(sorted(left, key=lambda k: errors[k].mean())[:keep])
        else:
            widths = [rows[k]["psf"] for k in left]
            left = [left[choose(np.stack([errors[k] for k in left]), widths)]]
    return left[0]


def rank_correlation(a, b):
    """Return Spearman's rank correlation."""
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def report(folder):
    """Return the table of the results in the folder."""
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    sigmas = [f"{row['psf']:g}" for row in results[0]["candidates"]] if results else []
    columns = ["data", "true sigma", *sigmas, "auto", "behind the best", "above the narrowest"]
    columns += ["rank correlation", "masked error would choose"]
    table = Table("Candidates judged with the truth", columns)
    for result in results:
        rows, key = result["candidates"], criterion(result["name"])
        values, auto = np.array([row[key] for row in rows]), automatic(rows, result["epochs"])
        errors = [np.mean(row["errors"][str(result["epochs"])]) for row in rows]
        masked = int(np.argmin([row["masked"] for row in rows]))
        table.add(
            result["name"],
            result["true_sigma"],
            *(f"**{v:.2f}**" if k == auto else f"{v:.2f}" for k, v in enumerate(values)),
            f"{rows[auto]['psf']:g}",
            f"{values.max() - values[auto]:.2f}",
            f"{values[auto] - values[0]:.2f}",
            f"{rank_correlation(errors, -values):.2f}",
            f"{rows[masked]['psf']:g} ({values[masked]:.2f})",
            show=False,
        )
    return table


def run(args):
    """Train and judge what is not in the folder yet."""
    for name, load, true_sigma, config in experiments(args.data):
        file = args.folder / f"{name.replace('/', '_')}.json"
        if not arguments.is_chosen(name, args.only) or file.exists():
            continue
        began = time.monotonic()
        rows = judged(*load(), config, args.sigmas, args.seed)
        result = {"name": name, "true_sigma": true_sigma, "epochs": config.epochs}
        file.write_text(json.dumps(result | {"candidates": rows}))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "psf_choice.json")
    arguments.add_data(parser, optional="without it, synthetic stacks only")
    arguments.add_folder(parser, "psf_choice", "the measurements")
    arguments.add_only(parser)
    parser.add_argument(
        "--sigmas",
        type=lambda text: tuple(map(float, text.split(","))),
        default=SIGMAS,
        help="of the candidates, separated by commas",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--report", action="store_true", help="train nothing, show the table only")
    return parser


def main(argv=None):
    """Run what is not there yet, print and write the table."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        run(args)
    table = report(args.folder)
    print(table.markdown())
    title = "The choice of the PSF without ground truth"
    store.write(args.output, group="psf", title=title, tables=[table], note=NOTE)


if __name__ == "__main__":
    main()
