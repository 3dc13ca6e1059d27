"""A preview before a long run: a part of the first image, and what all would take. Host side."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxdenoise.io import images
from jaxdenoise.io.images import ImageFile
from jaxdenoise.report import pictures
from jaxdenoise.system.errors import ImageError, RequestError
from jaxdenoise.system.files import new_files
from jaxdenoise.workflows import training as training_
from jaxdenoise.workflows.denoising import denoise_file, model_names
from jaxdenoise.workflows.estimates import Estimate, estimate, seen_of
from jaxdenoise.workflows.inputs import expand
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.requests import PreviewRequest
from jaxdenoise.workflows.results import DenoiseResult

_SIDE, _FRAMES = 192, 5  # of the part that is found; as many frames as make a movie
_SECONDS, _MOST = 8.0, 4  # that a training takes about; epochs of it


@dataclass(frozen=True)
class PreviewResult:
    """What `preview` has made.

    Attributes:
        result: of the part, see `results.DenoiseResult`.
        crop: (y, x, size) of the part in pixels.
        picture: the part before and after.
        estimate: of all images as they were asked for.
        shortened: epochs that were trained; None: nothing was trained or shortened.
    """

    result: DenoiseResult
    crop: tuple[int, int, int]
    picture: Path
    estimate: Estimate
    shortened: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        own = {"crop": list(self.crop), "picture": str(self.picture), "epochs": self.shortened}
        whole = self.estimate._asdict() | {"seconds": self.estimate.seconds}
        return self.result.to_dict() | own | {"estimate": whole}


def preview(request: PreviewRequest, reporter: Reporter = SILENT) -> PreviewResult:
    """Denoise a part of the first image with a short training, and say what the whole would take.

    Args:
        request: what is asked for; ``crop`` says which part.
        reporter: hears of the progress.

    Raises:
        JaxdenoiseError, ValueError: as `batches.denoise`; the part lies outside the image.
    """
    output = Path(request.output)
    kinds = training_.outputs(model_names(request))
    found = expand(
        request.inputs, output, recursive=request.recursive, kinds=kinds, reporter=reporter
    )
    first = found.inputs[0]
    file = images.open_image(first.path, axes=request.axes)
    crop, part = _part(request, file, first.path)
    whole = estimate(request, [seen_of(file)] * len(found.inputs))
    stem, epochs = f"{first.stem}_preview", _epochs(request, whole)
    picture = output / f"{stem}.png"
    if picture.exists() and not request.overwrite:
        raise RequestError(f"{picture}: the file exists; overwrite=True replaces it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{first.stem}.tif"
        info = replace(file.info, shape=_shape(file.info, part.shape))
        images.write(path, part, info, gaps=np.isnan(part))
        asked = request.of_part(path, epochs)
        result = denoise_file(asked, reporter, stem=stem)
        _draw(picture, part, result)
    reporter.say(f"wrote {picture}")
    y, x, size = crop
    place = f"{size} x {size} pixels at {y},{x}, {len(part)} of {len(file.frames)} frames"
    short = "" if epochs is None else f", after {epochs} epochs of the training"
    reporter.say(f"preview of {first.path}: {place}{short}")
    others = "" if len(found.inputs) == 1 else f" for {len(found.inputs)} images like this one"
    reporter.say(f"estimate: {whole.text()}{others}")
    return PreviewResult(result, crop, picture, whole, epochs)


def _part(
    request: PreviewRequest, file: ImageFile, path: str
) -> tuple[tuple[int, int, int], Float32[np.ndarray, "N H W"]]:
    """Where the part is, and its pixels: the first frames or planes of each channel."""
    height, width = file.frames.shape[1:]
    if request.crop is not None:
        y, x, size = request.crop
        if y + size > height or x + size > width:
            raise ImageError(
                f"{path}: the crop of {size} x {size} pixels at {y},{x} reaches beyond the image "
                f"of {height} x {width} pixels"
            )
    numbers = _first_frames(file)
    frames = file.frames.with_gaps()
    if request.crop is None:
        size = min(_SIDE, height, width)
        look = np.nan_to_num(np.mean([frames[n, :, :] for n in numbers[:_FRAMES]], axis=0))
        y, x, size = pictures.busiest_window(_smooth(look), size)
    rows, columns = slice(y, y + size), slice(x, x + size)
    return (y, x, size), np.stack([frames[n, rows, columns] for n in numbers])


def _smooth(image):
    """Means of 4 x 4 pixels, so that noise is no structure, at the image's own size."""
    rows, columns = (length // 4 * 4 for length in image.shape)
    means = image[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).mean(axis=(1, 3))
    whole = np.repeat(np.repeat(means, 4, axis=0), 4, axis=1)
    return np.pad(
        whole, [(0, n - m) for n, m in zip(image.shape, whole.shape, strict=True)], "edge"
    )


def _kept(info):
    """How many are kept along each axis but Y and X, in the file's order: all channels, and few."""
    kept, left = [], _FRAMES
    for axis, size in zip(info.axes, info.shape, strict=True):
        if axis == "C":
            kept.append(size)
        elif axis not in "YX":
            kept.append(min(size, left))
            left = max(1, left // kept[-1])
    return kept


def _first_frames(file):
    """The numbers of the first frames along each axis but that of the channels."""
    sizes = [
        size for axis, size in zip(file.info.axes, file.info.shape, strict=True) if axis not in "YX"
    ]
    numbers = np.arange(len(file.frames)).reshape(sizes)
    return numbers[tuple(slice(count) for count in _kept(file.info))].ravel().tolist()


def _shape(info, shape):
    """The shape of the part, in the file's order of axes."""
    kept, sides = iter(_kept(info)), {"Y": shape[1], "X": shape[2]}
    return tuple(sides[axis] if axis in sides else next(kept) for axis in info.axes)


def _epochs(request, whole):
    """To how many epochs the training is shortened; None: it is not."""
    if request.instant or request.model:
        return None
    asked = request.training.config().epochs
    return max(1, min(asked, _MOST, int(asked * _SECONDS / max(whole.training, 1e-9))))


def _draw(path: Path, part: Float32[np.ndarray, "N H W"], result: DenoiseResult) -> None:
    shown = {"noisy": np.nan_to_num(part[0])}
    for name in ("denoised", "deconvolved"):
        shown[name] = np.nan_to_num(images.read(result.outputs[name][0]).frames[0])
    zoom = pictures.busiest_window(shown["denoised"], max(min(part.shape[1:]) // 3, 1))
    with new_files(path.parent) as folder:
        pictures.save_comparison(folder / path.name, shown, zoom=zoom)
