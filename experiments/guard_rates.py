"""Measure how often the guard warns of good results, and how often it misses bad ones.

    python experiments/guard_rates.py -o guard_rates.json --seeds 1

Scenes of known truth (spots, filaments, discs, textures; PSFs of sigma 0.5 to 3 pixels; 4 to 400
photons at the brightest pixel, or Gaussian noise; with and without haze) are denoised by the
network of the package, by the truth itself and by the best Gaussian filter: good results, if their
error is smaller than the input's. Bad results are made from good ones: sharpened, smoothed by three
pixels, scaled, shifted, with deleted or invented spots, without single photons, and those of
strides 2 to 4 on images whose noise was smoothed.

With `--data DATA` the real images that have a truth are good results too. A scene takes two
seconds on two cores.
"""

import dataclasses
import itertools
import time
import warnings

import numpy as np
from common import arguments, store
from common.data import tasks
from common.tables import Table
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.config import PRETRAINED
from jaxdenoise.report.findings import FINE
from jaxdenoise.report.guard import judge_frames

SIDE = 192  # pixels
KINDS = ("spots", "filaments", "discs", "texture")
PSFS = (0.5, 1.0, 2.0, 3.0)
PHOTONS = (4, 20, 100, 400)  # at the brightest pixel; their shot noise, or Gaussian noise as strong
OFFSET, GAIN, READ = 100.0, 4.0, 6.0  # of the camera, in grey levels
SMOOTHED = 1.0  # sigma in pixels of the filter that makes correlated noise
STRIDES = (2, 3, 4)
TOLD = 15  # standard deviations of the noise
SMOOTHED_RESULTS = ("smoothed, sigma 3", "median of 7 x 7")
FROM_TRUTH = (
    *("sharpened", "scaled by 1.05", "mean shifted by 3 %"),
    *("8 spots invented", "brightest dimmed by 30 %"),
)


def scene(kind, psf, rng, haze):
    """Return a scene from 0 to 1, as the optics show it."""
    image = np.zeros((SIDE, SIDE))
    if kind == "spots":
        places = rng.integers(0, SIDE, (2, 80))
        np.add.at(image, tuple(places), rng.uniform(0.2, 1, 80))
    elif kind == "filaments":
        for _ in range(12):
            angle, y, x = rng.uniform(0, np.pi), *rng.uniform(0, SIDE, 2)
            steps = np.arange(-SIDE, SIDE, 0.5)
            bend = 12 * np.sin(steps / rng.uniform(15, 40))
            rows = np.rint(y + steps * np.sin(angle) + bend * np.cos(angle)).astype(int)
            columns = np.rint(x + steps * np.cos(angle) - bend * np.sin(angle)).astype(int)
            inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
            np.add.at(image, (rows[inside], columns[inside]), rng.uniform(0.3, 1))
    elif kind == "discs":
        rows, columns = np.mgrid[:SIDE, :SIDE]
        for _ in range(25):
            y, x, radius = *rng.uniform(0, SIDE, 2), rng.uniform(3, 16)
            image += rng.uniform(0.2, 1) * ((rows - y) ** 2 + (columns - x) ** 2 < radius**2)
    else:
        frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
        noise = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / (frequency + 0.01)
        image = np.fft.ifft2(noise).real
    image = ndimage.gaussian_filter(image, psf, mode="wrap")
    image = (image - image.min()) / np.ptp(image)
    return (image + haze) / (1 + haze)


def camera(clean, photons, kind, rng):
    """Return the noisy image and its truth in grey levels, and whether its noise is correlated."""
    truth = OFFSET + GAIN * photons * clean
    if kind == "gaussian":
        noisy = truth + rng.normal(0, GAIN * np.sqrt(photons * clean.mean()), truth.shape)
    else:
        noisy = OFFSET + GAIN * rng.poisson(photons * clean) + rng.normal(0, READ, truth.shape)
    if kind == "smoothed":
        noise = ndimage.gaussian_filter(noisy - truth, SMOOTHED, mode="wrap")
        noisy = truth + noise
    return noisy.astype(np.float32), truth.astype(np.float32)


