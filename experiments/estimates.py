"""How good the estimates at the start of a denoising are: seconds said and seconds taken.

    python experiments/estimates.py -o estimates.json

denoises a synthetic stack with `--instant` and the presets, each in a process of its own, and
compares the seconds and the memory that were said before with what it took.
"""

import json
import resource
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
RUNS = {"instant": ["--instant"], "fast": [], "best": ["--preset", "best"]}
CHILD = """
import json, sys
from jaxdenoise.cli import options
from jaxdenoise.cli.parser import parser
from jaxdenoise.io import images
from jaxdenoise.workflows.estimates import estimate
request = options.read(parser().parse_args(sys.argv[1:]), "").request
print(json.dumps(estimate(request, [images.open_image(request.inputs[0]).frames.shape])))
"""


def make_stack(path, frames, side):
    """Write a stack of noisy spots."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    spots = gaussian_filter((rng.random((side, side)) > 0.99) * 400.0, 2) * 8 + 20
    noisy = rng.poisson(spots, (frames, side, side)) + rng.normal(100, 2, (frames, side, side))
    tifffile.imwrite(path, np.clip(noisy, 0, 65535).astype(np.uint16), photometric="minisblack")


def measure(words):
    """The estimate of a command, in seconds and gigabytes, and what it took."""
    said = subprocess.run(
        [sys.executable, "-c", CHILD, *words], check=True, capture_output=True, text=True
    )
    training, prediction, memory = json.loads(said.stdout)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "jaxdenoise", *words, "--quiet"], check=True)
    # Of all children so far, so that the runs go from small to large.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return training + prediction, time.monotonic() - began, memory / 1e9, peak / 1e9


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "estimates.json")
    arguments.add_only(parser, "runs")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--side", type=int, default=512, help="pixels")
    return parser


def main(argv=None):
    """Measure, print and write the table."""
    args = build_parser().parse_args(argv)
    columns = ["run", "frames", "said, s", "taken, s", "said, GB", "taken, GB"]
    table = Table("One stack", columns).start()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        make_stack(path, args.frames, args.side)
        for name, flags in RUNS.items():
            if arguments.is_chosen(name, args.only):
                output = str(Path(folder) / name)
                words = ["denoise", str(path), "-o", output, "--no-report", *flags]
                found = measure(words)
                table.add(name, args.frames, *(f"{value:.3g}" for value in found))
    store.write(args.output, group="speed", title=TITLE, tables=[table])


if __name__ == "__main__":
    main()
