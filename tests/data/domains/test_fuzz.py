"""Hostile answers: nothing that is written in a box takes the judge's own process a second, or its memory."""

import os
import resource
import time

import pytest

from data.domains import DOMAINS
from data.domains.domain import Outcome
from data.domains.instruments import Instruments
from data.schema import Problem
from tests.data.domains.hostile import hostile_answers

GOLDS = {
    "math": (
        "50\\%",
        "3:4",
        "\\frac{x^2}{9}+\\frac{y^2}{5}=1",
        "(-\\infty,3)\\cup[5,7)",
        "\\sum_{k=1}^n k",
        "\\{1,2,3\\}",
        "x\\equiv 3\\pmod 7",
        "12_8",
    ),
    "science": (
        "3.70\\ \\mathrm{m/s^2}",
        "BCE",
        "E = \\frac{1}{2} m v^2",
        "n \\to p + e^-",
        "\\psi(x) = \\sqrt{2/L} \\sin(n\\pi x/L)",
    ),
    "code": ("[1, 2, 3]", "abc"),
}
NUMBER = int(os.environ.get("RING_HOSTILE_ANSWERS", "10000"))  # a domain (CONTRIBUTING.md)
MEMORY_MB = 400


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["math", "science", "code"])
def test_no_hostile_answer_takes_a_second_or_the_memory(domain):
    golds = [Problem("p", domain, "train", "", gold) for gold in GOLDS[domain]]
    slowest, statuses = (0.0, ""), set()
    with Instruments(unsafe_local_execution=False) as instruments:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for place, answer in enumerate(hostile_answers(NUMBER)):
            started = time.process_time()
            look = DOMAINS[domain].verify(f"so \\boxed{{{answer}}}", golds[place % len(golds)], instruments)
            slowest = max(slowest, (time.process_time() - started, answer))
            statuses.add(look.status if isinstance(look, Outcome) else "question")
    assert slowest[0] < 1, slowest
    assert statuses <= {"correct", "wrong", "no_answer", "question"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_MB * 1024
