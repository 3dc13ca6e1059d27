"""The building blocks of an HTML page that needs no other file. Host side: strings in and out.

Arguments called text are escaped here. Arguments called html must be escaped already.
"""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxdenoise import __version__
from jaxdenoise.report import svg
from jaxdenoise.system import files


def document(
    title: str, facts: str, sections: Mapping[str, str], *, kind: str = "Denoising report"
) -> str:
    """Return the HTML of a whole page.

    Args:
        title: text, one line.
        facts: text below it.
        sections: name in the navigation to html from `section`.
        kind: text, what the page is.
    """
    css, *scripts = (
        Path(__file__).with_name(name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "painter.js", "profile.js", "viewer.js")
    )
    code = "".join(f"<script>\n{script}</script>\n" for script in scripts)
    links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in sections)
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(sections) > 1 else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - {escape(kind.lower())}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<p class="kind">{escape(kind)}</p>
<h1>{escape(title)}</h1>
<p class="facts">{escape(facts)}</p>
{nav}
</header>
<main>
{"".join(sections.values())}</main>
<footer><p>Made by jaxdenoise {escape(__version__)}. This file holds the whole page.</p></footer>
{code}</body>
</html>
"""


def section(name: str, title: str, html: str) -> str:
    """Return a section with a heading (text). Links point to `name`."""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{html}\n</section>\n'


def section_of(name: str, title: str, htmls: Mapping[str, str]) -> str:
    """Return a section with what there is of each channel, or nothing if there is nothing.

    Args:
        name: as of `section`.
        title: as of `section`.
        htmls: name of a channel to html, which may be empty. A single channel needs no heading.
    """
    there = {channel: html for channel, html in htmls.items() if html}
    if not there:
        return ""
    if len(htmls) == 1:
        return section(name, title, next(iter(there.values())))
    parts = (
        f'<div class="channel"><h3>{escape(channel[:1].upper() + channel[1:])}</h3>{html}</div>'
        for channel, html in there.items()
    )
    return section(name, title, "\n".join(parts))


def folded(summary: str, html: str) -> str:
    """Return what is shown when one clicks on its summary (text), and in print."""
    return f"<details><summary>{escape(summary)}</summary>\n{html}</details>\n"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of text. `kind` may be "note"."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(
    heads: Sequence[str] | None,
    rows: Sequence[Sequence[Any]],
    *,
    numbers: bool = False,
    chosen: Sequence[bool] = (),
) -> str:
    """Return a table in a box that scrolls by itself where the page is narrow.

    Args:
        heads: texts above the columns, or None.
        rows: lists of cells, which are shown as text. The first cell is the head of its row.
        numbers: align the cells to the right.
        chosen: which rows stand out, one truth value a row, or empty.
    """
    columns = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads or ())
    head = f"<thead><tr>{columns}</tr></thead>" if heads else ""
    body = ""
    for mark, (first, *cells) in zip(chosen or [False] * len(rows), rows, strict=True):
        kind = ' class="chosen"' if mark else ""
        values = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        body += f'<tr{kind}><th scope="row">{escape(str(first))}</th>{values}</tr>\n'
    aligned = ' class="numbers"' if numbers else ""
    return scrolling("Table", f"<table{aligned}>{head}<tbody>\n{body}</tbody></table>")


def scrolling(label: str, html: str) -> str:
    """Return a box that scrolls sideways by itself, also by keyboard.

    `label` is text for readers who do not see the page.
    """
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
    return f"{box}{html}</div>\n"


def figures(*htmls: str, kind: str = "") -> str:
    """Return figures side by side, as many as fit.

    Args:
        *htmls: the figures.
        kind: "images" fills the width, "beside" gives what follows the first figure more room.
    """
    return f'<div class="figures {kind}">\n{"".join(htmls)}</div>\n'


def figure(title: str, html: str, caption: str, *, pixels: bool = False) -> str:
    """Return a figure with a heading and a caption (text); `pixels` marks images, not charts."""
    kind = ' class="pixels"' if pixels else ""
    heading, below = f"<h3>{escape(title)}</h3>", f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure{kind}>{heading}{html}{below}</figure>\n"


def image(
    pixels: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"], alt: str, *, kind: str = ""
) -> str:
    """Return an image.

    Args:
        pixels: grey (H, W) or coloured (H, W, 3).
        alt: text that stands for it.
        kind: may be "zoom" or "thumbnail".
    """
    height, width = pixels.shape[:2]
    named = f'class="{kind}" ' if kind else ""
    size = f'width="{width}" height="{height}"'
    return f'<img {named}{size} src="{svg.data(pixels)}" alt="{escape(alt)}">'


def write(path: str | os.PathLike, html: str) -> Path:
    """Write a page and return its path.

    It appears by rename and replaces an older one. Missing parent directories are made.
    """
    path = Path(path)
    files.write_text(path, html)
    return path
