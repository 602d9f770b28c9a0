"""How fast a server is asked, and how long it is waited for."""

import asyncio
import email.utils
import math
import random
import time
from dataclasses import dataclass

_MOST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How a server is asked."""

    concurrency: int = 16  # requests at a time
    requests_per_minute: float | None = None  # None: as many as the server takes
    connect_seconds: float = 10.0
    stall_seconds: float = 600.0  # without any piece of a response; most servers are silent before its first token
    max_attempts: int = 10  # at one response
    backoff_seconds: float = 1.0  # before the second attempt; twice as long before each further one, up to a minute
    longest_wait_seconds: float = 900.0  # that a server may ask for

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing would be asked."""
        for name in ("concurrency", "max_attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        for name in ("requests_per_minute", "connect_seconds", "stall_seconds", "backoff_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value} must be a number above 0")


class Pace:
    """When the next request may start. Of one event loop."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0  # of time.monotonic

    async def turn(self) -> None:
        """Wait until then."""
        while (seconds := self._next - time.monotonic()) > 0:
            await asyncio.sleep(seconds)
        self._next = time.monotonic() + self._gap

    def hold(self, seconds: float) -> None:
        """None starts before so many have passed."""
        self._next = max(self._next, time.monotonic() + seconds)


def backoff(attempt: int, *, first: float, seed: int) -> float:
    """Seconds after a failed attempt, counted from 1: twice as many each time, up to a minute, of which chance takes up to half."""
    whole = min(first * 2.0 ** (attempt - 1), max(first, _MOST_BACKOFF_SECONDS))
    return whole * random.Random(seed).uniform(0.5, 1.0)


def seconds_to_wait(retry_after: str) -> float:
    """What a header Retry-After asks for, a number of seconds or a date (RFC 9110, 10.2.3); 0 where it says nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
