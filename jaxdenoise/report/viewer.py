"""The images of a report, as data for its viewer (report/viewer.js). Host side.

Each image is whole numbers of up to 16 bits times a step, plus an offset. They are compressed
without loss: differences along the rows, folded so that small ones of either sign are small
numbers, their high bytes before their low bytes, in the format of zlib.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Real, UInt16

from jaxdenoise.report import page, pictures
from jaxdenoise.report.findings import FINE, HEADLINES
from jaxdenoise.report.guard_measures import Noise

BUDGET = 6 * 2**20  # bytes of all images of a report as text
_STEPS = 2**16 - 1
_FINE = 32  # steps of a denoised image in a standard deviation of the noise
_COARSE = 16  # steps of a map in units of the noise
_LEVEL = 6  # of zlib: higher ones take longer and gain 2 %


class Layer(NamedTuple):
    """A kind of image that the viewer shows.

    Attributes:
        name: key of the images.
        label: in words.
        caption: how to read it.
        kind: "grey"; "signed" and "positive" are maps in units of the noise.
    """

    name: str
    label: str
    caption: str
    kind: str = "grey"


LAYERS = (
    Layer("noisy", "Noisy", "As it was recorded."),
    Layer(
        "denoised",
        "Denoised",
        "An estimate of the image that the microscope would show without noise.",
    ),
    Layer(
        "deconvolved",
        "Deconvolved",
        "Before the microscope's blur. Not unique: measure in the denoised image.",
    ),
    Layer("truth", "Truth", "The clean image that was given."),
    Layer(
        "residual",
        "Residual in units of the noise",
        "Noisy minus denoised, over the noise at each brightness. It should show no outlines.",
        "signed",
    ),
    Layer(
        "invention",
        "What only the pretrained network shows",
        "Result from pretrained minus result from random weights, in units of the noise.",
        "signed",
    ),
    Layer(
        "disagreement",
        "Where members disagree",
        "Standard deviation of the ensemble's results in units of the noise. Errors that all "
        "members share do not show.",
        "positive",
    ),
)


class Frame(NamedTuple):
    """A frame that can be shown.

    Attributes:
        number: among all frames, 0-based.
        name: such as "plane 18".
        why: the reason for which it is shown.
        level: of its verdict.
        images: name of a layer to (H, W); "invention" and "disagreement" in units of the noise.
    """

    number: int
    name: str
    why: str
    level: int
    images: Mapping[str, Real[np.ndarray, "H W"]]


class ViewedChannel(NamedTuple):
    """A channel that can be shown.

    Attributes:
        name: such as "channel 0", or empty.
        colour: "#rrggbb" of white.
        noise_std: of the noise in grey levels.
        noise: by brightness.
        frames: the worst one first.
    """

    name: str
    colour: str
    noise_std: float
    noise: Noise
    frames: Sequence[Frame]


def pack(
    image: Real[np.ndarray, "H W"], step: float
) -> tuple[dict[str, Any], UInt16[np.ndarray, "H W"]]:
    """Return an image as values for JSON, and its whole numbers.

    Args:
        image: finite.
        step: between two values that are told apart; it grows where 16 bits do not suffice.
    """
    image = np.asarray(image, np.float64)
    low, extent = float(image.min()), float(np.ptp(image))
    if step == 1:
        low = float(np.floor(low))
    step = max(step, extent / _STEPS, 1e-30)
    whole = np.rint((image - low) / step).astype(np.uint16)
    change = np.diff(whole, axis=1, prepend=np.uint16(0)).view(np.int16)
    folded = ((change.astype(np.int32) << 1) ^ (change.astype(np.int32) >> 15)).astype(np.uint16)
    planes = np.stack([folded >> 8, folded & 255]).astype(np.uint8)
    packed = base64.b64encode(zlib.compress(planes.tobytes(), _LEVEL)).decode()
    height, width = image.shape
    values = {"height": height, "width": width, "low": low, "step": step, "data": packed}
    return values, whole


def viewer(
    channels: Sequence[ViewedChannel],
    *,
    place: tuple[int, int, int, int] | None,
    pixel_size_um: float | None,
    side: int,
) -> tuple[str, int]:
    """Return the viewer as HTML, and how many of each channel's frames it holds.

    Frames are taken in turn, the worst first, until they fill `BUDGET`; one is always taken.

    Args:
        channels: all with frames of the same numbers.
        place: row and column of the first shown pixel, height and width of the whole frame; None:
            frames are shown whole.
        pixel_size_um: side of a pixel in micrometres, None if not known.
        side: pixels of the longest side of pictures for browsers that run no script.
    """
    held: list[list[dict[str, Any]]] = [[] for _ in channels]
    size, count = 0, 0
    for number in range(len(channels[0].frames)):
        packed = [_packed(one, one.frames[number]) for one in channels]
        grown = size + sum(len(json.dumps(one)) for one in packed)
        if count and grown > BUDGET:
            break
        size, count = grown, count + 1
        for own, one in zip(held, packed, strict=True):
            own.append(one)
    data = {
        "place": None if place is None else list(place[:2]),
        "pixelSize": pixel_size_um,
        "layers": [layer._asdict() for layer in LAYERS],
        "channels": [
            {
                "name": one.name,
                "colour": one.colour,
                "limits": pictures.grey_range(one.frames[0].images["denoised"]),
                "noise": {
                    "level": [float(value) for value in one.noise.level],
                    "variance": [float(value) for value in one.noise.variance],
                },
                "frames": own,
            }
            for one, own in zip(channels, held, strict=True)
        ],
    }
    # "</" would end the script.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    html = '<div id="viewer" hidden></div>\n'
    html += f'<script type="application/json" id="viewer-data">{text}</script>\n'
    return html + f"<noscript>{_still(channels, side)}</noscript>\n", count


def _packed(channel, frame):
    images = {}
    for name, image in frame.images.items():
        kind = next(layer.kind for layer in LAYERS if layer.name == name)
        if kind != "grey":
            step = 1 / _COARSE
        elif np.array_equal(image, np.rint(image)) and np.ptp(image) <= _STEPS:
            step = 1.0
        else:
            step = channel.noise_std / _FINE
        images[name] = pack(image, step)[0]
    verdict = HEADLINES[frame.level].lower() if frame.level > FINE else ""
    told = {"number": frame.number, "name": frame.name, "why": frame.why, "verdict": verdict}
    return {**told, "level": frame.level, "images": images}


def _still(channels, side):
    """Pictures for browsers that run no script: the first frame of each channel."""
    html = page.paragraph("Without JavaScript one frame is shown, before and after.")
    for channel in channels:
        frame, figures = channel.frames[0], []
        limits = pictures.grey_range(frame.images["denoised"])
        part = pictures.shown_part(frame.images["denoised"], side)
        for layer in LAYERS:
            if layer.kind == "grey" and layer.name in frame.images:
                image = frame.images[layer.name][part]
                alt = f"{layer.label} image of {channel.name or 'the file'}, {describe(image)}"
                drawn = page.image(pictures.grey(image, *limits), alt)
                figures.append(page.figure(layer.label, drawn, layer.caption, pixels=True))
        html += f"<p>{escape(', '.join(filter(None, (channel.name, frame.name))))}</p>"
        html += page.figures(*figures, kind="images")
    return html


def describe(image: Real[np.ndarray, "H W"]) -> str:
    """Return numbers of an image for readers who do not see it."""
    return (
        f"{image.shape[0]} by {image.shape[1]} pixels: grey levels from {image.min():.4g} to "
        f"{image.max():.4g}, mean {image.mean():.4g}, standard deviation {image.std():.4g}."
    )
