"""Tests of a code problem, and how each kind is judged so that an answer cannot see what is expected of it.

In: the JSON of `Problem.tests`. Shapes:
    {"type": "call" or "functional", "function" or "fn_name": "f", "inputs": [[3], [5]], "outputs": [17, 31]}
        inputs are lists of arguments, or texts with one JSON argument a line
    {"type": "stdin", "inputs": [text], "outputs": [text], "compare": {"mode": "float", "tol": 1e-6}}
        modes: float (the default), tokens, checker (`checker` defines check(input, output, expected))
    {"type": "function" or "asserts", "setup": code, "check": code, "entry_point": "f"}
    any of them with "limits": {"time_s": 2, "memory_mb": 256, "output_mb": 1}
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from data.domains import asserts
from data.domains.domain import Outcome
from data.domains.extraction import Program
from data.domains.instruments import Instruments
from data.sandbox import Job, Limits, Run, tagged

SOLUTION = "solution"  # name of the module whose functions are called, so that `if __name__ == "__main__"` does not run
MAX_STDIN_SECONDS = 40.0  # of all tests of one answer

_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_STATUSES = {"timeout": "timeout", "memory": "resource_limit", "output": "resource_limit"}
_REASONS = {"timeout": "out of time", "memory": "out of memory", "output": "too much output"}


@dataclass(frozen=True, slots=True)
class CallTests:
    """A function is called in the answer's process; types and values are compared here."""

    function: str
    calls: tuple[str, ...]
    expected: tuple[Any, ...]
    limits: Limits
    languages: ClassVar = ("python",)

    def judge(self, program: Program, instruments: Instruments) -> Outcome:
        """One child for all calls."""
        job = Job(program.code, calls=self.calls, function=self.function, module=SOLUTION)
        run = instruments.run(job, self.limits)
        values, failure = returned(run, len(self.calls))
        for number, (value, expected) in enumerate(zip(values, self.expected, strict=False), start=1):
            if not same_value(expected, value):
                return Outcome("wrong", reason=f"call {number} returned another value")
        return failure or Outcome("correct", reason=f"{len(self.calls)} calls compared")


@dataclass(frozen=True, slots=True)
class StdinTests:
    """A program reads stdin; what it prints is compared here."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    checker: str  # code; empty for a comparison of tokens
    tolerance: float | None  # of decimals; None compares them as text
    limits: Limits
    languages: ClassVar = ("python", "c++")

    def judge(self, program: Program, instruments: Instruments) -> Outcome:
        """One child per test, up to the first that fails."""
        seconds = 0.0
        for number, (text, expected) in enumerate(zip(self.inputs, self.outputs, strict=True), start=1):
            run = instruments.run(Job(program.code, stdin=text, language=program.language), self.limits)
            seconds += run.cpu_seconds
            if run.status != "ok":
                return _failure(run, f"test {number}")
            if seconds > MAX_STDIN_SECONDS:
                return Outcome("timeout", reason=f"all tests together: more than {MAX_STDIN_SECONDS:g} s")
            outcome = self._compare(text, run.stdout, expected, instruments)
            if outcome is not None:
                return Outcome(outcome.status, reason=f"test {number}: {outcome.reason}")
        return Outcome("correct", reason=f"{len(self.inputs)} tests passed")

    def _compare(self, text: str, stdout: bytes, expected: str, instruments: Instruments) -> Outcome | None:
        """None when the output is right."""
        try:
            output = stdout.decode()
        except UnicodeDecodeError:
            return Outcome("wrong", reason="the output is not UTF-8")
        if self.checker:
            return _checked(self.checker, text, output, expected, instruments)
        return (
            None if same_tokens(expected, output, tolerance=self.tolerance) else Outcome("wrong", reason="other output")
        )


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Assertions, split: calls run with the answer, the assertions about their values without it."""

    setup: str
    check: str
    split: asserts.Split | None  # None: they cannot be split
    why_not: str
    limits: Limits
    languages: ClassVar = ("python",)

    def judge(self, program: Program, instruments: Instruments) -> Outcome:
        """Two children, or one and no trust where the assertions cannot be split."""
        if self.split is None:
            return self._judge_together(program.code, instruments)
        run = instruments.run(Job(program.code, setup=self.setup, calls=self.split.calls, module=SOLUTION), self.limits)
        values, failure = returned(run, len(self.split.calls))
        if failure is not None:
            return failure
        if self.split.expected is not None:
            return self._compare_here(values, self.split.expected)
        rest = Job(self.split.assertions, setup=self.setup, values=tuple(map(tagged.dumps, values)), module=SOLUTION)
        return _asserted(instruments.run(rest, self.limits), len(values))

    def _compare_here(self, values: Sequence[object], expected: Sequence[object]) -> Outcome:
        for number, (value, wanted) in enumerate(zip(values, expected, strict=True), start=1):
            if value != wanted:
                return Outcome("wrong", reason=f"call {number} returned another value")
        return Outcome("correct", reason=f"{len(values)} calls compared")

    def _judge_together(self, code: str, instruments: Instruments) -> Outcome:
        note = f"weak: the tests ran in the answer's process ({self.why_not})"
        run = instruments.run(Job(f"{code}\n\n{self.check}", setup=self.setup, module=SOLUTION), self.limits)
        if run.status == "ok" and run.detail == "ok":
            return Outcome("correct", reason=note)
        failure = _failure(run, "the tests")
        return Outcome(failure.status, reason=f"{failure.reason}; {note}")


