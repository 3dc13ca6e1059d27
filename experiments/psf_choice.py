"""Does the choice of the PSF without ground truth find the right one? Every candidate is trained to the end and judged with the truth.

    python experiments/psf_choice.py --data ../shared/data -o psf_choice

Without `--data` on synthetic stacks alone: true sigma 0.7, 1.0, 1.5 and 2.0, three seeds each, 8
frames of 256x256. With it also on FMD (stack and single protocol) and W2S (single), as in
benchmark_real.py. `auto` is read off the same trainings: a model that successive halving drops is
the beginning of the one that was trained to the end. Each result is kept in the folder as soon as
it is there; a run that is started again goes on where it stopped. `--report` prints the table of
what is there.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from benchmark_real import quality, tasks

import jaxdenoise as jd
from jaxdenoise.microscope import synthetic
from jaxdenoise.training import scores
from jaxdenoise.training.sweep import HALVING, SIGMAS

TRUE_SIGMAS, SEEDS = (0.7, 1.0, 1.5, 2.0), 3
SYNTHETIC_EPOCHS = 10  # those of the demonstration, whose stacks these are


def experiments(data):
    """(name, function that gives (noisy, truth, protocol), true sigma or None, `TrainConfig`) of each experiment."""
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
    """A synthetic stack, its truth, and its protocol."""
    stack = synthetic.static_scene(
        jax.random.key(1000 + seed), frames=8, shape=(256, 256), psf_sigma=sigma
    )
    return np.asarray(stack.noisy), np.asarray(stack.clean), "synthetic"


def judged(noisy, truth, protocol, config, psfs, seed):
    """One row a candidate: its errors at each stage of `HALVING` and at the end, and the quality of what it denoises."""
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
    """Index of the candidate that successive halving chooses, as `sweep.sweep` does."""
    left = list(range(len(rows)))
    for share, keep in HALVING:
        errors = {k: np.array(rows[k]["errors"][str(max(1, round(share * epochs)))]) for k in left}
        if keep > 1:
            left = sorted(sorted(left, key=lambda k: errors[k].mean())[:keep])
        else:
            left = [left[scores.choose([errors[k] for k in left], [rows[k]["psf"] for k in left])]]
    return left[0]


def rank_correlation(a, b):
    """Spearman's."""
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def report(folder):
    """Print what is there as a table; PSNR in dB (scale-invariant for W2S), that of `auto` in bold."""
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    sigmas = [f"{row['psf']:g}" for row in results[0]["candidates"]] if results else []
    columns = ["data", "true sigma", *sigmas, "auto", "behind the best", "above the narrowest"]
    columns += ["rank correlation", "masked error would choose"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for result in results:
        rows, key = result["candidates"], "si_psnr" if result["name"].startswith("w2s") else "psnr"
        values, auto = np.array([row[key] for row in rows]), automatic(rows, result["epochs"])
        errors = [np.mean(row["errors"][str(result["epochs"])]) for row in rows]
        masked = int(np.argmin([row["masked"] for row in rows]))
        cells = [result["name"], str(result["true_sigma"] or "-")]
        cells += [
            f"**{value:.2f}**" if k == auto else f"{value:.2f}" for k, value in enumerate(values)
        ]
        cells += [
            f"{rows[auto]['psf']:g}",
            f"{values.max() - values[auto]:.2f}",
            f"{values[auto] - values[0]:.2f}",
        ]
        cells += [
            f"{rank_correlation(errors, -values):.2f}",
            f"{rows[masked]['psf']:g} ({values[masked]:.2f})",
        ]
        print(f"| {' | '.join(cells)} |")


def main():
    """Parse, run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with fmd/{raw,gt} and w2s/{noisy,gt}")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("psf_choice"), help="folder of the results"
    )
    parser.add_argument("--only", default="", help="run the experiments whose names hold this text")
    parser.add_argument(
        "--sigmas",
        type=lambda text: tuple(map(float, text.split(","))),
        default=SIGMAS,
        help="of the candidates",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--report", action="store_true", help="print the table only")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, load, true_sigma, config in [] if args.report else experiments(args.data):
        file = args.output / f"{name.replace('/', '_')}.json"
        if args.only not in name or file.exists():
            continue
        began = time.monotonic()
        rows = judged(*load(), config, args.sigmas, args.seed)
        result = {
            "name": name,
            "true_sigma": true_sigma,
            "epochs": config.epochs,
            "candidates": rows,
        }
        file.write_text(json.dumps(result))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    report(args.output)


if __name__ == "__main__":
    main()
