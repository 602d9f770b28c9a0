"""What tables of judged samples say: scores by problem, policy entropy, length, failures of the judge.

A verdict of the judge's own failure is no wrong answer: it leaves numerator and denominator, and is counted.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.domains import FAILED_STATUSES
from stages.config import EvaluationConfig, RlConfig, SelectionConfig, StageName

GRADED_SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("num_correct", pa.int32()),
        ("num_samples", pa.int32()),  # that were judged
        ("failures", pa.int32()),
        ("stronger_correct", pa.int32()),  # null where no stronger model was asked, or no answer of it was judged
        ("stronger_samples", pa.int32()),  # of its answers those that were judged
    ]
)
_JUDGED = ("problem_id", "status", "score")
_NAMED_FAILURES = 5  # in the message of a stage that stops


def failure_name(problem_id: str, status: str) -> str:
    """How a failure of the judge is counted and told: by problem and status."""
    return f"{problem_id} ({status})"


def judge_failures(tables: Iterable[pa.Table]) -> Counter[str]:
    """The verdicts in tables of samples that are the judge's failure, by `failure_name`."""
    return Counter(
        failure_name(problem_id, status)
        for table in tables
        for problem_id, status in zip(table["problem_id"].to_pylist(), table["status"].to_pylist(), strict=True)
        if status in FAILED_STATUSES
    )


def checker_failures(tables: Iterable[pa.Table]) -> int:
    """Answers that count as wrong because the checker did not come back on them."""
    return sum(flag is True for table in tables for flag in table["checker_failed"].to_pylist())


def num_weak(tables: Iterable[pa.Table]) -> int:
    """Correct verdicts on evidence that the answer could have made up."""
    return sum(sum(table["weak"].to_pylist()) for table in tables)


def require_judged(
    failures: Mapping[str, int],
    num_verdicts: int,
    *,
    config: SelectionConfig | RlConfig | EvaluationConfig,
    stage: StageName,
) -> None:
    """Stop the stage where the judge itself fails too often: what is left would say nothing.

    Raises:
        RuntimeError: there are at least `min_judge_failures` (counted by `failure_name`), and their share is above `max_judge_failures`.

    """
    count, limit, least = sum(failures.values()), config.max_judge_failures, config.min_judge_failures
    if count < least or count <= limit * num_verdicts:
        return
    raise RuntimeError(
        f"the judge failed on {count} of {num_verdicts} responses ({count / num_verdicts:.1%}), more than {stage}.max_judge_failures = "
        f"{limit:.1%} with at least {stage}.min_judge_failures = {least}: {_named(failures)}; see `status` in the table of responses, "
        "mend the cause and run again"
    )


class JudgeWatch:
    """Stops a stage of many steps where the judge itself fails too often of late: `require_judged` over the last steps."""

    STEPS = 20

    def __init__(self, config: RlConfig, *, recent: Sequence[tuple[int, Mapping[str, int]]] = ()) -> None:
        """`recent` is that of another watch, which this one goes on with."""
        self._config = config
        self._recent = [(num_verdicts, dict(failures)) for num_verdicts, failures in recent]

    @property
    def recent(self) -> list[tuple[int, dict[str, int]]]:
        """Verdicts and failures, by `failure_name`, of the last steps; plain, to be saved."""
        return list(self._recent)

    def note(self, failures: Iterable[tuple[str, str]], *, num_verdicts: int) -> None:
        """A step's verdicts, and of them the failures: pairs of problem and status."""
        self._recent.append((num_verdicts, dict(Counter(failure_name(*failure) for failure in failures))))
        del self._recent[: -self.STEPS]

    def require(self) -> None:
        """Raises RuntimeError as `require_judged`."""
        failures = sum((Counter(failures) for _, failures in self._recent), Counter())
        require_judged(failures, sum(count for count, _ in self._recent), config=self._config, stage="rl")


def _named(failures: Mapping[str, int]) -> str:
    """The most frequent first."""
    first = [f"{name} x {count}" for name, count in Counter(failures).most_common(_NAMED_FAILURES)]
    return ", ".join(first) + (f" and {len(failures) - len(first)} more" if len(failures) > len(first) else "")