Tests = CallTests | StdinTests | AssertTests


@lru_cache(maxsize=512)
def parse(text: str) -> Tests | None:
    """The tests; None when there are none. Raises ValueError, KeyError or TypeError for a shape that is not known."""
    tests = json.loads(text)
    kind = tests["type"]
    if kind not in _PARSERS:
        raise ValueError(f"unknown type {kind!r}; known are {', '.join(_PARSERS)}")
    return _PARSERS[kind](tests)


def _call_tests(tests: dict[str, Any]) -> CallTests | None:
    function = tests.get("function") or tests["fn_name"]
    if not function.isidentifier():
        raise ValueError(f"{function!r} is not the name of a function")
    inputs, outputs = _pairs(tests)
    calls = tuple(f"{function}(*{_arguments(given)!r})" for given in inputs)
    expected = tuple(
        json.loads(output) if isinstance(given, str) else output for given, output in zip(inputs, outputs, strict=True)
    )
    return CallTests(function, calls, expected, _limits(tests)) if calls else None


def _arguments(given: str | list[Any]) -> list[Any]:
    return [json.loads(line) for line in given.splitlines() if line.strip()] if isinstance(given, str) else given


def _stdin_tests(tests: dict[str, Any]) -> StdinTests | None:
    """A test that expects no output says nothing and is left out."""
    pairs = [(_text(given), _text(output)) for given, output in zip(*_pairs(tests), strict=True)]
    pairs = [(given, output) for given, output in pairs if output.strip()]
    compare = {"mode": "float", **tests.get("compare", {})}
    checker = compare["checker"] if compare["mode"] == "checker" else ""
    tolerance = float(compare.get("tol", 1e-6)) if compare["mode"] == "float" else None
    inputs, outputs = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    return StdinTests(inputs, outputs, checker, tolerance, _limits(tests)) if pairs else None


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "\n".join(map(str, lines))


def _assert_tests(tests: dict[str, Any]) -> AssertTests | None:
    setup, check = tests.get("setup", ""), tests["check"]
    check = check if isinstance(check, str) else "\n".join(check)
    whole = asserts.with_call(check, entry_point=tests.get("entry_point", ""))
    if "assert" not in check:
        return None
    try:
        split, why_not = asserts.split(setup, check, entry_point=tests.get("entry_point", "")), ""
    except asserts.CannotSplitError as error:
        split, why_not = None, str(error)
    return AssertTests(setup, whole, split, why_not, _limits(tests))


_PARSERS = {
    "call": _call_tests,
    "functional": _call_tests,
    "stdin": _stdin_tests,
    "function": _assert_tests,
    "asserts": _assert_tests,
}


