"""The charts of a report: what is drawn of which measurements. Host side.

Each function returns the HTML of a chart (`svg`); `alt` is the text that stands for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from jaxdenoise.report import pictures
from jaxdenoise.report.diagnostics import Levels, Spectrum
from jaxdenoise.report.halves import Halves
from jaxdenoise.report.svg import Axis, Series, image_chart, line_chart
from jaxdenoise.report.traces import Spectra, Traces

_LARGEST_PSF = 20  # pixels on each side of a PSF's centre that are drawn
_COLOURS = 64  # of a bar


def losses(alt: str, history: Mapping[str, Real[np.ndarray, " E"]]) -> str:
    """Draw training and validation loss by epoch, from the history of a `denoiser.Denoiser`."""
    epoch = history["epoch"]
    style = "line" if len(epoch) > 1 else "points"
    series = [
        Series(epoch, history["data_loss"], "training pixels", "orange", style),
        Series(epoch, history["validation_loss"], "held-out pixels", "blue", style),
    ]
    kept = np.flatnonzero(history["chosen"])[-1:]
    if len(kept):
        place = epoch[kept], history["validation_loss"][kept]
        series.append(Series(*place, "weights kept", "ink", "hollow"))
    return line_chart(alt, Axis("epoch"), Axis("squared error / variance"), series)


def learning_rates(alt: str, history: Mapping[str, Real[np.ndarray, " E"]]) -> str:
    """Draw the learning rate by epoch."""
    epoch, rate = history["epoch"], history["learning_rate"]
    limits = 0.0, float(1.06 * np.max(rate)) or 1.0
    style = "line" if len(epoch) > 1 else "points"
    series = [Series(epoch, rate, style=style)]
    return line_chart(alt, Axis("epoch"), Axis("learning rate", limits), series)


def psf_image(alt: str, psf: Real[np.ndarray, "h w"]) -> str:
    """Draw the PSF as an image, with its centre at 0."""
    shown = psf[
        tuple(slice(max(n // 2 - _LARGEST_PSF, 0), n // 2 + _LARGEST_PSF + 1) for n in psf.shape)
    ]
    y, x = shown.shape[0] / 2, shown.shape[1] / 2
    top = float(shown.max()) or 1.0
    return image_chart(
        alt,
        Axis("x in pixels", (-x, x)),
        Axis("y in pixels", (y, -y)),
        pictures.light(np.asarray(shown, float), 0.0, top),
        pictures.light(np.linspace(0, 1, _COLOURS)[None], 0.0, 1.0)[0],
        Axis("share of the light", (0.0, top)),
    )


def psf_profile(alt: str, psf: Real[np.ndarray, "h w"]) -> str:
    """Draw the PSF along y and along x through its centre."""
    series = []
    for line, colour, style, name in (
        (psf[:, psf.shape[1] // 2], "blue", "line", "along y"),
        (psf[psf.shape[0] // 2], "orange", "dashed", "along x"),
    ):
        place = np.arange(len(line)) - len(line) // 2
        near = abs(place) <= _LARGEST_PSF
        series.append(Series(place[near], line[near], name, colour, style))
    axes = Axis("distance from the centre in pixels"), Axis("share of the light")
    return line_chart(alt, *axes, series)


def histogram(alt: str, residual: Real[np.ndarray, "*shape"]) -> str:
    """Draw the residual's values and the normal distribution of the same mean and deviation."""
    mean, std = float(residual.mean()), float(residual.std()) or 1.0
    edges = np.linspace(mean - 5 * std, mean + 5 * std, 81)
    counts, _ = np.histogram(residual, edges)
    density = counts / max(counts.sum(), 1) / (edges[1] - edges[0])
    normal = np.exp(-0.5 * ((edges - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    middle = (edges[1:] + edges[:-1]) / 2
    series = [
        Series(middle, density, "residual", "blue", "area"),
        Series(edges, normal, "normal distribution", "orange"),
    ]
    top = 0.0, float(1.06 * max(density.max(), normal.max()))
    return line_chart(
        alt, Axis("residual in grey levels"), Axis("frequency", top, ticks=()), series
    )


def autocorrelation(alt: str, correlation: Float[np.ndarray, "lags lags"]) -> str:
    """Draw an autocorrelation without its middle, which is 1."""
    reach = len(correlation) // 2
    shown = np.array(correlation)
    shown[reach, reach] = 0
    limit = max(0.1, float(abs(shown).max()))
    pixels = pictures.diverging(shown, limit)
    pixels[reach, reach] = 128
    edge = reach + 0.5
    return image_chart(
        alt,
        Axis("shift along x in pixels", (-edge, edge)),
        Axis("shift along y in pixels", (edge, -edge)),
        pixels,
        pictures.diverging(np.linspace(-1, 1, _COLOURS)[None], 1.0)[0],
        Axis("correlation", (-limit, limit)),
    )


def spectrum(alt: str, found: Spectrum, limit: float) -> str:
    """Draw a spectrum by the size of the detail, and the `limit` above which it is structure."""
    top = max(1.15 * limit, 1.1 * float(found.power.max()))
    series = [
        Series(found.frequency, found.power, "residual"),
        Series([0, 0.5], [limit, limit], "limit", "orange", "dashed"),
    ]
    y = Axis("power, white noise = 1", (0.0, top))
    return line_chart(alt, _periods(), y, series, lines=[1.0])


def levels(alt: str, found: Levels, expected: Float[np.ndarray, " L"] | None) -> str:
    """Draw the residual by brightness, and the `expected` noise of the camera if it is known."""
    series = [Series(found.level, found.spread, "spread")]
    if expected is not None:
        label = "photon and read noise"
        series.append(Series(found.level, expected, label, "green", "dashed"))
    series.append(Series(found.level, found.mean, "mean", "orange"))
    x, y = Axis("denoised grey level"), Axis("residual in grey levels")
    return line_chart(alt, x, y, series, lines=[0.0])


def ring_correlation(alt: str, halves: Halves, threshold: float) -> str:
    """Draw the Fourier ring correlation of both halves, the threshold and the half-bit curve."""
    assert halves.noisy is not None
    assert halves.denoised is not None
    frequency = halves.noisy.frequency
    series = [
        Series(frequency, halves.noisy.correlation, "noisy halves"),
        Series(halves.denoised.frequency, halves.denoised.correlation, "denoised halves", "orange"),
        Series([0, 0.5], [threshold, threshold], "1/7", "ink", "dashed"),
        Series(frequency, np.minimum(halves.noisy.half_bit, 1.05), "half-bit", "green", "dotted"),
    ]
    return line_chart(alt, _periods(), Axis("correlation", (-0.15, 1.05)), series, lines=[0.0])


def trace(alt: str, found: Traces, place: int) -> str:
    """Draw the course of one place of a movie, before and after."""
    seconds = found.interval or 1.0
    time = (found.first + np.arange(found.noisy.shape[1])) * seconds
    x = Axis("time in seconds") if found.interval else Axis("frame")
    time = time if found.interval else time + 1
    series = [
        Series(time, found.noisy[place], "noisy", "faint"),
        Series(time, found.denoised[place], "denoised", "blue"),
    ]
    return line_chart(alt, x, Axis("mean in grey levels"), series)


def trace_spectra(alt: str, found: Spectra, *, hertz: bool) -> str:
    """Draw the spectra of traces before and after."""
    x = Axis("frequency in hertz" if hertz else "frequency in cycles a frame")
    series = [
        Series(found.frequency, found.noisy, "noisy", "faint"),
        Series(found.frequency, found.denoised, "denoised", "blue"),
    ]
    return line_chart(alt, x, Axis("power density", log=True), series)


def candidates(
    alt: str, sweep: Mapping[str, Any], value: str, error: str | None, label: str
) -> str:
    """Draw one value of a sweep's candidates by their PSF.

    Args:
        alt: text that stands for it.
        sweep: the table of a sweep, see `content.Channel`.
        value: name of the column.
        error: name of the column of its standard errors, or None.
        label: of the axis.
    """
    rows = [row for row in sweep["candidates"] if row.get(value) is not None]
    place, ticks = psf_places(sweep["candidates"])
    longest = max(row["epochs"] for row in sweep["candidates"])
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        chosen = str(row["psf"]) == str(sweep["chosen"])
        style = "points" if row["epochs"] == longest else "hollow"
        words = "chosen" if chosen else "trained to the end"
        words = words if style == "points" else "dropped early"
        groups.setdefault((words, "orange" if chosen else "blue", style), []).append(row)
    series = [
        Series(
            [place[str(row["psf"])] for row in own],
            [row[value] for row in own],
            *kind,
            errors=[row.get(error) or np.nan for row in own] if error else None,
        )
        for kind, own in groups.items()
    ]
    x = Axis("sigma of the PSF in pixels")
    if ticks:
        x = Axis("PSF", (-0.5, len(ticks) - 0.5), [(float(n), t) for n, t in enumerate(ticks)])
    return line_chart(alt, x, Axis(label), series)


def psf_places(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float], list[str] | None]:
    """Return where each candidate's PSF stands on an axis, by name, and the tick labels.

    There are no labels if all PSFs are widths: then each stands at its sigma in pixels.
    """
    names = list(dict.fromkeys(str(row["psf"]) for row in rows))
    try:
        return {name: 0.0 if name == "none" else float(name) for name in names}, None
    except ValueError:  # measured PSFs have names, not widths
        places = {name: float(place) for place, name in enumerate(names)}
        return places, [name[-16:] for name in names]


def _periods():
    """A frequency axis (cycles per pixel) with periods, from coarse to fine."""
    periods = (20, 10, 6, 4, 3, 2.5, 2)
    ticks = [(1 / period, f"{period:g}") for period in periods]
    return Axis("size of the detail in pixels", (0.0, 0.5), ticks)
