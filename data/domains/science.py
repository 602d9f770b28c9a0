"""Science: letters of a choice as sets, quantities by number and unit, anything else as mathematics.

A quantity is right within a relative tolerance: `tolerance` (or `rel_tol`) in `meta`, else half a unit of the gold's last digit,
within 0.1 % and 1 %.
"""

from data.domains import mathematics
from data.domains.choices import letters
from data.domains.domain import Domain, Outcome
from data.domains.equivalence import equivalent
from data.domains.instruments import Instruments
from data.domains.plain import equal_when_plain
from data.domains.quantities import FINEST, compare_quantities
from data.schema import Problem


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    """Judge the text after the thinking."""
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    gold = problem.answer.strip()
    if not gold:
        return Outcome("bad_gold", boxed, "the problem has no answer")
    wanted, given = letters(gold), letters(boxed)
    if wanted is not None and (given is not None or gold.isupper()):
        return Outcome("correct" if given == wanted else "wrong", boxed, "compared as letters of a choice")
    if equal_when_plain(gold, boxed):
        return Outcome("correct", boxed, "the same text or number")
    tolerance = _tolerance(problem)
    same = compare_quantities(gold, boxed, tolerance=tolerance)
    if same is not None:
        return Outcome("correct" if same.equal else "wrong", boxed, same.reason)
    equal = equivalent(gold, boxed, tolerance=FINEST if tolerance is None else tolerance)
    if equal is not None:
        return Outcome("correct" if equal else "wrong", boxed, "formulas evaluated at random points")
    return mathematics.compare(boxed, gold, instruments)


def _tolerance(problem: Problem) -> float | None:
    tolerance = problem.metadata.get("tolerance", problem.metadata.get("rel_tol"))
    return None if tolerance is None else float(tolerance)


DOMAIN = Domain("science", mathematics.BOX_SUFFIX, verify)
