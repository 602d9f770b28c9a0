"""Figures of samples by hand."""

import itertools
import math

import pyarrow as pa
import pytest

from stages.evaluation.metrics import (
    describe_responses,
    majority_by_problem,
    mean_by_problem,
    pass_at_k_by_problem,
)
from tests.stages.rl.scripted import samples


def answers(*rows: tuple[str, str], problem: str = "p") -> pa.Table:
    """Samples of one problem: answer and status."""
    return samples([{"problem_id": problem, "extracted": text, "status": status} for text, status in rows])


RIGHT, OTHER, THIRD, NONE = ("8", "correct"), ("7", "wrong"), ("9", "wrong"), ("", "no_answer")
FAILED = ("8", "judge_error")


def test_a_mean_is_over_what_was_judged() -> None:
    found = mean_by_problem({"a": [1.0, 0.0, 0.5, 0.5], "b": [1.0], "never judged": []})
    assert (found["a"], found["b"]) == (0.5, 1.0)
    assert math.isnan(found["never judged"])


def test_pass_at_k_is_the_share_of_draws_of_k_that_hold_a_solution() -> None:
    scores = {"a": [1.0, 0.0, 0.0, 1.0, 0.0], "b": [0.0] * 5, "too few": [1.0]}
    found = pass_at_k_by_problem(scores, k=2)
    draws = list(itertools.combinations(scores["a"], 2))
    assert found["a"] == pytest.approx(sum(map(max, draws)) / len(draws))
    assert found["b"] == 0
    assert math.isnan(found["too few"])


def test_credit_that_is_not_full_solves_nothing() -> None:
    assert pass_at_k_by_problem({"a": [0.5, 0.5, 0.9]}, k=3) == {"a": 0.0}


# ---------------------------------------------------------------- majority


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        ((RIGHT, RIGHT, OTHER), 1.0),
        ((OTHER, RIGHT, OTHER), 0.0),
        ((OTHER, RIGHT, THIRD), 1 / 3),
        ((OTHER, OTHER, RIGHT, RIGHT), 0.5),
        ((OTHER, OTHER, RIGHT, RIGHT, THIRD, THIRD, NONE), 1 / 3),
        ((RIGHT, NONE, NONE), 1.0),
        ((NONE, NONE, NONE), 0.0),
    ],
)
def test_the_answer_with_most_votes_decides_and_of_several_one_by_chance(rows: tuple, score: float) -> None:
    assert majority_by_problem(answers(*rows), k=len(rows)) == {"p": pytest.approx(score)}


def test_answers_are_the_same_but_for_white_space_that_changes_nothing() -> None:
    spaced = answers(("x + 1", "correct"), (" x+1", "correct"), ("y", "wrong"), ("y", "wrong"), ("x  +1 ", "correct"))
    assert majority_by_problem(spaced, k=5) == {"p": 1.0}
    assert majority_by_problem(answers(("1 2", "correct"), ("12", "wrong"), ("12", "wrong")), k=3) == {"p": 0.0}


def test_a_text_beside_no_answer_is_no_vote() -> None:
    assert majority_by_problem(answers(RIGHT, ("draft", "no_answer"), ("draft", "no_answer")), k=3) == {"p": 1.0}


def test_an_answer_that_is_judged_now_so_now_so_has_the_mean_of_its_verdicts() -> None:
    assert majority_by_problem(answers(RIGHT, ("8", "timeout"), OTHER), k=3) == {"p": 0.5}


def test_a_majority_is_of_the_first_k_that_were_judged() -> None:
    rows = (OTHER, FAILED, OTHER, RIGHT, RIGHT, RIGHT)
    assert majority_by_problem(answers(*rows), k=3) == {"p": 0.0}
    assert majority_by_problem(answers(*rows), k=5) == {"p": 1.0}
    assert math.isnan(majority_by_problem(answers(*rows), k=6)["p"])


def test_problems_vote_each_for_itself() -> None:
    table = pa.concat_tables([answers(RIGHT, RIGHT, OTHER), answers(OTHER, OTHER, RIGHT, problem="q")])
    assert majority_by_problem(table, k=3) == {"p": 1.0, "q": 0.0}
    assert math.isnan(majority_by_problem(answers(FAILED), k=1)["p"])


# ---------------------------------------------------------------- responses


def test_responses_are_told_by_their_lengths_and_by_what_came_of_them() -> None:
    rows = [
        {"num_tokens": 10, "status": "correct"},
        {"num_tokens": 20, "status": "no_answer", "truncated": True},
        {"num_tokens": 30, "status": "judge_error"},
        {"num_tokens": 60, "status": "bad_gold", "truncated": True},
        {"num_tokens": 130, "status": "timeout", "truncated": True},
    ]
    found = describe_responses(samples(rows))
    assert (found.num_responses, found.num_judge_failures) == (5, 2)
    assert (found.mean_tokens, found.median_tokens) == (50.0, 30.0)
    assert found.p95_tokens == pytest.approx(60 + 0.8 * 70)  # the place .95 x 4 = 3.8, between the fourth and the fifth
    assert (found.truncated, found.unparsable) == (pytest.approx(0.6), pytest.approx(0.2))


def test_no_responses_have_no_figures() -> None:
    found = describe_responses(samples([]))
    assert (found.num_responses, found.num_judge_failures) == (0, 0)
    figures = (found.mean_tokens, found.median_tokens, found.p95_tokens, found.truncated, found.unparsable)
    assert all(map(math.isnan, figures))
