"""Plots as inline SVG or as files: no script, no network; a tooltip on every mark (`<title>`), and the same bytes for the same numbers.

A series has its colour by a class (`s0`, `s1`, ...), so that a page says the colours once, for light and for dark, and a name that stands
in `order` has the same colour in every plot.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44
LABEL_CHARACTERS = 60  # of a row; the tooltip has the whole label
COLOURS = ("#1b6ca8", "#b8442f", "#1f7a45", "#7b559f", "#8a6508", "#4f5d75")  # told apart by colour-blind readers, too
_LABEL_HEIGHT, _MARK_HEIGHT, _GAP = 20, 14, 8  # of a row's name, of a bar or interval, between rows
_LEGEND_LINE = 18  # height of a name below the picture of a file
_STYLES = (
    ".grid { stroke: #e8ecf0; } .axis { stroke: #888; } .tick { font: 11px sans-serif; fill: #5b6672; } "
    ".label { font: 12px sans-serif; fill: #38424d; } "
)
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "4 4")
NOTHING = "<p>nothing to plot</p>"


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


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    window: tuple[float, float] | None = None,
    level: tuple[str, float] | None = None,
    order: Sequence[str] = (),
) -> str:
    """Lines of (x, y) points. `window` shades a band of y values, `level` (name, y) draws one across."""
    points = [point for line in series.values() for point in line if math.isfinite(point[1])]
    if not points:
        return NOTHING
    marked = [*(window or ()), *((level[1],) if level else ())]
    x, y = _axes(points, marked)
    numbers = _numbers(series, order)
    marks = [*([_band(window, y, x)] if window else []), *([_level(level, y, x)] if level else [])]
    for name, line in series.items():
        finite = [(px, py) for px, py in line if math.isfinite(py)]
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in finite)
        dash = DASHES[numbers[name] % len(DASHES)]
        dots = [_dot(x(px), y(py), f"{name}: {x_label} {px:g}, {y_label} {py:.4g}") for px, py in _thinned(finite)]
        line_mark = f'<polyline fill="none" stroke="currentColor" stroke-width="1.8" stroke-dasharray="{dash}" points="{path}"/>'
        marks.append(_coloured(numbers[name], [line_mark, *dots]))
    return _frame(marks, x, y, x_label=x_label, y_label=y_label) + _legend(numbers)


def interval_chart(
    rows: Sequence[tuple[str, str, float, float, float]],
    *,
    x_label: str,
    zero_line: bool = False,
    order: Sequence[str] = (),
) -> str:
    """Values with intervals, one line each, under the name of their group. Rows: group, series, value, low, high."""
    if not rows:
        return NOTHING
    numbers = _numbers(dict.fromkeys(row[1] for row in rows), order)
    low, high = min(row[3] for row in rows), max(row[4] for row in rows)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero_line else (low, high)
    pad = (high - low) * 0.05 or 0.05
    x = Axis(low - pad, high + pad, RIGHT, WIDTH - RIGHT)
    marks, top = [], float(TOP)
    for group in dict.fromkeys(row[0] for row in rows):
        marks.append(_row_label(group, top))
        top += _LABEL_HEIGHT
        for _, name, value, start, end in (row for row in rows if row[0] == group):
            title = f"{group} {name}: {value:.3f} [{start:.3f}, {end:.3f}]"
            mark = _interval(x, top + _MARK_HEIGHT / 2, value, start, end, title)
            marks.append(_coloured(numbers[name], [mark]))
            top += _MARK_HEIGHT
        top += _GAP
    zero = [f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{top:.1f}" class="axis" stroke-dasharray="3 3"/>']
    return _rows_frame([*(zero if zero_line else []), *marks], x, top, x_label=x_label) + _legend(numbers)


def bar_chart(rows: Sequence[tuple[str, Mapping[str, float]]], *, x_label: str, order: Sequence[str] = ()) -> str:
    """Bars from 0, one a row, made of the parts that its series give. Rows: label, series -> length of its part."""
    if not any(value for _, parts in rows for value in parts.values()):
        return NOTHING
    numbers = _numbers(dict.fromkeys(name for _, parts in rows for name in parts), order)
    x = Axis(0.0, max(sum(parts.values()) for _, parts in rows), RIGHT, WIDTH - RIGHT)
    marks, top = [], float(TOP)
    for label, parts in rows:
        marks.append(_row_label(label, top))
        top += _LABEL_HEIGHT
        done = 0.0
        for name, value in parts.items():
            title = f"{label}, {name}: {_number(value)}" if name else f"{label}: {_number(value)}"
            bar = (
                f'<rect x="{x(done):.1f}" width="{x(done + value) - x(done):.1f}" y="{top:.1f}" height="{_MARK_HEIGHT}" '
                f'fill="currentColor"><title>{escape(title)}</title></rect>'
            )
            marks.append(_coloured(numbers[name], [bar]))
            done += value
        top += _MARK_HEIGHT + _GAP
    return _rows_frame(marks, x, top, x_label=x_label) + _legend(numbers)


def as_file(chart: str) -> str:
    """A chart as an SVG file that stands alone: the page's styles, a white ground, and the legend below the picture.

    Raises ValueError for a chart of nothing.
    """
    parts = ET.fromstring(f"<parts>{chart}</parts>")
    svg = parts.find("svg")
    if svg is None:
        raise ValueError("a chart of nothing has no picture")
    names = [("".join(part.itertext()), part.find("i")) for part in parts.iter("span")]
    *corner, width, height = (float(number) for number in svg.attrib.pop("viewBox").split())
    whole = height + _LEGEND_LINE * len(names)
    ground = ET.Element("rect", {"width": f"{width:.0f}", "height": f"{whole:.0f}", "fill": "#fff"})
    style = ET.Element("style")
    style.text = _STYLES + " ".join(f".s{index} {{ color: {value}; }}" for index, value in enumerate(COLOURS))
    for number, part in enumerate((style, ground)):
        svg.insert(number, part)
    for index, (name, swatch) in enumerate(names):
        y = f"{height + _LEGEND_LINE * index + 8:.0f}"
        series = swatch.attrib["class"] if swatch is not None else "s0"
        ET.SubElement(svg, "circle", {"cx": f"{LEFT}", "cy": y, "r": "4", "class": series, "fill": "currentColor"})
        ET.SubElement(svg, "text", {"x": f"{LEFT + 10}", "y": y, "dy": "4", "class": "label"}).text = name
    box = " ".join(f"{number:.0f}" for number in (*corner, width, whole))
    svg.attrib = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "width": f"{width:.0f}", **svg.attrib}
    return ET.tostring(svg, encoding="unicode") + "\n"


# ---------------------------------------------------------------- series


def _numbers(names: Mapping[str, object], order: Sequence[str]) -> dict[str, int]:
    """Name -> number of its colour: its place in `order`, and after those the others."""
    known = {name: index for index, name in enumerate(order)}
    others = [name for name in names if name not in known]
    return {name: known[name] if name in known else len(known) + others.index(name) for name in names}


def _coloured(number: int, marks: Sequence[str]) -> str:
    return f'<g class="s{number % len(COLOURS)}">{"".join(marks)}</g>'


def _legend(numbers: Mapping[str, int]) -> str:
    if len(numbers) < 2:
        return ""
    names = [f'<span><i class="s{number % len(COLOURS)}"></i>{escape(name)}</span>' for name, number in numbers.items()]
    return f'<p class="legend">{" ".join(names)}</p>'


# ---------------------------------------------------------------- marks


def _interval(x: Axis, y: float, value: float, low: float, high: float, title: str) -> str:
    return (
        f"<g><title>{escape(title)}</title>"
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-width="3" opacity="0.55"/>'
        f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4" fill="currentColor"/></g>'
    )


def _row_label(label: str, top: float) -> str:
    shown = label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}…"
    return f'<text x="{RIGHT}" y="{top + _LABEL_HEIGHT - 6:.1f}" class="tick">{escape(shown)}</text>'


def _axes(points: Sequence[tuple[float, float]], marked: Sequence[float]) -> tuple[Axis, Axis]:
    xs, ys = [point[0] for point in points], [point[1] for point in points] + list(marked)
    pad = (max(ys) - min(ys)) * 0.06 or 0.05 * (abs(ys[0]) or 1.0)
    floor = 0.0 if min(ys) >= 0 and min(ys) - pad < 0 else min(ys) - pad
    return Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT), Axis(floor, max(ys) + pad, HEIGHT - BOTTOM, TOP)


def _band(window: tuple[float, float], y: Axis, x: Axis) -> str:
    return (
        f'<rect x="{x.start}" width="{x.end - x.start}" y="{y(window[1]):.1f}" height="{y(window[0]) - y(window[1]):.1f}" '
        f'fill="#2e8b57" opacity="0.17">'
        f"<title>window {window[0]:g} to {window[1]:g}</title></rect>"
    )


def _level(level: tuple[str, float], y: Axis, x: Axis) -> str:
    name, value = level
    at = f"{y(value):.1f}"
    return (
        f'<g><title>{escape(name)}: {_number(value)}</title><line x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}" class="axis" '
        f'stroke-dasharray="3 3"/><text x="{x.start + 4}" y="{y(value) + 14:.1f}" class="tick">{escape(name)}</text></g>'
    )


def _dot(x: float, y: float, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="currentColor"><title>{escape(title)}</title></circle>'


def _thinned(points: Sequence[tuple[float, float]], limit: int = 60) -> Sequence[tuple[float, float]]:
    return points[:: max(1, math.ceil(len(points) / limit))]


# ---------------------------------------------------------------- frames


def _frame(marks: Sequence[str], x: Axis, y: Axis, *, x_label: str, y_label: str) -> str:
    grid = []
    for tick in y.ticks():
        at = y(tick)
        grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        grid.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" class="tick">{_number(tick)}</text>')
    grid += [_x_tick(x(tick), HEIGHT - BOTTOM, tick) for tick in x.ticks()]
    labels = [
        _centred(x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6),
        f'<text transform="translate(12 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle" class="label upright">'
        f"{escape(y_label)}</text>",
    ]
    return _svg([*grid, *marks, *labels], height=HEIGHT, description=f"{y_label} against {x_label}")


def _rows_frame(marks: Sequence[str], x: Axis, top: float, *, x_label: str) -> str:
    """The frame of rows below each other, from `TOP` to `top`: an axis below them."""
    ticks = [_x_tick(x(tick), top, tick) for tick in x.ticks(4)]
    label = _centred(x_label, x=WIDTH / 2, y=top + 36)
    return _svg([*ticks, *marks, label], height=top + BOTTOM, description=x_label)


def _centred(text: str, *, x: float, y: float) -> str:
    return f'<text x="{x:.0f}" y="{y:.1f}" text-anchor="middle" class="label">{escape(text)}</text>'


def _x_tick(x: float, y: float, value: float) -> str:
    anchor = "start" if x < LEFT / 2 else "end" if x > WIDTH - LEFT / 2 else "middle"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}" class="axis"/>'
        f'<text x="{x:.1f}" y="{y + 17:.1f}" text-anchor="{anchor}" class="tick">{_number(value)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 6):g}"


def _svg(parts: Sequence[str], *, height: float, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )
