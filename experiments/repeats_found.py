"""Measure how often frames of one scene are recognised, and how often others are taken for one.

    python experiments/repeats_found.py --data DATA -o repeats_found.json

Still scenes must be found, whatever their contrast and their noise; nothing may be found in what
moves, changes or differs. Scenes, noise and changes are drawn anew for each trial. Contrast is the
standard deviation of the scene in standard deviations of a pixel's noise. With `--data` the
captures of FMD too. With `--harm` it measures what it costs that change far weaker than the noise
is not noticed: short calcium movies, trained on as frames of one scene and by blind spots.
"""

import jax
import numpy as np
from common import arguments, store
from common.data import tasks
from common.movie_scores import psnr
from common.tables import Table
from scipy import ndimage

import jaxdenoise as jd
from jaxdenoise.config import TrainConfig
from jaxdenoise.microscope.synthetic_movies import OFFSET, calcium_movie, noisy_movie
from jaxdenoise.targets.repeats import search_repeats

NOISES = ("white", "sigma 0.72", "sigma 1", "photons", "rows")
SIZES, COUNTS = (64, 128, 256, 512), (2, 4, 10, 50)
MOST_PIXELS = 50 * 256**2  # of a trial
CONTRASTS = (4.0, 1.0, 0.5, 0.25)
SCENES = ("cells", "filaments", "spots", "texture")
NOTE = """\
Found: trials in which frames are each other's targets. Of still scenes all should be, of all \
others none. Changes are in standard deviations of a pixel's noise; `changing` is the share of \
pixels that change at some time."""


