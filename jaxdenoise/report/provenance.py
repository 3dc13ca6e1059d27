"""The sections of a report that say how a result came about: PSF, sweep, training, settings. Host side."""

import json
from html import escape

import numpy as np

from jaxdenoise.microscope.widths import full_widths, sigma_from_fwhm
from jaxdenoise.report import diagnostics, page, pictures

_STRIPES = 8, 4, 3  # pixels: periods for which the contrast that the PSF leaves is told


def psf(psf, length):
    """The PSF (h, w) in pictures and numbers; `length` is a function of a number of pixels to text."""
    if psf.size == 1:
        text = "No PSF was given: the network was trained as Noise2Void, and the denoised and the deconvolved image are the same."
        return page.section("psf", "Point spread function", page.paragraph(text))
    widths, middle = full_widths(psf), psf[psf.shape[0] // 2, psf.shape[1] // 2]
    contrast = ", ".join(f"{diagnostics.modulation(psf, 1 / period):.1%}" for period in _STRIPES)
    rows = [
        ["Full width at half maximum, y and x", " and ".join(map(length, widths))],
        [
            "As sigma of a Gaussian, y and x",
            " and ".join(f"{sigma_from_fwhm(width):.2f}" for width in widths) + " pixels",
        ],
        ["Light in the central pixel", f"{middle:.1%}"],
        [f"Contrast it leaves to stripes of {', '.join(map(str, _STRIPES))} pixels", contrast],
        ["Size of the kernel", f"{psf.shape[0]} x {psf.shape[1]} pixels"],
    ]
    described = f"{psf.shape[0]} by {psf.shape[1]} pixels, {widths[0]:.2f} by {widths[1]:.2f} pixels wide at half maximum"
    shown = page.chart(f"Picture of the PSF: {described}.", pictures.psf_image, psf)
    profile = page.chart(
        f"Profile of the PSF along y and x: {described}; {middle:.1%} in the middle.",
        pictures.psf_profile,
        psf,
    )
    html = page.paragraph(
        "The result can hold no detail that this blur would not have passed. If it is wrong, so is the result."
    )
    html += page.figures(
        page.figure("The PSF", shown, "How the microscope spreads the light of a point."),
        page.figure("Its profile", profile, "The same along y and x, through its centre."),
    )
    return page.section("psf", "Point spread function", html + page.table(None, rows))


def sweep(sweep):
    """The choice among several PSFs; `sweep` as in `html.write_html`, None if there was none."""
    if sweep is None:
        return page.section(
            "sweep", "Choice of the PSF", page.paragraph("One PSF was used; no others were tried.")
        )
    candidates, name = sweep["candidates"], str(sweep["chosen"])
    chosen = [str(row["psf"]) == name for row in candidates]
    best = min(
        (row["score"] for row, mark in zip(candidates, chosen, strict=True) if mark),
        default=float("nan"),
    )
    alt = f"Score of {len(candidates)} trainings by their PSF. Chosen: {name}, with a score of {best:.4f}."
    caption = (
        "Lower is better. The bars are standard errors; most of them is noise that all share, so differences are more certain than they "
        "look. Of those that were dropped early the last score is shown."
    )
    drawings = [
        page.figure(
            "Score",
            page.chart(alt, pictures.sweep_values, sweep, "score", "score_se", "score"),
            caption,
        )
    ]
    if any(row.get("psnr") is not None for row in candidates):
        alt = f"PSNR against the clean image by PSF. Chosen without it: {name}."
        drawing = page.chart(alt, pictures.sweep_values, sweep, "psnr", None, "PSNR in dB")
        drawings.append(
            page.figure("PSNR", drawing, "Against the clean image, which the choice did not see.")
        )
    html = page.paragraph(
        f"Several PSFs were tried, and {name} was chosen, without a clean image. The score estimates the error of the denoised image plus "
        "the noise's variance, which all candidates share, in units of the data's variance; it was measured on pixels that no training "
        "had as a target, and holds if the noise is white or other frames showed the same scene. It cannot see what the PSF removes: it "
        "says nothing about the deconvolved image."
    )
    heads = ["PSF", "seed", "score", "standard error", "PSNR in dB", "epochs", "seconds"]
    table = page.table(heads, list(_rows(candidates)), numbers=True, chosen=chosen)
    return page.section("sweep", "Choice of the PSF", html + page.figures(*drawings) + table)


def training(history):
    """The curves of a training: `history` of a `denoiser.Denoiser`."""
    if not history:
        return page.section(
            "training", "Training", page.paragraph("The model holds no record of its training.")
        )
    history = {name: np.asarray(values) for name, values in history.items()}
    held_out, kept = history["validation_loss"], np.flatnonzero(history["chosen"])
    weights = (
        f"The weights kept are those of epoch {history['epoch'][kept[-1]]:.0f}."
        if len(kept)
        else "No weights were kept."
    )
    ends = f"The loss on held-out pixels went from {held_out[0]:.4f} to {held_out[-1]:.4f}."
    alt = f"Training curves over {len(held_out)} epochs. {ends} {weights}"
    caption = (
        "Squared error at blind spots, or against other frames of the same scene, in units of the data's variance; at the end "
        f"{history['data_loss'][-1]:.4f} on training and "
        f"{held_out[-1]:.4f} on held-out pixels. It ends at the noise's share, not at 0. {weights}"
    )
    rate = page.chart(
        f"Learning rate by epoch, at most {history['learning_rate'].max():.2g}.",
        pictures.learning_rates,
        history,
    )
    html = page.figures(
        page.figure("Loss", page.chart(alt, pictures.losses, history), caption),
        page.figure(
            "Learning rate",
            rate,
            f"The penalty on negative light ended at {history['positivity_loss'][-1]:.2g}.",
        ),
    )
    return page.section("training", "Training", html)


def settings(settings, commands):
    """All settings, a dict that may hold dicts, and the commands (list of str, or None) that give the result again."""
    rows = "".join(_groups(settings))
    html = page.scrolling("Settings", f'<table class="settings">{rows}</table>')
    if commands:
        html += f"<h3>To get this result again</h3>\n<pre><code>{escape(chr(10).join(map(str, commands)))}</code></pre>"
    return page.section("settings", "Settings", html)


def _rows(candidates):
    for row in candidates:
        numbers = [
            _number(row.get(name), digits)
            for name, digits in (("score", 4), ("score_se", 4), ("psnr", 2))
        ]
        yield [row["psf"], row["seed"], *numbers, row["epochs"], _number(row["seconds"], 0)]


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def _groups(settings, group=""):
    """Rows of a table: the plain values of a dict, then each dict in it as a group of its own."""
    plain = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    if plain:
        head = (
            f'<tr class="group"><th colspan="2" scope="rowgroup">{escape(group)}</th></tr>\n'
            if group
            else ""
        )
        lines = (
            f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(_words(value))}</td></tr>\n'
            for name, value in plain.items()
        )
        yield f"<tbody>{head}{''.join(lines)}</tbody>"
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _groups(value, f"{group}: {name}" if group else str(name))


def _words(value):
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
