"""The judge as its callers see it."""

import pytest

from data.domains import DOMAINS, PROMPT_SUFFIXES, Domain, Judge, verify
from data.schema import Problem


def test_making_a_judge_starts_no_process():
    with Judge() as judge:
        assert judge.verify([("steps </think> \\boxed{ 3 }", Problem("p", "math", "train", "", "3"))])[0].score == 1.0
        assert not judge._instruments.math._workers
        assert judge._instruments._sandbox._process is None


def test_verdicts_come_in_the_order_of_the_responses(judge):
    problem = Problem("p", "math", "train", "", "3")
    verdicts = judge.verify([(f"</think> \\boxed{{{n}}}", problem) for n in (1, 3, 2)])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 0.0]


def test_an_unknown_domain_is_named():
    with Judge() as judge, pytest.raises(ValueError, match="'poetry'"):
        judge.verify([("</think>", Problem("p", "poetry", "train", ""))])


def test_every_domain_tells_how_to_answer():
    assert set(DOMAINS) == {"math", "code", "science", "gym"}
    assert all(
        domain.prompt_suffix in PROMPT_SUFFIXES and "\\boxed{}" in domain.prompt_suffix for domain in DOMAINS.values()
    )


def test_a_plain_solution_is_judged_when_thinking_is_not_required():
    with Judge(requires_thinking=False) as judge:
        assert judge.verify([("so \\boxed{3}", Problem("p", "math", "train", "", "3"))])[0].score == 1.0


def test_a_verifier_that_breaks_is_the_judges_failure_and_stops_nothing(monkeypatch):
    """No answer is known that breaks one; the table is given one that does."""

    def broken(*_: object):
        raise ZeroDivisionError("no answer")

    monkeypatch.setitem(DOMAINS, "broken", Domain("broken", "", broken))
    with Judge(requires_thinking=False) as judge:
        (verdict,) = judge.verify([("\\boxed{3}", Problem("p", "broken", "train", "", "3"))])
    assert (verdict.status, verdict.reason) == ("judge_error", "ZeroDivisionError: no answer")


def test_one_response_can_be_judged_from_python():
    assert verify("so \\boxed{0.5}", domain="math", gold="\\frac{1}{2}").status == "correct"
    assert verify("<think> \\boxed{3}", domain="math", gold="3").status == "no_answer"
    with pytest.raises(ValueError, match="poetry"):
        verify("a rose", domain="poetry", gold="a rose")
