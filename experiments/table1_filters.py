"""Table 1 of the report and its figures 2 to 5: the classical filters on LIVECell (with added noise) and on Mouse actin.

    python experiments/table1_filters.py --livecell PICTURE.tif --actin diaphragm.tif -o table1

Every filter appears in the report's own version and, where that is another one, in the version that
its name says:

- The report's noise of "standard deviation 100" has variance 100; the other table has a standard
  deviation of 100.
- The report's "Box3D" is a median: 3x3x3 over y, x and the colour channels on LIVECell, 3x3 on
  Mouse actin. The true one is a mean, over y, x and channels or over frames, y and x. Where frames
  show one static scene, and their mean is the ground truth, a filter that mixes
  frames computes part of the ground truth: its row is not to be compared with the others.
- The report's "SNR" is the mean over the standard deviation of the result itself (`mean_over_std`):
  no reference, no decibels, and it rewards blur. Beside it stand PSNR, SNR in dB and SSIM against
  the clean picture.

LIVECell: one 8-bit picture as three equal channels, noise drawn for each channel, clipped and cut
    to whole numbers; every channel is
filtered, and the mean of the channels is judged. Mouse actin: the stack's first 512 x 512 pixels
less the offset; ground truth is the mean of all frames, the PSNR's range that mean's; each frame is
judged and the means are given. Without --actin a synthetic stack takes its place, and no figure of
the report applies.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxdenoise as jd
from jaxdenoise.cli.terminal import print_table
from jaxdenoise.io import images
from jaxdenoise.microscope import synthetic
from jaxdenoise.microscope.calibration import calibrate_gaussian
from jaxdenoise.report import pictures

LIVECELL = Path("../shared/data/livecell/A172_Phase_A7_1_00d00h00m_1.tif")
REPORT = {  # what the report prints: "SNR" on LIVECell, PSNR on Mouse actin
    "noisy": (13.48, 23.12),
    "median 3x3": (24.26, 30.94),
    "Gaussian 5x5": (29.53, 34.52),
    "box 3x3": (26.27, 32.88),
    "Box3D of the report: a median": (24.34, 30.94),
}
COLUMNS = ("report", "mean_over_std", "psnr", "snr_db", "ssim")


def livecell(path, std, seed):
    """(clean (H, W), {method: its picture, mean of the channels}) of one noise level and seed."""
    clean = jd.read(path).frames[0]
    channels = jnp.repeat(clean[..., None], 3, axis=-1)
    noisy = jd.quantize(
        jd.gaussian_noise(jax.random.key(seed), channels, std), jnp.uint8, rounding="truncate"
    )
    sigma = float(calibrate_gaussian(jnp.moveaxis(noisy, -1, 0)).best)
    methods = {
        "noisy": noisy,
        "median 3x3": jd.median_filter(noisy, (3, 3, 1), mode="nearest"),
        "Gaussian 5x5": jd.gaussian_filter(noisy, size=(5, 5, 1), mode="mirror"),
        "box 3x3": jd.box_filter(noisy, (3, 3, 1), mode="mirror"),
        "Box3D of the report: a median": jd.median_filter(noisy, 3),
        "Box3D as named: a mean": jd.box3d_filter(noisy, 3),
        "Wiener 3x3": jd.wiener_filter(noisy, (3, 3, 1), mode="reflect"),
        f"Gaussian, auto: sigma {sigma:.2f}": jd.gaussian_filter(noisy, (sigma, sigma, 0)),
    }
    return clean, {
        name: np.asarray(picture, np.float32).mean(-1) for name, picture in methods.items()
    }


def actin_stack(path, offset):
    """The frames (N, H, W) of the stack, cropped and less the offset as in the report, or of a synthetic one of PSF sigma 1.0."""
    if path is None:
        stack = np.asarray(
            synthetic.static_scene(
                jax.random.key(0), frames=100, shape=(512, 512), psf_sigma=1.0
            ).noisy
        )
    else:
        stack = jd.read(path).frames[:, :512, :512]
    return stack - np.float32(offset if offset is not None else 520.0 if path else 100.0)


def actin(path, offset):
    """(ground truth (H, W), {method: frames (N, H, W)}) of the stack."""
    stack = actin_stack(path, offset)
    sigma = float(calibrate_gaussian(stack[:4]).best)
    median = jd.median_filter(stack, (3, 3), mode="nearest")
    methods = {
        "noisy": stack,
        "median 3x3": median,
        "Gaussian 5x5": jd.gaussian_filter(stack, size=(5, 5), mode="mirror"),
        "box 3x3": jd.box_filter(stack, (3, 3), mode="mirror"),
        "Box3D of the report: a median": median,
        "Box3D as named: a mean (mixes frames)": jd.box3d_filter(stack, 3),
        "Wiener 3x3": jd.wiener_filter(stack, (3, 3), mode="reflect"),
        f"Gaussian, auto: sigma {sigma:.2f}": jd.gaussian_filter(stack, (sigma, sigma)),
    }
    return stack.mean(0), {name: np.asarray(frames) for name, frames in methods.items()}


def scores(clean, frames, data_range):
    """Means over the frames (N, H, W), or of one picture (H, W)."""
    values = {
        "mean_over_std": jd.mean_over_std,
        "psnr": lambda frame: jd.psnr(clean, frame, data_range=data_range),
        "snr_db": lambda frame: jd.snr_db(clean, frame),
        "ssim": lambda frame: jd.ssim(clean, frame, data_range=data_range),
    }
    frames = frames.reshape(-1, *clean.shape)
    return {
        name: float(np.mean([function(frame) for frame in frames]))
        for name, function in values.items()
    }


def table(clean, methods, data_range, column):
    """Scores of all methods, and what the report says of them (`column` of REPORT, None for no such data)."""
    said = {name: REPORT[name][column] for name in REPORT} if column is not None else {}
    return {
        name: {"report": said.get(name)} | scores(clean, frames, data_range)
        for name, frames in methods.items()
    }


def save_figures(folder, names, clean, methods, rows, key):
    """The report's two figures of a data set: clean and noisy; the filters' results."""
    zoom = pictures.busiest_window(clean, min(clean.shape) // 4)
    captions = {name: f"{row[key]:.2f}" for name, row in rows.items()}
    first = {name: frames.reshape(-1, *clean.shape)[0] for name, frames in methods.items()}
    pictures.save_comparison(
        folder / names[0],
        {"noisy": first.pop("noisy"), "clean": clean},
        zoom=zoom,
        captions=captions,
    )
    pictures.save_comparison(
        folder / names[1], first | {"clean": clean}, zoom=zoom, captions=captions
    )


def main():
    """Parse, compute, print the tables, write figures and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--livecell",
        type=Path,
        default=LIVECELL,
        help=f"the LIVECell picture (default: {LIVECELL})",
    )
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
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="of the noise on LIVECell; the figures show the first",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("table1"),
        help="folder of the figures and table1.json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args()
    try:
        results = run(args)
    except images.ImageError as error:
        sys.exit(f"table1_filters.py: error: {error}")
    (args.output / "table1.json").write_text(json.dumps(results, indent=1))
    if args.json:
        print(json.dumps(results))
        return
    for name, rows in results.items():
        print_table(name, rows, COLUMNS)


def run(args):
    """All tables: {title: {method: scores}}; the figures are written on the way."""
    args.output.mkdir(parents=True, exist_ok=True)
    results = {}
    for std, kind in (
        (10.0, "variance 100 (the report's)"),
        (100.0, "standard deviation 100 (as its text says)"),
    ):
        for seed in args.seeds:
            clean, methods = livecell(args.livecell, std, seed)
            rows = table(clean, methods, 255.0, 0 if std == 10 else None)
            results[f"LIVECell, noise of {kind}, seed {seed}"] = rows
            if std == 10 and seed == args.seeds[0]:
                save_figures(
                    args.output,
                    ("figure2.png", "figure3.png"),
                    clean,
                    methods,
                    rows,
                    "mean_over_std",
                )
    truth, methods = actin(args.actin, args.offset)
    rows = table(truth, methods, float(truth.max() - truth.min()), 1 if args.actin else None)
    results[
        f"Mouse actin, {args.actin}"
        if args.actin
        else "Mouse actin: not given; a synthetic stack of 100 frames instead"
    ] = rows
    save_figures(args.output, ("figure4.png", "figure5.png"), truth, methods, rows, "psnr")
    return results


if __name__ == "__main__":
    main()
