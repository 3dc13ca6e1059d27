"""Structured noise of scanners and cameras: how often it is found, where it is and where it is not.

    python experiments/line_noise.py --data DATA -o line_noise.json

Synthetic: 14 kinds of structure, many of which run along x or y (fibres, gratings, text, tiles,
bands), through PSFs of sigma 0 to 3 pixels, at 0.5 to 3,000 photons, with read noise of 0 to 5.
Each is taken as a single image, as a still stack, and as a stack that moves by up to a pixel a
frame and changes its brightness. The first table counts what is found where there is nothing, along
both axes and for lines that do not meet. The second table adds offsets of 0.3 to 2 standard
deviations of the noise: the share that is found, and how much of the offsets is left where they
were. Real: every image as it is. 15 minutes on two cores.
"""

import numpy as np
import scipy.ndimage
from common import arguments, store
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.imaging.line_noise import remove_line_noise

SIGMAS = (0, 0.5, 0.8, 1, 1.5, 3)  # of the PSF, in pixels
READ = (0, 0.5, 2, 5)  # grey levels, of one a photon
BACKGROUND = (0, 0.1, 1)  # of the brightest signal
STRENGTHS = (0.3, 0.5, 1, 2)  # of the noise's standard deviation
FRAMES = 6  # of a stack
TITLE = "Line noise"


