"""The rows that curation sifts, and what a step makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from data.schema import DROPPED_SCHEMA, PROBLEM_COLUMNS, Problem


@dataclass(frozen=True, slots=True)
class Candidate:
    """A problem on its way to the split that `problem.split` names."""

    problem: Problem
    source: str  # name of the recipe's source
    generated: bool  # by a procedural source

    @property
    def origin(self) -> str:
        """Where it comes from, for people: the generator's name, or the data set that a file's row names."""
        return self.source if self.generated else self.problem.source or self.source


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that was left out. `evidence` is what a reader needs to check the reason: a snippet, an id, a verdict."""

    candidate: Candidate
    reason: str
    evidence: str
    leaks_to: str = ""  # the benchmark that a leak gives away


@dataclass(frozen=True, slots=True)
class Sifted:
    """What a step kept, in order, and what it dropped."""

    kept: list[Candidate]
    dropped: list[Drop]
    num_judged: int = 0  # responses that it asked the judge about


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step of the funnel."""

    name: str
    num_kept: int
    dropped: list[Drop]
    num_judged: int = 0


def dropped_table(steps: Sequence[Step]) -> pa.Table:
    """Every dropped row with its step, reason and evidence."""
    drops = [(step.name, drop) for step in steps for drop in step.dropped]
    columns = {name: [getattr(drop.candidate.problem, name) for _, drop in drops] for name in PROBLEM_COLUMNS}
    columns["step"] = [name for name, _ in drops]
    columns["reason"] = [drop.reason for _, drop in drops]
    columns["evidence"] = [drop.evidence for _, drop in drops]
    return pa.table(columns, schema=DROPPED_SCHEMA)
