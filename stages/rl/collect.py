"""A step's samples: ask for prompts until every budget has the tokens it needs, and write the step into the journal.

Runs on one rank, which holds the sampler; the others read the journal.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pyarrow as pa

from data.domains import FAILED_STATUSES
from data.schema import ROLLOUT_SCHEMA
from stages.config import Phase, RlArm, RlConfig
from stages.rl.partial import begin, begun, completed, give_up, grown, reseeded, unfinished
from stages.rl.prompts import PromptStream
from stages.rl.samples import (
    Group,
    Journal,
    attempt_parts,
    carried,
    choice_seed,
    newborn,
    responses_of,
    sampled_rows,
    with_choice,
)
from stages.rl.selection import lacking_groups, lacking_tokens
from stages.sampling.judging import forget_verdicts
from stages.sampling.requests import Chunk, Policy
from stages.sampling.sampler import Done, Sampler
from stages.sampling.scores import JudgeWatch
from stages.seeds import derive_seed


@dataclass(slots=True)
class Effort:
    """What sampling took, of the workers; nothing where the journal had the step."""

    seconds: dict[str, float] = field(default_factory=dict)  # generate, judge
    counts: dict[str, int] = field(default_factory=dict)  # tokens, slots

    def add(self, done: Done) -> None:
        """Add a chunk's."""
        for name, spent in done.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
        for name, number in done.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number


@dataclass(frozen=True, slots=True)
class Collected:
    """A step that the journal has, and where its collector stood then."""

    effort: Effort
    cursor: dict[str, Any]  # of the prompt stream
    judged: list[tuple[int, dict[str, int]]]  # of the watch over the judge


@dataclass(frozen=True, slots=True)
class Weights:
    """What a step is asked of."""

    policy: Policy
    version: int  # steps behind them


@dataclass(frozen=True, slots=True)
class Order:
    """A step as it is asked."""

    step: int
    phase: Phase
    attempt: int  # of the arm
    weights: Weights
    carried: pa.Table  # rows that it begins with


