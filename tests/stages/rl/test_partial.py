"""C3PO++: responses that go on under newer weights, with a sampler whose responses end where it is written by hand."""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.schema import ROLLOUT_SCHEMA
from stages.config import PartialRollouts, RlArm, RlConfig
from stages.rl.collect import Collected, Collector, Weights
from stages.rl.figures import step_figures
from stages.rl.partial import begin, begun, completed, give_up, grown, unfinished
from stages.rl.prompts import PromptStream
from stages.rl.samples import Group, Journal, newborn, responses_of
from stages.rl.selection import live_groups
from stages.sampling.requests import Begun, Chunk, Policy
from stages.sampling.sampler import Done
from stages.sampling.scores import JudgeWatch
from stages.seeds import derive_seed
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import Reply, Script, ScriptedSampler, pool_of, rollouts, samples

POOL = pool_of(math=60)
STEPS, SAMPLES = 6, 2


def config_of(*, limits: Sequence[int] = (64,) * STEPS, pool: int = 4, updates: int = 2, **values: Any) -> RlConfig:
    """Six steps, each a phase with a limit of its own; four prompts of two samples, Phi = 16, rounds of four tokens."""
    phases = [
        {"name": f"p{number}", "steps": 1, "mixture": {"math": 1.0}, "max_total_tokens": limit}
        for number, limit in enumerate(limits)
    ]
    defaults = {
        "arms": ({"kind": "rl", "name": "arm", "phases": phases},),
        "samples_per_prompt": SAMPLES,
        "token_budget": 16,
        "order": "as_sampled",
        "partial_rollouts": PartialRollouts(pool_rows=pool, round_tokens=4, max_updates=updates),
    }
    return arm_config(**{**defaults, **values})


def problems_of(config: RlConfig, count: int = 20) -> list[str]:
    """The problems of the stream, in order."""
    (arm,) = config.arms
    assert isinstance(arm, RlArm)
    return [problem.id for problem in PromptStream(POOL, seed=config.seed).take(arm.phases[0], count)]


def script(config: RlConfig, *lengths: tuple[int, int], rest: tuple[int, int] = (40, 40)) -> Script:
    """The lengths of the responses to each problem, in the order of the stream; the first of two is right."""
    by_id = dict(zip(problems_of(config), lengths, strict=False))

    def reply(problem_id: str, sample: int) -> Reply:
        return Reply(by_id.get(problem_id, rest)[sample], "wrong" if sample else "correct")

    return reply


def sample_of(config: RlConfig) -> dict[int, int]:
    """The number of a response by its seed."""
    keys = [(step, group, sample) for step in range(1, STEPS + 1) for group in range(40) for sample in range(SAMPLES)]
    return {derive_seed(config.seed, "rl", "sample", *key): key[-1] for key in keys}


@dataclass
class Process:
    """What a process that collects has; another one goes on with the files."""

    collector: Collector
    sampler: ScriptedSampler

    def collect(self, *steps: int) -> Collected:
        """These steps, each of the weights after the one before it."""
        for step in steps:
            weights = None if self.collector.journal.has(step) else Weights(Policy.of(Path(f"{step - 1}")), step - 1)
            found = self.collector.collect(step, weights)
        return found

    def read(self, step: int) -> pa.Table:
        return self.collector.journal.read(step)


def start(config: RlConfig, reply: Script, out: Path, *, sampler: ScriptedSampler | None = None) -> Process:
    sampler = sampler or ScriptedSampler(reply, folder=out, sample_of=sample_of(config))
    (arm,) = config.arms
    assert isinstance(arm, RlArm)
    stream, reference = PromptStream(POOL, seed=config.seed), Policy.of(out / "reference")
    return Process(Collector(arm, config, stream, sampler, reference, Journal(out), JudgeWatch(config)), sampler)


def told(rows: pa.Table, *names: str) -> list[tuple]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


# ---------------------------------------------------------------- three steps by hand

# Rounds of four tokens, a pool of four rows, by problem and sample:
#   step 1, round 1: a 3! 4 | b 4! 4              two prompts fill the pool; ! is finished
#           round 2: a    6! | b   8 | c 2! 4     a has made room for one prompt, and is complete: 9 tokens
#           round 3:           b  12 | c   5! | d 4 4     c is complete: 9 + 7 = 16 = Phi
#   step 2, round 1: b 16 | d 8! 8!               d is complete: 16 = Phi
#   step 3, round 1: b 20! | e 4 4                b is complete: 4 + 20 = 24
BY_HAND = ((3, 6), (4, 20), (2, 5), (8, 8), (30, 30))


