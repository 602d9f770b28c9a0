"""What the run of a finished chain shows in MLflow beside its numbers: words, data sets, models, tags, and a name that tells."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.launch import Result, datasets_of
from stages.plan import PlannedStage
from stages.records.artifact import Manifest
from stages.records.browsing import ARM_CURVES, chain_description, chosen_of, tables_read
from stages.records.tracking import CHOSEN, ChainPage, Tracker
from stages.report.curves import rl_arms
from stages.report.findings import METRICS, chain_findings
from stages.sampling.prompting import MODEL

_SOURCE, _SPLIT = "raw source", "split"
_SFT = "sft"  # in results: the checkpoint that was chosen


def chain_page(
    specs: Mapping[str, PlannedStage],
    results: Mapping[str, Result],
    *,
    changed: Sequence[str],
    files: Sequence[Path],
    tracker: Tracker,
) -> ChainPage:
    """Of the results of a chain; `files` are its pages, `changed` what `--set` says, `tracker` knows the runs that made the results."""
    manifests = {key: result.manifest for key, result in results.items()}
    ran = [key for key, result in results.items() if result.status != "cached"]
    chosen = chosen_of(manifests["selection"]) if "selection" in manifests else None
    tags = {"ring.ran": json.dumps(ran), "ring.changed": json.dumps([*changed])}
    page = files[0] if files else None
    arms = [arm.document["mlflow_run_id"] for arm in rl_arms(manifests).values()]
    curves = tracker.charts([*ARM_CURVES], runs=arms)
    return ChainPage(
        description=chain_description(manifests, ran=ran, changed=changed, page=page, curves=curves),
        tags=tags | ({CHOSEN: chosen[0]} if chosen else {}),
        datasets=_datasets(specs, manifests),
        models=_models(manifests, chosen=chosen[0] if chosen else None),
        scores=_scores(manifests),
        suffix="" if ran else "(nothing ran)",
    )


def _datasets(
    specs: Mapping[str, PlannedStage], manifests: Mapping[str, Manifest]
) -> dict[str, list[tuple[str, Path, str]]]:
    """The files that curation read, and the splits that it made."""
    if (curation := manifests.get("curation")) is None:
        return {}
    splits = [
        (f"curation/{name.removesuffix('.parquet')}", curation.place / name, sha256)
        for name, sha256 in tables_read("", "", curation).items()
    ]
    return {_SOURCE: datasets_of(specs["curation"], {}), _SPLIT: splits}


def _models(manifests: Mapping[str, Manifest], *, chosen: str | None) -> dict[str, tuple[Manifest, str]]:
    """The base model, the chosen checkpoint and the end of every arm, by their names in results."""
    models = {"base": (manifests["base"], MODEL)} if "base" in manifests else {}
    models |= {_SFT: (manifests["sft"], chosen)} if chosen else {}
    return models | {one.arm: (one, MODEL) for one in manifests.values() if one.arm}


def _scores(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """Model -> greedy and pass@1 with their intervals."""
    rows = chain_findings(manifests).scores
    return {row["model"]: {name: row[name] for name in METRICS if row[name]} for row in rows}
