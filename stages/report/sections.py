"""The page's sections, in the order of the chain: of each a text, plots and the tables of its stage."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stages.records.artifact import Manifest
from stages.report.charts import bar_chart, interval_chart, line_chart
from stages.report.curves import SMOOTHING, rl_arms, rl_charts
from stages.report.paper import beside_the_paper
from stages.report.responses import decile_responses, told_responses
from stages.stage import Row

MOST_BARS = 14
_METRICS = ("greedy", "pass@1")
Charts = list[tuple[str, str]]  # caption, chart
Tables = Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page. `anchor` is its address in the page."""

    anchor: str
    title: str
    text: str
    charts: Charts
    tables: tuple[tuple[str, list[Row]], ...]
    responses: tuple[Row, ...] = ()
    deciles: tuple[Row, ...] = ()


def page_sections(manifests: Mapping[str, Manifest], *, order: Sequence[str]) -> list[Section]:
    """Of the stages that there are. `order` gives a model its colour in every plot."""
    made = {manifest.stage for manifest in manifests.values()}
    sections: Mapping[str, Callable[[], Section]] = {
        "curation": lambda: _curation(manifests["curation"].tables()),
        "sft": lambda: _sft(manifests["sft"].tables()),
        "selection": lambda: _selection(manifests["selection"]),
        "rl": lambda: _rl(manifests, order=order),
        "evaluation": lambda: _evaluation(manifests["evaluation"], order=order),
    }
    return [make() for stage, make in sections.items() if stage in made]


def difference_chart(evaluation: Manifest, *, order: Sequence[str]) -> str:
    """The paired differences on `all`, a row a pair, in the first model's colour."""
    rows = [
        (f"{row['model']} - {row['against']}, {row['metric']}", row["model"], *_ends(row, "difference"))
        for row in evaluation.tables().get("comparisons", [])
        if row["group"] == "all" and row["metric"] in _METRICS
    ]
    return interval_chart(rows, x_label="difference in the share of right answers", zero_line=True, order=order)


# ---------------------------------------------------------------- curation


def _curation(tables: Tables) -> Section:
    text = (
        "Every row that was dropped is kept in dropped.parquet with the step, the reason and the evidence; ring data why ID tells of "
        "one. card.md beside it holds these tables."
    )
    return Section("curation", "Curation", text, _curation_charts(tables), _shown(tables))


def _curation_charts(tables: Tables) -> Charts:
    funnel = [(row["step"], {"kept": row["kept"], "dropped": row["dropped"]}) for row in tables["funnel"]]
    reasons = sorted(tables.get("reasons", []), key=lambda row: -row["count"])[:MOST_BARS]
    why = [(row["reason"], {"": row["count"]}) for row in reasons]
    lengths = [(row["split"], row["domain"], row["50%"], row["5%"], row["95%"]) for row in tables.get("lengths", [])]
    parts = {what: _distribution(tables, what) for what in ("subject", "level", "language")}
    return [
        ("rows after each step", bar_chart(funnel, x_label="rows")),
        ("main reasons for which rows were dropped", bar_chart(why, x_label="rows")),
        ("lengths of prompts: median, 5 % to 95 %", interval_chart(lengths, x_label="characters")),
        *((f"{what} of what is left", bar_chart(rows, x_label="rows")) for what, rows in parts.items() if rows),
    ]


def _distribution(tables: Tables, what: str) -> Sequence[tuple[str, Mapping[str, float]]]:
    """The most frequent values, each with the rows of every split."""
    splits: dict[str, dict[str, float]] = {}
    for row in tables.get("distribution", []):
        if row["what"] == what:
            splits.setdefault(row["value"], {})[row["split"]] = row["rows"]
    return sorted(splits.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:MOST_BARS]


# ---------------------------------------------------------------- SFT, and where RL starts


def _sft(tables: Tables) -> Section:
    epochs = tables.get("epochs", [])
    names = ("train", "validation")
    measured = {name: [(row["epoch"], row[f"{name}_loss"]) for row in epochs] for name in names}
    series = {name: line for name, line in measured.items() if all(loss is not None for _, loss in line)}
    chart = line_chart(series, x_label="epoch", y_label="nats per token")
    text = "Loss per response token; validation rows share no prompt with training."
    return Section("sft", "Long-CoT SFT", text, [("loss by epoch", chart)], _shown(tables))


