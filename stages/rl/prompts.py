"""The problems that RL may ask, and the stream in which it asks them.

In: rl.parquet of curation, graded.parquet of selection. A problem that the chosen checkpoint always solves is dropped, and one
that it never solves unless the stronger model of selection does, or the teacher did (its row carries a verified solution) (paper 2.3).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table
from ring_model.tokenizer import Tokenizer
from stages.config import Phase, RlArm, RlConfig
from stages.sampling.prompting import prompt_ids
from stages.sampling.scores import GRADED_SCHEMA
from stages.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Pool:
    """Problems by domain, and how many rows were left out, by reason."""

    problems: Mapping[str, tuple[Problem, ...]]
    left_out: Mapping[str, int]

    @property
    def num_problems(self) -> int:
        """Problems that may be asked."""
        return sum(len(problems) for problems in self.problems.values())

    @property
    def left_out_words(self) -> str:
        """`1,420 always solved, 3 not judged`, or `none`."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items()) or "none"


def load_pool(curation: Path, selection: Path, *, arm: RlArm, config: RlConfig, tokenizer: Tokenizer) -> Pool:
    """The graded pool after the rule of the paper, without prompts that leave no room in a phase that asks for their domain.

    Raises ValueError when a phase wants a domain of which nothing is left.
    """
    graded = read_table(selection / "graded.parquet", GRADED_SCHEMA)
    solved = {row.pop("problem_id"): _Solved(**row) for row in graded.drop_columns(["failures"]).to_pylist()}
    limits = _limits(arm)
    kept: dict[str, list[Problem]] = {}
    left_out: Counter[str] = Counter()
    for problem in problems_from_table(read_table(curation / "rl.parquet", PROBLEM_SCHEMA)):
        reason = _reason(solved.get(problem.id, _Solved()), problem, config=config)
        if reason is None and problem.domain in limits:
            reason = _too_long(problem, limit=limits[problem.domain], tokenizer=tokenizer)
        if reason is None:
            kept.setdefault(problem.domain, []).append(problem)
        else:
            left_out[reason] += 1
    pool = Pool({domain: tuple(problems) for domain, problems in kept.items()}, dict(sorted(left_out.items())))
    _require_domains(pool, arm)
    return pool


@dataclass(frozen=True, slots=True)
class _Solved:
    """A row of graded.parquet."""

    num_correct: int = 0
    num_samples: int = 0  # that were judged
    stronger_correct: int | None = None
    stronger_samples: int | None = None


def _reason(solved: _Solved, problem: Problem, *, config: RlConfig) -> str | None:
    if not solved.num_samples:
        return "not judged"
    rate = Fraction(solved.num_correct, solved.num_samples)
    least, most = Fraction(str(config.min_solve_rate)), Fraction(str(config.max_solve_rate))
    if rate >= most:
        return "always solved" if most == 1 else f"solved at {config.max_solve_rate:g} or more"
    if rate == 0 and not solved.stronger_correct and not problem.solution:
        asked = "the checkpoint" if solved.stronger_correct is None else "the checkpoint, the stronger model"
        return f"never solved, by {asked} or the teacher"
    return f"solved at less than {config.min_solve_rate:g}" if rate < least else None


def _limits(arm: RlArm) -> dict[str, int]:
    """By domain the shortest limit, prompt and response, of the phases that ask for it."""
    limits: dict[str, int] = {}
    for phase in arm.phases:
        for domain, share in phase.mixture.items():
            if share > 0:
                limits[domain] = min(phase.max_total_tokens, limits.get(domain, phase.max_total_tokens))
    return limits


def _too_long(problem: Problem, *, limit: int, tokenizer: Tokenizer) -> str | None:
    return f"prompt of {limit:,} tokens or more" if len(prompt_ids(tokenizer, problem)) >= limit else None


