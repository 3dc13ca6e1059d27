"""Grey-scale pictures, and the comparison of several images side by side. Host side.

Figures are made without pyplot: no global state, no display. Matplotlib is imported late.
"""

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import ArrayLike, Real, UInt8

Figure: TypeAlias = Any  # matplotlib.figure.Figure, which is imported late
# Colours at equal distances, as of ColorBrewer's PuOr (from purple to orange) and of cividis.
_DIVERGING = (
    *((45, 0, 75), (84, 39, 136), (128, 115, 172), (178, 171, 210), (216, 218, 235)),
    (247, 247, 247),
    *((254, 224, 182), (253, 184, 99), (224, 130, 20), (179, 88, 6), (127, 59, 8)),
)
_LIGHT = (
    *((0, 34, 78), (25, 56, 110), (66, 78, 108), (97, 101, 111), (125, 124, 120)),
    *((156, 148, 117), (190, 175, 104), (225, 204, 85), (254, 232, 56)),
)
_WINDOW_STEP = 16  # pixels between the windows that `busiest_window` tries


def png(pixels: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Return the bytes of a PNG file of grey (H, W) or coloured (H, W, 3) pixels."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def grey(image: Real[ArrayLike, "H W"], low: float, high: float) -> UInt8[np.ndarray, "H W"]:
    """Return an image as bytes, 0 (black) at `low` and below, 255 (white) at `high` and above."""
    share = (np.asarray(image, np.float64) - low) / max(high - low, 1e-30)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def diverging(image: Real[ArrayLike, "H W"], limit: float) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as colours: white at 0, purple at -`limit`, orange at `limit`."""
    return _coloured(image, -limit, limit, _DIVERGING)


def light(image: Real[ArrayLike, "H W"], low: float, high: float) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image as colours of rising lightness: dark blue at `low`, yellow at `high`."""
    return _coloured(image, low, high, _LIGHT)


def _coloured(image, low, high, anchors):
    place = grey(image, low, high) / 255 * (len(anchors) - 1)
    channels = [np.interp(place, range(len(anchors)), part) for part in np.transpose(anchors)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def grey_range(image: Real[ArrayLike, "*shape"]) -> tuple[float, float]:
    """Return the grey levels to show as black and white: the 0.5 and 99.8 percentiles.

    With them, single bright pixels do not darken the rest.
    """
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.8)))
    return (low, high) if high > low else (low, low + 1)


def busiest_window(image: Real[np.ndarray, "H W"], side: int) -> tuple[int, int, int]:
    """Return (y, x, side) of the square of `side` pixels with the strongest contrast."""

    def contrast(corner):
        y, x = corner
        return image[y : y + side, x : x + side].std()

    corners = [
        (y, x)
        for y in range(0, image.shape[0] - side + 1, _WINDOW_STEP)
        for x in range(0, image.shape[1] - side + 1, _WINDOW_STEP)
    ]
    return (*max(corners, key=contrast), side)


def shown_part(image: Real[np.ndarray, "H W"], side: int) -> tuple[slice, slice]:
    """Return the part of an image that is shown: the whole, or the busiest window of `side`."""
    if max(image.shape) <= side:
        return slice(None), slice(None)
    y, x, side = busiest_window(image, min(side, *image.shape))
    return slice(y, y + side), slice(x, x + side)


def save_comparison(
    path: str | os.PathLike,
    pictures: Mapping[str, Real[np.ndarray, "H W"]],
    *,
    zoom: tuple[int, int, int],
    captions: Mapping[str, str] | None = None,
) -> None:
    """Save one picture of several results side by side, each with a part of it enlarged below.

    Args:
        path: of the PNG.
        pictures: name to image (H, W). All are shown with the grey scale of the last one.
        zoom: (y, x, side) in pixels of the square that is enlarged.
        captions: name to a second line of the title.
    """
    from matplotlib.patches import Rectangle

    low, high = grey_range(list(pictures.values())[-1])
    grey_scale = {"cmap": "gray", "vmin": low, "vmax": high}
    y, x, side = zoom
    figure = new_figure((2.2 * len(pictures), 5.0))
    axes = figure.subplots(2, len(pictures))
    for column, (name, image) in enumerate(pictures.items()):
        top, bottom = axes[:, column]
        top.imshow(image, **grey_scale)
        top.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, edgecolor="yellow"))
        caption = (captions or {}).get(name)
        top.set_title(f"{name}\n{caption}" if caption else name, fontsize=9)
        bottom.imshow(image[y : y + side, x : x + side], **grey_scale, interpolation="nearest")
        for axis in (top, bottom):
            axis.set_axis_off()
    figure.savefig(path, dpi=150)


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty matplotlib figure of a size in inches that draws into memory."""
    from matplotlib import figure as figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = figures.Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
