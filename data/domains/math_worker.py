"""Math-Verify in processes of their own, killed from outside when they do not come back.

SymPy has inputs it never returns from, in C code that no alarm interrupts; a thread would hang with it. The worker reads
JSON lines `[gold, answer]` and writes one word a line.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EQUAL, DIFFERENT, UNREADABLE_GOLD, UNREADABLE_ANSWER, TIMEOUT, CRASH = (
    "equal",
    "different",
    "unreadable gold",
    "unreadable answer",
    "timeout",
    "crash",
)
FAILURES = frozenset({TIMEOUT, CRASH})
CONTROL = "1"  # an answer with which a gold is tried by itself
CPU_SECONDS = 5  # of one question, kept by the kernel: a loaded machine does not turn right answers into time-outs
WALL_SECONDS = 60.0  # of one question, for what does not even compute
PATIENCE_SECONDS = 1.0  # after which a stuck process no longer keeps the others waiting
MAX_WORKERS = 3
_SMALL, _RELATIVE = 1e-3, 1e-6
_START_SECONDS = 120.0
_MAX_FAILED_STARTS = 3  # in a row: one may be killed from outside while it starts
_MEMORY_BYTES = 4 << 30
_MAX_KNOWN = 50_000
_READY = "ready"
Pair = tuple[str, str]  # gold, answer
_PROJECT = Path(__file__).resolve().parents[2]
_START = """
import sys
sys.path.insert(0, sys.argv[1])
from data.domains.math_worker import serve
serve(int(sys.argv[2]), cpu_seconds=int(sys.argv[3]))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A word of those above, and the seconds that it took, waiting left out."""

    word: str
    seconds: float


class MathWorkers:
    """The judge's side. One process answers; while it is stuck with a question, others go on with the rest.

    Each has one question at a time, so that the queue of a process is bounded and its death concerns one question alone.
    """

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._known: dict[Pair, Answer] = {}  # the answers of one prompt repeat themselves

    def close(self) -> None:
        """End the processes; a later question starts others."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def compare(self, gold: str, answer: str) -> str:
        """One of the words above; TIMEOUT and CRASH say that the worker failed."""
        return self.answer([(gold, answer)])[0].word

    def answer(self, pairs: Sequence[Pair]) -> list[Answer]:
        """Compare pairs of a gold and an answer; the answers in their order."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        waiting = deque(_Asked(pair) for pair in dict.fromkeys(pairs) if pair not in self._known)
        while waiting or any(worker.asked for worker in self._workers):
            self._hand_out(waiting)
            self._collect(waiting)
        return [self._known[pair] for pair in pairs]

    def _hand_out(self, waiting: "deque[_Asked]") -> None:
        """Give each free process a question; start another process when all have been busy for long."""
        for worker in self._workers:
            if waiting and worker.is_free:
                worker.ask(waiting.popleft())
        patient = self._workers and any(worker.busy_seconds() < PATIENCE_SECONDS for worker in self._workers)
        if waiting and not patient and len(self._workers) < MAX_WORKERS:
            self._workers.append(_Worker())

    def _collect(self, waiting: "deque[_Asked]") -> None:
        """Take the replies that are there; wait for one at most until somebody's patience ends."""
        poll = select.poll()
        for worker in self._workers:
            poll.register(worker.replies, select.POLLIN)
        poll.poll(1000 * min(worker.wait_seconds() for worker in self._workers))
        for worker in list(self._workers):
            self._take(worker, waiting)

    def _take(self, worker: "_Worker", waiting: "deque[_Asked]") -> None:
        reply = worker.reply()
        if worker.is_ready:
            self._failed_starts = 0
        if reply is None:
            return
        asked, seconds, worker.asked = worker.asked, worker.busy_seconds(), None
        if reply in (TIMEOUT, CRASH):
            worker.end()
            self._workers.remove(worker)
            self._failed_starts += not worker.is_ready
            if self._failed_starts == _MAX_FAILED_STARTS:
                raise RuntimeError("the Math-Verify worker did not start; try `python -c 'import math_verify'`")
        if asked is None:
            return
        if reply == CRASH and not asked.is_second_try:
            waiting.append(_Asked(asked.pair, is_second_try=True))
        else:
            self._known[asked.pair] = Answer(reply, seconds)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question. It is asked once more when its process ended, which may not have been its doing."""

    pair: Pair
    is_second_try: bool = False


class _Worker:
    """One process and the question it is at. It begins with loading SymPy, and says so when that is done."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(_PROJECT), str(os.getpid()), str(CPU_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "SYMPY_GROUND_TYPES": "python", "PYTHONHASHSEED": "0"},
        )
        assert self._process.stdout is not None
        self.replies = self._process.stdout.fileno()
        self.asked: _Asked | None = None
        self.is_ready = False
        self._since = time.monotonic()

    @property
    def is_free(self) -> bool:
        return self.is_ready and self.asked is None and self._process.poll() is None

    def busy_seconds(self) -> float:
        """Since it got its question, or was started."""
        return 0.0 if self.is_free else time.monotonic() - self._since

    def wait_seconds(self) -> float:
        """Until something is to be done about it."""
        busy = self.busy_seconds()
        limit = PATIENCE_SECONDS if busy < PATIENCE_SECONDS else self._limit()
        return max(0.0, limit - busy)

    def ask(self, asked: _Asked) -> None:
        self.asked, self._since = asked, time.monotonic()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which its reply will tell
            self._process.stdin.write(json.dumps(asked.pair).encode() + b"\n")
            self._process.stdin.flush()

    def reply(self) -> str | None:
        """Its word, TIMEOUT or CRASH when it failed, None when there is nothing yet."""
        poll = select.poll()
        poll.register(self.replies, select.POLLIN)
        if not poll.poll(0):
            return TIMEOUT if self.busy_seconds() > self._limit() else None
        assert self._process.stdout is not None
        word = self._process.stdout.readline().decode().strip()
        if not word:
            return TIMEOUT if self._process.wait() == -signal.SIGXCPU else CRASH
        if word == _READY:
            self.is_ready = True
            return None
        return word

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _limit(self) -> float:
        return WALL_SECONDS if self.is_ready else _START_SECONDS


