"""The networks that the package ships, trained on synthetic microscopy.

`experiments/pretrain.py` made the one for single frames, `experiments/pretrain_movies.py` the one
for movies, `experiments/pretrain_volumes.py` the one for volumes. They were trained on images in
units of their noise. `parameters` fits one to images: it scales the first and the last layer, which
tells the network the noise level.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxdenoise.config import PRETRAINED, TrainConfig
from jaxdenoise.microscope.correlation import noise_autocorrelation
from jaxdenoise.microscope.noise_level import noise_level_of
from jaxdenoise.microscope.psf import convolve, gaussian_psf
from jaxdenoise.network import unet
from jaxdenoise.network.denoiser import Scale, network_output
from jaxdenoise.network.settings import NetworkShape, Settings, settle, shape_of

# Sigma in pixels: the output convolved with this Gaussian is the denoised image.
PSF_SIGMA = 0.75
# The network's unit is this many standard deviations of the noise.
SCALE = 4.0
# The noise that the network is told is at least this fraction of the images' standard deviation.
_LEAST_NOISE = 1e-3
_SINGLE = shape_of(PRETRAINED)
FRAMES, MOVIES = "pretrained.npz", "pretrained_movies.npz"
VOLUMES = "pretrained_volumes.npz"


def write(path: str | Path, params: unet.Params) -> None:
    """Write parameters to a .npz file as float16, which rounds them to 11 bits. Host side.

    Args:
        path: of the .npz file, replaced if it exists.
        params: pytree of arrays, as of `unet.init`.
    """
    arrays: dict[str, Any] = {
        jax.tree_util.keystr(keys, simple=True, separator="/"): np.asarray(leaf, np.float16)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    with Path(path).open("wb") as stream:
        np.savez(stream, **arrays)


def parameters(
    scale: Scale,
    noise_std: Float[ArrayLike, ""],
    output_scale: float,
    network: NetworkShape = _SINGLE,
) -> unet.Params:
    """Return the shipped parameters, fitted to images of some scale and noise. Pure JAX.

    Args:
        scale: `denoiser.Scale` of the images.
        noise_std: the noise's standard deviation in grey levels, the root of its mean variance;
            scalar above 0.
        output_scale: of `Settings`.
        network: its shape, static.

    Returns:
        A pytree of float32 arrays as of `unet.init`.
    """
    params = {
        name: dict(leaves) if isinstance(leaves, dict) else leaves
        for name, leaves in shipped(_file_of(network)).items()
    }
    unit = SCALE * jnp.maximum(noise_std, _LEAST_NOISE * scale.std)
    first, last = params["down_convs_0"]["conv1"], params["conv_final"]
    seen = scale.std / unit
    if _file_of(network) == FRAMES:  # which sees the mean of the frame and its neighbours
        count = 1 + 2 * network.neighbours
        seen = jnp.full((count, 1), seen / count)
    params["down_convs_0"] = params["down_convs_0"] | {
        "conv1": first | {"kernel": first["kernel"] * seen}
    }
    params["conv_final"] = jax.tree.map(
        lambda leaf: leaf * (unit / (output_scale * scale.std)), last
    )
    return jax.tree.map(jnp.float32, params)


def _file_of(network):
    if network.planes:
        return VOLUMES
    return MOVIES if network.guided else FRAMES


def fitted(frames: Float[Array, "N H W"], scale: Scale, config: Settings) -> unet.Params:
    """Return the shipped parameters, fitted to frames whose noise is estimated. Host side.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels.
        scale: `denoiser.Scale` of the frames.
        config: `Settings`, static.

    Returns:
        As `parameters`.
    """
    noise_std = _noise_std(frames, config.network.stride, shared=_file_of(config.network) != FRAMES)
    return parameters(scale, noise_std, config.output_scale, config.network)


def _noise_std(frames, stride, *, shared=False):
    """Standard deviation of the noise in grey levels, in every ``stride``-th row and column.

    If the noise of these pixels is still slightly correlated, it is the noise at low frequencies,
    which is what the network has to remove. Those of movies and volumes have to do so with any
    ``shared`` noise, since they see in other frames what is no noise.
    """
    views = unet.views(np.asarray(frames), stride)
    variance, _ = noise_level_of(views)
    if (stride > 1 or shared) and min(views.shape[1:]) >= 16:
        shares = np.maximum(noise_autocorrelation(views, lags=1), 0)
        variance *= float(np.prod(1 + 2 * shares))
    return jnp.float32(math.sqrt(max(variance, 0)))


def denoised(
    frames: Float[Array, "N H W"],
    scale: Scale,
    *,
    stride: int,
    devices: Sequence[jax.Device] | None = None,
) -> Float[Array, "N H W"]:
    """Denoise frames with the shipped network at low cost. Host side.

    Each frame is denoised in one piece, without averaging over symmetries.

    Args:
        frames: (N, H, W) float32 above the background, in grey levels; H and W multiples of
            the network's ``multiple``.
        scale: `denoiser.Scale` of the frames.
        stride: of the network.
        devices: the devices that compute; default: the default device.

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
def shipped(name: str = FRAMES) -> unet.Params:
    """Read the parameters as they were trained, for images in units of their noise. Host side.

    Args:
        name: of the file beside this module.

    Returns:
        A pytree of float32 NumPy arrays, as of `unet.init`.
    """
    params: unet.Params = {}
    with np.load(Path(__file__).with_name(name), allow_pickle=False) as arrays:
        for name in arrays.files:
            *path, leaf = name.split("/")
            place = params
            for part in path:
                place = place.setdefault(part, {})
            place[leaf] = arrays[name].astype(np.float32)
    return params