@pytest.fixture
def by_hand(tmp_path: Path) -> Process:
    config = config_of()
    process = start(config, script(config, *BY_HAND), tmp_path)
    process.collect(1, 2, 3)
    return process


def test_a_step_ends_when_the_finished_groups_have_phi_tokens_and_the_rest_goes_on(by_hand: Process) -> None:
    a, b, c, d, e = problems_of(config_of())[:5]
    assert told(by_hand.read(1), "problem_id", "group", "sample", "num_tokens", "status") == [
        (a, 0, 0, 3, "correct"), (a, 0, 1, 6, "wrong"), (b, 1, 0, 4, "correct"), (b, 1, 1, 12, "unfinished"),
        (c, 2, 0, 2, "correct"), (c, 2, 1, 5, "wrong"), (d, 3, 0, 4, "unfinished"), (d, 3, 1, 4, "unfinished"),
    ]  # fmt: skip
    assert told(by_hand.read(2), "problem_id", "group", "sample", "num_tokens", "status") == [
        (b, 0, 0, 4, "correct"), (b, 0, 1, 16, "unfinished"), (d, 1, 0, 8, "correct"), (d, 1, 1, 8, "wrong"),
    ]  # fmt: skip
    assert told(by_hand.read(3), "problem_id", "group", "sample", "num_tokens", "status") == [
        (b, 0, 0, 4, "correct"), (b, 0, 1, 20, "wrong"), (e, 1, 0, 4, "unfinished"), (e, 1, 1, 4, "unfinished"),
    ]  # fmt: skip


def test_a_round_is_the_pool_and_room_is_filled_with_new_prompts(by_hand: Process) -> None:
    a, b, c, d, e = problems_of(config_of())[:5]
    rounds = [[problem.id for problem in chunk.problems] for chunk in by_hand.sampler.sampled]
    assert rounds == [[a, a, b, b], [a, b, c, c], [b, c, d, d], [b, d, d], [b, e, e]]
    assert [chunk.path.parent.name[-1] for chunk in by_hand.sampler.sampled] == ["1", "1", "1", "2", "3"]
    assert [[len(before.token_ids) for before in chunk.begun] for chunk in by_hand.sampler.sampled] == [
        [0, 0, 0, 0], [4, 4, 0, 0], [8, 4, 0, 0], [12, 4, 4], [16, 0, 0],
    ]  # fmt: skip
    assert {(chunk.most_more, chunk.samples) for chunk in by_hand.sampler.sampled} == {(4, (0,))}
    assert [chunk.policy.weights.name for chunk in by_hand.sampler.sampled] == ["0", "0", "0", "1", "2"]


def test_every_token_says_which_weights_drew_it(by_hand: Process) -> None:
    assert by_hand.read(1)["token_versions"].to_pylist()[3] == [0] * 12
    assert by_hand.read(2)["token_versions"].to_pylist() == [[0] * 4, [0] * 12 + [1] * 4, *[[0] * 4 + [1] * 4] * 2]
    assert by_hand.read(3)["token_versions"].to_pylist()[:2] == [[0] * 4, [0] * 12 + [1] * 4 + [2] * 4]
    assert by_hand.read(3)["policy_version"].to_pylist() == [0, 0, 2, 2]  # of the first token
    for step in (1, 2, 3):
        for tokens, logprobs, versions in told(by_hand.read(step), "token_ids", "logprobs", "token_versions"):
            assert len(tokens) == len(logprobs) == len(versions)


def test_a_group_is_born_in_the_step_in_which_its_last_response_is_finished(by_hand: Process) -> None:
    assert by_hand.read(1)["born_step"].to_pylist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert by_hand.read(2)["born_step"].to_pylist() == [0, 0, 2, 2]
    assert by_hand.read(3)["born_step"].to_pylist() == [3, 3, 0, 0]
    assert [by_hand.read(step)["asked_step"].to_pylist() for step in (1, 2, 3)] == [[1] * 8, [1] * 4, [1, 1, 3, 3]]


def test_tokens_are_new_in_the_step_that_drew_them(by_hand: Process) -> None:
    assert by_hand.read(1)["new_tokens"].to_pylist() == [3, 6, 4, 12, 2, 5, 4, 4]
    assert by_hand.read(2)["new_tokens"].to_pylist() == [0, 4, 4, 4]
    assert by_hand.read(3)["new_tokens"].to_pylist() == [0, 4, 4, 4]


