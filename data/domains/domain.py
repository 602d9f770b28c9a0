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


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of problem. `verify` takes the text after the thinking."""

    name: str
    prompt_suffix: str  # appended to a problem's prompt
    verify: Callable[[str, Problem, Instruments], Outcome]
