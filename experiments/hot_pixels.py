"""Measure which pixels the removal of hot pixels replaces, rightly and wrongly.

    python experiments/hot_pixels.py --data DATA -o hot_pixels.json

Synthetic: cells, filaments and points, or points alone, through PSFs of sigma 0.5 to 3 pixels, at
0.001 to 1,000 photons a pixel on average, seen by photon counters, cameras, an EMCCD and an sCMOS
camera. Each scene is taken without hot pixels, with 0.01 % and with 0.1 % of them, 5 to 500
standard deviations of their pixel's noise above the rest, in one frame (as cosmic rays) or at the
same places in all of eight frames (stuck). The table counts the pixels of signal that were
replaced, what that takes from the light (the worst scene), and the share of the hot pixels beyond
30 standard deviations that was found. Real: FMD and W2S as they are. Minutes on two cores.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from common import arguments, store
from common.data import tasks
from common.tables import Table

from jaxdenoise.imaging.hotpixels import find_hot_pixels, replace_hot_pixels

PHOTONS = (0.001, 0.01, 0.1, 1, 10, 100, 1000)  # a pixel, on average
SIGMAS = (0.5, 0.7, 1.0, 1.5, 3.0)  # of the PSF, in pixels
HOT = (0, 1e-4, 1e-3)  # share of the pixels
WEAKEST, STRONGEST, STRONG = 5, 500, 30  # standard deviations of the noise
OFFSET = 100.0
TITLE = "Hot pixels"


class Trial(NamedTuple):
    """What became of one scene."""

    wrong: int  # pixels of signal that were replaced
    pixels: int
    light: float  # share of the light that they took
    strong: int  # hot pixels beyond STRONG
    found: int  # of these


def structure(rng, side, kind):
    """Return light (side, side) before the PSF."""
    points = np.zeros((side, side))
    for _ in range(side * side // 200):
        # In the middle of a pixel, where a narrow PSF leaves its neighbours the least.
        y, x = rng.uniform(2, side - 2, 2)
        points[int(y), int(x)] += rng.lognormal(0, 1) * 40
    if kind == "points":
        return points + 0.02
    y, x = np.mgrid[:side, :side]
    light = np.zeros((side, side))
    for _ in range(side * side // 2000):
        cy, cx, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 12)
        light += rng.uniform(0.2, 1) * ((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    for _ in range(8):
        cy, cx, angle = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, np.pi)
        light += 2 * (np.abs((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) < 0.7)
    return light + 0.3 * points + 0.05


def scene(rng, side, kind, sigma):
    """Return the noise-free light (side, side), of mean 1."""
    light = scipy.ndimage.gaussian_filter(structure(rng, side, kind), sigma, truncate=6)
    return light / light.mean()


class Detector(NamedTuple):
    """A function (rng, photons (N, H, W)) that returns frames, and the variance's two terms."""

    expose: Callable
    gain: float  # variance in grey levels squared for each photon
    read: float  # standard deviation without light


def counting(rng, photons):
    """Count photons."""
    return rng.poisson(photons).astype(np.float32)


def camera(rng, photons, *, read=3.0, gain=2.0):
    """Expose a camera of 2 grey levels a photon with Gaussian read noise; whole grey levels."""
    noisy = gain * rng.poisson(photons) + OFFSET + rng.normal(0, read, photons.shape)
    return np.maximum(np.rint(noisy), 0).astype(np.float32)


def emccd(rng, photons):
    """Multiply by 300 on average, distributed exponentially for one photon."""
    count = rng.poisson(photons)
    light = rng.gamma(np.maximum(count, 1e-9), 300) * (count > 0)
    return np.rint(light + OFFSET + rng.normal(0, 4, photons.shape)).astype(np.float32)


def scmos(rng, photons):
    """Expose pixels of their own gain, offset and read noise, the same in every frame."""
    own = np.random.default_rng(1)
    gain = own.normal(2, 0.05, photons.shape[1:])
    offset = own.normal(OFFSET, 0.7, photons.shape[1:])
    read = own.lognormal(np.log(1.5), 0.35, photons.shape[1:])
    noisy = gain * rng.poisson(photons) + offset + rng.normal(size=photons.shape) * read
    return np.rint(noisy).astype(np.float32)


