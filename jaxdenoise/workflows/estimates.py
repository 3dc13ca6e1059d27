"""How long a denoising takes about, and how much memory, before it begins. Host side.

The operations of the network are counted, and the machine is asked how fast it multiplies.
`experiments/estimates.py` compares the estimates with what runs take.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdenoise.config import PRETRAINED, TrainConfig, UNetConfig
from jaxdenoise.microscope.psf import gaussian_psf
from jaxdenoise.network import convolution, unet
from jaxdenoise.network.settings import shape_of
from jaxdenoise.prediction import tiling
from jaxdenoise.system import meshes
from jaxdenoise.workflows.denoising import model_config, model_names
from jaxdenoise.workflows.requests import DenoiseRequest
from jaxdenoise.workflows.stacks import PIXELS
from jaxdenoise.workflows.training import wanted

# Of the rate of a plain product: what a prediction and a training reach on two CPU cores.
_PREDICTION, _TRAINING = 0.8, 0.25
_BACKWARD = 3  # operations of a step of a training over those of its prediction
_AUTO_PSF = 2.2  # trainings that a choice among PSFs costs
_START = 10.0  # seconds to compile and to measure the images
_PROCESS = 0.7e9  # bytes of the process without images
_COPIES, _LAYERS = 8, 14  # float32 copies of what is trained on; of a tile, by filters


class Estimate(NamedTuple):
    """What a run takes about.

    Attributes:
        training: seconds.
        prediction: seconds, of all images.
        memory: bytes, at the most.
    """

    training: float
    prediction: float
    memory: float

    def text(self) -> str:
        """Return one line."""
        seconds = _START + self.training + self.prediction
        parts = f"prediction {_words(self.prediction)}"
        if self.training:
            parts = f"training {_words(self.training)}, {parts}"
        return f"about {_words(seconds)} ({parts}) and {self.memory / 1e9:.1f} GB of memory"


def _words(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def estimate(request: DenoiseRequest, shapes: Sequence[tuple[int, ...]]) -> Estimate:
    """Return what a request takes about.

    Args:
        request: what is asked for.
        shapes: (N, H, W) of each image.
    """
    config = _config(request)
    network = config.network
    models = len(model_names(request))
    pixels = sum(math.prod(shape) for shape in shapes)
    training = 0.0 if request.instant or request.model else _training(request, pixels, len(shapes))
    seen = sum(map(_seen_pixels(network, request.tile_size), shapes))
    rate = product_rate(config.precision)
    work = seen * config.symmetries * work_of(network) * models
    side = min(max(max(shape[1:], default=0) for shape in shapes), 512) + 128
    memory = _PROCESS + 4 * side**2 * _LAYERS * network.filters
    memory += 4 * _COPIES * min(pixels, PIXELS if training else 2**23)
    return Estimate(training, work / (_PREDICTION * rate), memory)


def _config(request: DenoiseRequest) -> TrainConfig:
    asked = request.training.config()
    if request.instant:
        return replace(asked, network=PRETRAINED)
    if request.model:
        return model_config(request)[0]
    return asked


def _training(request, pixels, count):
    times = count if request.train_on == "each" else 1
    chosen = _AUTO_PSF if request.training.psf_name == "auto" else 1.0
    seconds = 0.0
    for number, settings in enumerate(wanted(request.training).values()):
        config = settings.config()
        steps = config.epochs * config.steps_per_epoch * config.batch_size
        checks = config.epochs * config.validation_patches / _BACKWARD
        work = (steps + checks) * config.patch_size**2 * _BACKWARD * work_of(config.network)
        rate = _TRAINING * product_rate(config.precision)
        seconds += work / rate * (chosen if number == 0 else 1)
    return times * seconds


def _seen_pixels(network: UNetConfig, tile_size: int | None) -> Any:
    """A function of a shape: the pixels of all tiles, their overlap included."""
    shape, psf = shape_of(network), gaussian_psf(1.0)

    def seen(frames: tuple[int, ...]) -> int:
        layout = tiling.make_tiling(frames, tile_size, shape, psf)
        one = tiling.make_tiling((1, *frames[1:]), tile_size, shape, psf)
        return frames[0] * len(one.corners()) * (layout.core + 2 * layout.margin) ** 2

    return seen


@cache
def work_of(network: UNetConfig) -> float:
    """Return the operations of a network for each pixel of an image.

    Args:
        network: its shape.
    """
    shape = shape_of(network)
    params = jax.eval_shape(lambda: unet.init(jax.random.key(0), shape))
    products = 0.0
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if "kernel" in name:
            products += math.prod(leaf.shape) / 4 ** _level(name, network.depth)
    return 2 * products


def _level(name, depth):
    """How often the image was halved where a kernel is applied."""
    block, *_ = name.split("/")
    if block.startswith("down_convs_"):
        return int(block.rsplit("_", 1)[1])
    if block.startswith("up_convs_"):
        return depth - 2 - int(block.rsplit("_", 1)[1]) + ("upconv" in name)
    return 0


@cache
def product_rate(precision: str) -> float:
    """Return how many operations a second this machine does in a product of two matrices.

    Args:
        precision: as of `TrainConfig`.
    """
    kind = convolution.resolve(precision, meshes.platform_of(None))
    dtype = jnp.bfloat16 if kind == "bfloat16" else jnp.float32
    left, right = jnp.ones((4096, 576), dtype), jnp.ones((576, 64), dtype)
    product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))
    product(left, right).block_until_ready()
    took = [_timed(product, left, right) for _ in range(20)]
    return 2 * 4096 * 576 * 64 / min(took)


def _timed(function, *arrays):
    began = time.perf_counter()
    function(*arrays).block_until_ready()
    return time.perf_counter() - began


def shapes_of(files: Iterable[Any]) -> list[tuple[int, ...]]:
    """Return (N, H, W) of opened files."""
    return [file.frames.shape for file in files]
