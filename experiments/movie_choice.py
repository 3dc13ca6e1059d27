"""Measure how often the network for movies is rightly taken, and what it gains.

    python experiments/movie_choice.py -o movie_choice.json

Movies of `common.moving_scenes` with other seeds than those of the training, in which cells flash,
vesicles travel and textures flow, of 6 to 30 frames and 2 to 60 photons a pixel; the same with 0.1
to 2 photons, and with noise that neighbours along x share; and stacks whose frames have nothing in
common, which must be left alone.
"""

import numpy as np
import scipy.ndimage
from common import arguments, store
from common.moving_scenes import moving_scene
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.training import fit
from jaxdenoise.training.other_frames import choose

SIDE, LENGTHS = 96, (6, 12, 30)
PHOTONS, DARK = (2, 60), (0.1, 2)  # a pixel
KINDS = ("movie", "dark movie", "movie with shared noise", "different movies", "different, dark")
SHARED = np.array([0.3, 1, 0.3]) / np.sqrt(1.18)  # of the noise, along x
GAIN, READ_STD, OFFSET = 4, 3, 100
NOTE = """\
Gain: of the mean squared error by the network for movies over that for single frames, in dB, \
whichever is taken. Evidence: the estimated error, which decides."""


def signal_of(rng, kind):
    """Draw photons (T, H, W) of a movie, or of frames that are of different movies."""
    count = int(rng.choice(LENGTHS))
    level = np.exp(rng.uniform(*np.log(DARK if "dark" in kind else PHOTONS)))
    if "different" not in kind:
        return level * moving_scene(rng, count, SIDE)
    return level * np.stack([moving_scene(rng, 1, SIDE)[0] for _ in range(count)])


def measure(kind, seed):
    """Return the number of frames, whether the network for movies is taken, gain and evidence."""
    rng = np.random.default_rng((777, seed))
    photons = signal_of(rng, kind)
    truth = GAIN * photons + OFFSET
    noise = GAIN * (rng.poisson(photons) - photons) + rng.normal(0, READ_STD, photons.shape)
    if "shared" in kind:
        noise = scipy.ndimage.convolve1d(noise, SHARED, axis=2)
    noisy = (truth + noise).astype(np.float32)
    plan = fit.prepare_instant(noisy, config=jd.TrainConfig(symmetries=1))
    models = [fit.instant_of(plan, guided=guided) for guided in (False, True)]
    errors = [np.mean((jd.denoise(model, noisy).denoised - truth) ** 2) for model in models]
    choice = choose(*models, noisy)
    return len(noisy), choice.together, 10 * np.log10(errors[0] / errors[1]), choice.text


def build_parser():
    """Return the parser of the command line."""
    parser = arguments.parser_of(__doc__, "movie_choice.json")
    parser.add_argument(
        "--scenes", type=int, default=24, help="movies; half as many of each other kind"
    )
    return parser


def main(argv=None):
    """Print and write the table and its sums."""
    args = build_parser().parse_args(argv)
    every = Table(
        "Each stack", ["frames are of", "seed", "frames", "taken", "gain in dB", "evidence"]
    )
    sums = Table(
        "Sums", ["frames are of", "stacks", "taken", "taken, but worse", "mean gain in dB"]
    )
    for kind in KINDS:
        scenes = args.scenes if kind == KINDS[0] else args.scenes // 2
        found = []
        for seed in range(scenes):
            count, taken, gain, text = measure(kind, seed)
            found.append((taken, gain))
            every.add(kind, seed, count, taken, f"{gain:.2f}", text)
        taken, gains = np.array(found).T
        worse = int(np.sum((taken == 1) & (gains < 0)))
        sums.add(kind, scenes, int(taken.sum()), worse, f"{gains.mean():.2f}")
    title = "Whether the other frames of a movie help"
    store.write(args.output, group="movies", title=title, tables=[sums, every], note=NOTE)


if __name__ == "__main__":
    main()
