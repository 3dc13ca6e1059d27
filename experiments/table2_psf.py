"""Table 2 of the report and its figures 6 to 8: DecoNoising with PSFs of several widths, beside the Gaussian filter and Noise2Void.

    python experiments/table2_psf.py --actin diaphragm.tif -o table2

Mouse actin as in table1_filters.py: the first 512 x 512 pixels less the offset, ground truth is the
mean of all frames, the PSNR's range that mean's. Without --actin a synthetic stack of true PSF
sigma 1.0 takes its place, and no figure of the report applies. The models train on all frames,
without the ground truth; the rows give the mean over evenly spread frames and twice its standard
error.

The report's networks had been trained on another data set; here each is trained on the stack
itself. "auto" is `--psf auto`: the PSF that held-out pixels choose. "Gaussian, best sigma" is
chosen with the ground truth. Every model is kept in the folder as soon as it is there; a run that
is started again goes on where it stopped.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from table1_filters import actin_stack

import jaxdenoise as jd
from jaxdenoise.cli.terminal import print_table
from jaxdenoise.io import images
from jaxdenoise.microscope.calibration import SIGMAS
from jaxdenoise.report import pictures
from jaxdenoise.training.sweep import HALVING, psf_sigma

REPORT = {
    "noisy": 23.12,
    "Gaussian 5x5": 34.52,
    "sigma 0.5": 31.73,
    "sigma 1": 33.69,
    "sigma 1.5": 33.19,
}
FIGURES = {"sigma 0.5": "figure6.png", "sigma 1": "figure7.png", "sigma 1.5": "figure8.png"}
COLUMNS = ("report", "psnr", "two_se", "ssim", "seconds")


def models(stack, folder, config, seed):
    """{row: (`Denoiser`, seconds of its training)}: trained, or read if an earlier run left it."""
    rows = {"N2V (no PSF)": 0.0, "sigma 0.5": 0.5, "sigma 1": 1.0, "sigma 1.5": 1.5, "auto": None}
    for name, sigma in rows.items():
        run = folder / f"model {name}"
        if not (run / "seconds.json").exists():
            began = time.monotonic()
            denoiser = trained(stack, sigma, config, jax.random.key(seed))
            seconds = time.monotonic() - began
            jd.save(run, denoiser, overwrite=True)
            (run / "seconds.json").write_text(json.dumps(round(seconds, 1)))
            print(f"{name}: trained in {seconds:.0f} s", file=sys.stderr, flush=True)
        yield name, jd.load(run), json.loads((run / "seconds.json").read_text())


def trained(stack, sigma, config, key):
    """A model of one PSF, or of the one that is chosen without ground truth."""
    if sigma is not None:
        return jd.fit(key, stack, psf=jd.gaussian_psf(sigma), config=config)
    psfs = [jd.gaussian_psf(candidate) for candidate in SIGMAS]
    return jd.sweep(key, stack, psfs=psfs, config=config, halving=HALVING).denoiser


def scores(truth, frames):
    """Mean PSNR in dB, twice its standard error, mean SSIM."""
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
    """(sigma, filtered frames) that the ground truth likes best."""
    errors = [
        np.mean((np.asarray(jd.gaussian_filter(frames, (sigma, sigma))) - truth) ** 2)
        for sigma in SIGMAS
    ]
    sigma = float(SIGMAS[int(np.argmin(errors))])
    return sigma, np.asarray(jd.gaussian_filter(frames, (sigma, sigma)))


def run(args):
    """All rows: {method: scores}; models, figures and JSON are written on the way."""
    args.output.mkdir(parents=True, exist_ok=True)
    stack = actin_stack(args.actin, args.offset)
    truth = stack.mean(0)
    shown = stack[np.linspace(0, len(stack) - 1, min(args.frames, len(stack))).round().astype(int)]
    sigma, gaussian = best_gaussian(truth, shown)
    results = {
        "noisy": shown,
        "Gaussian 5x5": np.asarray(jd.gaussian_filter(shown, size=(5, 5), mode="mirror")),
    }
    results |= {f"Gaussian, best sigma ({sigma:.2f})": gaussian}
    said = REPORT if args.actin else {}
    rows = {
        name: {"report": said.get(name), "seconds": None} | scores(truth, frames)
        for name, frames in results.items()
    }
    zoom = pictures.busiest_window(truth, min(truth.shape) // 4)
    config = jd.TrainConfig.preset(
        args.preset, targets="own", **({"epochs": args.epochs} if args.epochs else {})
    )
    for name, denoiser, seconds in models(stack, args.output, config, args.seed):
        frames = jd.denoise(denoiser, shown).denoised
        rows[name] = {"report": said.get(name), "seconds": seconds} | scores(truth, frames)
        if name == "auto":
            rows[name]["psf"] = round(psf_sigma(denoiser.psf), 2)
        if name in FIGURES:
            shots = {"noisy": shown[0], name: frames[0], "clean": truth}
            captions = {
                "noisy": f"{rows['noisy']['psnr']:.2f} dB",
                name: f"{rows[name]['psnr']:.2f} dB",
            }
            pictures.save_comparison(
                args.output / FIGURES[name], shots, zoom=zoom, captions=captions
            )
        (args.output / "table2.json").write_text(json.dumps(rows, indent=1))
    return rows


def main():
    """Parse, compute, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--actin",
        type=Path,
        help="the calibration stack diaphragm.tif (default: a synthetic stack)",
    )
    parser.add_argument(
        "--offset",
        type=float,
        help="grey level of no light (default: 520; of the synthetic stack 100)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=10,
        help="how many frames are judged, evenly spread (default: 10)",
    )
    parser.add_argument("--preset", default="fast", choices=("fast", "paper"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("table2"),
        help="folder of the models, figures and table2.json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    try:
        rows = run(args)
    except images.ImageError as error:
        sys.exit(f"table2_psf.py: error: {error}")
    if args.json:
        print(json.dumps(rows))
        return
    title = (
        f"Mouse actin, {args.actin}"
        if args.actin
        else "Mouse actin: not given; a synthetic stack of 100 frames instead"
    )
    print_table(f"{title}; auto chose sigma {rows['auto']['psf']:g}", rows, COLUMNS)


if __name__ == "__main__":
    main()
