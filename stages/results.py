"""What a chain found, gathered from the manifests of its stages."""

import json
from collections.abc import Mapping
from pathlib import Path

from stages.records.artifact import Manifest
from stages.records.run_ledger import RunLedger
from stages.report.findings import METRICS
from stages.report.page import render
from stages.report.tries import known_tries, with_tries

RESULTS = "results.json"
_ALL = "all"


def chain_results(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, float]]:
    """`<model>/<group>/<metric>` -> {value, low, high, n}; empty before evaluation."""
    evaluation = manifests.get("evaluation")
    return json.loads((evaluation.folder / RESULTS).read_text(encoding="utf-8")) if evaluation else {}


def chain_metrics(manifests: Mapping[str, Manifest]) -> dict[str, float]:
    """What the chain's own run shows: the scores over all problems with their intervals, and their paired differences.

    `mixed/all/greedy`, `mixed/all/greedy/low`, `mixed - sft/all/greedy`, and the same of pass@1: shares of right answers from 0 to 1.
    Every other group and metric is in the evaluation's own run. An evaluation without the group `all` shows every group.
    """
    evaluation = manifests.get("evaluation")
    if evaluation is None:
        return {}
    results = chain_results(manifests)
    differences = {name: value for name, value in evaluation.metrics.items() if " - " in name}
    found = {name: entry["value"] for name, entry in results.items()} | differences | interval_metrics(evaluation)
    is_over_all = any(_group(name) == _ALL for name in results)
    shown = [name for name in results.keys() | differences.keys() if _is_first(name, is_over_all=is_over_all)]
    return {name: value for name, value in found.items() if name.removesuffix("/low").removesuffix("/high") in shown}


def interval_metrics(evaluation: Manifest) -> dict[str, float]:
    """`<model>/<group>/<metric>/low` and `/high` of every result, which the evaluation's own run shows beside its metrics."""
    results = chain_results({"evaluation": evaluation})
    return {f"{name}/{end}": entry[end] for name, entry in results.items() for end in ("low", "high")}


def _is_first(name: str, *, is_over_all: bool) -> bool:
    return not is_over_all or (_group(name) == _ALL and name.rpartition("/")[2] in METRICS)


def _group(name: str) -> str:
    return name.rsplit("/", 2)[1]


def publish_report(manifests: Mapping[str, Manifest], *, title: str, home: Path, chain: str) -> Path:
    """Write reports/<chain>.html, where people look: the sealed report, or before that stage a page of what there is.

    In it stands how many tries the ledger of runs holds up to this one (`stages.report.tries`).
    """
    report = manifests.get("report")
    sealed = (report.folder / "report.html").read_text(encoding="utf-8") if report else render(title, manifests)
    page = with_tries(sealed, known_tries(RunLedger(home), chain))
    place = home / "reports" / f"{chain}.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_suffix(".new")
    beside.write_text(page, encoding="utf-8")
    beside.replace(place)
    return place
