"""The choice of tokens: C3PO's budget (eq. 2, Fig. 3, eq. 3) and GRPO's weights (eq. 1)."""

import random
from dataclasses import replace
from typing import Any

import pytest

from stages.config import Objective
from stages.rl.selection import (
    Response,
    choose_shares,
    informative_tokens,
    lacking_groups,
    lacking_tokens,
    live_groups,
)


def response(group: int, sample: int, num_tokens: int, advantage: float = 1.0, *, judged: bool = True) -> Response:
    return Response(group, sample, num_tokens, advantage, judged)


def c3po(budget: int, cut: str = "truncate") -> Objective:
    return Objective(token_budget=budget, budget_scope="global", budget_mode=cut)


TWO_GROUPS = [response(group, sample, 10) for group in (0, 1) for sample in (0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_the_token_cut_uses_exactly_the_budget(seed: int) -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(25), longest=100, seed=seed)
    assert sorted(share.kept_tokens for share in shares.values()) == [5, 10, 10]
    assert {share.weight for share in shares.values()} == {1 / 25}


@pytest.mark.parametrize("seed", range(20))
def test_the_response_cut_keeps_the_last_one_whole(seed: int) -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(25, "reach"), longest=100, seed=seed)
    assert [share.kept_tokens for share in shares.values()] == [10, 10, 10]
    assert {share.weight for share in shares.values()} == {1 / 25}


def test_selection_stops_when_the_tokens_first_reach_the_budget() -> None:
    for cut in ("truncate", "reach"):
        shares = choose_shares(TWO_GROUPS, objective=c3po(20, cut), longest=100, seed=0)
        assert [share.kept_tokens for share in shares.values()] == [10, 10]


def test_a_step_with_fewer_tokens_uses_all_and_still_weighs_one_over_phi() -> None:
    shares = choose_shares(TWO_GROUPS, objective=c3po(100), longest=100, seed=0)
    assert sum(share.kept_tokens for share in shares.values()) == 40
    assert {share.weight for share in shares.values()} == {1 / 100}


@pytest.mark.parametrize("seed", range(20))
def test_groups_without_any_advantage_come_last(seed: int) -> None:
    flat = [response(0, sample, 10, advantage=0.0) for sample in (0, 1)]
    live = [response(1, sample, 10, advantage=sample - 0.5) for sample in (0, 1)]
    shares = choose_shares(flat + live, objective=c3po(20), longest=100, seed=seed)
    assert set(shares) == {(1, 0), (1, 1)}


def test_a_zero_in_a_live_group_is_no_reason_to_wait() -> None:
    live = [response(0, 0, 10, advantage=0.0), response(0, 1, 10, advantage=1.0)]
    shares = choose_shares(live, objective=c3po(10), longest=100, seed=0)
    assert set(shares) == {(0, 0)}


def test_the_order_of_prompts_is_random_but_seeded() -> None:
    groups = [response(group, 0, 10) for group in range(8)]
    first = {tuple(choose_shares(groups, objective=c3po(20), longest=100, seed=seed)) for seed in range(10)}
    assert len(first) > 3
    assert choose_shares(groups, objective=c3po(20), longest=100, seed=4) == choose_shares(
        groups, objective=c3po(20), longest=100, seed=4
    )


def test_the_choice_does_not_depend_on_which_rank_brought_a_response() -> None:
    dealt = TWO_GROUPS[::2] + TWO_GROUPS[1::2]
    assert choose_shares(dealt, objective=c3po(25), longest=100, seed=7) == choose_shares(
        TWO_GROUPS, objective=c3po(25), longest=100, seed=7
    )


def test_responses_that_the_judge_failed_on_take_no_part() -> None:
    mixed = [response(0, 0, 10), response(0, 1, 10, judged=False)]
    for objective in (c3po(100), Objective(kind="grpo")):
        assert set(choose_shares(mixed, objective=objective, longest=100, seed=0)) == {(0, 0)}


def test_a_budget_per_rank_is_multiplied_by_the_papers_ranks() -> None:
    assert Objective().tokens_per_update == 409_600 * 256 == 512 * 16 * 12_800
    assert c3po(400).tokens_per_update == 400
    assert per_rank(400, 3).tokens_per_update == 1200
    assert per_rank(400, 3, updates_per_batch=2).tokens_per_step == 2400
    assert Objective(kind="grpo").tokens_per_update is None
    assert Objective(kind="grpo").tokens_per_step is None


