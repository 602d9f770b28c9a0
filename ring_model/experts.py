"""Experts, routed and shared: SwiGLU blocks down(silu(gate x) * up x), with a backward pass by hand.

Axes: N tokens, K experts chosen per token, A = N * K assignments, C their places, E experts, M tokens of one expert, D hidden,
F expert width, G = 2F gate rows, then up rows. Weights: `gate_up_GD` and `down_DF`; of routed experts stacked, `gate_up_EGD`, `down_EDF`.

Routed assignments are sorted by expert, and the groups of all experts are multiplied by `grouped_mm` (by MKL on a CPU). Where products
are oneDNN's (`matmul_kernel`), each expert with enough tokens computes its own rows from end to end, while they are in the cache.
On an Intel Xeon, by MKL, this took 1.2 to 1.6 times as long as `grouped_mm` (700 and 2 048 tokens, 16 and 32 experts, one
thread). Padding every expert to the busiest one for a batched product cost 1.7 to 2.4 times as much (128 tokens, 16 and 32 experts,
untrained router, one thread).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ring_model.products import ROWS, add_product, matmul_kernel, product, product_of_columns


class Kept(NamedTuple):
    """What one expert's forward pass leaves for its backward pass."""

    x_MD: Tensor
    gate_up_MG: Tensor
    active_MF: Tensor
    """silu(gate)."""
    product_MF: Tensor
    """silu(gate) * up."""


def swiglu(x_MD: Tensor, gate_up_GD: Tensor) -> Kept:
    """silu(gate x) * up x of the tokens, the last field, and what led to it."""
    gate_up_MG = product(x_MD, gate_up_GD)
    return Kept(x_MD, gate_up_MG, *gated(gate_up_MG))


def gated(gate_up_MG: Tensor) -> tuple[Tensor, Tensor]:
    """silu(gate), and silu(gate) * up."""
    gate_MF, up_MF = gate_up_MG.chunk(2, dim=1)
    active_MF = F.silu(gate_MF)
    return active_MF, active_MF * up_MF


