"""Reproduce Table 2 of the report and its figures 6 to 8: DecoNoising with PSFs of several widths.

    python experiments/table2_psf.py --actin diaphragm.tif -o table2_psf.json

Mouse actin as in table1_filters.py: the first 512 x 512 pixels less the offset, ground truth is the
mean of all frames, the PSNR's range that mean's. Without --actin a synthetic stack of true PSF
sigma 1.0 takes its place, and no figure of the report applies. The models train on all frames,
without the ground truth; the rows give the mean over evenly spread frames and twice its standard
error. The Gaussian filter and Noise2Void stand beside them.

The report's networks had been trained on another data set; here each is trained on the stack
itself. "auto" is `--psf auto`: the PSF that held-out pixels choose. "Gaussian, best sigma" is
chosen with the ground truth. The folder keeps every model as soon as it is there; a run that is
started again continues where it stopped.
"""

import json
import sys
import time

import jax
import numpy as np
from common import arguments, store
from common.data import actin_stack, actin_title
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.io import images
from jaxdenoise.microscope.calibration import SIGMAS
from jaxdenoise.microscope.psf import psf_sigma
from jaxdenoise.report import pictures
from jaxdenoise.training.halving import HALVING
from jaxdenoise.training.sweep import SIGMAS as PSF_SIGMAS

REPORT = {
    "noisy": 23.12,
    "Gaussian 5x5": 34.52,
    "sigma 0.5": 31.73,
    "sigma 1": 33.69,
    "sigma 1.5": 33.19,
}
FIGURES = {"sigma 0.5": "figure6.png", "sigma 1": "figure7.png", "sigma 1.5": "figure8.png"}
# The columns and their decimals.
COLUMNS = {"report": 2, "psnr": 2, "two_se": 2, "ssim": 3, "seconds": 0}


def models(stack, folder, config, seed):
    """Yield (row, `Denoiser`, seconds of its training): trained, or read if it is there."""
    rows = {"N2V (no PSF)": 0.0, "sigma 0.5": 0.5, "sigma 1": 1.0, "sigma 1.5": 1.5, "auto": None}
    for name, sigma in rows.items():
        model = folder / f"model {name}"
        if not (model / "seconds.json").exists():
            began = time.monotonic()
            denoiser = trained(stack, sigma, config, jax.random.key(seed))
            seconds = time.monotonic() - began
            jd.save(model, denoiser, overwrite=True)
            (model / "seconds.json").write_text(json.dumps(round(seconds, 1)))
            print(f"{name}: trained in {seconds:.0f} s", file=sys.stderr, flush=True)
        yield name, jd.load(model), json.loads((model / "seconds.json").read_text())


def trained(stack, sigma, config, key):
    """Return a model of one PSF, or (sigma None) of the one chosen without ground truth."""
    if sigma is not None:
        return jd.fit(key, stack, psf=jd.gaussian_psf(sigma), config=config)
    psfs = [jd.gaussian_psf(candidate) for candidate in PSF_SIGMAS]
    return jd.sweep(key, stack, psfs=psfs, config=config, halving=HALVING).denoiser


def scores(truth, frames):
    """Return mean PSNR in dB, twice its standard error, mean SSIM."""
    data_range = float(truth.max() - truth.min())
    psnr = [float(jd.psnr(truth, frame, data_range=data_range)) for frame in frames]
    ssim = [float(jd.ssim(truth, frame, data_range=data_range)) for frame in frames]
    two_se = 2 * np.std(psnr, ddof=1) / len(psnr) ** 0.5 if len(psnr) > 1 else None
    return {
        "psnr": float(np.mean(psnr)),
        "two_se": two_se and float(two_se),
        "ssim": float(np.mean(ssim)),
    }


def best_gaussian(truth, frames):
    """Return the sigma of the least error against the ground truth, and the filtered frames."""
    errors = [
        np.mean((np.asarray(jd.gaussian_filter(frames, (sigma, sigma))) - truth) ** 2)
        for sigma in SIGMAS
    ]
    sigma = float(SIGMAS[int(np.argmin(errors))])
    return sigma, np.asarray(jd.gaussian_filter(frames, (sigma, sigma)))


def save_figure(path, name, noisy, denoised, truth, rows):
    """Write a figure of the report: the first frame noisy, denoised, and the ground truth."""
    zoom = pictures.busiest_window(truth, min(truth.shape) // 4)
    captions = {row: f"{rows[row]['psnr']:.2f} dB" for row in ("noisy", name)}
    shots = {"noisy": noisy, name: denoised, "clean": truth}
    pictures.save_comparison(path, shots, zoom=zoom, captions=captions)


def add(table, name, values):
    """Add a row to the table."""
    cells = [
        None if values[column] is None else f"{values[column]:.{decimals}f}"
        for column, decimals in COLUMNS.items()
    ]
    table.add(name, *cells)


def run(args):
    """Print and write the table row by row; models and figures are written on the way."""
    stack = actin_stack(args.actin, args.offset)
    truth = stack.mean(0)
    shown = stack[np.linspace(0, len(stack) - 1, min(args.frames, len(stack))).round().astype(int)]
    sigma, gaussian = best_gaussian(truth, shown)
    filtered = {
        "noisy": shown,
        "Gaussian 5x5": np.asarray(jd.gaussian_filter(shown, size=(5, 5), mode="mirror")),
        f"Gaussian, best sigma ({sigma:.2f})": gaussian,
    }
    said = REPORT if args.actin else {}
    table, rows = Table(actin_title(args.actin), ["method", *COLUMNS]).start(), {}
    for name, frames in filtered.items():
        rows[name] = {"report": said.get(name), "seconds": None} | scores(truth, frames)
        add(table, name, rows[name])
    epochs = {"epochs": args.epochs} if args.epochs else {}
    config = jd.TrainConfig.preset(args.preset, targets="own", **epochs)
    for name, denoiser, seconds in models(stack, args.folder, config, args.seed):
        frames = jd.denoise(denoiser, shown).denoised
        rows[name] = {"report": said.get(name), "seconds": seconds} | scores(truth, frames)
        chosen = f" (chose sigma {psf_sigma(denoiser.psf):.2f})" if name == "auto" else ""
        add(table, name + chosen, rows[name])
        if name in FIGURES:
            save_figure(args.folder / FIGURES[name], name, shown[0], frames[0], truth, rows)
        title = "Table 2 of the report, and its figures 6 to 8"
        store.write(args.output, group="psf", title=title, tables=[table])


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "table2_psf.json")
    arguments.add_actin(parser)
    parser.add_argument(
        "--frames",
        type=int,
        default=10,
        help="how many frames are judged, evenly spread (default: 10)",
    )
    parser.add_argument("--preset", default="fast", choices=("fast", "paper"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments.add_folder(parser, "table2", "the models and figures")
    return parser


def main(argv=None):
    """Compute what is not there yet, print and write the table, write the figures."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    try:
        run(args)
    except images.ImageError as error:
        sys.exit(f"table2_psf.py: error: {error}")


if __name__ == "__main__":
    main()