def test_grpo_weighs_a_token_by_its_responses_length() -> None:
    shares = choose_shares(
        [response(0, 0, 4), response(0, 1, 20)], objective=Objective(kind="grpo"), longest=100, seed=0
    )
    assert shares[0, 0].weight == 1 / 8
    assert shares[0, 1].weight == 1 / 40
    assert [share.kept_tokens for share in shares.values()] == [4, 20]


# ---------------------------------------------------------------- mode and order

LENGTHS = (10, 4, 9, 7, 3)  # of groups of one response


def in_turn(*lengths: int, **values: Any) -> list[Response]:
    """Groups of one response, in the order in which they were asked."""
    return [Response(group, 0, count, 1.0, judged=True, **values) for group, count in enumerate(lengths)]


def kept_of(step: list[Response], **values: Any) -> dict[int, int]:
    """Tokens by group, in the order of the choice, of a budget of 20 taken as the responses were asked."""
    stated = {"token_budget": 20, "budget_scope": "global", "order": "as_sampled", **values}
    shares = choose_shares(step, objective=Objective(**stated), longest=100, seed=0)
    return {group: share.kept_tokens for (group, _), share in shares.items()}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("truncate", {0: 10, 1: 4, 2: 6}),  # 20: the third is cut to 6 of 9
        ("reach", {0: 10, 1: 4, 2: 9}),  # 23: the third is kept whole
        ("within", {0: 10, 1: 4}),  # 14: the third does not fit, and the shorter ones behind it do not come before it
    ],
)
def test_the_last_response_is_cut_or_kept_or_left_out(mode: str, expected: dict[int, int]) -> None:
    assert kept_of(in_turn(*LENGTHS), budget_mode=mode) == expected


def test_a_response_that_just_fits_is_within() -> None:
    assert kept_of(in_turn(10, 10, 1), budget_mode="within") == {0: 10, 1: 10}
    assert kept_of(in_turn(21, 1), budget_mode="within") == {}


@pytest.mark.parametrize("seed", range(10))
def test_within_never_passes_a_virtual_ranks_budget(seed: int) -> None:
    step, objective = drawn_step(seed, 2), per_rank(30, 2, budget_mode="within")
    shares = choose_shares(step, objective=objective, longest=100, seed=seed)
    assert {share.weight for share in shares.values()} == {1 / 60}
    for rank in (0, 1):
        kept = [one.num_tokens for one in step if one.budget_rank == rank and one.key in shares]
        assert 30 - 9 < sum(kept) <= 30  # none is longer than 9
    assert all(shares[one.key].kept_tokens == one.num_tokens for one in step if one.key in shares)


def test_short_responses_come_first_whatever_their_prompt() -> None:
    assert kept_of(in_turn(*LENGTHS), order="shortest_first") == {4: 3, 1: 4, 3: 7, 2: 6}
    flat = [Response(9, 0, 1, 0.0, judged=True)]  # still behind those with a policy gradient
    assert kept_of([*flat, *in_turn(5, 4)], order="shortest_first") == {1: 4, 0: 5, 9: 1}


def test_shuffled_takes_the_prompts_in_a_drawn_order_and_the_responses_to_each_in_theirs() -> None:
    step = [Response(group, sample, 1, 1.0, judged=True) for group in range(6) for sample in (0, 1)]
    for seed in range(10):
        keys = list(choose_shares(step, objective=c3po(12), longest=100, seed=seed))
        assert [sample for _, sample in keys] == [0, 1] * 6
        order = [group for group, _ in keys[::2]]
        assert order == [group for group, _ in keys[1::2]]
        expected = list(range(6))
        random.Random(seed).shuffle(expected)
        assert order == expected


@pytest.mark.parametrize("order", ["shuffled", "as_sampled", "shortest_first"])
def test_carried_responses_come_before_new_ones_the_oldest_first(order: str) -> None:
    new, old, older = (
        in_turn(1, 1),
        Response(5, 0, 8, 1.0, judged=True, age=1),
        Response(6, 0, 9, -1.0, judged=True, age=2),
    )
    assert list(kept_of([*new, old, older], order=order))[:2] == [6, 5]
    assert kept_of([*new, old, older], order=order, token_budget=12) == {6: 9, 5: 3}


def test_a_carried_response_without_an_advantage_does_not_come_first() -> None:
    zero = Response(5, 0, 8, 0.0, judged=True, age=1)
    assert kept_of([*in_turn(9, 9), zero]) == {0: 9, 1: 9, 5: 2}
    assert kept_of([*in_turn(9, 9), zero], zero_groups="leave_out") == {0: 9, 1: 9}


