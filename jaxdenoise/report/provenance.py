"""The sections of a report about how a result was made: PSF, sweep, training. Host side."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxdenoise.microscope.widths import full_widths
from jaxdenoise.report import charts, diagnostics, page

_STRIPES = 8, 4, 3  # pixels: periods of the stripes whose contrast after the PSF is told


def psf_section(psf: Float[np.ndarray, "h w"], length: Callable[[float], str]) -> str:
    """Return the PSF in pictures and numbers, nothing if there is none.

    Args:
        psf: (h, w).
        length: puts a number of pixels into words.
    """
    if psf.size == 1:
        return ""
    widths, middle = full_widths(psf), psf[psf.shape[0] // 2, psf.shape[1] // 2]
    contrast = ", ".join(f"{diagnostics.modulation(psf, 1 / period):.1%}" for period in _STRIPES)
    size = f"{psf.shape[0]} x {psf.shape[1]} pixels"
    rows = [
        ["Full width at half maximum, y and x", " and ".join(map(length, widths))],
        ["Light in the central pixel", f"{middle:.1%}"],
        [f"Contrast that stripes of {', '.join(map(str, _STRIPES))} pixels keep", contrast],
        ["Size of the kernel", size],
    ]
    described = f"{size}, {widths[0]:.2f} by {widths[1]:.2f} pixels wide at half maximum"
    image = charts.psf_image(f"Picture of the PSF: {described}.", psf)
    alt = f"Profile of the PSF along y and x: {described}; {middle:.1%} in the middle."
    profile = charts.psf_profile(alt, psf)
    html = page.paragraph(
        "The result can hold no detail finer than this blur lets pass. If the PSF is wrong, so is "
        "the result."
    )
    html += page.figures(
        page.figure("The PSF", image, "How the microscope spreads the light of a point."),
        page.figure("Its profile", profile, "The same along y and x, through its centre."),
    )
    return html + page.table(None, rows)


def sweep_section(sweep: Mapping[str, Any] | None) -> str:
    """Return the choice among several PSFs, if there was one; `sweep` as in `content.Channel`."""
    if sweep is None:
        return ""
    candidates, name = sweep["candidates"], str(sweep["chosen"])
    chosen = [str(row["psf"]) == name for row in candidates]
    best = min(
        (row["score"] for row, mark in zip(candidates, chosen, strict=True) if mark),
        default=float("nan"),
    )
    alt = (
        f"Score of {len(candidates)} trainings by their PSF. Chosen: {name}, with a score of "
        f"{best:.4f}."
    )
    bars = (
        "The bars are standard errors. Most of this noise is common to all candidates, so their "
        "differences are more certain than the bars suggest."
        if any(row.get("score_se") is not None for row in candidates)
        else "A single patch was scored, so the standard errors are not known."
    )
    caption = (
        f"Lower is better. {bars} For candidates that were dropped early, the last score is shown."
    )
    score = charts.candidates(alt, sweep, "score", "score_se", "score")
    drawings = [page.figure("Score", score, caption)]
    if any(row.get("psnr") is not None for row in candidates):
        alt = f"PSNR against the clean image by PSF. Chosen without it: {name}."
        psnr = charts.candidates(alt, sweep, "psnr", None, "PSNR in dB")
        caption = "Against the clean image, which was not used for the choice."
        drawings.append(page.figure("PSNR", psnr, caption))
    html = page.paragraph(
        f"Several PSFs were tried, and {name} was chosen, without a clean image. The score "
        "estimates the error of the denoised image plus the noise's variance, which is the same "
        "for all candidates, in units of the data's variance. It was measured on pixels that were "
        "never the target of a training. It is valid if the noise is white, or if other frames "
        "showed the same scene. It is blind to what the PSF removes, so it says nothing about the "
        "deconvolved image."
    )
    heads = ["PSF", "seed", "score", "standard error", "PSNR in dB", "epochs", "seconds"]
    table = page.table(heads, list(_rows(candidates)), numbers=True, chosen=chosen)
    return html + page.figures(*drawings) + table


def training_section(history: Mapping[str, ArrayLike]) -> str:
    """Return the curves of a training, nothing without one; `history` as in `denoiser.Denoiser`."""
    if not history:
        return ""
    columns = {name: np.asarray(values) for name, values in history.items()}
    losses, kept = columns["validation_loss"], np.flatnonzero(columns["chosen"])
    weights = (
        f"The weights of epoch {columns['epoch'][kept[-1]]:.0f} were kept."
        if len(kept)
        else "No weights were kept."
    )
    alt = (
        f"Training curves over {len(losses)} epochs. The loss on held-out pixels went from "
        f"{losses[0]:.4f} to {losses[-1]:.4f}. {weights}"
    )
    caption = (
        "Squared error at blind spots, or against other frames of the same scene, in units of the "
        f"data's variance. At the end it was {columns['data_loss'][-1]:.4f} on training pixels and "
        f"{losses[-1]:.4f} on held-out pixels. It approaches the share of noise, not 0. {weights}"
    )
    loss = charts.losses(alt, columns)
    alt = f"Learning rate by epoch, at most {columns['learning_rate'].max():.2g}."
    rate = charts.learning_rates(alt, columns)
    penalty = f"The penalty on negative light ended at {columns['positivity_loss'][-1]:.2g}."
    return page.figures(
        page.figure("Loss", loss, caption), page.figure("Learning rate", rate, penalty)
    )


def settings_section(settings: Mapping[str, Any], commands: Sequence[str] | None) -> str:
    """Return all settings, a dict that may hold dicts, and the commands that repeat the run."""
    rows = "".join(_groups(settings))
    html = ""
    if commands:
        lines = escape("\n".join(map(str, commands)))
        html = f"<h3>To get this result again</h3>\n<pre><code>{lines}</code></pre>"
    table = page.scrolling("Settings", f'<table class="settings">{rows}</table>')
    return html + page.folded("All settings", table)


def _rows(candidates):
    for row in candidates:
        numbers = [
            _number(row.get(name), digits)
            for name, digits in (("score", 4), ("score_se", 4), ("psnr", 2))
        ]
        yield [row["psf"], row["seed"], *numbers, row["epochs"], _number(row["seconds"], 0)]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def _groups(settings: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Yield the rows of a table: the plain values of a dict, then each dict in it as a group."""
    plain = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    if plain:
        head = f'<th colspan="2" scope="rowgroup">{escape(group)}</th>'
        body = f'<tr class="group">{head}</tr>\n' if group else ""
        for name, value in plain.items():
            cells = f'<th scope="row">{escape(str(name))}</th><td>{escape(_words(value))}</td>'
            body += f"<tr>{cells}</tr>\n"
        yield f"<tbody>{body}</tbody>"
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _groups(value, f"{group}: {name}" if group else str(name))


def _words(value):
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
