"""Science: letters of a choice as sets, quantities by number and unit, anything else as mathematics.

A quantity is right within a relative tolerance: `tolerance` (or `rel_tol`) in `meta`, else 1 %.
"""

from data.domains import mathematics
from data.domains.choices import letters
from data.domains.domain import Domain, Outcome
from data.domains.instruments import Instruments
from data.domains.quantities import compare_quantities
from data.schema import Problem

DEFAULT_TOLERANCE = 0.01


def verify(text: str, problem: Problem, instruments: Instruments) -> Outcome:
    """Judge the text after the thinking."""
    boxed = mathematics.boxed_answer(text)
    if isinstance(boxed, Outcome):
        return boxed
    gold = problem.answer.strip()
    if not gold:
        return Outcome("bad_gold", boxed, "the problem has no answer")
    wanted = letters(gold)
    if wanted is not None:
        return Outcome("correct" if letters(boxed) == wanted else "wrong", boxed, "compared as letters of a choice")
    same = compare_quantities(gold, boxed, tolerance=_tolerance(problem))
    if same is not None:
        return Outcome("correct" if same.equal else "wrong", boxed, same.reason)
    return mathematics.compare(boxed, gold, instruments)


def _tolerance(problem: Problem) -> float:
    return float(problem.metadata.get("tolerance", problem.metadata.get("rel_tol", DEFAULT_TOLERANCE)))


DOMAIN = Domain("science", mathematics.BOX_SUFFIX, verify)
