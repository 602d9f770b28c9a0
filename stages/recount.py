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

from data.benchmarks import find_benchmark
from data.schema import Problem, problems_from_table, read_table
from stages.config import ModelEvaluationConfig, RlArm, RlConfig
from stages.curation.splits import SPLITS
from stages.evaluation.groups import problem_clusters, problem_groups
from stages.evaluation.one_model import PROBLEMS, num_samples
from stages.evaluation.scores import Results, Scores, model_scores, score_results
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
    samples = pq.read_table(manifest.folder / SAMPLES, columns=list(_COUNTED))
    config = manifest.document["payload"]["config"]
    if (manifest.folder / PROBLEMS).is_file():
        return _of_one_model(manifest, samples)
    if "curation" not in inputs:
        return None
    problems = read_problems(inputs["curation"] / "heldout.parquet")
    trained = [problem.level for problem in read_problems(inputs["curation"] / "rl.parquet")]
    groups, clusters = problem_groups(problems, trained_levels=trained), problem_clusters(problems)
    scores = {
        model: _scores(samples.filter(pc.field("model") == model), config["samples_per_problem"])
        for model in dict.fromkeys(samples["model"].to_pylist())
    }
    return scores, score_results(scores, groups, clusters, confidence=config["confidence"]), clusters, groups


def _of_one_model(manifest: Manifest, samples: pa.Table) -> Counted:
    """An evaluation of one model on benchmarks: a group a benchmark, with as many samples as that asks."""
    config = ModelEvaluationConfig.model_validate(manifest.document["payload"]["config"])
    problems = read_problems(manifest.folder / PROBLEMS)
    clusters = problem_clusters(problems)
    groups: dict[str, list[str]] = {}
    for problem in problems:
        name = next(name for name in config.benchmarks if find_benchmark(name).owns(problem.source, problem.metadata))
        groups.setdefault(name, []).append(problem.id)
    results: Results = {}
    scores: dict[str, dict[str, float]] = {}
    for name, ids in groups.items():
        rows = samples.filter(pc.field("problem_id").isin(ids))
        found = _scores(rows, num_samples(config, find_benchmark(name)))
        results |= score_results({config.name: found}, {name: ids}, clusters, confidence=config.confidence)
        for metric, by_problem in found.items():
            scores.setdefault(metric, {}).update(by_problem)
    return {config.name: scores}, results, clusters, groups


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


def read_problems(path: Path) -> list[Problem]:
    """The problems of a table."""
    return problems_from_table(read_table(path))


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
    steps = rollout_steps(manifest.folder)
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
