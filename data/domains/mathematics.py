"""Mathematics: the last box against the gold answer, by a fast path for what is plain, else by Math-Verify."""

import re

from data.domains import math_worker
from data.domains.choices import letters
from data.domains.conventions import decided_by_policy, items_in_order
from data.domains.domain import Domain, Outcome, Question
from data.domains.equivalence import equal_at_points
from data.domains.extraction import MAX_ANSWER_CHARACTERS, all_boxes, last_box
from data.domains.instruments import Instruments
from data.domains.notation import tidied
from data.domains.plain import equal_when_plain, is_too_large, squeezed
from data.domains.policy import Policy
from data.domains.quantities import compare_quantities
from data.schema import Problem

BOX_SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."

EXACT = 1e-6  # relative tolerance of quantities in mathematics

_SEVERAL_QUANTITIES = re.compile(r"\\text\s*\{\s*(?!and\b|or\b)[a-z]+\s*\}\s*\d")


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome | Question:
    """Judge the text after the thinking."""
    boxed = boxed_answer(text, joined=instruments.policy.boxes_are_joined)
    if isinstance(boxed, Outcome):
        return boxed
    if not problem.answer.strip():
        return Outcome("bad_gold", boxed, "the problem has no answer")
    return compare(boxed, problem.answer.strip(), instruments.policy)


def boxed_answer(text: str, *, joined: bool = False) -> str | Outcome:
    """The last box, or all of them `joined`, or why there is nothing to judge."""
    boxed = ", ".join(all_boxes(text) or ()) if joined else last_box(text)
    if boxed is None:
        return Outcome("no_answer", reason="no closed \\boxed{} after the thinking")
    if not boxed:
        return Outcome("no_answer", reason="the last box is empty")
    if len(boxed) > MAX_ANSWER_CHARACTERS:
        cut = boxed[:MAX_ANSWER_CHARACTERS]
        return Outcome("wrong", cut, f"the answer has {len(boxed)} characters, more than {MAX_ANSWER_CHARACTERS}")
    return boxed


def compare(answer: str, gold: str, policy: Policy) -> Outcome | Question:
    """An answer against the gold: by what is plain, by the policy, else a question to Math-Verify."""
    for decide in (_plain, _by_policy, _by_letters, _by_quantity, _in_order):
        outcome = decide(answer, gold, policy)
        if outcome is not None:
            return outcome
    left, right = tidied(gold), tidied(answer)
    equal = equal_at_points(left, right)
    if equal:
        return Outcome("correct", answer, "formulas evaluated at random points")
    if why := is_too_large(right):
        return Outcome("wrong", answer, f"not evaluated: {why}")
    if why := is_too_large(left):
        return Outcome("bad_gold" if equal is None else "wrong", answer, f"the gold answer is not evaluated: {why}")
    return Question(left, right, answer)


def _verdict(answer: str, *, equal: bool, reason: str) -> Outcome:
    return Outcome("correct" if equal else "wrong", answer, reason)


def _plain(answer: str, gold: str, policy: Policy) -> Outcome | None:
    equal = equal_when_plain(gold, answer, tolerance=policy.decimal_tolerance)
    return None if equal is None else _verdict(answer, equal=equal, reason="compared as plain text or numbers")


def _by_policy(answer: str, gold: str, policy: Policy) -> Outcome | None:
    equal = decided_by_policy(gold, answer, policy)
    return None if equal is None else _verdict(answer, equal=equal, reason="decided by the policy")


def _by_letters(answer: str, gold: str, _: Policy) -> Outcome | None:
    chosen = letters(answer) if _is_choice(gold) else None
    if chosen is None:
        return None
    return _verdict(answer, equal=chosen == letters(gold), reason="compared as letters of a choice")


def _by_quantity(answer: str, gold: str, policy: Policy) -> Outcome | None:
    """Numbers with units, and numbers with powers of ten."""
    same = compare_quantities(gold, answer, tolerance=EXACT)
    if same is not None and (same.used_units or same.is_scientific):
        equal = same.equal and (policy.units_are_converted or not same.converted)
        return _verdict(answer, equal=equal, reason=same.reason)
    if _SEVERAL_QUANTITIES.search(answer) and not _SEVERAL_QUANTITIES.search(gold):
        return Outcome("wrong", answer, "several quantities, as hours and minutes")
    return None


def _in_order(answer: str, gold: str, policy: Policy) -> Outcome | None:
    """Where order counts, lists whose items are the same texts or numbers in another order."""
    golds, answers = items_in_order(gold), items_in_order(answer)
    if policy.order_is_free or golds is None or answers is None or len(golds) != len(answers):
        return None
    if sorted(map(squeezed, golds)) == sorted(map(squeezed, answers)):
        return Outcome("wrong", answer, "the items stand in another order")
    return None


def _is_choice(gold: str) -> bool:
    """A single letter may be a constant; several are a choice."""
    return len(letters(gold) or ()) > 1


def outcome(word: str, question: Question) -> Outcome:
    """What a word of Math-Verify's workers says about a question. A worker that failed is the judge's failure."""
    status, reason = _OUTCOMES[word]
    return Outcome(status, question.extracted, reason)


_OUTCOMES = {
    math_worker.EQUAL: ("correct", "Math-Verify: equal"),
    math_worker.DIFFERENT: ("wrong", "Math-Verify: different"),
    math_worker.UNREADABLE_ANSWER: ("wrong", "Math-Verify cannot read the answer"),
    math_worker.UNREADABLE_GOLD: ("bad_gold", "Math-Verify cannot read the gold answer"),
    math_worker.TIMEOUT: ("judge_error", "Math-Verify did not come back in time"),
    math_worker.CRASH: ("judge_error", "Math-Verify broke down"),
}

DOMAIN = Domain("math", BOX_SUFFIX, verify)
