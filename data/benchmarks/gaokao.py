"""Points of the Chinese college entrance examination: what a judged answer earns, and what a paper adds up to.

In: a problem whose `meta` has `score`, the points that its question gives, and the judge's verdict. A right answer earns them. Of a choice
with several right letters some of them, and no wrong one, earn a part, as the exams say:

    physics, four options, 6 points                      3 for any part
    physics, optional part, five options, 5 points       2 for one letter, 4 for two
    physics, optional part, five options, 6 points       3 for one letter, 4 for two (until 2013)
    mathematics, four options, 5 points                  2 for any part (2021 to 2023)
    mathematics, four options, 6 points                  3 for one of two, 2 for one of three, 4 for two of three (since 2024)

or as `partial` in `meta` says: a list, points for one letter, for two, ... Any wrong letter earns nothing (the optional part of physics
took 3 points off for it until 2021, where the letters beside it earned some). Without a rule a part earns nothing.

Questions that no judge can mark, as proofs, which have no single answer, are counted apart: a total is over the points of the others, and
scaled to those of a whole paper, 150 in mathematics.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from data.domains.choices import letters, num_options
from data.domains.verdict import Verdict
from data.schema import Problem

_MATH_BY_LETTERS = {2: (3.0,), 3: (2.0, 4.0)}  # right letters -> points for one, two of them
_PARTS: dict[
    tuple[str, int, float], tuple[float, ...]
] = {  # subject, options, points -> points for one letter, two, three
    ("physics", 4, 6): (3.0, 3.0, 3.0),
    ("physics", 5, 5): (2.0, 4.0),
    ("physics", 5, 6): (3.0, 4.0),
    ("math", 4, 5): (2.0, 2.0, 2.0),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """What one answer earns."""

    earned: float
    possible: float  # points of the question
    is_judged: bool  # False: the judge does not know, and the question is in no total
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """What a paper, or a set of questions, adds up to."""

    earned: float
    possible: float  # of the questions that were judged
    unjudged: float  # points of the others
    full: float  # of a whole paper

    @property
    def points(self) -> float:
        """Points of a whole paper at this rate; nan where no question was judged."""
        return self.full * self.earned / self.possible if self.possible else float("nan")


def question_points(problem: Problem) -> float:
    """Points that the question gives. Raises ValueError where its `meta` does not say."""
    points = problem.metadata.get("score")
    if isinstance(points, bool) or not isinstance(points, int | float) or not points > 0:
        raise ValueError(f'problem {problem.id}: its meta says {points!r} of its points; needed is {{"score": 5}}')
    return float(points)


def mark(problem: Problem, verdict: Verdict) -> Mark:
    """What the judged answer earns. Raises ValueError where the question does not say its points."""
    possible = question_points(problem)
    if verdict.is_failure:
        return Mark(0.0, possible, is_judged=False)
    if verdict.status == "correct":
        return Mark(possible, possible, is_judged=True)
    part = _part(problem, verdict.extracted, possible)
    return Mark(part, possible, is_judged=True, is_partial=part > 0)


def total(marks: Iterable[Mark], *, full_points: float | None = None) -> Total:
    """The sum; `full_points` of a whole paper, None where the questions are the paper."""
    given = list(marks)
    judged = [one for one in given if one.is_judged]
    possible = sum(one.possible for one in judged)
    unjudged = sum(one.possible for one in given) - possible
    return Total(
        sum(one.earned for one in judged), possible, unjudged, possible if full_points is None else full_points
    )


def _part(problem: Problem, answer: str, points: float) -> float:
    """Points for some of several right letters and no wrong one; else 0."""
    options = num_options(problem.prompt) or 4
    wanted, given = letters(problem.answer, options=options), letters(answer, options=options)
    if not wanted or not given or len(wanted) < 2 or not given < wanted:
        return 0.0
    parts = _parts(problem, options, len(wanted), points)
    return min(points, parts[len(given) - 1]) if len(given) <= len(parts) else 0.0


def _parts(problem: Problem, options: int, num_right: int, points: float) -> tuple[float, ...]:
    stated = problem.metadata.get("partial")
    if isinstance(stated, list) and all(isinstance(one, int | float) and one >= 0 for one in stated):
        return tuple(map(float, stated))
    subject = "math" if problem.domain == "math" else problem.metadata.get("subject", "physics")
    if (subject, options, points) == ("math", 4, 6):
        return _MATH_BY_LETTERS.get(num_right, ())
    return _PARTS.get((subject, options, points), ())