# ---------------------------------------------------------------- several updates


def updates_of(step: list[Response], objective: Objective, *, seed: int = 0) -> list[dict[tuple[int, int], int]]:
    """By update the tokens that are kept of each response."""
    shares = choose_shares(step, objective=objective, longest=100, seed=seed)
    return [
        {key: share.kept_tokens for key, share in shares.items() if share.update == update}
        for update in range(1, objective.updates_per_batch + 1)
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # 10 + 4 + 6 of 9; what is cut is used up: 7 + 3 + 8 + 2 of 5
        ("truncate", [{0: 10, 1: 4, 2: 6}, {3: 7, 4: 3, 5: 8, 6: 2}]),
        ("reach", [{0: 10, 1: 4, 2: 9}, {3: 7, 4: 3, 5: 8, 6: 5}]),
        ("within", [{0: 10, 1: 4}, {2: 9, 3: 7, 4: 3}]),  # the next begins with the one that did not fit
    ],
)
def test_updates_take_disjoint_choices_of_phi_each_in_greedy_order(mode: str, expected: list) -> None:
    objective = Objective(
        token_budget=20, budget_scope="global", order="as_sampled", budget_mode=mode, updates_per_batch=2
    )
    found = updates_of(in_turn(*LENGTHS, 8, 5, 6), objective)
    assert found == [{(group, 0): tokens for group, tokens in update.items()} for update in expected]


@pytest.mark.parametrize("seed", range(10))
def test_each_update_fills_the_budget_of_each_virtual_rank_and_weighs_a_token_as_one_alone(seed: int) -> None:
    step, objective = drawn_step(seed, 2), per_rank(30, 2, updates_per_batch=3)
    left = {rank: sum(one.num_tokens for one in step if one.judged and one.budget_rank == rank) for rank in (0, 1)}
    ranks = {one.key: one.budget_rank for one in step}
    found = updates_of(step, objective, seed=seed)
    assert sum(map(len, found)) == len({key for update in found for key in update})
    whole = {one.key: one.num_tokens for one in step}
    for update in found:
        for rank in (0, 1):
            kept = {key: tokens for key, tokens in update.items() if ranks[key] == rank}
            assert sum(kept.values()) == min(30, left[rank])
            left[rank] -= sum(whole[key] for key in kept)  # with what was cut off
    weights = {share.weight for share in choose_shares(step, objective=objective, longest=100, seed=seed).values()}
    assert weights == {1 / 60}


def test_the_first_of_several_updates_is_the_one_that_there_would_be_alone() -> None:
    step = drawn_step(3, 2)
    alone = choose_shares(step, objective=per_rank(30, 2), longest=100, seed=3)
    both = choose_shares(step, objective=per_rank(30, 2, updates_per_batch=2), longest=100, seed=3)
    assert {key: share for key, share in both.items() if share.update == 1} == alone


def test_without_a_budget_updates_are_dealt_whole_prompts_in_turn() -> None:
    step = [Response(group, sample, 2 + group, 1.0, judged=True) for group in range(5) for sample in (0, 1)]
    objective = Objective(kind="grpo", order="as_sampled", updates_per_batch=2)
    first, second = updates_of(step, objective)
    assert list(first) == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1)]
    assert list(second) == [(1, 0), (1, 1), (3, 0), (3, 1)]
    shuffled = updates_of(step, Objective(kind="grpo", updates_per_batch=2), seed=1)
    assert sorted(len(update) for update in shuffled) == [4, 6]
    assert {group for group, _ in shuffled[0]}.isdisjoint({group for group, _ in shuffled[1]})


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # two responses of 2 and 4 tokens in the first update, of 3 and 5 in the second; 10 tokens are the longest
        ("response_mean", [1 / (2 * 2), 1 / (2 * 4), 1 / (2 * 3), 1 / (2 * 5)]),
        ("token_mean", [1 / 6, 1 / 6, 1 / 8, 1 / 8]),
        ("constant", [1 / 20, 1 / 20, 1 / 20, 1 / 20]),
    ],
)
def test_an_updates_weights_are_of_its_own_responses(weights: str, expected: list[float]) -> None:
    step = [response(0, 0, 2), response(0, 1, 4), response(1, 0, 3), response(1, 1, 5)]
    objective = Objective.model_validate({"weights": weights, "order": "as_sampled", "updates_per_batch": 2})
    shares = choose_shares(step, objective=objective, longest=10, seed=0)
    assert [shares[one.key].update for one in step] == [1, 1, 2, 2]
    assert [shares[one.key].weight for one in step] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("response_mean", [1 / 8, 1 / 16, 1 / 12, 1 / 20]),  # 1 / (4 responses x their tokens)
        ("token_mean", [1 / 14] * 4),
        ("constant", [1 / 40] * 4),  # 1 / (4 responses x 10)
    ],
)
def test_in_one_update_weights_are_of_all_responses(weights: str, expected: list[float]) -> None:
    step = [response(0, 0, 2), response(0, 1, 4), response(1, 0, 3), response(1, 1, 5)]
    shares = choose_shares(step, objective=Objective.model_validate({"weights": weights}), longest=10, seed=0)
    assert [shares[one.key].weight for one in step] == pytest.approx(expected)