def instant(noisy, stride=1):
    """Return the result of the network of the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shared noise
        denoiser = jd.instant(noisy, config=_config(stride))
    return np.asarray(jd.denoise(denoiser, noisy).denoised)


def _config(stride):
    return jd.TrainConfig(network=dataclasses.replace(PRETRAINED, stride=stride), symmetries=1)


def good_results(noisy, truth, smoothed):
    """Yield (name, result, reach of the noise) of what should not be warned of."""
    if not smoothed:
        yield "instant", instant(noisy), (0, 0)
        filtered = [ndimage.gaussian_filter(noisy, sigma) for sigma in (0.5, 0.7, 1, 1.5, 2)]
        yield "best Gaussian", min(filtered, key=lambda image: _error(image, truth)), (0, 0)
    yield "truth", truth, (2, 2) if smoothed else (0, 0)


def bad_results(noisy, truth, psf, rng):
    """Yield (name, result, reach of the noise) of what must be warned of, from a good result."""
    light = truth - OFFSET
    noise = np.std(noisy - truth)
    yield "sharpened", truth + 1.0 * (truth - ndimage.gaussian_filter(truth, 1.5)), (0, 0)
    yield "smoothed, sigma 3", ndimage.gaussian_filter(noisy, 3), (0, 0)
    yield "scaled by 1.05", OFFSET + 1.05 * light, (0, 0)
    yield "mean shifted by 3 %", truth + 0.03 * light.mean(), (0, 0)
    rows, columns = rng.integers(10, SIDE - 10, (2, 8))
    blobs = np.zeros_like(truth)
    blobs[rows, columns] = 1
    blobs = ndimage.gaussian_filter(blobs, max(psf, 1.5))
    yield "8 spots invented", truth + 4 * noise * blobs / blobs.max(), (0, 0)
    brightest = light > np.quantile(light, 0.995)
    dimmed = ndimage.gaussian_filter(brightest.astype(np.float32), 1)
    yield "brightest dimmed by 30 %", truth - 0.3 * light * np.minimum(dimmed, 1), (0, 0)
    yield "median of 7 x 7", ndimage.median_filter(noisy, 7), (0, 0)


def _error(image, truth):
    return float(np.sqrt(np.mean((image - truth) ** 2)))


def good_or_bad(name, error, before, pixels):
    """Return "good", "bad", or None for a result in between.

    What was made from the truth is bad if it can be told from the noise: if its error, summed over
    the image, is 15 standard deviations of the noise. Other results are bad if their error is
    larger than the input's by a tenth, and good if it is smaller by a tenth, unless they were
    smoothed on purpose.
    """
    if name in FROM_TRUTH:
        return "bad" if error / before * np.sqrt(pixels) > TOLD else None
    if error > 1.1 * before:
        return "bad"
    return "good" if error < 0.9 * before and name not in SMOOTHED_RESULTS else None


def scenes(seeds, first):
    """Yield (what it is, noisy, truth, sigma of the PSF, whether the noise is smoothed, rng)."""
    for seed in range(first, first + seeds):
        for number, (kind, psf, photons) in enumerate(itertools.product(KINDS, PSFS, PHOTONS)):
            rng = np.random.default_rng([seed, number])
            noise = ("poisson", "gaussian", "smoothed")[(number + seed) % 3]
            haze = (0.0, 0.5)[(number // 3 + seed) % 2]
            noisy, truth = camera(scene(kind, psf, rng, haze), photons, noise, rng)
            about = f"{kind}, PSF {psf}, {photons} photons, {noise}, haze {haze}, seed {seed}"
            yield about, noisy, truth, psf, noise == "smoothed", rng


def results(noisy, truth, psf, smoothed, rng):
    """Yield (name, result, reach) of all that is judged of a scene."""
    yield from good_results(noisy, truth, smoothed)
    if smoothed:
        for stride in STRIDES:
            yield f"stride {stride}", instant(noisy, stride), (stride - 1, stride - 1)
    else:
        yield from bad_results(noisy, truth, psf, rng)


class Rates:
    """Counts verdicts by side and result, and keeps the first errors."""

    def __init__(self):
        """Begin with none."""
        self.counts, self.errors = {}, []
        self.seconds = self.pixels = 0.0

    def add(self, side, name, about, noisy, result, reach):
        """Judge a result."""
        began = time.process_time()
        verdict = judge_frames(noisy[None], result[None], reach=reach)
        self.seconds += time.process_time() - began
        self.pixels += noisy.size
        self.counts.setdefault((side, name), [0, 0, 0])[verdict.level] += 1
        if (side == "good") != (verdict.level == FINE):
            self.errors.append([side, name, about, verdict.text])

    def rates(self):
        """Return the table of rates."""
        columns = ["side", "result", "images", "no problems", "with care", "do not rely", "errors"]
        table = Table("Verdicts of the guard", columns)
        for (side, name), levels in sorted(self.counts.items()):
            wrong = sum(levels[1:]) if side == "good" else levels[0]
            share = f"{wrong / sum(levels):.1%}"
            table.add(side, name, sum(levels), *levels, share, show=False)
        return table


def real(data, rates):
    """Judge what the network makes of the real images that have a truth."""
    for name, noisy, truth, protocol in tasks(data):
        if not protocol.endswith("single"):
            continue
        image = noisy[0]
        result = instant(image)
        fitted = [_fitted(one, truth) for one in (image, result)]
        side = good_or_bad("instant", _error(fitted[1], truth), _error(fitted[0], truth), 1)
        if side:
            rates.add(side, f"instant, {protocol}", name, image, result, (0, 0))


def _fitted(image, truth):
    """The image with the least-squares scale and offset: W2S's truth was stretched."""
    slope, offset = np.polyfit(image.ravel(), truth.ravel(), 1)
    return slope * image + offset


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "guard_rates.json")
    arguments.add_data(parser, optional="without it, synthetic scenes only")
    parser.add_argument("--seeds", type=int, default=1, help="64 scenes each")
    parser.add_argument("--first", type=int, default=1, help="the limits were set on seed 0")
    return parser


def main(argv=None):
    """Judge all scenes, print and write the tables."""
    args = build_parser().parse_args(argv)
    rates = Rates()
    for about, noisy, truth, psf, smoothed, rng in scenes(args.seeds, args.first):
        before = _error(noisy, truth)
        for name, result, reach in results(noisy, truth, psf, smoothed, rng):
            side = good_or_bad(name, _error(result, truth), before, truth.size)
            if side:
                rates.add(side, name, about, noisy, np.asarray(result, np.float32), reach)
    if args.data:
        real(args.data, rates)
    table = rates.rates()
    errors = Table("What was judged wrongly", ["side", "result", "image", "verdict"], rates.errors)
    print(table.markdown(), errors.markdown(), sep="\n\n")
    note = (
        "Errors are good results with a warning and bad ones without. The guard takes "
        f"{rates.seconds / rates.pixels * 1e6:.2f} seconds of a core for a megapixel of such "
        "small frames."
    )
    print(f"\n{note}")
    title = "How often the guard errs"
    store.write(args.output, group="robustness", title=title, tables=[table, errors], note=note)


if __name__ == "__main__":
    main()
