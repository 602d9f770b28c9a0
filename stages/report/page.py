"""Gather the sealed results of a chain and render them with the template beside this file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jinja2

from stages.config import STAGES, ReportConfig, Runtime
from stages.records.artifact import Manifest, read_manifest
from stages.records.machine import machine_line
from stages.report.charts import bar_chart, interval_chart, line_chart
from stages.report.findings import chain_findings
from stages.report.responses import cut, told_responses
from stages.stage import Row, StageLog, StageRecord

MAX_BYTES = 1_000_000
MOST_BARS = 14
SMOOTHING = 10  # steps in the moving average of per-step RL metrics
RL_PLOTS = (
    ("reward/mean", "reward"),
    ("response/mean_tokens", "response length, tokens"),
    ("policy/entropy", "policy entropy, nats per token"),
    ("train/loss", "loss"),
    ("budget/tokens_used", "tokens trained on"),
    ("budget/informative_share", "share of the budget with a policy gradient"),
    ("train/gradient_norm", "gradient norm"),
    ("group/zero_advantage_share", "share of groups without signal"),
)
PROBE_PLOTS = (
    ("greedy", "probe: share right, greedy"),
    ("entropy", "probe: policy entropy, nats per token"),
    ("mean_tokens", "probe: response length, tokens"),
)


def run(config: ReportConfig, *, inputs: Mapping[str, Path], runtime: Runtime, out: Path, log: StageLog) -> StageRecord:
    """Write out/report.html. Raises ValueError when the page would pass 1 MB."""
    manifests = {key: read_manifest(folder) for key, folder in inputs.items()}
    page = render(config.title, manifests)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"the report has {size:,} bytes, the limit is {MAX_BYTES:,}: fewer RL steps are plotted with a larger SMOOTHING"
        )
    (out / "report.html").write_text(page, encoding="utf-8")
    log.progress(1, 1, unit="pages")
    return StageRecord(metrics={"report/bytes": size})


def render(title: str, manifests: Mapping[str, Manifest]) -> str:
    """The page of the stages that there are, as text; the same manifests give the same bytes."""
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    ordered = dict(sorted(manifests.items(), key=lambda item: (STAGES.index(item[1].stage), item[0])))
    return template.get_template("page.html").render(
        title=title,
        findings=chain_findings(ordered),
        stages=[_stage_row(key, manifest) for key, manifest in ordered.items()],
        machines=_machines(ordered),
        notes=_notes(ordered),
        sections=[*_sections(ordered)],
        samples=[cut(row) for row in ordered["evaluation"].tables()["samples"]] if "evaluation" in ordered else [],
    )


def _stage_row(key: str, manifest: Manifest) -> Row:
    document = manifest.document
    return {
        "stage": key,
        "fingerprint": manifest.fingerprint,
        "content": manifest.content[:16],
        "seconds": f"{document['seconds']:.1f}",
        "CPU seconds": f"{document['timings'].get('cpu_seconds', 0):.0f}",
        "peak MB": f"{document['timings'].get('peak_memory_bytes', 0) / 1e6:.0f}",
        "code": (document["code"]["commit"] or "-")[:10],
        "MLflow run": document["mlflow_run_id"],
    }


def _machines(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """Each machine in a line, with the stages that it made."""
    made: dict[str, list[str]] = {}
    for key, manifest in manifests.items():
        made.setdefault(machine_line(manifest.document), []).append(key)
    return [(machine, ", ".join(keys)) for machine, keys in made.items()]


def _notes(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    return [(key, note) for key, manifest in manifests.items() for note in manifest.document["notes"]]


def _sections(manifests: Mapping[str, Manifest]) -> Sequence[Row]:
    """Each section: title, text, charts (title, svg), responses, tables (title, rows); of the stages that there are."""
    tables = {key: manifest.tables() for key, manifest in manifests.items()}
    made = {manifest.stage for manifest in manifests.values()}
    sections: dict[str, Callable[[], Row]] = {
        "evaluation": lambda: _section(
            "Evaluation on problems never seen",
            _EVALUATION,
            _evaluation_charts(manifests),
            {name: rows for name, rows in tables["evaluation"].items() if name != "samples"},
        ),
        "curation": lambda: _section("Curation", _CURATION, _curation_charts(tables["curation"]), tables["curation"]),
        "sft": lambda: _section("Long-CoT SFT", _SFT, _sft_charts(tables["sft"]), tables["sft"]),
        "selection": lambda: _section(
            "Choice of the checkpoint that RL starts from",
            _SELECTION,
            _selection_charts(tables["selection"], manifests["selection"]),
            tables["selection"],
        ),
        "rl": lambda: _section(
            "Reinforcement learning",
            _RL,
            _rl_charts(manifests),
            {name: rows for key in tables if key.startswith("rl/") for name, rows in _prefixed(key, tables[key])},
            responses=[*told_responses(_rl_arms(manifests), manifests.get("curation"))],
        ),
    }
    return [make() for stage, make in sections.items() if stage in made]


_EVALUATION = (
    "Each point is a mean over problems with its interval. "
    "`all` leaves out the harder level, which stands by itself as `harder`. "
    "FLOPs in the ledger are the matrix products of training, sampling and the reference pass after SFT, counted from lengths "
    "(docs/how-it-works.md); they say whether a control had as much compute as an arm."
)
_CURATION = (
    "Every row that was dropped is kept in dropped.parquet with the step, the reason and the evidence; ring data why ID tells of one. "
    "card.md beside it holds these tables."
)
_SFT = "Loss per response token; validation rows share no prompt with training."
_SELECTION = (
    "Each checkpoint of SFT answers the same probe problems. The table `rules` says what each rule would have chosen of them, and which "
    "was applied; the paper's is `entropy-window`: policy entropy inside the window, among those the best pass@1."
)
_RL = (
    f"Moving averages over {SMOOTHING} steps; of the probe every value. "
    "All arms start from the chosen checkpoint, but for those that name another, and share its grading of the pool."
)


def _section(
    title: str,
    text: str,
    charts: list[tuple[str, str]],
    tables: Mapping[str, list[Row]],
    *,
    responses: Sequence[Row] = (),
) -> Row:
    return {
        "title": title,
        "text": text,
        "charts": charts,
        "responses": responses,
        "tables": [(name, _evened(rows)) for name, rows in tables.items() if rows],
    }


def _evened(rows: Sequence[Row]) -> list[Row]:
    """The rows with the same keys, empty where one has no value: a phase without a verdict has no reward."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def _prefixed(key: str, tables: Mapping[str, list[Row]]) -> list[tuple[str, list[Row]]]:
    return [(f"{key.removeprefix('rl/')}: {name}", rows) for name, rows in tables.items()]


