"""How much of its limits a run has used, judged at each look of the server: "timeout", "memory", or nothing yet.

Time is counted twice. Processor time is that of all processes. The clock runs while an answer computes or sleeps and stands while
the scheduler lets it wait, so that a busy machine fails nobody and one that sleeps or trickles gains nothing. Of a job with calls,
each call has both again, from one record in the file of results to the next.
"""

import os
from _blake2 import blake2b
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data.sandbox.family import Look

MAX_PATIENCE = 5  # times its clock's limit that a run may take, however busy the machine is
_CHUNK_BYTES = 1 << 16


def clock_seconds(cpu_seconds: float) -> float:
    """What the clock gives to a run, or a call, with this limit of processor time."""
    return 2 * cpu_seconds + 1


class Records:
    """Lines in the file of results, as they appear: an answer that changes what was seen before is told by `is_intact`.

    The server must not keep what an answer wrote: only its digest stays.
    """

    def __init__(self, fd: int | None) -> None:
        """None for a job without calls, which has no records."""
        self._fd = fd
        self._digest = blake2b()
        self._num_bytes = self._num_lines = 0

    def count(self) -> int:
        """Lines so far."""
        for buffer, size in self._chunks(self._num_bytes, self._end()):
            self._num_bytes += size
            self._num_lines += buffer.count(b"\n", 0, size)
            self._digest.update(memoryview(buffer)[:size])
        return self._num_lines

    def is_intact(self) -> bool:
        """What was counted is still there."""
        digest = blake2b()
        for buffer, size in self._chunks(0, self._num_bytes):
            digest.update(memoryview(buffer)[:size])
        return digest.digest() == self._digest.digest()

    def _end(self) -> int:
        return 0 if self._fd is None else os.fstat(self._fd).st_size

    def _chunks(self, start: int, end: int) -> Iterator[tuple[bytearray, int]]:
        """What stands there: the start of a buffer, which is wiped afterwards."""
        if self._fd is None or start >= end:
            return
        buffer = bytearray(min(_CHUNK_BYTES, end - start))
        while start < end and (size := os.preadv(self._fd, [memoryview(buffer)[: end - start]], start)):
            yield buffer, size
            start += size
        buffer[:] = bytes(len(buffer))


@dataclass(slots=True)
class _Mark:
    """Where the call that runs now began."""

    num_done: int = 0
    cpu_seconds: float = 0.0
    clock_seconds: float = 0.0


class Budget:
    """The limits of one run, and what was used at the last look."""

    def __init__(
        self, *, cpu_seconds: float, call_seconds: float, memory_bytes: int, max_tasks: int, now: float
    ) -> None:
        """`call_seconds` is 0 for a job without calls."""
        self._cpu_seconds, self._call_seconds = cpu_seconds, call_seconds
        self._memory_bytes, self._max_tasks = memory_bytes, max_tasks
        self._started = self._looked = now
        self._clock = 0.0
        self._waited: Mapping[str, int] = {}
        self._call = _Mark()

    def beyond(self, look: Look, *, num_done: int, now: float) -> str:
        """What the run went beyond, if anything; `num_done` are the calls that ended, and 1 more once the first began."""
        self._tick(look, now)
        if look.memory_bytes > self._memory_bytes or look.num_tasks > self._max_tasks:
            return "memory"
        is_late = self._clock > clock_seconds(self._cpu_seconds)
        is_far_too_late = now - self._started > MAX_PATIENCE * clock_seconds(self._cpu_seconds)
        if look.cpu_seconds > self._cpu_seconds or is_late or is_far_too_late or self._is_call_over(look, num_done):
            return "timeout"
        return ""

    def _tick(self, look: Look, now: float) -> None:
        """Move the clock, but for the time that the thread which waited longest was kept from running."""
        waits = [waited - self._waited.get(thread, 0) for thread, waited in look.waited.items()]
        elapsed = now - self._looked
        self._clock += elapsed - min(elapsed, max(waits, default=0) / 1e9)
        self._waited, self._looked = look.waited, now

    def _is_call_over(self, look: Look, num_done: int) -> bool:
        if not self._call_seconds:
            return False
        if num_done > self._call.num_done:
            self._call = _Mark(num_done, look.cpu_seconds, self._clock)
        return (
            look.cpu_seconds - self._call.cpu_seconds > self._call_seconds
            or self._clock - self._call.clock_seconds > clock_seconds(self._call_seconds)
        )
