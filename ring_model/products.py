"""Matrix products with a backward pass, by the library that is faster on this processor, see `matmul_kernel`."""

import functools
import os
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kernel = Literal["mkl", "onednn"]
FORCED = "RING_MATMUL"
"""Environment variable that names the kernel, for a comparison."""

ROWS = 32
"""oneDNN gets multiples of so many rows; the rest goes to MKL. Below this oneDNN's overhead of a call is more than it saves."""
_MANY_ROWS, _ROWS_OF_MANY = 512, 128


@functools.cache
def matmul_kernel() -> Kernel:
    """The library of float32 products on this CPU: RING_MATMUL where it is set, else a rule that is the same at every start.

    torch multiplies by MKL, which uses AVX-512 on Intel's processors alone; oneDNN, in the same torch, uses it on any, for
    10 to 20 microseconds more a call. Hence "onednn" on another vendor's processor with AVX-512, "mkl" (torch's own, whatever
    it was built with) elsewhere. Measured, one thread, the shapes of training here: on an AMD EPYC with AVX-512 230 to
    260 GFLOP/s by oneDNN against 110 by MKL, 150 to 180 against 100 for the products of transposes that weight gradients are; on
    an Intel Xeon (AVX-512) 110 to 140 against 130 to 160, 60 to 85 against 100 to 150, and 20 against 60 to 110 for 16 rows. Not
    measured: AMD without AVX-512, and ARM, where "mkl" is what torch does by itself.

    Raises:
        ValueError: RING_MATMUL names another library, or one that this torch lacks.

    """
    forced = os.environ.get(FORCED)
    has_onednn = torch.backends.mkldnn.is_available()
    if forced:
        if forced not in get_args(Kernel) or (forced == "onednn" and not has_onednn):
            known = [name for name in get_args(Kernel) if name == "mkl" or has_onednn]
            raise ValueError(
                f"{FORCED} = {forced!r}: this torch multiplies by {' or '.join(known)}; set one, or unset it"
            )
        return "onednn" if forced == "onednn" else "mkl"
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "onednn" if has_onednn and has_avx512 and cpu_vendor() != "GenuineIntel" else "mkl"


def cpu_vendor() -> str:
    """The processor's vendor as it names itself (`GenuineIntel`, `AuthenticAMD`), "" where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def product(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """The product of a and the transpose of b, [M, N]; without a gradient. b may be a transposed view."""
    whole = _onednn_rows(a_MK)
    if not whole:
        return torch.mm(a_MK, b_NK.t())
    if whole == len(a_MK):
        return _onednn(a_MK, b_NK)
    return torch.cat((_onednn(a_MK[:whole], b_NK), torch.mm(a_MK[whole:], b_NK.t())))


def add_product(sum_MN: Tensor, a_MK: Tensor, b_NK: Tensor) -> Tensor:
    """Add the product of a and the transpose of b to `sum_MN` in place; without a gradient."""
    return sum_MN.add_(product(a_MK, b_NK)) if _onednn_rows(a_MK) else sum_MN.addmm_(a_MK, b_NK.t())


def product_of_columns(a_MN: Tensor, b_MK: Tensor) -> Tensor:
    """The transpose of a times b, [N, K], summed over the M rows; without a gradient."""
    whole = _onednn_rows(a_MN)
    if not whole:
        return torch.mm(a_MN.t(), b_MK)
    sum_NK = _onednn(a_MN[:whole].t(), b_MK[:whole].t())
    return sum_NK if whole == len(a_MN) else sum_NK.addmm_(a_MN[whole:].t(), b_MK[whole:])


def _onednn_rows(a_MK: Tensor) -> int:
    """How many of the first rows oneDNN takes. A new shape costs it 0.4 ms (it writes code), so that shapes must repeat."""
    if a_MK.device.type != "cpu" or a_MK.dtype != torch.float32 or matmul_kernel() == "mkl":
        return 0
    step = ROWS if len(a_MK) < _MANY_ROWS else _ROWS_OF_MANY
    return len(a_MK) - len(a_MK) % step


def _onednn(a_MK: Tensor, b_NK: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a_MK, b_NK, None, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_NK: Tensor, order_N: Tensor | None) -> Tensor:  # noqa: ANN401 - torch gives it no type
        ctx.save_for_backward(x_MK, weight_NK, order_N)
        return product(x_MK, _ordered(weight_NK, order_N))

    @staticmethod
    def backward(  # ty: ignore[incompatible-method-override] - one gradient comes in
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        grad_MN: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None]:
        x_MK, weight_NK, order_N = ctx.saved_tensors
        wants_x, wants_weight, _ = ctx.needs_input_grad
        grad_x_MK = product(grad_MN, _ordered(weight_NK, order_N).t()) if wants_x else None
        grad_weight_NK = product_of_columns(grad_MN, x_MK) if wants_weight else None
        if order_N is not None and grad_weight_NK is not None:
            grad_weight_NK = torch.empty_like(grad_weight_NK).index_copy_(0, order_N, grad_weight_NK)
        return grad_x_MK, grad_weight_NK, None


def _ordered(rows_N: Tensor, order_N: Tensor | None) -> Tensor:
    return rows_N if order_N is None else rows_N.index_select(0, order_N)


def linear(x_MK: Tensor, weight_NK: Tensor, *, bias_N: Tensor | None = None, order_N: Tensor | None = None) -> Tensor:
    """Rows times the transpose of the weight, plus the bias where there is one, [M, N]; differentiable. Autocast applies.

    `order_N`, a permutation, gives the order in which the weight's rows, and the bias's numbers, become columns of the result.
    """
    if x_MK.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        out_MN = _Linear.apply(x_MK, weight_NK, order_N)
    else:
        out_MN = F.linear(x_MK, _ordered(weight_NK, order_N))
    return out_MN if bias_N is None else out_MN + _ordered(bias_N, order_N).to(out_MN.dtype)


def float32_linear(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    """`linear` in float32 whatever the dtype of its operands and of autocast; the result is float32."""
    with torch.autocast(x_MK.device.type, enabled=False):
        return linear(x_MK.float(), weight_NK.float())


class Linear(nn.Module):
    """A matrix, `weight` [size_out, size_in], and where asked for a `bias` [size_out]; see `linear`. Unset until someone fills it."""

    bias: nn.Parameter | None

    def __init__(self, size_in: int, size_out: int, *, has_bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_out, size_in))
        self.bias = nn.Parameter(torch.empty(size_out)) if has_bias else None

    def forward(self, x_MK: Tensor) -> Tensor:
        """Rows times the transpose of the weight, plus the bias."""
        return linear(x_MK, self.weight, bias_N=self.bias)
