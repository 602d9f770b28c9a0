"""Log-probabilities and entropies of response tokens under the trainer's forward pass.

In: prompts and responses as right-padded rows. Out: one number per response token, row after row; logits are computed
at those places only. Entropy is that of the full softmax at temperature 1 (paper section 4.3.1, our reading).

Axes: B rows, T tokens of a row, M response tokens (row-major), D hidden, V vocabulary.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ring_model.checkpoint import ALONE, Ranks, read_parameters, refill, save_model, save_parameters
from ring_model.head import Entropy
from ring_model.modelling import Attention, BailingMoe, MoeBlock, RouterOutput, pair_order
from ring_model.rows import RowLayout, SharedPrompts
from ring_model.shape import Shape


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


@dataclass(frozen=True)  # DeepSpeed looks into the __dict__ of what a module gives
class ResponseLogprobs:
    """Numbers of the M response tokens, row after row."""

    logprobs_M: Tensor
    """Log-probability of each response token, in nats."""
    entropies_M: Tensor | None
    """Entropy at temperature 1 of the distribution it was drawn from, in nats; None when not asked for."""
    router: RouterOutput | None
    """Router losses over all tokens of the rows, prompts among them; None of a model without routers."""
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
    model: BailingMoe, rows: PackedRows, *, entropy: Entropy = "detached", temperature: float = 1.0
) -> ResponseLogprobs:
    """Log-probabilities (at `temperature`) and entropies (at temperature 1) of the response tokens of `rows`.

    Gradients flow unless the caller disables them; `entropy="detached"` keeps them out of the entropies (a metric),
    "gradient" lets them in (a regulariser). Response token t is predicted by the hidden state of token t - 1.
    """
    prompts = SharedPrompts(rows.first_row_B, rows.prompt_lengths_B)
    output = model(rows.tokens_BT, lengths_B=rows.lengths_B, prompts=prompts)
    hidden_MD = output.hidden_ND.index_select(0, output.layout.tokens_in(predicting_places(rows)))
    scored = model.lm_head(hidden_MD, response_tokens(rows), entropy=entropy, temperature=temperature)
    return ResponseLogprobs(*scored, output.router, output.layout)


class Scorer(nn.Module):
    """A causal language model as it is trained: rows in, `ResponseLogprobs` out, and every parameter used in between."""

    shape: Shape
    leaves: tuple[type[nn.Module], ...] = ()
    """Classes of modules whose parameters ZeRO 3 gathers together, since their forward passes use those of modules inside."""

    def read(
        self, device: torch.device | str, dtype: torch.dtype, then: Callable[[nn.Parameter], None] = lambda _: None
    ) -> None:
        """Read the weights, where that was put off, one parameter at a time; `then` may take each away before the next comes.

        Buffers keep their dtype: rotary frequencies in bfloat16 would turn distant positions by radians.
        """
        self.to(device)
        for parameter in self.parameters():
            parameter.data = parameter.data.to(dtype)

    @property
    def scorer(self) -> "Scorer":
        """Itself, as an `Engine` has one."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype

    def forward(self, rows: PackedRows, *, entropy: Entropy = "detached", temperature: float = 1.0) -> ResponseLogprobs:
        """See `response_logprobs`."""
        raise NotImplementedError

    def compute_in(self, dtype: torch.dtype) -> None:
        """Dtype of the large products; those of routers and logits stay float32."""
        raise NotImplementedError

    def checkpoint_layers(self) -> None:
        """Keep only the inputs of layers for the backward pass, and compute the rest again."""
        raise NotImplementedError

    def freeze_routers(self) -> None:
        """Take the routers' weights out of training."""
        raise NotImplementedError

    def save(self, folder: Path, *, end_ids: Sequence[int], ranks: Ranks = ALONE) -> None:
        """Write a model folder, of which each rank writes its part; all ranks call."""
        raise NotImplementedError

    def publish(self, folder: Path) -> None:
        """Write the weights for a process of this machine that soon reads them; one rank calls, which has them whole."""
        raise NotImplementedError

    def refill(self, folder: Path) -> None:
        """Read the weights of a model folder."""
        raise NotImplementedError

    def whole(self) -> AbstractContextManager[Any]:
        """Within it every parameter is there."""
        return nullcontext()

    @torch.no_grad()
    def next_token_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of every token but the first."""
        return self(one_row(tokens, self.device), entropy="none").logprobs_M.tolist()


class BailingScorer(Scorer):
    """A BailingMoE in training."""

    model: BailingMoe
    leaves = (Attention, MoeBlock)

    def __init__(self, model: BailingMoe, *, unread: Path | None = None) -> None:
        """`unread`: the folder whose weights the model, an `unread_model`, has not got yet."""
        super().__init__()
        self.model = model
        self.shape = model.config.shape
        self._unread = unread

    def read(
        self, device: torch.device | str, dtype: torch.dtype, then: Callable[[nn.Parameter], None] = lambda _: None
    ) -> None:
        """See `Scorer.read`."""
        if self._unread is None:
            super().read(device, dtype)
            return
        for module, name, tensor in read_parameters(self.model, self._unread):
            wanted = module.get_parameter(name).requires_grad
            module.register_parameter(name, parameter := nn.Parameter(tensor.to(device, dtype), requires_grad=wanted))
            then(parameter)
        for module in self.model.modules():
            if isinstance(module, Attention):
                module.pair_order_C = pair_order(self.model.config).to(device)
        self._unread = None

    def forward(self, rows: PackedRows, *, entropy: Entropy = "detached", temperature: float = 1.0) -> ResponseLogprobs:
        """See `response_logprobs`."""
        return response_logprobs(self.model, rows, entropy=entropy, temperature=temperature)

    def compute_in(self, dtype: torch.dtype) -> None:
        """See `BailingMoe`."""
        self.model.compute_dtype = dtype

    def checkpoint_layers(self) -> None:
        """See `BailingMoe`."""
        self.model.checkpoints_layers = True

    def freeze_routers(self) -> None:
        """Take the routers' weights out of training."""
        for module in self.model.modules():
            if isinstance(module, MoeBlock):
                module.gate.weight.requires_grad = False

    def save(self, folder: Path, *, end_ids: Sequence[int], ranks: Ranks = ALONE) -> None:
        """See `save_model`."""
        save_model(self.model, folder, end_ids=end_ids, ranks=ranks)

    def publish(self, folder: Path) -> None:
        """See `save_parameters`."""
        save_parameters(self.model, folder)

    def refill(self, folder: Path) -> None:
        """See `refill`."""
        refill(self.model, folder)


def one_row(tokens: Sequence[int], device: torch.device | str) -> PackedRows:
    """A row in which every token but the first is of the response."""
    return pack_rows([tokens[:1]], [tokens[1:]], device=device)


def predicting_places(rows: PackedRows) -> Tensor:
    """Whether a place is the one before a response token, bool [B, T]."""
    position_T = torch.arange(rows.tokens_BT.shape[1], device=rows.tokens_BT.device)
    return (position_T >= rows.prompt_lengths_B[:, None] - 1) & (position_T < rows.lengths_B[:, None] - 1)


def response_tokens(rows: PackedRows) -> Tensor:
    """Ids of the response tokens, int64 [M]."""
    position_T = torch.arange(rows.tokens_BT.shape[1], device=rows.tokens_BT.device)
    is_response = (position_T >= rows.prompt_lengths_B[:, None]) & (position_T < rows.lengths_B[:, None])
    return rows.tokens_BT[is_response]
