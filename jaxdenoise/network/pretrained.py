"""The network that the package ships, trained on synthetic microscopy by `experiments/pretrain.py`.

It was trained on images in units of their noise; `parameters` fits it to images by scaling its
first and its last layer, which is how it is told the noise level.
"""

import dataclasses
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdenoise.config import PRETRAINED, TrainConfig
from jaxdenoise.microscope.correlation import noise_autocorrelation
from jaxdenoise.microscope.noise_estimation import noise_level
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.network import unet
from jaxdenoise.network.denoiser import network_output
from jaxdenoise.network.settings import settle

PSF_SIGMA = 0.75  # pixels: its output convolved with this Gaussian is the denoised image
SCALE = 4.0  # standard deviations of the noise that are 1 for the network
_LEAST = 1e-3  # standard deviations of the images: noise that the network is told at least
_FILE = Path(__file__).with_name("pretrained.npz")


def write(path, params):
    """Write parameters as float16, which rounds them to 11 bits, one array a file member."""
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    with Path(path).open("wb") as stream:
        np.savez(stream, **{name: np.asarray(leaf, np.float16) for name, leaf in flat.items()})


def parameters(scale, noise_std, output_scale, neighbours=0):
    """The shipped parameters, for images of some scale and noise: a pytree of float32 arrays as of `unet.init`.

    Args:
        scale: `denoiser.Scale` of the images.
        noise_std: the noise's standard deviation in grey levels, the root of its mean variance;
            scalar above 0.
        output_scale: of `TrainConfig`.
        neighbours: of `config.UNetConfig`.
    """
    params = {
        name: dict(leaves) if isinstance(leaves, dict) else leaves
        for name, leaves in shipped().items()
    }
    unit = SCALE * jnp.maximum(noise_std, _LEAST * scale.std)
    first, last = params["down_convs_0"]["conv1"], params["conv_final"]
    seen = jnp.full(
        (1 + 2 * neighbours, 1), scale.std / (unit * (1 + 2 * neighbours))
    )  # the mean of the frame and those beside it
    params["down_convs_0"] = params["down_convs_0"] | {
        "conv1": first | {"kernel": first["kernel"] * seen}
    }
    params["conv_final"] = jax.tree.map(
        lambda leaf: leaf * (unit / (output_scale * scale.std)), last
    )
    return jax.tree.map(jnp.float32, params)


def fitted(problem, config):
    """`parameters` for a `problem.Problem` and `Settings`, with the noise that the frames show to the network."""
    noise_std = _noise_std(problem.frames, config.network.stride)
    return parameters(problem.scale, noise_std, config.output_scale, config.network.neighbours)


def _noise_std(frames, stride):
    """The noise's standard deviation in grey levels, of every ``stride``-th row and column.

    Of pixels that the stride has not quite made independent it is the noise at low frequencies,
    which is what there is to remove.
    """
    views = unet.views(frames, stride)
    variance, _ = noise_level(views)
    if stride > 1 and min(views.shape[1:]) >= 16:
        variance *= jnp.prod(1 + 2 * jnp.maximum(noise_autocorrelation(views, lags=1), 0))
    return jnp.sqrt(jnp.maximum(variance, 0))


def denoised(frames, scale, *, stride, devices=None):
    """What the shipped network makes of frames at a glance: each in one piece, without averaging over symmetries.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels; H and W multiples of
            the network's ``multiple``.
        scale: `denoiser.Scale` of the frames.
        stride: of the network.
        devices: sequence of `jax.Device` that compute; default: the default device.

    Returns:
        (N, H, W) float32.
    """
    network = dataclasses.replace(PRETRAINED, stride=stride)
    config = settle(TrainConfig(network=network), devices=devices)
    params = parameters(scale, _noise_std(frames, stride), config.output_scale)
    psf = gaussian_psf(PSF_SIGMA)
    return jnp.stack([_denoised(params, frame, scale, psf, config=config) for frame in frames])


@partial(jax.jit, static_argnames="config")
def _denoised(params, frame, scale, psf, *, config):
    return convolve(network_output(params, frame[None], scale, config)[0], psf)


@cache
def shipped():
    """The parameters as they were trained, for images in units of their noise: a pytree of float32 NumPy arrays."""
    params = {}
    with np.load(_FILE, allow_pickle=False) as arrays:
        for name in arrays.files:
            *path, leaf = name.split("/")
            place = params
            for part in path:
                place = place.setdefault(part, {})
            place[leaf] = arrays[name].astype(np.float32)
    return params
