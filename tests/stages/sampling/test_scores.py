"""A failure of the judge is no wrong answer; too many of them stop the stage. Figures of samples, by hand."""

import itertools
import json
import math

import pyarrow as pa
import pytest

from stages.config import EvaluationConfig, RlConfig
from stages.sampling.scores import (
    GRADED_SCHEMA,
    JudgeWatch,
    checker_failures,
    count_solved,
    failure_name,
    judge_failures,
    mean_pass_at_k,
    mean_score,
    mean_tokens,
    num_solved,
    num_weak,
    pass_at_k,
    policy_entropy,
    require_judged,
    scores_by_problem,
    status_counts,
)
from tests.stages.conftest import arm_config


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


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_stage_that_stops_names_all_problems_that_failed_where_they_are_few(count: int) -> None:
    failures = {failure_name(f"p{number}", "judge_error"): 10 for number in range(count)}
    with pytest.raises(RuntimeError) as caught:
        require(failures, 100)
    named = ", ".join(f"p{number} (judge_error) x 10" for number in range(count))
    assert f"= 10: {named}; see" in str(caught.value)


def test_a_share_at_the_limit_stops_no_stage():
    require({"p (bad_gold)": 20}, 200, max_judge_failures=0.1)
    with pytest.raises(RuntimeError, match=r"21 of 200 responses \(10.5%\)"):
        require({"p (bad_gold)": 21}, 200, max_judge_failures=0.1)


# ---------------------------------------------------------------- the watch over many steps


def watch_config(**limits: float) -> RlConfig:
    return arm_config(**{"max_judge_failures": 0.1, "min_judge_failures": 3, **limits})


def noted(watch: JudgeWatch, *steps: tuple[int, int]) -> JudgeWatch:
    """Steps of (verdicts, failures); the failures are of a problem that is named by its step."""
    for number, (num_verdicts, failed) in enumerate(steps):
        watch.note([(f"p{number}", "judge_error")] * failed, num_verdicts=num_verdicts)
    return watch


def test_a_watch_looks_at_the_last_twenty_steps_and_no_further():
    watch = noted(JudgeWatch(watch_config()), (10, 10), *[(10, 0)] * 18)
    assert len(watch.recent) == 19
    noted(watch, (10, 11))  # 21 of 200
    with pytest.raises(RuntimeError, match=r"21 of 200 responses \(10.5%\), more than rl.max_judge_failures = 10.0%"):
        watch.require()
    noted(watch, (10, 0))  # the step of the first ten failures is the twenty-first
    assert len(watch.recent) == 20
    watch.require()


def test_a_watch_names_the_problems_that_failed_over_all_its_steps():
    watch = JudgeWatch(watch_config())
    for _ in range(3):
        watch.note([("a", "judge_error"), ("a", "judge_error"), ("b", "bad_gold")], num_verdicts=4)
    with pytest.raises(RuntimeError, match=r"9 of 12 .*: a \(judge_error\) x 6, b \(bad_gold\) x 3; see"):
        watch.require()


def test_a_watch_that_is_saved_goes_on_where_it_was():
    watch = noted(JudgeWatch(watch_config()), (4, 2), (4, 0))
    saved = json.loads(json.dumps(watch.recent))
    assert watch.recent == [(4, {"p0 (judge_error)": 2}), (4, {})]
    again = JudgeWatch(watch_config(), recent=saved)
    assert again.recent == watch.recent
    noted(again, (4, 1))
    with pytest.raises(RuntimeError, match="3 of 12"):
        again.require()
    watch.require()


def test_what_is_asked_of_a_watch_changes_nothing_of_it():
    watch = noted(JudgeWatch(watch_config()), (4, 1))
    watch.recent.clear()
    assert watch.recent == [(4, {"p0 (judge_error)": 1})]
    JudgeWatch(watch_config()).require()  # of nothing


# ---------------------------------------------------------------- figures


def test_checker_failures_and_weak_verdicts_are_counted_over_all_tables():
    tables = [
        pa.table({"checker_failed": [True, False, None, True], "weak": [False, True, True, True]}),
        pa.table({"checker_failed": [True], "weak": [False]}),
    ]
    assert checker_failures(tables) == 3
    assert num_weak(tables) == 3
    assert checker_failures([]) == num_weak([]) == 0


def test_a_mean_is_over_problems_of_the_mean_over_their_judged_samples():
    assert mean_score({"a": [1.0, 0.0], "b": [1.0], "never judged": []}) == pytest.approx(0.75)
    assert mean_score({"a": [1.0, 1.0, 0.0, 0.0], "b": [0.0]}) == pytest.approx(0.25)
    assert math.isnan(mean_score({"never judged": []})) and math.isnan(mean_score({}))


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"), [(4, 0, 4, 0.0), (4, 1, 4, 1.0), (4, 1, 1, 0.25), (4, 2, 2, 5 / 6), (3, 3, 1, 1.0)]
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, num_correct=c, k=k) == pytest.approx(expected)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample() -> None:
    right = [True, False, False, True, False, False]
    subsets = list(itertools.combinations(right, 3))
    assert pass_at_k(6, num_correct=2, k=3) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_needs_k_judged_samples() -> None:
    assert math.isnan(pass_at_k(3, num_correct=1, k=4))


