"""Math-Verify in a process of its own, killed from outside when it does not come back.

SymPy has inputs it never returns from, in C code that no alarm interrupts; a thread would hang with it. The worker reads
JSON lines `[gold, answer]` and writes one word a line.
"""

import ctypes
import json
import os
import resource
import select
import subprocess
import sys
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
DEADLINE_SECONDS = 8.0
_SMALL, _RELATIVE = 1e-3, 1e-6
_START_SECONDS = 120.0
_MEMORY_BYTES = 4 << 30
_MAX_KNOWN = 50_000
_READY = "ready"
_PROJECT = Path(__file__).resolve().parents[2]
_START = """
import sys
sys.path.insert(0, sys.argv[1])
from data.domains.math_worker import serve
serve(int(sys.argv[2]))
"""


class MathWorker:
    """The judge's side. The process starts at the first question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[tuple[str, str], str] = {}  # the answers of one prompt repeat themselves

    def close(self) -> None:
        """End the process; a later question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def compare(self, gold: str, answer: str) -> str:
        """One of the words above; TIMEOUT and CRASH say that the worker failed."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        if (gold, answer) not in self._known:
            self._known[gold, answer] = self._ask(gold, answer)
        return self._known[gold, answer]

    def _ask(self, gold: str, answer: str) -> str:
        """Ask once more when the process ended, which may not have been this question's doing."""
        question = json.dumps([gold, answer]).encode() + b"\n"
        for _ in range(2):
            word = _exchange(self._started(), question)
            if word:
                return word
            self.close()
            if word is None:
                return TIMEOUT
        return CRASH

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(_PROJECT), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "SYMPY_GROUND_TYPES": "python", "PYTHONHASHSEED": "0"},
            )
            if _line(self._process, _START_SECONDS) != _READY:
                self.close()
                raise RuntimeError("the Math-Verify worker did not start; try `python -c 'import math_verify'`")
        return self._process


def _exchange(process: subprocess.Popen[bytes], question: bytes) -> str | None:
    """The reply; None when it is late, empty when the process has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(question)
        process.stdin.flush()
    except OSError:
        return ""
    return _line(process, DEADLINE_SECONDS)


def _line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The worker's next line; None when it is late, empty when it has ended."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return None
    return process.stdout.readline().decode().strip()


# ---------------------------------------------------------------- inside the worker


def serve(parent: int) -> None:
    """Answer questions until stdin closes or the parent ends."""
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:
        return
    replies = os.fdopen(os.dup(1), "w")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    os.dup2(2, 1)  # whatever a library prints is not a reply
    _compare("1", "2")  # loads what the first question would wait for
    print(_READY, file=replies, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        print(_compare(gold, answer), file=replies, flush=True)


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
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    try:
        return parse(f"\\boxed{{{text}}}", configs, parsing_timeout=None)  # ty: ignore[invalid-argument-type]
    except Exception:  # as above; what cannot be parsed is unreadable
        return []
