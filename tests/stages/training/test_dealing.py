"""Rows to ranks and to micro-batches, by tokens alone."""

import random

import pytest

from stages.training.dealing import rectangles, share_of_rank


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_ranks_share_all_rows_and_their_tokens_differ_by_at_most_one_row(seed: int, num_ranks: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 50) for _ in range(draw.randint(1, 40))]
    dealt = [share_of_rank(lengths, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert sorted(index for mine in dealt for index in mine) == list(range(len(lengths)))
    tokens = [sum(lengths[index] for index in mine) for mine in dealt]
    assert max(tokens) - min(tokens) <= max(lengths)


def test_rows_go_from_short_to_long_and_of_two_alike_the_first_before() -> None:
    assert share_of_rank([3, 1, 2, 1], rank=0, num_ranks=1) == [1, 3, 2, 0]
    assert [share_of_rank([3, 1, 2, 1], rank=rank, num_ranks=2) for rank in (0, 1)] == [[1, 2], [3, 0]]
    assert share_of_rank([5], rank=1, num_ranks=2) == []


def test_rectangles_hold_every_row_once_and_no_more_places_than_allowed() -> None:
    draw = random.Random(0)
    rows = [([1] * draw.randint(1, 6), [2] * draw.randint(1, 12)) for _ in range(20)]
    packed = rectangles(rows, micro_batch_tokens=40, device="cpu")
    assert sorted(index for indices, _ in packed for index in indices) == list(range(20))
    assert len(packed) > 3
    for indices, part in packed:
        assert part.tokens_BT.numel() <= 40
        assert part.lengths_B.tolist() == [len(rows[index][0]) + len(rows[index][1]) for index in indices]
        assert part.prompt_lengths_B.tolist() == [len(rows[index][0]) for index in indices]


def test_a_row_longer_than_a_micro_batch_is_one_of_its_own() -> None:
    packed = rectangles([([1], [2] * 9), ([1], [2])], micro_batch_tokens=4, device="cpu")
    assert [indices for indices, _ in packed] == [[1], [0]]
