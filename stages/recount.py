"""Figures of sealed results counted again from the rows that are stored with them, by the code that counted them first.

In: the folder of a result and those of its inputs. Out: a line for each figure that is another one than its rows give; none where all
agree. Counted are the scores of evaluations with intervals and paired differences, the candidates of a selection, the rows of a curation
and the figures of every step of an RL arm. Verdicts are taken as they stand: `ring rescore` makes those again.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.config import EvaluationConfig, ModelEvaluationConfig, RlArm, RlConfig
from stages.curation.splits import SPLITS
from stages.evaluation.asked import ASKED, Asked, asked_of, asked_of_one_model
from stages.evaluation.groups import problem_clusters
from stages.evaluation.parts import part_results
from stages.evaluation.scores import Results, Scores, model_scores
from stages.evaluation.statistics import estimate_difference
from stages.records.artifact import Manifest
from stages.records.rollouts import TEXT_COLUMNS, read_rollouts, rollout_steps
from stages.rl.figures import step_figures
from stages.sampling.scores import mean_pass_at_k, mean_score, policy_entropy, scores_by_problem
from stages.stage import Row
from stages.training.ledger import steps_of

SAMPLES, RESULTS = "samples.parquet", "results.json"
_TOLERANCE = 1e-9  # relative: another numpy may round a sum otherwise
_MOST = 5  # lines a result
_COUNTED = ("problem_id", "sample", "status", "score", "extracted", "model")
_ENDS = ("value", "low", "high", "n")
_GREEDY = -1  # of the column `sample`
Folders = Mapping[str, Path]  # input -> folder


def recount(manifest: Manifest, inputs: Folders) -> list[str]:
    """What does not follow from the stored rows. `inputs` are the folders of the results that it was made from, where they are there."""
    count = _COUNTS.get(manifest.stage)
    if count is None:
        return []
    try:
        lines = [*count(manifest, inputs)]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:  # rows that are not what was written
        return [f"recount: the rows cannot be counted again: {type(error).__name__}: {error}"]
    more = [f"recount: {len(lines) - _MOST} more figures differ"] if len(lines) > _MOST else []
    return [f"recount: {line}" for line in lines[:_MOST]] + more


def _differs(stated: Any, counted: Any) -> bool:  # noqa: ANN401 - of a JSON file
    if not isinstance(stated, int | float) or not isinstance(counted, int | float):
        return stated != counted
    return not (
        math.isclose(stated, counted, rel_tol=_TOLERANCE, abs_tol=1e-12) or (stated != stated != counted != counted)
    )


def _compared(stated: Mapping[str, Any], counted: Mapping[str, Any], *, where: str) -> Iterator[str]:
    """Lines of the figures that differ, of those that were counted."""
    for name, value in counted.items():
        if _differs(stated.get(name), value):
            yield f"{where}{name} is stated as {_text(stated.get(name))}, the rows give {_text(value)}"


def _text(value: Any) -> str:  # noqa: ANN401 - of a JSON file
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- evaluation


def _evaluation(manifest: Manifest, inputs: Folders) -> Iterator[str]:
    counted = counted_results(manifest, inputs)
    if counted is None:
        return
    scores, results, clusters, groups = counted
    stated = read_results(manifest.folder)
    for name in sorted(stated.keys() - results.keys()):
        yield f"{name} is stated, and no row belongs to it"
    for name, entry in results.items():
        yield from _compared(stated.get(name, {}), entry, where=f"{name} ")
    yield from _compared(manifest.metrics, {name: entry["value"] for name, entry in results.items()}, where="")
    yield from _differences(manifest, scores, clusters=clusters, groups=groups)
    of_results = {f"{row['model']}/{row['group']}/{row['metric']}": row for row in manifest.tables().get("results", ())}
    for name, row in of_results.items():
        yield from _compared(row, results.get(name, {}), where=f"table results: {name} ")


Counted = tuple[Scores, Results, dict[str, str], dict[str, list[str]]]


def counted_results(manifest: Manifest, inputs: Folders) -> Counted | None:
    """Scores by problem, results, clusters and groups of an evaluation, from its samples; None where its curation is not there."""
    asked = asked_again(manifest, inputs)
    if asked is None:
        return None
    samples = pq.read_table(manifest.folder / SAMPLES, columns=list(_COUNTED))
    confidence = manifest.document["payload"]["config"]["confidence"]
    scores: dict[str, dict[str, dict[str, float]]] = {}
    results: Results = {}
    for part in asked.parts:
        rows = samples.filter(pc.field("problem_id").isin([problem.id for problem in part.problems]))
        found = {
            model: _scores(rows.filter(pc.field("model") == model), part.num_samples) for model in _models(samples)
        }
        results |= part_results(part, found, confidence=confidence)
        for model, metrics in found.items():
            for metric, by_problem in metrics.items():
                scores.setdefault(model, {}).setdefault(metric, {}).update(by_problem)
    groups = {group: list(ids) for part in asked.parts for group, ids in part.groups.items()}
    return scores, results, problem_clusters(asked.problems), groups


def asked_again(manifest: Manifest, inputs: Folders) -> Asked | None:
    """What an evaluation asked; None where its curation is not there."""
    config = manifest.document["payload"]["config"]
    if (manifest.folder / ASKED).is_file():
        return asked_of_one_model(ModelEvaluationConfig.model_validate(config), manifest.folder)
    return asked_of(EvaluationConfig.model_validate(config), inputs["curation"]) if "curation" in inputs else None


def _models(samples: pa.Table) -> list[str]:
    return list(dict.fromkeys(samples["model"].to_pylist()))


def _scores(samples: pa.Table, count: int) -> dict[str, dict[str, float]]:
    is_greedy = pc.field("sample") == _GREEDY
    return model_scores(samples.filter(is_greedy), samples.filter(~is_greedy), num_samples=count)


def _differences(
    manifest: Manifest, scores: Scores, *, clusters: Mapping[str, str], groups: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    confidence = manifest.document["payload"]["config"]["confidence"]
    for row in manifest.tables().get("comparisons", ()):
        name = f"{row['model']} - {row['against']}/{row['group']}/{row['metric']}"
        ours, theirs = (scores[row[side]][row["metric"]] for side in ("model", "against"))
        ids = groups[row["group"]]
        found = estimate_difference(
            np.array([ours[one] - theirs[one] for one in ids]),
            confidence=confidence,
            clusters_P=[clusters[one] for one in ids],
        )
        if found is None:
            yield f"{name} is stated, and no row belongs to it"
            continue
        counted = {
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "n": found.num_problems,
            "p": found.p,
        }
        yield from _compared(row, counted, where=f"{name} ")
        yield from _compared({name: manifest.metrics.get(name)}, {name: found.value}, where="")


def read_results(folder: Path) -> Results:
    """The scores that an evaluation states, with their intervals."""
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


# ---------------------------------------------------------------- selection


def _selection(manifest: Manifest, _: Folders) -> Iterator[str]:
    rows = pq.read_table(
        manifest.folder / "probe.parquet", columns=["checkpoint", *_COUNTED[:-1], "entropy", "num_tokens"]
    )
    k = manifest.document["payload"]["config"]["samples_per_problem"]
    for stated in manifest.tables().get("candidates", ()):
        name = stated["checkpoint"]
        counted = _candidate(rows.filter(pc.field("checkpoint") == name), k)
        yield from _compared(stated, counted, where=f"{name} ")
        if stated["chosen"]:
            metrics = {f"selection/{key}": value for key, value in counted.items()}
            yield from _compared(manifest.metrics, metrics, where="")


def _candidate(rows: pa.Table, k: int) -> Row:
    is_greedy = pc.field("sample") == _GREEDY
    greedy, sampled = rows.filter(is_greedy), rows.filter(~is_greedy)
    scores = scores_by_problem(sampled)
    return {
        "entropy": policy_entropy(sampled),
        "pass@1": mean_score(scores),
        f"pass@{k}": mean_pass_at_k(scores, k=k),
        "greedy": mean_score(scores_by_problem(greedy)),
    }


# ---------------------------------------------------------------- curation


def _curation(manifest: Manifest, _: Folders) -> Iterator[str]:
    kept = {split: pq.read_metadata(manifest.folder / f"{split}.parquet").num_rows for split in SPLITS}
    steps = pq.read_table(manifest.folder / "dropped.parquet", columns=["step"])["step"].to_pylist()
    dropped = {
        name: sum(step == name.removeprefix("curation/dropped_by_") for step in steps)
        for name in manifest.metrics
        if name.startswith("curation/dropped_by_")
    }
    counted = {f"curation/{split}_rows": count for split, count in kept.items()} | dropped
    yield from _compared(manifest.metrics, counted, where="")


# ---------------------------------------------------------------- RL


def _rl(manifest: Manifest, _: Folders) -> Iterator[str]:
    steps = rollout_steps(manifest.folder_of_responses)
    if not steps:
        return
    config = RlConfig.model_validate(manifest.document["payload"]["config"])
    (arm,) = config.arms
    assert isinstance(arm, RlArm)  # others keep no rollouts
    stated = {row["step"]: row for row in steps_of(manifest.folder)}
    for step in steps:
        rows = read_rollouts(manifest.folder, step, TEXT_COLUMNS)
        of_phase = config.for_phase(arm.phase_of(step))
        yield from _compared(stated.get(step, {}), step_figures(rows, config=of_phase), where=f"step {step} ")
    last = stated.get(steps[-1], {})
    ends = {
        "reward/mean_final": "reward/mean",
        "policy/entropy_final": "policy/entropy",
        "tokens/trained": "tokens/trained",
    }
    counted = {name: last[figure] for name, figure in ends.items() if figure in last and name in manifest.metrics}
    yield from _compared(manifest.metrics, counted, where="")


_COUNTS: dict[str, Callable[[Manifest, Folders], Iterable[str]]] = {
    "curation": _curation,
    "selection": _selection,
    "rl": _rl,
    "evaluation": _evaluation,
}