def swiglu_backward(grad_MD: Tensor, kept: Kept, down_DF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one expert's gate and up products [M, G] and of its two matrices."""
    grad_gate_up_MG = _swiglu_backward(product(grad_MD, down_DF.t()), kept)
    grad_down_DF = product_of_columns(grad_MD, kept.product_MF)
    return grad_gate_up_MG, product_of_columns(grad_gate_up_MG, kept.x_MD), grad_down_DF


def _swiglu_backward(grad_product_MF: Tensor, kept: Kept) -> Tensor:
    gate_MF, up_MF = kept.gate_up_MG.chunk(2, dim=1)
    grad_gate_up_MG = torch.empty_like(kept.gate_up_MG)
    grad_gate_MF, grad_up_MF = grad_gate_up_MG.chunk(2, dim=1)
    torch.mul(grad_product_MF, kept.active_MF, out=grad_up_MF)
    torch.ops.aten.silu_backward.grad_input(grad_product_MF.mul_(up_MF), gate_MF, grad_input=grad_gate_MF)
    return grad_gate_up_MG


def _in_product_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


# ---------------------------------------------------------------- routed


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Assignments in order of their expert, in C places."""

    one_by_one: bool
    """Each expert is computed by itself, and those with `ROWS` assignments or more are filled up to multiples of it."""
    token_C: Tensor
    """Row of the token in each place, int64; token 0 where a place is only filling."""
    place_A: Tensor
    """Place of each unsorted assignment (token-major), int64."""
    count_E: Tensor
    """Number of places of each expert, int64."""


def dispatch(expert_NK: Tensor, *, num_experts: int) -> Dispatch:
    """Sort the assignments `expert_NK` (int64 expert ids) by expert, keeping the tokens' order."""
    k = expert_NK.shape[1]
    expert_A = expert_NK.reshape(-1)
    order_A = torch.argsort(expert_A, stable=True)
    sorted_A = torch.empty_like(order_A)
    sorted_A[order_A] = torch.arange(order_A.numel(), device=order_A.device)
    count_E = torch.bincount(expert_A, minlength=num_experts)
    if expert_NK.device.type != "cpu" or matmul_kernel() != "onednn" or len(expert_A) < ROWS * num_experts:
        return Dispatch(False, order_A // k, sorted_A, count_E)
    filled_E = torch.where(count_E < ROWS, count_E, (count_E + ROWS - 1) // ROWS * ROWS)
    shift_E = (filled_E - count_E).cumsum(0) - (filled_E - count_E)
    place_A = sorted_A + shift_E.index_select(0, expert_A)
    token_C = order_A.new_zeros(int(filled_E.sum()))
    token_C[place_A] = torch.arange(expert_A.numel()) // k
    return Dispatch(True, token_C, place_A, filled_E)


Matrices = tuple[Tensor, Tensor]
"""Gate and up rows, and down."""


def experts(
    hidden_ND: Tensor, *, weight_NK: Tensor, expert_NK: Tensor, routed: Matrices, shared: Matrices | None = None
) -> Tensor:
    """Sum over the K chosen experts of weight * down(silu(gate x) * up x), and the shared expert's, shape [N, D]; differentiable.

    Computed in the dtype of autocast where that is on.
    """
    plan = dispatch(expert_NK, num_experts=len(routed[0]))
    operands = _in_product_dtype(hidden_ND, weight_NK, *routed, *(shared or ()))
    return _Experts.apply(plan, *operands)


def routed_experts(
    plan: Dispatch, hidden_ND: Tensor, weight_NK: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """The weighted sum of the chosen experts [N, D], their outputs [C, D], and what the backward pass needs; without a gradient."""
    forward = _forward_each if plan.one_by_one else _forward_grouped
    out_CD, kept = forward(hidden_ND.index_select(0, plan.token_C), gate_up_EGD, down_EDF, plan.count_E)
    place_NK = plan.place_A.view_as(weight_NK)
    return F.embedding_bag(place_NK, out_CD, per_sample_weights=weight_NK, mode="sum"), out_CD, kept


def _forward_each(
    hidden_CD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, count_E: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Outputs of the sorted assignments, expert after expert, and what all of them keep, flat."""
    pieces = hidden_CD.split(count_E.tolist())
    done = [swiglu(*expert) for expert in zip(pieces, gate_up_EGD, strict=True)]
    out = [product(kept.product_MF, down_DF) for kept, down_DF in zip(done, down_EDF, strict=True)]
    return torch.cat(out), [tensor for kept in done for tensor in kept]


def _backward_each(
    grad_CD: Tensor, kept: Sequence[Tensor], gate_up_EGD: Tensor, down_EDF: Tensor, count_E: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    size = len(Kept._fields)
    pieces = grad_CD.split(count_E.tolist())
    of_each = [Kept(*kept[start : start + size]) for start in range(0, len(kept), size)]
    done = [swiglu_backward(*expert) for expert in zip(pieces, of_each, down_EDF, strict=True)]
    grad_hidden = [product(grad[0], gate_up_GD.t()) for grad, gate_up_GD in zip(done, gate_up_EGD, strict=True)]
    _, grad_gate_up, grad_down = zip(*done, strict=True)
    return torch.cat(grad_hidden), torch.stack(grad_gate_up), torch.stack(grad_down)


def _forward_grouped(
    hidden_CD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, count_E: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    ends_E = count_E.cumsum(0).to(torch.int32)
    gate_up_CG = F.grouped_mm(hidden_CD, gate_up_EGD.transpose(1, 2), offs=ends_E)
    kept = Kept(hidden_CD, gate_up_CG, *gated(gate_up_CG))
    return F.grouped_mm(kept.product_MF, down_EDF.transpose(1, 2), offs=ends_E), kept


def _backward_grouped(
    grad_CD: Tensor, kept: Sequence[Tensor], gate_up_EGD: Tensor, down_EDF: Tensor, count_E: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    ends_E = count_E.cumsum(0).to(torch.int32)
    of_all = Kept(*kept)
    grad_product_CF = F.grouped_mm(grad_CD, down_EDF, offs=ends_E)
    grad_down_EDF = F.grouped_mm(grad_CD.t(), of_all.product_MF, offs=ends_E)
    grad_gate_up_CG = _swiglu_backward(grad_product_CF, of_all)
    grad_hidden_CD = F.grouped_mm(grad_gate_up_CG, gate_up_EGD, offs=ends_E)
    return grad_hidden_CD, F.grouped_mm(grad_gate_up_CG.t(), of_all.x_MD, offs=ends_E), grad_down_EDF


class _Experts(torch.autograd.Function):
    """Gather, all experts, weigh and sum, then the shared expert; the gradient of an expert that nobody chose is zero."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        plan: Dispatch,
        hidden_ND: Tensor,
        weight_NK: Tensor,
        gate_up_EGD: Tensor,
        down_EDF: Tensor,
        *shared: Tensor,
    ) -> Tensor:
        sum_ND, out_CD, kept = routed_experts(plan, hidden_ND, weight_NK, gate_up_EGD, down_EDF)
        kept_shared: Sequence[Tensor] = ()
        if shared:
            kept_shared = swiglu(hidden_ND, shared[0])
            add_product(sum_ND, kept_shared[-1], shared[1])
        ctx.plan, ctx.num_shared = plan, len(shared) + len(kept_shared)
        ctx.save_for_backward(*shared, *kept_shared, weight_NK, gate_up_EGD, down_EDF, out_CD, *kept)
        return sum_ND

    @staticmethod
    def backward(  # ty: ignore[incompatible-method-override] - one gradient comes in
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        grad_ND: Tensor,
    ) -> tuple[Tensor | None, ...]:
        plan: Dispatch = ctx.plan
        saved = ctx.saved_tensors
        of_shared, (weight_NK, gate_up_EGD, down_EDF, out_CD, *kept) = saved[: ctx.num_shared], saved[ctx.num_shared :]
        grad_CD = grad_ND.index_select(0, plan.token_C)
        grad_weight_C = (grad_CD * out_CD).sum(1)
        weight_C = weight_NK.new_zeros(len(plan.token_C))  # filling gets no gradient
        weight_C[plan.place_A] = weight_NK.reshape(-1)
        grad_CD.mul_(weight_C[:, None])
        backward = _backward_each if plan.one_by_one else _backward_grouped
        grad_hidden_CD, *grad_weights = backward(grad_CD, kept, gate_up_EGD, down_EDF, plan.count_E)
        grad_hidden_ND = F.embedding_bag(plan.place_A.view_as(weight_NK), grad_hidden_CD, mode="sum")
        if of_shared:
            shared_gate_up_GD, shared_down_DF, *kept_shared = of_shared
            grad_gate_up_NG, *grad_shared = swiglu_backward(grad_ND, Kept(*kept_shared), shared_down_DF)
            add_product(grad_hidden_ND, grad_gate_up_NG, shared_gate_up_GD.t())
            grad_weights += grad_shared
        grad_weight_NK = grad_weight_C.index_select(0, plan.place_A).view_as(weight_NK)
        return None, grad_hidden_ND, grad_weight_NK, *grad_weights
