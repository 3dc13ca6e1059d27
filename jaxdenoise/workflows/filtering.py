"""A classical filter on files, channel by channel. Host side."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxdenoise.imaging.gaps import fill_stack
from jaxdenoise.io import images
from jaxdenoise.io.images import Image
from jaxdenoise.system.errors import RequestError
from jaxdenoise.workflows.image_filter import filter_image
from jaxdenoise.workflows.line_removal import without_line_noise
from jaxdenoise.workflows.partition import channel_count, channels_of
from jaxdenoise.workflows.reporter import SILENT, Reporter
from jaxdenoise.workflows.requests import FilterRequest

_MEAN = 0.01  # of a frame's mean: what moves it by more is said
_SMALLEST = 5  # pixels a side that `calibration` needs


@dataclass(frozen=True)
class FilterResult:
    """What `filter_files` has made.

    Attributes:
        rows: a row a file: "file", "output", "filter", "dtype", "sigma" or "size" in pixels, and
            where they were found "noise_std" in grey levels and "noise_correlation"; of channels
            for which they were found one by one, these are lists. And "line_noise", a line for each
            kind that was taken out.
    """

    rows: list[dict[str, Any]]

    @property
    def outputs(self) -> list[Path]:
        """The files that were written, one an input."""
        return [Path(row["output"]) for row in self.rows]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return plain values for JSON: the rows."""
        return self.rows


def filter_files(request: FilterRequest, reporter: Reporter = SILENT) -> FilterResult:
    """Filter files.

    Args:
        request: what is asked for.
        reporter: hears which files were written, and of each why it is float32 where that was
            chosen, and whether a mean has moved by more than 1 %.

    Raises:
        ImageError: a file cannot be read or written; all outputs are checked before the first
            file is read.
        RequestError: as `filter_image`.
    """
    targets = images.output_paths(
        request.inputs,
        request.output,
        request.filter,
        form=request.format,
        overwrite=request.overwrite,
    )
    rows = []
    for path, target in zip(map(str, request.inputs), targets, strict=True):
        file = images.open_image(path, axes=request.axes)
        image, gaps, lines = _read(path, file, request)
        for line in lines:
            reporter.say(f"{path}: {line}")
        channels = _filter_channels(request, path, file, image)
        _, first = channels[0]
        kind = np.result_type(*(one.frames.dtype for _, one in channels))
        dtype, frames = first.dtype, np.empty_like(image.frames, kind)
        for numbers, one in channels:
            frames[numbers] = one.frames
        moved = _moved(image.frames, frames)
        if gaps is not None:
            frames = np.where(gaps, np.float32(np.nan), frames)
        images.write(
            target,
            frames,
            image.info,
            dtype=dtype.dtype,
            overwrite=request.overwrite,
            gaps=gaps,
        )
        row = {"file": path, "output": str(target), "filter": request.filter}
        row |= {"dtype": str(dtype.dtype)} | _parameters([one for _, one in channels])
        rows.append(row | {"line_noise": list(lines)})
        width = ", ".join(f"{name} {rows[-1][name]}" for name in first.parameter)
        found = ", found from the image" if first.calibration else ""
        reporter.say(f"wrote {target} ({width}{found})")
        for text in (dtype.text, moved):
            if text:
                reporter.say(f"{target.name}: {text}")
    return FilterResult(rows)


def _filter_channels(request, path, file, image):
    """The numbers of each channel's frames and `Filtered`: a width that is found is its own.

    All are stored in one dtype: in float32 if any channel is.
    """
    given = request.filter, request.sigma, request.size
    options = {"sigma": request.sigma, "size": request.size, "mode": request.mode}
    found = "auto" in given or (request.sigma is None and request.size is None)
    if found and min(image.frames.shape[1:]) < _SMALLEST:
        height, width = image.frames.shape[1:]
        raise RequestError(
            f"{path}: an image of {height} x {width} pixels is too small to find a width, at least "
            f"{_SMALLEST} x {_SMALLEST} are needed; give sigma=... or size=..."
        )
    apart = found and channel_count(file) > 1
    channels = _channels(path, file, image) if apart else [(slice(None), image)]

    def each(dtype):
        return [filter_image(request.filter, own, dtype=dtype, **options) for _, own in channels]

    filtered = each(request.dtype)
    coarse = [one.dtype for one in filtered if one.dtype.text]
    if 0 < len(coarse) < len(filtered):
        filtered = [one._replace(dtype=coarse[0]) for one in each("float32")]
    return [(numbers, one) for (numbers, _), one in zip(channels, filtered, strict=True)]


def _channels(path, file, image):
    """The numbers of each channel's frames, and the channel as an image of its own."""
    place = image.info.axes.index("C")
    info = replace(
        image.info,
        axes=image.info.axes.replace("C", ""),
        shape=image.info.shape[:place] + image.info.shape[place + 1 :],
    )
    numbers = [np.asarray(own.frames.numbers) for own in channels_of(path, file)]
    return [(own, Image(image.frames[own], info)) for own in numbers]


def _parameters(filtered):
    """What a row says of the widths and of the noise: lists where there are several channels."""
    rows = [one.parameter | _noise(one.calibration) for one in filtered]
    return rows[0] if len(rows) == 1 else {name: [row[name] for row in rows] for name in rows[0]}


def _read(path, file, request):
    """The image, filled where it is NaN, and where that is; and a line on each kind of line noise.

    None stands for NaN nowhere.
    """
    filled, gaps = fill_stack(np.asarray(file.frames.with_gaps()))
    image = Image(filled, file.info)
    if request.line_noise == "keep":
        return image, gaps, ()
    image, lines = without_line_noise(path, file, image)
    return image, gaps, lines


def _moved(noisy, frames):
    """One line on the frame whose mean has moved most, if by more than 1 %; else None."""
    light = np.mean(np.abs(noisy), axis=(1, 2), dtype=np.float64)
    shift = [np.mean(each, axis=(1, 2), dtype=np.float64) for each in (frames, noisy)]
    moved = np.abs(shift[0] - shift[1]) / np.where(light > 0, light, np.inf)
    if moved.max() <= _MEAN:
        return None
    frame = f" (frame {np.argmax(moved) + 1})" if len(moved) > 1 else ""
    return f"the filter moved the mean by {100 * moved.max():.3g} %{frame}"


def _noise(found):
    """What a calibration says of the noise."""
    if found is None:
        return {}
    # The variance is an estimate, and may be below 0 where structure is all there is.
    noise_std = math.sqrt(max(float(found.noise_variance), 0))
    return {"noise_std": noise_std, "noise_correlation": float(found.correlation)}
