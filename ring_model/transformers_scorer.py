"""Any causal language model that transformers opens, in training: dense or with routed experts, whole or by low-rank adapters.

In: a model folder. Out: a `Scorer`, whose forward pass is transformers' up to the last hidden states; logits are computed at the places
that predict a response, in float32 and in pieces, as for our own architecture. A model that does more to its logits than one product
(scales or caps them) is refused. Routers count where they choose by softmax and transformers records their logits (Qwen-MoE, Mixtral,
OLMoE, ...): the balance loss and z loss of paper eq. 6 are of those logits. Of other routers nothing is known: no loss is theirs.
There is no dropout.

Axes: B rows, T places, N tokens, M response tokens, D hidden, E experts, V vocabulary.
"""

import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ring_model.causal_lm import load_pretrained
from ring_model.checkpoint import ALONE, Ranks
from ring_model.configuration import GENERATION_FILE, MODEL_TYPE
from ring_model.head import Entropy, Head, scores
from ring_model.modelling import RouterOutput, route, router_output
from ring_model.policy import PackedRows, ResponseLogprobs, Scorer, predicting_places, response_tokens
from ring_model.products import float32_linear
from ring_model.rows import RowLayout
from ring_model.shape import NO_LIMIT, Routers, Shape

ADAPTER = "adapter"
"""Folder of the adapter inside that of a model which was trained by one; the model's own weights have it merged."""

