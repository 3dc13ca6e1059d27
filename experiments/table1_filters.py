"""Reproduce Table 1 of the report and its figures 2 to 5: classical filters on two data sets.

    python experiments/table1_filters.py --livecell PICTURE.tif --actin diaphragm.tif

Every filter appears in the report's own version and, where that is another one, in the version that
its name says:

- The report's noise of "standard deviation 100" has variance 100; the other table has a standard
  deviation of 100.
- The report's "Box3D" is a median: 3x3x3 over y, x and the colour channels on LIVECell, 3x3 on
  Mouse actin. The true one is a mean, over y, x and channels or over frames, y and x. Where frames
  show one static scene, and their mean is the ground truth, a filter that mixes frames computes
  part of the ground truth: its row is not to be compared with the others.
- The report's "SNR" is the mean over the standard deviation of the result itself (`mean_over_std`):
  no reference, no decibels, and it rewards blur. Beside it stand PSNR, SNR in dB and SSIM against
  the clean picture.

LIVECell: one 8-bit picture as three equal channels. Noise is drawn for each channel, clipped and
cut to whole numbers; every channel is filtered, and the mean of the channels is judged. Mouse
actin: the stack's first 512 x 512 pixels less the offset. The ground truth is the mean of all
frames, the PSNR's range that mean's; each frame is judged and the means are given. Without --actin
a synthetic stack takes its place, and no figure of the report applies. Two minutes.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import arguments, store
from common.data import actin_stack, actin_title
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.io import images
from jaxdenoise.microscope.calibration import calibrate_gaussian
from jaxdenoise.report import pictures

REPORT = {  # what the report prints: "SNR" on LIVECell, PSNR on Mouse actin
    "noisy": (13.48, 23.12),
    "median 3x3": (24.26, 30.94),
    "Gaussian 5x5": (29.53, 34.52),
    "box 3x3": (26.27, 32.88),
    "Box3D of the report: a median": (24.34, 30.94),
}
COLUMNS = {"report": 2, "mean_over_std": 2, "psnr": 2, "snr_db": 2, "ssim": 3}  # and their decimals
NOISES = {
    10.0: "variance 100 (the report's)",
    100.0: "standard deviation 100 (as its text says)",
}


def livecell(path, std, seed):
    """Return the clean picture (H, W) and {method: its picture, mean of the channels}."""
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


def actin(path, offset):
    """Return the ground truth (H, W) and {method: frames (N, H, W)} of the stack."""
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
    """Return the means of the scores over the frames (N, H, W), or those of one picture (H, W)."""
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


def scored(clean, methods, data_range, column):
    """Return {method: scores} with what the report says (`column` of REPORT, None for nothing)."""
    said = {name: REPORT[name][column] for name in REPORT} if column is not None else {}
    return {
        name: {"report": said.get(name)} | scores(clean, frames, data_range)
        for name, frames in methods.items()
    }


def table_of(title, rows):
    """Return the scores of all methods as a table."""
    table = Table(title, ["method", *COLUMNS])
    for name, values in rows.items():
        cells = [
            None if values[column] is None else f"{values[column]:.{decimals}f}"
            for column, decimals in COLUMNS.items()
        ]
        table.add(name, *cells, show=False)
    return table


def save_figures(paths, clean, methods, rows, key):
    """Write the report's two figures of a data set: clean and noisy; the results of the filters."""
    zoom = pictures.busiest_window(clean, min(clean.shape) // 4)
    captions = {name: f"{row[key]:.2f}" for name, row in rows.items()}
    first = {name: frames.reshape(-1, *clean.shape)[0] for name, frames in methods.items()}
    shots = {"noisy": first.pop("noisy"), "clean": clean}
    pictures.save_comparison(paths[0], shots, zoom=zoom, captions=captions)
    pictures.save_comparison(paths[1], first | {"clean": clean}, zoom=zoom, captions=captions)


def run(args):
    """Return all tables; the figures are written on the way."""
    figures = [args.folder / f"figure{number}.png" for number in (2, 3, 4, 5)]
    tables = []
    for std, kind in NOISES.items():
        for seed in args.seeds:
            clean, methods = livecell(args.livecell, std, seed)
            rows = scored(clean, methods, 255.0, 0 if std == 10 else None)
            tables.append(table_of(f"LIVECell, noise of {kind}, seed {seed}", rows))
            if std == 10 and seed == args.seeds[0]:
                save_figures(figures[:2], clean, methods, rows, "mean_over_std")
    truth, methods = actin(args.actin, args.offset)
    rows = scored(truth, methods, float(truth.max() - truth.min()), 1 if args.actin else None)
    tables.append(table_of(actin_title(args.actin), rows))
    save_figures(figures[2:], truth, methods, rows, "psnr")
    return tables


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "table1_filters.json")
    parser.add_argument("--livecell", type=Path, required=True, help="a picture of LIVECell")
    arguments.add_actin(parser)
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="of the noise on LIVECell; the figures show the first",
    )
    arguments.add_folder(parser, "table1", "the figures")
    return parser


def main(argv=None):
    """Compute, print and write the tables, write the figures."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    try:
        tables = run(args)
    except images.ImageError as error:
        sys.exit(f"table1_filters.py: error: {error}")
    print("\n\n".join(table.markdown() for table in tables))
    title = "Table 1 of the report, and its figures 2 to 5"
    store.write(args.output, group="filters", title=title, tables=tables)


if __name__ == "__main__":
    main()
