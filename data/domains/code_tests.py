"""Tests of a code problem, and how each kind is judged so that an answer cannot see what is expected of it.

In: the JSON of `Problem.tests`. Shapes:
    {"type": "call" or "functional", "function" or "fn_name": "f", "inputs": [[3], [5]], "outputs": [17, 31]}
        inputs are lists of arguments, or texts with one JSON argument a line; APPS puts each output in a list of its own
    {"type": "stdin", "inputs": [text], "outputs": [text], "compare": {"mode": "float", "tol": 1e-6}}
        modes: float (the default), tokens, checker (`checker` defines check(input, output, expected))
    {"type": "function" or "asserts", "setup": code, "check": code, "entry_point": "f"}
        assertions, functions and classes as pytest and unittest collect them, or HumanEval's check(candidate)
    any of them with "limits": {"time_s": 2, "memory_mb": 256, "output_mb": 1}; calls with "compare": {"mode": "strict"}

Whose fault a failure is follows from whose data was read: nothing that an answer returns, prints or raises is a failure of the judge.
"""

import ast
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, ClassVar

from data.domains import asserts, values
from data.domains.domain import Outcome
from data.domains.extraction import Program
from data.domains.instruments import Instruments
from data.domains.values import Comparison
from data.sandbox import Job, Limits, Run, tagged
from data.sandbox.client import safe_name

SOLUTION = "solution"  # name of the module whose functions are called, so that `if __name__ == "__main__"` does not run
STDIN_SECONDS = 40.0  # of all tests of one answer, or half of what they may take one by one if that is more
MAX_SECONDS, MAX_MEMORY_MB, MAX_OUTPUT_MB = 60.0, 4096, 64  # that a data set may ask for
MAX_RETURNED_NODES = 1_000_000  # of all values of one answer that the judge's process reads

_DECIMAL = re.compile(r"[+-]?(?:\d{1,2000}(?:\.\d{0,2000})?|\.\d{1,2000})(?:[eE][+-]?\d{1,5})?", re.ASCII)
_STATUSES = {"timeout": "timeout", "memory": "resource_limit", "output": "resource_limit"}
_REASONS = {"timeout": "out of time", "memory": "out of memory", "output": "too much output"}


@dataclass(frozen=True, slots=True)
class CallTests:
    """A function is called in the answer's process; values are compared here."""

    calls: asserts.Calls
    function: str
    setup: str
    comparison: Comparison
    limits: Limits
    is_wrapped: bool = False  # each output may stand in a list of its own
    languages: ClassVar = ("python",)

    def judge(self, program: Program, instruments: Instruments) -> Outcome:
        """One child for all calls."""
        calls, expected = self.calls.expressions, self.calls.expected
        job = Job(
            program.code,
            setup=self.setup,
            calls=calls,
            function=self.function,
            module=SOLUTION,
            preamble=True,
            names=self.calls.names,
        )
        given, failure = returned(instruments.run(job, self.limits), len(calls))
        wrong = self._first_wrong(expected, given)
        if wrong and self.is_wrapped and not failure:
            wrong = self._first_wrong([output[0] for output in expected], given)
        if wrong:
            return Outcome("wrong", reason=f"call {wrong} returned another value")
        return failure or Outcome("correct", reason=f"{len(calls)} calls compared")

    def _first_wrong(self, expected: Sequence[object], given: Sequence[object]) -> int:
        """Its number, from 1; 0 where there is none."""
        pairs = enumerate(zip(given, expected, strict=False), start=1)
        return next((number for number, (one, wanted) in pairs if not values.same(wanted, one, self.comparison)), 0)


@dataclass(frozen=True, slots=True)
class StdinTests:
    """A program reads stdin; what it prints is compared here."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    checker: str  # code; empty for a comparison of tokens
    tolerance: float | None  # of decimals; None compares them as text
    is_declared: bool  # the data set states the tolerance: its integers are numbers, too
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
            if seconds > (most := max(STDIN_SECONDS, self.limits.seconds * len(self.inputs) / 2)):
                return Outcome("timeout", reason=f"all tests together: more than {most:g} s")
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
        if same_tokens(expected, output, tolerance=self.tolerance, is_declared=self.is_declared):
            return None
        return Outcome("wrong", reason="other output")


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Tests that run in a process of their own, with stand-ins for what is in the answer's."""

    setup: str
    entry_point: str
    plan: asserts.Plan
    limits: Limits
    languages: ClassVar = ("python",)

    def judge(self, program: Program, instruments: Instruments) -> Outcome:
        """Two connected children."""
        plan = self.plan
        answer = Job(
            program.code,
            setup=self.setup,
            function=self.entry_point,
            module=SOLUTION,
            preamble=True,
            role="answer",
            num_tests=plan.num_marks,
        )
        tests = replace(
            answer,
            code=plan.source,
            role="tests",
            names=plan.names,
            operators=plan.operators,
            collect=plan.collect,
        )
        return _of_connected(*instruments.run_connected(answer, tests, self.limits), plan)


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
    is_wrapped = "fn_name" in tests and all(isinstance(output, list) and len(output) == 1 for output in expected)
    planned = asserts.Calls(calls, expected, (function,))
    comparison = values.STRICT_JSON if _mode(tests, "python") == "strict" else values.JSON
    return CallTests(planned, function, "", comparison, _limits(tests), is_wrapped) if calls else None


