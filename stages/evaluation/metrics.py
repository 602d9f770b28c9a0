"""What tables of samples (SAMPLE_SCHEMA) say of a model, a number a problem: means, pass@k, maj@k; and how its responses are.

A verdict of the judge's own failure is no wrong answer: it leaves numerator and denominator, and is counted. A problem with fewer judged
samples than a metric needs has NaN there, which `statistics` leaves out. `scores` are those of `stages.sampling.scores.scores_by_problem`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pyarrow as pa

from data.domains import FAILED_STATUSES
from data.domains.plain import squeezed
from stages.sampling.scores import num_solved, pass_at_k

NO_ANSWER = "no_answer"  # status of a response in which no answer was found
_VOTING = ("problem_id", "status", "extracted", "score")
_LONG = 95  # percentile of lengths


@dataclass(frozen=True, slots=True)
class Responses:
    """How the responses of a table are; shares are of all of them, NaN without any."""

    num_responses: int
    mean_tokens: float
    median_tokens: float
    p95_tokens: float
    truncated: float  # share that was cut at the limit
    unparsable: float  # share in which no answer was found
    num_judge_failures: int  # responses on which the judge failed


def mean_by_problem(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean over a problem's judged samples: its greedy verdict where there is one sample, avg@k (also called pass@1) for k of them."""
    return {name: fmean(judged) if judged else math.nan for name, judged in scores.items()}


def pass_at_k_by_problem(scores: Mapping[str, Sequence[float]], *, k: int) -> dict[str, float]:
    """Unbiased chance that one of k samples solves a problem (Chen et al. 2021, eq. 1), from n >= k judged ones."""
    return {name: pass_at_k(len(judged), num_correct=num_solved(judged), k=k) for name, judged in scores.items()}


def majority_by_problem(samples: pa.Table, *, k: int) -> dict[str, float]:
    """maj@k (Wang et al. 2023): the score of the answer that most of the first k judged samples gave.

    Answers are the same where their texts are, but for white space that changes nothing; responses without an answer do not vote, and a
    problem without a vote scores 0. Where several answers have the most votes the score is the mean over them, which is what drawing one
    of them would score on average. An answer's score is the mean over the responses that gave it.
    """
    ballots: dict[str, list[tuple[str, float]]] = {}
    for problem_id, status, extracted, score in zip(*(samples[name].to_pylist() for name in _VOTING), strict=True):
        judged = ballots.setdefault(problem_id, [])
        if status not in FAILED_STATUSES:
            judged.append(("" if status == NO_ANSWER else squeezed(extracted), score))
    return {name: _majority(judged[:k]) if len(judged) >= k else math.nan for name, judged in ballots.items()}


def _majority(ballot: Iterable[tuple[str, float]]) -> float:
    """Of pairs of an answer, empty where there is none, and its score."""
    scores: dict[str, list[float]] = {}
    for answer, score in ballot:
        if answer:
            scores.setdefault(answer, []).append(score)
    most = max(map(len, scores.values()), default=0)
    first = [fmean(given) for given in scores.values() if len(given) == most]
    return fmean(first) if first else 0.0


def describe_responses(samples: pa.Table) -> Responses:
    """Lengths in tokens; percentiles as numpy's, linear between two."""
    statuses, tokens = samples["status"].to_pylist(), samples["num_tokens"].to_numpy()
    median, long = np.percentile(tokens, (50, _LONG)) if len(tokens) else (math.nan, math.nan)
    return Responses(
        num_responses=len(samples),
        mean_tokens=_mean(tokens),
        median_tokens=float(median),
        p95_tokens=float(long),
        truncated=_mean(samples["truncated"].to_pylist()),
        unparsable=_mean([status == NO_ANSWER for status in statuses]),
        num_judge_failures=sum(status in FAILED_STATUSES for status in statuses),
    )


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
