"""A failure of the judge is no wrong answer; too many of them stop the stage."""

import pyarrow as pa
import pytest

from stages.config import EvaluationConfig
from stages.sampling.scores import failure_name, judge_failures, require_judged, scores_by_problem


def samples(*statuses: str) -> pa.Table:
    scores = [float(status == "correct") for status in statuses]
    return pa.table({"problem_id": ["p"] * len(statuses), "status": list(statuses), "score": scores})


def test_failures_of_the_judge_leave_the_denominator_and_are_counted():
    table = samples("correct", "judge_error", "bad_gold", "no_tests", "wrong")
    assert scores_by_problem(table) == {"p": [1.0, 0.0]}
    assert judge_failures([table, table]) == {"p (judge_error)": 2, "p (bad_gold)": 2, "p (no_tests)": 2}


def test_an_answers_own_time_out_is_wrong():
    table = samples("timeout", "resource_limit", "no_answer")
    assert scores_by_problem(table) == {"p": [0.0, 0.0, 0.0]}
    assert not judge_failures([table])


def require(failures: dict[str, int], num_verdicts: int, **limits: float) -> None:
    require_judged(failures, num_verdicts, config=EvaluationConfig(**limits), stage="evaluation")


def test_failures_above_the_stated_rate_stop_the_stage():
    require({"p (bad_gold)": 10}, 1000)
    require({}, 0, max_judge_failures=0.0)
    with pytest.raises(
        RuntimeError, match=r"11 of 1000 responses \(1.1%\), more than evaluation.max_judge_failures = 1.0%"
    ):
        require({"p (bad_gold)": 11}, 1000)


def test_a_few_failures_stop_no_stage_whatever_their_share():
    require({"p (judge_error)": 9}, 9)
    with pytest.raises(RuntimeError, match=r"at least evaluation.min_judge_failures = 10"):
        require({"p (judge_error)": 10}, 10)
    with pytest.raises(RuntimeError, match=r"min_judge_failures = 1:"):
        require({"p (judge_error)": 1}, 10, min_judge_failures=1)


def test_a_stage_that_stops_names_the_problems_that_failed_most():
    failures = {failure_name(f"p{count}", "judge_error"): count for count in range(1, 8)}
    with pytest.raises(
        RuntimeError, match=r"= 10: p7 \(judge_error\) x 7, p6 .* x 6, .* p3 \(judge_error\) x 3 and 2 more; see"
    ):
        require(failures, 100)