def _mode(tests: dict[str, Any], default: str) -> str:
    """Raises ValueError for an unknown one."""
    mode = tests.get("compare", {}).get("mode", default)
    if mode not in _MODES:
        raise ValueError(f"unknown mode {mode!r} of comparing; known are {', '.join(_MODES)}")
    return mode


_MODES = ("python", "strict", "float", "tokens", "checker")


def _arguments(given: str | list[Any]) -> list[Any]:
    """Raises ValueError for an argument that stands without its list."""
    if isinstance(given, str):
        return [json.loads(line) for line in given.splitlines() if line.strip()]
    if not isinstance(given, list):
        raise ValueError(f"inputs are lists of arguments, this is a {type(given).__name__}")  # noqa: TRY004  bad data
    return given


def _stdin_tests(tests: dict[str, Any]) -> StdinTests | None:
    """A test that expects no output says nothing and is left out."""
    pairs = [(_text(given), _text(output)) for given, output in zip(*_pairs(tests), strict=True)]
    pairs = [(given, output) for given, output in pairs if output.strip()]
    if not pairs:
        return None
    compare, mode = tests.get("compare", {}), _mode(tests, "float")
    checker = compare["checker"] if mode == "checker" else ""
    if fault := fault_of_checker(checker):
        raise ValueError(fault)
    tolerance = float(compare.get("tol", 1e-6)) if mode == "float" else None
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance:g}")
    inputs, outputs = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    longest = max(len(output.encode("utf-8", "surrogatepass")) for output in outputs)
    limits = _limits(tests)
    limits = replace(limits, output_mb=min(MAX_OUTPUT_MB, max(limits.output_mb, 1 + 2 * longest // (1 << 20))))
    return StdinTests(inputs, outputs, checker, tolerance, "tol" in compare, limits)


_EVALUATING = ("eval", "exec", "compile", "__import__", "pickle", "marshal", "loads_unsafe")


def fault_of_checker(checker: str) -> str:
    """Why a checker cannot be used; empty for one that can. What it reads is an answer's, so it must evaluate nothing."""
    names = {name for node in ast.walk(ast.parse(checker)) for name in _names_of(node)}
    found = sorted(names & set(_EVALUATING))
    return f"the checker uses {', '.join(found)}" if found else ""


def _names_of(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return [name]
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=str(module)):
            return [module, *(alias.name for alias in node.names)]
    return []


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "\n".join(map(str, lines))


def _assert_tests(tests: dict[str, Any]) -> CallTests | AssertTests | None:
    setup, check, entry_point = tests.get("setup") or "", tests["check"], tests.get("entry_point") or ""
    check = check if isinstance(check, str) else "\n".join(check)
    plan = asserts.plan(setup, check, entry_point=entry_point)
    if plan is None:
        return None
    if isinstance(plan, asserts.Calls):
        comparison = values.STRICT if _mode(tests, "python") == "strict" else values.PYTHON
        return CallTests(plan, entry_point, setup, comparison, _limits(tests))
    return AssertTests(setup, plan.entry_point, plan, _limits(tests))


_PARSERS = {
    "call": _call_tests,
    "functional": _call_tests,
    "stdin": _stdin_tests,
    "function": _assert_tests,
    "asserts": _assert_tests,
}


TYPES = tuple(_PARSERS)
ASSERTING_TYPES = ("function", "asserts")


def _pairs(tests: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    inputs, outputs = tests["inputs"], tests["outputs"]
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    return inputs, outputs


def _limits(tests: dict[str, Any]) -> Limits:
    """Raises ValueError for limits that are none."""
    given = tests.get("limits") or {}
    if unknown := given.keys() - {"time_s", "memory_mb", "output_mb"}:
        raise ValueError(f"unknown limits {', '.join(sorted(unknown))}")
    return Limits(
        seconds=_bounded(given.get("time_s", Limits.seconds), MAX_SECONDS, "time_s"),
        memory_mb=int(_bounded(given.get("memory_mb", Limits.memory_mb), MAX_MEMORY_MB, "memory_mb")),
        output_mb=math.ceil(_bounded(given.get("output_mb", Limits.output_mb), MAX_OUTPUT_MB, "output_mb")),
    )


def _bounded(value: Any, most: float, name: str) -> float:  # noqa: ANN401  of a data set
    number = float(value)
    if not (math.isfinite(number) and 0 < number <= most):
        raise ValueError(f"a limit {name} of {number:g}; it must be more than 0 and at most {most:g}")
    return number


# ---------------------------------------------------------------- comparing


def returned(run: Run, num_calls: int) -> tuple[list[Any], Outcome | None]:
    """The values of the first calls, and what went wrong with the one after them; None when every call has a value."""
    found: list[Any] = []
    num_nodes = 0
    for record in run.results:
        number = len(found) + 1
        if "value" not in record:
            return found, Outcome("wrong", reason=f"call {number}: {record.get('error', 'no value')}")
        num_nodes += tagged.count_nodes(record["value"])
        if num_nodes > MAX_RETURNED_NODES:
            return found, Outcome("resource_limit", reason=f"call {number}: too many values")
        try:
            found.append(tagged.parse(record["value"]))
        except ValueError:
            return found, Outcome("wrong", reason=f"call {number}: the value cannot be read")
    return found, _failure(run, f"call {len(found) + 1}") if len(found) < num_calls else None


def same_tokens(expected: str, output: str, *, tolerance: float | None, is_declared: bool = False) -> bool:
    """The same words in the same order; where a decimal is expected, a number within the tolerance, relative or absolute.

    Where the tolerance `is_declared`, a decimal may stand for an integer that is expected.
    """
    wanted = expected.split()
    given = output.split(maxsplit=len(wanted))  # what is beyond stays one word
    return len(wanted) == len(given) and all(
        left == right or _close(left, right, tolerance, is_declared=is_declared)
        for left, right in zip(wanted, given, strict=True)
    )


def _close(expected: str, given: str, tolerance: float | None, *, is_declared: bool) -> bool:
    if tolerance is None or not (_DECIMAL.fullmatch(expected) and _DECIMAL.fullmatch(given)):
        return False
    if expected.lstrip("+-").isdigit() and (not is_declared or given.lstrip("+-").isdigit()):
        return False
    one, other = float(expected), float(given)
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other) <= tolerance * max(1.0, abs(one))
    return _close_decimals(Decimal(expected), Decimal(given), tolerance)


_PRECISE = Context(prec=50, Emax=999_999, Emin=-999_999)


def _close_decimals(one: Decimal, other: Decimal, tolerance: float) -> bool:
    """Of numbers beyond all floats."""
    try:
        difference = _PRECISE.abs(_PRECISE.subtract(one, other))
        return difference <= _PRECISE.multiply(Decimal(tolerance), max(Decimal(1), _PRECISE.abs(one)))
    except (InvalidOperation, ArithmeticError):
        return False


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
    given, failure = returned(instruments.run(Job(checker, calls=(call,), module=SOLUTION), Limits()), 1)
    return len(given) == 1 and given[0] is True, failure


def _of_connected(answer: Run, tests: Run, plan: asserts.Plan) -> Outcome:
    """What two runs show together. The answer's failure comes first: the tests' own follows from it."""
    if answer.status in _STATUSES:
        return _failure(answer, "the answer")
    if tests.status in _STATUSES:
        return Outcome(_STATUSES[tests.status], reason=f"the tests were {_REASONS[tests.status]}")
    report = _report(tests.stdout)
    where = safe_name(report.get("where"))
    if report.get("end") == "lost":
        return Outcome("wrong", reason=f"{where}: the answer ended, {answer.detail}")
    if report.get("end") != "ok":
        reason = f"{where}: {safe_name(report.get('end'))}"
        # Of an answer nothing but its names was read: what the tests import is not there.
        is_tests_own = report.get("end") == "ModuleNotFoundError" and report.get("loaded") and not report.get("asked")
        return Outcome("bad_gold" if is_tests_own else "wrong", reason=reason)
    ran = {int(word) for word in report.get("ran", "").split() if word.isdecimal()}
    if not ran or not plan.required <= ran or not report.get("asked"):
        return Outcome("wrong", reason=f"{len(ran)} of {plan.num_marks} assertions ran")
    note = "; weak: an operator of the answer's own class decided" if report.get("weak") else ""
    return Outcome("correct", reason=f"{len(ran)} assertions hold{note}", weak=bool(note))


def _report(stdout: bytes) -> dict[str, str]:
    """What the process of the tests says."""
    try:
        report = json.loads(stdout)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in report.items() if type(value) is str} if isinstance(report, dict) else {}


def _failure(run: Run, where: str) -> Outcome:
    """The answer's own failure."""
    status = _STATUSES.get(run.status, "wrong")
    return Outcome(status, reason=f"{where}: {_REASONS.get(run.status, run.detail)}")
