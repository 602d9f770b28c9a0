"""What is read of an arm's responses is what its journal holds."""

from pathlib import Path

import pyarrow as pa
import pytest

from data.domains import STATUSES
from data.schema import ROLLOUT_SCHEMA, Problem, table_from_problems, write_table
from stages.records.rollouts import (
    ROLLOUT_STATUSES,
    TEXT_COLUMNS,
    TOKEN_COLUMNS,
    advantage_words,
    loss_words,
    prompts_of,
    read_rollouts,
    rollout_rows,
    rollout_steps,
    verdict_words,
)
from stages.rl.rewards import NO_REWARD
from stages.rl.samples import Journal

ROW = {
    "step": 2, "group": 0, "budget_rank": 0, "policy_version": 1, "problem_id": "p", "domain": "math", "sample": 0, "prompt_ids": [1],
    "response": "r", "token_ids": [2], "logprobs": [-0.5], "status": "wrong", "score": 0.0, "checker_failed": False, "weak": False,
    "extracted": "", "reason": "", "seed": 1, "entropy": 0.5, "num_tokens": 1, "truncated": False, "advantage": 0.0,
    "kept_tokens": 1, "weight": 0.5,
}  # fmt: skip
ROWS = pa.Table.from_pylist([ROW, {**ROW, "sample": 1}], schema=ROLLOUT_SCHEMA)


def test_the_steps_are_those_that_a_journal_has_written(tmp_path: Path) -> None:
    assert rollout_steps(tmp_path) == []
    for step in (1, 2, 1_000_000):
        Journal(tmp_path).write(step, ROWS)
    assert rollout_steps(tmp_path) == [1, 2, 1_000_000]
    names = tuple(ROLLOUT_SCHEMA.names)
    assert read_rollouts(tmp_path, 2, names) == Journal(tmp_path).read(2)


def test_rows_have_the_columns_that_are_wanted_by_their_places(tmp_path: Path) -> None:
    Journal(tmp_path).write(1, ROWS)
    assert rollout_rows(tmp_path, 1, [1], ("sample", "response")) == [{"sample": 1, "response": "r"}]
    assert rollout_rows(tmp_path, 1, [], ("sample",)) == []


def test_every_column_is_a_text_or_a_number_a_token() -> None:
    lists = {field.name for field in ROLLOUT_SCHEMA if pa.types.is_list(field.type)}
    assert set(TOKEN_COLUMNS) == lists
    assert {*TEXT_COLUMNS, *TOKEN_COLUMNS} == set(ROLLOUT_SCHEMA.names)


def test_prompts_are_told_as_far_as_the_pool_has_them(tmp_path: Path) -> None:
    problems = [Problem(name, "math", "rl", f"What is {name}?") for name in "ab"]
    write_table(table_from_problems(problems), tmp_path / "rl.parquet")
    assert prompts_of(tmp_path, ["b", "c", "b"]) == {"b": "What is b?"}
    assert prompts_of(tmp_path, []) == {}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "wrong, score 0"),
        ({"status": "correct", "score": 1.0, "weak": True}, "correct, score 1, on weak evidence"),
        ({"checker_failed": True}, "wrong, score 0, the checker did not come back"),
        ({"status": "no_answer", "truncated": True}, "no_answer, score 0, cut off"),
        ({"status": "unfinished", "truncated": True}, "unfinished, goes on in the next step"),
        ({"status": "expired", "truncated": True}, "expired, given up before it was finished"),
    ],
)
def test_a_verdict_is_told_with_its_marks(columns, words) -> None:
    assert verdict_words({**ROW, **columns}) == words


def test_every_status_that_a_row_may_have_is_known() -> None:
    assert {*ROLLOUT_STATUSES} == {*STATUSES, *NO_REWARD}


def test_an_advantage_is_told_with_its_sign_or_that_there_is_none() -> None:
    assert [advantage_words({"advantage": value}) for value in (1.5, -0.25, 0.0)] == ["+1.5000", "-0.2500", "+0.0000"]
    assert advantage_words({"advantage": float("nan")}) == "none"


def test_what_entered_the_loss_is_told_in_tokens() -> None:
    assert loss_words({"kept_tokens": 23, "num_tokens": 4100}) == "entered the loss: 23 of 4,100 tokens"
    assert loss_words({"kept_tokens": 0, "num_tokens": 41}) == "not used"
