"""Math-Verify's processes: killed from outside when stuck, replaced, and never the cause of a wrong answer."""

import os
import signal
import time

import pytest

from data.domains import Judge, math_worker
from data.domains.math_worker import DIFFERENT, EQUAL, MAX_WORKERS, TIMEOUT, MathWorkers
from data.schema import Problem

pytestmark = pytest.mark.slow
STUCK = "\\prod_{k=1}^{9999} (k^2+1)"  # within all limits that are looked at before
LIMIT_SECONDS = 1  # of CPU, where a test waits for the end of a question


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(math_worker, "CPU_SECONDS", LIMIT_SECONDS)


@pytest.fixture
def workers(limit):
    made = MathWorkers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def patient_workers():
    """With the real limit, one for all texts: a start takes longer than they do."""
    made = MathWorkers()
    yield made
    made.close()


def test_a_stuck_question_is_ended_and_does_not_hold_up_the_others(workers):
    pairs = [("7", STUCK), *((f"\\frac{{{n}}}{{7}}", f"\\frac{{{2 * n}}}{{14}}") for n in range(1, 60))]
    answers = workers.answer(pairs)
    assert answers[0].word == TIMEOUT
    assert answers[0].seconds >= LIMIT_SECONDS
    assert {answer.word for answer in answers[1:]} == {EQUAL}
    assert len(workers._workers) <= MAX_WORKERS


HARD = (
    "\\int_0^1 \\frac{\\sin(x^{7}+\\cos x)}{1+x^{5}+\\ln(2+x)} dx"  # SymPy does not come back from it in five seconds
)


def test_an_answer_on_which_the_checker_does_not_come_back_is_wrong_and_counted_apart(limit):
    with Judge(requires_thinking=False) as judge:
        (verdict,) = judge.verify([(f"\\boxed{{{HARD}}}", Problem("p", "math", "train", "", "7"))])
    assert (verdict.status, verdict.is_failure, verdict.score, verdict.checker_failed) == ("wrong", False, 0.0, True)


def test_a_gold_from_which_the_checker_does_not_come_back_is_the_judges_failure(limit):
    with Judge(requires_thinking=False) as judge:
        (verdict,) = judge.verify([("\\boxed{7}", Problem("p", "math", "train", "", HARD))])
    assert (verdict.status, verdict.is_failure, verdict.checker_failed) == ("judge_error", True, False)


@pytest.mark.parametrize(
    ("gold", "answer", "word"),
    [
        ("\\frac{1}{2}", "\\int_{0}^{1} x d x", EQUAL),
        ("\\frac{\\pi^2}{6}", "\\sum_{n=1}^{\\infty} \\frac{1}{n^2}", EQUAL),
        ("e", "\\lim_{n\\to \\infty} (1+\\frac{1}{n})^n", EQUAL),
        ("120", "\\prod_{k=1}^{5} k", EQUAL),
        ("2", "\\int_0^1 3x d x", DIFFERENT),
        ("\\pi r^2 h", "\\pi r^2", DIFFERENT),
        ("7\\text{ euros}", "7", DIFFERENT),
        ("\\begin{cases} 4t, & t \\ge 2 \\\\ t+3, & t < 2 \\end{cases}", "3", None),
    ],
)
def test_math_verify_takes_a_text_whole(patient_workers, gold, answer, word):
    found = patient_workers.compare(gold, answer)
    assert found == word if word else found not in (EQUAL, TIMEOUT)


def test_closing_leaves_no_process(workers):
    workers.compare("1", "2")
    pids = [worker._process.pid for worker in workers._workers]
    workers.close()
    deadline = time.monotonic() + 5
    while any(map(exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(exists, pids))


def exists(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return True
