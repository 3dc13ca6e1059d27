"""Judge whether a result can be trusted: measured numbers in, findings in words out. Host side.

A result that passes is not proven right: see `limits.LIMITS`.
"""

from typing import NamedTuple

from jaxdenoise.microscope.noise_estimation import CORRELATED
from jaxdenoise.report import image_checks, result_checks
from jaxdenoise.report.diagnostics import Input, Residual
from jaxdenoise.report.findings import Finding, TrainedModel
from jaxdenoise.report.halves import Halves

HEADLINES = ("No problems found", "Use with care", "Do not rely on it")  # by level


class Verdict(NamedTuple):
    """The conclusion of all checks.

    Attributes:
        level: the worst level of the findings.
        headline: of this level, one of `HEADLINES`.
        findings: the worst ones first.
    """

    level: int
    headline: str
    findings: tuple[Finding, ...]


def judge(noisy: Input, residual: Residual, halves: Halves, denoiser: TrainedModel) -> Verdict:
    """Return the findings of all checks that apply, and the verdict that follows.

    Args:
        noisy: what `diagnostics.examine_input` measured.
        residual: what `diagnostics.examine_residual` measured.
        halves: what `halves.compare_halves` measured.
        denoiser: the `denoiser.Denoiser`.
    """
    config = denoiser.config
    findings = [
        image_checks.independent_noise(noisy, config),
        *result_checks.neighbours(config.network.neighbours),
        *result_checks.repeats(config.targets),
        # Where neighbours share their noise, the residual has a structure of its own.
        *([] if any(config.blind) else [result_checks.structure(residual)]),
        *result_checks.brightness(residual, denoiser.scale),
        *image_checks.grey_scale(noisy),
        *image_checks.broken(noisy, residual.outliers),
        image_checks.background(noisy, denoiser.scale),
        image_checks.amount(noisy),
        result_checks.training(denoiser.history, config),
        image_checks.like_the_training(noisy, denoiser.scale),
    ]
    if noisy.noise_correlation <= CORRELATED:  # else the noise's variance is not known
        findings.append(result_checks.noise_left(noisy, residual))
    if halves.noisy is not None:
        findings.append(result_checks.psf_width(halves.noisy, denoiser.psf))
    findings.sort(key=lambda finding: -finding.level)
    return Verdict(findings[0].level, HEADLINES[findings[0].level], tuple(findings))