# ---------------------------------------------------------------- inside the worker


def serve(parent: int, *, cpu_seconds: int) -> None:
    """Answer questions until stdin closes or the parent ends; one that takes more CPU seconds ends the process."""
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:
        return
    replies = os.fdopen(os.dup(1), "w")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.dup2(2, 1)  # whatever a library prints is not a reply
    _compare("1", "2")  # loads what the first question would wait for
    print(_READY, file=replies, flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        gold, answer = json.loads(line)
        _limit_cpu(cpu_seconds)
        print(_compare(gold, answer), file=replies, flush=True)


def _limit_cpu(cpu_seconds: int) -> None:
    """The kernel ends the process when the next question has used its CPU seconds, whatever code it is in."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _compare(gold: str, answer: str) -> str:
    from math_verify import verify

    golds, answers = _parsed(gold), _parsed(answer)
    if not golds:
        return UNREADABLE_GOLD
    if not answers:
        return UNREADABLE_ANSWER
    try:
        equal = verify(golds, answers, timeout_seconds=None) and not _differ_though_small(golds[0], answers[0])
    except Exception:  # fault isolation: SymPy raises anything; the verdict is judge_error, which is counted
        return CRASH
    return EQUAL if equal else DIFFERENT


def _differ_though_small(gold: Any, answer: Any) -> bool:  # noqa: ANN401  what Math-Verify parses to
    """Math-Verify rounds at 6 decimals, so that all small numbers are one; compare them relatively."""
    from sympy import Eq, Expr

    gold, answer = (side.rhs if isinstance(side, Eq) else side for side in (gold, answer))
    if not (isinstance(gold, Expr) and isinstance(answer, Expr) and gold.is_number and answer.is_number):
        return False
    try:
        left, right = complex(gold.evalf()), complex(answer.evalf())
    except (TypeError, OverflowError):  # a number without a value, as a percentage left unevaluated
        return False
    size = max(abs(left), abs(right))
    return size < _SMALL and abs(left - right) > _RELATIVE * size


def _parsed(text: str) -> list:
    """The whole text as LaTeX: no units are taken off, and no number is taken out of what cannot be parsed."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    plain = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="all", equations=False
    )
    config = LatexExtractionConfig(boxed_match_priority=0, normalization_config=plain)
    try:
        found = parse(
            f"\\boxed{{{text}}}",
            (config,),
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,  # ty: ignore[invalid-argument-type]
        )
    except Exception:  # as above; what cannot be parsed is unreadable
        return []
    return [item for item in found if not isinstance(item, str)]
