"""The policy loss of RL on weighted tokens (paper eq. 1, 3 and 6), of which every objective is a case.

    L = - sum_t w_t [ M(k_t) min(s_t A_t, clip(s_t, 1 - eps_low, 1 + eps_high) A_t) - beta r_t KL_t ]
        - a_ent sum_t w_t H_t + a_bal B + a_z Z

s_t: the ratio pi / pi_old of the token's unit (`ratios`); pi_old is the trainer's policy at the beginning of the step, not the sampler's:
what those differ by is M's affair (`mismatch`). A_t: the advantage of its response. w_t: from `selection` (C3PO: 1/Phi). KL_t: from
`divergences`, weighed by r_t = pi / pi_old without a gradient, which is 1 in a step's first update. H_t: the policy's entropy. The paper
adds a_ent H and means exploration: entropy is ENCOURAGED, so its sign here is minus.

Axes: _M the kept response tokens of a micro-batch, response after response.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ring_model.modelling import RouterOutput
from stages.config import Objective
from stages.rl.divergences import ESTIMATORS
from stages.rl.mismatch import Differences, token_weights
from stages.rl.ratios import mean_over_units


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """What is known of the M kept tokens before the forward pass; [M] each, float32 where nothing is said."""

    sampler_logprobs_M: Tensor
    """log q, from the journal."""
    old_logprobs_M: Tensor | None
    """log pi_old, of the trainer; None in a step's first update, where it is what the forward pass gives."""
    reference_logprobs_M: Tensor | None
    """log pi_ref, of the checkpoint that RL started from; None where beta is 0 or stands in the reward."""
    advantages_M: Tensor
    weights_M: Tensor
    unit_M: Tensor
    """Number of the unit of the ratio, int64, from 0."""
    response_M: Tensor
    """Number of the response, int64, from 0."""


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A micro-batch's part of the loss of an update; the parts add up. Sums over its tokens are detached."""

    loss: Tensor
    kl_sum: float
    num_clipped: float
    differences: Differences


def surrogate(ratio_M: Tensor, advantages_M: Tensor, *, objective: Objective) -> Tensor:
    """min(s A, clip(s, 1 - eps_low, 1 + eps_high) A) of each token [M]."""
    clipped_M = ratio_M.clamp(1.0 - objective.clip_low, 1.0 + objective.clip_high)
    return torch.minimum(ratio_M * advantages_M, clipped_M * advantages_M)


def is_clipped(ratio_M: Tensor, advantages_M: Tensor, *, objective: Objective) -> Tensor:
    """Tokens whose policy gradient the clip removes: the ratio has left the interval on the side that A rewards."""
    above_M = (ratio_M > 1.0 + objective.clip_high) & (advantages_M > 0)
    below_M = (ratio_M < 1.0 - objective.clip_low) & (advantages_M < 0)
    return above_M | below_M


def update_loss(
    logprobs_M: Tensor,
    entropies_M: Tensor | None,
    router: RouterOutput | None,
    tokens: TokenBatch,
    *,
    objective: Objective,
    load_LE: Tensor,
    router_share: float,
) -> LossOutput:
    """Eq. 6 for a micro-batch; the parts of an update add up, however it is cut.

    `load_LE`: the experts' loads F in the update before. `router_share`: its tokens / the tokens of the update, for B and Z.
    `entropies_M` may be left out where a_ent is 0; B and Z are of the routers, where the model has any.
    """
    old_M = logprobs_M.detach() if tokens.old_logprobs_M is None else tokens.old_logprobs_M
    log_ratio_M = logprobs_M - old_M
    ratio_M = mean_over_units(log_ratio_M, tokens.unit_M).exp()
    gains_M = surrogate(ratio_M, tokens.advantages_M, objective=objective)
    kept_M = token_weights(tokens.sampler_logprobs_M, old_M, tokens.response_M, correction=objective.mismatch)
    if kept_M is not None:
        gains_M = kept_M * gains_M
    kl_M = _divergence(logprobs_M, tokens.reference_logprobs_M, objective=objective)
    if kl_M is not None:
        gains_M = gains_M - objective.kl_coefficient * log_ratio_M.detach().exp() * kl_M
    if entropies_M is not None:
        gains_M = gains_M + objective.entropy_coefficient * entropies_M
    differences = Differences.none()
    differences.add(old_M - tokens.sampler_logprobs_M, kept_M)
    loss = -(tokens.weights_M * gains_M).sum()
    if router is not None:
        balance = objective.balance_coefficient * router.balance_loss(load_LE)
        loss = router_share * (balance + objective.z_coefficient * router.z_loss) + loss
    return LossOutput(
        loss,
        kl_sum=0.0 if kl_M is None else float(kl_M.detach().double().sum()),
        num_clipped=float(is_clipped(ratio_M.detach(), tokens.advantages_M, objective=objective).sum()),
        differences=differences,
    )


def _divergence(logprobs_M: Tensor, reference_M: Tensor | None, *, objective: Objective) -> Tensor | None:
    return None if reference_M is None else ESTIMATORS[objective.kl_estimator](logprobs_M, reference_M)
