"""What tables of judged samples say: scores by problem, policy entropy, length, failures of the judge.

A verdict of the judge's own failure is no wrong answer: it leaves numerator and denominator, and is counted.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.domains import FAILED_STATUSES


def judge_failures(table: pa.Table) -> int:
    """Rows of a sample table whose verdict is the judge's failure."""
    return int(pc.sum(_failed(table)).as_py() or 0)


def scores_by_problem(table: pa.Table) -> dict[str, list[float]]:
    """Problem id -> scores of its judged samples, in the order of the samples; a problem that was asked but never judged has none."""
    scores: dict[str, list[float]] = {problem_id: [] for problem_id in pc.unique(table["problem_id"]).to_pylist()}
    judged = table.filter(pc.invert(_failed(table)))
    for problem_id, score in zip(judged["problem_id"].to_pylist(), judged["score"].to_pylist(), strict=True):
        scores[problem_id].append(score)
    return scores


def mean_score(scores: Mapping[str, Sequence[float]]) -> float:
    """Mean over problems of the mean over their samples: pass@1 for several samples, accuracy for one. NaN without any."""
    means = [sum(values) / len(values) for values in scores.values() if values]
    return float(np.mean(means)) if means else float("nan")


def policy_entropy(table: pa.Table) -> float:
    """Mean over all response tokens of the full-softmax entropy at temperature 1, in nats (paper 4.3.1, our reading)."""
    tokens = table["num_tokens"].to_numpy().astype(np.float64)
    return float(np.dot(table["entropy"].to_numpy().astype(np.float64), tokens) / tokens.sum())


def mean_tokens(table: pa.Table) -> float:
    """Mean response length in tokens."""
    return float(pc.mean(table["num_tokens"]).as_py() or 0.0)


def status_counts(tables: Iterable[pa.Table]) -> dict[str, int]:
    """Status -> number of samples, over several tables."""
    counts: dict[str, int] = {}
    for table in tables:
        for entry in pc.value_counts(table["status"]).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(counts.items()))


def _failed(table: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(table["status"], value_set=pa.array(sorted(FAILED_STATUSES), pa.string()))
