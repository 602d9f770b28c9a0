"""The choice of tokens: C3PO's budget (eq. 2, Fig. 3, eq. 3) and GRPO's weights (eq. 1)."""

import pytest

from stages.config import C3po, Grpo
from stages.rl.selection import Response, choose_shares, tokens_per_step


def response(group: int, sample: int, num_tokens: int, advantage: float = 1.0, *, judged: bool = True) -> Response:
    return Response(group, sample, num_tokens, advantage, judged)


def c3po(budget: int, cut: str = "token") -> C3po:
    return C3po(token_budget=budget, scope="global", cut=cut)


TWO_GROUPS = [response(group, sample, 10) for group in (0, 1) for sample in (0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_the_token_cut_uses_exactly_the_budget(seed: int) -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(25), seed=seed)
    assert sorted(share.kept_tokens for share in shares.values()) == [5, 10, 10]
    assert {share.weight for share in shares.values()} == {1 / 25}


@pytest.mark.parametrize("seed", range(20))
def test_the_response_cut_keeps_the_last_one_whole(seed: int) -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(25, "response"), seed=seed)
    assert [share.kept_tokens for share in shares.values()] == [10, 10, 10]
    assert {share.weight for share in shares.values()} == {1 / 25}


def test_selection_stops_when_the_tokens_first_reach_the_budget() -> None:
    for cut in ("token", "response"):
        shares = choose_shares(TWO_GROUPS, objective=c3po(20, cut), seed=0)
        assert [share.kept_tokens for share in shares.values()] == [10, 10]


def test_a_step_with_fewer_tokens_uses_all_and_still_weighs_one_over_phi() -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(100), seed=0)
    assert sum(share.kept_tokens for share in shares.values()) == 40
    assert {share.weight for share in shares.values()} == {1 / 100}


@pytest.mark.parametrize("seed", range(20))
def test_groups_without_any_advantage_come_last(seed: int) -> None:
    flat = [response(0, sample, 10, advantage=0.0) for sample in (0, 1)]
    live = [response(1, sample, 10, advantage=sample - 0.5) for sample in (0, 1)]
    shares = choose_shares(flat + live, objective=c3po(20), seed=seed)
    assert set(shares) == {(1, 0), (1, 1)}


def test_a_zero_in_a_live_group_is_no_reason_to_wait() -> None:
    live = [response(0, 0, 10, advantage=0.0), response(0, 1, 10, advantage=1.0)]
    shares = choose_shares(live, objective=c3po(10), seed=0)
    assert set(shares) == {(0, 0)}


def test_the_order_of_prompts_is_random_but_seeded() -> None:
    groups = [response(group, 0, 10) for group in range(8)]
    first = {tuple(choose_shares(groups, objective=c3po(20), seed=seed)) for seed in range(10)}
    assert len(first) > 3
    assert choose_shares(groups, objective=c3po(20), seed=4) == choose_shares(groups, objective=c3po(20), seed=4)


def test_the_choice_does_not_depend_on_which_rank_brought_a_response() -> None:
    dealt = TWO_GROUPS[::2] + TWO_GROUPS[1::2]
    assert choose_shares(dealt, objective=c3po(25), seed=7) == choose_shares(TWO_GROUPS, objective=c3po(25), seed=7)


def test_responses_that_the_judge_failed_on_take_no_part() -> None:
    mixed = [response(0, 0, 10), response(0, 1, 10, judged=False)]
    for objective in (c3po(100), Grpo()):
        assert set(choose_shares(mixed, objective=objective, seed=0)) == {(0, 0)}


def test_a_budget_per_rank_is_multiplied_by_the_papers_ranks() -> None:
    assert tokens_per_step(C3po()) == 409_600 * 256 == 512 * 16 * 12_800
    assert tokens_per_step(c3po(400)) == 400
    assert tokens_per_step(Grpo()) is None


def test_grpo_weighs_a_token_by_its_responses_length() -> None:
    shares = choose_shares([response(0, 0, 4), response(0, 1, 20)], objective=Grpo(), seed=0)
    assert shares[0, 0].weight == 1 / 8
    assert shares[0, 1].weight == 1 / 40
    assert [share.kept_tokens for share in shares.values()] == [4, 20]
