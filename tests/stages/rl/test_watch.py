"""What each rule reads of a ledger and what follows from it, by hand."""

import math
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from stages.config import Plateau, WatchKind, WatchRule
from stages.rl.watch import RULES, Reading, at_plateau, decide, find, rows_needed


def rule(kind: str = "entropy_floor", limit: float = 0.5, **values: Any) -> WatchRule:
    return WatchRule.model_validate({"kind": kind, "limit": limit, "window": 2, **values})


def ledger(name: str, *values: float | None, phase: str = "one", first: int = 1) -> list[dict[str, Any]]:
    """Rows of steps.jsonl with one value, or without it."""
    return [
        {"step": step, "phase": phase, **({} if value is None else {name: value})}
        for step, value in enumerate(values, start=first)
    ]


def read(kind: str, rows: list[dict[str, Any]], *, window: int = 2) -> Reading | None:
    return RULES[kind].read(rows, window)


# ---------------------------------------------------------------- what a rule reads


def test_every_kind_of_the_recipe_has_a_rule() -> None:
    assert set(RULES) == set(get_args(WatchKind))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("entropy_floor", "policy/entropy"),
        ("zero_advantage_share", "group/zero_advantage_share"),
        ("repetition", "response/compressibility"),
        ("truncated_share", "response/truncated_share"),
        ("mismatch", "mismatch/mean_abs_difference"),
    ],
)
def test_a_mean_is_over_the_last_steps_and_speaks_of_all_of_them(kind: str, name: str) -> None:
    assert read(kind, ledger(name, 0.75, 0.25, 0.5)) == Reading(0.375, since=2)
    assert read(kind, ledger(name, 0.75, 0.25, 0.5), window=3) == Reading(0.5, since=1)


def test_entropy_and_compressibility_are_past_their_limits_below_them_and_the_others_above() -> None:
    assert {name for name, kind in RULES.items() if kind.is_floor} == {"entropy_floor", "repetition"}
    low, high = ledger("policy/entropy", 0.25, 0.25), ledger("response/truncated_share", 0.75, 0.75)
    assert find(rule("entropy_floor", 0.5), low) is not None
    assert find(rule("entropy_floor", 0.125), low) is None
    assert find(rule("truncated_share", 0.5), high) is not None
    assert find(rule("truncated_share", 0.875), high) is None


def test_a_value_at_its_limit_is_not_past_it() -> None:
    assert find(rule("entropy_floor", 0.25), ledger("policy/entropy", 0.25, 0.25)) is None
    assert find(rule("truncated_share", 0.75), ledger("response/truncated_share", 0.75, 0.75)) is None


def test_the_variance_of_lengths_is_over_the_square_of_their_mean() -> None:
    rows = [
        {"step": step, "phase": "one", "response/std_tokens": std, "response/mean_tokens": mean}
        for step, (std, mean) in enumerate([(9.0, 1.0), (5.0, 10.0), (2.0, 8.0)], start=1)
    ]
    assert read("length_variance", rows) == Reading((0.25 + 0.0625) / 2, since=2)


def test_judge_failures_are_a_share_of_the_responses_of_the_window() -> None:
    rows = [
        {"step": step, "phase": "one", "judge/failures": failures, "response/count": count}
        for step, (failures, count) in enumerate([(8.0, 8.0), (1.0, 8.0), (3.0, 24.0)], start=1)
    ]
    assert read("judge_failures", rows) == Reading(4 / 32, since=2)
    nobody = [{"step": step, "phase": "one", "judge/failures": 0.0, "response/count": 0.0} for step in (1, 2)]
    assert read("judge_failures", nobody) is None


def test_a_gradient_norm_is_in_standard_deviations_of_the_logarithms_before_it() -> None:
    # Logarithms 1, 2, 3: mean 2, standard deviation (n - 1) 1. The last is 5, which is 3 above the mean.
    norms = [math.exp(7), math.exp(1), math.exp(2), math.exp(3), math.exp(5)]
    reading = read("gradient_norm", ledger("train/gradient_norm", *norms), window=3)
    assert reading is not None
    assert reading.value == pytest.approx(3.0)
    assert reading.since == 5
    assert read("gradient_norm", ledger("train/gradient_norm", *norms[1:4]), window=3) is None


def test_equal_norms_have_the_least_spread_of_a_hundredth() -> None:
    reading = read("gradient_norm", ledger("train/gradient_norm", 1.0, 1.0, math.exp(0.02)))
    assert reading is not None
    assert reading.value == pytest.approx(2.0)


def test_a_norm_of_zero_has_no_logarithm_and_counts_as_none() -> None:
    norms = [math.exp(1), math.exp(3), 0.0, math.exp(2)]
    reading = read("gradient_norm", ledger("train/gradient_norm", *norms))
    assert reading is not None
    assert reading.value == pytest.approx(0.0)
    assert read("gradient_norm", ledger("train/gradient_norm", *norms[:3])) is None


