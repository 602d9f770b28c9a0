"""What a chain found, gathered from the manifests of its stages."""

import json
from collections.abc import Mapping
from pathlib import Path

from stages.records.artifact import Manifest
from stages.report.page import render


def chain_results(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, float]]:
    """`<model>/<group>/<metric>` -> {value, low, high, n}; empty before evaluation."""
    evaluation = manifests.get("evaluation")
    return json.loads((evaluation.folder / "results.json").read_text(encoding="utf-8")) if evaluation else {}


def chain_metrics(manifests: Mapping[str, Manifest]) -> dict[str, float]:
    """What the chain's own run shows: each result with its interval, and each paired difference (`mixed - sft/all/greedy`)."""
    results = chain_results(manifests)
    ends = {f"{name}/{end}": entry[end] for name, entry in results.items() for end in ("low", "high")}
    evaluation = manifests.get("evaluation")
    found = evaluation.metrics if evaluation else {}
    differences = {name: value for name, value in found.items() if " - " in name}
    return {name: entry["value"] for name, entry in results.items()} | ends | differences


def publish_report(manifests: Mapping[str, Manifest], *, title: str, home: Path, chain: str) -> Path:
    """Write reports/<chain>.html, where people look: the sealed report, or before that stage a page of what there is."""
    report = manifests.get("report")
    page = (report.folder / "report.html").read_text(encoding="utf-8") if report else render(title, manifests)
    place = home / "reports" / f"{chain}.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_suffix(".new")
    beside.write_text(page, encoding="utf-8")
    beside.replace(place)
    return place
