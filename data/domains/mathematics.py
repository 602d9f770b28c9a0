"""Mathematics: the last box against the gold answer, by a fast path for what is plain, else by Math-Verify."""

import re

from data.domains import math_worker
from data.domains.choices import letters
from data.domains.domain import Domain, Outcome
from data.domains.extraction import MAX_ANSWER_CHARACTERS, last_box
from data.domains.instruments import Instruments
from data.domains.plain import equal_when_plain, is_too_large, tidied
from data.domains.quantities import compare_quantities
from data.schema import Problem

BOX_SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."

EXACT = 1e-6  # relative tolerance of quantities in mathematics

_SEVERAL_QUANTITIES = re.compile(r"\\text\s*\{\s*(?!and\b|or\b)[a-z]+\s*\}\s*\d")


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    """Judge the text after the thinking."""
    boxed = boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    if not problem.answer.strip():
        return Outcome("bad_gold", boxed, "the problem has no answer")
    return compare(boxed, problem.answer.strip(), instruments)


def boxed_answer(text: str) -> str | Outcome:
    """The last box, or why there is nothing to judge."""
    boxed = last_box(text)
    if boxed is None:
        return Outcome("no_answer", reason="no closed \\boxed{} after the thinking")
    if not boxed:
        return Outcome("no_answer", reason="the last box is empty")
    if len(boxed) > MAX_ANSWER_CHARACTERS:
        cut = boxed[:MAX_ANSWER_CHARACTERS]
        return Outcome("wrong", cut, f"the answer has {len(boxed)} characters, more than {MAX_ANSWER_CHARACTERS}")
    return boxed


def compare(answer: str, gold: str, instruments: Instruments) -> Outcome:
    """An answer against the gold."""
    equal = equal_when_plain(gold, answer)
    if equal is not None:
        return Outcome("correct" if equal else "wrong", answer, "compared as plain text or numbers")
    if _is_choice(gold) and (chosen := letters(answer)) is not None:
        return Outcome("correct" if chosen == letters(gold) else "wrong", answer, "compared as letters of a choice")
    quantities = compare_quantities(gold, answer, tolerance=EXACT)
    if quantities is not None and (quantities.used_units or quantities.is_scientific):
        return Outcome("correct" if quantities.equal else "wrong", answer, quantities.reason)
    if _SEVERAL_QUANTITIES.search(answer) and not _SEVERAL_QUANTITIES.search(gold):
        return Outcome("wrong", answer, "several quantities, as hours and minutes")
    if why := is_too_large(answer):
        return Outcome("wrong", answer, f"not evaluated: {why}")
    if why := is_too_large(gold):
        return Outcome("bad_gold", answer, f"the gold answer cannot be evaluated: {why}")
    return _OUTCOMES[instruments.math.compare(tidied(gold), tidied(answer))](answer)


def _is_choice(gold: str) -> bool:
    """A single letter may be a constant; several are a choice."""
    return len(letters(gold) or ()) > 1


_OUTCOMES = {
    math_worker.EQUAL: lambda answer: Outcome("correct", answer, "Math-Verify: equal"),
    math_worker.DIFFERENT: lambda answer: Outcome("wrong", answer, "Math-Verify: different"),
    math_worker.UNREADABLE_ANSWER: lambda answer: Outcome("wrong", answer, "Math-Verify cannot read the answer"),
    math_worker.UNREADABLE_GOLD: lambda answer: Outcome("bad_gold", answer, "Math-Verify cannot read the gold answer"),
    math_worker.TIMEOUT: lambda answer: Outcome("judge_error", answer, "Math-Verify did not come back in time"),
    math_worker.CRASH: lambda answer: Outcome("judge_error", answer, "Math-Verify broke down"),
}

DOMAIN = Domain("math", BOX_SUFFIX, verify)
