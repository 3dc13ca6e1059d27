"""The index of a batch: one HTML file with a row for each input, which can be sorted. Host side.

::

    rows = [index.read_row("out/a_report.html", "a.tif")]
    rows.append(index.IndexRow("b.tif", None, index.FAILED, "b.tif: no TIFF file"))
    index.write_index(Path("out/index.html"), rows)

Without JavaScript the rows stand in the order in which they came.
"""

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from jaxtyping import ArrayLike, Real, UInt8

from jaxdenoise.report import page, pictures
from jaxdenoise.report.findings import CLASSES, FINE, HEADLINES, MARKS

THUMBNAIL = 96  # pixels of the longer side
_PICTURES = ("before", "after")
_SUMMARY = "summary"
_MARK = f'<script type="application/json" id="{_SUMMARY}">'
FAILED = 3  # sorts behind all verdicts: there is no result
_WORDS = (*HEADLINES, "Failed")
_KINDS = (*CLASSES[: len(HEADLINES)], "stop")
_SIGNS = (*MARKS[: len(HEADLINES)], MARKS[len(HEADLINES) - 1])


class IndexRow(NamedTuple):
    """What the index of a batch says of one input.

    Attributes:
        name: of the input, such as its path below the folder that was given.
        report: the report on it; None where there is none.
        level: `findings.FINE`, `CARE` or `STOP`, the verdict; `FAILED` without a result.
        text: the verdict in one line, or the error.
        seconds: that the file took; None if it was not denoised in this run.
        size: what it holds, such as "40 x 512 x 512".
        before: a thumbnail of it, see `thumbnail`; None: there is none.
        after: one of the result, in the same grey scale.
    """

    name: str
    report: Path | None
    level: int
    text: str
    seconds: float | None = None
    size: str = ""
    before: UInt8[np.ndarray, "h w"] | None = None
    after: UInt8[np.ndarray, "h w"] | None = None


def summary(row: IndexRow) -> str:
    """Return the element of a report from which `read_row` makes its row again.

    A batch that was killed and goes on finds the rows of its first part in the reports.
    """
    told = row._asdict() | {"name": "", "report": None}
    pictured = {name: None if told[name] is None else told[name].tolist() for name in _PICTURES}
    text = json.dumps(told | pictured, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" id="{_SUMMARY}">{text}</script>'


def read_row(report: str | os.PathLike, name: str) -> IndexRow | None:
    """Return the row of a file from its report; None if that holds none.

    Args:
        report: its path.
        name: of the input.

    Raises:
        OSError: the report cannot be read.
    """
    text = Path(report).read_text(encoding="utf-8")
    begin = text.rfind(_MARK)
    end = text.find("</script>", begin)
    if begin < 0 or end < 0:
        return None
    try:
        told = json.loads(text[begin + len(_MARK) : end])
        pictured = {
            key: None if told[key] is None else np.array(told[key], np.uint8) for key in _PICTURES
        }
        return IndexRow(**told | pictured | {"name": name, "report": Path(report)})
    except (ValueError, KeyError, TypeError):  # of another version
        return None


def thumbnail(
    image: Real[ArrayLike, "H W"], limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """Return a small picture of an image: means of squares, at most 96 pixels a side.

    Args:
        image: in grey levels.
        limits: the grey levels that are black and white; None: as of `pictures.grey_range`.
    """
    image = np.asarray(image, np.float64)
    side = max(1, -(-max(image.shape) // THUMBNAIL))
    rows, columns = (max(length // side, 1) for length in image.shape)
    cut = image[: rows * side, : columns * side]
    parts = [min(side, length) for length in cut.shape]
    small = cut.reshape(rows, parts[0], columns, parts[1]).mean(axis=(1, 3))
    return pictures.grey(small, *(limits or pictures.grey_range(small)))


def write_index(path: str | os.PathLike, rows: Sequence[IndexRow]) -> Path:
    """Write the index of a batch and return its path. It replaces an older one.

    Links to the reports are relative to the index, so that the folder may be moved.

    Args:
        path: of the HTML file.
        rows: one an input, in the order in which they are shown first.
    """
    path = Path(path)
    counts = [sum(row.level == level for row in rows) for level in range(len(_WORDS))]
    told = [f"{count} {word.lower()}" for word, count in zip(_WORDS, counts, strict=True) if count]
    seconds = sum(row.seconds or 0 for row in rows)
    files = f"{len(rows)} file{'s' if len(rows) != 1 else ''}"
    facts = " \N{MIDDLE DOT} ".join((files, *told, f"{seconds:,.0f} seconds"))
    html = page.document(f"Batch of {files}", facts, {"Files": _table(path, rows)}, kind="Index")
    return page.write(path, html)


def _table(path, rows):
    heads = "".join(
        f'<th scope="col"{sort}>{head}</th>'
        for head, sort in (
            ("Verdict", ' data-sort="number"'),
            ("File", ' data-sort="text"'),
            ("Before", ""),
            ("After", ""),
            ("Size", ' data-sort="text"'),
            ("Seconds", ' data-sort="number"'),
            ("What was found", ' data-sort="text"'),
        )
    )
    body = "".join(_row(path.parent, row) for row in rows)
    table = f'<table class="index sortable"><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody>'
    return page.section("files", "Files", page.scrolling("Files", f"{table}</table>"))


def _row(folder, row):
    sign = f'<span class="mark" aria-hidden="true">{_SIGNS[row.level]}</span>'
    # The worst first when it is clicked once.
    verdict = f'<td class="{_KINDS[row.level]}" data-value="{-row.level}">{sign} '
    verdict += f"{_WORDS[row.level]}</td>"
    name = escape(row.name)
    if row.report is not None:
        link = quote(Path(os.path.relpath(row.report, folder)).as_posix())
        name = f'<a href="{link}">{name}</a>'
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    pictured = "".join(
        f"<td>{_picture(pixels, f'{row.name} {words}.')}</td>"
        for pixels, words in ((row.before, "before"), (row.after, "after"))
    )
    return (
        f'<tr>{verdict}<th scope="row">{name}</th>{pictured}<td>{escape(row.size)}</td>'
        f'<td data-value="{row.seconds or 0}">{seconds}</td>'
        f"<td>{'' if row.level == FINE else escape(row.text)}</td></tr>\n"
    )


def _picture(pixels, alt):
    return "" if pixels is None else page.image(pixels, alt, kind="thumbnail")
