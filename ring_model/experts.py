"""The routed experts of one layer: every token visits its chosen experts, whose outputs are summed by weight.

Axes: N tokens, K experts chosen per token, A = N * K assignments, E experts, D hidden, F expert width, C padded
rows per expert. Weights: `gate_up_EGD` with G = 2F (gate rows, then up rows) and `down_EDF`, both stacked over experts.

Two paths compute the same sum. `routed_experts` (training, prefill) sorts the assignments by expert and multiplies
group by group, with a backward pass by hand: gathers in place of scatter-adds, no copy of the unused halves.
`routed_experts_padded` (one-token steps) pads every expert to the busiest one: few large calls for few tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Assignments in order of their expert."""

    token_A: Tensor
    """Row of the token of each sorted assignment, int64."""
    inverse_A: Tensor
    """Place of the unsorted assignment (token-major) among the sorted ones, int64."""
    ends_E: Tensor
    """One past the last sorted assignment of each expert, int32."""


def dispatch(expert_NK: Tensor, *, num_experts: int) -> Dispatch:
    """Sort the assignments `expert_NK` (int64 expert ids) by expert, keeping the tokens' order."""
    expert_A = expert_NK.reshape(-1)
    order_A = torch.argsort(expert_A, stable=True)
    inverse_A = torch.empty_like(order_A)
    inverse_A[order_A] = torch.arange(order_A.numel(), device=order_A.device)
    ends_E = torch.bincount(expert_A, minlength=num_experts).cumsum(0).to(torch.int32)
    return Dispatch(token_A=order_A // expert_NK.shape[1], inverse_A=inverse_A, ends_E=ends_E)


def routed_experts(
    hidden_ND: Tensor, *, weight_NK: Tensor, expert_NK: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor
) -> Tensor:
    """Sum over the K chosen experts of weight * down(silu(gate x) * up x), shape [N, D]; differentiable."""
    plan = dispatch(expert_NK, num_experts=gate_up_EGD.shape[0])
    return _RoutedExperts.apply(hidden_ND, weight_NK, gate_up_EGD, down_EDF, plan.token_A, plan.inverse_A, plan.ends_E)


class _RoutedExperts(torch.autograd.Function):
    """Grouped products over sorted assignments; the gradient of an expert that nobody chose is zero."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch and DeepSpeed give it no type
        hidden_ND: Tensor,
        weight_NK: Tensor,
        gate_up_EGD: Tensor,
        down_EDF: Tensor,
        token_A: Tensor,
        inverse_A: Tensor,
        ends_E: Tensor,
    ) -> Tensor:
        """Gather, multiply, activate, multiply, weigh and sum."""
        num_tokens, k = weight_NK.shape
        hidden_AD = hidden_ND.index_select(0, token_A)
        gate_up_AG = F.grouped_mm(hidden_AD, gate_up_EGD.transpose(1, 2), offs=ends_E)
        gate_AF, up_AF = gate_up_AG.chunk(2, dim=1)
        active_AF = F.silu(gate_AF)
        product_AF = active_AF * up_AF
        out_AD = F.grouped_mm(product_AF, down_EDF.transpose(1, 2), offs=ends_E)
        out_NKD = out_AD.index_select(0, inverse_A).view(num_tokens, k, -1)
        ctx.save_for_backward(
            hidden_AD, weight_NK, gate_up_EGD, down_EDF, token_A, inverse_A, ends_E, gate_up_AG, active_AF,
            product_AF, out_NKD,
        )  # fmt: skip
        return weighted_sum(out_NKD, weight_NK)

    @staticmethod
    def backward(  # ty: ignore[incompatible-method-override] - one gradient comes in
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        grad_ND: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the tokens, the weights and the two stacks."""
        (
            hidden_AD, weight_NK, gate_up_EGD, down_EDF, token_A, inverse_A, ends_E, gate_up_AG, active_AF,
            product_AF, out_NKD,
        ) = ctx.saved_tensors  # fmt: skip
        num_tokens, k = weight_NK.shape
        grad_weight_NK = (out_NKD * grad_ND[:, None]).sum(2)
        weight_A = torch.empty_like(weight_NK.reshape(-1))
        weight_A[inverse_A] = weight_NK.reshape(-1)
        grad_out_AD = grad_ND.index_select(0, token_A).mul_(weight_A[:, None])
        grad_product_AF = F.grouped_mm(grad_out_AD, down_EDF, offs=ends_E)
        grad_down_EDF = F.grouped_mm(grad_out_AD.t(), product_AF, offs=ends_E)
        gate_AF, up_AF = gate_up_AG.chunk(2, dim=1)
        grad_gate_AF = torch.ops.aten.silu_backward(grad_product_AF * up_AF, gate_AF)
        grad_gate_up_AG = torch.cat((grad_gate_AF, grad_product_AF.mul_(active_AF)), dim=1)
        grad_hidden_AD = F.grouped_mm(grad_gate_up_AG, gate_up_EGD, offs=ends_E)
        grad_gate_up_EGD = F.grouped_mm(grad_gate_up_AG.t(), hidden_AD, offs=ends_E)
        grad_hidden_ND = grad_hidden_AD.index_select(0, inverse_A).view(num_tokens, k, -1).sum(1)
        return grad_hidden_ND, grad_weight_NK, grad_gate_up_EGD, grad_down_EDF, None, None, None


def weighted_sum(out_NKD: Tensor, weight_NK: Tensor) -> Tensor:
    """Sum over K of weight * out, shape [N, D], in the order of K."""
    total_ND = out_NKD[:, 0] * weight_NK[:, 0, None]
    for k in range(1, weight_NK.shape[1]):
        total_ND.addcmul_(out_NKD[:, k], weight_NK[:, k, None])
    return total_ND


def routed_experts_padded(
    hidden_ND: Tensor, *, weight_NK: Tensor, expert_NK: Tensor, gate_up_EDG: Tensor, down_EFD: Tensor
) -> Tensor:
    """The same sum for few tokens, without gradient: one batched product over experts padded to the busiest one.

    The stacks are given transposed: `gate_up_EDG` and `down_EFD`.
    """
    num_tokens, k = expert_NK.shape
    num_experts, _, num_gate_up = gate_up_EDG.shape
    expert_A = expert_NK.reshape(-1)
    sorted_A, order_A = torch.sort(expert_A, stable=True)
    count_E = torch.bincount(expert_A, minlength=num_experts)
    capacity = int(count_E.max())
    start_E = count_E.cumsum(0) - count_E
    within_A = torch.arange(expert_A.numel(), device=expert_A.device) - start_E.index_select(0, sorted_A)
    place_A = sorted_A * capacity + within_A
    hidden_ED = hidden_ND.new_zeros(num_experts * capacity, hidden_ND.shape[1])
    hidden_ED.index_copy_(0, place_A, hidden_ND.index_select(0, order_A // k))
    gate_up_ECG = torch.bmm(hidden_ED.view(num_experts, capacity, -1), gate_up_EDG)
    gate_ECF, up_ECF = gate_up_ECG.split(num_gate_up // 2, dim=2)
    out_ED = torch.bmm(F.silu(gate_ECF).mul_(up_ECF), down_EFD).view(num_experts * capacity, -1)
    unsorted_A = torch.empty_like(place_A).index_copy_(0, order_A, place_A)
    return weighted_sum(out_ED.index_select(0, unsorted_A).view(num_tokens, k, -1), weight_NK)
