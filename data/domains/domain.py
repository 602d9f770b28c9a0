"""What a domain is: a name, what it appends to a prompt, and how it verifies an answer."""

from collections.abc import Callable
from dataclasses import dataclass

from data.domains.instruments import Instruments
from data.schema import Problem


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict without its score and time; see `verdict.STATUSES`."""

    status: str
    extracted: str = ""
    reason: str = ""
    credit: float = 0.0  # the score of an answer that is wrong, but partly right
    checker_failed: bool = False  # the checker did not come back on this answer, though the gold by itself is fine
    weak: bool = False  # correct by evidence that the answer could have made up


@dataclass(frozen=True, slots=True)
class Question:
    """What only Math-Verify can tell: asked of its workers together with the questions of other answers."""

    gold: str  # as Math-Verify reads it best
    answer: str
    extracted: str  # the answer as it was given


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of problem. `verify` takes the text after the thinking; a question stands for the outcome that answers it."""

    name: str
    prompt_suffix: str  # appended to a problem's prompt
    verify: Callable[[str, Problem, Instruments], Outcome | Question]
    extra: str = ""  # of the project, that it needs; empty: none