def test_a_response_that_takes_no_part_is_in_nobodys_mean() -> None:
    step = [response(0, 0, 2), response(0, 1, 4, judged=False), response(1, 0, 3, 0.0), response(1, 1, 5, 0.0)]
    dapo = choose_shares(step, objective=Objective(kind="dapo"), longest=10, seed=0)
    assert {key: share.weight for key, share in dapo.items()} == {(0, 0): 1 / 2}
    dr_grpo = choose_shares(step, objective=Objective(kind="dr_grpo"), longest=10, seed=0)
    assert {share.weight for share in dr_grpo.values()} == {1 / 30}
    assert (0, 1) not in dr_grpo


# ---------------------------------------------------------------- virtual ranks


def per_rank(budget: int, ranks: int, **values: Any) -> Objective:
    return Objective(token_budget=budget, budget_scope="rank", budget_ranks=ranks, **values)


def drawn_step(seed: int, ranks: int) -> list[Response]:
    """Twelve groups of four, of one to nine tokens; some are failures of the judge, and some groups have equal rewards."""
    draw, step = random.Random(seed), []
    for group in range(12):
        is_live = draw.random() < 0.7
        for sample in range(4):
            judged = draw.random() < 0.9
            advantage = draw.choice((-1.0, 1.0)) if is_live and judged else 0.0
            step.append(Response(group, sample, draw.randint(1, 9), advantage, judged, budget_rank=group % ranks))
    return step


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_virtual_rank_keeps_its_budget_to_the_token_wherever_it_has_that_many(seed: int, ranks: int) -> None:
    step, objective = drawn_step(seed, ranks), per_rank(40, ranks)
    shares = choose_shares(step, objective=objective, longest=100, seed=seed)
    assert {share.weight for share in shares.values()} == {1 / (40 * ranks)}
    for rank in range(ranks):
        mine = [one for one in step if one.budget_rank == rank and one.judged]
        kept = [(shares[one.key].kept_tokens, one.num_tokens) for one in mine if one.key in shares]
        assert sum(tokens for tokens, _ in kept) == min(40, sum(one.num_tokens for one in mine))
        assert sum(tokens < whole for tokens, whole in kept) <= 1  # the last one alone is cut
        assert all(tokens > 0 for tokens, _ in kept)
    assert all(one.key not in shares for one in step if not one.judged)


@pytest.mark.parametrize("seed", range(10))
def test_what_a_virtual_rank_keeps_does_not_depend_on_the_others_tokens(seed: int) -> None:
    step, objective = drawn_step(seed, 2), per_rank(40, 2)
    longer = [replace(one, num_tokens=50) if one.budget_rank == 1 else one for one in step]
    one, two = (choose_shares(each, objective=objective, longest=100, seed=seed) for each in (step, longer))
    first = {response.key for response in step if response.budget_rank == 0}
    assert {key: share for key, share in one.items() if key in first} == {
        key: share for key, share in two.items() if key in first
    }


@pytest.mark.parametrize("seed", range(5))
def test_one_virtual_rank_is_the_global_scope(seed: int) -> None:
    step = drawn_step(seed, 1)
    assert choose_shares(step, objective=per_rank(40, 1), longest=100, seed=seed) == choose_shares(
        step, objective=c3po(40), longest=100, seed=seed
    )


@pytest.mark.parametrize("seed", range(10))
def test_the_response_cut_of_a_virtual_rank_ends_with_the_response_that_reaches_its_budget(seed: int) -> None:
    step, objective = drawn_step(seed, 2), per_rank(30, 2, budget_mode="reach")
    shares = choose_shares(step, objective=objective, longest=100, seed=seed)
    for rank in (0, 1):
        kept = [one.num_tokens for one in step if one.budget_rank == rank and one.key in shares]
        assert 30 <= sum(kept) < 30 + max(kept)
    assert all(share.kept_tokens == one.num_tokens for one in step for share in [shares.get(one.key)] if share)


