"""Measure time and memory of long movies: 500 and 1,000 frames, and from these 10,000.

    python experiments/long_movies.py -o long_movies.json

Each movie is a synthetic calcium movie of uint16, tiles of 128 x 128 pixels side by side, which is
repeated with new noise and written piece by piece. `jaxdenoise denoise --instant --symmetries 1`
denoises it in a process of its own, whose time on all cores and peak memory the system tells. A
first, short movie fills the cache of compiled programs. The last row is extrapolated from the two
longest movies: seconds by a line through both, memory likewise. 1,500 frames of 512 x 512 pixels
take 10 minutes and more on two quiet cores; give `--frames` or `--side` for less.
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
from jaxdenoise.microscope.synthetic_movies import calcium_movie, noisy_movie

TILE, PERIOD = 128, 128  # pixels a side of a scene, frames after which it begins again
PSNR = 16  # of a frame, in dB
OPTIONS = ["--instant", "--symmetries", "1", "--no-report", "--overwrite"]
FAR = 10_000  # frames that are extrapolated to
COLUMNS = ["frames", "seconds", "CPU seconds", "frames a second", "first frames after, s"]
NOTE = """\
Seconds are of the whole command: reading, statistics of all frames, drift, guides, network, \
judging and writing. CPU seconds are those of all cores: where other programs take their share, \
half of them is what two quiet cores need at best. The last row is extrapolated."""


def signal_of(side):
    """Return the movie without noise that is repeated, (T, H, W) in grey levels."""
    count = -(-side // TILE)
    rows = [
        np.concatenate(
            [calcium_movie(count * row + column, frames=PERIOD, size=TILE).signal
             for column in range(count)], axis=2,
        )
        for row in range(count)
    ]  # fmt: skip
    return np.concatenate(rows, axis=1)[:, :side, :side]


def write_movie(path, signal, frames):
    """Write so many noisy frames."""
    info = ImageInfo("TYX", (frames, *signal.shape[1:]), np.dtype(np.uint16))
    whole = tuple(slice(0, length) for length in signal.shape[1:])
    with images.create(path, info, overwrite=True) as target:
        for first in range(0, frames, PERIOD):
            noisy = noisy_movie(first, signal, psnr=PSNR).frames
            for n in range(first, min(first + PERIOD, frames)):
                target[n, *whole] = noisy[n - first]


def measured(path, folder):
    """Return seconds, CPU seconds, peak memory in bytes, and seconds until the first frames."""
    command = [sys.executable, "-m", "jaxdenoise", "denoise", str(path), "-o", str(folder)]
    began, first = time.monotonic(), None
    process = subprocess.Popen([*command, *OPTIONS], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "the first" in line:
            first = time.monotonic() - began
        print(f"  {time.monotonic() - began:.0f} s: {line.rstrip()}", flush=True)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the command failed")
    seconds = time.monotonic() - began
    return seconds, usage.ru_utime + usage.ru_stime, memory.peak_of(usage), first


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "long_movies.json")
    parser.add_argument("--frames", default="500,1000", help="of each movie (default: 500,1000)")
    parser.add_argument("--side", type=int, default=512, help="pixels a side (default: 512)")
    return parser


def main(argv=None):
    """Measure each movie, print and write the table after each."""
    args = build_parser().parse_args(argv)
    counts = [int(count) for count in args.frames.split(",")]
    title = f"Long movies of {args.side} x {args.side} pixels"
    table = Table(title, [*COLUMNS, "peak memory, MB"]).start()
    signal, runs = signal_of(args.side), []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        noisy = Path(folder) / "noisy.tif"
        # So long that it has parts of the same length as the others.
        write_movie(noisy, signal, min(PERIOD, *counts))
        measured(noisy, folder)
        for count in counts:
            write_movie(noisy, signal, count)
            seconds, cpu, peak, first = measured(noisy, folder)
            runs.append((count, seconds, cpu, peak))
            shown = None if first is None else f"{first:.0f}"
            row = f"{seconds:.0f}", f"{cpu:.0f}", f"{count / seconds:.2f}", shown
            table.add(f"{count:,}", *row, f"{peak / 1e6:.0f}")
            store.write(args.output, group="speed", title=title, tables=[table], note=NOTE)
    if len(runs) > 1:
        before, last = runs[-2:]
        share = (FAR - last[0]) / (last[0] - before[0])
        far = [late + share * (late - early) for early, late in zip(before, last, strict=True)]
        row = f"{far[1]:.0f}", f"{far[2]:.0f}", f"{FAR / far[1]:.2f}", None
        table.add(f"{FAR:,} (extrapolated)", *row, f"{far[3] / 1e6:.0f}")
        store.write(args.output, group="speed", title=title, tables=[table], note=NOTE)


if __name__ == "__main__":
    main()
