"""Denoise every image below a folder, and find results that harm without a verdict that says so.

    python experiments/harm_audit.py FOLDER -o harm_audit.json --crop 256

Each file is denoised as a user would, by `workflows.denoise` with `instant` and, with `--training
EPOCHS`, by a short training; of a large image a crop is taken. A row says what was chosen, how the
frames' means, the brightest 0.1 % and the totals changed, how the residual is related to the
image's structure, and what the verdict was. A file that cannot be read is a row with its reason.

A result harms if the brightest 0.1 % grow by more than three times their noise, if a frame's mean
moves by more than 1 %, or if the residual has more of the image's structure than the guard allows.
The exit code is 1 if a result harms and its verdict does not say so.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import arguments, store
from common.tables import Table

from jaxdenoise import workflows
from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.io import images
from jaxdenoise.io.info import ImageInfo
from jaxdenoise.microscope.noise_estimation import estimate_noise
from jaxdenoise.report.findings import FINE
from jaxdenoise.system.errors import JaxdenoiseError
from jaxdenoise.workflows.reporter import Silent

COLUMNS = [
    "image",
    "pixels",
    "method",
    "choices",
    "mean in",
    "mean out",
    "furthest mean",
    "peaks over noise",
    "totals",
    "structure",
    "seconds",
    "harms",
    "verdict",
]
PEAKS = 1e-3  # share of the pixels that are the brightest
MEAN, GROWTH = 0.01, 3.0  # limits: of a frame's mean, and of the peaks over their noise
TOTAL = 32  # pixels a side of the blocks whose totals are compared


class Harm(NamedTuple):
    """How a result differs from its input.

    Attributes:
        mean: (2,), of all frames before and after, in grey levels.
        furthest: relative change of the mean of the frame whose mean moves furthest.
        growth: growth of the brightest 0.1 % of the worst frame, over their noise.
        totals: root mean square of the change of blocks' totals, over their noise.
        structure: correlation of the residual with the result's fine detail, of the worst frame.
        reasons: in words; empty if it does no harm.
    """

    mean: tuple[float, float]
    furthest: float
    growth: float
    totals: float
    structure: float
    reasons: list[str]


class Listener(Silent):
    """Keeps the lines that a user would see."""

    def __init__(self):
        """Begin with none."""
        self.lines = []

    def say(self, text):
        """Keep a line."""
        self.lines.append(text)

    insist = say


def files_below(folder):
    """Return the files below a folder that `io.images` knows, and OME-Zarr folders as one each."""
    found = []
    for path in sorted(folder.iterdir() if folder.is_dir() else [folder]):
        if path.is_dir() and not images.omezarr.is_omezarr(path):
            found += files_below(path)
        elif path.is_dir() or path.suffix.lower() in images.SUFFIXES:
            found.append(path)
    return found


def crop_of(path, folder, *, side, frames):
    """Write the middle of a file as a TIFF; return its path and (N, H, W) before the crop."""
    image = images.open_image(path)
    count, height, width = image.frames.shape
    rows, columns = (
        slice(max(0, (length - side) // 2), max(0, (length - side) // 2) + min(length, side))
        for length in (height, width)
    )
    # As many of each channel as fit: channels often differ most.
    others = [
        (a, n) for a, n in zip(image.info.axes, image.info.shape, strict=True) if a not in "YX"
    ]
    numbers = np.arange(count).reshape([n for _, n in others] or [1])
    left = frames
    kept = {}
    for axis, (_, size) in sorted(enumerate(others), key=lambda one: one[1][0] != "C"):
        kept[axis] = min(size, max(1, left))
        left //= kept[axis]
        numbers = numbers.take(np.linspace(0, size - 1, kept[axis]).round().astype(int), axis)
    read = image.frames.with_gaps()
    stack = np.stack([read[int(n), rows, columns] for n in numbers.ravel()])
    axes = "".join(name for name, _ in others) + "YX"
    shape = tuple(kept[axis] for axis in range(len(others))) + stack.shape[1:]
    target = folder / f"{path.stem.split('.')[0]}_crop.tif"
    info = ImageInfo(axes, shape, image.info.dtype)
    images.write(target, stack, info, overwrite=True, gaps=np.isnan(stack))
    return target, (count, height, width)


def denoise(path, output, *, epochs):
    """Denoise a file; return (noisy, denoised) as they are in the files, lines, and the verdict."""
    training = workflows.Training() if epochs is None else workflows.Training(epochs=epochs)
    request = workflows.DenoiseRequest(
        inputs=[path],
        output=output,
        instant=epochs is None,
        training=training,
        report=False,
        overwrite=True,
    )
    listener = Listener()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = workflows.denoise(request, listener)
    lines = listener.lines + [str(one.message) for one in caught]
    pair = [pixels(name) for name in (path, result.outputs["denoised"][0])]
    worst = max((one.verdict for one in result.verdicts), key=lambda verdict: verdict.level)
    return *pair, lines, worst


def pixels(path):
    """Read the frames of a file, filled where there is no data."""
    return fill_stack(np.asarray(images.open_image(path).frames.with_gaps()))[0]


def harm_of(noisy, denoised, verdict):
    """Return the `Harm` of a result (N, H, W), measured apart from the guard but for structure."""
    means = [stack.mean(axis=(1, 2), dtype=np.float64) for stack in (noisy, denoised)]
    moved = (means[1] - means[0]) / np.maximum(np.abs(means[0]), 1e-30)
    growth = max(peak_growth(*pair) for pair in zip(noisy, denoised, strict=True))
    structure = [f for f in verdict.findings if f.check in ("structure", "sharpening", "power")]
    reasons = []
    if np.abs(moved).max() > MEAN:
        reasons.append(f"mean {moved[np.abs(moved).argmax()]:+.1%}")
    if growth > GROWTH:
        reasons.append(f"peaks +{growth:.1f} times their noise")
    if structure:
        reasons.append(structure[0].text)
    correlations = [detail_correlation(*pair) for pair in zip(noisy, denoised, strict=True)]
    return Harm(
        (float(means[0].mean()), float(means[1].mean())),
        float(moved[np.abs(moved).argmax()]),
        float(growth),
        totals(noisy, denoised),
        float(max(correlations, key=abs)),
        reasons,
    )


def peak_growth(noisy, denoised):
    """Return the growth of the brightest 0.1 % of a frame over the noise that they have."""
    count = max(1, round(PEAKS * noisy.size))
    before, after = (np.sort(image, axis=None)[-count:].mean() for image in (noisy, denoised))
    return float((after - before) / max(noise_at(noisy, before), 1e-30))


def noise_at(noisy, level):
    """Return the noise's standard deviation at a grey level, at least that of rounding."""
    if min(noisy.shape) < 16 or np.ptp(noisy) == 0:
        return np.sqrt(1 / 12)
    offset = np.percentile(noisy, 0.1)
    gain, read = map(float, estimate_noise(noisy, offset=float(offset)))
    whole = np.all(noisy == np.rint(noisy))
    return np.sqrt(gain * max(level - offset, 0) + read**2 + (1 / 12 if whole else 0))


