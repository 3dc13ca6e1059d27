"""PSNR against seconds of training: the preset `fast` of several lengths, and both PyTorch rivals at the published settings.

    pip install torch==2.13.0
    python experiments/quality_vs_seconds.py ../shared/data -o quality_vs_seconds --budget 3600

FMD, stack protocol, as in benchmark_real.py. Ours is a new training for each point, since its
learning rate falls to zero by its end; compiling is included, averaging over symmetries too, with
its own seconds. The rivals train on for the whole budget (seconds) and are
judged on the way: the last 30 % of the frames validate, the rate halves when ten validations
brought nothing, as published. The clock of a rival stands still while it is judged. Where other
work shares the machine, --patches-a-second counts a rival's patches instead, at the rate that
speed_vs_pytorch.py measured alone (validation is free then). Every point is kept in the folder as
soon as it is there; a run that is started again goes on with the next curve.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
import torch
from benchmark_real import quality, tasks
from pytorch_rivals import VIRTUAL_BATCH, Published, Tuned

import jaxdenoise as jd
from jaxdenoise.training.problem import estimate_background

TYPES = ("Confocal_MICE", "TwoPhoton_MICE", "Confocal_FISH")
EPOCHS = (2, 4, 8, 14, 22)
STEPS_PER_EPOCH = 10
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def ours(noisy, truth):
    """Rows of {"seconds", "psnr"}: one training each; prediction apart."""
    for epochs in EPOCHS:
        jax.clear_caches()
        began = time.monotonic()
        denoiser = jd.fit(
            jax.random.key(0),
            noisy,
            psf=jd.gaussian_psf(1.0),
            config=jd.TrainConfig(epochs=epochs, targets="own"),
        )
        trained = jax.block_until_ready(denoiser) and time.monotonic()
        result = jd.denoise(denoiser, noisy).denoised
        row = {
            "epochs": epochs,
            "seconds": round(trained - began, 1),
            "prediction_s": round(time.monotonic() - trained, 1),
        }
        yield row | quality(result, truth, "fmd-stack")


def rival(noisy, truth, name, budget, rate=None):
    """Rows of {"seconds", "psnr"} of one training, at times that grow by a fifth."""
    background = float(estimate_background(noisy))
    frames = (noisy - background).astype(np.float32)
    spare = max(1, round(0.3 * len(frames)))
    psf = np.asarray(jd.gaussian_psf(1.0, size=81))
    if name == "published":
        model = Published(frames[:-spare], psf, device=DEVICE)
    else:
        model = Tuned(frames[:-spare], psf.sum(axis=0), compiled=False, device=DEVICE)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(model.optimizer, factor=0.5, patience=10)
    spent, next_look, epochs = 0.0, 20.0, 0
    while spent < budget:
        began = time.monotonic()
        for _ in range(STEPS_PER_EPOCH):
            model.step()
        plateau.step(model.validate(frames[-spare:]))
        spent += (
            time.monotonic() - began if rate is None else STEPS_PER_EPOCH * VIRTUAL_BATCH / rate
        )
        epochs += 1
        if spent >= next_look:
            result = np.stack([model.predict(frame) for frame in frames]) + background
            yield {"epochs": epochs, "seconds": round(spent, 1)} | quality(
                result, truth, "fmd-stack"
            )
            next_look = 1.2 * spent


def save_chart(path, curves):
    """PSNR against seconds, one panel a type."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    for axes, (title, methods) in zip(
        np.atleast_1d(figure.subplots(1, len(curves))), curves.items(), strict=True
    ):
        for name, rows in methods.items():
            axes.plot(
                [row["seconds"] for row in rows],
                [row["psnr"] for row in rows],
                marker=".",
                label=name,
            )
        axes.set(title=title, xscale="log", xlabel="seconds of training", ylabel="PSNR in dB")
        axes.legend()
    figure.savefig(path, dpi=150)


def main():
    """Parse, run and print what is not there yet, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with fmd/{raw,gt}")
    parser.add_argument("-o", "--output", type=Path, default=Path("quality_vs_seconds"))
    parser.add_argument(
        "--budget", type=float, default=3600, help="seconds of training of each rival"
    )
    parser.add_argument(
        "--only",
        default="",
        help="run the curves whose names hold this text, such as TwoPhoton_MICE-published",
    )
    parser.add_argument(
        "--patches-a-second",
        type=float,
        help="count time by a rival's patches at this rate, see above",
    )
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    stacks = {
        name.removeprefix("fmd-stack/"): (noisy, truth)
        for name, noisy, truth, protocol in tasks(args.data)
        if protocol == "fmd-stack"
    }
    curves = {}
    for kind in TYPES:
        for name in ("ours", "published", "tuned"):
            file = args.output / f"{kind}-{name}.json"
            if args.only not in file.name and not file.exists():
                continue
            if not file.exists():
                rows = []
                for row in (
                    ours(*stacks[kind])
                    if name == "ours"
                    else rival(*stacks[kind], name, args.budget, args.patches_a_second)
                ):
                    rows.append(row)
                    file.write_text(json.dumps(rows))
                    print(
                        f"| {kind} | {name} | {row['epochs']} | {row['seconds']:.0f} | {row['psnr']:.2f} |",
                        flush=True,
                    )
            curves.setdefault(kind, {})[name] = json.loads(file.read_text())
    save_chart(args.output / "quality_vs_seconds.png", curves)


if __name__ == "__main__":
    main()