DETECTORS = {
    "photon counts": Detector(counting, 1, 0),
    "camera, read noise 0": Detector(partial(camera, read=0.0), 4, 0),
    "camera, read noise 3": Detector(camera, 4, 3),
    "camera, read noise 10": Detector(partial(camera, read=10.0), 4, 10),
    "EMCCD": Detector(emccd, 2 * 300**2, 4),
    "sCMOS": Detector(scmos, 4, 1.7),
}


def trial(rng, clean, detector, frames, share):
    """Take frames of a scene, make pixels hot and see which are replaced; return a `Trial`."""
    noisy = detector.expose(rng, np.broadcast_to(clean, (frames, *clean.shape)))
    hot = rng.random(clean.shape) < share
    heights = np.exp(rng.uniform(np.log(WEAKEST), np.log(STRONGEST), clean.shape)) * hot
    deviation = np.sqrt(detector.gain * clean + detector.read**2)
    spoilt = noisy + np.rint(heights * deviation).astype(np.float32)
    found = find_hot_pixels(spoilt)
    changed = np.zeros(noisy.shape, bool)
    changed[found.frames, found.rows, found.columns] = True
    wrong = changed & ~hot
    dark = detector.expose(rng, np.zeros((1, *clean.shape))).mean()
    lost = (replace_hot_pixels(spoilt, found) - spoilt)[wrong].sum()
    strong = (heights > STRONG) & np.ones((frames, 1, 1), bool)
    return Trial(
        int(wrong.sum()),
        wrong.size,
        abs(float(lost)) / max(float((noisy - dark).sum()), 1.0),
        int(strong.sum()),
        int((strong & changed).sum()),
    )


def trials(detector, photons, frames, share, side, sigmas):
    """Run all scenes of a kind; return the sum of their `Trial`s, and the largest loss of light."""
    results = []
    for seed, (kind, sigma) in enumerate(itertools.product(("cells", "points"), sigmas)):
        rng = np.random.default_rng(seed)
        clean = photons * scene(rng, side, kind, sigma)
        results.append(trial(rng, clean, detector, frames, share))
    total = np.sum([(r.wrong, r.pixels, r.strong, r.found) for r in results], axis=0)
    wrong, pixels, strong, found = map(int, total)
    return Trial(wrong, pixels, max(r.light for r in results), strong, found)


def synthetic_tables(args):
    """Measure the synthetic scenes; return a table for one frame and one for several."""
    tables = []
    for frames, name in ((1, "one frame"), (args.frames, f"{args.frames} frames, stuck")):
        columns = ["detector", "photons a pixel", "hot", "signal replaced", "light lost", "found"]
        table = Table(f"Synthetic scenes, {name}", columns).start()
        for (label, detector), photons, share in itertools.product(
            DETECTORS.items(), args.photons, HOT
        ):
            if not arguments.is_chosen(label, args.only):
                continue
            r = trials(detector, photons, frames, share, args.side, args.sigmas)
            hit = f"{r.found / r.strong:.0%}" if r.strong else None
            cells = (f"{r.wrong} of {r.pixels:,}", f"{r.light:.2%}", hit)
            table.add(label, f"{photons:g}", f"{share:.2%}", *cells)
        tables.append(table)
    return tables


def real_table(data):
    """Count what is replaced in real images."""
    table = Table("Real images", ["images", "pixels", "replaced"]).start()
    for name, noisy, _, _ in tasks(data):
        table.add(name, f"{noisy.size:,}", len(find_hot_pixels(noisy).frames))
    return table


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "hot_pixels.json")
    arguments.add_data(parser, optional="without it, the synthetic scenes only")
    arguments.add_only(parser, "detectors")
    parser.add_argument("--side", type=int, default=192, help="pixels of a scene")
    parser.add_argument("--frames", type=int, default=8, help="of the stacks (default: 8)")
    parser.add_argument("--photons", type=float, nargs="+", default=PHOTONS)
    parser.add_argument("--sigmas", type=float, nargs="+", default=SIGMAS, help="of the PSF")
    return parser


def main(argv=None):
    """Measure, print and write the tables."""
    args = build_parser().parse_args(argv)
    tables = synthetic_tables(args)
    if args.data:
        tables.append(real_table(args.data))
    store.write(args.output, group="pieces", title=TITLE, tables=tables)


if __name__ == "__main__":
    main()