# ---------------------------------------------------------------- equal rewards

MIXED = [
    Response(0, 0, 5, advantage=0.0, judged=True),
    Response(0, 1, 5, advantage=0.0, judged=True),
    Response(1, 0, 5, advantage=1.0, judged=True),
    Response(1, 1, 5, advantage=-1.0, judged=True),
]


def test_a_group_is_live_where_one_of_its_responses_has_an_advantage() -> None:
    assert live_groups(MIXED) == {1}
    assert live_groups([replace(MIXED[0], advantage=-0.5), MIXED[1]]) == {0}
    assert live_groups([]) == set()


def test_groups_of_equal_rewards_fill_what_is_left_of_a_budget_or_are_left_out() -> None:
    last = choose_shares(MIXED, objective=Objective(token_budget=13, budget_scope="global"), longest=100, seed=0)
    assert {key: share.kept_tokens for key, share in last.items()} == {(1, 0): 5, (1, 1): 5, (0, 0): 3}
    left_out = choose_shares(
        MIXED, objective=Objective(token_budget=13, budget_scope="global", zero_groups="leave_out"), longest=100, seed=0
    )
    assert {key: share.kept_tokens for key, share in left_out.items()} == {(1, 0): 5, (1, 1): 5}
    assert {share.weight for share in left_out.values()} == {1 / 13}


@pytest.mark.parametrize("seed", range(10))
def test_a_step_of_equal_rewards_keeps_tokens_only_where_they_come_last(seed: int) -> None:
    flat = [replace(one, advantage=0.0) for one in MIXED]
    assert (
        sum(one.kept_tokens for one in choose_shares(flat, objective=c3po(12), longest=100, seed=seed).values()) == 12
    )
    left_out = Objective(token_budget=12, budget_scope="global", zero_groups="leave_out")
    assert choose_shares(flat, objective=left_out, longest=100, seed=seed) == {}


# ---------------------------------------------------------------- what is lacking


def groups_of(*tokens: tuple[int, int, float]) -> list[Response]:
    """A group for each (virtual rank, tokens, advantage)."""
    return [Response(group, 0, count, advantage, True, rank) for group, (rank, count, advantage) in enumerate(tokens)]


def test_informative_tokens_are_those_of_judged_responses_in_live_groups_by_virtual_rank() -> None:
    step = [
        *groups_of((0, 4, 1.0), (1, 10, -1.0), (0, 7, 0.0)),
        Response(0, 1, 3, advantage=0.0, judged=True),  # a zero beside one that is not
        Response(0, 2, 100, advantage=0.0, judged=False, budget_rank=0),
    ]
    assert informative_tokens(step, per_rank(20, 3)) == [7, 10, 0]


@pytest.mark.parametrize(
    ("budget", "tokens", "expected"),
    [
        # as many groups as fill the lack at the mean of the groups that there are: ceil(lack x groups / informative tokens)
        (20, [(0, 10, 1.0), (1, 10, 1.0)], [0, 1]),  # 10 x 2 / 20 = 1 each
        (10, [(0, 4, 1.0), (1, 10, 1.0)], [0]),  # ceil(6 x 2 / 14) = 1, and nothing lacks on rank 1
        (20, [(0, 4, 1.0), (1, 10, 1.0)], [0, 1, 0, 1, 0]),  # ceil(16 x 2 / 14) = 3 and ceil(10 x 2 / 14) = 2, in turns
        (11, [(0, 10, 1.0), (1, 12, 1.0)], [0]),  # one token lacks
        (10, [(0, 10, 1.0), (1, 10, 1.0)], []),
        (10, [(0, 30, 1.0), (1, 10, 1.0)], []),  # one rank's surplus is no other's
        (12, [(0, 6, 1.0), (1, 12, 1.0), (0, 50, 0.0)], [0]),  # ceil(6 x 3 / 18) = 1: a group without signal counts as asked
        (13, [(0, 6, 1.0), (1, 13, 1.0), (0, 50, 0.0)], [0, 0]),  # ceil(7 x 3 / 19) = 2
        (10, [(0, 9, 0.0), (1, 9, 0.0), (0, 9, 0.0)], [0, 1, 0, 1]),  # nothing to go by: as many as there are, on every rank alike
    ],
)  # fmt: skip
def test_a_step_asks_as_many_prompts_more_as_it_lacks_on_each_virtual_rank(budget, tokens, expected) -> None:
    assert lacking_groups(groups_of(*tokens), per_rank(budget, 2), wanted=4, most=100, seed=0) == expected


