"""The page that lists the images of a batch, with a picture of each before and after. Host side."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxdenoise.io import images
from jaxdenoise.report import index, pictures
from jaxdenoise.system.errors import JaxdenoiseError
from jaxdenoise.workflows.results import FAILED, LEVELS, FileRow

_Pictures = tuple[str, UInt8[np.ndarray, "h w"] | None, UInt8[np.ndarray, "h2 w2"] | None]


def write_overview(path: Path, rows: Sequence[FileRow], *, axes: str | None) -> Path:
    """Write the index of a batch: a row a file, those that were skipped among them.

    Args:
        path: of the HTML file.
        rows: what came of each file.
        axes: as of the request.
    """
    return index.write_index(path, [_row(row, axes) for row in rows])


def _row(row, axes):
    if row.status == FAILED:
        error = (row.error or "").removeprefix(f"{row.file}: ")
        return index.IndexRow(row.file, None, index.FAILED, error)
    level = 0 if row.level is None else LEVELS.index(row.level)
    report = Path(row.reports[0]) if row.reports else None
    text = row.verdict or "no frame could be judged"
    size, before, after = _recorded(report) or _pictures(row, axes)
    return index.IndexRow(row.file, report, level, text, row.seconds, size, before, after)


def _recorded(report: Path | None) -> _Pictures | None:
    """What a report says of its file, whose images need not be read again; None: nothing."""
    row = index.read_row(report, "") if report is not None and report.is_file() else None
    return None if row is None or row.before is None else (row.size, row.before, row.after)


def _pictures(row: FileRow, axes: str | None) -> _Pictures:
    """What a file holds, and its middle frame before and after, in one grey scale."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were told when the file was denoised
            noisy = images.open_image(row.file, axes=axes)
            denoised = images.open_image(row.outputs["denoised"], axes=axes)
            middle = len(noisy.frames) // 2, slice(None), slice(None)
            before, after = (np.asarray(file.frames[middle]) for file in (noisy, denoised))
    except JaxdenoiseError:  # it was moved since, or the frame holds NaN
        return "", None, None
    size = " x ".join(map(str, noisy.info.shape))
    limits = pictures.grey_range(after)
    return size, index.thumbnail(before, limits), index.thumbnail(after, limits)
