"""Pictures of results: grey-scale PNGs, charts, and the comparison of several images side by side. Host side; matplotlib is imported late.

A chart is a function that draws on a matplotlib axes in the colours of a `Theme`; `chart` makes a
PNG of it for light and one for dark pages. Figures are made without pyplot: no global state, no
display.
"""

import io
from typing import NamedTuple

import numpy as np

_SIZE, _DPI = (4.2, 3.3), 180  # inches: at 360 pixels on a page the text is as large as a caption
_LARGEST_PSF = 20  # pixels on each side of a PSF's centre that are drawn


class Theme(NamedTuple):
    """Colours of a chart: text, thin lines, and three colours that colour-blind people tell apart (Okabe and Ito's)."""

    ink: str
    faint: str
    blue: str
    orange: str
    green: str


LIGHT = Theme("#33383d", "#b9bfc5", "#0072b2", "#d55e00", "#009e73")
DARK = Theme("#d5d9dd", "#5a6168", "#56b4e9", "#e69f00", "#2fbf96")


def png(pixels):
    """The bytes of a PNG of (H, W) or (H, W, 3) uint8."""
    import imagecodecs

    return imagecodecs.png_encode(np.ascontiguousarray(pixels))


def grey(image, low, high):
    """An image (H, W) as uint8, black at `low` and below, white at `high` and above."""
    return np.rint(
        np.clip((np.asarray(image, np.float64) - low) / max(high - low, 1e-30), 0, 1) * 255
    ).astype(np.uint8)


def diverging(image, limit):
    """An image (H, W) as colours (H, W, 3) uint8: white at 0, purple at -`limit`, orange at `limit`."""
    from matplotlib import colormaps

    return colormaps["PuOr_r"](grey(image, -limit, limit), bytes=True)[..., :3]


def grey_range(image):
    """The grey levels shown as black and white: the 0.5 and 99.8 percentiles, so that single bright pixels do not darken the rest."""
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.8)))
    return (low, high) if high > low else (low, low + 1)


def busiest_window(image, side):
    """(y, x, side) of the square of `side` pixels with the strongest contrast: where there is something to see. `image` is (H, W)."""
    corners = [
        (y, x)
        for y in range(0, image.shape[0] - side + 1, 16)
        for x in range(0, image.shape[1] - side + 1, 16)
    ]
    return (
        *max(
            corners,
            key=lambda corner: image[
                corner[0] : corner[0] + side, corner[1] : corner[1] + side
            ].std(),
        ),
        side,
    )


