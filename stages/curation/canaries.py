"""Answers that are no answers: a row of code whose tests accept one of them says nothing (redteam A1, A6).

In: a code row whose reference passes. Out: what its tests accept that they should not. For functions: programs whose names are there and
return nothing, or an object of no meaning. For programs with a checker: no output, a word, and what another test expects.
"""

from collections.abc import Iterator

from data.domains import Judge
from data.domains.code_tests import AssertTests, CallTests, StdinTests, parse
from data.domains.extraction import Program
from data.schema import Problem

_CLASS = """class {name}:
    def __init__(self, *args, **keywords):
        pass

    def __getattr__(self, name):
        return lambda *args, **keywords: {value}
"""
_FUNCTION = "def {name}(*args, **keywords):\n    return {value}\n"


def accepted_canary(problem: Problem, judge: Judge) -> str:
    """What the tests accept; empty where they refuse all."""
    try:
        canaries = list(_canaries(problem.tests))
    except Exception:  # tests that cannot be read accept nothing: the judge says so where it is asked
        return ""
    for what, program in canaries:
        (verdict,) = judge.verify([(program, problem)])
        if verdict.status == "correct":
            return what
    return ""


def operators_can_decide(problem: Problem) -> bool:
    """Whether the tests let operators of an answer's own classes decide, whatever those of its reference do."""
    tests = parse(problem.tests)
    return isinstance(tests, AssertTests) and bool(tests.plan.operators)


def _canaries(text: str) -> Iterator[tuple[str, Program]]:
    tests = parse(text)
    if isinstance(tests, StdinTests):
        yield from _of_checker(tests)
    elif tests is not None:
        names = _names(tests)
        for value in ("object()", "None"):
            yield f"functions that return {value}", Program("python", "".join(_defined(name, value) for name in names))


def _names(tests: CallTests | AssertTests) -> tuple[str, ...]:
    return tests.calls.names if isinstance(tests, CallTests) else tests.plan.canary_names


def _defined(name: str, value: str) -> str:
    return (_CLASS if name[:1].isupper() else _FUNCTION).format(name=name, value=value)


def _of_checker(tests: StdinTests) -> Iterator[tuple[str, Program]]:
    """Where tokens are compared, an output that is not expected is refused by construction."""
    if not tests.checker:
        return
    others = list(dict.fromkeys(tests.outputs))
    texts = {"no output": "", "a word": "canary"} | (
        {"what another test expects": others[0]} if len(others) > 1 else {}
    )
    for what, output in texts.items():
        yield what, Program("python", f"import sys\nsys.stdout.write({output!r})\n")