def draw(rng, kind, shape, psf):
    """Return a scene of standard deviation 1 and minimum 0, blurred by a PSF of sigma `psf`."""
    size = np.array(shape)
    image = np.zeros(shape)
    if kind == "texture":
        image = np.abs(rng.normal(size=shape))
    elif kind == "spots":
        places = (rng.uniform(0, 1, (image.size // 150, 2)) * size).astype(int)
        image[tuple(places.T)] = rng.exponential(1, len(places))
    elif kind == "filaments":
        for _ in range(max(4, image.size // 1500)):
            place, angle = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * np.pi)
            for _ in range(80):
                angle += 0.1 * rng.normal()
                place = place + np.array([np.sin(angle), np.cos(angle)])
                image[tuple(place.astype(int) % size)] = 1
    else:
        y, x = np.mgrid[: shape[0], : shape[1]]
        for _ in range(max(3, image.size // 1500)):
            (cy, cx), radius = rng.uniform(0, 1, 2) * size, rng.uniform(3, 9)
            image += rng.uniform(0.2, 0.8) * (np.hypot(y - cy, x - cx) < radius)
    image = ndimage.gaussian_filter(image, psf)
    image -= image.min()
    return image / image.std()


def take(rng, signals, noise):
    """Return noisy frames (N, H, W) float32 of signals in standard deviations of the noise."""
    frames = []
    for signal in signals:
        if noise == "photons":  # the mean variance is 1
            base = signal + 0.1
            gain = 1 / base.mean()
            frames.append(gain * rng.poisson(base / gain))
            continue
        error = rng.normal(size=signal.shape)
        if noise.startswith("sigma"):
            sigma = float(noise.split()[1])
            error = ndimage.gaussian_filter(error, sigma)
            error /= error.std()
        elif noise == "rows":
            error = ndimage.convolve1d(error, np.array([0.3, 1, 0.3]) / np.sqrt(1.18), axis=1)
            error += 0.2 * rng.normal(size=(signal.shape[0], 1))
        frames.append(signal + error)
    return np.asarray(frames, np.float32)


def find(frames):
    """Return whether repeats are found, and the line that says so."""
    found = search_repeats(np.asarray(frames, np.float32))
    return found.repeats is not None, found.text


def still(rng, contrast, noise, size, count):
    """Draw a still scene that bleaches by up to 20 %."""
    scene = contrast * draw(rng, rng.choice(SCENES), (size, size), rng.uniform(0.8, 3))
    bleaching = np.linspace(1, rng.uniform(0.8, 1), count)
    return take(rng, bleaching[:, None, None] * scene, noise)


def changes(rng, shape, count, share, radius, course):
    """Return what changes in a movie, at most 1, (N, H, W); at some time `share` of the pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    area, result, changed = np.zeros(shape, bool), np.zeros((count, *shape)), 0
    while changed < share * area.size:
        cy, cx = rng.uniform(0, 1, 2) * shape
        disc = np.hypot(y - cy, x - cx) < radius
        trace = np.zeros(count)
        if course == "transients":  # one or two that last for a third of a second at 30 a second
            for start in rng.integers(-3, max(count - 2, 1), rng.integers(1, 3)):
                after = np.arange(count) - start
                trace = np.maximum(trace, np.where(after >= 0, np.exp(-after / 10), 0))
        else:  # each frame for itself
            trace = (rng.uniform(size=count) < max(0.1, 1.5 / count)).astype(float)
        if np.ptp(trace) < 0.3:
            continue
        result += trace[:, None, None] * disc
        area |= disc
        changed = area.sum()
    return np.minimum(result, 1)


def movie(rng, share, amplitude, radius, course, count, noise, size=128):
    """Draw a still scene in which some pixels change by some standard deviations of the noise."""
    scene = rng.choice([0.5, 1, 4]) * draw(rng, rng.choice(SCENES), (size, size), 1.2)
    moving = amplitude * changes(rng, (size, size), count, share, radius, course)
    return take(rng, scene + moving, noise)


def shifted(rng, step, count, contrast, size=128):
    """Draw a scene that moves by `step` pixels from frame to frame."""
    scene = contrast * draw(rng, rng.choice(SCENES), (size + 60, size + 60), rng.uniform(1, 2))
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    signals = [
        ndimage.shift(scene, step * n * direction, order=3, mode="wrap")[30:-30, 30:-30]
        for n in range(count)
    ]
    return take(rng, signals, rng.choice(NOISES))


def different(rng, contrast, size=128, count=4):
    """Draw scenes of like statistics."""
    kind, psf = rng.choice(SCENES), rng.uniform(1, 3)
    signals = [contrast * draw(rng, kind, (size, size), psf) for _ in range(count)]
    return take(rng, signals, rng.choice(NOISES))


def planes(rng, contrast, size=128, count=8):
    """Draw neighbouring planes of a volume, whose PSF has sigmas (2.5, 1.2, 1.2)."""
    volume = (rng.uniform(size=(count + 20, size, size)) > 0.997).astype(float)
    volume = ndimage.gaussian_filter(volume, (2.5, 1.2, 1.2))[10:-10]
    volume -= volume.min()
    return take(rng, contrast * volume / volume.std(), rng.choice(NOISES))


def channels(rng, contrast, shared, size=128):
    """Draw two channels that share a part of their structure."""
    kind, psf = rng.choice(SCENES), rng.uniform(1, 2)
    common, *own = (draw(rng, kind, (size, size), psf) for _ in range(3))
    signals = [np.sqrt(shared) * common + np.sqrt(1 - shared) * x for x in own]
    return take(rng, contrast * np.array(signals), rng.choice(NOISES))


def negatives():
    """Yield (name, function that draws frames in which nothing may be found)."""
    for course in ("transients", "flicker"):
        for count in (10, 30, 100):
            for share in (0.005, 0.02):
                for radius in (1.8, 5.0):
                    for size in (1, 2, 4):
                        for noise in NOISES:
                            yield (
                                f"movie/{course}, {count} frames, changing {100 * share:g} %, "
                                f"radius {radius:g}, by {size}, {noise}",
                                lambda rng, a=(share, size, radius, course, count, noise): movie(
                                    rng, *a
                                ),
                            )
    for contrast in (4.0, 1.0, 0.5):
        for step, count in ((0.5, 2), (0.5, 4), (1, 4), (0.3, 4), (0.3, 10), (0.05, 50), (2, 10)):
            yield (
                f"moving/{step:g} pixels a frame, {count} frames, contrast {contrast:g}",
                lambda rng, s=step, n=count, c=contrast: shifted(rng, s, n, c),
            )
        yield f"different/contrast {contrast:g}", lambda rng, c=contrast: different(rng, c)
        yield f"planes/contrast {contrast:g}", lambda rng, c=contrast: planes(rng, c)
        for shared in (0.3, 0.7, 0.9):
            yield (
                f"channels/{100 * shared:g} % shared, contrast {contrast:g}",
                lambda rng, s=shared, c=contrast: channels(rng, c, s),
            )


def positives():
    """Yield (name, function that draws frames of one still scene)."""
    for contrast in CONTRASTS:
        for noise in NOISES:
            for size in SIZES:
                for count in COUNTS:
                    if count * size**2 <= MOST_PIXELS:
                        yield (
                            f"still/contrast {contrast:g}, {noise}, {size} pixels, {count} frames",
                            lambda rng, c=contrast, n=noise, s=size, k=count: still(
                                rng, c, n, s, k
                            ),
                        )


def measure(cases, trials, first, only, verbose):
    """Yield (name, number of trials, in how many repeats are found)."""
    for number, (name, make) in enumerate(cases):
        if not arguments.is_chosen(name, only):
            continue
        texts = []
        for trial in range(first, first + trials):
            texts.append(find(make(np.random.default_rng((number, trial)))))
            if verbose:
                print(name, *texts[-1], sep=" | ", flush=True)
        yield name, trials, sum(found for found, _ in texts)


def summary(rows):
    """Return rows that sum those whose names agree in one part, for each part that varies."""
    sums = {}
    for name, trials, found in rows:
        kind, rest = name.split("/")
        for part in ("all", *rest.split(", ")):
            before = sums.get((kind, part), (0, 0))
            sums[kind, part] = before[0] + trials, before[1] + found
    return [(kind, part, *counts) for (kind, part), counts in sums.items()]


def captures(data):
    """Return the table of the captures of FMD."""
    table = Table("Captures of one scene (FMD)", ["captures", "others found for each", "evidence"])
    for name, noisy, _, protocol in tasks(data):
        if protocol == "fmd-stack":
            found = search_repeats(noisy)
            counts = None if found.repeats is None else str(found.repeats.counts.tolist())
            table.add(name, counts, found.text, show=False)
    return table


def harm(seeds):
    """Return the table of what is kept of change that is not noticed."""
    columns = ["seed", "strongest change", "taken for one scene"]
    columns += ["PSNR as one scene", "by blind spots", "change kept as one scene", "by blind spots"]
    table = Table("Calcium movies of 20 frames at 10 dB", columns)
    for seed in range(seeds):
        signal = calcium_movie(seed, frames=20).signal
        noisy, gain = noisy_movie(seed, signal, psnr=10)
        change = signal - signal.mean(axis=0)
        strongest = np.abs(change / np.sqrt(gain * signal.mean(axis=0))).max()
        rows = [kept(noisy, signal, change, targets) for targets in ("auto", "own")]
        found, quality, slopes = zip(*rows, strict=True)
        table.add(seed, f"{strongest:.2f}", found[0], *quality, *slopes)
    return table


def kept(noisy, signal, change, targets):
    """Return whether repeats are targets, PSNR, and how much of the strongest change stays."""
    config = TrainConfig.best(targets=targets)
    model = jd.fit(jax.random.key(0), noisy, psf=jd.gaussian_psf(1.0), config=config)
    result = np.asarray(jd.denoise(model, noisy).denoised) - OFFSET
    where = np.abs(change) > np.quantile(np.abs(change), 0.995)
    found = result - result.mean(axis=0)
    slope = np.sum((found * change)[where]) / np.sum(change[where] ** 2)
    return model.config.targets == "repeats", f"{psnr(signal, result):.2f}", f"{slope:.2f}"


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "repeats_found.json")
    arguments.add_data(parser, optional="without it, synthetic frames only")
    arguments.add_only(parser)
    parser.add_argument("--trials", type=int, default=5, help="of each case")
    parser.add_argument("--first-trial", type=int, default=0, help="others draw other scenes")
    parser.add_argument("--verbose", action="store_true", help="print each trial's evidence")
    parser.add_argument("--harm", type=int, default=0, metavar="MOVIES", help="movies to train on")
    return parser


def main(argv=None):
    """Print and write the rates."""
    args = build_parser().parse_args(argv)
    rows = []
    for cases in (positives(), negatives()):
        rows += measure(cases, args.trials, args.first_trial, args.only, args.verbose)
    every = Table("Each case", ["case", "trials", "found"], [list(row) for row in rows])
    rates = Table("Sums over cases", ["frames", "of these", "trials", "found"])
    for row in summary(rows):
        rates.add(*row, show=False)
    tables = [rates, every]
    if args.data:
        tables.insert(0, captures(args.data))
    if args.harm:
        tables.insert(0, harm(args.harm))
    for table in tables:
        print(f"\n{table.markdown()}")
    store.write(
        args.output, group="pieces", title="Whether repeats are found", tables=tables, note=NOTE
    )


if __name__ == "__main__":
    main()
