"""The report of a run as one HTML file, and tables on the terminal. Host side; rich and matplotlib are imported when they are needed."""

from html import escape

import numpy as np

from jaxdenoise.microscope.widths import full_widths
from jaxdenoise.report import diagnostics, evidence, halves, page, provenance, verdict

_MARKS = ("\N{CHECK MARK}", "!", "\N{MULTIPLICATION X}")  # of the verdict's levels
_CLASSES = ("fine", "care", "stop")


def write_html(
    path,
    *,
    title,
    noisy,
    denoised,
    deconvolved,
    denoiser,
    settings,
    sweep=None,
    truth=None,
    commands=None,
    pixel_size_um=None,
):
    """Write the report of a run as one HTML file with its pictures inside. It appears by rename and replaces an older one.

    Args:
        path: of the file; missing parent directories are made.
        title: one line, such as the name of the input.
        noisy: (N, H, W) real, in grey levels, at least 5 x 5 pixels: a handful of the frames that
            were trained on, all of them if they are small (the verdict judges by these whether
            there was enough to learn from).
        denoised: the same shape and unit.
        deconvolved: the same shape and unit.
        denoiser: `denoiser.Denoiser` that made them.
        settings: dict of all that the user set, and of the versions; dicts in it become groups.
        sweep: dict of a sweep over PSFs: "chosen" (a sigma, a file name or "none") and
            "candidates", a list of dicts with "psf", "seed", "score" (masked squared error on
            held-out pixels over the data's variance), "score_se", "psnr" (in dB or None), "seconds"
            and "epochs" (for how long it was trained before it was dropped).
        truth: (H, W) or (N, H, W), the clean image in grey levels, if there is one.
        commands: list of the commands that give this result again.
        pixel_size_um: height and width of a pixel in micrometres, or None, as `info.ImageInfo` says
            it.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: the shapes do not fit, or a pixel is NaN or infinite.
    """
    noisy, denoised, deconvolved = _checked(noisy, denoised, deconvolved)
    psf, background = np.asarray(denoiser.psf), float(denoiser.scale.background)
    found = diagnostics.examine_input(noisy, background=background)
    residual = diagnostics.examine_residual(noisy, denoised)
    agreement = halves.compare_halves(
        noisy, denoised, neighbours=denoiser.config.network.neighbours
    )

    def length(pixels):
        size = (
            f" ({pixels * np.mean(pixel_size_um):.3g} \N{MICRO SIGN}m)"
            if pixel_size_um is not None
            else ""
        )
        return f"{pixels:.2f} pixels{size}"

    sections = {
        "Verdict": _verdict(verdict.judge(found, residual, agreement, denoiser)),
        "Limits": _limits(),
        "Images": evidence.images(noisy, denoised, deconvolved, truth, psf),
        "Residual": evidence.residual(noisy, denoised, residual, found, background),
        "Resolution": evidence.resolution(agreement, length),
        "Truth": evidence.against_truth(noisy, denoised, truth),
        "PSF": provenance.psf(psf, length),
        "Sweep": provenance.sweep(sweep),
        "Training": provenance.training(denoiser.history),
        "Settings": provenance.settings(
            {**settings, "Training, as it was done": denoiser.config.to_dict()}, commands
        ),
    }
    return page.write(
        path,
        page.document(title, _facts(noisy.shape, found, psf, denoiser.history, length), sections),
    )


def _checked(*stacks):
    stacks = [np.asarray(stack, np.float32) for stack in stacks]
    shapes = {stack.shape for stack in stacks}
    if len(shapes) > 1 or stacks[0].ndim != 3 or stacks[0].size == 0:
        raise ValueError(
            f"a report needs stacks (N, H, W) of one shape, got {', '.join(str(stack.shape) for stack in stacks)}"
        )
    if not all(np.isfinite(stack).all() for stack in stacks):
        raise ValueError(
            "a report needs finite pixels: the stacks hold NaN or infinite ones, check the model"
        )
    return stacks


def _facts(shape, found, psf, history, length):
    frames = f"{shape[0]} frame{'s' if shape[0] > 1 else ''} of {shape[1]} x {shape[2]} pixels"
    width = (
        "no PSF"
        if psf.size == 1
        else f"PSF {length(np.mean(full_widths(psf)))} wide at half maximum"
    )
    epochs = f"{len(history['epoch'])} epochs" if history else "training not recorded"
    return " \N{MIDDLE DOT} ".join(
        (frames, f"noise of {found.noise_std:.3g} grey levels", width, epochs)
    )


def _verdict(judgement):
    passed = [finding for finding in judgement.findings if finding.level == verdict.FINE]
    raised = [finding for finding in judgement.findings if finding.level != verdict.FINE]
    asks = "asks" if len(raised) == 1 else "ask"
    count = (
        f"{len(raised)} of {len(judgement.findings)} checks {asks} for attention"
        if raised
        else f"All {len(passed)} checks passed"
    )
    return f"""<section id="verdict" class="{_CLASSES[judgement.level]}">
<p class="kind">Can I trust this result?</p>
<h2>{judgement.headline}</h2>
<p>{count}. They were made on the images themselves, without a clean one.</p>
{_findings(raised)}{_findings(passed, "passed")}</section>
"""


def _findings(findings, kind=""):
    items = "".join(
        f'<li class="{_CLASSES[finding.level]}"><span class="mark" aria-hidden="true">{_MARKS[finding.level]}</span>'
        f"<div><strong>{escape(finding.title)}</strong><p>{escape(finding.text)}</p></div></li>\n"
        for finding in findings
    )
    return f'<ul class="findings {kind}">\n{items}</ul>\n' if items else ""


def _limits():
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>\n"
        for name, text in verdict.LIMITS
    )
    text = page.paragraph(
        "What no check on this page can rule out: you know the microscope and the sample, the program does not."
    )
    return page.section("limits", "What would break it", f'{text}<dl class="limits">\n{items}</dl>')
