"""Plots as inline SVG or as files: no script, no network; a tooltip on every mark (`<title>`), and the same bytes for the same numbers."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 40
LABEL_CHARACTERS = 32  # of a bar; the tooltip has the whole label
COLOURS = ("#1b6ca8", "#c8553d", "#2e8b57", "#8e6bb0", "#b8860b", "#4f5d75")  # told apart by colour-blind readers, too
_LEGEND_LINE = 18  # height of a name below the picture of a file
_STYLES = ".grid { stroke: #e8ecf0; } .tick { font: 11px sans-serif; fill: #5b6672; } .label { font: 12px sans-serif; fill: #38424d; }"
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "4 4")


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from data to pixels. `low`..`high` is the data range, `start`..`end` the pixel range."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round numbers inside the range."""
        span = (self.high - self.low) or 1.0
        rough = span / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step) * step
        return [first + index * step for index in range(int((self.high - first) / step + 1e-9) + 1)]


def colour(index: int) -> str:
    """Colour of the n-th series."""
    return COLOURS[index % len(COLOURS)]


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    window: tuple[float, float] | None = None,
) -> str:
    """Lines of (x, y) points. `window` shades a band of y values."""
    points = [point for line in series.values() for point in line if math.isfinite(point[1])]
    if not points:
        return "<p>nothing to plot</p>"
    x, y = _axes(points, window)
    marks = [_band(window, y, x)] if window else []
    for index, (name, line) in enumerate(series.items()):
        finite = [(px, py) for px, py in line if math.isfinite(py)]
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in finite)
        dash = DASHES[index % len(DASHES)]
        marks.append(
            f'<polyline fill="none" stroke="{colour(index)}" stroke-width="1.8" stroke-dasharray="{dash}" points="{path}"/>'
        )
        marks += [
            _dot(x(px), y(py), colour(index), f"{name}: {x_label} {px:g}, {y_label} {py:.4g}")
            for px, py in _thinned(finite)
        ]
    return _frame(
        marks, x, y, x_label=x_label, y_label=y_label, names=list(series), description=f"{y_label} against {x_label}"
    )


def interval_chart(
    rows: Sequence[tuple[str, str, float, float, float]], *, x_label: str, zero_line: bool = False
) -> str:
    """Values with intervals, one line each. Rows: group, series, value, low, high."""
    if not rows:
        return "<p>nothing to plot</p>"
    names = list(dict.fromkeys(row[1] for row in rows))
    groups = list(dict.fromkeys(row[0] for row in rows))
    low, high = min(row[3] for row in rows), max(row[4] for row in rows)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero_line else (low, high)
    pad = (high - low) * 0.05 or 0.05
    left, line_height = 150, 15
    x = Axis(low - pad, high + pad, left, WIDTH - RIGHT)
    marks, top = [], TOP + 4.0
    for group in groups:
        inside = [row for row in rows if row[0] == group]
        marks.append(
            f'<text x="{left - 8}" y="{top + line_height * len(inside) / 2 + 4:.1f}" text-anchor="end" class="tick">{escape(group)}</text>'
        )
        for _, name, value, start, end in inside:
            marks.append(
                _interval(
                    x,
                    top + line_height / 2,
                    value,
                    start,
                    end,
                    colour(names.index(name)),
                    f"{group} {name}: {value:.3f} [{start:.3f}, {end:.3f}]",
                )
            )
            top += line_height
        top += 8
    height = top + BOTTOM
    if zero_line:
        marks.append(
            f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{top:.1f}" stroke="#999" stroke-dasharray="3 3"/>'
        )
    ticks = [_x_tick(x(tick), top, tick) for tick in x.ticks()]
    label = f'<text x="{(left + WIDTH) / 2:.0f}" y="{top + 30:.1f}" text-anchor="middle" class="label">{escape(x_label)}</text>'
    return _svg([*ticks, *marks, label], height=height, description=x_label) + _legend(names)


def bar_chart(rows: Sequence[tuple[str, Mapping[str, float]]], *, x_label: str) -> str:
    """Bars from 0, one a row, made of the parts that its series give. Rows: label, series -> length of its part."""
    if not any(value for _, parts in rows for value in parts.values()):
        return "<p>nothing to plot</p>"
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    left, bar, gap = 190, 14, 7
    x = Axis(0.0, max(sum(parts.values()) for _, parts in rows), left, WIDTH - RIGHT)
    marks, top = [], TOP + 0.0
    for label, parts in rows:
        shown = label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}…"
        marks.append(
            f'<text x="{left - 8}" y="{top + bar - 3:.1f}" text-anchor="end" class="tick">{escape(shown)}</text>'
        )
        done = 0.0
        for name, value in parts.items():
            title = f"{label}, {name}: {_number(value)}" if name else f"{label}: {_number(value)}"
            marks.append(
                f'<rect x="{x(done):.1f}" width="{x(done + value) - x(done):.1f}" y="{top:.1f}" height="{bar}" '
                f'fill="{colour(names.index(name))}"><title>{escape(title)}</title></rect>'
            )
            done += value
        top += bar + gap
    ticks = [_x_tick(x(tick), top, tick) for tick in x.ticks(4)]
    label = f'<text x="{(left + WIDTH) / 2:.0f}" y="{top + 32:.1f}" text-anchor="middle" class="label">{escape(x_label)}</text>'
    return _svg([*ticks, *marks, label], height=top + BOTTOM, description=x_label) + _legend(names)


