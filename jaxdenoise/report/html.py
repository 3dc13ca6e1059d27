"""The report on a file as one HTML file. Host side; nothing but this file is needed to read it."""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxdenoise.microscope.psf import in_plane
from jaxdenoise.report import diagnostics, evidence, halves, index, methods, page, provenance
from jaxdenoise.report import viewer as viewer_
from jaxdenoise.report.content import Channel, ReportContent, Shown
from jaxdenoise.report.findings import FINE, sentence
from jaxdenoise.report.guard_measures import Noise
from jaxdenoise.report.limits import limits_section
from jaxdenoise.report.movie_section import movie_section
from jaxdenoise.report.noise_units import noise_by_brightness
from jaxdenoise.report.pictures import grey_range
from jaxdenoise.report.verdict import Verdict, in_a_line, judge, worst_of
from jaxdenoise.report.verdict_section import frames_section, verdict_section
from jaxdenoise.system.errors import RequestError

# Of several channels: colours that stay apart for colour-blind readers. A single one is grey.
_COLOURS = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff8000")
_STILL = 2**18  # pixels of all channels together in pictures that are not the viewer's

_Stack = Float32[np.ndarray, "N H W"]


class _Measured(NamedTuple):
    """A channel and what was measured of it."""

    channel: Channel
    noisy: _Stack
    denoised: _Stack
    deconvolved: _Stack
    noise: Noise
    input: diagnostics.Input
    residual: diagnostics.Residual
    halves: halves.Halves
    verdict: Verdict


def write_html(path: str | os.PathLike, content: ReportContent) -> Verdict:
    """Write the report on a file as one HTML file, pictures included, and return its verdict.

    It appears by rename and replaces an older one. Missing parent directories are made.

    Raises:
        RequestError: there is no channel, shapes do not fit, or a pixel is NaN or infinite.
    """
    if not content.channels:
        raise RequestError("a report needs at least one channel")
    measured = [_measure(channel) for channel in content.channels]
    whole = worst_of({one.channel.name: one.verdict for one in measured})
    html = page.document(
        content.title, _facts(measured, content), _sections(content, measured, whole)
    )
    page.write(path, html)
    return whole


def _measure(channel: Channel) -> _Measured:
    noisy, denoised, deconvolved = _checked(channel.noisy, channel.denoised, channel.deconvolved)
    background = float(channel.denoiser.scale.background)
    found = diagnostics.examine_input(noisy, background=background)
    noise = noise_by_brightness(noisy, denoised, found)
    residual = diagnostics.examine_residual(noisy, denoised)
    network = channel.denoiser.config.network
    agreement = halves.compare_halves(noisy, denoised, neighbours=network.neighbours)
    judgement = judge(
        found,
        residual,
        agreement,
        channel.denoiser,
        channel.guard,
        leaks=channel.leaks,
        origins=channel.origins,
    )
    return _Measured(
        channel, noisy, denoised, deconvolved, noise, found, residual, agreement, judgement
    )


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


def _sections(
    content: ReportContent, measured: Sequence[_Measured], whole: Verdict
) -> dict[str, str]:
    """Name in the navigation to html, of those that have something to show."""
    length = _length(content.pixel_size_um)

    def each(name: str, title: str, section: Callable[[_Measured], str]) -> str:
        return page.section_of(name, title, {one.channel.name: section(one) for one in measured})

    sections = {
        "Verdict": verdict_section(whole),
        "Images": _images(content, measured),
        "Frames": frames_section(content.channels),
        "Movie": each("movie", "In time", lambda one: movie_section(one.channel.traces)),
        "Choices": each("choices", "What was chosen for these images", _choices),
        "Residual": each(
            *("residual", "What was removed"), lambda one: _residual(one, _side(measured))
        ),
        "Resolution": each(
            *("resolution", "Resolution"),
            lambda one: evidence.resolution_section(one.halves, length),
        ),
        "Truth": each("truth", "Against the truth", _truth),
        "PSF": each(
            *("psf", "Point spread function"),
            lambda one: provenance.psf_section(in_plane(one.channel.denoiser.psf), length),
        ),
        "Sweep": each(
            *("sweep", "Choice of the PSF"),
            lambda one: provenance.sweep_section(one.channel.sweep),
        ),
        "Training": each(
            *("training", "Training"),
            lambda one: provenance.training_section(one.channel.denoiser.history),
        ),
        "Limits": limits_section(),
        "Methods": methods.methods_section(content),
        "Settings": _settings(content, measured, whole),
    }
    return {name: html for name, html in sections.items() if html}


def _images(content, measured):
    channels = [_viewed(n, one, len(measured)) for n, one in enumerate(measured)]
    size = content.pixel_size_um and float(np.mean(content.pixel_size_um))
    first = content.channels[0]
    about = {"place": first.place, "pixel_size_um": size or None, "side": _side(measured)}
    html, held = viewer_.viewer(channels, **about)
    return page.section("images", "Before and after", _shown_words(measured[0], held) + html)


