"""Sampling ahead of the training: which weights a step is asked of, and what a resume point may rely on."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from ring_model.checkpoint import load_model
from ring_model.policy import BailingScorer, Scorer
from stages.config import RlArm, RlConfig
from stages.rl.ahead import Ahead
from stages.rl.collect import Collector
from stages.rl.prompts import PromptStream
from stages.rl.publishing import Publisher
from stages.rl.samples import Journal
from stages.sampling.requests import Chunk
from stages.sampling.sampler import Done
from stages.sampling.scores import JudgeWatch
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import Reply, ScriptedSampler, pool_of

STEPS = 5


def live(problem_id: str, sample: int) -> Reply:
    return Reply(4, "correct" if sample == 0 else "wrong")


def config_of(max_lag: int, **values: object) -> RlConfig:
    return arm_config(**{"samples_per_prompt": 2, "token_budget": 32, "max_lag": max_lag, **values})


@dataclass
class Trainer:
    """What a process that trains has: weights of which one number says the version."""

    ahead: Ahead
    publisher: Publisher
    sampler: ScriptedSampler
    journal: Journal
    scorer: Scorer

    def train(self, *steps: int) -> None:
        """As the loop does: ask, wait, and move the weights."""
        for step in steps:
            self.ask(step)
            self.ahead.take(step)
            with torch.no_grad():
                next(self.scorer.parameters()).add_(1e-3)

    def ask(self, step: int) -> None:
        """Publish the weights where they are needed, and ask."""
        needs = self.ahead.needs_weights(step)
        self.ahead.ask(step, self.publisher.policy(step - 1) if needs else None)

    def versions(self) -> dict[int, set[int]]:
        """By step of the journal the weights that its rows are of."""
        there = [step for step in range(1, STEPS + 1) if self.journal.has(step)]
        return {step: set(self.journal.read(step)["policy_version"].to_pylist()) for step in there}


Start = Callable[..., Trainer]


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Start:
    def begin(config: RlConfig, *, step: int = 0, out: str = "arm", sampler: ScriptedSampler | None = None) -> Trainer:
        scorer, journal = BailingScorer(load_model(tiny_model)), Journal(tmp_path / out)
        sampler = sampler or ScriptedSampler(live, folder=tmp_path / "published")
        (arm,) = config.arms
        assert isinstance(arm, RlArm)
        stream = PromptStream(pool_of(math=30, code=30), seed=config.seed)
        for earlier in range(1, step + 1):  # where a resume point has it
            stream.take(arm.phase_of(earlier), 4)
        collector = Collector(arm, config, stream, sampler, None, journal, JudgeWatch(config))
        publisher = Publisher(
            scorer, sampler, prompt=[3, 4, 5], max_lag=config.objective.max_lag, check_every=sampler.check_every
        )
        return Trainer(Ahead(collector), publisher, sampler, journal, scorer)

    return begin


@pytest.mark.parametrize(
    ("max_lag", "expected"),
    [
        (0, [0, 1, 2, 3, 4]),
        (1, [0, 0, 1, 2, 3]),
        (2, [0, 0, 0, 1, 2]),
        (9, [0, 0, 0, 0, 0]),
    ],
)
def test_a_step_is_of_the_weights_so_many_versions_behind_and_its_rows_say_so(
    start: Start, max_lag: int, expected: list[int]
) -> None:
    trainer = start(config_of(max_lag))
    with trainer.ahead:
        trainer.train(*range(1, STEPS + 1))
    assert trainer.versions() == {step: {version} for step, version in enumerate(expected, start=1)}
    assert trainer.sampler.published == sorted(set(expected))
    for step in range(1, STEPS + 1):
        rows = trainer.journal.read(step)
        assert [set(versions) for versions in rows["token_versions"].to_pylist()] == [{expected[step - 1]}] * len(rows)


def test_without_a_lag_no_step_is_asked_before_the_weights_of_the_one_before_are_there(start: Start) -> None:
    trainer = start(config_of(0))
    with trainer.ahead:
        trainer.train(1)
        trainer.ahead.settle()
        assert list(trainer.versions()) == [1]
    assert {chunk.title for chunk in trainer.sampler.sampled} == {"step 1"}


@pytest.mark.parametrize(("max_lag", "ahead"), [(1, [1, 2]), (3, [1, 2, 3, 4]), (9, [1, 2, 3, 4, 5])])
def test_a_resume_point_waits_for_all_that_was_asked_and_nothing_past_the_arm_is(
    start: Start, max_lag: int, ahead: list[int]
) -> None:
    trainer = start(config_of(max_lag))
    with trainer.ahead:
        trainer.train(1)
        trainer.ahead.settle()
        assert list(trainer.versions()) == ahead


@pytest.mark.parametrize("max_lag", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_after_a_resume_point_steps_are_of_the_weights_that_they_would_have_been_of(
    start: Start, max_lag: int, step: int
) -> None:
    straight = start(config_of(max_lag), out="straight")
    with straight.ahead:
        straight.train(*range(1, STEPS + 1))
    killed = start(config_of(max_lag))
    with killed.ahead:
        killed.train(*range(1, step + 1))
        killed.ahead.settle()
    again = start(config_of(max_lag), step=step)
    with again.ahead:
        again.train(*range(step + 1, STEPS + 1))
    assert again.versions() == straight.versions()
    for number in range(1, STEPS + 1):
        assert again.journal.path(number).read_bytes() == straight.journal.path(number).read_bytes()
    assert len(killed.sampler.sampled) + len(again.sampler.sampled) == len(straight.sampler.sampled)


class _FailingSampler(ScriptedSampler):
    """Has no numbers for the second step."""

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        if chunks[0].title == "step 2":
            raise FloatingPointError("no numbers")
        yield from super().sample(chunks)


def test_what_collecting_ahead_raised_is_raised_where_it_is_waited_for(start: Start, tmp_path: Path) -> None:
    trainer = start(config_of(1), sampler=_FailingSampler(live, folder=tmp_path))
    with trainer.ahead:
        trainer.train(1)
        with pytest.raises(FloatingPointError, match="no numbers"):
            trainer.ahead.settle()
        trainer.ask(2)
        with pytest.raises(FloatingPointError, match="no numbers"):
            trainer.ahead.take(2)


class _WaitingSampler(ScriptedSampler):
    """Answers the second step when it is told to."""

    leave = threading.Event()

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        if chunks[0].title == "step 2":
            assert self.leave.wait(30)
        yield from super().sample(chunks)


def test_a_step_is_trained_on_while_the_next_is_sampled(start: Start, tmp_path: Path) -> None:
    sampler = _WaitingSampler(live, folder=tmp_path)
    trainer = start(config_of(1), sampler=sampler)
    with trainer.ahead:
        trainer.train(1)  # returns though step 2 is not there
        assert list(trainer.versions()) == [1]
        sampler.leave.set()
        trainer.train(2)
    assert {step: versions for step, versions in trainer.versions().items() if step < 3} == {1: {0}, 2: {0}}


def test_what_is_carried_over_does_not_hang_on_how_far_ahead_a_step_is_sampled(start: Start) -> None:
    runs = []
    for max_lag in (0, 2):
        trainer = start(config_of(max_lag, token_budget=16, left_over="carry", max_age=2), out=f"lag-{max_lag}")
        with trainer.ahead:
            trainer.train(*range(1, STEPS + 1))
        runs.append(pa.concat_tables([trainer.journal.read(step) for step in range(1, STEPS + 1)]))
    ages = [
        step - born for step, born in zip(*(runs[1][name].to_pylist() for name in ("step", "born_step")), strict=True)
    ]
    assert set(ages) == {0, 1}
    one, two = (rows.drop_columns(["policy_version", "token_versions"]) for rows in runs)
    assert one.equals(two)
