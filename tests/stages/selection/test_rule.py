"""The choice of a checkpoint, worked by hand."""

import pytest

from stages.selection.rule import Candidate, choose


def candidate(epoch: int, entropy: float, pass_at_1: float) -> Candidate:
    return Candidate(f"epoch-{epoch:02d}", entropy=entropy, pass_at_1=pass_at_1, greedy=0.0, mean_tokens=1.0)


def test_the_best_pass_at_1_inside_the_window_wins_over_a_better_one_outside() -> None:
    candidates = [candidate(1, 0.60, 0.1), candidate(2, 0.45, 0.3), candidate(3, 0.35, 0.4), candidate(4, 0.20, 0.9)]
    choice = choose(candidates, window=(0.3, 0.5))
    assert choice.checkpoint == "epoch-03"
    assert choice.inside_window


def test_both_ends_belong_to_the_window() -> None:
    assert choose([candidate(1, 0.5, 0.2), candidate(2, 0.1, 0.9)], window=(0.3, 0.5)).checkpoint == "epoch-01"
    assert choose([candidate(1, 0.9, 0.9), candidate(2, 0.3, 0.1)], window=(0.3, 0.5)).checkpoint == "epoch-02"


def test_a_tie_in_pass_at_1_goes_to_the_earlier_epoch() -> None:
    assert choose([candidate(1, 0.48, 0.4), candidate(2, 0.31, 0.4)], window=(0.3, 0.5)).checkpoint == "epoch-01"


@pytest.mark.parametrize(
    ("entropies", "nearest"), [((1.0, 0.75, 0.0), 2), ((0.125, 0.0), 1), ((0.75, 0.0), 1), ((0.0, 0.75), 1)]
)
def test_outside_the_window_the_nearest_is_taken_and_the_reason_says_so_loudly(
    entropies: tuple[float, ...], nearest: int
) -> None:
    choice = choose([candidate(index + 1, entropy, 0.5) for index, entropy in enumerate(entropies)], window=(0.25, 0.5))
    assert choice.checkpoint == f"epoch-{nearest:02d}"
    assert not choice.inside_window
    assert "NO CHECKPOINT INSIDE THE WINDOW" in choice.why


def test_the_reason_says_of_what_the_chosen_one_is_the_best() -> None:
    candidates = [candidate(1, 0.75, 0.9), candidate(2, 0.45, 0.25), candidate(3, 0.35, 0.5)]
    several, one = choose(candidates, window=(0.3, 0.5)).why, choose(candidates[:2], window=(0.3, 0.5)).why
    assert several == "best pass@1 (0.500) among the 2 checkpoints with an entropy in [0.3, 0.5]; its own is 0.350"
    assert one == "pass@1 0.250, as the only checkpoint with an entropy in [0.3, 0.5]; its own is 0.450"


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        choose([], window=(0.3, 0.5))