def _evaluation_charts(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    results = json.loads((manifests["evaluation"].folder / "results.json").read_text(encoding="utf-8"))
    rows: dict[str, list[tuple[str, str, float, float, float]]] = {"greedy": [], "pass@1": []}
    for name, entry in results.items():
        model, _, rest = name.partition("/")
        group, _, metric = rest.rpartition("/")
        if metric in rows:
            rows[metric].append((group, model, entry["value"], entry["low"], entry["high"]))
    comparisons = [
        (
            f"{row['group']} {row['metric']}",
            f"{row['model']} - {row['against']}",
            row["difference"],
            row["low"],
            row["high"],
        )
        for row in manifests["evaluation"].tables().get("comparisons", [])
        if row["group"] == "all"
    ]
    charts = [(metric, interval_chart(points, x_label=metric)) for metric, points in rows.items()]
    return [
        *charts,
        ("paired differences, 95 % intervals", interval_chart(comparisons, x_label="difference", zero_line=True)),
    ]


def _curation_charts(tables: Mapping[str, list[Row]]) -> list[tuple[str, str]]:
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


def _distribution(tables: Mapping[str, list[Row]], what: str) -> Sequence[tuple[str, Mapping[str, float]]]:
    """The most frequent values, each with the rows of every split."""
    splits: dict[str, dict[str, float]] = {}
    for row in tables.get("distribution", []):
        if row["what"] == what:
            splits.setdefault(row["value"], {})[row["split"]] = row["rows"]
    return sorted(splits.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:MOST_BARS]


def _sft_charts(tables: Mapping[str, list[Row]]) -> list[tuple[str, str]]:
    epochs = tables.get("epochs", [])
    series = {name: [(row["epoch"], row[f"{name}_loss"]) for row in epochs] for name in ("train", "validation")}
    return [("loss by epoch", line_chart(series, x_label="epoch", y_label="nats per token"))]


def _selection_charts(tables: Mapping[str, list[Row]], manifest: Manifest) -> list[tuple[str, str]]:
    rows = list(enumerate(tables["candidates"], start=1))
    losses = [(n, row["validation_loss"]) for n, row in rows if row.get("validation_loss") is not None]
    window = tuple(manifest.document["payload"]["config"]["entropy_window"])
    return [
        (
            "policy entropy by checkpoint, the window shaded",
            line_chart(
                {"entropy": [(n, row["entropy"]) for n, row in rows]},
                x_label="checkpoint",
                y_label="nats per token",
                window=window,
            ),
        ),
        (
            "accuracy on the probe set",
            line_chart(
                {name: [(n, row[name]) for n, row in rows] for name in ("greedy", "pass@1")},
                x_label="checkpoint",
                y_label="share right",
            ),
        ),
        *([("loss on rows not trained on", _loss_chart(losses))] if losses else []),
    ]


def _loss_chart(losses: Sequence[tuple[float, float]]) -> str:
    return line_chart({"validation loss": losses}, x_label="checkpoint", y_label="nats per token")


def _rl_charts(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """Curves of the arms of RL: of their steps, smoothed, and of their probes. Further SFT has other steps and another loss."""
    arms = _rl_arms(manifests)
    steps = {arm: _steps(manifest) for arm, manifest in arms.items()}
    probes = {arm: manifest.tables().get("probes", []) for arm, manifest in arms.items()}
    curves = [(label, {arm: _smoothed(_points(rows, name)) for arm, rows in steps.items()}) for name, label in RL_PLOTS]
    curves += [(label, {arm: _points(rows, name) for arm, rows in probes.items()}) for name, label in PROBE_PLOTS]
    there = [(label, {arm: line for arm, line in lines.items() if line}) for label, lines in curves]
    return [(label, line_chart(lines, x_label="step", y_label=label)) for label, lines in there if lines]


def _rl_arms(manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The arms with steps of RL, by name."""
    arms = {key.removeprefix("rl/"): manifest for key, manifest in manifests.items() if key.startswith("rl/")}
    return {arm: manifest for arm, manifest in arms.items() if manifest.tables().get("phases")}


def _steps(manifest: Manifest) -> list[Row]:
    with (manifest.folder / "steps.jsonl").open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _points(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have one: a step without an update has no gradient, one without a verdict no reward."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over blocks of points, at the block's last step: (step, mean)."""
    block = max(1, min(SMOOTHING, len(points) // 10))
    blocks = [points[start : start + block] for start in range(0, len(points) - block + 1, block)]
    return [(part[-1][0], sum(value for _, value in part) / block) for part in blocks]