def _require_domains(pool: Pool, arm: RlArm) -> None:
    for phase in arm.phases:
        for domain, share in phase.mixture.items():
            if share > 0 and not pool.problems.get(domain):
                raise ValueError(
                    f"arm {arm.name}, phase {phase.name}: mixture asks for {domain}, but after grading the pool has no "
                    f"such problem (left out: {pool.left_out_words}); give curation more problems for the split `rl`"
                )


# ---------------------------------------------------------------- the stream


@dataclass(slots=True)
class Cursor:
    """Where a stream stands; plain, to be saved."""

    taken: dict[str, int] = field(default_factory=dict)  # problems of a domain so far
    phase: str = ""
    given: dict[str, int] = field(default_factory=dict)  # of them in this phase
    shuffles: list[tuple[int, dict[str, int]]] = field(default_factory=list)  # by attempt: `taken` where it began


class PromptStream:
    """Prompts without end: each problem of a domain once before any again, in an order shuffled anew for every pass.

    Passes go on across steps, extra prompts, phases and resumes; a phase mixes the domains by its shares. An attempt after a roll back
    takes what is left of a pass, and every later one, in another order.
    """

    def __init__(self, pool: Pool, *, seed: int, cursor: Mapping[str, Any] | None = None) -> None:
        """`cursor` is that of another stream over the same pool, which this one goes on with."""
        self.pool, self._seed = pool, seed
        self._cursor = Cursor(**deepcopy(dict(cursor or {})))
        self._orders: dict[str, tuple[int, list[Problem]]] = {}  # domain -> pass, its order
        self._by_id: dict[str, Problem] = {}

    @property
    def cursor(self) -> dict[str, Any]:
        """Where it stands, as plain values."""
        return asdict(self._cursor)

    def begin(self, attempt: int) -> bool:
        """What follows belongs to this attempt, the first of which is number 0; returns whether it is another than before."""
        shuffles = self._cursor.shuffles
        if attempt == (shuffles[-1][0] if shuffles else 0):
            return False
        shuffles.append((attempt, dict(self._cursor.taken)))
        self._orders.clear()
        return True

    def take(self, phase: Phase, count: int) -> list[Problem]:
        """The next problems of a phase."""
        if phase.name != self._cursor.phase:
            self._cursor.phase, self._cursor.given = phase.name, {}
        return [self._next(self._domain(phase)) for _ in range(count)]

    def named(self, ids: Sequence[str]) -> tuple[Problem, ...]:
        """Problems of the pool by id."""
        if not self._by_id:
            self._by_id = {problem.id: problem for problems in self.pool.problems.values() for problem in problems}
        return tuple(self._by_id[name] for name in ids)

    def _domain(self, phase: Phase) -> str:
        """The domain with the largest deficit: every prefix of a phase is as close to its shares as whole numbers can be."""
        given = self._cursor.given
        position = sum(given.values()) + 1
        name = max(sorted(phase.mixture), key=lambda name: phase.mixture[name] * position - given.get(name, 0))
        given[name] = given.get(name, 0) + 1
        return name

    def _next(self, domain: str) -> Problem:
        number = self._cursor.taken.get(domain, 0)
        self._cursor.taken[domain] = number + 1
        pass_, position = divmod(number, len(self.pool.problems[domain]))
        return self._order(domain, pass_)[position]

    def _order(self, domain: str, pass_: int) -> Sequence[Problem]:
        if self._orders.get(domain, (-1, []))[0] != pass_:
            order = list(self.pool.problems[domain])
            random.Random(derive_seed(self._seed, "rl", "order", domain, pass_)).shuffle(order)
            self._orders[domain] = pass_, self._shuffled_anew(order[::-1], domain, pass_)
        return self._orders[domain][1]

    def _shuffled_anew(self, order: list[Problem], domain: str, pass_: int) -> list[Problem]:
        """The order with what each attempt found left of it shuffled by its seed."""
        for attempt, taken in self._cursor.shuffles:
            start = max(0, taken.get(domain, 0) - pass_ * len(order))
            rest = order[start:]
            random.Random(derive_seed(self._seed, "rl", "order", domain, pass_, "attempt", attempt)).shuffle(rest)
            order[start:] = rest
        return order
