r"""Puzzles of reasoning-gym: the boxed answer, scored by the generator's own scorer (extra `gym`).

`tests` holds what the scorer needs, so that a row can be judged from itself alone:
    {"type": "reasoning-gym", "generator": "countdown", "version": "0.1.25", "settings": ..., "entry": ...}
where settings and entry (answer and metadata) are tagged JSON (`data/sandbox/tagged.py`) and the question is the row's prompt.

A score of 1 is correct. Anything less is wrong, and stays the verdict's score: some scorers give partial credit, a few 0.01 or 0.05 for
any answer. Scorers are not hardened: they run in a sandbox of their own, one process for each verdict, and one that evaluates what it
reads gets to see only what `gym_generators.FORMS` lets pass. A scorer that does not come back, or raises, is the answer's fault if it
comes back on the gold answer.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data.domains import gym_process
from data.domains.code_tests import returned
from data.domains.domain import Domain, Outcome
from data.domains.gym_generators import FORMS, GENERATORS, VERSION, fault_of
from data.domains.instruments import Instruments
from data.domains.mathematics import BOX_SUFFIX, boxed_answer
from data.sandbox import Job, Limits, Run, SandboxError, SandboxLostError
from data.schema import Problem

NAME, TYPE = "gym", "reasoning-gym"
MAX_CHARACTERS = 20_000  # of an answer; the longest gold ones have 5 000
PACKAGES = ("numpy", "mpmath", "sympy", "reasoning_gym")
LIMITS = Limits(seconds=5.0, total_seconds=5.0, memory_mb=1024)
_MOST_CREDIT = 0.999  # of an answer that is wrong: columns of 32 bits must not take it for 1
_AROUND = re.compile(r"\\(?:text|texttt|mathrm|mathtt|verb)\s*\{([^{}]*)\}")
_ESCAPED = re.compile(r"\\([_{}%&#$])")
_SCORER = "scorer"  # name of the module in the sandbox


@dataclass(frozen=True, slots=True)
class Tests:
    """What a row says of its scorer; settings and entry as tagged JSON."""

    generator: str
    version: str
    settings: str
    entry: str
    answer: str  # the gold


def tests_text(generator: str, *, settings: str, entry: str) -> str:
    """The `tests` of a row."""
    row = {"type": TYPE, "generator": generator, "version": VERSION}
    return json.dumps({**row, "settings": json.loads(settings), "entry": json.loads(entry)}, ensure_ascii=False)


@lru_cache(maxsize=512)
def parse(text: str) -> Tests:
    """The tests of a row. Raises ValueError, KeyError or TypeError for what is none, or of an unknown generator or version."""
    row = json.loads(text)
    if row["type"] != TYPE:
        raise ValueError(f"tests of type {row['type']!r}, not {TYPE!r}")
    if fault := fault_of(row["generator"]):
        raise ValueError(fault)
    if row["version"] != VERSION:
        raise ValueError(f"made by reasoning-gym {row['version']}, scored here by {VERSION}: draw the rows again")
    pairs = dict(row["entry"]["dict"])
    if not isinstance(pairs["answer"], str) or "metadata" not in pairs:
        raise ValueError("the entry needs an answer, which is a text, and metadata")
    settings, entry = (json.dumps(row[name]) for name in ("settings", "entry"))
    return Tests(row["generator"], row["version"], settings, entry, pairs["answer"])


def fault_of_tests(text: str) -> str | None:
    """Why a row's tests cannot be used; None for those that can."""
    try:
        parse(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"the tests cannot be read: {type(error).__name__}: {str(error)[:300]}"
    return None


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    """Judge the text after the thinking."""
    if fault := fault_of_tests(problem.tests):
        return Outcome("bad_gold", reason=fault)
    boxed = boxed_answer(text, most=MAX_CHARACTERS)
    if isinstance(boxed, Outcome):
        return boxed
    return _judged(parse(problem.tests), _plain(boxed), instruments)


def _plain(boxed: str) -> str:
    """Without what LaTeX asks for in a box: a text around the whole, and backslashes before signs."""
    around = _AROUND.fullmatch(boxed)
    return _ESCAPED.sub(r"\1", around[1] if around else boxed).strip()


def _judged(tests: Tests, answer: str, instruments: Instruments) -> Outcome:
    form = FORMS.get(tests.generator)
    if form is not None and not form.fullmatch(answer):
        return Outcome("wrong", answer, f"not of the form that the scorer of {tests.generator} gets to see")
    try:
        score, failure = _score(tests, answer, instruments)
        if failure and _score(tests, tests.answer, instruments)[1]:
            reason = f"the scorer of {tests.generator}, also on the gold answer: {failure.reason}"
            return Outcome("judge_error", answer, reason)
    except SandboxLostError as error:
        return Outcome("judge_error", answer, str(error))
    if failure:
        is_lost = failure.status != "wrong"  # out of time or memory; an exception says that it cannot read this
        return Outcome("wrong", answer, f"the scorer of {tests.generator}: {failure.reason}", checker_failed=is_lost)
    return _of_score(answer, score, tests)


def _of_score(answer: str, score: float, tests: Tests) -> Outcome:
    if score == 1:
        return Outcome("correct", answer, f"scored 1 by {tests.generator}")
    if math.isfinite(score) and 0 <= score < 1:
        return Outcome("wrong", answer, f"scored {score:.4g} by {tests.generator}", credit=min(score, _MOST_CREDIT))
    return Outcome("wrong", answer, f"{tests.generator} scored {score:g}, outside of 0 to 1", checker_failed=True)


def _score(tests: Tests, answer: str, instruments: Instruments) -> tuple[float, Outcome | None]:
    """The score, or what went wrong; raises SandboxError where there is no sandbox or no package."""
    _require_package()
    arguments = (tests.generator, tests.settings, tests.entry, answer)
    job = Job(f"from {_SCORER} import score", calls=(f"score{arguments!r}",), module="judge")
    values, failure = returned(_run(job, instruments), 1)
    if failure is not None:
        return 0.0, failure
    return (values[0], None) if type(values[0]) is float else (0.0, Outcome("wrong", reason="no number"))


def _run(job: Job, instruments: Instruments) -> Run:
    return instruments.run_scorer(job, LIMITS, packages=PACKAGES, module=(_SCORER, scorer_source()))


@lru_cache(maxsize=1)
def _require_package() -> None:
    try:
        found = version("reasoning-gym")
    except PackageNotFoundError:
        raise SandboxError(MISSING) from None
    if found != VERSION:
        raise SandboxError(f"reasoning-gym {found} is installed, its scorers are known in {VERSION}: {_INSTALL}")


_INSTALL = "pip install -e '.[gym]' -c constraints.txt"
MISSING = f"problems of the domain {NAME} need reasoning-gym, which is not installed: {_INSTALL}"


def scorer_source() -> str:
    """What the sandbox's server runs before the first answer."""
    text = Path(gym_process.__file__).read_text(encoding="utf-8")
    return f"{text}\nload({sorted(set(GENERATORS.values()))!r}, stand_ins=True)\n"


DOMAIN = Domain(NAME, BOX_SUFFIX, verify, extra="gym")