_HERE = {"trust_remote_code": False, "local_files_only": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Low-rank adapters (LoRA, 2106.09685): W + alpha / rank * B A, of which A and B are trained."""

    rank: int
    """Columns of B."""
    alpha: int
    """Scale times rank."""
    targets: tuple[str, ...] | str = "all-linear"
    """Names of linear modules; every one but the output matrix by default."""
    parameters: tuple[str, ...] = ()
    """Names of stacked parameters, such as `mlp.experts.down_proj`."""


class LinearHead(nn.Module):
    """An output matrix of another model, which it shares, with the bias where there is one."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        assert isinstance(linear.weight, nn.Parameter)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(
        self, hidden_MD: Tensor, target_M: Tensor, *, entropy: Entropy = "detached", temperature: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """See `scores`."""
        logits = partial(_logits, weight_VD=self.weight, bias_V=self.bias)
        return scores(
            hidden_MD, target_M, logits, vocab_size=len(self.weight), entropy=entropy, temperature=temperature
        )

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Logits [M, V]."""
        return _logits(hidden_MD, self.weight, self.bias)


def _logits(hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    logits_MV = float32_linear(hidden_MD, weight_VD)
    return logits_MV if bias_V is None else logits_MV + bias_V.float()


class _TakenTogether(torch.autograd.Function):
    """The same tensors, whose backward pass goes on to every one of them, with zeros for those that a loss leaves out.

    DeepSpeed's ZeRO 3 notes a module in its trace once for each of its outputs that a backward pass comes to. A rank whose pass leaves
    the trace drops it and compares the next one with the other ranks, which wait for parameters instead: all stand still. Transformers'
    models give their routers' logits beside the hidden states, and a rank with fewer micro-batches has no router loss
    (`Engine.score_nothing`).
    """

    @staticmethod
    def forward(_: Any, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - torch gives it no type
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - as torch names and types them
        return grad_outputs


class TransformersScorer(Scorer):
    """A model of transformers in training; at ZeRO 3 each rank reads it whole, and then keeps its part."""

    def __init__(self, folder: Path, *, adapters: Adapters | None = None) -> None:
        """Open a folder, float32.

        Raises:
            ValueError: as `load_causal_lm`, the logits are more than one product, or no module has the name of a target.

        """
        super().__init__()
        self._folder, self._adapters = folder, adapters
        self.model: Any = load_pretrained(folder, "cpu")
        self.head = _shared_head(self.model)
        self.shape = _shape(self.model)
        _require_plain_logits(self.model, self.head, folder)
        self.leaves = _moe_blocks(self.model)
        _without_dropout(self.model)
        self._peft: tuple[Any, ...] = ()  # a tuple, so that its modules, which are the model's, are not counted twice
        if adapters is not None:
            self._peft = (_with_adapters(self.model, adapters, folder),)

    def forward(self, rows: PackedRows, *, entropy: Entropy = "detached", temperature: float = 1.0) -> ResponseLogprobs:
        """See `response_logprobs`; prompts that rows share are computed in each of them."""
        layout = RowLayout.of(rows.tokens_BT, rows.lengths_B)
        mask_BT = torch.arange(rows.tokens_BT.shape[1], device=self.device) < rows.lengths_B[:, None]
        wants = {"output_router_logits": True} if self.shape.routers.num_layers else {}
        output = self.model.base_model(rows.tokens_BT, attention_mask=mask_BT.long(), use_cache=False, **wants)
        hidden, *logits = _TakenTogether.apply(output.last_hidden_state, *(output.router_logits if wants else ()))
        hidden_ND = layout.to_tokens(hidden)
        hidden_MD = hidden_ND.index_select(0, layout.tokens_in(predicting_places(rows)))
        scored = self.head(hidden_MD, response_tokens(rows), entropy=entropy, temperature=temperature)
        return ResponseLogprobs(*scored, self._router(logits, layout) if wants else None, layout)

    def _router(self, logits_by_layer: Sequence[Tensor], layout: RowLayout) -> RouterOutput:
        routings = []
        for logits in logits_by_layer:
            logits_PE = logits.reshape(layout.num_rows * layout.width, -1)
            logits_NE = logits_PE if layout.place_N is None else logits_PE.index_select(0, layout.place_N)
            routings.append(route(logits_NE, k=self.shape.routers.num_chosen, normalise=False))
        return router_output(routings)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Transformers computes in the dtype of the parameters, its routers, too; logits are float32 products here as well."""

    def checkpoint_layers(self) -> None:
        """As transformers does it."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()

    def freeze_routers(self) -> None:
        """Take the routers' weights out of training."""
        for module in self.model.modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.requires_grad_(requires_grad=False)

    # ------------------------------------------------------------ folders

    def save(self, folder: Path, *, end_ids: Sequence[int], ranks: Ranks = ALONE) -> None:
        """Write the folder as transformers does; one trained by adapters has them merged, and beside them in `adapter/`.

        Rank 0 writes all of it: it needs room for one more model.
        """
        with ranks.gathered(self.parameters()):
            if ranks.rank == 0:
                self._write(folder, keeps_adapter=True)
                if end_ids:
                    _name_ends(folder / GENERATION_FILE, end_ids)

    def publish(self, folder: Path) -> None:
        """Write the folder, with adapters merged."""
        self._write(folder, keeps_adapter=False)

    def _write(self, folder: Path, *, keeps_adapter: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if not self._peft:
            self.model.save_pretrained(folder)
            return
        with nullcontext(folder / ADAPTER) if keeps_adapter else tempfile.TemporaryDirectory() as adapter:
            self._peft[0].save_pretrained(adapter)
            _merged(self._folder, Path(adapter)).save_pretrained(folder)

    def refill(self, folder: Path) -> None:
        """Read the weights of a folder of the same architecture."""
        self.model.load_state_dict(load_pretrained(folder, "cpu").state_dict())


def _name_ends(path: Path, end_ids: Sequence[int]) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings["eos_token_id"] = list(end_ids)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _without_dropout(model: Any) -> None:  # noqa: ANN401 - of transformers
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _merged(base: Path, adapter: Path) -> Any:  # noqa: ANN401 - of transformers
    """The base model with an adapter added to its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(load_pretrained(base, "cpu"), str(adapter)).merge_and_unload()


def _with_adapters(model: Any, adapters: Adapters, folder: Path) -> Any:  # noqa: ANN401 - of transformers and peft
    """Put adapters into the model, the only weights that are trained from here on; B is zero, so nothing changes yet."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("adapters need peft: pip install -e '.[lora]'") from error
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,
        lora_dropout=0.0,
        target_modules=adapters.targets if isinstance(adapters.targets, str) else list(adapters.targets),
        target_parameters=list(adapters.parameters) or None,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ValueError(f"{folder}: adapters cannot be put into this model: {error}") from error


def _moe_blocks(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of modules that have experts, which may be modules that not every rank has tokens for."""
    return tuple({type(one) for one in model.modules() if "experts" in dict(one.named_children())})


def _shared_head(model: Any) -> Head | LinearHead:  # noqa: ANN401 - of transformers
    if model.config.model_type == MODEL_TYPE:
        head = Head(model.config)
        head.weight = model.lm_head.weight
        return head
    return LinearHead(model.get_output_embeddings())


@torch.no_grad()
def _require_plain_logits(model: Any, head: Head | LinearHead, folder: Path) -> None:  # noqa: ANN401 - of transformers
    tokens = torch.arange(min(8, model.config.get_text_config().vocab_size))[None]
    logits = model(tokens, use_cache=False).logits[0].float()
    ours = head.logits(model.base_model(tokens, use_cache=False).last_hidden_state[0])
    if not torch.allclose(ours, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())):
        raise ValueError(
            f"{folder}: a model of type {model.config.model_type} does more to its logits than one product, which is not trained here"
        )


def _shape(model: Any) -> Shape:  # noqa: ANN401 - of transformers
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    routers = _routers(model)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings().weight
    active = 0
    for parameter in model.base_model.parameters():
        if parameter.dim() >= 2 and id(parameter) not in embeddings and parameter is not head:
            is_routed = parameter.dim() == 3 and len(parameter) == routers.num_experts
            active += (
                parameter.numel()
                // (routers.num_experts if is_routed else 1)
                * (routers.num_chosen if is_routed else 1)
            )
    positions = getattr(config, "max_position_embeddings", None)
    return Shape(
        active_parameters=active,
        head_parameters=head.numel(),
        attention_width=config.num_hidden_layers * width,
        routers=routers,
        max_positions=positions if isinstance(positions, int) else NO_LIMIT,
    )


@torch.no_grad()
def _routers(model: Any) -> Routers:  # noqa: ANN401 - of transformers
    """Of a model whose routers transformers records: asked with one token."""
    config = model.config.get_text_config()
    if config.model_type != MODEL_TYPE and not hasattr(config, "output_router_logits"):
        return Routers()
    found = model.base_model(torch.zeros(1, 1, dtype=torch.int64), use_cache=False, output_router_logits=True)
    logits = getattr(found, "router_logits", None) or ()
    if not logits:
        return Routers()
    num_dense = getattr(config, "first_k_dense_replace", None) or 0
    first = num_dense if num_dense + len(logits) == config.num_hidden_layers else 0
    return Routers(len(logits), logits[0].shape[-1], config.num_experts_per_tok, first_layer=first)
