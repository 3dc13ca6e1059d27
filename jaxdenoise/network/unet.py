"""The U-Net: the only module that imports flax, and the only one that sees channels (NHWC).

Pure JAX: everything works under jit, vmap and grad.

Structure and parameter names follow the published DecoNoising network (Ronneberger's U-Net without
batch norm): ``depth`` levels of two 3x3 convolutions with ReLU, 2x2 max-pooling down, 2x2
transposed convolution up, skip connections, a 1x1 convolution out.

With a ``stride`` each interleaved part of the image is an image of its own, in which noise that
neighbours share is white (pixel-shuffle downsampling: Zhou et al., "When AWGN-based denoiser meets
real noises", AAAI 2020; Lee, Son and Lee, "AP-BSN", CVPR 2022). Without the first skip connection
and with blurred pooling it is the network of N2V2 (Hoeck et al., ECCV Workshops 2022; Zhang, ICML
2019).

With ``space_to_depth`` the first level sees each block of pixels as one pixel with more channels,
and the last layer gives blocks: a quarter of the work, and a field twice as wide (Shi et al.,
"Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
network", CVPR 2016; Zhang, Zuo and Zhang, "FFDNet", IEEE TIP 2018).
"""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdenoise.network import convolution
from jaxdenoise.network.settings import NetworkShape

Params: TypeAlias = dict[str, Any]  # a pytree of float32 arrays

# Glorot's normal initialisation as PyTorch defines it (not truncated), as published.
_XAVIER_NORMAL = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


def init(key: PRNGKeyArray, config: NetworkShape) -> Params:
    """Return random parameters: a pytree of float32 arrays; Xavier-normal weights, zero biases.

    Args:
        key: random key.
        config: `NetworkShape`, static.
    """
    side, channels = 2 ** (config.depth - 1), (1 + config.beside) * config.space_to_depth**2
    return _UNet(config).init(key, jnp.zeros((1, side, side, channels)))["params"]


def apply(
    params: Params,
    images: Float[Array | np.ndarray, "N H W"],
    config: NetworkShape,
    *,
    beside: Float[Array | np.ndarray, "N beside H W"] | None = None,
    precision: str = "float32",
    platform: str = "cpu",
    padded: bool = True,
) -> Float[Array, "N H2 W2"]:
    """Run the network.

    Args:
        params: from `init`.
        images: (N, H, W) float32, normalised to about zero mean and unit standard deviation; H and
            W multiples of ``config.multiple``.
        config: `NetworkShape`, static.
        beside: (N, B, H, W) float32, normalised alike: the frames beside each image and its guide,
            for a config with B > 0 ``beside``.
        precision: of the products between channels, "float32" or "bfloat16", see `convolution`;
            static.
        platform: that computes, see `convolution`; static. In float32 it does not matter.
        padded: whether the network sees zeros outside the image; else the result lacks
            ``config.rim`` pixels on each side, and what only they need is not computed. Static.

    Returns:
        (N, H, W) float32, or (N, H - 2 rim, W - 2 rim).

    Raises:
        ValueError: H or W is not such a multiple, or there is another number of frames beside.
    """
    if images.ndim != 3 or images.shape[1] % config.multiple or images.shape[2] % config.multiple:
        raise ValueError(
            f"U-Net of depth {config.depth}: expected (N, H, W) with H and W multiples of "
            f"{config.multiple}, got {images.shape}"
        )
    if (0 if beside is None else beside.shape[1]) != config.beside:
        guide = " and its guide" if config.guided else ""
        raise ValueError(
            f"this network sees {config.neighbours} frames on each side of an image{guide}: give "
            f"{config.beside} beside it"
        )
    seen = views(images, config.stride)[..., None]
    if beside is not None and config.beside:
        seen = jnp.concatenate(
            [seen, jax.vmap(views, (1, None), -1)(beside, config.stride)], axis=-1
        )
    padded = padded or not config.rim
    seen = _blocks_to_channels(seen, config.space_to_depth)
    output: Any = _UNet(config, precision, platform, padded).apply({"params": params}, seen)
    return _together(_channels_to_blocks(output, config.space_to_depth), config.stride)