def cells(rng, y, x):
    """Discs and slanted lines."""
    side, light = len(y), np.zeros(y.shape)
    for _ in range(side * side // 1500):
        cy, cx, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 12)
        light += rng.uniform(0.2, 1) * ((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    for _ in range(8):
        cy, cx, angle = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, np.pi)
        light += 2 * (np.abs((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) < 0.7)
    return light


def fibres(rng, y, x):
    """Fibres along x, some slightly slanted, of changing brightness."""
    light = np.zeros(y.shape)
    for _ in range(rng.integers(5, 60)):
        cy, slope = rng.uniform(0, len(y)), rng.normal(0, 0.03) * rng.integers(0, 2)
        across = np.exp(-((y - cy - x * slope) ** 2) / (2 * rng.uniform(0.3, 1.5) ** 2))
        along = 1 + 0.5 * np.sin(x / rng.uniform(5, 50) + rng.uniform(0, 6))
        light += rng.uniform(0.3, 1) * across * along
    return light


def straight_fibres(rng, y, x):
    """Fibres exactly along x, as bright everywhere."""
    light = np.zeros(y.shape)
    for _ in range(rng.integers(5, len(y))):
        across = (y - rng.uniform(0, len(y))) ** 2 / (2 * rng.uniform(0.3, 1.5) ** 2)
        light += rng.uniform(0.3, 1) * np.exp(-across)
    return light


def grating(rng, y, x):
    """Lines of a period of 2 to 12 pixels, exactly along x; half of them square waves."""
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * y / rng.uniform(2, 12) + rng.uniform(0, 6))
    return wave if rng.random() < 0.5 else (wave > 0.5).astype(float)


def slanted_grating(rng, y, x):
    """Lines that are slanted by a few degrees."""
    angle = rng.normal(0, 0.05)
    along = y * np.cos(angle) + x * np.sin(angle)
    return 0.5 + 0.5 * np.sin(2 * np.pi * along / rng.uniform(2, 12))


def text(rng, y, x):
    """Lines of letters."""
    light, top = np.zeros(y.shape), 0
    while top < len(y) - 10:
        height = rng.integers(5, 9)
        for left in range(0, len(y) - 6, 7):
            if rng.random() < 0.8:
                light[top : top + height, left : left + 5] = rng.random((height, 5)) < 0.5
        top += height + rng.integers(2, 6)
    return light


def strokes(rng, y, x):
    """Lines along x, one pixel wide, of any length."""
    light, side = np.zeros(y.shape), len(y)
    for _ in range(rng.integers(3, side // 2)):
        left = rng.integers(0, side // 2)
        light[rng.integers(0, side), left : rng.integers(left, side)] += rng.uniform(0.2, 1)
    return light


def tiles(rng, y, x):
    """Squares of one grey level each."""
    side, size = len(y), rng.integers(8, 40)
    levels = rng.random((side // size + 1, side // size + 1))
    return np.kron(levels, np.ones((size, size)))[:side, :side]


def bands(rng, y, x):
    """Bands along x of one grey level each, 1 to 20 pixels wide."""
    size = rng.integers(1, 20)
    return np.repeat(rng.random((len(y) // size + 1, 1)), size, 0)[: len(y)] * np.ones(y.shape)


def membranes(rng, y, x):
    """Membranes as in an electron microscope, and grain."""
    field = scipy.ndimage.gaussian_filter(rng.standard_normal(y.shape), rng.uniform(2, 8))
    grain = scipy.ndimage.gaussian_filter(rng.standard_normal(y.shape), 0.7)
    return 1 - np.exp(-((field / field.std()) ** 2) / (2 * 0.15**2)) + 0.2 * grain


def stretched(rng, y, x):
    """A texture that is 10 to 80 pixels long along x."""
    widths = rng.uniform(0.5, 2), rng.uniform(10, 80)
    return scipy.ndimage.gaussian_filter(rng.standard_normal(y.shape), widths)


def texture(rng, y, x):
    """A texture, mostly longer along x."""
    widths = rng.uniform(0.3, 3), rng.uniform(0.3, 20)
    return scipy.ndimage.gaussian_filter(rng.standard_normal(y.shape), widths)


def points(rng, y, x):
    """Single pixels."""
    light = np.zeros(y.shape)
    for _ in range(y.size // 150):
        light[rng.integers(0, len(y)), rng.integers(0, len(y))] += rng.lognormal()
    return light


def gradient(rng, y, x):
    """Nothing but a gradient along y."""
    return y / len(y)


KINDS = (cells, fibres, straight_fibres, grating, slanted_grating, text, strokes, tiles)
KINDS += (bands, membranes, stretched, texture, points, gradient)
MOVIES = ("single", "still", "moving")


def scene(rng, kind, side):
    """Return light (side, side) from 0 to 1 above a background, through a PSF."""
    light = kind(rng, *np.mgrid[:side, :side].astype(float))
    light = scipy.ndimage.gaussian_filter(light, rng.choice(SIGMAS))
    light = light - light.min()
    return light / max(light.max(), 1e-9) + rng.choice(BACKGROUND)


def frames_of(rng, kind, movie, side):
    """Return noisy frames (N, side, side), their expectation, and the noise's deviation."""
    light = scene(rng, kind, side)
    if movie == "single":
        light = light[None]
    elif movie == "still":
        light = np.stack([light] * FRAMES)
    else:
        step = rng.uniform(-1, 1, 2)
        light = [
            scipy.ndimage.shift(light, step * n, order=1, mode="mirror") * rng.uniform(0.9, 1.1)
            for n in range(FRAMES)
        ]
    photons, read = 10 ** rng.uniform(-0.3, 3.5), rng.choice(READ)
    clean = np.stack(light) * photons
    noisy = rng.poisson(clean) + rng.normal(0, 1, clean.shape) * read
    return noisy, clean, np.sqrt(clean.mean() + read**2)


def false_table(args):
    """Count what is found where there is nothing."""
    columns = ["structure", "taken as", "images", "offsets found", "lines moved"]
    table = Table("Images without structured noise", columns).start()
    for number, kind in enumerate(KINDS):
        for movie in MOVIES:
            offsets, moved = 0, 0
            for seed in range(args.images):
                rng = np.random.default_rng([number, seed])
                noisy, _, _ = frames_of(rng, kind, movie, args.side)
                found = remove_line_noise(np.rint(noisy))[1]
                offsets += found is not None and (
                    found.rows is not None or found.columns is not None
                )
                moved += found is not None and found.shift != 0
            table.add(kind.__name__.replace("_", " "), movie, args.images, offsets, moved)
    return table


def left_of(noisy, cleaned, axis):
    """Return the share of the offsets' standard deviation that is left."""
    before, after = ((one - noisy[0]).mean(axis=3 - axis) for one in (noisy[1], cleaned))
    before, after = (one - one.mean(axis=1, keepdims=True) for one in (before, after))
    return float(after.std() / before.std())


def found_table(args):
    """Add offsets and see which are found, and what is left of them."""
    columns = ["offsets of", "taken as", "of the noise", "images", "found", "left where found"]
    table = Table("Images with structured noise, all structures", columns).start()
    kinds = [("each row, changing", 1, movie) for movie in MOVIES]
    kinds += [("each column, the same in all frames", 2, movie) for movie in MOVIES[1:]]
    for (name, axis, movie), strength in ((one, s) for one in kinds for s in STRENGTHS):
        left = []
        for number, kind in enumerate(KINDS):
            for seed in range(args.images // 10):
                rng = np.random.default_rng([number, seed])
                noisy, _, deviation = frames_of(rng, kind, movie, args.side)
                shape = [len(noisy) if axis == 1 else 1, 1, 1]
                shape[axis] = args.side
                spoilt = noisy + rng.normal(0, strength * deviation, shape)
                cleaned, found = remove_line_noise(np.rint(spoilt))
                if found is not None and found[axis - 1] is not None:
                    left.append(left_of((noisy, spoilt), cleaned, axis))
        images = len(KINDS) * (args.images // 10)
        share, rest = f"{len(left) / images:.0%}", f"{np.median(left):.2f}" if left else None
        table.add(name, movie, f"{strength:g}", images, share, rest)
    return table


def real_table(data):
    """Say what is found in real images."""
    table = Table("Real images", ["file", "frames", "found"]).start()
    for path in sorted(file for file in data.rglob("*") if file.is_file()):
        try:
            frames = jd.read(path).frames
        except Exception:  # no image, or none that is read
            continue
        found = remove_line_noise(frames)[1]
        table.add(path.name, len(frames), "; ".join(found.evidence) if found else "nothing")
    return table


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "line_noise.json")
    arguments.add_data(parser, "images", optional="without it, the synthetic scenes only")
    parser.add_argument("--side", type=int, default=128, help="pixels of a scene")
    parser.add_argument("--images", type=int, default=100, help="of each kind (default: 100)")
    return parser


def main(argv=None):
    """Measure, print and write the tables."""
    args = build_parser().parse_args(argv)
    tables = [false_table(args), found_table(args)]
    if args.data:
        tables.append(real_table(args.data))
    store.write(args.output, group="pieces", title=TITLE, tables=tables)


if __name__ == "__main__":
    main()
