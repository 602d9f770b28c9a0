"""Advantages, against numbers worked by hand."""

import numpy as np
import pytest

from stages.config import Objective
from stages.rl.advantages import group_advantages

NAN = float("nan")


def test_one_right_of_four_has_root_three_and_the_others_minus_a_root_third() -> None:
    # mean 1/4, variance (9/16 + 3/16) / 4 = 3/16, std sqrt(3)/4: (3/4) / std = sqrt(3), (-1/4) / std = -1/sqrt(3)
    advantages = group_advantages(np.array([[1.0, 0.0, 0.0, 0.0]]), objective=Objective(advantage_epsilon=1e-12))
    assert advantages == pytest.approx(np.array([[3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)]]))


def test_epsilon_is_added_to_the_standard_deviation() -> None:
    # mean 1/2, std 1/2, epsilon 1/2: (1/2) / 1
    assert group_advantages(np.array([[1.0, 0.0]]), objective=Objective(advantage_epsilon=0.5)).tolist() == [
        [0.5, -0.5]
    ]


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_a_group_of_equal_rewards_has_no_advantage(reward: float) -> None:
    assert group_advantages(np.full((1, 8), reward), objective=Objective(advantage_epsilon=1e-4)).tolist() == [
        [0.0] * 8
    ]


def test_groups_do_not_see_each_other() -> None:
    both = group_advantages(np.array([[1.0, 0.0], [1.0, 1.0]]), objective=Objective(advantage_epsilon=1e-4))
    assert (
        both[0].tolist()
        == group_advantages(np.array([[1.0, 0.0]]), objective=Objective(advantage_epsilon=1e-4))[0].tolist()
    )


def test_a_response_that_the_judge_failed_on_leaves_the_baseline() -> None:
    with_failure = group_advantages(np.array([[1.0, 0.0, NAN, NAN]]), objective=Objective(advantage_epsilon=1e-4))
    without = group_advantages(np.array([[1.0, 0.0]]), objective=Objective(advantage_epsilon=1e-4))
    assert with_failure[0, :2].tolist() == without[0].tolist()
    assert with_failure[0, 2:].tolist() == [0.0, 0.0]


def test_a_group_that_was_never_judged_has_no_advantage() -> None:
    assert group_advantages(np.array([[NAN, NAN]]), objective=Objective(advantage_epsilon=1e-4)).tolist() == [
        [0.0, 0.0]
    ]


def test_without_the_standard_deviation_a_reward_counts_by_its_distance_from_the_mean() -> None:
    # mean 1/4; the failure leaves it
    advantages = group_advantages(np.array([[1.0, 0.0, 0.0, 0.0, NAN]]), objective=Objective(kind="dr_grpo"))
    assert advantages.tolist() == [[0.75, -0.25, -0.25, -0.25, 0.0]]


@pytest.mark.parametrize("advantage", ["standardised", "centred"])
@pytest.mark.parametrize("reward", [0.1, -0.7, 1 / 3])
def test_rounding_makes_no_advantage_of_equal_rewards(reward: float, advantage: str) -> None:
    # .1 + .1 + .1 is not 3 x .1; a penalty may take one score to another's but for the last bit
    objective = Objective.model_validate({"advantage": advantage})
    equal = np.array([[reward] * 3 + [NAN], [reward, reward + 1e-15, reward, reward]])
    assert group_advantages(equal, objective=objective).tolist() == [[0.0] * 4] * 2
    assert group_advantages(np.array([[reward, reward + 1e-6]]), objective=objective).all()