def totals(noisy, denoised):
    """Return the root mean square change of the blocks' totals over what independent noise has."""
    height, width = (length // TOTAL * TOTAL for length in noisy.shape[1:])
    if not height or not width:
        return float("nan")
    residual = (noisy - denoised)[:, :height, :width].astype(np.float64)
    blocks = residual.reshape(len(noisy), height // TOTAL, TOTAL, width // TOTAL, TOTAL)
    deviation = residual.std() or 1.0
    return float(np.sqrt(np.mean(blocks.mean(axis=(2, 4)) ** 2)) * TOTAL / deviation)


def detail_correlation(noisy, denoised):
    """Return the correlation of the residual with the result's Laplacian; positive: sharpened."""
    if min(noisy.shape) < 3:
        return 0.0
    inner = denoised[1:-1, 1:-1]
    around = denoised[:-2, 1:-1] + denoised[2:, 1:-1] + denoised[1:-1, :-2] + denoised[1:-1, 2:]
    pair = [(noisy - denoised)[1:-1, 1:-1].ravel(), (around - 4 * inner).ravel()]
    if min(np.std(values) for values in pair) == 0:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def audit(path, folder, args, epochs):
    """Return the cells of a row, and whether the result harms without a word."""
    began = time.monotonic()
    method = "instant" if epochs is None else f"{epochs} epochs"
    try:
        target, shape = crop_of(path, folder, side=args.crop, frames=args.frames)
        noisy, denoised, lines, verdict = denoise(target, folder / "out", epochs=epochs)
    except (JaxdenoiseError, ValueError, OSError) as error:
        reason = " ".join(str(error).replace(f"{folder}/", "").split())
        return ["-", method, *["-"] * (len(COLUMNS) - 4), f"not denoised: {reason}"], False
    harm = harm_of(noisy, denoised, verdict)
    size = "x".join(map(str, shape))
    if noisy.shape != shape:
        size += " (crop " + "x".join(map(str, noisy.shape)) + ")"
    choices = [line for line in lines if not line.startswith(("wrote", "verdict"))]
    cells = [
        size,
        method,
        "; ".join(" ".join(line.split()) for line in choices).replace(f"{folder}/", "") or "-",
        *(f"{value:.5g}" for value in harm.mean),
        f"{harm.furthest:+.2%}",
        f"{harm.growth:+.1f}",
        f"{harm.totals:.2f}",
        f"{harm.structure:+.2f}",
        f"{time.monotonic() - began:.1f}",
        "; ".join(harm.reasons) or "no",
        verdict.text,
    ]
    return cells, bool(harm.reasons) and verdict.level == FINE


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "harm_audit.json")
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("folder", type=Path, help="the folder, or a file")
    parser.add_argument("--training", type=int, metavar="EPOCHS", help="a training each, besides")
    parser.add_argument("--crop", type=int, default=512, help="pixels a side, at most")
    parser.add_argument("--frames", type=int, default=8, help="of a file, at most")
    arguments.add_only(parser, "files")
    return parser


def main(argv=None):
    """Audit all files, print and write the table; return the exit code."""
    args = build_parser().parse_args(argv)
    table = Table("Harm by image", COLUMNS).start()
    silent = []
    for path in files_below(args.folder):
        name = str(path.relative_to(args.folder)) if path != args.folder else path.name
        if not arguments.is_chosen(name, args.only):
            continue
        for epochs in (None, args.training) if args.training else (None,):
            with tempfile.TemporaryDirectory() as folder:
                cells, unsaid = audit(path, Path(folder), args, epochs)
            table.add(name, *cells)
            if unsaid:
                silent.append(name)
    note = (
        f"{len(table.rows)} rows; {len(silent)} harm without a verdict that says so"
        f"{': ' if silent else ''}{', '.join(silent)}."
    )
    print(f"\n{note}")
    store.write(args.output, group="robustness", title="Harm by image", tables=[table], note=note)
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