def _side(measured):
    """Pixels a side of still pictures: fewer of more channels, so that the page stays small."""
    return math.isqrt(_STILL // len(measured))


def _viewed(number, one, several):
    channel = one.channel
    denoiser, deviation = channel.denoiser, np.sqrt(one.noise.at(one.denoised))
    stacks = {"noisy": one.noisy, "denoised": one.denoised}
    if in_plane(denoiser.psf).size > 1:
        stacks["deconvolved"] = one.deconvolved
    if channel.truth is not None:
        stacks["truth"] = np.broadcast_to(np.asarray(channel.truth, np.float32), one.noisy.shape)
    if channel.random_start is not None:
        stacks["invention"] = (one.denoised - np.asarray(channel.random_start)) / deviation
    if channel.disagreement is not None:
        stacks["disagreement"] = np.asarray(channel.disagreement) / deviation
    levels = channel.guard.levels if channel.guard is not None else {}
    shown = _shown(one)
    frames = [
        viewer_.Frame(
            *shown[n],
            levels.get(shown[n].number, FINE),
            {name: stack[n] for name, stack in stacks.items()},
        )
        for n in range(len(one.noisy))
    ]
    colour = "#ffffff" if several == 1 else _COLOURS[number % len(_COLOURS)]
    return viewer_.ViewedChannel(channel.name, colour, one.input.noise_std, one.noise, frames)


def _shown(one: _Measured) -> Sequence[Shown]:
    given = one.channel.shown
    return given or [Shown(n, f"frame {n + 1}", "") for n in range(len(one.noisy))]


def _shown_words(one, held):
    channel, (count, height, width) = one.channel, one.noisy.shape
    frames = channel.frames or count
    text = "The image is shown"
    if frames > 1:
        text = f"{held} of {_count(channel, frames)} are shown, the worst first"
        if held < count:
            text += f"; {count - held} more would make this page too large"
    if channel.place is not None and channel.place[2:] != (height, width):
        row, column, *whole = channel.place
        text += (
            f"; of {whole[0]} x {whole[1]} pixels, {height} x {width} from row {row} and column "
            f"{column}"
        )
    return page.paragraph(
        f"{text}. Images are kept without loss in steps of at most 1/32 of the noise."
    )


def _choices(one):
    channel = one.channel
    if not (channel.evidence or channel.origins):
        return ""
    items = "".join(page.paragraph(line) for line in map(sentence, channel.evidence))
    return methods.origins_table([channel]) + items


def _residual(one, side):
    background = float(one.channel.denoiser.scale.background)
    return evidence.residual_section(
        one.noisy, one.denoised, one.residual, one.input, background, one.noise, side=side
    )


def _truth(one):
    return evidence.truth_section(one.noisy, one.denoised, one.channel.truth)


def _settings(content, measured, whole):
    own = {
        f"Training, with all settings{f', {one.channel.name}' if one.channel.name else ''}": (
            one.channel.denoiser.request().to_dict()
        )
        for one in measured
    }
    html = provenance.settings_section({**content.settings, **own}, content.commands)
    made = methods.circumstances_table(content.made)
    return page.section(
        "settings", "How it was made", f"{made}{html}{_summary(content, measured, whole)}"
    )


def _summary(content, measured, whole):
    """What an index takes from this page."""
    one, seconds = measured[0], None if content.made is None else content.made.seconds
    limits = grey_range(one.denoised[0])
    text = in_a_line(whole)
    size = " x ".join(map(str, _size(one)))
    size += f", {len(measured)} channels" if len(measured) > 1 else ""
    pictured = (index.thumbnail(stack[0], limits) for stack in (one.noisy, one.denoised))
    row = index.IndexRow(content.title, None, whole.level, text, seconds, size, *pictured)
    return index.summary(row)


def _size(one):
    """Frames, height and width of a channel."""
    frames, *shape = one.noisy.shape
    shape = one.channel.place[2:] if one.channel.place else shape
    return one.channel.frames or frames, *shape


def _length(pixel_size_um):
    def length(pixels):
        side = pixel_size_um and np.mean(pixel_size_um)
        size = f" ({pixels * side:.3g} \N{MICRO SIGN}m)" if side else ""
        return f"{pixels:.2f} pixels{size}"

    return length


def _count(channel, number):
    """So many frames, or planes, in words."""
    noun = "plane" if all(name.startswith("plane") for name in channel.frame_names) else "frame"
    noun = noun if channel.frame_names else "frame"
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _facts(measured, content):
    one = measured[0]
    frames, height, width = _size(one)
    facts = [f"{_count(one.channel, frames)} of {height} x {width} pixels"]
    if len(measured) > 1:
        facts.insert(0, f"{len(measured)} channels")
    if content.pixel_size_um:
        facts.append(f"pixels of {np.mean(content.pixel_size_um):.4g} \N{MICRO SIGN}m")
    return " \N{MIDDLE DOT} ".join(facts)
