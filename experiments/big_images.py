"""Measure time and peak memory of the command line on images larger than the memory should hold.

    python experiments/big_images.py --sides 4096,8192,16384,32768 -o big_images.json

Each image is a uint16 image of filaments under noise, written piece by piece. `jaxdenoise denoise`
trains on random places of it for two epochs of the preset "fast" and then denoises it tile by tile,
without averaging over symmetries. Each image has a process of its own, whose peak memory the system
tells. Seconds are those of the whole command, and those of the prediction: the whole less the same
command on a single tile.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments, memory, store
from common.tables import Table

from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo

PIECE = 1024
TILE = 512  # an image of this side is a single tile
OPTIONS = ["--epochs", "2", "--symmetries", "1", "--no-report", "--quiet", "--overwrite"]


def write_image(path, side):
    """Write a noisy image of so many pixels a side."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:PIECE, :PIECE]
    clean = 200 + 300 * np.exp(-(np.sin((y + 40 * np.sin(x / 60)) / 9) ** 2) * 8)
    info = ImageInfo("YX", (side, side), np.dtype(np.uint16))
    with images.create(path, info, overwrite=True) as target:
        for top in range(0, side, PIECE):
            for left in range(0, side, PIECE):
                rows, columns = (slice(start, min(start + PIECE, side)) for start in (top, left))
                piece = clean[: rows.stop - top, : columns.stop - left]
                noise = rng.standard_normal(piece.shape)
                target[0, rows, columns] = piece + 2 * np.sqrt(piece) * noise


def measured(noisy, folder, filters):
    """Return seconds and peak memory in bytes of the command line."""
    command = [sys.executable, "-m", "jaxdenoise", "denoise", str(noisy), "-o", str(folder)]
    command += [*OPTIONS, *(["--filters", str(filters)] if filters else [])]
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the command failed")
    return time.monotonic() - began, memory.peak_of(usage)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "big_images.json")
    parser.add_argument("--sides", default="4096,8192", help="pixels, separated by commas")
    parser.add_argument(
        "--filters",
        type=int,
        help="filters of the network's first level, fewer for less time (default: the preset's)",
    )
    return parser


def main(argv=None):
    """Measure each side, print and write the table after each."""
    args = build_parser().parse_args(argv)
    title = "Images larger than the memory"
    columns = ["side", "seconds", "prediction, s", "megapixels a second", "peak memory, MB"]
    table, single = Table(title, columns).start(), None
    with tempfile.TemporaryDirectory(dir=".") as folder:
        noisy = Path(folder) / "noisy.tif"
        write_image(noisy, TILE)
        measured(noisy, folder, args.filters)  # fills the compilation cache
        for side in (TILE, *map(int, args.sides.split(","))):
            write_image(noisy, side)
            seconds, peak = measured(noisy, folder, args.filters)
            single = single or seconds
            rate = f"{side**2 / 1e6 / (seconds - single):.2f}" if side > TILE else None
            table.add(side, f"{seconds:.0f}", f"{seconds - single:.0f}", rate, f"{peak / 1e6:.0f}")
            store.write(args.output, group="speed", title=title, tables=[table])


if __name__ == "__main__":
    main()
