"""Science: letters of a choice as sets, quantities by number and unit, anything else as mathematics.

A quantity is right within a relative tolerance: `tolerance` (or `rel_tol`) in `meta`, else half a unit of the gold's last digit,
within 0.05 % and 1 %.
"""

from data.domains import mathematics
from data.domains.choices import letters
from data.domains.domain import Domain, Outcome, Question
from data.domains.equivalence import equivalent
from data.domains.instruments import Instruments
from data.domains.plain import equal_when_plain
from data.domains.policy import Policy
from data.domains.quantities import FINEST, compare_quantities
from data.schema import Problem

PARTIAL_CREDIT = 0.5


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome | Question:
    """Judge the text after the thinking."""
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    if not problem.answer.strip():
        return Outcome("bad_gold", boxed, "the problem has no answer")
    return compare(boxed, problem.answer.strip(), instruments.policy, tolerance=_tolerance(problem))


def compare(answer: str, gold: str, policy: Policy, *, tolerance: float | None = None) -> Outcome | Question:
    """An answer against the gold; `tolerance` is relative, None takes it from how the gold is written."""
    wanted, given = letters(gold), letters(answer)
    if wanted is not None and (given is not None or gold.isupper()):
        return _compare_letters(answer, given or frozenset(), wanted, policy)
    if equal_when_plain(gold, answer):
        return Outcome("correct", answer, "the same text or number")
    same = compare_quantities(gold, answer, tolerance=tolerance)
    if same is not None:
        return Outcome("correct" if same.equal else "wrong", answer, same.reason)
    equal = equivalent(gold, answer, tolerance=FINEST if tolerance is None else tolerance)
    if equal is not None:
        return Outcome("correct" if equal else "wrong", answer, "formulas evaluated at random points")
    return mathematics.compare(answer, gold, policy)


def _compare_letters(answer: str, given: frozenset[str], wanted: frozenset[str], policy: Policy) -> Outcome:
    if given == wanted:
        return Outcome("correct", answer, "compared as letters of a choice")
    partly = policy.partial_credit and given and given < wanted
    reason = "some of the letters" if partly else "compared as letters of a choice"
    return Outcome("wrong", answer, reason, credit=PARTIAL_CREDIT if partly else 0.0)


def _tolerance(problem: Problem) -> float | None:
    tolerance = problem.metadata.get("tolerance", problem.metadata.get("rel_tol"))
    return None if tolerance is None else float(tolerance)


DOMAIN = Domain("science", mathematics.BOX_SUFFIX, verify)