def _selection(manifest: Manifest) -> Section:
    text = (
        "Each checkpoint of SFT answers the same probe problems. The table `rules` says what each rule would have chosen of them, and "
        "which was applied; the paper's is `entropy-window`: policy entropy inside the window, among those the best pass@1."
    )
    title = "Choice of the checkpoint that RL starts from"
    return Section("selection", title, text, _selection_charts(manifest), _shown(manifest.tables()))


def _selection_charts(manifest: Manifest) -> Charts:
    rows = list(enumerate(manifest.tables()["candidates"], start=1))
    losses = [(n, row["validation_loss"]) for n, row in rows if row.get("validation_loss") is not None]
    window = tuple(manifest.document["payload"]["config"]["entropy_window"])
    entropies = {"entropy": [(n, row["entropy"]) for n, row in rows]}
    scores = {name: [(n, row[name]) for n, row in rows] for name in _METRICS}
    charts = [
        (
            f"policy entropy by checkpoint, the window {window[0]:g} to {window[1]:g} shaded",
            line_chart(entropies, x_label="checkpoint", y_label="nats per token", window=window),
        ),
        ("accuracy on the probe set", line_chart(scores, x_label="checkpoint", y_label="share right")),
    ]
    if losses:
        loss = line_chart({"validation loss": losses}, x_label="checkpoint", y_label="nats per token")
        charts.append(("loss on rows not trained on", loss))
    return charts


# ---------------------------------------------------------------- RL


def _rl(manifests: Mapping[str, Manifest], *, order: Sequence[str]) -> Section:
    text = (
        f"Moving averages over {SMOOTHING} steps; of the probe every value. "
        "All arms start from the chosen checkpoint, but for those that name another, and share its grading of the pool."
    )
    arms, curation = rl_arms(manifests), manifests.get("curation")
    tables = {
        f"{key.removeprefix('rl/')}: {name}": rows
        for key, manifest in manifests.items()
        if manifest.stage == "rl"
        for name, rows in manifest.tables().items()
    }
    return Section(
        anchor="rl",
        title="Reinforcement learning",
        text=text,
        charts=rl_charts(manifests, order=order),
        tables=_shown(tables),
        responses=tuple(told_responses(arms, curation)),
        deciles=tuple(decile_responses(arms, curation)),
    )


# ---------------------------------------------------------------- evaluation


def _evaluation(manifest: Manifest, *, order: Sequence[str]) -> Section:
    text = (
        "Each point is a mean over problems with its interval. "
        "`all` leaves out the harder level, which stands by itself as `harder`. "
        "FLOPs in the ledger are the matrix products of training, sampling and the reference pass after SFT, counted from lengths "
        "(docs/how-it-works.md); they say whether a control had as much compute as an arm."
    )
    tables = {name: rows for name, rows in manifest.tables().items() if name != "samples"}
    tables = {"beside the paper": beside_the_paper(tables.get("results", [])), **tables}
    charts = _score_charts(manifest, order=order)
    return Section("evaluation", "Evaluation on problems never seen", text, charts, _shown(tables))


def _score_charts(manifest: Manifest, *, order: Sequence[str]) -> Charts:
    """Scores by group; levels stand in the table alone."""
    results = json.loads((manifest.folder / "results.json").read_text(encoding="utf-8"))
    rows: dict[str, list[tuple[str, str, float, float, float]]] = {metric: [] for metric in _METRICS}
    for name, entry in results.items():
        model, _, rest = name.partition("/")
        group, _, metric = rest.rpartition("/")
        if metric in rows and "level " not in group:
            rows[metric].append((group, model, *_ends(entry, "value")))
    ordered = {metric: sorted(found, key=lambda row: _place(row[0], found)) for metric, found in rows.items()}
    return [
        (f"{metric}, by group of problems", interval_chart(found, x_label="share of right answers", order=order))
        for metric, found in ordered.items()
    ]


def _place(group: str, rows: Sequence[tuple[str, str, float, float, float]]) -> int:
    return [row[0] for row in rows].index(group)


def _ends(row: Row, value: str) -> tuple[float, float, float]:
    return row[value], row["low"], row["high"]


# ---------------------------------------------------------------- tables


def _shown(tables: Tables) -> tuple[tuple[str, list[Row]], ...]:
    return tuple((name, _evened(rows)) for name, rows in tables.items() if rows)


def _evened(rows: Sequence[Row]) -> list[Row]:
    """The rows with the same keys, empty where one has no value: a phase without a verdict has no reward."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]
