"""The policy loss of RL on weighted tokens (paper eq. 1, 3 and 6).

    L = - sum_t w_t [ min(r_t A_t, clip(r_t, 1-eps, 1+eps) A_t) - beta KL_t ]  -  a_ent sum_t w_t H_t  +  a_bal B + a_z Z

r_t = pi / pi_old, A_t the advantage of the token's response, w_t from `selection` (C3PO: 1/Phi), KL_t the non-negative
estimator pi_ref/pi - log(pi_ref/pi) - 1 (as GRPO), H_t the policy entropy. The paper adds a_ent H and means exploration:
entropy is ENCOURAGED, so its sign here is minus.

KL_t estimates KL(pi || pi_ref) of eq. 3, but its gradient, expected over tokens that pi itself drew, is that of KL(pi_ref || pi). Half
the squared log-ratio would have the gradient of KL(pi || pi_ref), and the plain log-ratio none at all.

Axes: _M the kept response tokens of a micro-batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ring_model.modelling import RouterOutput
from stages.config import RlConfig


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """What is known of the M kept tokens before the forward pass; float32 [M] each."""

    old_logprobs_M: Tensor  # log pi_old, from the rollout
    reference_logprobs_M: Tensor | None  # log pi_ref, of the checkpoint that RL started from; None where beta is 0
    advantages_M: Tensor
    weights_M: Tensor


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A micro-batch's part of the step's loss; the parts add up. Sums over its tokens are detached."""

    loss: Tensor
    kl_sum: float
    num_clipped: float


def token_losses(
    logprobs_M: Tensor, tokens: TokenBatch, *, clip: float, kl_coefficient: float
) -> tuple[Tensor, Tensor]:
    """The negated bracket above for each token, and KL_t (0 without a reference); both [M]."""
    ratio_M = torch.exp(logprobs_M - tokens.old_logprobs_M)
    clipped_M = ratio_M.clamp(1.0 - clip, 1.0 + clip)
    surrogate_M = torch.minimum(ratio_M * tokens.advantages_M, clipped_M * tokens.advantages_M)
    if tokens.reference_logprobs_M is None:
        return -surrogate_M, torch.zeros_like(logprobs_M)
    log_ratio_M = tokens.reference_logprobs_M - logprobs_M
    kl_M = log_ratio_M.exp() - log_ratio_M - 1.0
    return kl_coefficient * kl_M - surrogate_M, kl_M


def step_loss(
    logprobs_M: Tensor,
    entropies_M: Tensor | None,
    router: RouterOutput,
    tokens: TokenBatch,
    *,
    config: RlConfig,
    load_LE: Tensor,
    router_share: float,
) -> LossOutput:
    """Eq. 6 for a micro-batch; the parts of a step add up, however it is cut.

    `load_LE`: the experts' loads F in the step before. `router_share`: its tokens / the tokens of the step, for B and Z.
    `entropies_M` may be left out where a_ent is 0.
    """
    losses_M, kl_M = token_losses(logprobs_M, tokens, clip=config.objective.clip, kl_coefficient=config.kl_coefficient)
    if entropies_M is not None:
        losses_M = losses_M - config.entropy_coefficient * entropies_M
    policy = (tokens.weights_M * losses_M).sum()
    balance = config.balance_coefficient * router.balance_loss(load_LE) + config.z_coefficient * router.z_loss
    return LossOutput(
        policy + router_share * balance,
        kl_sum=float(kl_M.detach().double().sum()),
        num_clipped=float(_is_clipped(logprobs_M.detach(), tokens, clip=config.objective.clip).sum()),
    )


def _is_clipped(logprobs_M: Tensor, tokens: TokenBatch, *, clip: float) -> Tensor:
    """Tokens whose policy gradient the clip removes: the ratio has left the interval on the side that A rewards."""
    ratio_M = torch.exp(logprobs_M - tokens.old_logprobs_M)
    above_M = (ratio_M > 1.0 + clip) & (tokens.advantages_M > 0)
    below_M = (ratio_M < 1.0 - clip) & (tokens.advantages_M < 0)
    return above_M | below_M
