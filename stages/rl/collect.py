"""A step's samples: ask for prompts until every budget has the tokens it needs, and write the step into the journal.

Runs on one rank, which holds the sampler; the others read the journal.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pyarrow as pa

from data.domains import FAILED_STATUSES
from stages.config import C3po, Phase, RlArm, RlConfig
from stages.rl.prompts import PromptStream
from stages.rl.publishing import Publisher
from stages.rl.samples import Group, Journal, attempt_parts, responses_of, sampled_rows, with_choice
from stages.rl.selection import lacking_groups
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
class Collector:
    """Fills the journal, step by step, from a stream of prompts."""

    arm: RlArm
    config: RlConfig
    stream: PromptStream
    sampler: Sampler
    publisher: Publisher
    journal: Journal
    watch: JudgeWatch

    def moved(self, *, cursor: Mapping[str, Any], judged: Sequence[tuple[int, Mapping[str, int]]]) -> "Collector":
        """The same where the stream of prompts and the watch over the judge stand elsewhere, as after a roll back."""
        stream = PromptStream(self.stream.pool, seed=self.config.seed, cursor=cursor)
        return replace(self, stream=stream, watch=JudgeWatch(self.config, recent=judged))

    def collect(self, step: int, *, attempt: int = 0) -> Effort:
        """Make sure that the journal has the step; weights are published only where something of it is missing.

        `attempt`: of the arm, in which the step is taken; part of its seeds.

        Raises:
            RuntimeError: the judge failed too often of late; responses are kept, and judged anew when the stage goes on.
            ValueError: the journal has other problems than the stream.

        """
        phase, effort = self.arm.phase_of(step), Effort()
        config = self.config.for_phase(phase)
        self.stream.begin(attempt)
        if self.journal.has(step):
            self.journal.clear_chunks(step)
            self._follow(step, phase)
            return effort
        numbers, policy = count(), self.publisher.policy(step - 1)
        groups, parts, chunks = self._first_groups(phase), [], []
        while groups:
            asked = list(self._chunks(groups, numbers, step=step, attempt=attempt, policy=policy))
            for done in self.sampler.sample(asked):
                effort.add(done)
            chunks += asked
            samples = pa.concat_tables([chunk.read() for chunk in asked])
            parts.append(sampled_rows(samples, groups, step=step, config=self.config))
            groups = self._more_groups(phase, pa.concat_tables(parts))
        rows = pa.concat_tables(parts).combine_chunks()
        self._require_judged(rows, chunks)
        self.journal.write(step, with_choice(rows, step=step, config=config, attempt=attempt))
        return effort

    def _follow(self, step: int, phase: Phase) -> None:
        """Move the stream past a step that is there."""
        rows = self.journal.read(step)
        first = rows["problem_id"].to_pylist()[:: self.config.samples_per_prompt]
        asked = [problem.id for problem in self.stream.take(phase, len(first))]
        if asked != first:
            raise ValueError(
                f"{self.journal.path(step)} holds other problems than this recipe asks in step {step}: "
                "it is of another run; remove the folder of the half-built result, and start the arm over"
            )
        self._note(rows)

    def _first_groups(self, phase: Phase) -> list[Group]:
        objective = self.config.objective
        budgets = objective.num_budgets if isinstance(objective, C3po) else 1
        problems = self.stream.take(phase, self.config.prompts_per_step)
        return [Group(number, number % budgets, problem) for number, problem in enumerate(problems)]

    def _more_groups(self, phase: Phase, rows: pa.Table) -> list[Group]:
        """Token-budgeted dynamic sampling (paper 3.2)."""
        num_asked = len(rows) // self.config.samples_per_prompt
        most = math.floor((1 + self.config.extra_prompts_share) * self.config.prompts_per_step) - num_asked
        objective = self.config.for_phase(phase).objective
        ranks = lacking_groups(responses_of(rows, config=self.config), objective, most=most)
        problems = self.stream.take(phase, len(ranks))
        return [Group(num_asked + index, ranks[index], problem) for index, problem in enumerate(problems)]

    def _chunks(
        self, groups: Sequence[Group], numbers: Iterator[int], *, step: int, attempt: int, policy: Policy
    ) -> Iterator[Chunk]:
        config, limit = self.config, self.arm.phase_of(step).max_total_tokens
        samples = tuple(range(config.samples_per_prompt))
        for start in range(0, len(groups), config.sampling.chunk_problems):
            part = groups[start : start + config.sampling.chunk_problems]
            problems = tuple(group.problem for group in part)
            seeds = tuple(
                derive_seed(config.seed, "rl", "sample", step, group.number, sample, *attempt_parts(attempt))
                for group in part
                for sample in samples
            )
            path = self.journal.chunk_path(step, next(numbers))
            yield Chunk(path, policy, problems, samples, seeds, config.sampling, limit, title=f"step {step}")

    def _require_judged(self, rows: pa.Table, chunks: Sequence[Chunk]) -> None:
        self._note(rows)
        try:
            self.watch.require()
        except RuntimeError:
            forget_verdicts(chunks)
            raise

    def _note(self, rows: pa.Table) -> None:
        pairs = zip(rows["problem_id"].to_pylist(), rows["status"].to_pylist(), strict=True)
        self.watch.note([pair for pair in pairs if pair[1] in FAILED_STATUSES], num_verdicts=len(rows))
