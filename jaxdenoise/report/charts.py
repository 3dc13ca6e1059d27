"""The charts of a report, each for light and for dark pages. Host side.

A chart is a function ``draw_...`` that draws on matplotlib axes in the colours of a `Theme`;
`chart` makes the PNGs. Matplotlib is imported late.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Real

from jaxdenoise.report.diagnostics import Levels, Spectrum
from jaxdenoise.report.halves import Halves
from jaxdenoise.report.pictures import new_figure

Axes: TypeAlias = Any  # matplotlib.axes.Axes, which is imported late
_SIZE, _DPI = (4.2, 3.3), 180  # inches: at 360 pixels on a page the text is as large as a caption
_LARGEST_PSF = 20  # pixels on each side of a PSF's centre that are drawn


class Theme(NamedTuple):
    """Colours of a chart: text, thin lines, and three that colour-blind readers can tell apart.

    The three are those of Okabe and Ito.
    """

    ink: str
    faint: str
    blue: str
    orange: str
    green: str


LIGHT = Theme("#33383d", "#b9bfc5", "#0072b2", "#d55e00", "#009e73")
DARK = Theme("#d5d9dd", "#5a6168", "#56b4e9", "#e69f00", "#2fbf96")


def chart(draw: Callable[..., None], *arguments: Any) -> tuple[bytes, bytes]:
    """Return a chart as two PNGs with a transparent ground, for light and for dark pages.

    Args:
        draw: one of the functions below, called as ``draw(axes, theme, *arguments)``.
        *arguments: what it draws.
    """
    return _png(draw, LIGHT, arguments), _png(draw, DARK, arguments)


def draw_losses(axes: Axes, theme: Theme, history: Mapping[str, Real[np.ndarray, " E"]]) -> None:
    """Draw training and validation loss by epoch, from the history of a `denoiser.Denoiser`."""
    epoch = history["epoch"]
    for name, colour, label in (
        ("data_loss", theme.orange, "training pixels"),
        ("validation_loss", theme.blue, "held-out pixels"),
    ):
        axes.plot(epoch, history[name], color=colour, marker=_marker(epoch), label=label)
    kept = np.flatnonzero(history["chosen"])
    if len(kept):
        place = epoch[kept[-1]], history["validation_loss"][kept[-1]]
        circle = {"markersize": 11, "markerfacecolor": "none", "color": theme.ink}
        axes.plot(*place, "o", **circle, label="weights kept")
    _whole_epochs(axes)
    _label(axes, theme, "epoch", "squared error / variance")


def draw_learning_rates(
    axes: Axes, theme: Theme, history: Mapping[str, Real[np.ndarray, " E"]]
) -> None:
    """Draw the learning rate by epoch."""
    epoch = history["epoch"]
    axes.plot(epoch, history["learning_rate"], color=theme.blue, marker=_marker(epoch))
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.yaxis.get_offset_text().set_color(theme.ink)
    _whole_epochs(axes)
    _label(axes, theme, "epoch", "learning rate")


def draw_psf(axes: Axes, theme: Theme, psf: Real[np.ndarray, "h w"]) -> None:
    """Draw the PSF as an image, with its centre at 0."""
    shown = psf[
        tuple(slice(max(n // 2 - _LARGEST_PSF, 0), n // 2 + _LARGEST_PSF + 1) for n in psf.shape)
    ]
    y, x = shown.shape[0] / 2, shown.shape[1] / 2
    drawn = axes.imshow(shown, cmap="cividis", extent=(-x, x, y, -y), interpolation="nearest")
    _colour_bar(axes, theme, drawn, "share of the light")
    _label(axes, theme, "x in pixels", "y in pixels")


def draw_psf_profile(axes: Axes, theme: Theme, psf: Real[np.ndarray, "h w"]) -> None:
    """Draw the PSF along y and along x through its centre."""
    for line, colour, style, name in (
        (psf[:, psf.shape[1] // 2], theme.blue, "-", "along y"),
        (psf[psf.shape[0] // 2], theme.orange, "--", "along x"),
    ):
        place = np.arange(len(line)) - len(line) // 2
        near = abs(place) <= _LARGEST_PSF
        axes.plot(
            place[near], line[near], style, color=colour, marker="o", markersize=4, label=name
        )
    _label(axes, theme, "distance from the centre in pixels", "share of the light")


def draw_histogram(axes: Axes, theme: Theme, residual: Real[np.ndarray, "*shape"]) -> None:
    """Draw the residual's values and the normal distribution of the same mean and deviation."""
    mean, std = float(residual.mean()), float(residual.std()) or 1.0
    edges = np.linspace(mean - 5 * std, mean + 5 * std, 81)
    counts, _ = np.histogram(residual, edges)
    density = counts / counts.sum() / (edges[1] - edges[0])
    axes.stairs(density, edges, fill=True, color=theme.blue, alpha=0.55, label="residual")
    normal = np.exp(-0.5 * ((edges - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    axes.plot(edges, normal, color=theme.orange, label="normal distribution")
    axes.set_yticks([])
    _label(axes, theme, "residual in grey levels", "frequency")


def draw_autocorrelation(
    axes: Axes, theme: Theme, correlation: Float[np.ndarray, "lags lags"]
) -> None:
    """Draw an autocorrelation without its middle, which is 1."""
    reach = len(correlation) // 2
    shown = np.ma.array(correlation)
    shown[reach, reach] = np.ma.masked
    limit = max(0.1, float(np.ma.filled(abs(shown), 0).max()))
    edge = reach + 0.5
    axes.set_facecolor(theme.faint)
    drawn = axes.imshow(
        shown, cmap="PuOr_r", vmin=-limit, vmax=limit, extent=(-edge, edge, edge, -edge)
    )
    _colour_bar(axes, theme, drawn, "correlation")
    _label(axes, theme, "shift along x in pixels", "shift along y in pixels")


def draw_spectrum(axes: Axes, theme: Theme, spectrum: Spectrum, limit: float) -> None:
    """Draw a spectrum by the size of the detail, and the `limit` above which it is structure."""
    power = spectrum.power
    axes.axhline(1, color=theme.faint, linewidth=1)
    axes.plot(
        spectrum.frequency, power, color=theme.blue, marker="o", markersize=4, label="residual"
    )
    axes.axhline(limit, color=theme.orange, linestyle="--", label="limit")
    axes.set_ylim(0, max(1.15 * limit, 1.1 * float(power.max())))
    _periods(axes)
    _label(axes, theme, "size of the detail in pixels", "power, white noise = 1")


def draw_levels(
    axes: Axes, theme: Theme, levels: Levels, expected: Float[np.ndarray, " L"] | None
) -> None:
    """Draw the residual by brightness, and the `expected` noise of the camera if it is known."""
    level = levels.level
    axes.axhline(0, color=theme.faint, linewidth=1)
    axes.plot(level, levels.spread, color=theme.blue, marker="o", markersize=4, label="spread")
    if expected is not None:
        axes.plot(level, expected, color=theme.green, linestyle="--", label="photon and read noise")
    axes.plot(level, levels.mean, color=theme.orange, marker="s", markersize=4, label="mean")
    _label(axes, theme, "denoised grey level", "residual in grey levels")


def draw_ring_correlation(axes: Axes, theme: Theme, halves: Halves, threshold: float) -> None:
    """Draw the Fourier ring correlation of both halves, the threshold and the half-bit curve."""
    assert halves.noisy is not None
    assert halves.denoised is not None
    frequency = halves.noisy.frequency
    axes.axhline(0, color=theme.faint, linewidth=1)
    axes.plot(frequency, halves.noisy.correlation, color=theme.blue, label="noisy halves")
    axes.plot(
        halves.denoised.frequency,
        halves.denoised.correlation,
        color=theme.orange,
        label="denoised halves",
    )
    axes.axhline(threshold, color=theme.ink, linestyle="--", linewidth=1, label="1/7")
    curve = {"color": theme.green, "linestyle": ":", "linewidth": 1.5}
    axes.plot(frequency, halves.noisy.half_bit, **curve, label="half-bit")
    axes.set_ylim(-0.15, 1.05)
    _periods(axes)
    _label(axes, theme, "size of the detail in pixels", "correlation")


def draw_candidates(
    axes: Axes,
    theme: Theme,
    sweep: Mapping[str, Any],
    value: str,
    error: str | None,
    label: str,
) -> None:
    """Draw one value of a sweep's candidates by their PSF.

    Args:
        axes: to draw on.
        theme: colours.
        sweep: the table of a sweep, see `html.ReportContent`.
        value: name of the column.
        error: name of the column of its standard errors, or None.
        label: of the axis.
    """
    candidates = [row for row in sweep["candidates"] if row.get(value) is not None]
    place, ticks = psf_places(sweep["candidates"])
    longest = max(row["epochs"] for row in sweep["candidates"])
    for row in candidates:
        chosen = str(row["psf"]) == str(sweep["chosen"])
        colour = theme.orange if chosen else theme.blue
        style = {
            "fmt": "D" if chosen else "o",
            "color": colour,
            "markerfacecolor": colour if row["epochs"] == longest else "none",
            "markersize": 8 if chosen else 6,
            "capsize": 3,
        }
        bars = row.get(error) if error else None
        axes.errorbar(place[str(row["psf"])], row[value], bars, **style)
    if ticks:  # the name of a file may hold dollar signs
        axes.set_xticks(range(len(ticks)), ticks, rotation=30, ha="right", parse_math=False)
    axes.plot([], [], "D", color=theme.orange, label="chosen")
    if any(row["epochs"] < longest for row in candidates):
        axes.plot([], [], "o", color=theme.blue, markerfacecolor="none", label="dropped early")
    _label(axes, theme, "PSF" if ticks else "sigma of the PSF in pixels", label)


def psf_places(
    candidates: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float], list[str] | None]:
    """Return where each candidate's PSF stands on an axis, by name, and the tick labels.

    There are no labels if all PSFs are widths: then each stands at its sigma in pixels.
    """
    names = list(dict.fromkeys(str(row["psf"]) for row in candidates))
    try:
        return {name: 0.0 if name == "none" else float(name) for name in names}, None
    except ValueError:  # measured PSFs have names, not widths
        places = {name: float(place) for place, name in enumerate(names)}
        return places, [name[-16:] for name in names]


def _png(draw, theme, arguments):
    figure = new_figure(_SIZE)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    draw(axes, theme, *arguments)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, transparent=True)
    return file.getvalue()


def _label(axes, theme, x, y):
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)
    axes.tick_params(colors=theme.ink, which="both")
    for side, spine in axes.spines.items():
        spine.set_color(theme.faint)
        spine.set_visible(side in ("left", "bottom"))
    if axes.get_legend_handles_labels()[0]:  # above the axes, where it hides no data
        axes.figure.legend(
            loc="outside upper left", ncols=2, frameon=False, labelcolor=theme.ink, fontsize=9
        )


def _colour_bar(axes, theme, shown, label):
    bar = axes.figure.colorbar(shown, ax=axes)
    bar.set_label(label, color=theme.ink)
    bar.ax.tick_params(colors=theme.ink)
    bar.outline.set_visible(False)


def _periods(axes):
    """Label a frequency axis (cycles per pixel) with periods, from coarse to fine."""
    periods = (20, 10, 6, 4, 3, 2.5, 2)
    axes.set_xlim(0, 0.5)
    axes.set_xticks([1 / period for period in periods], [f"{period:g}" for period in periods])


def _whole_epochs(axes):
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _marker(epoch):
    return "o" if len(epoch) < 5 else ""
