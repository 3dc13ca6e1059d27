"""The movies and volumes of `movies`: what is measured on them, and their scores."""

from typing import NamedTuple

import numpy as np

from common import movie_scores
from jaxdenoise.microscope.synthetic_movies import (
    OFFSET,
    CalciumMovie,
    calcium_movie,
    noisy_movie,
)
from jaxdenoise.microscope.synthetic_volumes import volume_scene

MOVIES = {  # PSNR of a frame in dB, motion in pixels, row noise
    "p10": (10, 0.0, False),
    "p16": (16, 0.0, False),
    "p22": (22, 0.0, False),
    "move16": (16, 1.5, False),
    "row16": (16, 0.0, True),
}
VOLUMES = {"vol15": (15, None), "vol22": (22, None), "voldepth22": (22, 8.0)}  # dB, planes to 1/e
DEPTH = 32  # planes


class Case(NamedTuple):
    """Something to denoise, with its truth.

    Attributes:
        truth: (N, H, W) in grey levels above the offset.
        frames: (N, H, W) uint16, as recorded.
        gain: grey levels a photon.
        movie: what is known of the cells; None for a volume.
    """

    truth: np.ndarray
    frames: np.ndarray
    gain: float
    movie: CalciumMovie | None


def case_of(name, seed, *, frames=300, size=128):
    """Draw a case.

    Args:
        name: of `MOVIES` or `VOLUMES`.
        seed: of the scene and of its noise.
        frames: of a movie.
        size: pixels a side.
    """
    if name in MOVIES:
        decibels, motion, rows = MOVIES[name]
        movie = calcium_movie(seed, frames=frames, size=size, motion=motion)
        noisy = noisy_movie(seed + 1, movie.signal, psnr=decibels, row_noise=rows)
        return Case(movie.signal, noisy.frames, noisy.gain, movie)
    decibels, depth = VOLUMES[name]
    truth = volume_scene(seed, shape=(DEPTH, size, size), depth=depth)
    noisy = noisy_movie(seed + 1, truth, psnr=decibels)
    return Case(truth, noisy.frames, noisy.gain, None)


def scores_of(case, images):
    """Return {name: figure} of a result with the offset; a volume has no figures of time."""
    images = np.asarray(images, np.float32) - np.float32(OFFSET)
    if case.movie is not None:
        return movie_scores.scores(case.movie, images)
    return {
        "psnr": movie_scores.psnr(case.truth, images),
        "si_psnr": movie_scores.si_psnr(case.truth, images),
    }
