"""Measure what becomes of transients that last one frame, in still movies.

    python experiments/one_frame_spots.py -o one_frame_spots.json

Spots of the size of the PSF and ten standard deviations of the noise high are added to noisy movies
of a still scene, one at a time in each frame. The movies are denoised by `jd.instant` with and
without them. The difference of both results is what became of the spots
(`jaxdenoise.report.transients`).
"""

import numpy as np
from common import arguments, store
from common.tables import Table

import jaxdenoise as jd
from jaxdenoise.microscope.synthetic_movies import calcium_movie, noisy_movie
from jaxdenoise.report import transients

FRAMES, SIDE, SIGMA = 60, 128, 1.2  # of a movie; sigma of a spot in pixels
PSNRS = (10, 16, 22)  # of a frame, in dB
EVERY, MARGIN = 16, 16  # pixels between two places, and to the border
NOTE = f"""\
Shares of the spots' size, means over {(SIDE - 2 * MARGIN) // EVERY + 1} x \
{(SIDE - 2 * MARGIN) // EVERY + 1} places of each movie, and standard deviations. Asked for: at \
least {transients.RETURNED:.0%} in its own frame, at most {transients.LEAKED:.0%} in those beside \
it."""


def spots_in(frames):
    """Return spots on a grid, in frames that are at least three apart."""
    grid = range(MARGIN, SIDE - MARGIN + 1, EVERY)
    places = [(row, column) for row in grid for column in grid]
    times = [3 * (1 + number % (FRAMES // 3 - 2)) for number in range(len(places))]
    noise = np.std(np.diff(frames, axis=0), axis=0) / np.sqrt(2)  # of a still scene
    heights = [transients.SIZE * float(noise[place]) for place in places]
    at = tuple((n, *place) for n, place in zip(times, places, strict=True))
    return transients.Spots(at, tuple(heights), SIGMA)


def measure(psnr, seed):
    """Return a `transients.LeakTest`, and whether the network for movies was taken."""
    still = calcium_movie(seed, frames=2, size=SIDE).signal[:1]
    movie = noisy_movie(seed + 1, np.repeat(still, FRAMES, axis=0), psnr=psnr)
    frames = np.asarray(movie.frames, np.float32)
    spots = spots_in(frames)
    config = jd.TrainConfig(symmetries=1)
    results = []
    for some in (frames, transients.with_spots(frames, spots)):
        model = jd.instant(some, config=config, axes="T")
        results.append(dict(enumerate(jd.denoise(model, some).denoised)))
    return transients.measure(spots, *results), bool(model.config.network.guided)


def main(argv=None):
    """Print and write the table."""
    parser = arguments.parser_of(__doc__, "one_frame_spots.json")
    parser.add_argument("--scenes", type=int, default=2)
    args = parser.parse_args(argv)
    columns = ["noisy movie, dB", "seed", "movie's network", "comes back, %", "beside, %"]
    table = Table("Spots of one frame", columns)
    for psnr in PSNRS:
        for seed in range(500, 500 + args.scenes):
            found, guided = measure(psnr, seed)
            shares = [100 * np.array(part) for part in (found.returned, found.leaked)]
            table.add(psnr, seed, guided, *(f"{x.mean():.1f} +- {x.std():.1f}" for x in shares))
    title = "Transients of one frame"
    store.write(args.output, group="movies", title=title, tables=[table], note=NOTE)


if __name__ == "__main__":
    main()
