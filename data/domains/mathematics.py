"""Mathematics: the boxed answer against the gold, by texts, letters, quantities, words and formulas.

Math-Verify is asked where a limit, sum, product or integral is to be computed.
"""

import re
from functools import lru_cache

from data.domains import math_worker
from data.domains.choices import num_options, same_choice
from data.domains.domain import Domain, Outcome, Question
from data.domains.extraction import MAX_ANSWER_CHARACTERS, final_boxes, last_box
from data.domains.formulas.comparison import Rules, same
from data.domains.formulas.cursor import READINGS
from data.domains.formulas.grammar import parsed
from data.domains.formulas.nodes import Node, UnreadableError
from data.domains.formulas.normal import normalised
from data.domains.formulas.size import is_modest
from data.domains.formulas.values import ExhaustedError, allow
from data.domains.formulas.words import same_words
from data.domains.instruments import Instruments
from data.domains.plain import equal_when_plain
from data.domains.policy import Policy
from data.domains.quantities import compare_quantities
from data.schema import Problem

BOX_SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."

MAX_WORK = 60_000  # nodes evaluated in one comparison: a tenth of a second
EXACT = 1e-9  # relative tolerance of quantities in mathematics
_FOR_MATH_VERIFY = frozenset(
    {"\\sum", "\\prod", "\\int", "\\lim"}
)  # what it reads and computes, tested in tests/data/domains/test_math_worker.py
_NAMED = re.compile(r"(\\?[A-Za-z][\w\\{}]{0,40}) ?=")
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,30},(?:\d{1,2}|\d{4,30})")
_POSITIVE = re.compile(
    r"\b(?:positive|natural|nonnegative|non-negative)\b|[a-zA-Z] ?(?:>|\\gt|\\ge|\\geq|\\geqslant|≥) ?0(?![.\d])"
    r"|正数|正实数|正整数|自然数|正的|大于零|大于0"
)


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome | Question:
    """Judge the text after the thinking."""
    boxed = boxed_answer(text, joined=instruments.policy.boxes_are_joined)
    if isinstance(boxed, Outcome):
        return boxed
    if not problem.answer.strip():
        return Outcome("bad_gold", boxed, "the problem has no answer")
    return compare(boxed, problem.answer.strip(), instruments.policy, prompt=problem.prompt)


def boxed_answer(text: str, *, joined: bool = False, most: int = MAX_ANSWER_CHARACTERS) -> str | Outcome:
    """The boxes of the final statement as one answer, or the last box alone, or why there is nothing to judge.

    An answer of more than `most` characters is wrong.
    """
    boxes = final_boxes(text) if joined else None
    boxed = ", ".join(boxes) if boxes else last_box(text)
    if boxed is None:
        return Outcome("no_answer", reason="no closed \\boxed{} after the thinking")
    if not boxed:
        return Outcome("no_answer", reason="the last box is empty")
    if len(boxed) > most:
        return Outcome("wrong", boxed[:most], f"the answer has {len(boxed)} characters, more than {most}")
    return boxed


def compare(answer: str, gold: str, policy: Policy, *, prompt: str = "") -> Outcome | Question:
    """An answer against the gold; the prompt says how many options there are, and whether symbols are positive."""
    left, right = normalised(gold), normalised(answer)
    if (equal := _as_plain(left, right, policy)) is not None:
        return _verdict(answer, equal=equal, reason="compared as plain text or numbers")
    if (equal := same_choice(gold, answer, num_options=num_options(prompt))) is not None:
        return _verdict(answer, equal=equal, reason="compared as letters of a choice")
    if (equal := _by_quantity(left, right, policy)) is not None:
        return _verdict(answer, equal=equal, reason="compared with units")
    if same_words(left, right):
        return _verdict(answer, equal=True, reason="the same words")
    rules = Rules(policy, positive=bool(_POSITIVE.search(prompt)))
    equal, series = formulas_agree(left, right, rules)
    if (
        not equal and "," in left and (ungrouped := normalised(answer, grouped=False)) != right
    ):  # 1,234 in a list of two
        equal = formulas_agree(normalised(gold, grouped=False), ungrouped, rules)[0] or equal
    if equal or (equal is not None and not series):
        return _verdict(answer, equal=equal, reason="formulas compared")
    if series:
        return Question(left, right, answer)
    return _verdict(answer, equal=False, reason="no formulas, and not the same words")


def _verdict(answer: str, *, equal: bool, reason: str) -> Outcome:
    return Outcome("correct" if equal else "wrong", answer, reason)


def _as_plain(gold: str, answer: str, policy: Policy) -> bool | None:
    """Equal texts and numbers; a decimal comma only before other than three digits, and for a gold with a point."""
    if "." in gold and _DECIMAL_COMMA.fullmatch(answer):
        answer = answer.replace(",", ".")
    return equal_when_plain(gold, answer, places=policy.rounded_places)


def _by_quantity(gold: str, answer: str, policy: Policy) -> bool | None:
    """Numbers with units, and numbers with powers of ten."""
    names = _NAMED.match(gold), _NAMED.match(answer)
    if names[0] and names[1] and names[0][1] != names[1][1]:
        return None
    found = compare_quantities(gold, answer, tolerance=EXACT)
    if found is None or not found.used_units:
        return None
    return found.equal and (policy.units_are_converted or not found.converted)


@lru_cache(maxsize=4096)
def formulas_agree(gold: str, answer: str, rules: Rules) -> tuple[bool | None, bool]:
    """Whether two formulas are the same, None where one is none; and whether Math-Verify may know more.

    Both are read in the same way, in all ways that there are.
    """
    found: bool | None = None
    has_series = False
    allow(MAX_WORK)
    for reading in READINGS:
        try:
            left, right = parsed(gold, reading), parsed(answer, reading)
            if same(left.node, right.node, rules):
                return True, False
        except UnreadableError:
            return None, False
        except ExhaustedError:
            return False, False
        found = False
        has_series |= any(map(_has_series, (left.node, right.node))) and is_modest(left.node) and is_modest(right.node)
        if not left.is_ambiguous and not right.is_ambiguous:
            break
    return found, has_series


def _has_series(node: Node) -> bool:
    labels = {part.label for part in node.walk() if part.head == "series"}
    return bool(labels) and labels <= _FOR_MATH_VERIFY


def outcome(word: str, question: Question, gold_word: str) -> Outcome:
    """What a word of Math-Verify's workers says about a question; `gold_word` is what it says of the gold and a plain number.

    An answer on which the checker does not come back, though it reads the gold, is wrong: no answer may choose to be the judge's failure.
    """
    status, reason = _OUTCOMES[word]
    if word not in math_worker.FAILURES:
        return Outcome(status, question.extracted, reason)
    if gold_word in (math_worker.EQUAL, math_worker.DIFFERENT):
        return Outcome("wrong", question.extracted, f"{reason} on this answer", checker_failed=True)
    return Outcome("judge_error", question.extracted, f"{reason} on the gold answer")


_OUTCOMES = {
    math_worker.EQUAL: ("correct", "Math-Verify: equal"),
    math_worker.DIFFERENT: ("wrong", "Math-Verify: different"),
    math_worker.UNREADABLE_ANSWER: ("wrong", "Math-Verify cannot read the answer"),
    math_worker.UNREADABLE_GOLD: ("wrong", "Math-Verify cannot read the gold answer"),
    math_worker.TIMEOUT: ("wrong", "Math-Verify did not come back in time"),
    math_worker.CRASH: ("wrong", "Math-Verify broke down"),
}

DOMAIN = Domain("math", BOX_SUFFIX, verify)
