"""Plots say what they show, in marks that carry their number, and never break on odd input."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from stages.report.charts import Axis, as_file, bar_chart, interval_chart, line_chart


def svg_of(markup: str) -> ET.Element:
    found = re.search(r"<svg.*</svg>", markup, re.DOTALL)
    assert found
    return ET.fromstring(found.group())


def test_every_point_carries_its_numbers_as_a_tooltip() -> None:
    root = svg_of(line_chart({"loss": [(1, 0.5), (2, 0.25)]}, x_label="epoch", y_label="nats"))
    assert [title.text for title in root.iter("title")] == ["loss: epoch 1, nats 0.5", "loss: epoch 2, nats 0.25"]
    assert root.get("aria-label") == "nats against epoch"


def test_an_interval_spans_from_low_to_high_and_names_its_series() -> None:
    root = svg_of(interval_chart([("all", "sft", 0.5, 0.4, 0.6), ("all", "mixed", 0.6, 0.5, 0.7)], x_label="greedy"))
    assert "all sft: 0.500 [0.400, 0.600]" in [title.text for title in root.iter("title")]


def test_the_parts_of_a_bar_stand_side_by_side_and_share_one_scale() -> None:
    root = svg_of(bar_chart([("a", {"kept": 30, "dropped": 10}), ("b", {"kept": 20})], x_label="rows"))
    kept, dropped, other = root.iter("rect")
    assert float(kept.get("x", "")) + float(kept.get("width", "")) == pytest.approx(
        float(dropped.get("x", "")), abs=0.1
    )
    assert float(kept.get("width", "")) == pytest.approx(3 * float(dropped.get("width", "")), abs=0.2)
    assert float(other.get("width", "")) == pytest.approx(2 * float(dropped.get("width", "")), abs=0.2)
    assert [title.text for title in root.iter("title")] == ["a, kept: 30", "a, dropped: 10", "b, kept: 20"]


def test_bars_of_nothing_say_so() -> None:
    assert "nothing to plot" in bar_chart([("a", {"kept": 0})], x_label="rows")


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_without_a_finite_point_the_chart_says_so(points: list) -> None:
    assert "nothing to plot" in line_chart({"x": points}, x_label="a", y_label="b")


@pytest.mark.parametrize("points", [[(1, 0.0)], [(1, 3.0), (2, 3.0)], [(1, -1e-9), (2, 1e9)]])
def test_flat_single_and_extreme_lines_stay_inside_the_picture(points: list) -> None:
    root = svg_of(line_chart({"x": points}, x_label="a", y_label="b"))
    for circle in root.iter("circle"):
        assert 0 <= float(circle.get("cx", "-1")) <= 560
        assert 0 <= float(circle.get("cy", "-1")) <= 270


def test_names_are_escaped() -> None:
    assert "<script>" not in line_chart({"<script>": [(1, 1.0)], "b": [(1, 2.0)]}, x_label="a", y_label="b")


def test_ticks_are_round_numbers_inside_the_range() -> None:
    assert Axis(0.0, 1.0, 0.0, 100.0).ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_same_numbers_give_the_same_bytes() -> None:
    series = {"a": [(step, step * 0.1) for step in range(200)]}
    assert line_chart(series, x_label="s", y_label="v") == line_chart(series, x_label="s", y_label="v")


def test_a_file_stands_alone_with_its_styles_and_its_legend() -> None:
    chart = line_chart({"a & b": [(0, 0), (1, 1)], "c": [(0, 1), (1, 0)]}, x_label="step", y_label="reward")
    text = as_file(chart)
    svg = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert svg.tag == f"{space}svg"
    words = [part.text for part in svg.iter(f"{space}text")]
    assert words[-2:] == ["a & b", "c"]
    assert svg.find(f"{space}style") is not None
    inside, alone = svg_of(chart), float(svg.attrib["viewBox"].split()[3])
    assert alone == float(inside.attrib["viewBox"].split()[3]) + 2 * 18
    assert as_file(chart) == text


def test_a_chart_of_nothing_is_no_file() -> None:
    with pytest.raises(ValueError, match="nothing"):
        as_file(line_chart({}, x_label="x", y_label="y"))
