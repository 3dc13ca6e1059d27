"""Measure whether totals of spots, means of regions and counted photons survive a denoising.

    python experiments/quantities.py --methods instant,fast,best -o quantities.json
    python experiments/quantities.py --methods fast --only spots --spots 1.5/2000/2 --seeds 6

Spots: Gaussians on a grid, every second with a fifth of the total of the others, on a background,
photon noise and read noise of 1. Their totals are sums over squares less the background around
them, relative to the truth, with the standard error over the spots; the totals of the noisy images
stand beside them, because no method knows more. With several seeds there are as many scenes, noises
and trainings, and what is said is the mean over them and its standard error. Regions: discs of five
radii, every second with a fifth of the brightness. Photons: cells that give far less than one
photon a pixel and frame, seen by a photon counter and by an EMCCD.

Each row says what the network alone keeps ("alone"), and what is kept once the light that it lost
is added back ("kept"), as `jaxdenoise.denoise` does by default; and by how many dB that lowers the
mean squared error. A row of `instant` takes seconds on two cores, of `fast` a minute or two.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.ndimage
from common import arguments, store
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic import phantom

SPOTS = [  # sigma in pixels, photons of a bright spot, background in photons a pixel
    (sigma, total, background)
    for sigma in (1.0, 1.5, 2.5)
    for total, background in ((500, 2), (2000, 2), (2000, 20), (10_000, 20))
]
LEVELS = ((0.5, 0.02), (5, 0.5), (50, 2))  # photons a pixel of a bright disc, and around it
RADII = (3, 5, 8, 12, 18)
PHOTONS = (0.001, 0.003, 0.01, 0.1, 1)  # a pixel and frame, on average
DIM = 0.2
OFFSET = 100.0
TITLE = "What is kept of the light"


class Scene(NamedTuple):
    """Noise-free photons (H, W), and groups of places: dict of a name to masks (inside, around)."""

    clean: np.ndarray
    groups: dict


def masks(distance, radius):
    """Return the pixels within a radius, and those of a ring around them."""
    return distance <= radius, (distance > radius) & (distance <= radius + 4)


def spots(rng, sigma, total, background, side):
    """Return the `Scene` of spots on a grid."""
    pitch = max(20, int(10 * sigma + 8) // 2 * 2)
    y, x = np.mgrid[:side, :side]
    clean, groups = np.full((side, side), float(background)), {"bright": [], "dim": []}
    middles = range(pitch // 2, side - pitch // 2 + 1, pitch)
    for number, (row, column) in enumerate((i, j) for i in middles for j in middles):
        down, right = rng.uniform(-1, 1, 2)
        name = "dim" if number % 2 else "bright"
        distance = np.hypot(y - row - down, x - column - right)
        light = np.exp(-(distance**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        clean += light * total * (DIM if number % 2 else 1)
        groups[name].append(masks(distance, 4 * sigma + 1))
    return Scene(clean, groups)


def discs(level, background, side):
    """Return the `Scene` of flat discs, four of each radius."""
    y, x = np.mgrid[:side, :side]
    clean, groups = np.full((side, side), float(background)), {}
    for number, radius in enumerate(RADII):
        for place in range(4):
            distance = np.hypot(y - (0.1 + 0.2 * number) * side, x - (0.125 + 0.25 * place) * side)
            clean += level * (DIM if place % 2 else 1) * np.clip(radius + 0.5 - distance, 0, 1)
            name = f"radius {radius}, {'dim' if place % 2 else 'bright'}"
            groups.setdefault(name, []).append(masks(distance, radius + 3))
    return Scene(clean, groups)


def totals(image, places):
    """Return the light of each place above that of the ring around it."""
    return np.array(
        [image[inside].sum() - image[around].mean() * inside.sum() for inside, around in places]
    )


def relative(images, clean, places):
    """Return the sum of the totals over the truth's, and its standard error over the places."""
    true = totals(clean, places)
    found = np.mean([totals(image.astype(np.float64), places) for image in images], axis=0)
    error = (found - true).std(ddof=1) / np.sqrt(len(true)) / true.mean()
    return found.sum() / true.sum(), error


def denoised(method, noisy, epochs, seed=0):
    """Return the result of the network alone, and with the light kept."""
    if method == "instant":
        model = jd.instant(noisy)
    else:
        changes = {"epochs": epochs} if epochs else {}
        config = jd.TrainConfig.preset(method, targets="own", **changes)
        model = jd.fit(jax.random.key(seed), noisy, psf=jd.gaussian_psf(1.0), config=config)
    return [
        np.asarray(jd.denoise(model, noisy, keep_light=kept).denoised) for kept in (False, True)
    ]


def gained(alone, kept, clean):
    """Return by how much the mean squared error falls, in dB."""
    before, after = (float(np.mean((images - clean) ** 2)) for images in (alone, kept))
    return 10 * np.log10(before / after)


def decibels(alone, kept, clean):
    """Return the same in words."""
    return f"{gained(alone, kept, clean):+.2f}"


def share(pair, digits=3):
    """Return a share and its standard error, if it is known, in words."""
    error = "" if np.isnan(pair[1]) else f" \N{PLUS-MINUS SIGN} {pair[1]:.{digits}f}"
    return f"{pair[0]:.{digits}f}{error}"


def over_seeds(pairs):
    """Return the mean of shares and its standard error; of a single one its own."""
    values = np.array([value for value, _ in pairs])
    if len(values) == 1:
        return pairs[0]
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


def photographed(rng, clean, frames, read):
    """Return frames (N, H, W) with photon noise and read noise."""
    photons = rng.poisson(clean, (frames, *clean.shape))
    return (photons + rng.normal(0, read, photons.shape) + OFFSET).astype(np.float32)


def measured_spots(args, method, spot, seed):
    """Return the shares of bright and of dim spots and their ratio: noisy, alone, kept; and dB."""
    rng = np.random.default_rng(seed)
    scene = spots(rng, *spot, args.side)
    noisy = photographed(rng, scene.clean, args.frames, 1.0)
    alone, kept = denoised(method, noisy, args.epochs, seed)
    rows = {
        name: [relative(images, scene.clean, places) for images in (noisy, alone, kept)]
        for name, places in scene.groups.items()
    }
    pairs = zip(rows["dim"], rows["bright"], strict=True)
    rows["ratio of 0.2"] = [(DIM * dim[0] / bright[0], np.nan) for dim, bright in pairs]
    return rows, gained(alone, kept, scene.clean + OFFSET)


def spot_table(args, method):
    """Measure the totals of spots, and the ratio of dim ones to bright ones."""
    columns = ["sigma", "photons", "background", "spots", "noisy", "alone", "kept", "gain in dB"]
    table = Table(f"{method}: totals of spots over the truth", columns).start()
    for spot in SPOTS:
        sigma, total, background = spot
        if args.spots and f"{sigma}/{total}/{background}" not in args.spots:
            continue
        found = [measured_spots(args, method, spot, seed) for seed in range(args.seeds)]
        gain = f"{np.mean([gain for _, gain in found]):+.2f}"
        own = (str(sigma), f"{total:,}", str(background))
        for name in found[0][0]:
            cells = zip(*(rows[name] for rows, _ in found), strict=True)
            ratio = name.startswith("ratio")
            words = (share(over_seeds(pairs), 4 if ratio else 3) for pairs in cells)
            table.add(*own, name, *words, None if ratio else gain)
    return table


def region_table(args, method):
    """Measure the light of discs."""
    columns = ["photons", "background", "discs", "noisy", "alone", "kept", "gain in dB"]
    table = Table(f"{method}: light of discs over the truth", columns).start()
    for level, background in LEVELS:
        rng, scene = np.random.default_rng(0), discs(level, background, args.side)
        noisy = photographed(rng, scene.clean, args.frames, 0.0 if level < 5 else 1.0)
        alone, kept = denoised(method, noisy, args.epochs)
        gain = decibels(alone, kept, scene.clean + OFFSET)
        for name, places in scene.groups.items():
            found = (f"{relative(x, scene.clean, places)[0]:.3f}" for x in (noisy, alone, kept))
            table.add(f"{level:g}", f"{background:g}", name, *found, gain)
    return table


def photon_table(args, method):
    """Measure the light of frames in which photons are rare: the worst frame counts."""
    columns = ["detector", "photons a pixel", "alone", "kept", "gain in dB"]
    table = Table(f"{method}: light of the worst frame over the noisy one's", columns).start()
    shape = (args.side, args.side)
    scene = np.asarray(phantom(jax.random.key(0), shape=shape), np.float64)
    scene = scipy.ndimage.gaussian_filter(np.maximum(scene - scene.min(), 0), 1.0)
    for detector in ("photon counter", "EMCCD"):
        for photons in PHOTONS:
            rng = np.random.default_rng(0)
            clean = photons * (0.1 + 0.9 * scene / scene.mean())
            noisy = rng.poisson(clean, (args.frames, *clean.shape)).astype(np.float32)
            dark = 0.0
            if detector == "EMCCD":
                light = rng.gamma(np.maximum(noisy, 1e-9), 300) * (noisy > 0)
                noisy = np.rint(light + 200 + rng.normal(0, 4, noisy.shape)).astype(np.float32)
                dark, clean = 200.0, 300 * clean + 200
            alone, kept = denoised(method, noisy, args.epochs)
            light = noisy.mean(axis=(1, 2), dtype=np.float64) - dark
            found = []
            for images in (alone, kept):
                own = (images.mean(axis=(1, 2), dtype=np.float64) - dark) / light
                found.append(f"{own[np.argmax(np.abs(own - 1))]:.3f}")
            table.add(detector, f"{photons:g}", *found, decibels(alone, kept, clean))
    return table


TABLES = {"spots": spot_table, "regions": region_table, "photons": photon_table}


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "quantities.json")
    arguments.add_only(parser, "tables (spots, regions, photons)")
    parser.add_argument("--methods", type=arguments.comma_list, default=["instant"])
    parser.add_argument(
        "--spots",
        type=arguments.comma_list,
        default=[],
        help="only these: sigma/photons/background, such as 1.5/2000/2",
    )
    parser.add_argument("--seeds", type=int, default=1, help="of the scenes of spots")
    parser.add_argument("--epochs", type=int, help="of the trainings (default: the preset's)")
    parser.add_argument("--side", type=int, default=256, help="pixels of a scene")
    parser.add_argument("--frames", type=int, default=2, help="of a scene")
    return parser


def main(argv=None):
    """Measure, print and write the tables."""
    args = build_parser().parse_args(argv)
    tables = [
        measure(args, method)
        for method in args.methods
        for name, measure in TABLES.items()
        if arguments.is_chosen(name, args.only)
    ]
    store.write(args.output, group="pieces", title=TITLE, tables=tables)


if __name__ == "__main__":
    main()
