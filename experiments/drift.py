"""Measure how well drift between frames is measured, and how often it is found where none is.

    python experiments/drift.py -o drift.json

Movies of known drift: scenes, PSF (sigma 0.5 to 3 pixels), noise, contrast (standard deviation of
the scene in standard deviations of a pixel's noise) and movement are drawn anew for each trial.
Beside it: scikit-image's registration of each frame to the first one or to the frames' mean, and
the Cramer-Rao bound of one frame against a scene that is known without noise. Then movies that
stand still as a whole, in which nothing may be found.
"""

import time

import numpy as np
from common import arguments, store
from common.tables import Table
from repeats_found import NOISES, SCENES, changes, draw, take
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from jaxdenoise.imaging.drift import measure_drift

SIZE, FRAMES, OVERSAMPLED = 128, 40, 2
MOVEMENTS = ("jitter", "walk", "ramp", "jumps", "slow")
CONTRASTS = (2.0, 1.0, 0.5, 0.25)
EXTRAS = ("plain", "transients", "bleaching", "hot pixels", "gap", "fixed pattern")
NOTE = """\
Medians over trials. Errors are root mean squares over frames and both axes in pixels, after the \
mean of each movie's errors. The bound is that of a frame of white noise of standard deviation 1 \
against the scene itself, all of it; the frames' window costs 15 % of that, the template's noise \
and coloured noise more. `said` is the standard error that is given. In still movies, found is \
wrong."""


def track(rng, movement, count):
    """Return shifts (N, 2) in pixels."""
    t = np.arange(count)[:, None]
    if movement == "jitter":
        return rng.normal(0, 0.5, (count, 2))
    if movement == "walk":
        return np.cumsum(rng.normal(0, 0.4, (count, 2)), axis=0)
    if movement == "jumps":
        return 4 * rng.uniform(-1, 1, (3, 2))[np.minimum(3 * t[:, 0] // count, 2)]
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])
    if movement == "ramp":
        return 20 * t / count * direction + rng.normal(0, 0.2, (count, 2))
    return 1.0 * t / count * direction


