"""What a step costs, from rows of the journal by hand."""

from typing import Any

import pytest

from ring_model.configuration import BailingMoeConfig
from stages.config import Objective
from stages.rl.flops import step_flops
from stages.training.compute import REFERENCE, SAMPLING, TRAINING, Work, forward_flops, row_work, sampling_work
from tests.stages.rl.scripted import rollouts

MODEL = BailingMoeConfig().shape
PARTIAL = {"pool_rows": 8, "round_tokens": 4}


def spent(*rows: dict[str, Any], **objective: Any) -> dict[str, int]:
    return step_flops(
        rollouts([{"prompt_ids": [1, 2], **row} for row in rows]), model=MODEL, objective=Objective(**objective)
    )


def flops(*works: Work) -> int:
    return forward_flops(sum(works, Work()), MODEL)


def test_a_prompt_is_read_once_for_its_samples_and_with_every_kept_response_in_training() -> None:
    found = spent(
        {"group": 0, "sample": 0, "num_tokens": 3, "kept_tokens": 3, "update": 1},
        {"group": 0, "sample": 1, "num_tokens": 4, "kept_tokens": 1, "update": 1},
        {"group": 1, "sample": 0, "num_tokens": 5},
    )
    assert found == {
        SAMPLING: flops(sampling_work(2, [3, 4]), sampling_work(2, [5])),
        TRAINING: 3 * flops(row_work(2, 3), row_work(2, 1)),
        REFERENCE: flops(row_work(2, 3), row_work(2, 4), row_work(2, 5)),
    }


def test_without_a_kl_there_is_no_reference() -> None:
    assert REFERENCE not in spent({"num_tokens": 3}, kl_coefficient=0.0)


def test_a_step_that_trains_on_nothing_spends_its_samples_alone() -> None:
    assert spent({"num_tokens": 3})[TRAINING] == 0


def test_updates_after_the_first_cost_a_forward_pass_more() -> None:
    rows = [{"sample": number, "num_tokens": 4, "kept_tokens": 4, "update": 1 + number} for number in range(2)]
    found = spent(*rows, updates_per_batch=2)
    assert found[TRAINING] == 3 * flops(row_work(2, 4), row_work(2, 4)) + flops(row_work(2, 4))


def test_a_carried_response_is_trained_on_and_was_paid_for_before() -> None:
    found = spent({"num_tokens": 4, "new_tokens": 0, "kept_tokens": 4, "update": 1})
    assert (found[SAMPLING], found[REFERENCE]) == (0, 0)
    assert found[TRAINING] == 3 * flops(row_work(2, 4))


def test_a_partial_rollout_is_read_again_in_every_round() -> None:
    begins = {"group": 0, "sample": 0, "num_tokens": 6, "new_tokens": 6, "status": "unfinished"}
    goes_on = {"group": 1, "sample": 0, "num_tokens": 12, "new_tokens": 7}
    found = spent(begins, goes_on, partial_rollouts=PARTIAL)
    assert found[SAMPLING] == flops(
        sampling_work(2, [4]), sampling_work(6, [2]), sampling_work(7, [4]), sampling_work(11, [3])
    )
    assert found[REFERENCE] == flops(row_work(2, 12))


def test_the_order_of_rows_changes_nothing() -> None:
    rows = [{"group": number % 2, "sample": number // 2, "num_tokens": 3 + number} for number in range(4)]
    assert spent(*rows) == spent(*sorted(rows, key=lambda row: row["group"]))


@pytest.mark.parametrize("status", ["judge_error", "wrong", "correct"])
def test_a_verdict_changes_no_cost(status: str) -> None:
    assert spent({"status": status}) == spent({"status": "wrong"})
