"""Plots of an experiment, as SVG files beside its page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.experiments.scores import METRICS
from benchmarks.experiments.steps import FIGURES, curve, points
from stages.report.charts import as_file, line_chart
from stages.stage import Row

Rows = Mapping[str, Sequence[Sequence[Row]]]  # arm -> of each seed its steps


def write_plots(charts: Mapping[str, str], *, page: Path) -> list[str]:
    """Write `<page>-<name>.svg` for each; returns the page's lines that show them. Charts of nothing are left out."""
    shown = []
    for name, chart in charts.items():
        if "<svg" not in chart:
            continue
        path = page.with_name(f"{page.stem}-{name.replace(' ', '-').replace(',', '')}.svg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_file(chart), encoding="utf-8")
        shown.append(f"![{name}]({path.name})")
    return shown


def step_charts(rows: Rows) -> Iterator[tuple[str, str]]:
    """A curve an arm, means over blocks of steps and over seeds."""
    for title, key in FIGURES.items():
        curves = {arm: curve([points(steps, key) for steps in seeds]) for arm, seeds in rows.items()}
        yield title, line_chart({arm: line for arm, line in curves.items() if line}, x_label="step", y_label=title)


def start_charts(
    entropies: Sequence[float], shares: Sequence[float], finals: Mapping[str, Sequence[float]]
) -> dict[str, str]:
    """Final scores over the start's entropy, and over RL tokens / SFT tokens (Table 2, Fig. 9). A number an arm in each."""
    charts = {}
    for name, label, xs in (
        ("start", "policy entropy of the start, nats per token", entropies),
        ("token efficiency", "RL tokens / SFT tokens", shares),
    ):
        lines = {metric: sorted(zip(xs, finals[metric], strict=True)) for metric in METRICS}
        charts[name] = line_chart(lines, x_label=label, y_label="final score")
    return charts
