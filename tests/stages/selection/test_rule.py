"""The choice of a checkpoint, worked by hand: each rule on the same records."""

import math
from typing import get_args

import pytest

from stages.config import SelectionConfig, SelectionRule
from stages.selection.rule import (
    RULES,
    Candidate,
    NoChoiceError,
    by_entropy_window,
    by_pass_at_k,
    by_validation_loss,
    choose,
    is_inside,
)

WINDOW = (0.3, 0.5)


def candidate(epoch: int, entropy: float, pass_at_1: float, *, pass_at_k: float = 0.5, loss: float = 1.0) -> Candidate:
    return Candidate(
        f"epoch-{epoch:02d}",
        entropy=entropy,
        pass_at_1=pass_at_1,
        pass_at_k=pass_at_k,
        greedy=0.0,
        mean_tokens=1.0,
        validation_loss=loss,
    )


# ---------------------------------------------------------------- entropy-window


def test_the_best_pass_at_1_inside_the_window_wins_over_a_better_one_outside() -> None:
    candidates = [candidate(1, 0.60, 0.1), candidate(2, 0.45, 0.3), candidate(3, 0.35, 0.4), candidate(4, 0.20, 0.9)]
    choice = by_entropy_window(candidates, window=WINDOW)
    assert choice.checkpoint == "epoch-03"
    assert not choice.is_makeshift


def test_both_ends_belong_to_the_window() -> None:
    assert by_entropy_window([candidate(1, 0.5, 0.2), candidate(2, 0.1, 0.9)], window=WINDOW).checkpoint == "epoch-01"
    assert by_entropy_window([candidate(1, 0.9, 0.9), candidate(2, 0.3, 0.1)], window=WINDOW).checkpoint == "epoch-02"
    inside = [is_inside(candidate(1, entropy, 0.5), WINDOW) for entropy in (0.29, 0.3, 0.4, 0.5, 0.51)]
    assert inside == [False, True, True, True, False]


def test_a_tie_in_pass_at_1_goes_to_the_earlier_epoch() -> None:
    assert by_entropy_window([candidate(1, 0.48, 0.4), candidate(2, 0.31, 0.4)], window=WINDOW).checkpoint == "epoch-01"


@pytest.mark.parametrize(
    ("entropies", "nearest"), [((1.0, 0.75, 0.0), 2), ((0.125, 0.0), 1), ((0.75, 0.0), 1), ((0.0, 0.75), 1)]
)
def test_outside_the_window_the_nearest_is_taken_and_the_reason_says_so_loudly(
    entropies: tuple[float, ...], nearest: int
) -> None:
    candidates = [candidate(index + 1, entropy, 0.5) for index, entropy in enumerate(entropies)]
    choice = by_entropy_window(candidates, window=(0.25, 0.5))
    assert choice.checkpoint == f"epoch-{nearest:02d}"
    assert choice.is_makeshift
    assert "NO CHECKPOINT INSIDE THE WINDOW" in choice.why


@pytest.mark.parametrize(
    ("entropies", "advice"),
    [
        ((1.0, 0.75), "train longer"),
        ((0.75, 0.2), "keep more checkpoints (sft.training.checkpoints_per_epoch)"),
        ((0.2, 0.1), "keep more checkpoints (sft.training.checkpoints_per_epoch)"),
    ],
)
def test_who_ended_above_the_window_should_train_longer_and_who_went_past_it_keep_more(
    entropies: tuple[float, ...], advice: str
) -> None:
    candidates = [candidate(index + 1, entropy, 0.5) for index, entropy in enumerate(entropies)]
    assert by_entropy_window(candidates, window=WINDOW).why.endswith(f"{advice} or move selection.entropy_window")


def test_the_reason_says_of_what_the_chosen_one_is_the_best() -> None:
    candidates = [candidate(1, 0.75, 0.9), candidate(2, 0.45, 0.25), candidate(3, 0.35, 0.5)]
    several = by_entropy_window(candidates, window=WINDOW).why
    one = by_entropy_window(candidates[:2], window=WINDOW).why
    assert several == "best pass@1 (0.500) among the 2 checkpoints with an entropy in [0.3, 0.5]; its own is 0.350"
    assert one == "pass@1 0.250, as the only checkpoint with an entropy in [0.3, 0.5]; its own is 0.450"


