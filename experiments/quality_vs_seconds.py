"""Measure PSNR against seconds of training: the preset `fast` and both PyTorch rivals.

    python experiments/quality_vs_seconds.py DATA -o quality_vs_seconds.json --budget 3600

FMD, stack protocol, as in benchmark_real.py. Ours is a new training for each point, since its
learning rate falls to zero by its end. Its seconds include compiling; the prediction, with the
averaging over symmetries, has seconds of its own. The rivals train at the published settings for
the whole budget (seconds) and are judged on the way: the last 30 % of the frames validate, and the
rate halves when ten validations brought nothing, as published. The clock of a rival stands still
while it is judged. Where other work shares the machine, --patches-a-second counts a rival's patches
instead, at the rate that speed_vs_pytorch.py measured alone (validation is free then).

The folder keeps every point as soon as it is there, and the chart; a run that is started again
continues with the next curve.
"""

import json
import time

import jax
import numpy as np
import torch
from common import arguments, store
from common.data import tasks
from common.pytorch_rivals import DEVICE, VIRTUAL_BATCH, Published, Tuned
from common.quality import quality
from common.tables import Table
from matplotlib.figure import Figure

import jaxdenoise as jd
from jaxdenoise.network.exposure import estimate_background

TYPES = ("Confocal_MICE", "TwoPhoton_MICE", "Confocal_FISH")
EPOCHS = (2, 4, 8, 14, 22)
STEPS_PER_EPOCH = 10


def ours(noisy, truth):
    """Yield a row for each number of epochs: one training each, seconds, PSNR."""
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
    """Yield a row now and then in one training, at times that grow by a fifth: seconds, PSNR."""
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
            row = {"epochs": epochs, "seconds": round(spent, 1)}
            yield row | quality(result, truth, "fmd-stack")
            next_look = 1.2 * spent


def curve(kind, name, images, args):
    """Return the rows of a curve from its file, or measure them and keep each in the file."""
    file = args.folder / f"{kind}-{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    if not arguments.is_chosen(file.name, args.only):
        return None
    points = ours(*images) if name == "ours" else rival(*images, name, args.budget, args.rate)
    rows = []
    for row in points:
        rows.append(row)
        file.write_text(json.dumps(rows))
        print(f"{kind} {name}: {row['seconds']:.0f} s, {row['psnr']:.2f} dB", flush=True)
    return rows


def save_chart(path, curves):
    """Draw PSNR against seconds, one panel for each type."""
    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for axes, (title, methods) in zip(panels, curves.items(), strict=True):
        for name, rows in methods.items():
            seconds, psnr = ([row[key] for row in rows] for key in ("seconds", "psnr"))
            axes.plot(seconds, psnr, marker=".", label=name)
        axes.set(title=title, xscale="log", xlabel="seconds of training", ylabel="PSNR in dB")
        axes.legend()
    figure.savefig(path, dpi=150)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "quality_vs_seconds.json")
    arguments.add_data(parser, "fmd/{raw,gt}")
    arguments.add_folder(parser, "quality_vs_seconds", "the curves and the chart")
    arguments.add_only(parser, "curves (such as TwoPhoton_MICE-published)")
    parser.add_argument(
        "--budget", type=float, default=3600, help="seconds of training of each rival"
    )
    parser.add_argument(
        "--patches-a-second",
        dest="rate",
        type=float,
        help="count the time of a rival by its patches at this rate",
    )
    return parser


def main(argv=None):
    """Measure what is not there yet; print and write the table, draw the chart."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    stacks = {
        name.removeprefix("fmd-stack/"): (noisy, truth)
        for name, noisy, truth, protocol in tasks(args.data)
        if protocol == "fmd-stack"
    }
    title, curves = "Quality against seconds", {}
    table = Table(title, ["type", "method", "epochs", "seconds", "PSNR in dB"])
    for kind in (kind for kind in TYPES if kind in stacks):
        for name in ("ours", "published", "tuned"):
            rows = curve(kind, name, stacks[kind], args)
            if rows is not None:
                curves.setdefault(kind, {})[name] = rows
            for row in rows or ():
                cells = row["epochs"], f"{row['seconds']:.0f}", f"{row['psnr']:.2f}"
                table.add(kind, name, *cells, show=False)
    print(table.markdown())
    store.write(args.output, group="speed", title=title, tables=[table])
    if curves:
        save_chart(args.folder / "quality_vs_seconds.png", curves)


if __name__ == "__main__":
    main()
