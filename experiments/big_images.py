"""Time and peak memory of the command line on images larger than one would hold in memory.

    python experiments/big_images.py --sides 4096,8192,16384,32768 -o big_images.json

Each is a uint16 image of filaments under noise, written piece by piece; `jaxdenoise denoise` trains
on random places of it for two epochs of the preset "fast" and then denoises it tile by tile,
without averaging over symmetries. A process of its own for each, whose peak the system tells.
Seconds: of the whole command, and of the prediction, which is the whole less the same command on a
    single tile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo

PIECE = 1024
OPTIONS = ["--epochs", "2", "--symmetries", "1", "--no-report", "--quiet", "--overwrite"]


def write_image(path, side):
    """A noisy image of so many pixels a side."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:PIECE, :PIECE]
    clean = 200 + 300 * np.exp(-(np.sin((y + 40 * np.sin(x / 60)) / 9) ** 2) * 8)
    with images.create(
        path, ImageInfo("YX", (side, side), np.dtype(np.uint16)), overwrite=True
    ) as target:
        for top in range(0, side, PIECE):
            for left in range(0, side, PIECE):
                rows, columns = (slice(start, min(start + PIECE, side)) for start in (top, left))
                piece = clean[: rows.stop - top, : columns.stop - left]
                target[0, rows, columns] = piece + 2 * np.sqrt(piece) * rng.standard_normal(
                    piece.shape
                )


def measured(noisy, folder, filters):
    """Seconds and peak memory in MB of the command line."""
    options = [*OPTIONS, *(["--filters", str(filters)] if filters else [])]
    command = [
        sys.executable,
        "-m",
        "jaxdenoise",
        "denoise",
        str(noisy),
        "-o",
        str(folder),
        *options,
    ]
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the command failed")
    return time.monotonic() - began, usage.ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    ) / 1e6


def main():
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="4096,8192", help="pixels, several with commas between")
    parser.add_argument(
        "--filters",
        type=int,
        help="of the network's first level, fewer for less time (default: the preset's)",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("big_images.json"))
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        noisy = Path(folder) / "noisy.tif"
        for side in (
            512,
            512,
            *map(int, args.sides.split(",")),
        ):  # the first one fills the compilation cache
            write_image(noisy, side)
            seconds, peak = measured(noisy, folder, args.filters)
            rows.append({"side": side, "seconds": round(seconds, 1), "peak_mb": round(peak)})
            single = rows[min(1, len(rows) - 1)]["seconds"]
            rate = f"{side**2 / 1e6 / (seconds - single):.2f}" if side > 512 else "-"
            print(
                f"| {side} | {seconds:.0f} | {seconds - single:.0f} | {rate} | {peak:.0f} |",
                flush=True,
            )
            args.output.write_text(json.dumps(rows[1:], indent=1))


if __name__ == "__main__":
    main()