def test_the_loss_takes_finished_groups_alone_with_the_advantages_of_whole_groups(by_hand: Process) -> None:
    kept = [by_hand.read(step)["kept_tokens"].to_pylist() for step in (1, 2, 3)]
    assert kept == [[3, 6, 0, 0, 2, 5, 0, 0], [0, 0, 8, 8], [4, 12, 0, 0]]  # 24 are cut to 16
    epsilon = config_of().objective.advantage_epsilon
    advantage = 0.5 / (0.5 + epsilon)
    assert by_hand.read(3)["advantage"].to_pylist()[:2] == pytest.approx([advantage, -advantage])
    assert all(map(math.isnan, by_hand.read(3)["advantage"].to_pylist()[2:]))
    assert by_hand.read(1)["weight"].to_pylist() == [1 / 16 if tokens else 0.0 for tokens in kept[0]]


def test_the_reference_is_asked_of_what_is_finished(by_hand: Process) -> None:
    for status, tokens, reference in told(by_hand.read(1), "status", "token_ids", "reference_logprobs"):
        assert len(reference) == (0 if status == "unfinished" else len(tokens))


def test_a_step_says_what_goes_on_and_counts_finished_groups_alone(by_hand: Process) -> None:
    figures = [step_figures(by_hand.read(step), config=config_of()) for step in (1, 2, 3)]
    assert [one["partial/unfinished"] for one in figures] == [3.0, 1.0, 2.0]
    assert [one["response/count"] for one in figures] == [4.0, 2.0, 2.0]
    assert [one["response/new_tokens"] for one in figures] == [40.0, 12.0, 12.0]
    assert [one["response/mean_tokens"] for one in figures] == [4.0, 8.0, 12.0]
    assert [one["budget/tokens_carried"] for one in figures] == [0.0, 0.0, 0.0]
    assert [one["budget/fill"] for one in figures] == [1.0, 1.0, 1.0]


# ---------------------------------------------------------------- what is given up


def test_a_response_that_has_outlived_its_updates_is_given_up_and_its_group_goes_on_without_it(tmp_path: Path) -> None:
    config = config_of(updates=1)
    process = start(config, script(config, *BY_HAND), tmp_path)
    process.collect(1, 2, 3)
    # b was begun by version 0: one update may pass, and did before step 2; before step 3 there were two
    rows = process.read(3)
    assert told(rows.slice(0, 2), "status", "num_tokens", "born_step", "kept_tokens") == [
        ("correct", 4, 3, 0), ("expired", 16, 3, 0),
    ]  # fmt: skip
    # alone the first is its own mean: no advantage, and so nothing towards Phi
    assert rows["advantage"].to_pylist()[:2] == [0.0, 0.0]
    assert [response.judged for response in responses_of(rows, config=config)[:2]] == [True, False]
    assert newborn(rows)["sample"].to_pylist()[:1] == [0]
    assert "expired" not in newborn(rows)["status"].to_pylist()
    figures = step_figures(rows, config=config)
    assert figures["partial/expired"] == 1.0
    assert figures["response/new_tokens"] == sum(rows["new_tokens"].to_pylist())


def test_a_group_of_three_is_judged_without_the_one_that_was_given_up() -> None:
    rows = rollouts(
        [
            {"step": 3, "sample": number, "status": status, "born_step": 0, "policy_version": 0}
            for number, status in enumerate(("correct", "unfinished", "wrong"))
        ]
    )
    config = config_of(updates=2, samples_per_prompt=3, advantage_epsilon=0.5)
    assert give_up(rows, version=2, limit=64, config=config)["status"].to_pylist() == ["correct", "unfinished", "wrong"]
    given_up = completed(give_up(rows, version=3, limit=64, config=config), step=3)
    assert given_up["status"].to_pylist() == ["correct", "expired", "wrong"]
    assert given_up["born_step"].to_pylist() == [3, 3, 3]
    assert [(one.advantage, one.judged) for one in responses_of(given_up, config=config)] == [
        (0.5, True), (0.0, False), (-0.5, True),
    ]  # fmt: skip


