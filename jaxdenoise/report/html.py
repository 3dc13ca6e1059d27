"""The report of a run as one HTML file. Host side; matplotlib is imported when it is needed."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Real

from jaxdenoise.microscope.psf import in_plane
from jaxdenoise.microscope.widths import full_widths
from jaxdenoise.report import diagnostics, evidence, halves, limits, page, provenance, verdict
from jaxdenoise.report.findings import (
    CLASSES,
    FINE,
    MARKS,
    NOT_APPLICABLE,
    Finding,
    TrainedModel,
    sentence,
)
from jaxdenoise.report.guard import GuardVerdict
from jaxdenoise.system.errors import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report is about.

    Attributes:
        title: one line, such as the name of the input.
        noisy: (N, H, W) real, in grey levels, at least 5 x 5 pixels: some of the frames that were
            trained on, or all if they are small. The verdict judges by them whether there was
            enough to learn from.
        denoised: the same shape and unit.
        deconvolved: the same shape and unit.
        denoiser: the `denoiser.Denoiser` that made them.
        settings: all that the user set, and the versions. Each dict in it becomes a group.
        sweep: the table of a sweep over PSFs: "chosen" (a sigma, a file name or "none") and
            "candidates", a list of dicts with "psf", "seed", "score" (masked squared error on
            held-out pixels over the data's variance), "score_se", "psnr" (in dB or None), "seconds"
            and "epochs" (of its training until it was complete or dropped).
        truth: the clean image in grey levels, (H, W) or (N, H, W), if there is one.
        commands: the commands that give this result again.
        pixel_size_um: height and width of a pixel in micrometres, if known.
        guard: the verdict of the guard on all frames, if there is one.
        evidence: a line for each choice that was made for the images.
    """

    title: str
    noisy: Real[ArrayLike, "N H W"]
    denoised: Real[ArrayLike, "N H W"]
    deconvolved: Real[ArrayLike, "N H W"]
    denoiser: TrainedModel
    settings: Mapping[str, Any]
    sweep: Mapping[str, Any] | None = None
    truth: Real[ArrayLike, "*frames H W"] | None = None
    commands: Sequence[str] | None = None
    pixel_size_um: Sequence[float] | None = None
    guard: GuardVerdict | None = None
    evidence: Sequence[str] = ()


def write_html(path: str | os.PathLike, content: ReportContent) -> Path:
    """Write the report of a run as one HTML file, pictures included, and return its path.

    It appears by rename and replaces an older one. Missing parent directories are made.

    Raises:
        RequestError: the shapes do not fit, or a pixel is NaN or infinite.
    """
    noisy, denoised, deconvolved = _checked(content.noisy, content.denoised, content.deconvolved)
    denoiser, truth = content.denoiser, content.truth
    psf, background = in_plane(denoiser.psf), float(denoiser.scale.background)
    found = diagnostics.examine_input(noisy, background=background)
    residual = diagnostics.examine_residual(noisy, denoised)
    agreement = halves.compare_halves(
        noisy, denoised, neighbours=denoiser.config.network.neighbours
    )

    def length(pixels):
        side = content.pixel_size_um and np.mean(content.pixel_size_um)
        size = f" ({pixels * side:.3g} \N{MICRO SIGN}m)" if side else ""
        return f"{pixels:.2f} pixels{size}"

    settings = {**content.settings, "Training, with all settings": denoiser.request().to_dict()}
    sections = {
        "Verdict": _verdict(verdict.judge(found, residual, agreement, denoiser, content.guard)),
        **({"Choices": _choices(content.evidence)} if content.evidence else {}),
        "Limits": _limits(),
        "Images": evidence.images_section(noisy, denoised, deconvolved, truth, psf),
        "Residual": evidence.residual_section(noisy, denoised, residual, found, background),
        "Resolution": evidence.resolution_section(agreement, length),
        "Truth": evidence.truth_section(noisy, denoised, truth),
        "PSF": provenance.psf_section(psf, length),
        "Sweep": provenance.sweep_section(content.sweep),
        "Training": provenance.training_section(denoiser.history),
        "Settings": provenance.settings_section(settings, content.commands),
    }
    facts = _facts(noisy.shape, found, psf, denoiser.history, length)
    return page.write(path, page.document(content.title, facts, sections))


def _checked(*given):
    stacks = [np.asarray(stack, np.float32) for stack in given]
    shapes = {stack.shape for stack in stacks}
    if len(shapes) > 1 or stacks[0].ndim != 3 or stacks[0].size == 0:
        found = ", ".join(str(stack.shape) for stack in stacks)
        raise RequestError(f"a report needs stacks (N, H, W) of one shape, got {found}")
    if not all(np.isfinite(stack).all() for stack in stacks):
        raise RequestError(
            "a report needs finite pixels, but some are NaN or infinite: check the model"
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
    passed = [finding for finding in judgement.findings if finding.level == FINE]
    unasked = [finding for finding in judgement.findings if finding.level == NOT_APPLICABLE]
    raised = [finding for finding in judgement.findings if finding.level > FINE]
    needs = "needs" if len(raised) == 1 else "need"
    count = (
        f"{len(raised)} of {len(raised) + len(passed)} checks {needs} attention"
        if raised
        else f"All {len(passed)} checks passed"
    )
    return f"""<section id="verdict" class="{CLASSES[judgement.level]}">
<p class="kind">Can I trust this result?</p>
<h2>{judgement.headline}</h2>
<p>{count}. They use the images themselves, without a clean one.</p>
{_findings(raised)}{_findings(passed, "passed")}{_findings(unasked, "passed")}</section>
"""


def _findings(findings: Sequence[Finding], kind: str = "") -> str:
    items = ""
    for finding in findings:
        mark = f'<span class="mark" aria-hidden="true">{MARKS[finding.level]}</span>'
        text = f"<strong>{escape(finding.title)}</strong><p>{escape(finding.text)}</p>"
        items += f'<li class="{CLASSES[finding.level]}">{mark}<div>{text}</div></li>\n'
    return f'<ul class="findings {kind}">\n{items}</ul>\n' if items else ""


def _choices(evidence):
    text = page.paragraph(
        "The images themselves decided this, each choice by what stands beside it."
    )
    items = "".join(f"<p>{escape(sentence(line))}</p>\n" for line in evidence)
    return page.section("choices", "What was chosen for these images", text + items)


def _limits():
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>\n"
        for name, text in limits.LIMITS
    )
    text = page.paragraph(
        "No check on this page can rule out the following. They depend on the microscope and the "
        "sample, which you know and the program does not."
    )
    return page.section("limits", "What could be wrong", f'{text}<dl class="limits">\n{items}</dl>')
