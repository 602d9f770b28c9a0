"""The journal: its rows and what of them enters the loss, its files, and what it removes."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from data.schema import ROLLOUT_SCHEMA, SAMPLE_SCHEMA, Problem, read_table
from stages.config import Objective, RlConfig
from stages.rl.samples import Group, Journal, carried, newborn, responses_of, sampled_rows, with_choice
from stages.rl.selection import Response, choose_shares
from stages.seeds import derive_seed
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import Reply, groups, rollouts, samples

RIGHT, WRONG, FAILED = Reply(4, "correct"), Reply(4, "wrong"), Reply(4, "judge_error")


def config_of(**values: object) -> RlConfig:
    return arm_config(**{"samples_per_prompt": 2, "advantage_epsilon": 0.5, **values})


CHOSEN = ("reward", "advantage", "kept_tokens", "weight", "update")


def problem(name: str) -> Problem:
    return Problem(name, "math", "rl", prompt="what")


# ---------------------------------------------------------------- rows


def test_sampled_rows_say_their_step_group_and_policy_and_nothing_is_chosen() -> None:
    asked = [Group(4, 0, problem("a")), Group(5, 1, problem("b"))]
    found = samples([{"problem_id": name, "sample": number} for name in ("a", "b") for number in (0, 1)])
    rows = sampled_rows(found, asked, step=7, version=6, config=config_of())
    assert rows.schema == ROLLOUT_SCHEMA
    assert rows["step"].to_pylist() == [7, 7, 7, 7]
    assert rows["group"].to_pylist() == [4, 4, 5, 5]
    assert rows["budget_rank"].to_pylist() == [0, 0, 1, 1]
    assert rows["policy_version"].to_pylist() == [6, 6, 6, 6]
    assert rows.select(SAMPLE_SCHEMA.names) == found
    assert all(math.isnan(value) for value in rows["advantage"].to_pylist())
    assert rows["kept_tokens"].to_pylist() == [0, 0, 0, 0]
    assert rows["weight"].to_pylist() == [0.0, 0.0, 0.0, 0.0]
    keys = set(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert len(keys) == 4


def test_advantages_are_those_of_a_group_and_a_failed_verdict_takes_no_part() -> None:
    # mean 1/2, std 1/2, epsilon 1/2: 1/2 / 1; beside a failure one verdict is its own mean
    rows = groups([RIGHT, WRONG], [FAILED, RIGHT], [WRONG, WRONG])
    assert [(one.advantage, one.judged) for one in responses_of(rows, config=config_of())] == [
        (0.5, True), (-0.5, True), (0.0, False), (0.0, True), (0.0, True), (0.0, True),
    ]  # fmt: skip


def test_partial_credit_is_a_reward() -> None:
    # 1/4 and 3/4: mean 1/2, std 1/4, epsilon 1/4
    rows = rollouts([{"sample": 0, "score": 0.25}, {"sample": 1, "score": 0.75}])
    assert [one.advantage for one in responses_of(rows, config=config_of(advantage_epsilon=0.25))] == [-0.5, 0.5]


def test_a_score_that_the_judge_could_not_give_is_not_read() -> None:
    rows = rollouts([{"score": 1.0}, {"sample": 1}, {"sample": 2, "score": 1.0, "status": "bad_gold"}])
    found = responses_of(rows, config=config_of(samples_per_prompt=3))
    assert [one.advantage for one in found] == [0.5, -0.5, 0.0]


def test_a_response_is_known_by_its_group_sample_length_and_virtual_rank() -> None:
    rows = rollouts(
        [
            {"group": 3, "sample": 0, "num_tokens": 9, "budget_rank": 1},
            {"group": 3, "sample": 1, "num_tokens": 2, "budget_rank": 1, "status": "correct"},
        ]
    )
    assert responses_of(rows, config=config_of()) == [
        Response(3, 0, 9, advantage=-0.5, judged=True, budget_rank=1),
        Response(3, 1, 2, advantage=0.5, judged=True, budget_rank=1),
    ]


# ---------------------------------------------------------------- the choice


def test_the_choice_fills_advantage_kept_tokens_and_weight_and_leaves_the_rest() -> None:
    rows = groups([RIGHT, WRONG], [WRONG, WRONG], [FAILED, RIGHT])
    chosen = with_choice(rows, step=1, config=config_of(objective=Objective(token_budget=10, budget_scope="global")))
    assert chosen.schema == ROLLOUT_SCHEMA
    untouched = [name for name in ROLLOUT_SCHEMA.names if name not in CHOSEN]
    assert chosen.select(untouched) == rows.select(untouched)
    assert chosen["advantage"].to_pylist() == [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]
    kept = chosen["kept_tokens"].to_pylist()
    assert kept[:2] == [4, 4]
    assert kept[2:] in ([2, 0, 0, 0], [0, 0, 0, 2])  # which group without signal is next is drawn
    assert chosen["weight"].to_pylist() == [0.1 if tokens else 0.0 for tokens in kept]


def test_of_a_group_of_equal_rewards_nothing_is_kept_where_it_is_left_out() -> None:
    objective = Objective(token_budget=100, budget_scope="global", zero_groups="leave_out")
    rows = groups([RIGHT, WRONG], [WRONG, WRONG], [RIGHT, RIGHT])
    chosen = with_choice(rows, step=1, config=config_of(objective=objective))
    assert chosen["kept_tokens"].to_pylist() == [4, 4, 0, 0, 0, 0]


def test_advantages_do_not_depend_on_the_cut() -> None:
    rows = groups([RIGHT, WRONG], [WRONG, RIGHT])
    objectives = [Objective(token_budget=budget, budget_scope="global") for budget in (1, 6, 100)] + [
        Objective(kind="grpo")
    ]
    found = [with_choice(rows, step=1, config=config_of(objective=one))["advantage"].to_pylist() for one in objectives]
    assert found == [[0.5, -0.5, -0.5, 0.5]] * 4


def test_grpo_weighs_every_judged_token() -> None:
    rows = groups([Reply(2, "correct"), Reply(8)], [FAILED, Reply(4)])
    chosen = with_choice(rows, step=1, config=config_of(objective=Objective(kind="grpo")))
    assert chosen["kept_tokens"].to_pylist() == [2, 8, 0, 4]
    assert chosen["weight"].to_pylist() == pytest.approx([1 / 6, 1 / 24, 0.0, 1 / 12])


def test_the_order_of_the_choice_is_drawn_from_the_seed_and_the_step() -> None:
    rows = groups(*[[RIGHT, WRONG]] * 12)

    def kept(step: int, seed: int) -> list[int]:
        return with_choice(rows, step=step, config=config_of(seed=seed))["kept_tokens"].to_pylist()

    assert kept(1, 0) == kept(1, 0)
    assert len({tuple(kept(step, seed)) for step in (1, 2, 3) for seed in (0, 1)}) == 6
    config = config_of(seed=5)
    shares = choose_shares(
        responses_of(rows, config=config),
        objective=config.objective,
        longest=100,
        seed=derive_seed(5, "rl", "choice", 3),
    )
    assert [shares[key].kept_tokens if key in shares else 0 for key in keys_of(rows)] == kept(3, 5)


def keys_of(rows: pa.Table) -> list[tuple[int, int]]:
    return list(zip(rows["group"].to_pylist(), rows["sample"].to_pylist(), strict=True))


# ---------------------------------------------------------------- what is carried over


def carrying(**values: object) -> RlConfig:
    """A budget of two responses of four tokens, in the order in which they were asked."""
    objective = {"token_budget": 8, "budget_scope": "global", "order": "as_sampled", "left_over": "carry", **values}
    return config_of(objective=Objective.model_validate(objective))


def next_step(rows: pa.Table, config: RlConfig) -> pa.Table:
    """What the step of the rows leaves, with the choice of the next."""
    left = carried(rows, config=config)
    return with_choice(left, step=rows["step"][0].as_py() + 1, config=config)


# Group 0 fills the budget; group 1 is live, group 2 has equal rewards, in group 3 the judge failed once, so that it has no advantage
LEFT = groups([RIGHT, WRONG], [WRONG, RIGHT], [WRONG, WRONG], [FAILED, RIGHT])


def test_judged_responses_with_an_advantage_of_which_nothing_was_chosen_are_carried() -> None:
    config = carrying()
    rows = with_choice(LEFT, step=1, config=config)
    assert rows["kept_tokens"].to_pylist() == [4, 4, 0, 0, 0, 0, 0, 0]
    left = carried(rows, config=config)
    assert left.schema == ROLLOUT_SCHEMA
    assert list(zip(left["problem_id"].to_pylist(), left["sample"].to_pylist(), strict=True)) == [("p1", 0), ("p1", 1)]
    assert (left["step"].to_pylist(), left["group"].to_pylist()) == ([2, 2], [0, 0])
    assert (left["asked_step"].to_pylist(), left["born_step"].to_pylist()) == ([1, 1], [1, 1])
    assert left["new_tokens"].to_pylist() == [0, 0]
    changed = {"step", "group", "new_tokens"}
    same = [name for name in ROLLOUT_SCHEMA.names if name not in changed]
    assert left.select(same).equals(rows.slice(2, 2).select(same))
    assert len(carried(rows, config=carrying(left_over="drop"))) == 0


def test_what_was_cut_at_phi_is_used_up() -> None:
    config = carrying(token_budget=6)
    rows = with_choice(LEFT, step=1, config=config)
    assert rows["kept_tokens"].to_pylist()[:4] == [4, 2, 0, 0]
    assert carried(rows, config=config)["problem_id"].to_pylist() == ["p1", "p1"]
    short = carrying(token_budget=12)
    rows = with_choice(LEFT, step=1, config=short)
    left = carried(rows, config=short)
    assert (left["problem_id"].to_pylist(), left["sample"].to_pylist()) == (["p1"], [1])


def test_an_advantage_is_frozen_at_birth_though_its_group_is_torn_apart() -> None:
    # alone a response would be its own mean, with an advantage of 0
    config = carrying(token_budget=12)
    rows = with_choice(LEFT, step=1, config=config)
    assert rows["advantage"].to_pylist()[2:4] == [-0.5, 0.5]
    after = next_step(rows, config)
    assert after["advantage"].to_pylist() == [0.5]
    assert after["kept_tokens"].to_pylist() == [4]
    assert responses_of(after, config=config) == [Response(0, 1, 4, advantage=0.5, judged=True, age=1)]


def test_a_carried_response_expires_by_age() -> None:
    config = carrying(token_budget=4, max_age=2)
    rows = with_choice(LEFT, step=1, config=config)
    ages = []
    while len(rows):
        ages.append([response.age for response in responses_of(rows, config=config)])
        rows = next_step(rows, config)
    # step 2 takes the second of group 0, step 3 the first of group 1; its second would be three steps old in step 4
    assert ages == [[0] * 8, [1, 1, 1], [2, 2]]


def test_the_oldest_come_first_in_the_next_step_and_weigh_as_all_others() -> None:
    config = carrying()
    left = carried(with_choice(LEFT, step=1, config=config), config=config)
    new = rollouts(
        [
            {"step": 2, "group": 1, "sample": number, "problem_id": "new", "status": status}
            for number, status in enumerate(("correct", "wrong"))
        ]
    )
    rows = with_choice(pa.concat_tables([left, new]), step=2, config=config)
    assert rows["kept_tokens"].to_pylist() == [4, 4, 0, 0]
    assert rows["weight"].to_pylist() == [1 / 8, 1 / 8, 0.0, 0.0]
    assert newborn(rows)["problem_id"].to_pylist() == ["new", "new"]
    assert carried(rows, config=config)["born_step"].to_pylist() == [2, 2]


def test_a_carried_prompt_keeps_its_virtual_rank_and_gets_the_next_number() -> None:
    rows = rollouts(
        [
            {"group": group, "sample": number, "problem_id": f"p{group}", "budget_rank": group % 2, "status": status}
            for group in range(6)
            for number, status in enumerate(("correct", "wrong"))
        ]
    )
    config = carrying(budget_scope="rank", budget_ranks=2)
    left = carried(with_choice(rows, step=1, config=config), config=config)
    assert left["problem_id"].to_pylist() == ["p2", "p2", "p3", "p3", "p4", "p4", "p5", "p5"]
    assert left["group"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert left["budget_rank"].to_pylist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_group_in_the_making_goes_on_whole_whether_others_are_carried_or_not() -> None:
    rows = rollouts(
        [
            {"group": 0, "sample": 0, "status": "correct"},
            {"group": 0, "sample": 1, "status": "wrong"},
            {"group": 1, "sample": 0, "status": "correct", "born_step": 0},
            {"group": 1, "sample": 1, "status": "unfinished", "born_step": 0},
            {"group": 2, "sample": 0, "status": "expired", "born_step": 0},
            {"group": 2, "sample": 1, "status": "unfinished", "born_step": 0},
        ]
    )
    for left_over in ("drop", "carry"):
        config = carrying(left_over=left_over)
        chosen = with_choice(rows, step=1, config=config)
        assert chosen["kept_tokens"].to_pylist() == [4, 4, 0, 0, 0, 0]
        assert all(map(math.isnan, chosen["advantage"].to_pylist()[2:]))
        left = carried(chosen, config=config)
        assert left["status"].to_pylist() == ["correct", "unfinished", "expired", "unfinished"]
        assert left["group"].to_pylist() == [0, 0, 1, 1]
        assert left["born_step"].to_pylist() == [0] * 4


def test_the_choice_of_a_step_that_is_read_back_is_the_same() -> None:
    config = carrying(updates_per_batch=2)
    rows = with_choice(LEFT, step=1, config=config)
    assert rows["update"].to_pylist() == [1, 1, 2, 2, 0, 0, 0, 0]
    again = with_choice(rows, step=1, config=config)
    assert again.drop_columns(["reward"]).equals(rows.drop_columns(["reward"]))  # a reward of nothing is nan


# ---------------------------------------------------------------- files


def test_a_step_is_there_once_it_is_written_and_its_chunks_are_gone(tmp_path: Path) -> None:
    journal, rows = Journal(tmp_path), with_choice(groups([RIGHT, WRONG]), step=12, config=config_of())
    chunk = journal.chunk_path(12, 3)
    assert chunk == tmp_path / ".state" / "chunks" / "step-000012" / "0003.arrow"
    other = journal.chunk_path(13, 0)
    for path in (chunk, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a chunk")
    assert not journal.has(12)
    journal.write(12, rows)
    assert journal.has(12)
    assert not journal.has(13)
    assert journal.path(12) == tmp_path / "rollouts" / "step-000012.parquet"
    assert journal.read(12).equals(rows)
    assert read_table(journal.path(12), ROLLOUT_SCHEMA).equals(rows)
    assert not chunk.parent.exists()
    assert other.exists()
    journal.clear_chunks(14)  # of which there are none


def written(folder: Path, *steps: int) -> Journal:
    journal = Journal(folder)
    for step in steps:
        journal.write(step, groups([RIGHT, WRONG]))
    return journal


@pytest.mark.parametrize(
    ("steps", "removed", "kept"),
    [
        ((1, 2, 3), (), (1, 2, 3)),
        ((), (), ()),
        ((1, 3, 4), (3, 4), (1,)),  # behind a gap
        ((2, 3), (2, 3), ()),
        ((1, 2, 3, 4, 5, 6), (6,), (1, 2, 3, 4, 5)),  # past the arm
        ((0, 1), (0,), (1,)),
    ],
)
def test_steps_behind_a_gap_or_past_the_end_are_removed_and_named(tmp_path: Path, steps, removed, kept) -> None:
    journal = written(tmp_path, *steps)
    assert journal.clean(num_steps=5) == [f"step-{step:06d}.parquet" for step in removed]
    assert [step for step in range(8) if journal.has(step)] == list(kept)
    assert journal.clean(num_steps=5) == []


def test_strangers_are_removed_and_named_files_and_folders_alike(tmp_path: Path) -> None:
    journal = written(tmp_path, 1, 2)
    folder = tmp_path / "rollouts"
    (folder / "step-000001.0.1.parquet").write_bytes(b"of a rank")
    (folder / "old").mkdir()
    (folder / "old" / "step-000001.parquet").write_bytes(b"kept aside")
    assert journal.clean(num_steps=2) == ["old", "step-000001.0.1.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == ["step-000001.parquet", "step-000002.parquet"]


def test_chunks_of_a_step_that_is_not_complete_are_no_strangers(tmp_path: Path) -> None:
    journal = written(tmp_path, 1)
    chunk = journal.chunk_path(2, 0)
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"a chunk")
    journal.clean(num_steps=2)
    assert chunk.exists()
