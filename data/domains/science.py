"""Science: letters of a choice as sets, quantities by number and unit, anything else as mathematics.

A quantity is right within a relative tolerance: `tolerance` (or `rel_tol`) in `meta`, else half a unit of the gold's last digit,
within 0.05 % and 1 %.
"""

from data.domains import mathematics
from data.domains.choices import NUM_USUAL, letters, num_options, same_choice
from data.domains.domain import Domain, Outcome, Question
from data.domains.equivalence import equivalent
from data.domains.formulas.normal import normalised
from data.domains.instruments import Instruments
from data.domains.plain import equal_when_plain
from data.domains.policy import Policy
from data.domains.quantities import FINEST, compare_quantities, tolerance_of
from data.schema import Problem

PARTIAL_CREDIT = 0.5


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome | Question:
    """Judge the text after the thinking."""
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    if not problem.answer.strip():
        return Outcome("bad_gold", boxed, "the problem has no answer")
    try:
        tolerance = _tolerance(problem)
    except ValueError as error:
        return Outcome("bad_gold", boxed, str(error))
    return compare(boxed, problem.answer.strip(), instruments.policy, tolerance=tolerance, prompt=problem.prompt)


def compare(
    answer: str, gold: str, policy: Policy, *, tolerance: float | None = None, prompt: str = ""
) -> Outcome | Question:
    """An answer against the gold; `tolerance` is relative, None takes it from how the gold is written."""
    if (outcome := _compare_letters(answer, gold, policy, num_options(prompt))) is not None:
        return outcome
    left, right = normalised(gold), normalised(answer)
    if equal_when_plain(left, right):
        return Outcome("correct", answer, "the same text or number")
    same = compare_quantities(left, right, tolerance=tolerance)
    if same is not None:
        return Outcome("correct" if same.equal else "wrong", answer, same.reason)
    equal = equivalent(left, right, tolerance=FINEST if tolerance is None else tolerance)
    if equal:
        return Outcome("correct", answer, "formulas evaluated at random points")
    outcome = mathematics.compare(answer, gold, policy, prompt=prompt)
    if equal is None or isinstance(outcome, Question) or outcome.status == "correct":
        return outcome
    return Outcome("wrong", answer, "formulas evaluated at random points")


def _compare_letters(answer: str, gold: str, policy: Policy, options: int | None) -> Outcome | None:
    """Letters of a choice as sets; None where the gold is none, or a single letter and the answer none."""
    equal = same_choice(gold, answer, num_options=options)
    wanted, given = (letters(text, options=options or NUM_USUAL) for text in (gold, answer))
    if equal is None and (wanted is None or not gold.isupper()):
        return None
    if equal:
        return Outcome("correct", answer, "compared as letters of a choice")
    partly = bool(policy.partial_credit and wanted and given and given < wanted)
    reason = "some of the letters" if partly else "compared as letters of a choice"
    return Outcome("wrong", answer, reason, credit=PARTIAL_CREDIT if partly else 0.0)


def _tolerance(problem: Problem) -> float | None:
    tolerance = problem.metadata.get("tolerance", problem.metadata.get("rel_tol"))
    return None if tolerance is None else tolerance_of(tolerance)


DOMAIN = Domain("science", mathematics.BOX_SUFFIX, verify)
