"""The building blocks of a HTML page that needs nothing but its own file: sections, tables, figures. Host side; strings in, strings out.

What is called text is escaped here; what is called html must be already.
"""

import base64
from html import escape
from pathlib import Path

from jaxdenoise import __version__
from jaxdenoise.report import pictures
from jaxdenoise.system import files


def document(title, facts, sections):
    """A whole page.

    Args:
        title: text, one line.
        facts: text below it.
        sections: dict of name in the navigation to html from `section`; an empty name stays out of
            the navigation.
    """
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in sections if name)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - denoising report</title>
<style>
{css}</style>
</head>
<body>
<header>
<p class="kind">Denoising report</p>
<h1>{escape(title)}</h1>
<p class="facts">{escape(facts)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{"".join(sections.values())}</main>
<footer><p>Made by jaxdenoise {escape(__version__)}. Everything on this page is inside this file.</p></footer>
</body>
</html>
"""


def section(name, title, html):
    """A section with a heading (text); `name` is what links point to."""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{html}\n</section>\n'


def paragraph(text, kind=""):
    """A paragraph of text; `kind` may be "note"."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(heads, rows, *, numbers=False, chosen=()):
    """A table in a box that scrolls by itself where the page is narrow.

    Args:
        heads: texts above the columns, or None.
        rows: lists of cells (text, or what becomes it), the first of each being the row's head.
        numbers: align the cells to the right.
        chosen: which rows stand out: one truth value a row, or none.
    """
    head = (
        "<thead><tr>"
        + "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
        + "</tr></thead>"
        if heads
        else ""
    )
    marks = [' class="chosen"' if mark else "" for mark in chosen] or [""] * len(rows)
    kind = ' class="numbers"' if numbers else ""
    body = ""
    for mark, (first, *cells) in zip(marks, rows, strict=True):
        body += (
            f'<tr{mark}><th scope="row">{escape(str(first))}</th>'
            + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
            + "</tr>\n"
        )
    return scrolling("Table", f"<table{kind}>{head}<tbody>\n{body}</tbody></table>")


def scrolling(label, html):
    """A box that scrolls sideways by itself, by keyboard, too; `label` is text for those who do not see it."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{html}</div>\n'


def figures(*htmls, kind=""):
    """Figures side by side, as many as fit; `kind` "images" fills the width, "beside" gives what follows the first more room."""
    return f'<div class="figures {kind}">\n{"".join(htmls)}</div>\n'


def figure(title, html, caption, *, pixels=False):
    """A figure: heading and caption are text; `pixels` says that it shows an image and not a chart."""
    kind = ' class="pixels"' if pixels else ""
    return f"<figure{kind}><h3>{escape(title)}</h3>{html}<figcaption>{escape(caption)}</figcaption></figure>\n"


def image(pixels, alt, *, kind=""):
    """An image of uint8 pixels (H, W) or (H, W, 3); `alt` is the text that stands for it, `kind` may be "zoom"."""
    height, width = pixels.shape[:2]
    named = f'class="{kind}" ' if kind else ""
    return f'<img {named}width="{width}" height="{height}" src="{_data(pictures.png(pixels))}" alt="{escape(alt)}">'


def chart(alt, draw, *arguments):
    """A chart, drawn by ``draw`` of `pictures` for light and for dark pages; `alt` is the text that stands for it."""
    light, dark = map(_data, pictures.chart(draw, *arguments))
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return f'<picture>{source}<img src="{light}" alt="{escape(alt)}"></picture>'


def write(path, html):
    """Write a page, in place of an older one, and return its path. Missing folders are made."""
    path = Path(path)
    files.write_text(path, html)
    return path


def _data(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
