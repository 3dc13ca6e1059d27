"""What a batch of small files costs beside its network: seconds a file, one process.

    python experiments/many_files.py -o many_files.json --files 1000 --side 128

makes the files, denoises them with `--instant` as the command line does, and counts how long the
process waits for the network. The rest is reading, measuring, judging and writing. Seconds of the
processor, of the main thread and of the whole process with its network, are those that other
programs on the machine do not lengthen; `--symmetries 1` makes the network's share of them small.
"""

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import tifffile
from common import arguments, store
from common.tables import Table

from jaxdenoise.cli.session import keep_compiled_programs

TITLE = "Many small files: seconds a file beside the network"


def make_files(folder, count, sides, seed=0):
    """Write noisy images with spots; their sides are taken in turn."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    for number in range(count):
        side = sides[number % len(sides)]
        spots = gaussian_filter((rng.random((side, side)) > 0.99) * 400.0, 2) * 8 + 20
        noisy = rng.poisson(spots) + rng.normal(100, 2, spots.shape)
        tifffile.imwrite(folder / f"{number:05d}.tif", np.clip(noisy, 0, 65535).astype(np.uint16))


class NetworkTime:
    """Counts the seconds between the begin of a network's calls and their results."""

    def __init__(self):
        from jaxdenoise.prediction import tiles

        self.seconds = 0.0
        begin, results_of = tiles._Calls.begin, tiles._Calls.results

        def counted(function):
            def call(*args):
                began = time.perf_counter()
                try:
                    return function(*args)
                finally:
                    self.seconds += time.perf_counter() - began

            return call

        tiles._Calls.begin, tiles._Calls.results = counted(begin), counted(_whole(results_of))


def _whole(function):
    return lambda *args: list(function(*args))


def measure(folder, output, *, report, symmetries=8):
    """Denoise a folder; seconds a file after the first: in all, in the network, in the rest.

    And of the processor: what the main thread takes, and all threads with the network's.
    """
    from jaxdenoise import workflows

    network, moments = NetworkTime(), []

    class Clock(workflows.Silent):
        def predicting(self, name):
            def on_tile(done, total):
                if name == "files":
                    processor = time.thread_time(), time.process_time()
                    moments.append((time.perf_counter(), network.seconds, *processor))

            return on_tile

    request = workflows.DenoiseRequest(
        inputs=[folder],
        output=output,
        instant=True,
        report=report,
        training=workflows.Training(symmetries=symmetries),
    )
    result = workflows.denoise(request, Clock())
    if result.failed:
        raise SystemExit(result.failed[0].error)
    first, last = moments[0], moments[-1]
    whole, network_alone, *processor = (
        (end - begin) / (len(moments) - 1) for begin, end in zip(first, last, strict=True)
    )
    return whole, network_alone, whole - network_alone, *processor


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "many_files.json")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--side", default="128", help="pixels; several with commas, in turn")
    parser.add_argument("--symmetries", type=int, default=8)
    parser.add_argument("--report", action="store_true", help="write a report a file, too")
    return parser


def main(argv=None):
    """Measure, print and write the table."""
    args = build_parser().parse_args(argv)
    keep_compiled_programs()
    warnings.simplefilter("ignore")
    columns = ["files", "sides", "symmetries", "reports", "s a file", "network", "the rest"]
    columns += ["CPU of the main thread", "CPU of all"]
    table = Table("Small files in one call", columns).start()
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder) / "data", Path(folder) / "out"
        data.mkdir()
        make_files(data, args.files, [int(side) for side in arguments.comma_list(args.side)])
        found = measure(data, output, report=args.report, symmetries=args.symmetries)
    seconds = [f"{value:.3f}" for value in found]
    reports = "yes" if args.report else "no"
    table.add(args.files, args.side, args.symmetries, reports, *seconds)
    store.write(args.output, group="speed", title=TITLE, tables=[table])


if __name__ == "__main__":
    main()
