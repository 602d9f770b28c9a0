"""Waiting times, by hand."""

import math
import time
from email.utils import formatdate
from typing import Any

import pytest

from stages.sampling.pacing import Limits, backoff, seconds_to_wait


def test_waits_double_up_to_a_minute_and_chance_takes_up_to_half() -> None:
    for attempt, whole in ((1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (30, 60.0)):
        waits = [backoff(attempt, first=1.0, seed=seed) for seed in range(200)]
        assert whole / 2 <= min(waits) < 0.55 * whole and 0.95 * whole < max(waits) <= whole
    assert backoff(3, first=1.0, seed=5) == backoff(3, first=1.0, seed=5) != backoff(3, first=1.0, seed=6)
    assert 45.0 <= backoff(1, first=90.0, seed=0) <= 90.0


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-3", 0.0), ("", 0.0), ("soon", 0.0), ("nan", 0.0), ("inf", 0.0)]
)
def test_a_server_asks_for_seconds(header: str, seconds: float) -> None:
    assert seconds_to_wait(header) == seconds


def test_a_server_asks_for_a_time_of_the_day() -> None:
    assert 58 < seconds_to_wait(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert seconds_to_wait(formatdate(0, usegmt=True)) == 0.0


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 0},
        {"max_attempts": 0},
        {"stall_seconds": 0.0},
        {"requests_per_minute": -1.0},
        {"backoff_seconds": math.nan},
    ],
)
def test_limits_with_which_nothing_would_be_asked_are_refused(limits: dict[str, Any]) -> None:
    (name,) = limits
    with pytest.raises(ValueError, match=f"{name} = "):
        Limits(**limits)