def as_file(chart: str) -> str:
    """A chart as an SVG file that stands alone: the page's styles, a white ground, and the legend below the picture.

    Raises ValueError for a chart of nothing.
    """
    parts = ET.fromstring(f"<parts>{chart}</parts>")
    svg = parts.find("svg")
    if svg is None:
        raise ValueError("a chart of nothing has no picture")
    names = ["".join(part.itertext()) for part in parts.iter("span")]
    *corner, width, height = (float(number) for number in svg.attrib.pop("viewBox").split())
    whole = height + _LEGEND_LINE * len(names)
    ground = ET.Element("rect", {"width": f"{width:.0f}", "height": f"{whole:.0f}", "fill": "#fff"})
    style = ET.Element("style")
    style.text = _STYLES
    for number, part in enumerate((style, ground)):
        svg.insert(number, part)
    for index, name in enumerate(names):
        y = f"{height + _LEGEND_LINE * index + 8:.0f}"
        ET.SubElement(svg, "circle", {"cx": f"{LEFT}", "cy": y, "r": "4", "fill": colour(index)})
        ET.SubElement(svg, "text", {"x": f"{LEFT + 10}", "y": y, "dy": "4", "class": "label"}).text = name
    box = " ".join(f"{number:.0f}" for number in (*corner, width, whole))
    svg.attrib = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "width": f"{width:.0f}", **svg.attrib}
    return ET.tostring(svg, encoding="unicode") + "\n"


def _interval(x: Axis, y: float, value: float, low: float, high: float, fill: str, title: str) -> str:
    return (
        f"<g><title>{escape(title)}</title>"
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{fill}" stroke-width="3" opacity="0.55"/>'
        f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4" fill="{fill}"/></g>'
    )


def _axes(points: Sequence[tuple[float, float]], window: tuple[float, float] | None) -> tuple[Axis, Axis]:
    xs, ys = [point[0] for point in points], [point[1] for point in points] + list(window or ())
    pad = (max(ys) - min(ys)) * 0.06 or 0.05 * (abs(ys[0]) or 1.0)
    floor = 0.0 if min(ys) >= 0 and min(ys) - pad < 0 else min(ys) - pad
    return Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT), Axis(floor, max(ys) + pad, HEIGHT - BOTTOM, TOP)


def _band(window: tuple[float, float], y: Axis, x: Axis) -> str:
    return (
        f'<rect x="{x.start}" width="{x.end - x.start}" y="{y(window[1]):.1f}" height="{y(window[0]) - y(window[1]):.1f}" '
        f'fill="#2e8b57" opacity="0.13">'
        f"<title>window {window[0]:g} to {window[1]:g}</title></rect>"
    )


def _dot(x: float, y: float, fill: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{fill}"><title>{escape(title)}</title></circle>'


def _thinned(points: Sequence[tuple[float, float]], limit: int = 60) -> Sequence[tuple[float, float]]:
    return points[:: max(1, math.ceil(len(points) / limit))]


def _frame(
    marks: Sequence[str], x: Axis, y: Axis, *, x_label: str, y_label: str, names: Sequence[str], description: str
) -> str:
    grid = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>'
        for tick in y.ticks()
    ]
    grid += [
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" class="tick">{_number(tick)}</text>'
        for tick in y.ticks()
    ]
    grid += [_x_tick(x(tick), HEIGHT - BOTTOM, tick) for tick in x.ticks()]
    labels = [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle" class="label">{escape(x_label)}</text>',
        f'<text transform="translate(12 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle" class="label">{escape(y_label)}</text>',
    ]
    return _svg([*grid, *marks, *labels], height=HEIGHT, description=description) + _legend(names)


def _x_tick(x: float, y: float, value: float) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}" stroke="#888"/>'
        f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle" class="tick">{_number(value)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 6):g}"


def _svg(parts: Sequence[str], *, height: float, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    return (
        '<p class="legend">'
        + " ".join(
            f'<span><i style="background:{colour(index)}"></i>{escape(name)}</span>' for index, name in enumerate(names)
        )
        + "</p>"
    )
