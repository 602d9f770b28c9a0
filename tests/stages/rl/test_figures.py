"""What a step's rows say, by hand on small tables."""

import zlib

import pytest

from stages.config import Objective, RlConfig
from stages.rl.figures import compressibility, step_figures
from stages.rl.progress import Progress
from tests.stages.conftest import arm_config
from tests.stages.rl.scripted import rollouts


def config_of(**values: object) -> RlConfig:
    return arm_config(**{"samples_per_prompt": 2, **values})


TWO_RANKS = Objective(token_budget=10, budget_scope="rank", budget_ranks=2)
# Group 0 is live, on virtual rank 0; group 1 has equal rewards, on rank 1; in group 2, on rank 0, the judge failed once, which leaves one
# verdict and so no advantage.
ROWS = rollouts(
    [
        {"group": 0, "sample": 0, "domain": "math", "status": "correct", "num_tokens": 5, "kept_tokens": 5, "entropy": 1.0},
        {"group": 0, "sample": 1, "domain": "math", "num_tokens": 3, "kept_tokens": 3, "entropy": 0.5, "truncated": True},
        {"group": 1, "sample": 0, "domain": "code", "budget_rank": 1, "num_tokens": 4, "kept_tokens": 4, "weak": True},
        {"group": 1, "sample": 1, "domain": "code", "budget_rank": 1, "num_tokens": 2, "kept_tokens": 2, "checker_failed": True},
        {"group": 2, "sample": 0, "domain": "math", "status": "correct", "num_tokens": 6, "kept_tokens": 2, "entropy": 0.75},
        {"group": 2, "sample": 1, "domain": "math", "status": "bad_gold", "num_tokens": 20, "score": 1.0, "entropy": 0.0},
    ]
)  # fmt: skip


def test_rewards_are_means_of_the_verdicts_that_count_of_all_and_by_domain() -> None:
    figures = step_figures(ROWS, config=config_of())
    assert figures["reward/mean"] == pytest.approx(2 / 5)
    assert figures["reward/math"] == pytest.approx(2 / 3)
    assert figures["reward/code"] == 0.0
    assert "reward/science" not in figures


def test_a_domain_on_which_no_verdict_counts_has_no_reward() -> None:
    failed = rollouts(
        [
            {"sample": 0, "domain": "math", "status": "correct"},
            {"sample": 1, "domain": "code", "status": "judge_error"},
        ]
    )
    figures = step_figures(failed, config=config_of())
    assert {name for name in figures if name.startswith("reward/")} == {"reward/mean", "reward/math"}
    none = rollouts([{"sample": number, "status": "judge_error"} for number in (0, 1)])
    assert not [name for name in step_figures(none, config=config_of()) if name.startswith("reward/")]


def test_partial_credit_counts_as_far_as_it_goes() -> None:
    rows = rollouts([{"sample": 0, "score": 0.25}, {"sample": 1, "score": 0.5}])
    assert step_figures(rows, config=config_of())["reward/mean"] == pytest.approx(0.375)


def test_lengths_entropy_and_failures_are_over_all_responses() -> None:
    figures = step_figures(ROWS, config=config_of())
    assert figures["response/count"] == 6.0
    assert figures["response/mean_tokens"] == pytest.approx(40 / 6)
    assert figures["response/truncated_share"] == pytest.approx(1 / 6)
    # by tokens: (5 x 1 + 3 x 0.5 + (4 + 2) x 0.25 + 6 x 0.75) / 40
    assert figures["policy/entropy"] == pytest.approx(12.5 / 40)
    assert figures["judge/failures"] == 1.0
    assert figures["judge/checker_failures"] == 1.0
    assert figures["judge/weak"] == 1.0


def test_lengths_have_a_spread_and_a_longest_hundredth() -> None:
    lengths = rollouts(
        [{"sample": number, "num_tokens": tokens} for number, tokens in enumerate((2, 4, 4, 4, 5, 5, 7, 9))]
    )
    figures = step_figures(lengths, config=config_of(samples_per_prompt=8))
    assert figures["response/std_tokens"] == pytest.approx(
        2.0
    )  # squares of the distances from 5: 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 8 x 4
    # place .99 x 7 = 6.93 of the sorted, counted from 0: 7 + .93 x (9 - 7)
    assert figures["response/p99_tokens"] == pytest.approx(8.86)


