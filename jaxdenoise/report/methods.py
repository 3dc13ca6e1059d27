"""The section of a report to write from: methods as text, how to cite, when and from what."""

from collections.abc import Sequence
from html import escape

import numpy as np

from jaxdenoise import __version__
from jaxdenoise.report import page
from jaxdenoise.report.content import Channel, Circumstances, ReportContent

PAPER = (
    "A. S. Goncharova, A. Honigmann, F. Jug and A. Krull, \N{LEFT DOUBLE QUOTATION MARK}Improving "
    "Blind Spot Denoising for Microscopy\N{RIGHT DOUBLE QUOTATION MARK}, ECCV 2020 Workshops, "
    "arXiv:2008.08414."
)
SOFTWARE = f"The jaxdenoise developers, jaxdenoise {__version__}, BSD-3-Clause."
_HOW = {
    "given": "given",
    "assumed": "assumed",
    "found": "found in the images",
    "file": "said by the file",
    "network": "of the network",
    "not used": "not used",
}


def methods_section(content: ReportContent) -> str:
    """Return the text for a methods section with a button that copies it, and what to cite."""
    text = methods_text(content)
    copied = (
        f'<p id="methods-text">{escape(text)}</p>\n'
        '<p><button type="button" data-copy="methods-text" hidden>Copy as methods text</button></p>'
    )
    cite = f'<h3>How to cite</h3><p id="cite-text">{escape(PAPER)}<br>{escape(SOFTWARE)}</p>'
    cite += '<p><button type="button" data-copy="cite-text" hidden>Copy citations</button></p>'
    return page.section("methods", "To write about it", copied + cite)


def methods_text(content: ReportContent) -> str:
    """Return how the images were denoised, in sentences for a methods section."""
    first = content.channels[0]
    config = first.denoiser.config
    learned = (
        "a U-Net that was trained on these images"
        if first.denoiser.history
        else "a pretrained U-Net"
    )
    sentences = [f"Images were denoised with jaxdenoise {__version__} ({learned})."]
    sentences += [_channel(one, len(content.channels) > 1) for one in content.channels]
    if first.denoiser.history:
        epochs = np.size(first.denoiser.history["epoch"])
        how = "other frames of the same scene" if config.targets == "repeats" else "blind spots"
        sentences.append(f"The network learned from {how} for {epochs} epochs.")
    return " ".join(sentences)


def _channel(channel, several):
    told = [
        f"{one.what} {one.value} ({_HOW[one.how]})"
        for one in channel.origins
        if one.how != "not used"
    ]
    name = f"{channel.name.capitalize()}: " if several else "Settings: "
    return f"{name}{', '.join(told)}." if told else ""


def origins_table(channels: Sequence[Channel]) -> str:
    """Return a table of what was given, assumed or found for some channels."""
    rows = [
        [origin.what, origin.value, _HOW[origin.how]]
        for channel in channels
        for origin in channel.origins
    ]
    return page.table(["", "Value", "Where it came from"], rows) if rows else ""


def circumstances_table(made: Circumstances | None) -> str:
    """Return when and from what the result was made."""
    if made is None:
        return ""
    rows = [["Date", made.date]]
    if made.seconds is not None:
        rows.append(["Duration", f"{made.seconds:,.1f} seconds"])
    rows += [[f"SHA-256 of {name}", digits] for name, digits in made.checksums.items()]
    versions = ", ".join(f"{name} {_words(value)}" for name, value in made.versions.items())
    if versions:
        rows.append(["Versions", versions])
    return page.table(None, rows)


def _words(value):
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