def test_a_response_without_room_in_a_shorter_phase_is_given_up(tmp_path: Path) -> None:
    # a prompt of three tokens and the twelve of b: 15 are the limit of step 2
    for limit, status in ((16, "unfinished"), (15, "expired")):
        config = config_of(limits=(64, limit, *(64,) * 4))
        process = start(config, script(config, *BY_HAND), tmp_path / str(limit))
        process.collect(1, 2)
        assert told(process.read(2).slice(0, 2), "num_tokens", "status")[1][1] == status
        assert all(len(before.token_ids) + 3 < limit for chunk in process.sampler.sampled[3:] for before in chunk.begun)


# ---------------------------------------------------------------- laws on drawn lengths


def drawn(problem_id: str, sample: int) -> Reply:
    """A length of 1 to 30, and a verdict."""
    draw = random.Random(f"{problem_id} {sample}")
    return Reply(draw.randint(1, 30), draw.choice(("correct", "wrong")))


SETTINGS = [
    {},
    {"pool": 2, "updates": 1},
    {"pool": 9, "updates": 1, "token_budget": 30},
    {"pool": 6, "left_over": "carry", "max_age": 2},
    {"pool": 8, "updates_per_batch": 2, "left_over": "carry"},
    {"pool": 6, "extra_prompts_share": 0.0, "token_budget": 60},
    {"pool": 8, "budget_scope": "rank", "budget_ranks": 2, "token_budget": 10},
]


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def config(request: pytest.FixtureRequest) -> RlConfig:
    return config_of(**request.param)


@pytest.fixture(scope="module")
def process(config: RlConfig, tmp_path_factory: pytest.TempPathFactory) -> Process:
    """All six steps."""
    process = start(config, drawn, tmp_path_factory.mktemp("process") / "arm")
    process.collect(*range(1, STEPS + 1))
    return process


def whole_journal(process: Process) -> pa.Table:
    return pa.concat_tables([process.read(step) for step in range(1, STEPS + 1)])


def test_rows_are_told_apart_by_step_group_and_sample_and_groups_are_whole(process: Process) -> None:
    keys = told(whole_journal(process), "step", "group", "sample")
    assert keys == sorted(set(keys))
    for step in range(1, STEPS + 1):
        new = newborn(process.read(step))
        assert new["status"].to_pylist().count("unfinished") == 0
        rows = process.read(step)
        asked = rows.filter(pa.array([asked == step for asked in rows["asked_step"].to_pylist()]))
        assert len(asked) == SAMPLES * len(asked["group"].unique())


def test_new_tokens_add_up_to_the_tokens_that_were_drawn(process: Process) -> None:
    rows, longest = whole_journal(process), dict[int, int]()
    for seed, number in told(rows, "seed", "num_tokens"):
        longest[seed] = max(longest.get(seed, 0), number)
    assert sum(rows["new_tokens"].to_pylist()) == sum(longest.values()) == process.sampler.num_tokens


def test_versions_of_a_responses_tokens_never_fall(process: Process) -> None:
    for versions, first, step in told(whole_journal(process), "token_versions", "policy_version", "step"):
        assert versions == sorted(versions)
        assert versions[0] == first
        assert versions[-1] < step


def test_a_pool_holds_no_more_rows_than_omega(process: Process, config: RlConfig) -> None:
    partial = config.objective.partial_rollouts
    assert partial is not None
    for step in range(1, STEPS + 1):
        assert len(unfinished(process.read(step))) <= partial.pool_rows
    size = config.sampling.chunk_problems * SAMPLES
    assert all(len(chunk.seeds) <= size for chunk in process.sampler.sampled)


def informative_by_budget(rows: pa.Table, config: RlConfig) -> Counter[tuple[int, int]]:
    """Kept tokens with a policy gradient, by virtual rank and update."""
    live = live_groups(responses_of(rows, config=config))
    found: Counter[tuple[int, int]] = Counter()
    for group, rank, update, kept in told(rows, "group", "budget_rank", "update", "kept_tokens"):
        if kept and group in live:
            found[rank, update] += kept
    return found


def test_a_step_ends_with_enough_finished_tokens_or_with_nothing_left_to_draw(
    process: Process, config: RlConfig
) -> None:
    objective = config.objective
    num_budgets = objective.num_budgets * objective.updates_per_batch
    most = math.floor((1 + config.extra_prompts_share) * config.prompts_per_step)
    for step in range(1, STEPS + 1):
        rows = process.read(step)
        asked = len({group for group, asked in told(rows, "group", "asked_step") if asked == step})
        kept = informative_by_budget(rows, config)
        is_full = set(kept.values()) == {objective.token_budget} and len(kept) == num_budgets
        assert is_full or (asked == most and not len(unfinished(rows)))