# ---------------------------------------------------------------- which rows


def test_with_fewer_steps_than_the_window_a_rule_says_nothing() -> None:
    assert read("entropy_floor", []) is None
    assert read("entropy_floor", ledger("policy/entropy", 0.25)) is None


def test_a_window_lies_within_a_phase() -> None:
    rows = ledger("policy/entropy", 0.0, 0.0) + ledger("policy/entropy", 0.25, 0.75, phase="two", first=3)
    assert read("entropy_floor", rows[:3]) is None
    assert read("entropy_floor", rows) == Reading(0.5, since=3)
    assert read("entropy_floor", rows, window=3) is None


def test_a_step_without_the_value_is_passed_over_and_as_the_last_one_says_nothing() -> None:
    rows = ledger("mismatch/mean_abs_difference", 0.5, None, 0.25, None)
    assert read("mismatch", rows[:3]) == Reading(0.375, since=1)
    assert read("mismatch", rows) is None


@pytest.mark.parametrize(
    ("kind", "name"), [("entropy_floor", "policy/entropy"), ("gradient_norm", "train/gradient_norm")]
)
def test_the_rows_that_are_needed_decide_as_the_whole_ledger_does(kind: str, name: str) -> None:
    rows = ledger(name, *(float(1 + step * step % 7) for step in range(20)))
    rules = [rule(kind, limit=limit, window=3) for limit in (0.1, 1.0, 2.0, 3.0)]
    assert rows_needed(rules) == 5
    assert any(decide(rows[:count], rules).warnings for count in range(21))
    for count in range(21):
        assert decide(rows[:count][-5:], rules) == decide(rows[:count], rules)


# ---------------------------------------------------------------- what follows


def test_a_warning_is_given_once_a_streak() -> None:
    rows = ledger("policy/entropy", 0.25, 0.25, 0.25, 1.0, 1.0, 0.0, 0.0)
    told = [bool(decide(rows[:count], [rule()]).warnings) for count in range(1, 8)]
    # means of two:          -     .25    .25   .625   1      .5     0
    assert told == [False, True, False, False, False, False, True]


def test_a_stop_goes_before_a_roll_back_and_warnings_are_given_beside() -> None:
    rows = ledger("policy/entropy", 0.25, 0.25)
    back, stop, warn = (rule(action=action) for action in ("roll_back", "stop", "warn"))
    decision = decide(rows, [back, stop, warn])
    assert [finding.rule for finding in decision.warnings] == [warn]
    assert decision.ends is not None and decision.ends.rule == stop
    ends = decide(rows, [rule(limit=0.1, action="roll_back"), back, rule(limit=0.4, action="roll_back")]).ends
    assert ends is not None and ends.rule == back


def test_a_stop_and_a_roll_back_are_no_matter_of_streaks() -> None:
    rows = ledger("policy/entropy", 0.25, 0.25, 0.25)
    assert decide(rows, [rule(action="stop")]).ends is not None


def test_a_ledger_within_its_limits_has_no_consequence() -> None:
    decision = decide(ledger("policy/entropy", 1.0, 1.0), [rule(), rule(action="stop")])
    assert (decision.warnings, decision.ends) == ((), None)


def test_a_finding_says_value_window_and_limit() -> None:
    low = find(rule("entropy_floor", 0.5), ledger("policy/entropy", 0.25, 0.125))
    assert low is not None
    assert low.words == "entropy_floor is 0.1875 over 2 steps, below its limit of 0.5"
    assert low.row == {"rule": "entropy_floor", "value": 0.1875, "limit": 0.5, "window": 2, "since": 1}
    high = find(rule("gradient_norm", 1.5), ledger("train/gradient_norm", 1.0, 1.0, math.exp(0.02)))
    assert high is not None
    assert high.words == "gradient_norm is 2 against the 2 steps before, above its limit of 1.5"


def test_one_step_has_no_spread_to_compare_a_norm_with() -> None:
    with pytest.raises(ValidationError, match="window = 1 of a rule gradient_norm must be at least 2"):
        rule("gradient_norm", window=1)
    assert rule("entropy_floor", window=1).window == 1


# ---------------------------------------------------------------- the probe's curve


@pytest.mark.parametrize(
    ("scores", "flat"),
    [
        ((), False),
        ((0.5,), False),
        ((0.5, 0.5), False),  # two are needed after the first
        ((0.5, 0.5, 0.5), True),
        ((0.5, 0.5, 0.75), False),
        ((0.5, 0.75, 0.5), False),  # the gain is among the last two
        ((0.5, 0.75, 0.5, 0.75), True),
        ((0.5, 0.6, 0.5, 0.7), False),  # .7 is .1 above .6
        ((0.5, 0.6, 0.5, 0.69), True),
    ],
)
def test_a_curve_is_flat_when_its_last_scores_gain_too_little_over_the_best_before(scores, flat: bool) -> None:
    assert at_plateau(scores, Plateau(patience=2, min_gain=0.09999)) is flat
