"""Charts as SVG within the page: sharp at any size, in the page's colours, light or dark. Strings.

Colours are classes of report.css ("blue", "orange", "green", "ink"), which colour-blind readers can
tell apart (Okabe and Ito). A reader who does not see the page is told the chart's `alt`.
"""

import base64
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import ArrayLike, Real, UInt8

from jaxdenoise.report import pictures

_WIDTH, _HEIGHT = 420, 300  # units of the drawing; text of 13 is as large as a caption
_LEFT, _RIGHT, _BOTTOM, _LINE = 66, 12, 44, 18
_CHARACTER = 6.6  # width of one of the text
_TICKS = 5
_SAME = 1e-12


Values: TypeAlias = Sequence[float] | Real[ArrayLike, " n"]


class Series(NamedTuple):
    """What a chart draws.

    Attributes:
        x: (n,) places.
        y: (n,) values; NaN is left out.
        label: in the legend; empty: none.
        colour: "blue", "orange", "green", "ink" or "faint".
        style: "line", "dashed", "dotted", "points", "hollow" (points) or "area" (filled).
        errors: half the length of a bar at each point, or None.
    """

    x: Values
    y: Values
    label: str = ""
    colour: str = "blue"
    style: str = "line"
    errors: Values | None = None


class Axis(NamedTuple):
    """An axis of a chart.

    Attributes:
        label: what is shown, and its unit.
        limits: of the values; None: those of the data, with some room.
        ticks: values with their words; None: round numbers.
        log: whether it is logarithmic.
    """

    label: str
    limits: tuple[float, float] | None = None
    ticks: Sequence[tuple[float, str]] | None = None
    log: bool = False


def line_chart(
    alt: str, x: Axis, y: Axis, series: Sequence[Series], *, lines: Sequence[float] = ()
) -> str:
    """Return a chart of some series.

    Args:
        alt: text that stands for it.
        x: the axis that runs to the right.
        y: the axis that runs up.
        series: what is drawn, the last on top.
        lines: values of y at which a thin line is drawn.
    """
    frame = _Frame(x, y, series)
    drawn = "".join(
        f'<line class="faint" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        for at in map(frame.up, lines)
    )
    drawn += "".join(_drawn(frame, one) for one in series)
    return _svg(alt, frame.axes() + drawn + frame.legend())


def image_chart(
    alt: str,
    x: Axis,
    y: Axis,
    pixels: UInt8[np.ndarray, "H W 3"],
    bar: UInt8[np.ndarray, "colours 3"],
    bar_axis: Axis,
) -> str:
    """Return an image with axes and a bar of its colours.

    Args:
        alt: text that stands for it.
        x: the axis to the right, whose limits are the image's sides.
        y: the axis down, whose limits are the image's lower and upper side.
        pixels: the image.
        bar: the colours from the lowest to the highest value.
        bar_axis: what they mean; its limits are the lowest and the highest value.
    """
    side = _HEIGHT - _BOTTOM - _LINE
    wide = _LEFT + side
    frame = _Frame(x, y, (), right=wide)
    at = f'x="{_LEFT}" y="{_LINE}" width="{side}" height="{side}"'
    drawn = f'<image {at} preserveAspectRatio="none" href="{data(pixels)}"/>'
    colours = np.ascontiguousarray(bar[::-1, None])
    place = f'x="{wide + 24}" y="{_LINE}" width="14" height="{side}"'
    drawn += f'<image {place} preserveAspectRatio="none" href="{data(colours)}"/>'
    low, high = bar_axis.limits or (0.0, 1.0)
    for value in _round_ticks(low, high):
        height = _LINE + side * (high - value) / (high - low)
        drawn += f'<text x="{wide + 44}" y="{height + 4:.1f}">{_number(value)}</text>'
    middle = _LINE + side / 2
    turned = f'transform="rotate(90 {_WIDTH - 10} {middle})"'
    drawn += f'<text class="middle" x="{_WIDTH - 10}" y="{middle}" {turned}>'
    return _svg(alt, frame.axes() + drawn + f"{escape(bar_axis.label)}</text>")


