"""What an objective takes off a score, by hand."""

import math

import numpy as np
import pytest

from stages.config import Objective
from stages.rl.rewards import overlong_penalty, rewards_of
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import rollouts

ROWS = rollouts(
    [
        {"sample": 0, "status": "correct", "num_tokens": 2, "reference_logprobs": [-0.5, -1.0]},
        {"sample": 1, "status": "wrong", "num_tokens": 10},
        {"sample": 2, "status": "bad_gold", "score": 1.0},
        {"sample": 3, "status": "unfinished"},
        {"sample": 4, "status": "expired", "score": 1.0},
    ]
)


def rewards(**values: object) -> list[float]:
    objective = Objective.model_validate({"kl_coefficient": 0.0, **values})
    config = arm_config(sampling={"max_new_tokens": 12}).model_copy(update={"objective": objective})
    return rewards_of(ROWS.slice(0, len(ROWS)), config=config).tolist()


def test_a_reward_is_the_score_and_nothing_where_there_is_no_verdict() -> None:
    found = rewards()
    assert found[:2] == [1.0, 0.0]
    assert all(map(math.isnan, found[2:]))


def test_the_penalty_rises_over_the_last_share_to_one() -> None:
    # 20 tokens, the last quarter: nothing up to 15, one fifth a token
    lengths = np.array([1, 15, 16, 18, 20, 25])
    assert overlong_penalty(lengths, longest=20, share=0.25).tolist() == pytest.approx([0, 0, 0.2, 0.6, 1, 1])
    # as DAPO has it: over the last 4 096 of 20 480
    assert overlong_penalty(np.array([16_384, 18_432]), longest=20_480, share=0.2).tolist() == pytest.approx([0.0, 0.5])


def test_a_long_response_loses_reward_where_the_objective_says_so() -> None:
    # 10 of 12 tokens, the last half counts: (10 - 6) / 6
    assert rewards(overlong_share=0.5)[:2] == pytest.approx([1.0, -4 / 6])


def test_the_divergence_of_a_response_is_taken_from_its_reward_where_that_is_its_place() -> None:
    # log ratios 0 and -1.0 + 1.0 = 0 of the first: [-.5, -1] against [-.5, -1]
    rows = rollouts([{"num_tokens": 2, "status": "correct", "reference_logprobs": [-0.75, -0.5]}])
    config = arm_config().model_copy(
        update={"objective": Objective(kl_coefficient=0.5, kl_place="reward", kl_estimator="k1")}
    )
    # k1: (-.5 + .75) + (-1 + .5) = -.25
    assert rewards_of(rows, config=config).tolist() == pytest.approx([1 + 0.125])
    squared = config.model_copy(
        update={"objective": Objective(kl_coefficient=0.5, kl_place="reward", kl_estimator="k2")}
    )
    assert rewards_of(rows, config=squared).tolist() == pytest.approx([1 - 0.5 * (0.25**2 + 0.5**2) / 2])


@pytest.mark.parametrize(("longest", "share"), [(3, 0.2), (7, 0.3), (12, 0.7), (48, 0.1), (20_480, 0.2)])
def test_the_longest_response_loses_exactly_one(longest: int, share: float) -> None:
    assert overlong_penalty(np.array([longest]), longest=longest, share=share).tolist() == [1.0]


def test_a_response_that_is_not_finished_is_not_compared_with_a_reference_that_was_not_asked() -> None:
    rows = rollouts(
        [
            {"sample": 0, "num_tokens": 2, "status": "correct", "reference_logprobs": [-0.75, -0.5]},
            {"sample": 1, "num_tokens": 5, "status": "unfinished"},
            {"sample": 2, "num_tokens": 1, "status": "expired"},
        ]
    )
    objective = Objective(kl_coefficient=0.5, kl_place="reward", kl_estimator="k1")
    found = rewards_of(rows, config=arm_config().model_copy(update={"objective": objective}))
    assert found[:1].tolist() == pytest.approx([1 + 0.125])
    assert np.isnan(found[1:]).all()
