"""From judged samples to scores by problem, and to results with intervals: what every evaluation does the same."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from data.schema import Problem
from stages.evaluation.metrics import majority_by_problem, mean_by_problem, pass_at_k_by_problem
from stages.evaluation.statistics import estimate_mean
from stages.sampling.scores import scores_by_problem
from stages.stage import Row

_SHOWN_PROBLEMS = 8
_PASS_AT = (4, 16)  # beside the number of samples
_FEWEST_VOTES = 3  # with two, a majority is the mean
ModelScores = Mapping[str, Mapping[str, float]]  # metric -> problem id -> value, NaN where not judged
Scores = Mapping[str, ModelScores]  # model -> its scores
Results = dict[str, dict[str, float]]  # `<model>/<group>/<metric>` -> value, low, high, n


def model_scores(greedy: pa.Table, sampled: pa.Table, *, num_samples: int) -> dict[str, dict[str, float]]:
    """Metric -> problem id -> value: `greedy`, `pass@1`, `pass@k` for k = 4, 16 and K, and from three samples on `maj@K`."""
    scores = scores_by_problem(sampled)
    sizes = sorted({*(k for k in _PASS_AT if k < num_samples), num_samples} - {1})
    voted = {f"maj@{num_samples}": majority_by_problem(sampled, k=num_samples)} if num_samples >= _FEWEST_VOTES else {}
    return {
        "greedy": mean_by_problem(scores_by_problem(greedy)),
        "pass@1": mean_by_problem(scores),
        **{f"pass@{k}": pass_at_k_by_problem(scores, k=k) for k in sizes},
        **voted,
    }


def score_results(
    scores: Scores, groups: Mapping[str, Sequence[str]], clusters: Mapping[str, str], *, confidence: float
) -> Results:
    """Each metric of each model over each group of problems, with its interval; a group of which nothing was judged has none."""
    results: Results = {}
    for model, metrics in scores.items():
        for group, ids in groups.items():
            clusters_P = [clusters[problem_id] for problem_id in ids]
            for metric, by_problem in metrics.items():
                values_P = np.array([by_problem[problem_id] for problem_id in ids])
                estimate = estimate_mean(values_P, confidence=confidence, clusters_P=clusters_P)
                if estimate is not None:
                    ends = {"low": estimate.low, "high": estimate.high, "n": estimate.num_problems}
                    results[f"{model}/{group}/{metric}"] = {"value": estimate.value, **ends}
    return results


def result_rows(results: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A row a result."""
    rows: list[Row] = []
    for name, entry in results.items():
        model, _, rest = name.partition("/")
        group, _, metric = rest.rpartition("/")  # a benchmark may have a / in its name
        rows.append({"model": model, "group": group, "metric": metric, **entry})
    return rows


def score_text(entry: Mapping[str, float] | None) -> str:
    """A result and its interval for people; empty where there is none."""
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]" if entry else ""


def with_model(tables: Iterable[pa.Table], models: Iterable[str]) -> pa.Table:
    """The rows of all tables, with a column that names the model of each."""
    named = [
        table.append_column("model", pa.array([model] * len(table), pa.string()))
        for table, model in zip(tables, models, strict=True)
    ]
    return pa.concat_tables(named)


def shown_samples(greedy: Mapping[str, pa.Table], problems: Sequence[Problem]) -> list[Row]:
    """The greedy responses of every model to the same few problems, with their verdicts, for people."""
    step = max(1, len(problems) // _SHOWN_PROBLEMS)
    shown = {problem.id: problem.prompt for problem in problems[::step][:_SHOWN_PROBLEMS]}
    rows = [
        {"problem": row["problem_id"], "prompt": shown[row["problem_id"]], "model": model}
        | {column: row[column] for column in ("status", "extracted", "response")}
        for model, table in greedy.items()
        for row in table.to_pylist()
        if row["problem_id"] in shown
    ]
    return sorted(rows, key=lambda row: row["problem"])