def test_a_mean_of_pass_at_k_is_over_the_problems_with_k_judged_samples() -> None:
    scores = {"a": [1.0, 0.0, 0.0], "b": [0.0, 0.0], "one judged": [1.0], "never judged": []}
    assert mean_pass_at_k(scores, k=2) == pytest.approx((2 / 3 + 0) / 2)  # 2 of the 3 pairs of a hold its right sample
    assert mean_pass_at_k(scores, k=3) == 1
    assert mean_pass_at_k(scores, k=1) == pytest.approx(mean_score(scores))
    assert math.isnan(mean_pass_at_k(scores, k=4)) and math.isnan(mean_pass_at_k({}, k=1))


def test_partial_credit_solves_nothing_however_often_it_is_given() -> None:
    assert num_solved([0.5, 1.0, 0.5, 0.99, 1.0]) == 2
    assert mean_pass_at_k({"a": [0.5, 0.5], "b": [1.0, 0.0]}, k=2) == 0.5


def test_pass_at_k_counts_no_failure_of_the_judge_as_wrong() -> None:
    table = samples("correct", "judge_error", "wrong", "wrong")
    assert mean_pass_at_k(scores_by_problem(table), k=2) == pytest.approx(2 / 3)


def test_a_problem_that_was_never_judged_has_no_score_and_others_keep_the_order_of_their_samples():
    table = pa.table(
        {
            "problem_id": ["a", "b", "a", "a"],
            "status": ["correct", "bad_gold", "wrong", "correct"],
            "score": [1.0, 0.0, 0.5, 1.0],
        }
    )
    assert scores_by_problem(table) == {"a": [1.0, 0.5, 1.0], "b": []}


def test_entropy_and_length_are_means_over_tokens_and_over_responses():
    table = pa.table(
        {
            "num_tokens": pa.array([1, 3, 4], pa.int32()),
            "entropy": pa.array([4.0, 2.0, 0.5], pa.float32()),
        }
    )
    assert policy_entropy(table) == pytest.approx((1 * 4.0 + 3 * 2.0 + 4 * 0.5) / 8)
    assert mean_tokens(table) == pytest.approx(8 / 3)
    assert mean_tokens(table.slice(0, 0)) == 0.0


def test_statuses_are_counted_over_all_tables_by_name():
    tables = [samples("wrong", "correct"), samples("correct", "bad_gold")]
    assert list(status_counts(tables).items()) == [("bad_gold", 1), ("correct", 2), ("wrong", 1)]


def graded(*rows: tuple[str, str]) -> pa.Table:
    return pa.table({"problem_id": [name for name, _ in rows], "status": [status for _, status in rows]})


def test_a_problem_is_graded_by_counts_of_what_was_judged():
    rows = [
        *(("a", status) for status in ("correct", "wrong", "correct", "judge_error")),
        *(("b", status) for status in ("no_answer", "timeout", "wrong", "wrong")),
        *(("c", "bad_gold") for _ in range(4)),
    ]
    table = count_solved(graded(*rows), num_samples=4)
    assert table.schema == GRADED_SCHEMA
    assert table.to_pydict() == {
        "problem_id": ["a", "b", "c"],
        "num_correct": [2, 0, 0],
        "num_samples": [3, 4, 0],
        "failures": [1, 0, 4],
        "stronger_correct": [None, None, None],
        "stronger_samples": [None, None, None],
    }


def test_a_stronger_model_is_counted_where_it_was_asked_and_judged():
    own = graded(("a", "wrong"), ("b", "wrong"), ("c", "wrong"), ("d", "wrong"))
    stronger = graded(("b", "correct"), ("b", "wrong"), ("c", "wrong"), ("d", "judge_error"), ("elsewhere", "correct"))
    table = count_solved(own, num_samples=1, stronger=stronger)
    assert table["problem_id"].to_pylist() == ["a", "b", "c", "d"]
    assert table["stronger_correct"].to_pylist() == [None, 1, 0, None]
    assert table["stronger_samples"].to_pylist() == [None, 2, 1, None]
    assert table["num_correct"].to_pylist() == [0, 0, 0, 0]


def lengths(*num_tokens: int | None, entropy: float = 0.5) -> pa.Table:
    return pa.table(
        {"num_tokens": pa.array(num_tokens, pa.int32()), "entropy": pa.array([entropy] * len(num_tokens), pa.float32())}
    )


def test_a_length_that_a_server_does_not_tell_is_left_out_of_the_mean():
    assert mean_tokens(lengths(2, None, 5)) == 3.5
    assert math.isnan(mean_tokens(lengths(None, None)))
    assert mean_tokens(lengths()) == 0.0


def test_an_entropy_that_is_not_known_is_no_number():
    assert policy_entropy(lengths(2, 5)) == 0.5
    assert math.isnan(policy_entropy(lengths(2, None)))
    assert math.isnan(policy_entropy(lengths(2, 5, entropy=math.nan)))
    assert math.isnan(policy_entropy(lengths()))
