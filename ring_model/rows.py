"""Where the tokens of a batch lie in rectangular rows: padding is not computed, and a beginning that rows share is computed once.

Attention alone sees rows. There a token stands in every row that begins with it, so that all of them attend to it; its own result is
read in the first of them, and its gradient is the sum over all. What is computed token by token (matrices, experts, norms, router)
sees it once, and statistics over tokens count it as often as it stands in a row: the numbers are those of the rows by themselves.

Axes: B rows, T places of a row, P = B * T places, N tokens that are computed, Q places that hold a token, C columns.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SharedPrompts:
    """Rows of one batch that begin alike."""

    first_row_B: Tensor
    """The first row that begins as each row does, int64; often the row itself."""
    lengths_B: Tensor
    """Number of tokens of each row's beginning, int64."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Tokens that stand in several places."""

    place_Q: Tensor
    """Places in order of their token, int64."""
    start_N: Tensor
    """Where each token's begin among them, int64."""
    count_N: Tensor
    """Number of each token's places, float32."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where N tokens lie in B rows of T places."""

    num_rows: int
    """B."""
    width: int
    """T."""
    place_N: Tensor | None = None
    """Place b * T + t of each token, the first of its places, int64; None when every place has a token of its own."""
    token_P: Tensor | None = None
    """Token in each place, int64; any where the place is padding. None as before."""
    repeats: Repeats | None = None
    """None when no token has several places."""

    @classmethod
    def of(
        cls, tokens_BT: Tensor, lengths_B: Tensor | None = None, prompts: SharedPrompts | None = None
    ) -> "RowLayout":
        """Lay out rows of the given lengths; without lengths every place is valid, without prompts no rows share one."""
        num_rows, width = tokens_BT.shape
        row_B1 = torch.arange(num_rows, device=tokens_BT.device)[:, None]
        is_shared = prompts is not None and bool((prompts.first_row_B[:, None] != row_B1).any())
        if not is_shared and (lengths_B is None or bool((lengths_B == width).all())):
            return cls(num_rows, width)
        position_T = torch.arange(width, device=tokens_BT.device)
        is_valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        if lengths_B is not None:
            is_valid_BT = position_T < lengths_B.to(tokens_BT.device)[:, None]
        row_BT = row_B1.expand(num_rows, width)
        if prompts is not None and is_shared:
            in_prompt_BT = position_T < prompts.lengths_B[:, None]
            row_BT = torch.where(in_prompt_BT, prompts.first_row_B[:, None], row_B1)
        is_first_P = (is_valid_BT & (row_BT == row_B1)).flatten()
        place_N = is_first_P.nonzero().squeeze(1)
        first_place_P = (row_BT * width + position_T).flatten()
        token_P = (is_first_P.cumsum(0) - 1).clamp_(min=0).index_select(0, first_place_P)
        repeats = _repeats(token_P, is_valid_BT.flatten(), num_tokens=len(place_N)) if is_shared else None
        return cls(num_rows, width, place_N, token_P, repeats)

    @property
    def counts(self) -> Tensor | None:
        """Number of places of each token, float32 [N]; None when all have one."""
        return None if self.repeats is None else self.repeats.count_N

    @property
    def token_rows(self) -> Tensor:
        """Row of each token, the first of those in which it stands, int64 [N]."""
        place_N = torch.arange(self.num_rows * self.width) if self.place_N is None else self.place_N
        return place_N // self.width

    def to_rows(self, x_NC: Tensor) -> Tensor:
        """Rows [B, T, C] of tokens; the padding holds finite numbers without a meaning, and gets no gradient."""
        x_PC = x_NC if self.token_P is None else _Spread.apply(x_NC, self)
        return x_PC.view(self.num_rows, self.width, -1)

    def to_tokens(self, x_BTC: Tensor) -> Tensor:
        """Tokens [N, C] of rows, each from the first of its places."""
        x_PC = x_BTC.reshape(self.num_rows * self.width, -1)
        return x_PC if self.place_N is None else x_PC.index_select(0, self.place_N)

    def tokens_in(self, is_chosen_BT: Tensor) -> Tensor:
        """The token in each of some valid places, int64, row after row."""
        place = is_chosen_BT.flatten().nonzero().squeeze(1)
        return place if self.token_P is None else self.token_P.index_select(0, place)


def _repeats(token_P: Tensor, is_valid_P: Tensor, *, num_tokens: int) -> Repeats:
    place_Q = is_valid_P.nonzero().squeeze(1)
    token_Q = token_P.index_select(0, place_Q)
    count_N = torch.bincount(token_Q, minlength=num_tokens)
    order_Q = token_Q.argsort(stable=True)
    return Repeats(place_Q.index_select(0, order_Q), count_N.cumsum(0) - count_N, count_N.float())


class _Spread(torch.autograd.Function):
    """Every place gets its token; a token's gradient is the sum over its places in their order."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, layout: RowLayout) -> Tensor:  # noqa: ANN401 - torch gives it no type
        assert layout.token_P is not None
        ctx.layout = layout
        return x_NC.index_select(0, layout.token_P)

    @staticmethod
    def backward(ctx: Any, grad_PC: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401  # ty: ignore[incompatible-method-override]
        layout: RowLayout = ctx.layout
        if layout.repeats is None:
            assert layout.place_N is not None
            return grad_PC.index_select(0, layout.place_N), None
        return F.embedding_bag(layout.repeats.place_Q, grad_PC, layout.repeats.start_N, mode="sum"), None


def token_mean(x_N: Tensor, count_N: Tensor | None) -> Tensor:
    """Mean over the first axis, in which each token counts so often (None: once); the other axes stay."""
    if count_N is None:
        return x_N.mean(dim=0)
    return torch.tensordot(count_N / count_N.sum(), x_N, dims=1)
