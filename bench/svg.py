"""Charts as SVG, by hand: a dozen curves do not need a plotting library and its arrays.

Both axes of lines are logarithmic, since concurrency and cost both span decades; what is not above
zero has no place on them and is left out, except on the x axis, where nothing at all stands at one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from bench.figures import Figures
from bench.scenarios import Plot, Scenario

__all__ = ["bars", "chart", "plot"]

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 40, 50
_BARS = 130
_OURS = "swproxy"
_COLOURS = {
    "direct": "#999999",
    _OURS: "#d1495b",
    "plain": "#b08968",
    "nginx": "#2f9e44",
    "haproxy": "#30638e",
    "envoy": "#8e44ad",
    "go": "#00a3bf",
    "caddy": "#e09f3e",
}
_OTHERS = ("#555555", "#5c4d7d", "#7f5539", "#386641")

Point = tuple[float, float, float, float]  # x, middle, low, high


def plot(scenario: Scenario, plot: Plot, figures: Figures) -> str | None:
    """Return the chart of a plot, None when fewer than two points were measured."""
    lines: dict[str, list[Point]] = {}
    for figure in figures.of(scenario.name):
        fixed = {name: value for name, value in figure.labels.items() if name != plot.over}
        if figure.metric.key == plot.metric.key and fixed == dict(plot.fixed):
            where = float(figure.labels[plot.over])
            lines.setdefault(figure.subject, []).append(
                (max(where, 1.0), figure.median, *figure.spread)
            )
    lines = {
        subject: sorted(point for point in points if point[1] > 0)
        for subject, points in lines.items()
    }
    if max(map(len, lines.values()), default=0) < 2:
        return None
    which = ", ".join(str(value) for value in plot.fixed.values())
    return chart(
        f"{scenario.title}: {plot.metric.title} ({which})",
        plot.over,
        f"{plot.metric.title} [{plot.metric.unit}]",
        lines,
    )


def chart(title: str, x_title: str, y_title: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return an SVG document of the lines, with the spread of each point as a bar."""
    points = [point for line in lines.values() for point in line]
    x_axis = _Axis([point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis(
        [value for point in points for value in point[1:] if value > 0], _HEIGHT - _BOTTOM, _TOP
    )
    parts = [
        *_open(_HEIGHT),
        _text(_LEFT, 22, title, "start", 'font-weight="bold"'),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, x_title, "middle"),
        (
            f'<g transform="translate(16 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)">'
            f"{_text(0, 0, y_title, 'middle')}</g>"
        ),
    ]
    for value in sorted({point[0] for point in points}):
        place = x_axis.place(value)
        parts += [
            _line(place, _TOP, place, _HEIGHT - _BOTTOM, "#eeeeee"),
            _text(place, _HEIGHT - _BOTTOM + 16, f"{value:,.10g}", "middle"),
        ]
    for value in y_axis.ticks():
        place = y_axis.place(value)
        parts += [
            _line(_LEFT, place, _WIDTH - _RIGHT, place, "#eeeeee"),
            _text(_LEFT - 6, place + 4, f"{value:,.10g}", "end"),
        ]
    for index, (name, line) in enumerate(lines.items()):
        colour = _COLOURS.get(name) or _OTHERS[index % len(_OTHERS)]
        parts += _curve(line, x_axis, y_axis, colour, 3 if name == _OURS else 1.5)
        legend = _TOP + 18 * index + 8
        parts += [
            _line(_WIDTH - _RIGHT + 14, legend, _WIDTH - _RIGHT + 34, legend, colour, 2),
            _text(_WIDTH - _RIGHT + 40, legend + 4, name, "start"),
        ]
    return "\n".join([*parts, "</svg>", ""])


def bars(
    title: str, unit: str, groups: Mapping[str, Mapping[str, float]], colours: Sequence[str]
) -> str:
    """Return an SVG document of bars: for each name one of each kind, from nothing upwards."""
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    longest = max(value for group in groups.values() for value in group.values())
    step = 14 * len(kinds) + 10
    height = _TOP + step * len(groups) + 34
    parts = [*_open(height), _text(20, 22, title, "start", 'font-weight="bold"')]
    for row, (name, group) in enumerate(groups.items()):
        top = _TOP + step * row
        weight = 'font-weight="bold"' if name == _OURS else ""
        parts.append(_text(_BARS - 8, top + step / 2, name, "end", weight))
        for index, kind in enumerate(kinds):
            value = group.get(kind, 0.0)
            length = value / longest * (_WIDTH - _BARS - 80)
            y = top + 14 * index
            parts += [
                _box(_BARS, y, length, colours[index]),
                _text(_BARS + length + 6, y + 10, f"{value:.3g}" if kind in group else "", "start"),
            ]
    for index, kind in enumerate(kinds):
        x = _BARS + 170 * index
        parts += [
            _box(x, height - 22, 12, colours[index]),
            _text(x + 18, height - 12, f"{kind} [{unit}]", "start"),
        ]
    return "\n".join([*parts, "</svg>", ""])


def _box(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="12" fill="{colour}"/>'


def _open(height: int) -> list[str]:
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]


class _Axis:
    """A logarithmic scale from values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        margin = 0.04 * (high - low) or 0.5
        self._low, self._high = low - margin, high + margin
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Return the pixel of a value above zero."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Return round values within the axis: 1, 2, 5 of each decade, or finer if too few."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        values: list[float] = []
        for steps in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)):
            values = [
                step * 10.0**decade
                for decade in decades
                for step in steps
                if self._low <= math.log10(step * 10.0**decade) <= self._high
            ]
            if len(values) >= 4:
                break
        return values


def _curve(
    line: Sequence[Point], x_axis: _Axis, y_axis: _Axis, colour: str, width: float
) -> list[str]:
    places = [(x_axis.place(x), y_axis.place(middle)) for x, middle, _, _ in line]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>']
    for (x, y), (_, _, low, high) in zip(places, line, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        if 0 < low < high:
            parts.append(_line(x, y_axis.place(low), x, y_axis.place(high), colour))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>'
