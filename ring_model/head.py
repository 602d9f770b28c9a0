"""The output matrix, and what is computed of its logits: log-probabilities and entropies of given tokens, in pieces.

All of it happens inside `Head.forward`, so that a trainer which shards parameters (ZeRO 3) has the matrix whole just then. Logits are
float32 products: in bfloat16 a logit of 16 is rounded to 0.125.

Axes: M tokens, D hidden, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ring_model.configuration import HEAD_NORM_EPS, BailingMoeConfig
from ring_model.products import float32_linear

MAX_LOGITS = 1 << 25
"""Largest number of logits held at once; longer batches are computed in pieces and again in the backward pass."""

Entropy = Literal["none", "detached", "gradient"]
"""Which entropies are wanted: none, as a figure, or as part of a loss."""
Logits = Callable[[Tensor], Tensor]
"""Hidden states [M, D] -> logits [M, V], float32."""


class Head(nn.Module):
    """Logits of final hidden states; the weight's columns are divided by their norms where the configuration has `norm_head`."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.divides = config.norm_head

    def norm(self) -> Tensor:
        """Divisor [D] of the columns: L2 norm over the vocabulary + 1e-7, a constant in training; ones without `norm_head`."""
        weight_VD = self.weight.detach().float()
        if not self.divides:
            return weight_VD.new_ones(weight_VD.shape[1])
        return torch.linalg.vector_norm(weight_VD, dim=0) + HEAD_NORM_EPS

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Logits [M, V]. The norms divide the hidden states: the same product and far fewer numbers."""
        return _logits(hidden_MD, self.weight, self.norm())

    def forward(
        self, hidden_MD: Tensor, target_M: Tensor, *, entropy: Entropy = "detached", temperature: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """See `scores`; the norm is taken once."""
        logits = partial(_logits, weight_VD=self.weight, norm_D=self.norm())
        return scores(
            hidden_MD, target_M, logits, vocab_size=len(self.weight), entropy=entropy, temperature=temperature
        )


def _logits(hidden_MD: Tensor, weight_VD: Tensor, norm_D: Tensor) -> Tensor:
    return float32_linear(hidden_MD / norm_D, weight_VD)


def scores(
    hidden_MD: Tensor,
    target_M: Tensor,
    logits: Logits,
    *,
    vocab_size: int,
    entropy: Entropy = "detached",
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """Log-probability [M] of each target at `temperature`, and the entropy [M] at temperature 1, in nats; None where none is wanted.

    Never more than MAX_LOGITS logits are held at once.
    """
    score = partial(_score, logits, entropy=entropy, temperature=temperature)
    piece = max(1, MAX_LOGITS // vocab_size)
    if len(target_M) <= piece:
        return score(hidden_MD, target_M)
    scored = [
        checkpoint(score, hidden, target, use_reentrant=False)
        for hidden, target in zip(hidden_MD.split(piece), target_M.split(piece), strict=True)
    ]
    entropies_M = None if entropy == "none" else torch.cat([pair[1] for pair in scored])
    return torch.cat([pair[0] for pair in scored]), entropies_M


def _score(
    logits: Logits, hidden_MD: Tensor, target_M: Tensor, *, entropy: Entropy, temperature: float
) -> tuple[Tensor, Tensor | None]:
    logits_MV = logits(hidden_MD)
    all_logprobs_MV = logits_MV.log_softmax(dim=1)
    scaled_MV = all_logprobs_MV if temperature == 1.0 else (logits_MV / temperature).log_softmax(dim=1)
    logprobs_M = scaled_MV.gather(1, target_M[:, None]).squeeze(1)
    if entropy == "none":
        return logprobs_M, None
    return logprobs_M, entropy_of(all_logprobs_MV if entropy == "gradient" else all_logprobs_MV.detach())


def entropy_of(logprobs_MV: Tensor) -> Tensor:
    """Entropy [M] in nats of distributions given by their log-probabilities."""
    return -(logprobs_MV.exp() * logprobs_MV).sum(dim=1)
