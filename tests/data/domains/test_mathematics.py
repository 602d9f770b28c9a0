"""Mathematics: what the judge calls equal."""

import json

import pytest

from data.domains import FAILED_STATUSES, STATUSES, Policy
from data.domains.math_worker import EQUAL, MathWorkers, _Worker
from data.domains.plain import equal_when_plain
from data.schema import Problem


def status(judge, answer: str, gold: str, domain: str = "math") -> str:
    return judge.verify([(f"steps </think> \\boxed{{{answer}}}", Problem("p", domain, "train", "", gold))])[0].status


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (" 3 ", "3"), ("\\frac{6}{2}", "3"), ("\\frac { 1 } { 2 }", "\\frac{1}{2}"), ("0.5", "\\frac{1}{2}"),
        ("10\\,000", "10000"), ("7.", "7"), ("1,000,000", "1000000"), ("2, 1", "1,2"), ("A, C", "AC"),
        ("6.63 \\times 10^{-34}", "6.63\\cdot 10^{-34}"), ("100\\text{ cm}", "1\\text{ m}"), ("5 apples", "5"),
        ("10^{10^{10}}", "10^{10^{10}}"), ("x^2+2x+1", "(x+1)^2"), ("]0,1]", "(0,1]"), ("1", "\\tan 45^\\circ"),
        ("\\text{The answer is } 12", "12"), ("((((7))))", "7"), ("0.1\\overline{6}", "\\frac{1}{6}"), ("2:6", "1:3"),
        ("[-2,1)", "\\{x \\mid -2\\le x<1\\}"), ("\\zeta(2)", "\\frac{\\pi^2}{6}"), ("2516_8", "2516_{8}"), ("12_8", "12_8"),
    ],
)  # fmt: skip
def test_the_same_answer_written_otherwise_is_correct(judge, answer, gold):
    assert status(judge, answer, gold) == "correct"


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("4", "3"), ("-3", "3"), ("6.63\\times 10^{-34}", "1.05\\times 10^{-34}"), ("0.0000002", "0.0000001"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"), ("10\\text{ m}", "10\\text{ cm}"), ("A", "AC"),
        ("2516_7", "2516_8"), ("0.3", "0.\\overline{3}"), ("[0,1]", "]0,1]"), ("x + 10^{-9}", "x"), ("2^{50}+1", "2^{50}"),
        ("3\\text{ hours } 20 \\text{ minutes}", "3"), ("10^{10^{10}}", "7"), ("100000000!", "7"),
        ("((((" * 100 + "7" + "))))" * 100, "8"), ("7 or 8", "7"), ("9" * 3000, "9"), ("1" * 40 + ".5", "1" * 40 + ".25"),
    ],
)  # fmt: skip
def test_another_answer_is_wrong(judge, answer, gold):
    assert status(judge, answer, gold) == "wrong"


@pytest.mark.parametrize(
    "response", ["", "\\boxed{3}", "\\boxed{3} </think> done", "</think> \\boxed{3", "</think> 3", "</think> \\boxed{}"]
)
def test_a_response_without_a_closed_box_after_the_thinking_has_no_answer(judge, response):
    verdict = judge.verify([(response, Problem("p", "math", "train", "", "3"))])[0]
    assert (verdict.status, verdict.score, verdict.is_failure) == ("no_answer", 0.0, False)


def test_a_problem_without_an_answer_is_the_judges_failure(judge):
    assert status(judge, "3", "") == "bad_gold"


def test_a_worker_that_ended_is_replaced(judge):
    assert status(judge, "\\frac{8}{2}", "4") == "correct"
    for worker in judge._instruments.math._workers:
        worker._process.kill()
    assert status(judge, "\\frac{10}{2}", "5") == "correct"


def test_a_worker_that_is_killed_while_it_starts_is_replaced():
    workers = MathWorkers()
    workers._workers.append(_Worker())
    workers._workers[0]._process.kill()
    assert workers.compare("4", "\\frac{8}{2}") == EQUAL
    workers.close()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("0.333333", "0.3333333333", True),  # its rounding to six places
        ("0.333334", "0.3333333333", False),
        ("6.02", "6.0200001", False),  # two places are too few to stand for another decimal
        ("0.0000001", "0.0000002", False),
        ("71.4142135623730", "71.4142135623731", False),
        ("007", "7.0", True),
        ("-7", "- 7", True),
        ("1" * 40, "1" * 39 + "2", False),
    ],
)
def test_a_decimal_stands_for_what_it_is_the_rounding_of(left, right, same):
    assert equal_when_plain(left, right) is same
    assert equal_when_plain(right, left) is same


def test_the_cases_without_a_question_of_policy_have_no_false_positive(judge, shared_data):
    cases = map(
        json.loads, (shared_data / "cases" / "math_verifier_cases.jsonl").read_text(encoding="utf-8").splitlines()
    )
    cases = [case for case in cases if not case["policy"]]
    verdicts = judge.verify(
        [(case["response"], Problem(case["id"], "math", "eval", "", case["gold"])) for case in cases]
    )
    wrong = {
        case["id"]
        for case, verdict in zip(cases, verdicts, strict=True)
        if (verdict.score == 1.0) != case["should_pass"]
    }
    assert wrong == set()
    assert all(verdict.status in STATUSES for verdict in verdicts)
    assert not any(verdict.status in FAILED_STATUSES for verdict in verdicts)


@pytest.mark.parametrize(
    ("option", "answer", "gold"),
    [
        ({"percent_is_optional": (True, False)}, "50", "50\\%"),
        ({"percent_has_value": (True, False)}, "0.5", "50\\%"),
        ({"percent_has_value": (True, False)}, "500\\%", "5"),
        ({"order_is_free": (True, False)}, "2, 1", "1, 2"),
        ({"braces_are_optional": (True, False)}, "1,2,3", "\\{1,2,3\\}"),
        ({"left_side_is_optional": (True, False)}, "2x+3", "y=2x+3"),
        ({"units_are_converted": (True, False)}, "1\\text{ m}", "100\\text{ cm}"),
        ({"ratio_is_quotient": (True, False)}, "14:3", "\\frac{14}{3}"),
        ({"base_has_value": (True, False)}, "5", "101_2"),
        ({"rounded_places": (6, 0)}, "0.3333333333", "\\frac{1}{3}"),
    ],
)
def test_each_choice_of_policy_decides_both_ways(judge, option, answer, gold):
    ((name, (accepting, refusing)),) = option.items()
    problem = Problem("p", "math", "train", "", gold)
    for value, score in ((accepting, 1.0), (refusing, 0.0)):
        policy = Policy(**{name: value})
        assert judged_by(judge, policy, f"</think> \\boxed{{{answer}}}", problem) == score, value


def test_boxes_that_stand_together_are_one_answer_unless_the_policy_says_otherwise(judge):
    problem = Problem("p", "math", "train", "", "\\{1,2\\}")
    response = "</think> The solutions are \\boxed{1} and \\boxed{2}."
    assert judged_by(judge, Policy(), response, problem) == 1.0
    assert judged_by(judge, Policy(boxes_are_joined=False), response, problem) == 0.0


def judged_by(judge, policy: Policy, response: str, problem: Problem) -> float:
    """The same workers, another policy."""
    before, judge._instruments.policy = judge._instruments.policy, policy
    try:
        return judge.verify([(response, problem)])[0].score
    finally:
        judge._instruments.policy = before