def test_a_text_that_repeats_itself_is_compressed_and_a_short_or_empty_one_counts_as_1() -> None:
    text = "x = 4 . " * 40
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)  # without header and trailer
    size = len(deflate.compress(text.encode()) + deflate.flush())
    assert size < 20
    assert compressibility([text]) == pytest.approx(size / 320)
    assert compressibility(["7"]) == compressibility([""]) == 1.0  # a byte becomes three
    assert compressibility([text, "7"]) == pytest.approx((size / 320 + 1.0) / 2)
    assert step_figures(ROWS, config=config_of())["response/compressibility"] == 1.0  # of "text"


def test_a_budget_says_how_full_it_is_and_how_much_of_it_carries_a_policy_gradient() -> None:
    figures = step_figures(ROWS, config=config_of(objective=TWO_RANKS))
    assert figures["budget/tokens_used"] == 16.0
    assert figures["budget/fill"] == 16 / 20
    assert figures["budget/tokens_missing"] == 4.0
    assert figures["budget/informative_share"] == (5 + 3) / 20  # kept tokens of group 0
    assert figures["budget/tokens_informative"] == 8.0
    assert figures["budget/underfilled_ranks"] == 2.0  # 8 of 10, and none of 10
    assert figures["group/asked"] == 3.0
    assert figures["group/zero_advantage_share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("budget", "underfilled"), [(8, 1.0), (9, 2.0)])
def test_a_rank_is_underfilled_below_its_budget_of_informative_tokens(budget: int, underfilled: float) -> None:
    objective = Objective(token_budget=budget, budget_scope="rank", budget_ranks=2)
    assert step_figures(ROWS, config=config_of(objective=objective))["budget/underfilled_ranks"] == underfilled


def test_informative_tokens_are_there_whether_they_are_kept_or_not() -> None:
    rows = rollouts(
        [
            {"sample": 0, "status": "correct", "num_tokens": 7, "kept_tokens": 2},
            {"sample": 1, "num_tokens": 4, "kept_tokens": 0},
        ]
    )
    figures = step_figures(rows, config=config_of(objective=Objective(token_budget=2, budget_scope="global")))
    assert figures["budget/tokens_informative"] == 11.0
    assert figures["budget/informative_share"] == figures["budget/fill"] == 1.0
    assert figures["budget/tokens_missing"] == figures["budget/underfilled_ranks"] == 0.0


def test_the_last_response_of_a_live_group_on_which_the_judge_failed_is_not_informative() -> None:
    rows = rollouts(
        [
            {"sample": 0, "status": "correct", "num_tokens": 7},
            {"sample": 1, "num_tokens": 4},
            {"sample": 2, "status": "judge_error", "num_tokens": 100},
        ]
    )
    assert step_figures(rows, config=config_of(samples_per_prompt=3))["budget/tokens_informative"] == 11.0


def test_a_whole_response_past_the_budget_leaves_nothing_missing() -> None:
    rows = rollouts(
        [
            {"sample": 0, "status": "correct", "num_tokens": 7, "kept_tokens": 7},
            {"sample": 1, "num_tokens": 7, "kept_tokens": 7},
        ]
    )
    figures = step_figures(
        rows, config=config_of(objective=Objective(token_budget=10, budget_scope="global", budget_mode="reach"))
    )
    assert figures["budget/fill"] == 1.4
    assert figures["budget/tokens_missing"] == 0.0


def test_an_objective_without_a_budget_has_no_fill() -> None:
    figures = step_figures(ROWS, config=config_of(objective=Objective(kind="grpo")))
    assert {name for name in figures if name.startswith(("budget/", "group/"))} == {
        "budget/tokens_used",
        "budget/tokens_informative",
        "group/asked",
        "group/zero_advantage_share",
    }
    assert figures["budget/tokens_used"] == 16.0


# ---------------------------------------------------------------- carried and in the making

# Step 3. Group 0 was carried over; group 1 is new; group 2, asked in step 2, is in the making, one of it was given up; group 3 is complete
# since this step without one that was given up.
MIXED = rollouts(
    [
        {"step": 3, "group": 0, "sample": 0, "born_step": 2, "new_tokens": 0, "status": "correct", "num_tokens": 50,
         "advantage": 1.0, "kept_tokens": 50, "entropy": 9.0, "truncated": True},
        {"step": 3, "group": 1, "sample": 0, "status": "correct", "num_tokens": 5, "kept_tokens": 5, "entropy": 1.0},
        {"step": 3, "group": 1, "sample": 1, "num_tokens": 3, "kept_tokens": 3, "entropy": 0.5, "truncated": True},
        {"step": 3, "group": 2, "sample": 0, "born_step": 0, "status": "unfinished", "num_tokens": 70, "new_tokens": 8},
        {"step": 3, "group": 2, "sample": 1, "born_step": 0, "status": "expired", "num_tokens": 60, "new_tokens": 0},
        {"step": 3, "group": 3, "sample": 0, "num_tokens": 4, "new_tokens": 1, "kept_tokens": 4, "entropy": 0.75},
        {"step": 3, "group": 3, "sample": 1, "status": "expired", "num_tokens": 90, "new_tokens": 0, "entropy": 9.0},
    ]
)  # fmt: skip
BUDGET = Objective(token_budget=70, budget_scope="global")


def test_rewards_lengths_and_entropy_are_of_newborn_responses_alone() -> None:
    figures = step_figures(MIXED, config=config_of(objective=BUDGET))
    assert figures["response/count"] == 3.0
    assert figures["reward/mean"] == pytest.approx(1 / 3)
    assert figures["response/mean_tokens"] == pytest.approx((5 + 3 + 4) / 3)
    assert figures["response/truncated_share"] == pytest.approx(1 / 3)
    assert figures["policy/entropy"] == pytest.approx((5 + 1.5 + 3) / 12)


def test_tokens_are_counted_in_the_step_that_drew_them() -> None:
    # 5 + 3 of group 1, 8 of the one that goes on, 1 of the one that was finished
    assert step_figures(MIXED, config=config_of(objective=BUDGET))["response/new_tokens"] == 17.0


def test_a_budget_counts_carried_rows_and_nothing_of_what_goes_on() -> None:
    figures = step_figures(MIXED, config=config_of(objective=BUDGET))
    assert figures["budget/tokens_used"] == 62.0
    assert figures["budget/tokens_missing"] == 8.0
    assert figures["budget/tokens_carried"] == 50.0
    assert figures["budget/tokens_informative"] == 50.0 + 5.0 + 3.0
    assert figures["group/asked"] == 2.0  # that are complete since this step
    assert figures["group/zero_advantage_share"] == 0.5


def test_what_goes_on_is_counted_in_every_step_and_what_was_given_up_once_with_its_group() -> None:
    figures = step_figures(MIXED, config=config_of(objective=BUDGET))
    assert (figures["partial/unfinished"], figures["partial/expired"]) == (1.0, 1.0)
    assert not [name for name in step_figures(ROWS, config=config_of()) if name.startswith("partial/")]


def test_a_step_without_a_newborn_response_has_no_figure_of_one() -> None:
    config = config_of(objective=BUDGET)
    figures = step_figures(MIXED.slice(0, 1), config=config)
    assert (figures["response/count"], figures["response/new_tokens"], figures["group/asked"]) == (0.0, 0.0, 0.0)
    assert figures["budget/tokens_used"] == figures["budget/tokens_carried"] == 50.0
    none = {"response/mean_tokens", "response/truncated_share", "policy/entropy", "group/zero_advantage_share"}
    assert none.isdisjoint(figures)
    progress = Progress()
    progress.count(3, "one", figures)
    assert (progress.tokens_trained, progress.phases["one"]["last_entropy"]) == (50, None)