def views(
    images: Float[Array | np.ndarray, "N H W"], stride: int
) -> Float[Array | np.ndarray, "M h w"]:
    """Return every stride-th row and column of the images as images of their own.

    Args:
        images: (N, H, W).
        stride: in pixels, static.

    Returns:
        (N stride^2, H // stride, W // stride).
    """
    n, height, width = images.shape
    height, width = height // stride * stride, width // stride * stride
    parts = (
        images[:, :height, :width]
        .reshape(n, height // stride, stride, width // stride, stride)
        .transpose(0, 2, 4, 1, 3)
    )
    return parts.reshape(-1, height // stride, width // stride)


def _together(views, stride):
    """The inverse of `views`."""
    _, height, width = views.shape
    images = views.reshape(-1, stride, stride, height, width).transpose(0, 3, 1, 4, 2)
    return images.reshape(-1, height * stride, width * stride)


def _blocks_to_channels(x, side):
    """(N, H, W, C) -> (N, H // side, W // side, side^2 C)."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // side, side, width // side, side, channels)
    return blocks.swapaxes(2, 3).reshape(n, height // side, width // side, -1)


def _channels_to_blocks(x, side):
    """(N, h, w, side^2) -> (N, side h, side w)."""
    n, height, width, _ = x.shape
    blocks = x.reshape(n, height, width, side, side).swapaxes(2, 3)
    return blocks.reshape(n, side * height, side * width)


class _UNet(nn.Module):
    config: NetworkShape
    precision: str = "float32"
    platform: str = "cpu"
    padded: bool = True

    @nn.compact
    def __call__(self, x):
        options = self.precision, self.platform, self.padded
        widths = [self.config.filters * 2**level for level in range(self.config.depth)]
        skips, rim = [], 0  # of the level: how many of its pixels are gone on each side
        for level, width in enumerate(widths):
            x = _DoubleConv(width, *options, name=f"down_convs_{level}")(x)
            rim += 0 if self.padded else 2
            if level < self.config.depth - 1:
                skips.append((x, rim))
                x, rim = _cropped(x, rim % 2), -(-rim // 2)
                x = _max_pool(x) if self.config.pooling == "max" else _blur_pool(x)
        for step, (width, (skip, own)) in enumerate(zip(widths[-2::-1], skips[::-1], strict=True)):
            top = step == len(skips) - 1
            skip = None if top and not self.config.top_skip else _cropped(skip, 2 * rim - own)
            x = _UpConv(width, self.config.skip, *options, name=f"up_convs_{step}")(x, skip)
            rim = 2 * rim + (0 if self.padded else 2)
        channels = self.config.space_to_depth**2
        return nn.Conv(channels, (1, 1), kernel_init=_XAVIER_NORMAL, name="conv_final")(x)


class _DoubleConv(nn.Module):
    width: int
    precision: str
    platform: str
    padded: bool

    @nn.compact
    def __call__(self, x):
        options = self.precision, self.platform, self.padded
        for name in ("conv1", "conv2"):
            x = nn.relu(_Conv3x3(self.width, *options, name=name)(x))
        return x


class _UpConv(nn.Module):
    width: int
    skip: str
    precision: str
    platform: str
    padded: bool

    @nn.compact
    def __call__(self, x, skip):
        kernel = self.param("upconv_kernel", _XAVIER_NORMAL, (2, 2, x.shape[-1], self.width))
        bias = self.param("upconv_bias", nn.initializers.zeros, (self.width,))
        x = _transposed_conv(x, kernel, self.precision, self.platform) + bias
        if skip is not None:
            x = x + skip if self.skip == "add" else jnp.concatenate([x, skip], axis=-1)
        options = self.precision, self.platform, self.padded
        for name in ("conv1", "conv2"):
            x = nn.relu(_Conv3x3(self.width, *options, name=name)(x))
        return x


class _Conv3x3(nn.Module):
    width: int
    precision: str
    platform: str
    padded: bool

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", _XAVIER_NORMAL, (3, 3, x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        options: dict[str, Any] = {"precision": self.precision, "platform": self.platform}
        return convolution.conv3x3(x, kernel, padded=self.padded, **options) + bias


def _cropped(x, pixels):
    return x[:, pixels : x.shape[1] - pixels, pixels : x.shape[2] - pixels] if pixels else x


def _max_pool(x):
    # XLA's gradient of a pooling window is slow on CPU; that of maxima of four slices is not.
    top, bottom = (jnp.maximum(x[:, row::2, ::2], x[:, row::2, 1::2]) for row in (0, 1))
    return jnp.maximum(top, bottom)


def _blur_pool(x):
    """Maxima of all 2x2 windows, blurred by (1, 2, 1) / 4 along y and x, every second of them.

    The blur removes the frequencies that would alias.
    """
    for axis in (1, 2):
        x = jnp.maximum(x, _shifted(x, 1, axis))
    for axis in (1, 2):
        x = (_shifted(x, -1, axis) + 2 * x + _shifted(x, 1, axis)) / 4
        x = jax.lax.slice_in_dim(x, 0, None, 2, axis)
    return x


def _shifted(x, step, axis):
    """The pixels one step further along an axis; at the border the last one."""
    length = x.shape[axis]
    part = jax.lax.slice_in_dim(x, max(step, 0), length + min(step, 0), axis=axis)
    return jnp.pad(
        part,
        [(max(-step, 0), max(step, 0)) if i == axis else (0, 0) for i in range(x.ndim)],
        mode="edge",
    )


def _transposed_conv(x, kernel, precision, platform):
    """2x2 transposed convolution of stride 2.

    Each pixel becomes a 2x2 block, so one matrix product does it.
    """
    n, h, w, c = x.shape
    matrix = kernel.transpose(2, 0, 1, 3).reshape(c, -1)
    blocks = convolution.matmul(x, matrix, precision=precision, platform=platform)
    return blocks.reshape(n, h, w, 2, 2, -1).swapaxes(2, 3).reshape(n, 2 * h, 2 * w, -1)
