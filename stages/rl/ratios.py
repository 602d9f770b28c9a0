"""What the policy ratio is a mean over: a token (paper eq. 1), a response (GSPO, arXiv 2507.18071), a sentence (LPO, arXiv 2510.22115).

    s_u = exp( mean over the tokens t of unit u of log pi(y_t) / pi_old(y_t) )

Axes: _M response tokens of a micro-batch, response after response; U units of them. Of a response that was cut the kept tokens are meant.
"""

from collections.abc import Collection, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from stages.config import Objective

SENTENCE_ENDS = (".", "!", "?", ";", "\n", "。", "！", "？", "；")
"""A token whose text, without spaces, ends like this ends a sentence; so does a line."""


def ends_sentence(text: str) -> bool:
    """Whether a token of this text is the last of a sentence."""
    return text.strip(" ").endswith(SENTENCE_ENDS)


def unit_of_tokens(responses: Sequence[Sequence[int]], *, objective: Objective, ends: Collection[int]) -> list[int]:
    """Of every token the number of its unit, from 0; `ends` are the ids of tokens that end a sentence. No unit crosses responses."""
    if objective.ratio == "token":
        return list(range(sum(map(len, responses))))
    units: list[int] = []
    for response in responses:
        first = units[-1] + 1 if units else 0
        if objective.ratio == "sequence":
            units += [first] * len(response)
        else:
            begins = [0, *(token in ends for token in response[:-1])][: len(response)]
            units += [first + number for number in accumulate(begins)]
    return units


def mean_over_units(values_M: Tensor, unit_M: Tensor) -> Tensor:
    """The mean over its unit, at every token [M]; gradients flow to all tokens of the unit."""
    num_units = int(unit_M[-1]) + 1 if len(unit_M) else 0
    if num_units == len(values_M):
        return values_M
    sums_U = values_M.new_zeros(num_units).index_add(0, unit_M, values_M)
    counts_U = torch.bincount(unit_M, minlength=num_units)
    return (sums_U / counts_U)[unit_M]
