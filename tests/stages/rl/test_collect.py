"""How a step is collected, with a sampler whose responses and verdicts are written by hand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ring_model.checkpoint import load_model
from ring_model.policy import BailingScorer, Scorer
from stages.config import Objective, RlArm, RlConfig
from stages.rl.collect import Collected, Collector, Effort, Weights
from stages.rl.figures import step_figures
from stages.rl.partial import reseeded
from stages.rl.prompts import PromptStream
from stages.rl.publishing import Publisher
from stages.rl.samples import Journal, newborn, responses_of, with_choice
from stages.sampling.requests import UNFINISHED, Chunk, Policy
from stages.sampling.sampler import Done
from stages.sampling.scores import JudgeWatch
from stages.seeds import derive_seed
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import Reply, Script, ScriptedSampler, pool_of, rollouts

POOL = pool_of(math=30, code=30)
GLOBAL = Objective(token_budget=32, budget_scope="global")  # four live groups of two responses of four tokens


def config_of(**values: Any) -> RlConfig:
    """Two phases of two steps, four prompts of two samples, in chunks of two prompts."""
    phases = (
        {"name": "one", "steps": 2, "mixture": {"math": 1.0}, "max_total_tokens": 64},
        {"name": "two", "steps": 2, "mixture": {"math": 0.5, "code": 0.5}, "max_total_tokens": 48},
    )
    arm = {"kind": "rl", "name": "arm", "phases": phases}
    return arm_config(**{"arms": (arm,), "samples_per_prompt": 2, "objective": GLOBAL, **values})


def asked_of(config: RlConfig, *counts: int) -> list[list[str]]:
    """The problems of a fresh stream, step by step."""
    stream, (arm,) = PromptStream(POOL, seed=config.seed), config.arms
    assert isinstance(arm, RlArm)
    return [
        [problem.id for problem in stream.take(arm.phase_of(step), count)] for step, count in enumerate(counts, start=1)
    ]


def live(problem_id: str, sample: int) -> Reply:
    """The first of two responses is right."""
    return Reply(4, "correct" if sample == 0 else "wrong")


def script(replies: Mapping[str, tuple[str, ...]], *, num_tokens: int = 4) -> Script:
    """By problem the verdicts on its samples; of those that are not named the first is right."""

    def reply(problem_id: str, sample: int) -> Reply:
        return Reply(num_tokens, replies.get(problem_id, ("correct", "wrong"))[sample])

    return reply


@dataclass
class Process:
    """What a process that collects has; another one goes on with the files."""

    collector: Collector
    publisher: Publisher
    sampler: ScriptedSampler
    journal: Journal

    def collect(self, step: int) -> Collected:
        weights = None if self.journal.has(step) else Weights(self.publisher.policy(step - 1), step - 1)
        return self.collector.collect(step, weights)


Start = Callable[..., Process]


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Start:
    model: Scorer = BailingScorer(load_model(tiny_model))

    def begin(
        config: RlConfig,
        reply: Script = live,
        *,
        out: Path = tmp_path / "arm",
        sampler: ScriptedSampler | None = None,
        model: Scorer = model,
    ) -> Process:
        sampler = sampler or ScriptedSampler(reply, folder=tmp_path / "published")
        (arm,) = config.arms
        assert isinstance(arm, RlArm)
        collector = Collector(
            arm=arm,
            config=config,
            stream=PromptStream(POOL, seed=config.seed),
            sampler=sampler,
            reference=Policy.of(tmp_path / "reference"),
            journal=Journal(out),
            watch=JudgeWatch(config),
        )
        publisher = Publisher(
            model, sampler, prompt=[3, 4, 5], max_lag=config.objective.max_lag, check_every=sampler.check_every
        )
        return Process(collector, publisher, sampler, Journal(out))

    return begin


def groups_in(rows: pa.Table) -> list[tuple[int, str]]:
    """Number and problem of each group, in order."""
    return list(dict.fromkeys(zip(rows["group"].to_pylist(), rows["problem_id"].to_pylist(), strict=True)))


# ---------------------------------------------------------------- a step


def test_a_step_is_its_prompts_in_the_order_of_the_stream_with_their_choice(start: Start) -> None:
    config = config_of()
    process = start(config)
    process.collect(1)
    process.collect(2)
    for step, problems in enumerate(asked_of(config, 4, 4), start=1):
        rows = process.journal.read(step)
        assert groups_in(rows) == list(enumerate(problems))
        assert rows["sample"].to_pylist() == [0, 1] * 4
        assert rows["step"].to_pylist() == [step] * 8
        assert rows["policy_version"].to_pylist() == [step - 1] * 8
        assert rows["kept_tokens"].to_pylist() == [4] * 8
        assert with_choice(rows, step=step, config=config).equals(rows)
    assert process.sampler.published == [0, 1]


def test_chunks_have_a_fixed_composition_and_say_what_to_do(start: Start) -> None:
    config = config_of(prompts_per_step=5)
    process = start(config)
    for step in (1, 2):
        process.collect(step)
    process.sampler.sampled.clear()
    process.collect(3)
    chunks = process.sampler.sampled
    assert [len(chunk.problems) for chunk in chunks] == [2, 2, 1]
    assert [chunk.path for chunk in chunks] == [process.journal.chunk_path(3, number) for number in range(3)]
    for chunk in chunks:
        assert chunk.samples == (0, 1)
        assert chunk.sampling == config.sampling
        assert chunk.max_total_tokens == 48  # of phase two
        assert chunk.policy.weights.name == "000002"
        assert chunk.title == "step 3"


def test_every_response_has_a_seed_of_its_step_group_and_sample(start: Start) -> None:
    process = start(config_of(seed=5))
    for step in (1, 2):
        process.collect(step)
    rows = pa.concat_tables([process.journal.read(step) for step in (1, 2)])
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert len(set(keys)) == len(set(rows["seed"].to_pylist())) == 16
    assert rows["seed"].to_pylist() == [derive_seed(5, "rl", "sample", *key) for key in keys]


def test_an_attempt_is_part_of_the_seeds_of_samples_and_choice_and_of_the_order_of_prompts(start: Start) -> None:
    config = config_of(seed=5, objective=Objective(token_budget=12, budget_scope="global"))
    process = start(config)
    process.collect(1)
    weights = Weights(process.publisher.policy(1), 1)
    process.collector.collect(2, weights, attempt=3)
    rows = process.journal.read(2)
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert rows["seed"].to_pylist() == [derive_seed(5, "rl", "sample", *key, "attempt", 3) for key in keys]
    assert groups_in(rows) != list(enumerate(asked_of(config, 4, 4)[1]))
    assert with_choice(rows, step=2, config=config, attempt=3).equals(rows)
    others = [with_choice(rows, step=2, config=config, attempt=attempt) for attempt in range(8)]
    assert len({tuple(one["kept_tokens"].to_pylist()) for one in others}) > 1


def test_unfinished_responses_go_on_with_the_seeds_of_an_attempt_that_begins() -> None:
    rows = rollouts([{"sample": 0, "seed": 7, "status": UNFINISHED}, {"sample": 1, "seed": 8, "status": "correct"}])
    again = reseeded(rows, attempt=2)
    assert again["seed"].to_pylist() == [derive_seed(7, "attempt", 2), 8]
    others = [name for name in rows.column_names if name not in ("seed", "reward", "advantage")]  # these are NaN
    assert again.select(others).equals(rows.select(others))


def test_a_phase_is_filled_up_to_its_own_budget(start: Start) -> None:
    phases = [{"name": name, "steps": 1, "mixture": {"math": 1.0}, "max_total_tokens": 64} for name in ("one", "two")]
    phases[1]["token_budget"] = 41
    config = config_of(arms=({"kind": "rl", "name": "arm", "phases": phases},))
    process = start(config)
    for step in (1, 2):
        process.collect(step)
    # 32 tokens are what four prompts give; 9 more take two
    assert [len(groups_in(process.journal.read(step))) for step in (1, 2)] == [4, 6]
    assert [sum(process.journal.read(step)["kept_tokens"].to_pylist()) for step in (1, 2)] == [32, 41]


def test_a_collector_that_is_moved_goes_on_where_it_is_told(start: Start) -> None:
    process = start(config_of())
    first = process.collect(1)
    process.collect(2)
    moved = process.collector.moved(cursor=first.cursor, judged=first.judged)
    assert (moved.stream.cursor, moved.watch.recent) == (first.cursor, first.judged)
    assert process.collector.stream.cursor != first.cursor
    (process.journal.path(2)).unlink()
    moved.collect(2, Weights(process.publisher.policy(1), 1))
    assert groups_in(process.journal.read(2)) == list(enumerate(asked_of(config_of(), 4, 4)[1]))


def test_a_step_that_is_complete_leaves_no_chunk(start: Start, tmp_path: Path) -> None:
    start(config_of()).collect(1)
    assert not list((tmp_path / "arm" / ".state").rglob("*.arrow"))


def test_what_sampling_took_is_summed_over_chunks(start: Start) -> None:
    effort = start(config_of()).collect(1).effort
    assert effort.seconds == {"generate": 4.0, "judge": 1.0}
    assert effort.counts == {"tokens": 6, "slots": 8}


# ---------------------------------------------------------------- extra prompts


@pytest.mark.parametrize(
    ("budget", "num_flat", "share", "num_groups"),
    [
        (32, 0, 1.0, 4),  # 4 groups of 8 informative tokens
        (33, 0, 1.0, 5),  # one token lacks: ceil(1 x 4 / 32) = 1
        (40, 0, 1.0, 5),  # 8 tokens lack: one group
        (41, 0, 1.0, 6),  # 9: two
        (32, 1, 1.0, 6),  # 8 of 32 lack, at 24 tokens of 4 groups: ceil(8 x 4 / 24) = 2
        (32, 4, 1.0, 8),  # nothing to go by: as many as there are, which are 4
        (100, 0, 1.0, 8),  # at most as many again
        (100, 0, 0.5, 6),
        (100, 0, 0.3, 5),  # 4 x 1.3 = 5.2
        (100, 0, 0.2, 4),  # 4 x 1.2 = 4.8
        (100, 0, 0.0, 4),
        (100, 4, 0.0, 4),
    ],
)
def test_a_step_asks_just_as_many_prompts_more_as_its_budget_lacks(
    start: Start, budget: int, num_flat: int, share: float, num_groups: int
) -> None:
    config = config_of(objective=Objective(token_budget=budget, budget_scope="global"), extra_prompts_share=share)
    first, after = asked_of(config, 4, 10)
    process = start(config, script(dict.fromkeys(first[:num_flat], ("wrong", "wrong"))))
    process.collect(1)
    rows = process.journal.read(1)
    assert groups_in(rows) == list(enumerate([*first, *after][:num_groups]))
    assert process.sampler.asked == [*first, *after][:num_groups]
    numbers = [int(chunk.path.stem) for chunk in process.sampler.sampled]
    assert numbers == list(range(len(numbers)))
    assert process.sampler.published == [0]


def test_a_step_goes_on_asking_while_the_new_prompts_carry_no_signal(start: Start) -> None:
    config = config_of(objective=Objective(token_budget=40, budget_scope="global"))
    first, after = asked_of(config, 4, 4)
    process = start(config, script({after[0]: ("correct", "correct")}))
    process.collect(1)
    # 32 of 40 there: ceil(8 x 4 / 32) = 1 more, in vain; then ceil(8 x 5 / 32) = 2
    assert groups_in(process.journal.read(1)) == list(enumerate([*first, *after[:3]]))
    assert [len(chunk.problems) for chunk in process.sampler.sampled] == [2, 2, 1, 2]


def test_extra_prompts_count_against_the_virtual_ranks_that_lack_them(start: Start) -> None:
    config = config_of(objective=Objective(token_budget=20, budget_scope="rank", budget_ranks=2))
    first, _ = asked_of(config, 4, 4)
    process = start(config, script({first[1]: ("wrong", "wrong")}))
    process.collect(1)
    rows = process.journal.read(1)
    # rank 0 has 16 of 20, rank 1 has 8 of 20: ceil(4 x 4 / 24) = 1 and ceil(12 x 4 / 24) = 2, in turns
    ranks = dict(zip(rows["group"].to_pylist(), rows["budget_rank"].to_pylist(), strict=True))
    assert ranks == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0, 5: 1, 6: 1}


def test_grpo_asks_its_prompts_and_none_more(start: Start) -> None:
    config = config_of(objective=Objective(kind="grpo", token_budget=1000))
    process = start(config)
    process.collect(1)
    rows = process.journal.read(1)
    assert len(rows) == 8
    assert set(rows["budget_rank"].to_pylist()) == {0}


def test_dapo_asks_until_as_many_groups_as_prompts_have_a_policy_gradient(start: Start) -> None:
    config = config_of(objective=Objective(kind="dapo", token_budget=1))
    first, after = asked_of(config, 4, 4)
    # two of four in vain; of the two that are asked instead one more
    process = start(config, script(dict.fromkeys([*first[1:3], after[0]], ("wrong", "wrong"))))
    process.collect(1)
    rows = process.journal.read(1)
    assert groups_in(rows) == list(enumerate([*first, *after[:3]]))
    assert rows["kept_tokens"].to_pylist() == [4, 4, 0, 0, 0, 0, 4, 4, 0, 0, 4, 4, 4, 4]
    assert set(rows["weight"].to_pylist()) == {0.0, 1 / 32}


# ---------------------------------------------------------------- carried over

CARRY = {"token_budget": 16, "budget_scope": "global", "order": "as_sampled", "left_over": "carry"}


def carry_config(**values: Any) -> RlConfig:
    """Of four live groups of two responses of four tokens, two fill the budget."""
    return config_of(objective=Objective.model_validate({**CARRY, **values}))


def test_a_step_asks_fewer_prompts_by_as_many_as_were_carried_over(start: Start) -> None:
    config = carry_config()
    process = start(config)
    for step in (1, 2, 3):
        process.collect(step)
    asked = asked_of(config, 4, 2, 2)
    rows = [process.journal.read(step) for step in (1, 2, 3)]
    # what is left of a step are the two groups behind those that filled its budget
    assert groups_in(rows[0]) == list(enumerate(asked[0]))
    assert groups_in(rows[1]) == list(enumerate([*asked[0][2:], *asked[1]]))
    assert groups_in(rows[2]) == list(enumerate([*asked[1], *asked[2]]))
    for step in rows[1:]:
        assert step["kept_tokens"].to_pylist() == [4, 4, 4, 4, 0, 0, 0, 0]
    assert rows[1]["asked_step"].to_pylist() == rows[1]["born_step"].to_pylist() == [1] * 4 + [2] * 4
    assert rows[1]["policy_version"].to_pylist() == [0] * 4 + [1] * 4
    assert rows[1]["token_versions"].to_pylist() == [[0] * 4] * 4 + [[1] * 4] * 4
    assert rows[1]["new_tokens"].to_pylist() == [0] * 4 + [4] * 4
    same = ["problem_id", "sample", "token_ids", "logprobs", "reference_logprobs", "seed", "status", "advantage"]
    assert rows[1].slice(0, 4).select(same).equals(rows[0].slice(4, 4).select(same))
    for step in rows:
        keys = list(zip(*(step[name].to_pylist() for name in ("group", "sample")), strict=True))
        assert keys == sorted(set(keys))


def test_new_prompts_of_a_step_have_seeds_of_their_numbers_behind_the_carried_ones(start: Start) -> None:
    config = carry_config()
    process = start(config)
    for step in (1, 2):
        process.collect(step)
    new = newborn(process.journal.read(2))
    expected = [derive_seed(config.seed, "rl", "sample", 2, group, sample) for group in (2, 3) for sample in (0, 1)]
    assert new["seed"].to_pylist() == expected


def test_what_was_carried_and_not_chosen_is_dropped_when_it_is_too_old(start: Start, tmp_path: Path) -> None:
    # a group a step is chosen: of four, three are left; then two of these and the new one, or the new one alone
    for max_age, ages in ((1, [1, 0, 0, 0]), (2, [2, 2, 1, 0])):
        config = carry_config(token_budget=8, max_age=max_age)
        process = start(config, out=tmp_path / f"{max_age}")
        for step in (1, 2, 3):
            process.collect(step)
        found = responses_of(process.journal.read(3), config=config)
        assert [response.age for response in found[::2]] == ages


def test_a_step_asks_one_new_prompt_however_many_were_carried(start: Start) -> None:
    config = carry_config(token_budget=4)
    process = start(config)
    for step in (1, 2):
        process.collect(step)
    first, after = asked_of(config, 4, 1)
    # one response of four groups was chosen, of which the other is left
    assert groups_in(process.journal.read(2)) == list(enumerate([*first, *after]))


def test_figures_and_the_watch_count_a_carried_response_once(start: Start) -> None:
    config = carry_config()
    process = start(config)
    for step in (1, 2, 3):
        process.collect(step)
    figures = [step_figures(process.journal.read(step), config=config) for step in (1, 2, 3)]
    assert [one["response/count"] for one in figures] == [8.0, 4.0, 4.0]
    assert [one["response/new_tokens"] for one in figures] == [32.0, 16.0, 16.0]
    assert [one["budget/tokens_carried"] for one in figures] == [0.0, 16.0, 16.0]
    assert [one["budget/tokens_used"] for one in figures] == [16.0, 16.0, 16.0]
    assert [verdicts for verdicts, _ in process.collector.watch.recent] == [8, 4, 4]


def test_steps_with_carried_responses_that_are_there_move_the_stream_alike(start: Start, tmp_path: Path) -> None:
    config = carry_config(updates_per_batch=2, token_budget=12, max_age=2)
    straight = start(config, out=tmp_path / "straight")
    first = start(config)
    for step in (1, 2, 3, 4):
        straight.collect(step)
    for step in (1, 2, 3):
        first.collect(step)
    again = start(config)
    cursors = [again.collect(step).cursor for step in (1, 2, 3)]
    assert cursors[-1] == first.collector.stream.cursor
    assert again.sampler.sampled == []
    again.collect(4)
    assert again.journal.path(4).read_bytes() == straight.journal.path(4).read_bytes()


# ---------------------------------------------------------------- going on


class _KilledError(Exception):
    """The process ends here."""


class _DyingSampler(ScriptedSampler):
    """Dies before its second chunk."""

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        yield from super().sample(chunks[:1])
        raise _KilledError


def test_a_chunk_that_is_there_is_not_sampled_again(start: Start, tmp_path: Path) -> None:
    config = config_of()
    dying = _DyingSampler(live, folder=tmp_path / "published")
    with pytest.raises(_KilledError):
        start(config, sampler=dying).collect(1)
    again = start(config)
    effort = again.collect(1).effort
    assert dying.asked + again.sampler.asked == asked_of(config, 4)[0]
    assert len(dying.asked) == 2
    assert effort.seconds["generate"] == 2.0  # of the chunk that was missing
    straight = start(config, out=tmp_path / "straight")
    straight.collect(1)
    assert again.journal.read(1).equals(straight.journal.read(1))


def test_a_step_that_is_there_is_neither_sampled_nor_published_for_and_moves_the_stream_alike(
    start: Start, tmp_path: Path
) -> None:
    config = config_of(objective=Objective(token_budget=40, budget_scope="global"))
    failing = dict.fromkeys(asked_of(config, 4)[0][:1], ("judge_error", "wrong"))
    first = start(config, script(failing))
    for step in (1, 2, 3):
        first.collect(step)
    replayed = start(config, script(failing))
    left = replayed.journal.chunk_path(1, 0)
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left by a kill")
    assert [replayed.collect(step).effort for step in (1, 2, 3)] == [Effort()] * 3
    assert (replayed.sampler.sampled, replayed.sampler.published) == ([], [])
    assert not left.exists()
    assert replayed.collector.stream.cursor == first.collector.stream.cursor
    assert replayed.collector.watch.recent == first.collector.watch.recent
    assert [len(failures) for _, failures in first.collector.watch.recent] == [1, 0, 0]
    straight = start(config, script(failing), out=tmp_path / "straight")
    for step in (1, 2, 3, 4):
        straight.collect(step)
    replayed.collect(4)
    assert replayed.journal.read(4).equals(straight.journal.read(4))


def test_the_journal_of_another_recipe_is_refused(start: Start) -> None:
    start(config_of(seed=1)).collect(1)
    with pytest.raises(ValueError, match=r"step-000001.parquet holds other problems than this recipe asks in step 1"):
        start(config_of(seed=2)).collect(1)


# ---------------------------------------------------------------- failures of the judge


def broken(problem_id: str, sample: int) -> Reply:
    """The judge fails on every second response."""
    return Reply(4, "judge_error" if sample else "correct")


def test_where_the_judge_fails_too_often_responses_are_kept_and_judged_anew(start: Start, tmp_path: Path) -> None:
    config = config_of(min_judge_failures=4, extra_prompts_share=0.0)
    first = start(config, broken)
    with pytest.raises(RuntimeError, match="the judge failed on 4 of 8 responses"):
        first.collect(1)
    assert not first.journal.has(1)
    mended = start(config)
    mended.collect(1)
    assert mended.sampler.sampled == []
    assert len(mended.sampler.judged) == 2
    straight = start(config, out=tmp_path / "straight")
    straight.collect(1)
    assert mended.journal.read(1).equals(straight.journal.read(1))


def test_prompts_that_were_asked_for_the_judges_failures_are_asked_anew(start: Start, tmp_path: Path) -> None:
    # where the judge fails nothing is informative, and four prompts more are asked; without failures one
    config = config_of(objective=Objective(token_budget=40, budget_scope="global"), min_judge_failures=4)
    first = start(config, broken)
    with pytest.raises(RuntimeError, match="the judge failed on 8 of 16 responses"):
        first.collect(1)
    assert [len(chunk.problems) for chunk in first.sampler.sampled] == [2, 2, 2, 2]
    mended = start(config)
    mended.collect(1)
    assert [len(chunk.problems) for chunk in mended.sampler.sampled] == [1]
    straight = start(config, out=tmp_path / "straight")
    straight.collect(1)
    assert len(straight.journal.read(1)) == 10
    assert mended.journal.path(1).read_bytes() == straight.journal.path(1).read_bytes()


def test_verdicts_on_chunks_without_a_failure_stand(start: Start) -> None:
    config = config_of(min_judge_failures=1, extra_prompts_share=0.0)
    problems = asked_of(config, 4)[0]
    with pytest.raises(RuntimeError):
        start(config, script({problems[3]: ("judge_error", "wrong")})).collect(1)
    mended = start(config)
    mended.collect(1)
    assert [[problem.id for problem in chunk.problems] for chunk in mended.sampler.judged] == [problems[2:]]


def test_failures_of_steps_that_are_there_count_as_if_they_had_just_happened(start: Start) -> None:
    config = config_of(min_judge_failures=6, extra_prompts_share=0.0)
    start(config, broken).collect(1)  # 4 failures
    process = start(config, broken)
    process.collect(1)
    with pytest.raises(RuntimeError, match="the judge failed on 8 of 16 responses"):
        process.collect(2)


def test_failures_are_of_the_judge_alone(start: Start) -> None:
    config = config_of(min_judge_failures=1, extra_prompts_share=0.0)
    statuses = ("timeout", "no_answer")
    process = start(config, script(dict.fromkeys(asked_of(config, 4)[0], statuses)))
    process.collect(1)
    assert process.collector.watch.recent == [(8, {})]
