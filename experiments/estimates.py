"""How good the estimates at the start of a denoising are: seconds said and seconds taken.

    python experiments/estimates.py -o estimates.json

denoises a synthetic image, a stack, a movie and a volume with `--instant` and the presets, each in
a process of its own, and compares the seconds and the memory that were said at its start with what
it took. Programs that were compiled before are kept, as they are for users.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from common import arguments, store
from common.tables import Table

TITLE = "Estimates of time and memory"
# Name to (axes, shape) and flags.
RUNS = {
    "image, instant": ("YX", (512, 512), ["--instant"]),
    "stack, instant": ("CYX", (4, 512, 512), ["--instant", "--channels", "together"]),
    "stack, fast": ("CYX", (4, 512, 512), ["--channels", "together"]),
    "stack, best": ("CYX", (4, 512, 512), ["--channels", "together", "--preset", "best"]),
    "volume, instant": ("ZYX", (30, 256, 256), ["--instant"]),
    "movie, instant": ("TYX", (300, 128, 128), ["--instant"]),
    "movie, one symmetry": ("TYX", (128, 512, 512), ["--instant", "--symmetries", "1"]),
}
_SAID = re.compile(r"estimate: about ([0-9.]+) (s|min|h) .* and ([0-9.]+) GB")
_UNITS = {"s": 1, "min": 60, "h": 3600}


def make_images(path, axes, shape, seed=0):
    """Write images of noisy spots, some of which flash."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    spots = gaussian_filter((rng.random(shape[-2:]) > 0.99) * 400.0, 2) * 8 + 20
    courses = 1 + 0.5 * np.sin(np.arange(np.prod(shape[:-2], dtype=int)) / 7)
    clean = (courses[:, None, None] * spots).reshape(shape)
    noisy = rng.poisson(clean) + rng.normal(100, 2, shape)
    levels = np.clip(noisy, 0, 65535).astype(np.uint16)
    tifffile.imwrite(path, levels, imagej=True, metadata={"axes": axes})


def measure(words):
    """The estimate of a command, in seconds and gigabytes, and what it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "jaxdenoise", "denoise", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        text = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds, said = time.monotonic() - began, _SAID.search(text)
    if child.returncode or not said:
        raise SystemExit(text)
    number, unit, memory = said.groups()
    return float(number) * _UNITS[unit], seconds, float(memory), usage.ru_maxrss * 1024 / 1e9


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "estimates.json")
    arguments.add_only(parser, "runs")
    return parser


def main(argv=None):
    """Measure, print and write the table."""
    args = build_parser().parse_args(argv)
    columns = ["run", "shape", "said, s", "taken, s", "taken / said", "said, GB", "taken, GB"]
    table = Table("One call", columns).start()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (axes, shape, flags)) in enumerate(RUNS.items()):
            if arguments.is_chosen(name, args.only):
                path = Path(folder) / f"{number}.tif"
                make_images(path, axes, shape)
                said, taken, *memory = measure([str(path), "-o", f"{folder}/{number}", *flags])
                sides = " x ".join(map(str, shape))
                found = (said, taken, taken / said, *memory)
                table.add(name, sides, *(f"{value:.3g}" for value in found))
                store.write(args.output, group="speed", title=TITLE, tables=[table])


if __name__ == "__main__":
    main()
