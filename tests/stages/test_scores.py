"""A failure of the judge is no wrong answer; too many of them stop the stage."""

import pyarrow as pa
import pytest

from stages.scores import judge_failures, require_judged, scores_by_problem


def samples(*statuses: str) -> pa.Table:
    scores = [float(status == "correct") for status in statuses]
    return pa.table({"problem_id": ["p"] * len(statuses), "status": list(statuses), "score": scores})


def test_failures_of_the_judge_leave_the_denominator_and_are_counted():
    table = samples("correct", "judge_error", "bad_gold", "no_tests", "wrong")
    assert scores_by_problem(table) == {"p": [1.0, 0.0]}
    assert judge_failures(table) == 3


def test_an_answers_own_time_out_is_wrong():
    table = samples("timeout", "resource_limit", "no_answer")
    assert scores_by_problem(table) == {"p": [0.0, 0.0, 0.0]}
    assert judge_failures(table) == 0


def test_failures_above_the_stated_rate_stop_the_stage():
    require_judged(1, 100, limit=0.01, key="evaluation.max_judge_failures")
    require_judged(0, 0, limit=0.0, key="evaluation.max_judge_failures")
    with pytest.raises(
        RuntimeError, match=r"2 of 100 responses \(2.0%\), more than evaluation.max_judge_failures = 1.0%"
    ):
        require_judged(2, 100, limit=0.01, key="evaluation.max_judge_failures")
