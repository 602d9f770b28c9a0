"""Mathematics: what the judge calls equal."""

import itertools
import json

import pytest

from data.domains import FAILED_STATUSES, STATUSES, Policy
from data.domains.math_worker import EQUAL, MathWorkers, _Worker
from data.domains.plain import equal_when_plain, is_too_large
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


NUMBERS = ["0", "7", "-7", "+7", "- 7", "007", "7.0", "7.00000001", "7.0000001", "7.000001", "7.5", ".5", "0.50", "0.333333", "0.3333333",
    "123456789.4", "12345678901234567891", "3.14159265", "3.1415927", "0.002", "0.0020000001", "100.0000004", "100.0000006"]  # fmt: skip


def test_the_fast_path_agrees_with_math_verify(judge):
    pairs = list(itertools.product(NUMBERS, NUMBERS))
    for pair, answer in zip(pairs, judge._instruments.math.answer(pairs), strict=True):
        assert equal_when_plain(*pair) == (answer.word == EQUAL), pair


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}",
        "2^{3^20}",
        "10^{1000000}",
        "2004!",
        "\\binom{1000000}{500000}",
        "\\prod_{k=1}^{1000000} k",
        "(" * 90,
        "(x+1)^{1000}",
    ],
)
def test_a_bomb_is_seen_before_it_is_evaluated(text):
    assert is_too_large(text)


@pytest.mark.parametrize(
    "text", ["x^2+y^2", "e^{x^2}", "2^{2^3}", "10!", "\\binom{10}{3}", "\\sum_{k=1}^{100} k", "2^{100}"]
)
def test_ordinary_mathematics_is_no_bomb(text):
    assert not is_too_large(text)


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
        ({"decimal_tolerance": (1e-6, 0.0)}, "6.0200001", "6.02"),
    ],
)
def test_each_choice_of_policy_decides_both_ways(judge, option, answer, gold):
    ((name, (accepting, refusing)),) = option.items()
    problem = Problem("p", "math", "train", "", gold)
    for value, score in ((accepting, 1.0), (refusing, 0.0)):
        policy = Policy(**{name: value})
        assert judged_by(judge, policy, f"</think> \\boxed{{{answer}}}", problem) == score, value


def test_boxes_are_joined_only_by_the_policy(judge):
    problem = Problem("p", "math", "train", "", "\\{1,2\\}")
    response = "</think> The solutions are \\boxed{1} and \\boxed{2}."
    assert judged_by(judge, Policy(boxes_are_joined=True), response, problem) == 1.0
    assert judged_by(judge, Policy(), response, problem) == 0.0


def judged_by(judge, policy: Policy, response: str, problem: Problem) -> float:
    """The same workers, another policy."""
    before, judge._instruments.policy = judge._instruments.policy, policy
    try:
        return judge.verify([(response, problem)])[0].score
    finally:
        judge._instruments.policy = before