def _pairs(tests: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    inputs, outputs = tests["inputs"], tests["outputs"]
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    return inputs, outputs


def _limits(tests: dict[str, Any]) -> Limits:
    given = tests.get("limits", {})
    if unknown := given.keys() - {"time_s", "memory_mb", "output_mb"}:
        raise ValueError(f"unknown limits {', '.join(sorted(unknown))}")
    return Limits(
        seconds=float(given.get("time_s", Limits.seconds)),
        memory_mb=int(given.get("memory_mb", Limits.memory_mb)),
        output_mb=int(given.get("output_mb", Limits.output_mb)),
    )


# ---------------------------------------------------------------- comparing


def returned(run: Run, num_calls: int) -> tuple[list[Any], Outcome | None]:
    """The values of the first calls, and what went wrong with the one after them; None when every call has a value."""
    values: list[Any] = []
    for record in run.results:
        number = len(values) + 1
        if "value" not in record:
            return values, Outcome("wrong", reason=f"call {number}: {record.get('error', 'no value')[:80]}")
        try:
            values.append(tagged.loads(record["value"]))
        except (ValueError, RecursionError):
            return values, Outcome("wrong", reason=f"call {number}: the value cannot be read")
    return values, _failure(run, f"call {len(values) + 1}") if len(values) < num_calls else None


def same_value(expected: object, value: object) -> bool:
    """Equal in type and value; a tuple may stand for a list, which JSON cannot tell apart, and floats may differ by 1e-6."""
    if isinstance(expected, list):
        return (
            type(value) in (list, tuple)
            and len(expected) == len(value)  # ty: ignore[invalid-argument-type]
            and all(map(same_value, expected, value))  # ty: ignore[invalid-argument-type]
        )
    if type(expected) is not type(value):
        return False
    if isinstance(expected, dict):
        assert isinstance(value, dict)
        return expected.keys() == value.keys() and all(same_value(expected[key], value[key]) for key in expected)
    if isinstance(expected, float):
        assert isinstance(value, float)
        return math.isclose(expected, value, rel_tol=1e-6, abs_tol=1e-9)
    return expected == value


def same_tokens(expected: str, output: str, *, tolerance: float | None) -> bool:
    """The same words in the same order; where a decimal is expected, a number within the tolerance, relative or absolute."""
    wanted, given = expected.split(), output.split()
    return len(wanted) == len(given) and all(
        left == right or _close(left, right, tolerance) for left, right in zip(wanted, given, strict=True)
    )


def _close(expected: str, given: str, tolerance: float | None) -> bool:
    if tolerance is None or expected.lstrip("+-").isdigit():
        return False
    if not (_DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(given)):
        return False
    return abs(float(expected) - float(given)) <= tolerance * max(1.0, abs(float(expected)))


def _checked(checker: str, text: str, output: str, expected: str, instruments: Instruments) -> Outcome | None:
    """A special judge, in a child of its own. One that fails on what is expected as well is broken, not the answer."""
    accepts, failure = _ask_checker(checker, (text, output, expected), instruments)
    if failure is None:
        return None if accepts else Outcome("wrong", reason="refused by the problem's checker")
    if _ask_checker(checker, (text, expected, expected), instruments) == (True, None):
        return Outcome("wrong", reason=f"the problem's checker cannot read it: {failure.reason}")
    return Outcome("judge_error", reason=f"the problem's checker: {failure.reason}")


def _ask_checker(checker: str, texts: Sequence[str], instruments: Instruments) -> tuple[bool, Outcome | None]:
    call = f"check({', '.join(map(repr, texts))})"
    values, failure = returned(instruments.run(Job(checker, calls=(call,), module=SOLUTION), Limits()), 1)
    return values == [True], failure


def _asserted(run: Run, num_calls: int) -> Outcome:
    if run.status == "ok":
        return Outcome("correct", reason=f"assertions about {num_calls} calls hold")
    if run.status == "error":
        return Outcome("wrong", reason=f"the assertions: {run.detail}")
    return Outcome("judge_error", reason=f"the assertions were {_REASONS[run.status]}")


def _failure(run: Run, where: str) -> Outcome:
    """The answer's own failure."""
    status = _STATUSES.get(run.status, "wrong")
    return Outcome(status, reason=f"{where}: {_REASONS.get(run.status, run.detail)}")