def save_comparison(path, pictures, *, zoom, captions=None):
    """One picture of several results side by side, each with a zoomed inset below it.

    Args:
        path: of the PNG.
        pictures: dict of name to image (H, W), all shown with the grey scale of the last one.
        zoom: (y, x, side) in pixels of the square that is shown enlarged.
        captions: dict of name to a second line of the title.
    """
    from matplotlib.patches import Rectangle

    low, high = grey_range(list(pictures.values())[-1])
    y, x, side = zoom
    figure = _figure((2.2 * len(pictures), 5))
    axes = figure.subplots(2, len(pictures))
    for column, (name, image) in enumerate(pictures.items()):
        top, bottom = axes[:, column]
        top.imshow(image, cmap="gray", vmin=low, vmax=high)
        top.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, edgecolor="yellow"))
        caption = (captions or {}).get(name)
        top.set_title(f"{name}\n{caption}" if caption else name, fontsize=9)
        bottom.imshow(
            image[y : y + side, x : x + side],
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        for axis in (top, bottom):
            axis.set_axis_off()
    figure.savefig(path, dpi=150)


def chart(draw, *arguments):
    """A chart as two PNGs with transparent ground, for light and for dark pages.

    Args:
        draw: one of the functions below, called as ``draw(axes, theme, *arguments)``.
        arguments: what it draws.

    Returns:
        A pair of bytes.
    """
    return tuple(_chart(draw, theme, arguments) for theme in (LIGHT, DARK))


def losses(axes, theme, history):
    """Training and validation loss by epoch, from a `denoiser.Denoiser`'s history."""
    epoch = history["epoch"]
    axes.plot(
        epoch,
        history["data_loss"],
        color=theme.orange,
        marker=_marker(epoch),
        label="training pixels",
    )
    axes.plot(
        epoch,
        history["validation_loss"],
        color=theme.blue,
        marker=_marker(epoch),
        label="held-out pixels",
    )
    kept = np.flatnonzero(history["chosen"])
    if len(kept):
        place = epoch[kept[-1]], history["validation_loss"][kept[-1]]
        axes.plot(
            *place,
            "o",
            markersize=11,
            markerfacecolor="none",
            color=theme.ink,
            label="weights kept",
        )
    _epochs(axes)
    _label(axes, theme, "epoch", "squared error / variance")


def learning_rates(axes, theme, history):
    """Learning rate by epoch."""
    axes.plot(
        history["epoch"],
        history["learning_rate"],
        color=theme.blue,
        marker=_marker(history["epoch"]),
    )
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.yaxis.get_offset_text().set_color(theme.ink)
    _epochs(axes)
    _label(axes, theme, "epoch", "learning rate")


def psf_image(axes, theme, psf):
    """The PSF (h, w) itself, its centre at 0."""
    psf = psf[
        tuple(slice(max(n // 2 - _LARGEST_PSF, 0), n // 2 + _LARGEST_PSF + 1) for n in psf.shape)
    ]
    bounds = psf.shape[1] / 2, psf.shape[0] / 2
    shown = axes.imshow(
        psf,
        cmap="cividis",
        extent=(-bounds[0], bounds[0], bounds[1], -bounds[1]),
        interpolation="nearest",
    )
    _colour_bar(axes, theme, shown, "share of the light")
    _label(axes, theme, "x in pixels", "y in pixels")


def psf_profile(axes, theme, psf):
    """The PSF (h, w) along y and along x through its centre."""
    for line, colour, style, name in (
        (psf[:, psf.shape[1] // 2], theme.blue, "-", "y"),
        (psf[psf.shape[0] // 2], theme.orange, "--", "x"),
    ):
        place = np.arange(len(line)) - len(line) // 2
        near = abs(place) <= _LARGEST_PSF
        axes.plot(
            place[near],
            line[near],
            style,
            color=colour,
            marker="o",
            markersize=4,
            label=f"along {name}",
        )
    _label(axes, theme, "distance from the centre in pixels", "share of the light")


def histogram(axes, theme, residual):
    """The residual's values (any shape, grey levels), and the normal distribution of the same mean and standard deviation."""
    mean, std = float(residual.mean()), float(residual.std()) or 1.0
    edges = np.linspace(mean - 5 * std, mean + 5 * std, 81)
    counts, _ = np.histogram(residual, edges)
    axes.stairs(
        counts / counts.sum() / (edges[1] - edges[0]),
        edges,
        fill=True,
        color=theme.blue,
        alpha=0.55,
        label="residual",
    )
    normal = np.exp(-0.5 * ((edges - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    axes.plot(edges, normal, color=theme.orange, label="normal distribution")
    axes.set_yticks([])
    _label(axes, theme, "residual in grey levels", "how often")


def correlation_map(axes, theme, correlation):
    """An autocorrelation (17, 17), without its middle, which is 1."""
    reach = len(correlation) // 2
    shown = np.ma.array(correlation)
    shown[reach, reach] = np.ma.masked
    limit = max(0.1, float(abs(shown).filled(0).max()))
    axes.set_facecolor(theme.faint)
    drawn = axes.imshow(
        shown,
        cmap="PuOr_r",
        vmin=-limit,
        vmax=limit,
        extent=(-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5),
    )
    _colour_bar(axes, theme, drawn, "correlation")
    _label(axes, theme, "shift along x in pixels", "shift along y in pixels")


def spectrum(axes, theme, spectrum, limit):
    """A `diagnostics.Spectrum` by the size of the detail, and the `limit` from which it counts as structure."""
    axes.axhline(1, color=theme.faint, linewidth=1)
    axes.plot(
        spectrum.frequency,
        spectrum.power,
        color=theme.blue,
        marker="o",
        markersize=4,
        label="residual",
    )
    axes.axhline(limit, color=theme.orange, linestyle="--", label="limit")
    axes.set_ylim(0, max(1.15 * limit, 1.1 * float(spectrum.power.max())))
    _periods(axes)
    _label(axes, theme, "size of the detail in pixels", "power, white noise = 1")


def levels(axes, theme, levels, expected):
    """A `diagnostics.Levels`, and the noise that the camera would give at these levels (L,), or None."""
    axes.axhline(0, color=theme.faint, linewidth=1)
    axes.plot(
        levels.level, levels.spread, color=theme.blue, marker="o", markersize=4, label="spread"
    )
    if expected is not None:
        axes.plot(
            levels.level, expected, color=theme.green, linestyle="--", label="photon and read noise"
        )
    axes.plot(levels.level, levels.mean, color=theme.orange, marker="s", markersize=4, label="mean")
    _label(axes, theme, "denoised grey level", "residual in grey levels")


def ring_correlation(axes, theme, halves, threshold):
    """A `halves.Halves` with the fixed `threshold` and the half-bit curve."""
    axes.axhline(0, color=theme.faint, linewidth=1)
    axes.plot(
        halves.noisy.frequency, halves.noisy.correlation, color=theme.blue, label="noisy halves"
    )
    axes.plot(
        halves.denoised.frequency,
        halves.denoised.correlation,
        color=theme.orange,
        label="denoised halves",
    )
    axes.axhline(threshold, color=theme.ink, linestyle="--", linewidth=1, label="1/7")
    axes.plot(
        halves.noisy.frequency,
        halves.noisy.half_bit,
        color=theme.green,
        linestyle=":",
        linewidth=1.5,
        label="half-bit",
    )
    axes.set_ylim(-0.15, 1.05)
    _periods(axes)
    _label(axes, theme, "size of the detail in pixels", "correlation")


def sweep_values(axes, theme, sweep, value, error, label):
    """One `value` of a sweep's candidates by their PSF, with the `error` of that name or None; see `html.write_html`."""
    candidates = [row for row in sweep["candidates"] if row.get(value) is not None]
    place, ticks = psf_places(sweep["candidates"])
    longest = max(row["epochs"] for row in sweep["candidates"])
    for row in candidates:
        chosen = str(row["psf"]) == str(sweep["chosen"])
        colour, full = theme.orange if chosen else theme.blue, row["epochs"] == longest
        bars = row.get(error) if error else None
        style = {
            "markerfacecolor": colour if full else "none",
            "markersize": 8 if chosen else 6,
            "capsize": 3,
        }
        axes.errorbar(
            place[str(row["psf"])],
            row[value],
            bars,
            fmt="D" if chosen else "o",
            color=colour,
            **style,
        )
    if ticks:
        axes.set_xticks(
            range(len(ticks)), ticks, rotation=30, ha="right", parse_math=False
        )  # a file's name may hold dollar signs
    axes.plot([], [], "D", color=theme.orange, label="chosen")
    if any(row["epochs"] < longest for row in candidates):
        axes.plot([], [], "o", color=theme.blue, markerfacecolor="none", label="dropped early")
    _label(axes, theme, "PSF" if ticks else "sigma of the PSF in pixels", label)


def psf_places(candidates):
    """Where the candidates' PSFs stand on an axis, by name, and the names as tick labels; none if they stand at their sigma in pixels."""
    names = list(dict.fromkeys(str(row["psf"]) for row in candidates))
    try:
        return {name: 0.0 if name == "none" else float(name) for name in names}, None
    except ValueError:  # measured PSFs have names, not widths
        return {name: place for place, name in enumerate(names)}, [name[-16:] for name in names]


def _chart(draw, theme, arguments):
    figure = _figure(_SIZE)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    draw(axes, theme, *arguments)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, transparent=True)
    return file.getvalue()


def _figure(size):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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
    """Ticks of a frequency axis (cycles per pixel) that say the period, from coarse to fine."""
    periods = (20, 10, 6, 4, 3, 2.5, 2)
    axes.set_xlim(0, 0.5)
    axes.set_xticks([1 / period for period in periods], [f"{period:g}" for period in periods])


def _epochs(axes):
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _marker(epoch):
    return "o" if len(epoch) < 5 else ""
