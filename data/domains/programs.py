"""Code: the last block of Python, or of C++ where whole programs are tested, against the problem's tests.

A problem with only an answer is judged by the last box.

Tests and expected outputs never enter the process that runs an answer: see `data/domains/code_tests.py`.
"""

import re

from data.domains import code_tests, mathematics
from data.domains.domain import Domain, Outcome
from data.domains.extraction import Program, last_program
from data.domains.instruments import Instruments
from data.sandbox import NoCompilerError, SandboxLostError
from data.schema import Problem

CODE_SUFFIX = (
    "\nPlease reason step by step, and give your final answer as one Python code block, "
    "or within \\boxed{} if a value is asked for."
)

MAX_CODE_CHARACTERS = 100_000
_TOKEN = re.compile(r"[^\s,\[\](){}\\'\"]+")
_MARKUP = re.compile(r"\\(?:text|texttt|mathrm|verb)\b")


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    """Judge the text after the thinking."""
    if problem.tests.strip():
        return verify_program(None, problem, instruments, text=text)
    if problem.answer.strip():
        return _verify_value(text, problem)
    return Outcome("no_tests", reason="the problem has neither tests nor an answer")


def _verify_value(text: str, problem: Problem) -> Outcome:
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    wanted = _tokens(problem.answer)
    same = _tokens(boxed) == wanted if wanted else "".join(boxed.split()) == "".join(problem.answer.split())
    return Outcome("correct" if same else "wrong", boxed, "compared token by token")


def _tokens(text: str) -> list[str]:
    """Words and numbers, whatever the white space, commas, quotes and brackets around them."""
    return _TOKEN.findall(_MARKUP.sub(" ", text))


def verify_program(program: Program | None, problem: Problem, instruments: Instruments, *, text: str = "") -> Outcome:
    """Judge a program as it is, or the last one of a text."""
    try:
        tests = code_tests.parse(problem.tests) if problem.tests.strip() else None
    except Exception as error:  # whatever is wrong with what a data set wrote, it is the data set's fault
        return Outcome("bad_gold", reason=f"the tests cannot be read: {type(error).__name__}: {str(error)[:300]}")
    if tests is None:
        return Outcome("no_tests", reason="nothing is tested")
    program = program or last_program(text, languages=tests.languages)
    if program is None or program.language not in tests.languages or not program.code.strip():
        return Outcome("no_answer", reason=f"no closed block of {' or '.join(tests.languages)} after the thinking")
    return _run(program, tests, instruments)


def _run(program: Program, tests: code_tests.Tests, instruments: Instruments) -> Outcome:
    code = program.code
    if len(code) > MAX_CODE_CHARACTERS:
        return Outcome("wrong", code[:MAX_CODE_CHARACTERS], f"the code is longer than {MAX_CODE_CHARACTERS} characters")
    try:
        result = tests.judge(program, instruments)
    except (SandboxLostError, NoCompilerError) as error:
        return Outcome("judge_error", code, str(error))
    note = "; ran WITHOUT isolation" if instruments.is_unsafe else ""
    return Outcome(result.status, code, result.reason + note, weak=result.weak)


DOMAIN = Domain("code", CODE_SUFFIX, verify)