@dataclass(frozen=True, slots=True)
class Collector:
    """Fills the journal, step by step, from a stream of prompts."""

    arm: RlArm
    config: RlConfig
    stream: PromptStream
    sampler: Sampler
    reference: Policy | None  # whose log-probabilities the journal keeps
    journal: Journal
    watch: JudgeWatch

    def moved(self, *, cursor: Mapping[str, Any], judged: Sequence[tuple[int, Mapping[str, int]]]) -> "Collector":
        """The same where the stream of prompts and the watch over the judge stand elsewhere, as after a roll back."""
        stream = PromptStream(self.stream.pool, seed=self.config.seed, cursor=cursor)
        return replace(self, stream=stream, watch=JudgeWatch(self.config, recent=judged))

    def collect(self, step: int, weights: Weights | None, *, attempt: int = 0) -> Collected:
        """Make sure that the journal has the step; `weights` may be left out where it has.

        `attempt`: of the arm, in which the step is taken; part of its seeds.

        Raises:
            RuntimeError: the judge failed too often of late; responses are kept, and judged anew when the stage goes on.
            ValueError: the journal has other problems than the stream.

        """
        phase, effort = self.arm.phase_of(step), Effort()
        begins = self.stream.begin(attempt)
        if weights is None:
            self.journal.clear_chunks(step)
            self._follow(step, phase)
        else:
            carried = self._carried(step)
            carried = reseeded(carried, attempt=attempt) if begins else carried
            self._sample(Order(step, phase, attempt, weights, carried), effort)
        return Collected(effort, self.stream.cursor, self.watch.recent)

    def _sample(self, order: Order, effort: Effort) -> None:
        grow = self._ask_whole if self.config.objective.partial_rollouts is None else self._ask_partial
        rows = grow(order, effort).combine_chunks()
        self._note(rows)
        try:
            self.watch.require()
        except RuntimeError:
            self._forget_verdicts(order)
            raise
        config = self.config.for_phase(order.phase)
        self.journal.write(order.step, with_choice(rows, step=order.step, config=config, attempt=order.attempt))

    def _forget_verdicts(self, order: Order) -> None:
        """Let what failed be judged anew. Prompts that were asked only because of the verdicts are asked, or not, by the new ones."""
        chunks = self.journal.chunks(order.step)
        if self.config.objective.partial_rollouts is None:
            num_first = -(-self._num_first(order.carried) // self.config.sampling.chunk_problems)
            for path in chunks[num_first:]:
                path.unlink()
            del chunks[num_first:]
        forget_verdicts(chunks)

    def _ask_whole(self, order: Order, effort: Effort) -> pa.Table:
        """Every response to its end."""
        numbers, parts, version = count(), [order.carried], order.weights.version
        groups = self._first_groups(order.phase, order.carried)
        while groups:
            samples = self._answered(self._chunks(groups, numbers, order), effort)
            parts.append(sampled_rows(samples, groups, step=order.step, version=version, config=self.config))
            groups = self._more_groups(order, pa.concat_tables(parts))
        return pa.concat_tables(parts)

    def _ask_partial(self, order: Order, effort: Effort) -> pa.Table:
        """Round after round, until what is finished fills the budgets, or nothing goes on and no prompt may be asked."""
        numbers, step, version = count(), order.step, order.weights.version
        objective = self.config.for_phase(order.phase).objective
        rows = give_up(order.carried, version=version, limit=order.phase.max_total_tokens, config=self.config)
        while True:
            rows = completed(rows, step=step)
            seed = choice_seed(step, config=self.config, attempt=order.attempt)
            if not any(lacking_tokens(responses_of(rows, config=self.config), objective, seed=seed)):
                return rows
            groups = self._groups_with_room(order.phase, rows, step)
            new = begin(groups, step=step, version=version, config=self.config, attempt=order.attempt)
            rows = pa.concat_tables([rows, new]).combine_chunks()
            pool = unfinished(rows)
            if not len(pool):
                return rows
            answers = self._answered(self._rounds(pool, numbers, order), effort)
            rows = grown(rows, answers, version=version)

    def _answered(self, chunks: Iterable[Chunk], effort: Effort) -> pa.Table:
        """The judged samples of chunks, in order."""
        asked = list(chunks)
        for done in self.sampler.sample(asked):
            effort.add(done)
        return pa.concat_tables([chunk.read() for chunk in asked])

    def _follow(self, step: int, phase: Phase) -> None:
        """Move the stream past a step that is there."""
        rows = self.journal.read(step)
        new = rows.filter(rows["asked_step"].to_numpy() == step)
        of_group = dict(zip(new["group"].to_pylist(), new["problem_id"].to_pylist(), strict=True))
        first = [of_group[group] for group in sorted(of_group)]
        asked = [problem.id for problem in self.stream.take(phase, len(first))]
        if asked != first:
            raise ValueError(
                f"{self.journal.path(step)} holds other problems than this recipe asks in step {step}: "
                "it is of another run; remove the folder of the half-built result, and start the arm over"
            )
        self._note(rows)

    def _carried(self, step: int) -> pa.Table:
        """What the step before left over, as rows of this one."""
        if step == 1:
            return ROLLOUT_SCHEMA.empty_table()
        return carried(self.journal.read(step - 1), config=self.config)

    def _num_first(self, carried: pa.Table) -> int:
        """As many prompts as make `prompts_per_step` with the carried ones; at least one."""
        return max(1, self.config.prompts_per_step - len(carried["group"].unique()))

    def _first_groups(self, phase: Phase, carried: pa.Table) -> list[Group]:
        first, budgets = len(carried["group"].unique()), self.config.objective.num_budgets
        problems = self.stream.take(phase, self._num_first(carried))
        return [Group(number, number % budgets, problem) for number, problem in enumerate(problems, start=first)]

    def _more_groups(self, order: Order, rows: pa.Table) -> list[Group]:
        """Token-budgeted dynamic sampling (paper 3.2)."""
        num_asked = len(rows["group"].unique())
        prompts = self.config.prompts_per_step
        most = max(0, math.floor((1 + self.config.extra_prompts_share) * prompts) - num_asked)
        responses = responses_of(rows, config=self.config)
        seed = choice_seed(order.step, config=self.config, attempt=order.attempt)
        objective = self.config.for_phase(order.phase).objective
        ranks = lacking_groups(responses, objective, wanted=prompts, most=most, seed=seed)
        problems = self.stream.take(order.phase, len(ranks))
        return [Group(num_asked + index, ranks[index], problem) for index, problem in enumerate(problems)]

    def _groups_with_room(self, phase: Phase, rows: pa.Table, step: int) -> list[Group]:
        """New prompts for a pool that is not full, as many as the step may still ask."""
        config, partial = self.config, self.config.objective.partial_rollouts
        assert partial is not None
        asked = rows.filter(rows["asked_step"].to_numpy() == step)["group"].unique()
        left = math.floor((1 + config.extra_prompts_share) * config.prompts_per_step) - len(asked)
        room = (partial.pool_rows - len(unfinished(rows))) // config.samples_per_prompt
        first, budgets = len(rows["group"].unique()), config.objective.num_budgets
        problems = self.stream.take(phase, max(0, min(left, room)))
        return [Group(number, number % budgets, problem) for number, problem in enumerate(problems, start=first)]

    def _rounds(self, pool: pa.Table, numbers: Iterator[int], order: Order) -> Iterator[Chunk]:
        """A round of the pool, as many rows a chunk as it has otherwise."""
        config, limit, step = self.config, order.phase.max_total_tokens, order.step
        assert config.objective.partial_rollouts is not None
        size = config.sampling.chunk_problems * config.samples_per_prompt
        for start in range(0, len(pool), size):
            part = pool.slice(start, size)
            path, title = self.journal.chunk_path(step, next(numbers)), f"step {step}"
            problems, seeds = self.stream.named(part["problem_id"].to_pylist()), tuple(part["seed"].to_pylist())
            yield Chunk(
                path, order.weights.policy, problems, (0,), seeds, config.sampling, limit, title, self.reference,
                begun=begun(part), most_more=config.objective.partial_rollouts.round_tokens,
            )  # fmt: skip

    def _chunks(self, groups: Sequence[Group], numbers: Iterator[int], order: Order) -> Iterator[Chunk]:
        config, limit, step = self.config, order.phase.max_total_tokens, order.step
        samples = tuple(range(config.samples_per_prompt))
        for start in range(0, len(groups), config.sampling.chunk_problems):
            part = groups[start : start + config.sampling.chunk_problems]
            problems = tuple(group.problem for group in part)
            seeds = tuple(
                derive_seed(config.seed, "rl", "sample", step, group.number, sample, *attempt_parts(order.attempt))
                for group in part
                for sample in samples
            )
            path, title = self.journal.chunk_path(step, next(numbers)), f"step {step}"
            yield Chunk(
                path, order.weights.policy, problems, samples, seeds, config.sampling, limit, title, self.reference
            )

    def _note(self, rows: pa.Table) -> None:
        rows = newborn(rows)
        pairs = zip(rows["problem_id"].to_pylist(), rows["status"].to_pylist(), strict=True)
        self.watch.note([pair for pair in pairs if pair[1] in FAILED_STATUSES], num_verdicts=len(rows))
