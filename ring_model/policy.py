"""Log-probabilities and entropies of response tokens under the trainer's forward pass.

In: prompts and responses as right-padded rows. Out: one number per response token, row after row; logits are computed
at those places only. Entropy is that of the full softmax at temperature 1 (paper section 4.3.1, our reading).

Axes: B rows, T tokens of a row, M response tokens (row-major), D hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ring_model.modelling import BailingMoe, RouterOutput
from ring_model.rows import RowLayout, SharedPrompts

MAX_LOGITS = 1 << 25
"""Largest number of logits held at once; longer batches are computed in pieces and again in the backward pass."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Prompts with their responses as rectangular rows; the name of the axes: B rows of T places."""

    tokens_BT: Tensor
    """Prompt ids then response ids, zeros to the right, int64."""
    lengths_B: Tensor
    """Number of prompt and response tokens of each row, int64."""
    prompt_lengths_B: Tensor
    """Number of prompt tokens of each row, int64, at least 1."""
    first_row_B: Tensor
    """The first row with the same prompt, int64."""

    def response_rows(self) -> Tensor:
        """Row index of every response token, int64 [M], in the order in which this module returns them."""
        rows = torch.arange(len(self.lengths_B), device=self.lengths_B.device)
        return rows.repeat_interleave(self.lengths_B - self.prompt_lengths_B)

    @property
    def num_response_tokens(self) -> int:
        """M."""
        return int((self.lengths_B - self.prompt_lengths_B).sum())


@dataclass(frozen=True, slots=True)
class ResponseLogprobs:
    """Numbers of the M response tokens, row after row."""

    logprobs_M: Tensor
    """Log-probability of each response token, in nats."""
    entropies_M: Tensor | None
    """Entropy at temperature 1 of the distribution it was drawn from, in nats; None when not asked for."""
    router: RouterOutput
    """Router losses over all tokens of the rows, prompts among them."""
    layout: RowLayout
    """Where those tokens lie in the rows."""


def pack_rows(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device | str = "cpu"
) -> PackedRows:
    """Join each prompt with its response and pad to the longest.

    Raises:
        ValueError: there are no rows, the counts differ, or a prompt is empty.

    """
    if len(prompts) != len(responses) or not prompts:
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} responses: give one response per prompt")
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt has no tokens; the first response token needs at least one before it")
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    tokens_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.int64)
    for row_T, prompt, response, length in zip(tokens_BT, prompts, responses, lengths, strict=True):
        row_T[:length] = torch.as_tensor([*prompt, *response])
    prompt_lengths_B = torch.tensor([len(prompt) for prompt in prompts])
    first: dict[tuple[int, ...], int] = {}
    first_row_B = torch.tensor([first.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts)])
    return PackedRows(
        tokens_BT.to(device), torch.tensor(lengths, device=device), prompt_lengths_B.to(device), first_row_B.to(device)
    )


def micro_batches(lengths: Sequence[int], *, token_budget: int) -> list[list[int]]:
    """Split rows into rectangles of similar length: lists of row indices with rows x longest <= token_budget.

    Rows are taken from short to long (ties by index), so the split depends on the lengths alone. A row longer than
    the budget makes a rectangle of its own.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget = {token_budget} must be at least 1 token")
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def response_logprobs(
    model: BailingMoe,
    rows: PackedRows,
    *,
    entropy: Literal["none", "detached", "gradient"] = "detached",
    temperature: float = 1.0,
) -> ResponseLogprobs:
    """Log-probabilities (at `temperature`) and entropies (at temperature 1) of the response tokens of `rows`.

    Gradients flow unless the caller disables them; `entropy="detached"` keeps them out of the entropies (a metric),
    "gradient" lets them in (a regulariser). Response token t is predicted by the hidden state of token t - 1.
    """
    prompts = SharedPrompts(rows.first_row_B, rows.prompt_lengths_B)
    output = model(rows.tokens_BT, lengths_B=rows.lengths_B, prompts=prompts)
    hidden_MD = output.hidden_ND.index_select(0, output.layout.tokens_in(_predicting_places(rows)))
    target_M = _response_tokens(rows)
    piece = max(1, MAX_LOGITS // model.config.vocab_size)
    if len(target_M) <= piece:
        logprobs_M, entropies_M = _score(model, hidden_MD, target_M, temperature, entropy)
        return ResponseLogprobs(logprobs_M, entropies_M, output.router, output.layout)
    scored = [
        checkpoint(_score, model, hidden, target, temperature, entropy, use_reentrant=False)
        for hidden, target in zip(hidden_MD.split(piece), target_M.split(piece), strict=True)
    ]
    entropies_M = None if entropy == "none" else torch.cat([pair[1] for pair in scored])
    return ResponseLogprobs(torch.cat([pair[0] for pair in scored]), entropies_M, output.router, output.layout)


def _predicting_places(rows: PackedRows) -> Tensor:
    """Whether a place is the one before a response token, bool [B, T]."""
    position_T = torch.arange(rows.tokens_BT.shape[1], device=rows.tokens_BT.device)
    return (position_T >= rows.prompt_lengths_B[:, None] - 1) & (position_T < rows.lengths_B[:, None] - 1)


def _response_tokens(rows: PackedRows) -> Tensor:
    position_T = torch.arange(rows.tokens_BT.shape[1], device=rows.tokens_BT.device)
    is_response = (position_T >= rows.prompt_lengths_B[:, None]) & (position_T < rows.lengths_B[:, None])
    return rows.tokens_BT[is_response]


def _score(
    model: BailingMoe, hidden_MD: Tensor, target_M: Tensor, temperature: float, entropy: str
) -> tuple[Tensor, Tensor | None]:
    logits_MV = model.logits(hidden_MD)
    all_logprobs_MV = logits_MV.log_softmax(dim=1)
    scaled_MV = all_logprobs_MV if temperature == 1.0 else (logits_MV / temperature).log_softmax(dim=1)
    logprobs_M = scaled_MV.gather(1, target_M[:, None]).squeeze(1)
    if entropy == "none":
        return logprobs_M, None
    return logprobs_M, entropy_of(all_logprobs_MV if entropy == "gradient" else all_logprobs_MV.detach())


def entropy_of(logprobs_MV: Tensor) -> Tensor:
    """Entropy [M] in nats of distributions given by their log-probabilities."""
    return -(logprobs_MV.exp() * logprobs_MV).sum(dim=1)
