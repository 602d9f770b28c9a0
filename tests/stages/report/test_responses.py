"""Which responses of RL the page shows, and how much of each."""

import pyarrow as pa
import pytest

from data.schema import Problem, table_from_problems
from stages.report.responses import (
    MOST_CHARACTERS,
    cut,
    decile_places,
    decile_responses,
    telling_places,
    told_responses,
)

PHASES = {"phases": [{"phase": "all", "steps": 1, "tokens_trained": 1}]}


@pytest.mark.parametrize(
    ("advantages", "kept", "places"),
    [
        ((0.0, -1.0, 1.0, 2.0, -2.0), (9, 9, 9, 9, 9), [2, 1]),
        ((-1.0, -2.0, 1.0), (0, 9, 0), [1]),  # the first and the last did not enter the loss
        ((1.0, 1.0), (0, 1), [1]),
        ((0.0, 0.0), (9, 9), [0]),
        ((1.0, -1.0), (0, 0), [0]),
        ((float("nan"), float("nan"), 1.0), (0, 0, 9), [2]),  # in the making: no advantage yet
        ((float("nan"), 0.0), (0, 9), [0]),
    ],
)
def test_of_what_entered_the_loss_the_first_reinforced_and_the_first_discouraged_are_told(
    made, response, advantages, kept, places
) -> None:
    rows = [
        response(sample, advantage=advantage, kept_tokens=tokens)
        for sample, (advantage, tokens) in enumerate(zip(advantages, kept, strict=True))
    ]
    assert telling_places(made("rl", "a", rollouts={1: rows}).folder, 1) == places


def test_a_step_without_responses_tells_none(made) -> None:
    assert telling_places(made("rl", "a", rollouts={1: []}).folder, 1) == []


@pytest.mark.parametrize(
    ("num_steps", "steps"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 4, 6]), (7, [1, 4, 7])]
)
def test_the_first_the_middle_and_the_last_step_are_told_once(made, response, num_steps, steps) -> None:
    arm = made("rl", "a", rollouts={step: [response(step=step)] for step in range(1, num_steps + 1)})
    assert [row["step"] for row in told_responses({"a": arm}, None)] == steps


def test_a_row_has_the_words_of_the_command_and_the_prompt_of_its_problem(made, response) -> None:
    problems = table_from_problems([Problem("p", "math", "rl", "What is 6 times 7?")])
    curation = made("curation", files={"rl.parquet": problems})
    used = response(advantage=-0.5, kept_tokens=4, truncated=True)
    (row,) = told_responses({"a": made("rl", "a", rollouts={1: [used]})}, curation)
    assert row["arm"] == "a" and row["advantage"] == -0.5
    assert row["verdict"] == "wrong, score 0, cut off" and row["reason"] == "not equal"
    assert row["loss"] == "entered the loss: 4 of 9 tokens"
    assert row["prompt"] == "What is 6 times 7?" and row["response"] == "said 0"


def test_a_long_text_is_cut_and_its_length_is_said() -> None:
    texts = {"short": "x" * MOST_CHARACTERS, "long": "x" * 24_576, "number": 3}
    assert cut(texts) == {**texts, "long": "x" * MOST_CHARACTERS + " … (24,576 characters)"}


# ---------------------------------------------------------------- deciles


def judged(groups) -> pa.Table:
    """Rows of groups of scores; None is a response that nobody judged."""
    rows = [(group, score) for group, scores in enumerate(groups) for score in scores]
    columns = {
        "group": [group for group, _ in rows],
        "score": [0.0 if score is None else score for _, score in rows],
        "status": ["unfinished" if score is None else "wrong" for _, score in rows],
    }
    return pa.table(columns)


def test_deciles_go_from_the_lowest_mean_reward_of_a_group_to_the_highest() -> None:
    assert decile_places(judged([(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)])) == [(1, 4, 0.0), (2, 2, 0.5), (3, 0, 1.0)]


def test_of_every_tenth_the_middle_group_speaks() -> None:
    groups = [(number / 40,) for number in range(30)]  # tenths of three: the second of each
    assert decile_places(judged(groups)) == [(n + 1, 3 * n + 1, (3 * n + 1) / 40) for n in range(10)]


def test_a_group_that_nobody_judged_has_no_decile() -> None:
    assert decile_places(judged([(None, None), (None, 1.0)])) == [(1, 2, 1.0)]
    assert decile_places(judged([(None,)])) == []


def test_a_decile_tells_of_the_last_step(made, response) -> None:
    steps = {1: [response(response="early")], 7: [response(response="late", score=0.5)]}
    (row,) = decile_responses({"a": made("rl", "a", tables=PHASES, rollouts=steps)}, None)
    assert (row["arm"], row["decile"], row["reward"], row["response"]) == ("a", 1, 0.5, "late")
