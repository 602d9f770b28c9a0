"""Matrix products with a backward pass: oneDNN's float32 kernels on a CPU, torch's own everywhere else.

torch multiplies float32 matrices on a CPU by MKL, which on processors that are not Intel's does without AVX-512. oneDNN, in the
same torch, does not: on an AMD EPYC (one thread) 230 to 260 GFLOP/s against 110 for the shapes of training here, and 150 to 180
against 100 for the products of transposes that weight gradients are. It costs 10 microseconds more a call, so that few rows go to MKL.
"""

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 32
"""oneDNN gets multiples of so many rows; the rest goes to MKL. Below this oneDNN's overhead of a call is more than it saves."""
_MANY_ROWS, _ROWS_OF_MANY = 512, 128
FORCE = "RING_MATMUL"


def matmul_kernel() -> str:
    """What multiplies float32 matrices on this CPU: `mkl` or `onednn`; `RING_MATMUL` decides where it is set."""
    wanted = os.environ.get(FORCE)
    if wanted not in (None, "mkl", "onednn"):
        raise ValueError(f"{FORCE}={wanted}: must be mkl or onednn")
    return wanted or ("onednn" if torch.backends.mkldnn.is_available() else "mkl")


_HAS_ONEDNN = matmul_kernel() == "onednn"


def product(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """The product of a and the transpose of b, [M, N]; without a gradient. b may be a transposed view."""
    whole = _onednn_rows(a_MK)
    if not whole:
        return torch.mm(a_MK, b_NK.t())
    if whole == len(a_MK):
        return _onednn(a_MK, b_NK)
    return torch.cat((_onednn(a_MK[:whole], b_NK), torch.mm(a_MK[whole:], b_NK.t())))


def product_of_columns(a_MN: Tensor, b_MK: Tensor) -> Tensor:
    """The transpose of a times b, [N, K], summed over the M rows; without a gradient."""
    whole = _onednn_rows(a_MN)
    if not whole:
        return torch.mm(a_MN.t(), b_MK)
    sum_NK = _onednn(a_MN[:whole].t(), b_MK[:whole].t())
    return sum_NK if whole == len(a_MN) else sum_NK.addmm_(a_MN[whole:].t(), b_MK[whole:])


def _onednn_rows(a_MK: Tensor) -> int:
    """How many of the first rows oneDNN takes. A new shape costs it 0.4 ms (it writes code), so that shapes must repeat."""
    if not (_HAS_ONEDNN and a_MK.device.type == "cpu" and a_MK.dtype == torch.float32):
        return 0
    step = ROWS if len(a_MK) < _MANY_ROWS else _ROWS_OF_MANY
    return len(a_MK) - len(a_MK) % step


def _onednn(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a_MK, b_NK, None, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_NK: Tensor) -> Tensor:  # noqa: ANN401 - torch gives it no type
        ctx.save_for_backward(x_MK, weight_NK)
        return product(x_MK, weight_NK)

    @staticmethod
    def backward(  # ty: ignore[incompatible-method-override] - one gradient comes in
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        grad_MN: Tensor,
    ) -> tuple[Tensor | None, Tensor | None]:
        x_MK, weight_NK = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        return (
            product(grad_MN, weight_NK.t()) if wants_x else None,
            product_of_columns(grad_MN, x_MK) if wants_weight else None,
        )


def linear(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    """Rows times the transpose of the weight, [M, N]; differentiable. Autocast applies."""
    if x_MK.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        return _Linear.apply(x_MK, weight_NK)
    return F.linear(x_MK, weight_NK)


class Linear(nn.Module):
    """A matrix without bias, `weight` [size_out, size_in], applied by `linear`. Unset until someone fills it."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_out, size_in))

    def forward(self, x_MK: Tensor) -> Tensor:
        """Rows times the transpose of the weight."""
        return linear(x_MK, self.weight)
