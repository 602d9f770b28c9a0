"""Math-Verify's processes: killed from outside when stuck, replaced, and never the cause of a wrong answer."""

import os
import signal
import time

import pytest

from data.domains import Judge
from data.domains.math_worker import CPU_SECONDS, EQUAL, MAX_WORKERS, TIMEOUT, MathWorkers
from data.schema import Problem

STUCK = "\\prod_{k=1}^{9999} (k^2+1)"  # within all limits that are looked at before


@pytest.fixture
def workers():
    made = MathWorkers()
    yield made
    made.close()


def test_a_stuck_question_is_ended_and_does_not_hold_up_the_others(workers):
    pairs = [("7", STUCK), *((f"\\frac{{{n}}}{{7}}", f"\\frac{{{2 * n}}}{{14}}") for n in range(1, 60))]
    answers = workers.answer(pairs)
    assert answers[0].word == TIMEOUT
    assert answers[0].seconds >= CPU_SECONDS - 1
    assert {answer.word for answer in answers[1:]} == {EQUAL}
    assert len(workers._workers) <= MAX_WORKERS


def test_a_time_out_of_the_checker_is_the_judges_failure():
    with Judge(requires_thinking=False) as judge:
        (verdict,) = judge.verify([(f"\\boxed{{{STUCK}}}", Problem("p", "math", "train", "", "7"))])
    assert (verdict.status, verdict.is_failure, verdict.score) == ("judge_error", True, 0.0)


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
