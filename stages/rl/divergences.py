"""Estimators of the divergence between policy and reference at a token that the policy drew, from log pi and log pi_ref.

On average over such tokens all three have the value of KL(pi || pi_ref), k2 nearly. Their gradients differ: k1's is 0, so that it is of
use in a reward alone; k2's is that of KL(pi || pi_ref), k3's that of KL(pi_ref || pi).
"""

from collections.abc import Callable

from torch import Tensor


def k1(logprobs_M: Tensor, reference_M: Tensor) -> Tensor:
    """Log pi - log pi_ref; may be negative."""
    return logprobs_M - reference_M


def k2(logprobs_M: Tensor, reference_M: Tensor) -> Tensor:
    """(log pi - log pi_ref)^2 / 2."""
    return 0.5 * (logprobs_M - reference_M) ** 2


def k3(logprobs_M: Tensor, reference_M: Tensor) -> Tensor:
    """pi_ref / pi - 1 - log(pi_ref / pi), as in GRPO; never negative."""
    log_ratio_M = reference_M - logprobs_M
    return log_ratio_M.exp() - log_ratio_M - 1.0


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
