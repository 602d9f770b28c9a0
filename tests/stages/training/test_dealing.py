"""Rows to ranks and to micro-batches: nobody's row is lost, and no rank has much more than another."""

import random

import pytest
import torch

from stages.training.dealing import rectangles, share_of_rank


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_the_ranks_shares_partition_the_rows_and_differ_by_at_most_the_longest_row(num_ranks: int, seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.choice((1, 5, 40, 300)) + rng.randrange(9) for _ in range(rng.randrange(40))]
    shares = [share_of_rank(lengths, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in share) for share in shares]
    assert max(sums) - min(sums) <= max(lengths, default=0)


def test_rows_are_dealt_from_short_to_long_and_ties_in_their_order() -> None:
    lengths = [7, 3, 7, 1, 3]
    assert share_of_rank(lengths, rank=0, num_ranks=2) == [3, 4, 2]
    assert share_of_rank(lengths, rank=1, num_ranks=2) == [1, 0]


def test_more_ranks_than_rows_leave_ranks_without_one() -> None:
    assert [share_of_rank([5, 4], rank=rank, num_ranks=4) for rank in range(4)] == [[1], [0], [], []]


def test_rectangles_hold_every_row_whole_in_at_most_so_many_places() -> None:
    rows = [
        (tuple(range(1, 1 + prompt)), tuple(range(50, 50 + response)))
        for prompt, response in ((4, 3), (2, 9), (1, 1), (6, 1))
    ]
    found = rectangles(rows, micro_batch_tokens=14, device="cpu")
    assert [indices for indices, _ in found] == [
        [2, 0],
        [3],
        [1],
    ]  # of 2, 7, 7 and 11 tokens: 3 x 7 places are too many
    for indices, packed in found:
        assert packed.tokens_BT.numel() <= 14
        assert packed.tokens_BT.device == torch.device("cpu")
        for index, row, length, prompt in zip(
            indices, packed.tokens_BT.tolist(), packed.lengths_B, packed.prompt_lengths_B, strict=True
        ):
            assert tuple(row[:length]) == rows[index][0] + rows[index][1]
            assert int(prompt) == len(rows[index][0])


def test_a_row_longer_than_a_micro_batch_is_alone_in_one() -> None:
    found = rectangles([((1, 2), (3, 4)), ((1,), (2,))], micro_batch_tokens=3, device="cpu")
    assert [indices for indices, _ in found] == [[1], [0]]
