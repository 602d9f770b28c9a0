"""Code: the last block of Python against the problem's tests; a problem with only an answer, by the last box.

Tests and expected outputs never enter the process that runs an answer: see `data/domains/code_tests.py`.
"""

import re

from data.domains import code_tests, mathematics
from data.domains.domain import Domain, Outcome
from data.domains.extraction import last_code_block
from data.domains.instruments import Instruments
from data.sandbox import SandboxLostError
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
        return _verify_program(text, problem, instruments)
    if problem.answer.strip():
        return _verify_value(text, problem)
    return Outcome("no_tests", reason="the problem has neither tests nor an answer")


def _verify_value(text: str, problem: Problem) -> Outcome:
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    same = _tokens(boxed) == _tokens(problem.answer)
    return Outcome("correct" if same else "wrong", boxed, "compared token by token")


def _tokens(text: str) -> list[str]:
    """Words and numbers, whatever the white space, commas, quotes and brackets around them."""
    return _TOKEN.findall(_MARKUP.sub(" ", text))


def _verify_program(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    code = last_code_block(text)
    if code is None or not code.strip():
        return Outcome("no_answer", reason="no closed block of Python code after the thinking")
    if len(code) > MAX_CODE_CHARACTERS:
        return Outcome("wrong", code[:MAX_CODE_CHARACTERS], f"the code is longer than {MAX_CODE_CHARACTERS} characters")
    try:
        tests = code_tests.parse(problem.tests)
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError, RecursionError) as error:
        return Outcome("bad_gold", code, f"the tests cannot be read: {type(error).__name__}: {error}")
    if tests is None:
        return Outcome("no_tests", code, "the list of tests is empty")
    try:
        result = tests.judge(code, instruments)
    except SandboxLostError as error:
        return Outcome("judge_error", code, str(error))
    return Outcome(result.status, code, result.reason)


DOMAIN = Domain("code", CODE_SUFFIX, verify)
