"""Judge whether a result can be trusted: measured numbers in, findings in words out. Host side.

A result that passes is not proven right: see `limits.LIMITS`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxdenoise.microscope.noise_level import CORRELATED
from jaxdenoise.microscope.psf import in_plane
from jaxdenoise.report import image_checks, movie_checks, result_checks
from jaxdenoise.report.content import Origin
from jaxdenoise.report.diagnostics import Input, Residual
from jaxdenoise.report.findings import CARE, FINE, HEADLINES, Finding, TrainedModel, sentence
from jaxdenoise.report.guard import GuardFinding, GuardVerdict
from jaxdenoise.report.halves import Halves
from jaxdenoise.report.transients import LeakTest

_TITLES = {
    "mean": "The mean of a frame changed",
    "peaks": "The brightest pixels are too bright",
    "dimmed peaks": "The brightest pixels are too dim",
    "totals": "The totals of areas changed",
    "structure": "The residual shows structure",
    "sharpening": "Fine detail is too strong",
    "power": "The residual is not like the noise",
    "invention": "The result depends on the network's first weights",
}  # by check of the guard
_UNITS = {
    "mean": "grey levels",
    "peaks": "grey levels",
    "dimmed peaks": "grey levels",
    "totals": "times what the noise gives",
    "sharpening": "of the noise's power",
}  # of what was measured, where the text does not hold it with its limit
TOLD = 3  # frames that are named for each check


class Verdict(NamedTuple):
    """The conclusion of all checks.

    Attributes:
        level: the worst level of the findings.
        headline: of this level, one of `findings.HEADLINES`.
        findings: the worst ones first.
    """

    level: int
    headline: str
    findings: tuple[Finding, ...]


def judge(
    noisy: Input,
    residual: Residual,
    halves: Halves,
    denoiser: TrainedModel,
    guard: GuardVerdict | None = None,
    *,
    leaks: LeakTest | str | None = None,
    origins: Sequence[Origin] = (),
) -> Verdict:
    """Return the findings of all checks that apply, and the verdict that follows.

    Args:
        noisy: what `diagnostics.examine_input` measured.
        residual: what `diagnostics.examine_residual` measured.
        halves: what `halves.compare_halves` measured.
        denoiser: the `denoiser.Denoiser`.
        guard: what the guard found in all frames, if it was asked.
        leaks: what became of known transients, or why that was not tested; None: it was not asked.
        origins: where the settings came from.
    """
    config, trained = denoiser.config, bool(denoiser.history)
    # Blind spots belong to a training; without one, only a stride tells shared noise from signal.
    shared = any(config.blind) if trained else config.network.stride > 1
    independent = image_checks.independent_noise(noisy, config, trained=trained)
    if guard is not None and guard.level == FINE:
        # What correlates may be structure: the residual of no frame holds any.
        independent = independent._replace(level=min(independent.level, CARE))
    findings = [
        independent,
        # Where it was tested what becomes of transients, nothing has to be feared.
        *result_checks.neighbours(0 if isinstance(leaks, LeakTest) else config.network.neighbours),
        *result_checks.repeats(config.targets),
        # The guard judges these in every frame. Where neighbours share their noise, the residual
        # has a structure of its own.
        *([] if shared or guard is not None else [result_checks.structure(residual)]),
        *([] if guard is not None else result_checks.brightness(residual, denoiser.scale)),
        *image_checks.grey_scale(noisy),
        *image_checks.broken(noisy, residual.outliers),
        *image_checks.scan_lines(noisy),
        image_checks.background(noisy, denoiser.scale),
        image_checks.amount(noisy, trained=trained),
        result_checks.training(denoiser.history, config),
        image_checks.like_the_training(noisy, denoiser.scale, trained=trained),
        *of_guard(guard),
        *([] if leaks is None else [movie_checks.transients(leaks)]),
        *assumed(origins),
    ]
    if noisy.noise_correlation <= CORRELATED:  # else the noise's variance is not known
        findings.append(result_checks.noise_left(noisy, residual))
    if halves.noisy is not None:
        findings.append(result_checks.psf_width(halves.noisy, in_plane(denoiser.psf)))
    findings.sort(key=lambda finding: -finding.level)
    return Verdict(findings[0].level, HEADLINES[findings[0].level], tuple(findings))


def assumed(origins: Sequence[Origin]) -> Iterator[Finding]:
    """Yield a finding if the PSF was assumed: nobody gave it, and no data were asked."""
    for origin in origins:
        if origin.what == "PSF" and origin.how == "assumed":
            text = (
                f"Nothing said what it is, so {origin.value} was assumed. If it is wider, the "
                "deconvolved image is too soft, and noise may stay; if it is narrower, fine detail "
                "is lost. Give it, or let it be chosen from the data."
            )
            yield Finding(CARE, "The PSF was assumed", text)


def of_guard(guard: GuardVerdict | None) -> Iterator[Finding]:
    """Yield the findings of the guard: one a check that some frame did not pass."""
    if guard is None:
        return
    for check in dict.fromkeys(finding.check for finding in guard.findings):
        own = [finding for finding in guard.findings if finding.check == check]
        told = "; ".join(f"{one.place}: {one.text}{measured(one)}" for one in own[:TOLD])
        failed = guard.checks[check]["failed"]
        more = f" In all, {failed} of {guard.frames} frames." if failed > 1 else ""
        yield Finding(own[0].level, _TITLES[check], f"{sentence(told)}{more}")
    if guard.level == FINE:
        passed = [check for check, counts in guard.checks.items() if counts["passed"]]
        frames = f"{guard.frames} frame{'s' if guard.frames != 1 else ''}"
        text = f"Tile by tile, {frames}: {', '.join(passed) or 'too small to be checked'}."
        yield Finding(FINE, "All frames passed the guard", text)


def measured(finding: GuardFinding) -> str:
    """Return what the guard measured and its limit, in brackets, or nothing if the text says it."""
    unit = _UNITS.get(finding.check)
    if unit is None:
        return "" if "limit" in finding.text else f" (limit {finding.limit:.3g})"
    return f" ({finding.measured:.3g} {unit}, limit {finding.limit:.3g})"


def in_a_line(verdict: Verdict) -> str:
    """Return a verdict in one line: its headline, and what it goes by."""
    worst = [one for one in verdict.findings if one.level == verdict.level]
    if verdict.level == FINE:
        return verdict.headline.lower()
    more = f" ({len(worst) - 1} more)" if len(worst) > 1 else ""
    title = worst[0].title
    return f"{verdict.headline.lower()}: {title[0].lower()}{title[1:]}{more}"


def worst_of(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Return the verdict on a file: the findings of all channels, those of each by its name.

    What is the same for all of them is told once.

    Args:
        verdicts: name of a channel to the verdict on it.
    """
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    shared = set.intersection(*(set(verdict.findings) for verdict in verdicts.values()))
    findings = [
        one._replace(title=f"{sentence(name)[:-1]}: {one.title}")
        for name, verdict in verdicts.items()
        for one in verdict.findings
        if one not in shared
    ]
    first = next(iter(verdicts.values()))
    told = (one for one in first.findings if one in shared)
    findings += [one._replace(title=f"All channels: {one.title}") for one in told]
    findings.sort(key=lambda finding: -finding.level)
    return Verdict(findings[0].level, HEADLINES[findings[0].level], tuple(findings))