def test_no_response_outlives_more_updates_than_it_may(process: Process, config: RlConfig) -> None:
    partial = config.objective.partial_rollouts
    assert partial is not None
    for versions, first in told(whole_journal(process), "token_versions", "policy_version"):
        assert versions[-1] - first <= partial.max_updates


def test_a_newborn_response_is_there_once(process: Process) -> None:
    seeds = [seed for step in range(1, STEPS + 1) for seed in newborn(process.read(step))["seed"].to_pylist()]
    assert len(seeds) == len(set(seeds))


def test_steps_that_are_there_move_stream_and_watch_alike(process: Process, config: RlConfig) -> None:
    again = start(config, drawn, process.collector.journal.path(1).parents[1])
    found = again.collect(*range(1, STEPS + 1))
    assert again.sampler.sampled == []
    assert found.cursor == process.collector.stream.cursor
    assert found.judged == process.collector.watch.recent


class _KilledError(Exception):
    """The process ends here."""


class _DyingSampler(ScriptedSampler):
    """Dies before a chunk that is to be made, after so many."""

    lives = 3

    def sample(self, chunks: Sequence[Chunk]) -> Iterator[Done]:
        for chunk in chunks:
            if len(self.sampled) == self.lives and not chunk.is_done:
                raise _KilledError
            yield from super().sample([chunk])


def test_killed_between_rounds_steps_end_with_the_same_files_and_nothing_is_made_twice(
    process: Process, config: RlConfig, tmp_path: Path
) -> None:
    made: list[Path] = []
    is_killed = True
    while is_killed:
        dying = _DyingSampler(drawn, folder=tmp_path, sample_of=sample_of(config))
        again = start(config, drawn, tmp_path / "arm", sampler=dying)
        try:
            again.collect(*range(1, STEPS + 1))
            is_killed = False
        except _KilledError:
            assert len(dying.sampled) == dying.lives
        made += [chunk.path for chunk in dying.sampled]
    assert len(made) == len(set(made)) == len(process.sampler.sampled) > 2 * _DyingSampler.lives
    for step in range(1, STEPS + 1):
        one, two = (each.collector.journal.path(step) for each in (process, again))
        assert one.read_bytes() == two.read_bytes()


# ---------------------------------------------------------------- rows


def test_a_response_begins_with_nothing_and_a_seed_of_its_own() -> None:
    config = config_of()
    problem = POOL.problems["math"][0]
    rows = begin([Group(3, 1, problem), Group(4, 0, problem)], step=2, version=1, config=config)
    assert rows.schema == ROLLOUT_SCHEMA
    assert told(rows, "group", "sample", "budget_rank", "status", "born_step", "asked_step", "policy_version") == [
        (group, sample, rank, "unfinished", 0, 2, 1) for group, rank in ((3, 1), (4, 0)) for sample in (0, 1)
    ]
    assert begun(rows) == (Begun(),) * 4
    assert rows["seed"].to_pylist() == [
        derive_seed(config.seed, "rl", "sample", 2, group, sample) for group in (3, 4) for sample in (0, 1)
    ]
    assert begin([], step=2, version=1, config=config).equals(ROLLOUT_SCHEMA.empty_table())


def test_a_round_grows_the_unfinished_rows_in_order_and_touches_no_other() -> None:
    rows = rollouts(
        [
            {"sample": 0, "status": "unfinished", "num_tokens": 2, "new_tokens": 1, "token_versions": [4, 5]},
            {"sample": 1, "status": "correct", "num_tokens": 3},
            {"sample": 2, "status": "unfinished", "num_tokens": 1, "token_versions": [5]},
        ]
    )
    answers = samples([{"num_tokens": 4, "status": "wrong", "entropy": 0.5}, {"num_tokens": 5, "status": "unfinished"}])
    found = grown(rows, answers, version=6)
    assert told(found, "sample", "status", "num_tokens", "new_tokens", "entropy") == [
        (0, "wrong", 4, 3, 0.5), (1, "correct", 3, 3, 0.25), (2, "unfinished", 5, 5, 0.25),
    ]  # fmt: skip
    assert found["token_versions"].to_pylist() == [[4, 5, 6, 6], [0, 0, 0], [5, 6, 6, 6, 6]]
    same = [name for name in ROLLOUT_SCHEMA.names if name not in ("reward", "advantage")]  # nan is not nan
    assert found.slice(1, 1).select(same).equals(rows.slice(1, 1).select(same))
