"""Rows to ranks, and a rank's rows to micro-batches: by tokens alone, so that nothing depends on who brought a row."""

from collections.abc import Sequence

import torch

from ring_model.policy import PackedRows, micro_batches, pack_rows

Tokens = Sequence[int]


def share_of_rank(lengths: Sequence[int], *, rank: int, num_ranks: int) -> list[int]:
    """Indices of the rows that one rank trains on: every `num_ranks`-th from short to long (ties by index).

    The ranks' sums of tokens differ by at most the longest row, whatever the rows are about.
    """
    return sorted(range(len(lengths)), key=lambda index: (lengths[index], index))[rank::num_ranks]


def rectangles(
    rows: Sequence[tuple[Tokens, Tokens]], *, micro_batch_tokens: int, device: torch.device | str
) -> list[tuple[list[int], PackedRows]]:
    """Prompts and responses in rectangles of similar length, each at most `micro_batch_tokens` places: their indices, and the rows."""
    lengths = [len(prompt) + len(response) for prompt, response in rows]
    return [
        (group, pack_rows(*zip(*(rows[index] for index in group), strict=True), device=device))
        for group in micro_batches(lengths, token_budget=micro_batch_tokens)
    ]