def data(pixels: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"]) -> str:
    """Return a picture as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(pictures.png(pixels)).decode()}"


class _Frame:
    """Where values lie in the drawing."""

    def __init__(self, x, y, series, right=_WIDTH - _RIGHT):
        self.x, self.y, self.right = x, y, right
        self.labels = [one for one in series if one.label]
        self.top = _LINE * (1 + len(self._rows()))
        self.x_limits = x.limits or _limits([one.x for one in series], x.log, room=0.02)
        heights = [one.y for one in series]
        for one in series:
            if one.errors is not None:
                spread = np.nan_to_num(np.asarray(one.errors, float))
                heights += [np.asarray(one.y, float) + sign * spread for sign in (-1, 1)]
        self.y_limits = y.limits or _limits(heights, y.log, room=0.06)

    def across(self, value):
        return _place(value, self.x_limits, self.x.log, _LEFT, self.right)

    def up(self, value):
        return _place(value, self.y_limits, self.y.log, _HEIGHT - _BOTTOM, self.top)

    def axes(self):
        bottom = _HEIGHT - _BOTTOM
        made = f'<path class="axis" d="M{_LEFT} {self.top}V{bottom}H{self.right}"/>'
        for value, words in _ticks(self.x, self.x_limits):
            at = self.across(value)
            made += f'<path class="axis" d="M{at:.1f} {bottom}v4"/>'
            made += f'<text class="middle" x="{at:.1f}" y="{bottom + 18}">{escape(words)}</text>'
        for value, words in _ticks(self.y, self.y_limits):
            at = self.up(value)
            made += f'<path class="axis" d="M{_LEFT} {at:.1f}h-4"/>'
            made += f'<text class="end" x="{_LEFT - 7}" y="{at + 4:.1f}">{escape(words)}</text>'
        middle = (_LEFT + self.right) / 2
        made += f'<text class="middle" x="{middle}" y="{_HEIGHT - 6}">{escape(self.x.label)}</text>'
        middle = (self.top + bottom) / 2
        turned = f'class="middle" x="12" y="{middle}" transform="rotate(-90 12 {middle})"'
        return f"{made}<text {turned}>{escape(self.y.label)}</text>"

    def legend(self):
        made = ""
        for row, several in enumerate(self._rows()):
            at, height = float(_LEFT), _LINE * (row + 1) - 4
            for one in several:
                key = _Key(at, at + 22, height - 4)
                made += _drawn(key, one._replace(x=[0, 1], y=[0, 0], errors=None))
                made += f'<text x="{at + 28:.0f}" y="{height}">{escape(one.label)}</text>'
                at += _wide(one.label)
        return made

    def _rows(self):
        """The labels in rows that fit."""
        rows: list[list[Series]] = []
        left = 0.0
        for one in self.labels:
            if not rows or left + _wide(one.label) > _WIDTH - _LEFT:
                rows.append([])
                left = 0.0
            rows[-1].append(one)
            left += _wide(one.label)
        return rows


class _Key(NamedTuple):
    """The sample of a series in the legend, as a frame."""

    left: float
    right: float
    height: float

    def across(self, value):
        return self.left + value * (self.right - self.left)

    def up(self, value):
        return self.height


def _drawn(frame, one):
    places = np.column_stack([np.asarray(one.x, float), np.asarray(one.y, float)])
    places = places[np.isfinite(places).all(axis=1)]
    points = [(frame.across(x), frame.up(y)) for x, y in places]
    if not points:
        return ""
    made = _bars(frame, one)
    kind = f'class="{one.colour} {one.style}"'
    if one.style in ("points", "hollow"):
        circles = (f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points)
        return made + "".join(circles)
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if one.style == "area":
        ground = frame.up(0.0) + (8 if isinstance(frame, _Key) else 0)
        path = f"{points[0][0]:.1f} {ground:.1f}L{path}L{points[-1][0]:.1f} {ground:.1f}Z"
    return f'{made}<path {kind} d="M{path}"/>'


def _bars(frame, one):
    if one.errors is None:
        return ""
    made = ""
    for x, y, error in zip(one.x, one.y, one.errors, strict=True):
        if np.isfinite(error):
            ends = f"M{frame.across(x):.1f} {frame.up(y - error):.1f}V{frame.up(y + error):.1f}"
            made += f'<path class="{one.colour} line" d="{ends}"/>'
    return made


def _svg(alt, inside):
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg class="chart" {box} role="img" aria-label="{escape(alt)}">{inside}</svg>'


def _wide(label):
    return 44 + _CHARACTER * len(label)


def _limits(values, log, room):
    parts = [np.asarray(one, float).ravel() for one in values]
    every = np.concatenate(parts) if parts else np.zeros(1)
    every = every[np.isfinite(every) & ((every > 0) | (not log))]
    if not every.size:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(every.min()), float(every.max())
    if log:
        return low / 1.3, high * 1.3
    edge = room * (high - low) or 0.5 * abs(high) or 1.0
    return low - edge, high + edge


def _place(value, limits, log, start, end):
    low, high = limits
    if log:
        value, low, high = (math.log10(max(one, 1e-300)) for one in (value, low, high))
    return start + (end - start) * (value - low) / (high - low)


def _ticks(axis, limits):
    if axis.ticks is not None:
        return axis.ticks
    if axis.log:
        decades = range(math.ceil(math.log10(limits[0])), math.floor(math.log10(limits[1])) + 1)
        step = max(1, -(-len(decades) // _TICKS))
        if len(decades) > 1:
            return [(10.0**n, _number(10.0**n)) for n in decades[::step]]
    return [(value, _number(value)) for value in _round_ticks(*limits)]


def _round_ticks(low, high):
    """Round numbers between two, about five."""
    low, high = sorted((low, high))
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough - _SAME)
    first = math.ceil(low / step - _SAME)
    return [n * step for n in range(first, math.floor(high / step + _SAME) + 1)]


def _number(value):
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"
