"""Compare methods on movies and volumes of known truth: quality, and honesty in time.

    python experiments/movies.py -o movies.json --only p16,vol15 --methods raw,best --seeds 3

Rows are calcium movies (300 frames of 128 x 128 pixels) of 10, 16 and 22 dB, one that moves by up
to 1.5 pixels, one with noise along its rows, and volumes (32 planes) of 15 and 22 dB, one of them
darker with depth. Methods: raw; Gaussians in 2-D and 3-D and a running median, their widths chosen
with the truth; BM4D and CAREamics' 3-D Noise2Void where these packages are installed; and the
package by its command line: `instant`, `best`, and `best 2`, with so many neighbours on each side
(`instant 0`: none).

The folder keeps each measurement as soon as it is made; a run that is started again continues where
it stopped. A training of 300 frames takes some minutes on two cores, BM4D of a movie half an hour.
"""

import json

import numpy as np
from common import arguments, store
from common.movie_cases import MOVIES, VOLUMES
from common.movie_methods import RIVALS, measured, missing_package
from common.quality import mean_and_error
from common.tables import Table

METHODS = [*RIVALS, "instant", "best", "best 1", "best 2", "best 3"]
COLUMNS = {  # of a table: figure, digits, factor
    "PSNR in dB": ("psnr", 2, 1),
    "AC in dB": ("ac", 2, 1),
    "peaks of somata in %": ("dF_soma", 1, 1),
    "peaks of boutons in %": ("dF_bouton", 1, 1),
    "leak in %": ("leak", 1, 1),
    "seconds": ("seconds", 1, 1),
    "memory in GB": ("memory", 2, 1e-9),
}
NOTE = """\
Means over seeds, each of a scene and of its noise, and their standard errors; the widths that \
were chosen in brackets. PSNR: mean over frames, with the range of the truth. AC: SNR of what \
changes in time, 0 for a result that is still. Peaks: bias of the size of transients that stand \
alone. Leak: what of a soma's transient is seen in the two frames before it. Seconds of a filter \
are of one application, those of the package of the whole command. Memory is the peak of a \
process of its own, Python and its packages included."""


def table_of(row, results):
    """Return the table of a row: a line for each method."""
    table = Table(row, ["method", *COLUMNS])
    for name, runs in results.items():
        absent = next((run["missing"] for run in runs.values() if "missing" in run), None)
        if absent:
            table.add(
                f"{name}: package {absent} is not installed", *[None] * len(COLUMNS), show=False
            )
            continue
        told = dict.fromkeys(run["parameter"] for run in runs.values() if "parameter" in run)
        label = f"{name} ({'; '.join(told)})" if told else name
        table.add(label, *(cell(runs, *column) for column in COLUMNS.values()), show=False)
    return table


def cell(runs, key, digits, factor):
    """Return mean and standard error of a figure over seeds, or None where it has no meaning."""
    if not runs or any(key not in run for run in runs.values()):
        return None
    known = {seed: run for seed, run in runs.items() if np.isfinite(run[key])}
    if not known:
        return None
    mean, error = mean_and_error(known, key)
    shown = f"{factor * mean:.{digits}f}"
    return f"{shown} \N{PLUS-MINUS SIGN} {factor * error:.{digits}f}" if error else shown


def measure(args, rows, results, keep):
    """Add to `results` what is not there yet; `keep` is called after each measurement."""
    for row in rows:
        for name in args.methods:
            runs = results.setdefault(row, {}).setdefault(name, {})
            absent = missing_package(name)
            if absent:
                results[row][name] = runs or {"0": {"missing": absent}}
                continue
            runs = results[row][name] = {s: run for s, run in runs.items() if "missing" not in run}
            for seed in range(args.first_seed, args.first_seed + args.seeds):
                if str(seed) in runs:
                    continue
                runs[str(seed)] = measured(name, row, seed, frames=args.frames, size=args.size)
                keep()
                shown = cell({"0": runs[str(seed)]}, *COLUMNS["PSNR in dB"])
                print(f"{row} {name} {seed}: {shown} dB", flush=True)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "movies.json")
    arguments.add_folder(parser, "movies", "the measurements")
    arguments.add_only(parser, "rows")
    parser.add_argument(
        "--methods",
        type=arguments.comma_list,
        default=METHODS,
        help=f"names separated by commas (default: {','.join(METHODS)})",
    )
    parser.add_argument("--seeds", type=int, default=1, help="scenes a row (default: 1)")
    parser.add_argument("--first-seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--frames", type=int, default=300, help="of a movie (default: 300)")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (default: 128)")
    return parser


def main(argv=None):
    """Measure what is not there yet, print and write the tables."""
    args = build_parser().parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    kept = args.folder / f"{args.frames}x{args.size}.json"  # other sizes are other measurements
    results = arguments.read_kept(kept)
    rows = [row for row in (*MOVIES, *VOLUMES) if arguments.is_chosen(row, args.only)]
    measure(args, rows, results, lambda: kept.write_text(json.dumps(results, indent=1)))
    tables = [table_of(row, results[row]) for row in rows]
    print("\n\n".join(table.markdown() for table in tables))
    kinds = {"movies": MOVIES, "volumes": VOLUMES}
    seen = [kind for kind, names in kinds.items() if any(row in names for row in rows)]
    title = f"Methods on {' and '.join(seen)}"
    store.write(args.output, group="movies", title=title, tables=tables, note=NOTE)


if __name__ == "__main__":
    main()