# ---------------------------------------------------------------- highest-pass@k


def test_the_highest_pass_at_k_wins_whatever_entropy_and_pass_at_1_say() -> None:
    candidates = [
        candidate(1, 0.40, 0.9, pass_at_k=0.90),
        candidate(2, 0.90, 0.1, pass_at_k=0.95),
        candidate(3, 0.01, 0.5, pass_at_k=0.85),
    ]
    choice = by_pass_at_k(candidates, k=4)
    assert (choice.checkpoint, choice.why) == ("epoch-02", "highest pass@4 (0.950) of the 3 checkpoints")
    assert by_pass_at_k(candidates[:1], k=4).why == "highest pass@4 (0.900) as the only checkpoint"


def test_a_tie_in_pass_at_k_goes_to_the_earlier_epoch() -> None:
    values = (0.25, 0.75, 0.75)
    candidates = [candidate(epoch, 0.4, 0.5, pass_at_k=value) for epoch, value in enumerate(values, start=1)]
    assert by_pass_at_k(candidates, k=2).checkpoint == "epoch-02"


def test_a_checkpoint_without_a_pass_at_k_is_named_and_nothing_chosen() -> None:
    candidates = [candidate(1, 0.4, 0.5, pass_at_k=0.5), candidate(2, 0.4, 0.5, pass_at_k=math.nan)]
    with pytest.raises(NoChoiceError, match=r"no probe problem has 2 judged responses of epoch-02, .* judge"):
        by_pass_at_k(candidates, k=2)


# ---------------------------------------------------------------- validation-loss


def test_the_lowest_validation_loss_wins_and_a_tie_goes_to_the_earlier_epoch() -> None:
    choice = by_validation_loss({"epoch-01": 0.22, "epoch-02": 0.164, "epoch-03": 0.164, "mean-of-last-2": 0.198})
    assert choice.checkpoint == "epoch-02"
    assert choice.why == "lowest validation loss (0.164 nats per token) of the 4 checkpoints"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_checkpoint_without_a_validation_loss_is_named_with_what_to_do(missing: float | None) -> None:
    with pytest.raises(
        ValueError,
        match=rf"no validation loss to go by for epoch-02 \({missing}\): give curation a source for the split",
    ):
        by_validation_loss({"epoch-01": 0.25, "epoch-02": missing})


# ---------------------------------------------------------------- by name

CANDIDATES = [
    candidate(1, 0.40, 0.2, pass_at_k=0.3, loss=1.2),
    candidate(2, 0.20, 0.3, pass_at_k=0.6, loss=1.1),
    candidate(3, 0.10, 0.4, pass_at_k=0.5, loss=1.0),
]


@pytest.mark.parametrize(
    ("rule", "checkpoint"),
    [("entropy-window", "epoch-01"), ("highest-pass@k", "epoch-02"), ("validation-loss", "epoch-03")],
)
def test_the_same_records_are_chosen_from_by_the_rule_of_that_name(rule: SelectionRule, checkpoint: str) -> None:
    assert choose(CANDIDATES, SelectionConfig(rule=rule)).checkpoint == checkpoint


def test_every_rule_that_a_recipe_may_name_is_there_and_the_papers_is_the_default() -> None:
    assert set(RULES) == set(get_args(SelectionRule))
    assert choose(CANDIDATES, SelectionConfig()) == choose(CANDIDATES, SelectionConfig(rule="entropy-window"))
    assert choose(CANDIDATES, SelectionConfig(entropy_window=(0.15, 0.25))).checkpoint == "epoch-02"


def test_pass_at_k_is_of_as_many_samples_as_a_probe_problem_has() -> None:
    config = SelectionConfig(rule="highest-pass@k", samples_per_problem=8)
    assert choose(CANDIDATES, config).why == "highest pass@8 (0.600) of the 3 checkpoints"


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        choose([], SelectionConfig())