def scores_by_problem(table: pa.Table) -> dict[str, list[float]]:
    """Problem id -> scores of its judged samples, in the order of the samples; a problem that was asked but never judged has none."""
    scores: dict[str, list[float]] = {}
    for problem_id, status, score in zip(*(table[name].to_pylist() for name in _JUDGED), strict=True):
        judged = scores.setdefault(problem_id, [])
        if status not in FAILED_STATUSES:
            judged.append(score)
    return scores


def mean_score(scores: Mapping[str, Sequence[float]]) -> float:
    """Mean over problems of the mean over their samples: pass@1 for several samples, accuracy for one. NaN without any."""
    means = [sum(values) / len(values) for values in scores.values() if values]
    return float(np.mean(means)) if means else float("nan")


def pass_at_k(num_samples: int, *, num_correct: int, k: int) -> float:
    """Unbiased chance that at least one of k samples is right: 1 - C(n-c, k) / C(n, k). NaN if fewer than k were judged."""
    if num_samples < k:
        return math.nan
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def num_solved(judged: Sequence[float]) -> int:
    """Of a problem's scores those in full: partial credit solves nothing, however often it is given."""
    return sum(score == 1 for score in judged)


def mean_pass_at_k(scores: Mapping[str, Sequence[float]], *, k: int) -> float:
    """Mean over problems of pass@k from their judged samples; those with fewer than k are left out. NaN where none has k."""
    values = [
        pass_at_k(len(judged), num_correct=num_solved(judged), k=k) for judged in scores.values() if len(judged) >= k
    ]
    return float(np.mean(values)) if values else math.nan


def policy_entropy(table: pa.Table) -> float:
    """Mean over all response tokens of the full-softmax entropy at temperature 1, in nats (paper 4.3.1, our reading).

    NaN where there is no token, or a response whose entropy or length nobody told.
    """
    tokens = _num_tokens(table)
    total = tokens.sum()
    return float(np.dot(table["entropy"].to_numpy().astype(np.float64), tokens) / total) if total else math.nan


def entropy_figure(name: str, table: pa.Table) -> dict[str, float]:
    """`policy_entropy` under a name; nothing where nobody told it, as of a server's responses."""
    entropy = policy_entropy(table)
    return {} if math.isnan(entropy) else {name: entropy}


def mean_tokens(table: pa.Table) -> float:
    """Mean response length in tokens, of the responses whose length is known; 0 without a response, NaN where none is known."""
    known = _num_tokens(table)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan if len(table) else 0.0


def _num_tokens(table: pa.Table) -> np.ndarray:
    """float64; NaN where a server does not tell."""
    return table["num_tokens"].to_numpy().astype(np.float64)


def status_counts(tables: Iterable[pa.Table]) -> dict[str, int]:
    """Status -> number of samples, over several tables."""
    return dict(sorted(Counter(status for table in tables for status in table["status"].to_pylist()).items()))


def count_solved(samples: pa.Table, *, num_samples: int, stronger: pa.Table | None = None) -> pa.Table:
    """`GRADED_SCHEMA` by problem: how many of the judged samples are correct, how many were judged and how many failed.

    Counts and no rates: a rule of 7 in 10 must not depend on how .7 is rounded. `stronger` are the samples of a stronger model,
    for some of the problems. A function of the kept samples and nothing else.
    """
    own = _solved(samples)
    by_stronger = {} if stronger is None else _solved(stronger)
    asked = [by_stronger.get(problem_id) or _Solved() for problem_id in own]
    return pa.table(
        {
            "problem_id": list(own),
            "num_correct": [solved.correct for solved in own.values()],
            "num_samples": [solved.judged for solved in own.values()],
            "failures": [num_samples - solved.judged for solved in own.values()],
            "stronger_correct": [solved.correct if solved.judged else None for solved in asked],
            "stronger_samples": [solved.judged or None for solved in asked],
        },
        schema=GRADED_SCHEMA,
    )


@dataclass(slots=True)
class _Solved:
    """Verdicts on one problem."""

    correct: int = 0
    judged: int = 0


def _solved(samples: pa.Table) -> dict[str, _Solved]:
    found: dict[str, _Solved] = {}
    for problem_id, status in zip(samples["problem_id"].to_pylist(), samples["status"].to_pylist(), strict=True):
        solved = found.setdefault(problem_id, _Solved())
        solved.judged += status not in FAILED_STATUSES
        solved.correct += status == "correct"
    return found