def signals(rng, shifts, contrast, size=SIZE):
    """Return a scene's frames (N, H, W) of standard deviation `contrast`, each at its shift."""
    margin = int(np.abs(shifts).max()) + 6
    side = OVERSAMPLED * (size + 2 * margin)
    psf = rng.uniform(0.5, 3)
    scene = draw(rng, rng.choice(SCENES), (side, side), OVERSAMPLED * psf)
    inner = np.s_[margin : margin + size, margin : margin + size]
    frames = []
    for shift in shifts:
        moved = ndimage.shift(scene, OVERSAMPLED * np.asarray(shift), order=3, mode="nearest")
        cells = moved.reshape(side // OVERSAMPLED, OVERSAMPLED, side // OVERSAMPLED, OVERSAMPLED)
        frames.append(cells.mean(axis=(1, 3))[inner])
    frames = np.array(frames)
    return contrast * (frames - frames.min()) / frames[0].std()


def disturbed(rng, clean, extra, noise):
    """Return noisy frames with something that a registration must not fall for."""
    if extra == "transients":
        clean = clean + 3 * clean.std() * changes(rng, clean.shape[1:], len(clean), 0.1, 5.0, extra)
    if extra == "bleaching":
        clean = clean * np.linspace(1, 0.5, len(clean))[:, None, None]
    frames = take(rng, clean, noise)
    if extra == "hot pixels":
        frames[:, rng.uniform(size=clean.shape[1:]) < 1e-3] += 100
    if extra == "gap":
        frames[:, :20, 30:] = np.nan
    if extra == "fixed pattern":
        frames += 0.2 * rng.normal(size=clean.shape[1:]) + 0.3 * rng.normal(size=clean.shape[2])
    return np.float32(frames)


def bound(clean):
    """Return the Cramer-Rao bound of a frame's shift in pixels, root mean square of both axes."""
    y, x = np.gradient(np.float64(clean[0]))
    information = np.array([[np.sum(y * y), np.sum(y * x)], [np.sum(y * x), np.sum(x * x)]])
    return float(np.sqrt(np.trace(np.linalg.inv(information)) / 2))


def error(found, truth):
    """Return the root mean square error without that of the mean."""
    difference = np.asarray(found, float) - truth
    return float(np.sqrt(np.mean((difference - difference.mean(axis=0)) ** 2)))


def rivals(frames, truth):
    """Return the errors of scikit-image's registration: to the first frame, to the mean."""
    frames = np.where(np.isfinite(frames), frames, np.nanmean(frames))
    errors = []
    for reference in (frames[0], frames.mean(axis=0)):
        for normalization in (None, "phase"):
            found = [
                phase_cross_correlation(
                    reference, one, upsample_factor=20, normalization=normalization
                )[0]
                for one in frames
            ]
            errors.append(error(-np.array(found), truth))
    return min(errors)


def moving(rng, movement, contrast, extra, count=FRAMES):
    """Draw a movie that drifts: noisy frames, shifts, and the bound."""
    shifts = track(rng, movement, count)
    clean = signals(rng, shifts, contrast)
    noise = rng.choice(NOISES) if extra == "plain" else "white"
    return disturbed(rng, clean, extra, noise), shifts, bound(clean)


def still(rng, kind, contrast, count=FRAMES):
    """Draw a movie that does not drift."""
    zero = np.zeros((count, 2))
    if kind == "noise":
        return take(rng, np.ones((count, SIZE, SIZE)), rng.choice(NOISES))
    if kind == "different scenes":
        clean = np.concatenate([signals(rng, zero[:1], contrast) for _ in range(count)])
    elif kind == "focus":
        scene = signals(rng, zero[:1], 2 * contrast)[0]
        clean = [ndimage.gaussian_filter(scene, 2 * n / count) for n in range(count)]
    elif kind == "growing":
        scene = signals(rng, zero[:1], contrast)[0]
        middle = (SIZE - 1) / 2
        clean = []
        for zoom in np.linspace(1, 0.95, count):
            offset = middle * (1 - zoom)
            clean.append(ndimage.affine_transform(scene, [zoom] * 2, offset, mode="nearest"))
    elif kind == "objects":  # one third as bright as what stands still, each on its way
        clean = signals(rng, zero, contrast)
        for _ in range(8):
            path = track(rng, "ramp", count)
            clean = clean + signals(rng, path, contrast) * (rng.uniform(size=1) / 8)
    else:
        clean = signals(rng, zero, contrast)
        return disturbed(rng, clean, kind, rng.choice(NOISES))
    return take(rng, np.maximum(clean, 0), rng.choice(NOISES))


def drifts():
    """Yield (name, function that draws a movie that drifts)."""
    for contrast in CONTRASTS:
        for movement in MOVEMENTS:
            yield (
                f"{movement}, contrast {contrast:g}",
                lambda rng, m=movement, c=contrast: moving(rng, m, c, "plain"),
            )
    for extra in EXTRAS[1:]:
        yield f"walk, contrast 1, {extra}", lambda rng, e=extra: moving(rng, "walk", 1.0, e)
    for count in (2, 3, 5, 10):
        yield (
            f"jitter, contrast 1, {count} frames",
            lambda rng, n=count: moving(rng, "jitter", 1.0, "plain", n),
        )


def stills():
    """Yield (name, function that draws a movie that does not drift)."""
    for kind in (*EXTRAS, "objects", "growing", "focus", "different scenes"):
        for contrast in (4.0, 1.0, 0.25):
            yield (
                f"{kind}, contrast {contrast:g}",
                lambda rng, k=kind, c=contrast: still(rng, k, c),
            )
    yield "noise", lambda rng: still(rng, "noise", 0.0)
    for count in (2, 3, 5, 10):
        yield f"plain, contrast 1, {count} frames", lambda rng, n=count: still(rng, "plain", 1.0, n)


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "drift.json")
    arguments.add_only(parser)
    parser.add_argument("--trials", type=int, default=4, help="of each case")
    parser.add_argument("--verbose", action="store_true", help="print each trial's evidence")
    return parser


def main(argv=None):
    """Print and write accuracy and rates."""
    args = build_parser().parse_args(argv)
    columns = ["movie", "trials", "found", "error", "bound", "said", "scikit-image", "seconds"]
    accuracy = Table("Movies that drift", columns).start()
    for number, (name, make) in enumerate(drifts()):
        if not arguments.is_chosen(f"drifts/{name}", args.only):
            continue
        rows = []
        for trial in range(args.trials):
            frames, shifts, least = make(np.random.default_rng((number, trial)))
            start = time.perf_counter()
            drift = measure_drift(frames)
            seconds = time.perf_counter() - start
            if args.verbose:
                print(name, trial, drift.text, error(drift.shifts, shifts), least, flush=True)
            own = (error(drift.shifts, shifts), least, float(np.median(drift.errors)))
            row = own if drift.found else (np.nan, least, np.nan)
            rows.append((drift.found, *row, rivals(frames, shifts), seconds))
        found, *medians = np.sum([r[0] for r in rows]), *np.nanmedian([r[1:] for r in rows], axis=0)
        accuracy.add(name, args.trials, int(found), *[f"{value:.3g}" for value in medians])
    rates = Table("Movies that do not", ["movie", "trials", "found"]).start()
    for number, (name, make) in enumerate(stills()):
        if arguments.is_chosen(f"stills/{name}", args.only):
            texts = []
            for trial in range(args.trials):
                drift = measure_drift(make(np.random.default_rng((1000 + number, trial))))
                texts.append(drift.found)
                if args.verbose:
                    print(name, trial, drift.text, flush=True)
            rates.add(name, args.trials, sum(texts))
    tables = [accuracy, rates]
    store.write(args.output, group="pieces", title="Drift between frames", tables=tables, note=NOTE)


if __name__ == "__main__":
    main()
