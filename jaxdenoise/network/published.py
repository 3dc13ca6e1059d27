"""Weights of the published PyTorch DecoNoising network, in both directions. Host side.

The published code saves the whole pickled network. Such a file can run any code when it is opened,
so it is refused here. Export it once, where you trust it, with ``torch.save(network.state_dict(),
"weights.pth")``.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from jaxdenoise.config import TrainConfig, UNetConfig
from jaxdenoise.microscope.psf import normalized_psf
from jaxdenoise.network.denoiser import Denoiser, Scale
from jaxdenoise.network.settings import NetworkShape, settle
from jaxdenoise.network.unet import Params
from jaxdenoise.system.errors import WeightsError


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read a state_dict as NumPy arrays by name, without executing code from the file. Host side.

    Args:
        path: .npz (arrays by name), or any file of ``torch.save(network.state_dict())``, which
            needs PyTorch (the extra ``torch``).

    Raises:
        WeightsError: missing, unreadable, or a pickled object other than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        import torch

        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading it needs PyTorch (install the extra 'torch'), or export the weights "
            "as .npz"
        ) from error
    except Exception as error:  # zip, pickle and torch each raise their own kinds
        raise WeightsError(
            f"{path}: not a state_dict of plain tensors; export it with "
            "torch.save(network.state_dict(), ...)"
        ) from error


def params_from_state_dict(state_dict: Mapping[str, Any]) -> tuple[Params, NetworkShape]:
    """Convert published weights to parameters of `unet`. Host side.

    Args:
        state_dict: arrays or tensors under the published names, such as
            ``down_convs.0.conv1.weight`` (out, in, 3, 3).

    Returns:
        The pytree of `unet.init` (float32 copies), and the `NetworkShape` that the shapes tell.

    Raises:
        WeightsError: the names or shapes are not those of the network.
    """
    arrays = {name: np.asarray(value, np.float32) for name, value in state_dict.items()}
    config = _network_of(arrays)
    expected = {name: shape for name, shape, _ in _layers(config)}
    found = {name: value.shape for name, value in arrays.items()}
    if found != expected:
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise WeightsError(
            f"not the published U-Net of depth {config.depth}, {config.filters} filters: "
            f"{', '.join(wrong[:3])} differ"
        )
    params: Params = {}
    for name, _, (place, order) in _layers(config):
        *modules, leaf = place
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = jnp.array(arrays[name].transpose(order))
    return params, config


def state_dict_from_params(
    params: Params, config: NetworkShape
) -> dict[str, Float[np.ndarray, "..."]]:
    """Convert parameters of `unet` to published weights. Host side.

    The inverse of `params_from_state_dict`.

    Returns:
        Float32 NumPy arrays under the published names.

    Raises:
        WeightsError: the published code has no such network.
    """
    if config != NetworkShape(
        depth=config.depth, filters=config.filters, skip=config.skip, stride=config.stride
    ):
        raise WeightsError(
            "the published U-Net has a skip on every level, max-pooling and no neighbours, not "
            f"{config}"
        )
    arrays = {}
    for name, _, (place, order) in _layers(config):
        value: Any = params
        for key in place:
            value = value[key]
        arrays[name] = np.asarray(value, np.float32).transpose(np.argsort(order)).copy()
    return arrays


def denoiser(
    state_dict: Mapping[str, Any],
    *,
    psf: Real[Array | np.ndarray, "h w"],
    mean: float,
    std: float,
    background: float = 0.0,
) -> Denoiser:
    """Return a `denoiser.Denoiser` from published weights. Host side.

    Args:
        state_dict: see `params_from_state_dict`.
        psf: (h, w) array with odd sides.
        mean: of the training data above the background, in grey levels (the published network keeps
            it as ``network.mean``).
        std: its standard deviation, in grey levels (``network.std``).
        background: subtracted before everything, in grey levels (``meanValue`` in the published
            scripts).

    Raises:
        WeightsError: as `params_from_state_dict`.
        ValueError: the PSF is not one, see `psf.normalized_psf`.
    """
    params, network = params_from_state_dict(state_dict)
    scale = Scale(*(np.float32(v) for v in (background, mean, std)))
    asked = UNetConfig(**dataclasses.asdict(network))
    config = settle(TrainConfig.paper(network=asked, background=float(background)))
    return Denoiser(params, params, params, normalized_psf(psf), scale, {}, config)


def _network_of(arrays):
    depth = sum(
        name.startswith("down_convs.") and name.endswith(".conv1.weight") for name in arrays
    )
    first = arrays.get("down_convs.0.conv1.weight")
    if first is None or first.ndim != 4:
        raise WeightsError(
            "no down_convs.0.conv1.weight: these are not the weights of the published U-Net"
        )
    filters, skip = first.shape[0], "add"
    up = arrays.get("up_convs.0.conv1.weight")
    if up is not None and up.ndim == 4 and up.shape[1] == 2 * up.shape[0]:
        skip = "concat"
    return NetworkShape(depth=depth, filters=filters, skip=skip)


def _layers(config: NetworkShape) -> Iterator[tuple[str, tuple[int, ...], tuple[Any, Any]]]:
    """Name, shape and place of every published array.

    The place is the path in the pytree of `unet` and the order of axes that turns the published
    array into the one there.
    """
    widths = [config.filters * 2**level for level in range(config.depth)]
    joined = 1 if config.skip == "add" else 2
    convolutions = []
    for level, width in enumerate(widths):
        below = widths[level - 1] if level else 1
        convolutions += [
            ("down_convs", level, "conv1", below, width),
            ("down_convs", level, "conv2", width, width),
        ]
    for step, width in enumerate(widths[-2::-1]):
        module = f"up_convs_{step}"
        yield (
            f"up_convs.{step}.upconv.weight",
            (2 * width, width, 2, 2),
            ((module, "upconv_kernel"), (2, 3, 0, 1)),
        )
        yield f"up_convs.{step}.upconv.bias", (width,), ((module, "upconv_bias"), (0,))
        convolutions += [
            ("up_convs", step, "conv1", joined * width, width),
            ("up_convs", step, "conv2", width, width),
        ]
    for part, number, conv, inside, outside in convolutions:
        place = (f"{part}_{number}", conv)
        yield (
            f"{part}.{number}.{conv}.weight",
            (outside, inside, 3, 3),
            ((*place, "kernel"), (2, 3, 1, 0)),
        )
        yield f"{part}.{number}.{conv}.bias", (outside,), ((*place, "bias"), (0,))
    yield "conv_final.weight", (1, config.filters, 1, 1), (("conv_final", "kernel"), (2, 3, 1, 0))
    yield "conv_final.bias", (1,), (("conv_final", "bias"), (0,))
