"""The problems that RL may ask: the graded pool without those that teach nothing, and their order through an arm's phases.

In: rl.parquet of curation, graded.parquet of selection. A problem that the chosen checkpoint always solves is dropped, and one
that it never solves unless the stronger model of selection does, or the teacher did (its row carries a verified solution) (paper 2.3).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table
from stages.config import Domain, Phase, RlArm, RlConfig
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


def load_pool(curation: Path, selection: Path, *, min_solve_rate: float = 0.0, max_solve_rate: float) -> Pool:
    """The graded pool after the rule of the paper."""
    graded = read_table(selection / "graded.parquet", GRADED_SCHEMA)
    columns = (graded[name].to_pylist() for name in ("problem_id", "solve_rate", "stronger_solve_rate"))
    rates = {problem_id: _Rates(*own_and_stronger) for problem_id, *own_and_stronger in zip(*columns, strict=True)}
    kept: dict[str, list[Problem]] = {}
    left_out: Counter[str] = Counter()
    for problem in problems_from_table(read_table(curation / "rl.parquet", PROBLEM_SCHEMA)):
        if reason := _reason(rates.get(problem.id, _Rates()), problem, band=(min_solve_rate, max_solve_rate)):
            left_out[reason] += 1
        else:
            kept.setdefault(problem.domain, []).append(problem)
    return Pool({domain: tuple(problems) for domain, problems in kept.items()}, dict(sorted(left_out.items())))


@dataclass(frozen=True, slots=True)
class _Rates:
    """Solve rates of a problem; None where nothing was judged."""

    own: float | None = None  # of the chosen checkpoint
    stronger: float | None = None


def _reason(rates: _Rates, problem: Problem, *, band: tuple[float, float]) -> str | None:
    if rates.own is None:
        return "not judged"
    if rates.own >= band[1]:
        return "always solved" if band[1] == 1.0 else f"solved at {band[1]:g} or more"
    if rates.own == 0 and not rates.stronger and not problem.solution:
        asked = "the checkpoint" if rates.stronger is None else "the checkpoint, the stronger model"
        return f"never solved, by {asked} or the teacher"
    return f"solved at less than {band[0]:g}" if rates.own < band[0] else None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The prompts of an optimiser step."""

    phase: Phase
    problems: tuple[Problem, ...]


def plan_arm(pool: Pool, arm: RlArm, *, config: RlConfig) -> list[PlannedStep]:
    """The prompts of every step: each domain in an order shuffled anew whenever it has been seen whole, mixed by the phase's shares.

    Raises ValueError when a phase wants a domain that the pool does not have.
    """
    orders = {domain: _Order(pool.problems.get(domain, ()), domain, config.seed) for domain in _domains(arm)}
    steps: list[PlannedStep] = []
    for phase in arm.phases:
        for domain in phase.mixture:
            if phase.mixture[domain] > 0 and not pool.problems.get(domain):
                raise ValueError(
                    f"arm {arm.name}, phase {phase.name}: mixture asks for {domain}, but after grading the pool has no "
                    f"such problem (left out: {pool.left_out_words}); give curation more problems for the split `rl`"
                )
        domains = mix(phase.mixture, count=phase.steps * config.prompts_per_step)
        for start in range(0, len(domains), config.prompts_per_step):
            asked = domains[start : start + config.prompts_per_step]
            steps.append(PlannedStep(phase, tuple(orders[domain].take() for domain in asked)))
    return steps


def _domains(arm: RlArm) -> list[str]:
    return sorted({domain for phase in arm.phases for domain in phase.mixture})


def mix(shares: Mapping[Domain, float], *, count: int) -> list[Domain]:
    """`count` names such that every prefix is as close to the shares as whole numbers can be: the largest deficit is next."""
    given = dict.fromkeys(sorted(shares), 0)
    names: list[Domain] = []
    for position in range(1, count + 1):
        name = max(given, key=lambda name: shares[name] * position - given[name])
        given[name] += 1
        names.append(name)
    return names


class _Order:
    """Problems of one domain, without end: a new shuffle for every pass."""

    def __init__(self, problems: Sequence[Problem], domain: str, seed: int) -> None:
        self._problems, self._domain, self._seed = problems, domain, seed
        self._pass = 0
        self._left: list[Problem] = []

    def take(self) -> Problem:
        """The next problem."""
        if not self._left:
            self._left = list(self._problems)
            random.Random(derive_seed(self._seed, "rl", "order", self._domain, self._pass)).shuffle(self._left)
            self._pass += 1
        return self._left.pop()


def extra_problems(pool: Pool, phase: Phase, *, count: int, seed: int) -> tuple[Problem, ...]:
    """Another batch for a step that did not fill its budget (token-budgeted dynamic sampling, paper 3.2)."""
    generator = random.Random(seed)
    return tuple(generator.choice(pool.problems[domain]) for domain in mix(phase.mixture, count=count))