def test_a_step_asks_at_most_so_many_prompts_more() -> None:
    step = groups_of((0, 4, 1.0), (1, 10, 1.0))
    assert [lacking_groups(step, per_rank(20, 2), wanted=4, most=most, seed=0) for most in (0, 1, 3)] == [
        [],
        [0],
        [0, 1, 0],
    ]
    flat = groups_of((0, 4, 0.0), (0, 4, 0.0), (0, 4, 0.0))
    assert lacking_groups(flat, c3po(10), wanted=4, most=100, seed=0) == [0, 0, 0]
    assert lacking_groups(flat, c3po(10), wanted=4, most=2, seed=0) == [0, 0]


def test_grpo_has_no_budget_to_fill() -> None:
    assert (
        lacking_groups(groups_of((0, 4, 1.0)), Objective(kind="grpo", token_budget=100), wanted=4, most=100, seed=0)
        == []
    )


@pytest.mark.parametrize(
    ("advantages", "most", "expected"),
    [
        ([1.0, 0.0, 1.0, 0.0], 100, [0, 0]),  # two of four carry no policy gradient
        ([1.0, 1.0, 1.0, -1.0], 100, []),
        ([0.0, 0.0, 0.0, 0.0], 3, [0, 0, 0]),
        ([1.0, 0.0, 1.0, 0.0, 1.0], 100, [0]),  # one that was asked more did, the other did not
    ],
)
def test_dapo_asks_as_many_prompts_more_as_carry_no_policy_gradient(advantages, most, expected) -> None:
    step = groups_of(*((0, 4, advantage) for advantage in advantages))
    assert lacking_groups(step, Objective(kind="dapo"), wanted=4, most=most, seed=0) == expected


def test_a_step_of_several_updates_needs_the_tokens_of_all() -> None:
    step = groups_of((0, 10, 1.0), (1, 10, 1.0), (1, 10, -1.0))
    objective = per_rank(10, 2, updates_per_batch=2)
    assert lacking_tokens(step, objective, seed=0) == [10, 0]
    assert lacking_tokens(step, per_rank(10, 2), seed=0) == [0, 0]
    assert lacking_groups(step, objective, wanted=4, most=100, seed=0) == [0]  # ceil(10 x 3 / 30) = 1


@pytest.mark.parametrize("mode", ["truncate", "reach", "within"])
def test_updates_of_enough_tokens_lack_nothing(mode: str) -> None:
    # 7 + 3, 4 cut off, and 7 + 3; or 14 and 14; or 7 and 7, with tokens enough that do not fit
    objective = Objective(
        token_budget=10, budget_scope="global", order="as_sampled", updates_per_batch=2, budget_mode=mode
    )
    assert lacking_tokens(in_turn(7, 7, 7, 7), objective, seed=0) == [0]


@pytest.mark.parametrize("mode", ["truncate", "reach"])
def test_what_an_earlier_update_uses_up_beyond_phi_is_not_there_for_a_later_one(mode: str) -> None:
    # 21 tokens are more than 2 x 10, but the first update takes 7 and 7, whether it cuts 4 off or keeps them, and 7 are left for 10
    objective = Objective(
        token_budget=10, budget_scope="global", order="as_sampled", updates_per_batch=2, budget_mode=mode
    )
    step = in_turn(7, 7, 7)
    assert lacking_tokens(step, objective, seed=0) == [3]
    assert sum(updates_of(step, objective)[1].values()) == 7
    assert lacking_groups(step, objective, wanted=4, most=100, seed=0) == [0]  # ceil(3 x 3 / 21)


@pytest.mark.parametrize("seed", range(10))
def test_where_nothing_lacks_every_update_is_filled_with_informative_tokens(seed: int) -> None:
    step, objective = drawn_step(seed, 2), per_rank(20, 2, updates_per_batch=3)
    live = live_groups(step)
    shares = choose_shares([one for one in step if one.group in live], objective=objective, longest=100, seed=seed)
    lacks = lacking_tokens(step, objective, seed=seed)
    for rank in (0, 1):
        mine = [shares[one.key] for one in step if one.budget_rank == rank and one.key in shares]
        kept = [sum(share.kept_tokens for share in mine if share.update == update) for update in (1, 2, 3)]
        assert sum(kept) == 60 - lacks[rank]
