"""How long a denoising takes about, and how much memory, before it begins. Host side.

The operations of the network are counted, and the machine is asked how fast it does them: a tile of
the very network is timed.
`experiments/estimates.py` compares the estimates with what runs take.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from jaxdenoise.config import (
    PRETRAINED,
    PRETRAINED_MOVIES,
    PRETRAINED_VOLUMES,
    TrainConfig,
    UNetConfig,
)
from jaxdenoise.io.images import ImageFile
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import unet
from jaxdenoise.network.denoiser import Scale
from jaxdenoise.network.settings import NetworkShape, settle, shape_of
from jaxdenoise.prediction import tiling
from jaxdenoise.prediction.forward import deconvolve
from jaxdenoise.training.other_frames import looks
from jaxdenoise.workflows.denoising import model_config, model_names
from jaxdenoise.workflows.movies import axis_seen, for_axis, longest_run
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.settings import Training
from jaxdenoise.workflows.stacks import PIXELS
from jaxdenoise.workflows.training import wanted

_TIMED = 320  # pixels a side of the tile that is timed, at most
_BACKWARD = 3  # operations of a step of a training over those of its prediction
_STEPS = 1.1  # of the rate of a prediction, what the steps of a training reach: patches are small
_AUTO_PSF = 2.2  # trainings that a choice among PSFs costs
_START = 8.0  # seconds to import, to compile and to measure the images
_START_OF_TRAINING = 10.0  # more of them, to compile its steps
_START_OF_MOVIE = 15.0  # and to compile guides and both networks of a choice
_PIXEL = 0.8e-6  # seconds to read, measure, judge and write a pixel
_GUIDE = 3e4  # operations of a guide of a pixel, at the network's rate
_PROCESS = 0.7e9  # bytes of the process without images
_COPIES, _LAYERS = 8, 14  # float32 copies of what is trained on; of a tile, by filters
_OF_MOVIES = 1.0e9  # bytes that guides take at the most


class Seen(NamedTuple):
    """What is known of an image before the work.

    Attributes:
        shape: (N, H, W) of its frames.
        axis: along which other frames may be seen, as of `movies.axis_seen`.
        row: how many stand in a row along that axis.
    """

    shape: tuple[int, ...]
    axis: str | None = None
    row: int = 1


def seen_of(file: ImageFile) -> Seen:
    """Return what is known of an opened file."""
    axis = axis_seen(file)
    sizes = dict(zip(file.info.axes, file.info.shape, strict=True))
    row = 1 if axis is None else max(size for name, size in sizes.items() if name not in "CYX")
    return Seen(tuple(file.frames.shape), axis, row)


class Estimate(NamedTuple):
    """What a run takes about.

    Attributes:
        training: seconds.
        prediction: seconds, of all images.
        memory: bytes, at the most.
        start: seconds before both.
    """

    training: float
    prediction: float
    memory: float
    start: float = _START

    @property
    def seconds(self) -> float:
        """Return the seconds of all together."""
        return self.start + self.training + self.prediction

    def text(self) -> str:
        """Return one line."""
        parts = f"prediction {_words(self.prediction)}"
        if self.training:
            parts = f"training {_words(self.training)}, {parts}"
        return f"about {_words(self.seconds)} ({parts}) and {self.memory / 1e9:.1f} GB of memory"


def _words(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def estimate(request: DenoiseRequest, images: Sequence[Seen]) -> Estimate:
    """Return what a request takes about: a network is timed on this machine.

    Args:
        request: what is asked for.
        images: what is known of each.
    """
    pixels = sum(math.prod(one.shape) for one in images)
    trains = not (request.instant or request.model)
    axes = {one.axis for one in images}
    training = request.training
    if trains and len(axes) == 1 and None not in axes:
        training = for_axis(training, str(*axes))
    largest = max(max(one.shape[1:]) for one in images)
    seconds = sum(_prediction(request, training, one, largest) for one in images)
    config = _config(request, training, images[0])
    learning = _training(request, training, pixels, len(images)) if trains else 0.0
    together = config.network.guided or config.network.planes
    side = min(largest, 512) + 128
    memory = _PROCESS + 4 * side**2 * _LAYERS * config.network.filters
    memory += 4 * _COPIES * min(pixels, PIXELS if trains else 2**23)
    memory += min(_OF_MOVIES, 32 * pixels) if config.network.guided else 0.0
    start = _START + _START_OF_TRAINING * trains + _START_OF_MOVIE * together
    return Estimate(learning, seconds, memory, start)


def _config(request: DenoiseRequest, training: Training, seen: Seen) -> TrainConfig:
    """The settings with which an image is denoised."""
    if request.model:
        return model_config(request)[0]
    asked = training.config()
    if not request.instant:
        return asked
    shipped = PRETRAINED
    if training.neighbours is None and seen.axis is not None:
        shipped = PRETRAINED_VOLUMES if seen.axis == "Z" else PRETRAINED_MOVIES
    return replace(asked, network=shipped)


def _prediction(request, training, seen, largest):
    """Seconds to denoise an image; of the network for movies and volumes, and to choose it."""
    config = _config(request, training, seen)
    network, pixels = config.network, math.prod(seen.shape)
    tiles, side = _tiles(shape_of(network), request.tile_size, seen.shape[1:])
    _, timed = _tiles(shape_of(network), request.tile_size, (largest, largest))
    rate = network_rate(shape_of(network), config.precision, timed)
    models = len(model_names(request))
    work = seen.shape[0] * tiles * side**2 * config.symmetries * work_of(network) * models
    if network.guided:
        work += _GUIDE * pixels
    if (network.guided or network.planes) and not request.model:
        work += _choice_work(network, seen)
    return work / rate + _PIXEL * pixels


@cache
def _tiles(network, tile_size, sides):
    """How many tiles a frame has, and their sides with the overlap."""
    layout = tiling.make_tiling((1, *sides), tile_size, network, gaussian_psf(1.0))
    return len(layout.corners()), layout.core + 2 * layout.margin


def _choice_work(network, seen):
    """Operations to choose between the networks for single frames and for several."""
    count, side = longest_run(seen.row, seen.shape[1:])
    frames, rounds = looks(count, math.prod(side))
    both = work_of(network) + work_of(PRETRAINED)
    guides = _GUIDE * count * rounds if network.guided else 0
    return math.prod(side) * (frames * rounds * both + guides)


def _training(request, training, pixels, count):
    times = count if request.train_on == "each" else 1
    chosen = _AUTO_PSF if training.psf_name == "auto" else 1.0
    seconds = 0.0
    for number, settings in enumerate(wanted(training).values()):
        config = settings.config()
        network = shape_of(config.network)
        steps = config.epochs * config.steps_per_epoch * config.batch_size
        checks = config.epochs * config.validation_patches / _BACKWARD
        work = (steps + checks) * config.patch_size**2 * _BACKWARD * work_of(config.network)
        rate = _STEPS * network_rate(network, config.precision, _TIMED)
        seconds += work / rate * (chosen if number == 0 else 1)
        if config.network.guided and number == 0:
            seconds += _GUIDE * min(pixels, PIXELS) / rate
    return times * seconds


def work_of(network: UNetConfig) -> float:
    """Return the operations of a network for each pixel of an image.

    Args:
        network: its shape.
    """
    return _work(shape_of(network))


@cache
def _work(shape):
    params = jax.eval_shape(lambda: unet.init(jax.random.key(0), shape))
    products = 0.0
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if "kernel" in name:
            products += math.prod(leaf.shape) / 4 ** _level(name, shape.depth)
    return 2 * products / shape.space_to_depth**2


def _level(name, depth):
    """How often the image was halved where a kernel is applied."""
    block, *_ = name.split("/")
    if block.startswith("down_convs_"):
        return int(block.rsplit("_", 1)[1])
    if block.startswith("up_convs_"):
        return depth - 2 - int(block.rsplit("_", 1)[1]) + ("upconv" in name)
    return 0


@cache
def network_rate(network: NetworkShape, precision: str, side: int) -> float:
    """Return how many operations a second a network does on this machine.

    Args:
        network: its shape.
        precision: as of `TrainConfig`.
        side: of a tile in pixels.
    """
    side = min(side, _TIMED) // network.multiple * network.multiple
    settings = settle(TrainConfig(precision=precision), network=network)
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), network))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    scale = Scale(*map(np.float32, (0, 1, 1, 0, 1)))
    tile = np.zeros((1 + network.beside, side, side), np.float32)

    def run():
        began = time.perf_counter()
        deconvolve(params, tile, scale, 0, config=settings).block_until_ready()
        return time.perf_counter() - began

    run()  # compiles
    return side**2 * _work(network) / min(run(), run())
