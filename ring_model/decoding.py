"""One more token for each of many rows: `model.forward` of a single position, over a cache and over prepared weights.

In: a token and its position for each row, and the cache of what came before. Out: final hidden states; keys and values go into
the cache. Weights do not change while responses are sampled, so `Decoder` copies them once: in the dtype of products, in the
order in which MKL multiplies few rows fastest (columns first: up to twice the speed for 16 rows of 128), norm weights and constants
multiplied into the matrices behind them, and matrices that read the same numbers joined. A step of few rows is mostly calls of some
microseconds: what all layers share is made once, and each layer makes few. The copies take as much memory as the layers
(half as much in bfloat16) and are freed with the decoder.

Axes: R rows, T positions of the cache, L layers, W head width, D hidden, C = query, key and value columns, E experts,
K experts per token, F expert width, S shared width, G = 2F.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ring_model.experts import dispatch, gated, routed_experts
from ring_model.modelling import BailingMoe, Layer, choose_experts, turns
from ring_model.products import add_product, product


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One layer's matrices."""

    qkv_CD: Tensor
    """Rows in the order of `pair_order`."""
    dense_DD: Tensor
    mlp_XD: Tensor
    """Router rows, then the gate and up rows of the shared expert: X = E + 2S."""
    gate_up_EGD: Tensor
    down_EDF: Tensor
    shared_down_DS: Tensor | None

    @classmethod
    def of(cls, layer: Layer, dtype: torch.dtype) -> "_Prepared":
        """Copy a layer's weights."""
        attention, mlp, shared = layer.attention, layer.mlp, layer.mlp.shared_experts
        before, between = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        mlp_rows = (mlp.gate.weight,) if shared is None else (mlp.gate.weight, shared.gate_up)
        root = len(before) ** 0.5
        qkv_CD = attention.query_key_value.weight.index_select(0, attention.pair_order_C)
        return cls(
            _columns_first(qkv_CD * (before * root), dtype),
            _columns_first(attention.dense.weight, dtype),
            _columns_first(torch.cat(mlp_rows) * (between * root), dtype),
            _columns_first(mlp.gate_up * (between * root), dtype),
            _columns_first(mlp.down, dtype),
            None if shared is None else _columns_first(shared.down, dtype),
        )


@dataclass(frozen=True, slots=True)
class _Now:
    """What all layers of a step share."""

    turns_R1C2: Tensor
    """Complex factors that turn the pairs of each query and key head."""
    place_X: Tensor
    """Where the rows of keys, then of values, go among those of a layer's cache, int64: X = 2 x R x KV heads."""
    mask_S1T: Tensor
    """0 for a row's own positions, -inf beyond: S = R x KV heads."""


def _columns_first(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype).mT.contiguous().mT


class Decoder:
    """A model's weights, prepared for `step`; to be made anew when the weights have changed."""

    def __init__(self, model: BailingMoe) -> None:
        config, dtype = model.config, model.product_dtype
        self._model = model
        self._layers = [_Prepared.of(layer, dtype) for layer in model.layers if isinstance(layer, Layer)]
        self._head_VD = _columns_first(model.lm_head.weight / model.lm_head.norm(), dtype)
        self._least_norm = torch.tensor((config.rms_norm_eps * config.hidden_size) ** 0.5, device=model.device)
        self._turns_TC2 = turns(torch.arange(0, device=model.device), config)

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """Logits [R, V], float32, of final hidden states."""
        return product(hidden_RD.to(self._head_VD.dtype), self._head_VD).float()

    def step(self, token_R: Tensor, *, position_R: np.ndarray, cache: Sequence[Tensor]) -> Tensor:
        """Final hidden states [R, D] after one more token a row, whose keys and values go into the cache at `position_R`.

        cache: of each layer [2, R, KV heads, T, W]; positions beyond a row's own are hidden from it.
        """
        model, device = self._model, token_R.device
        num_rows, num_kv, width = cache[0].shape[1:4]
        if width > len(self._turns_TC2):
            self._turns_TC2 = turns(torch.arange(width, device=device), model.config)
        place_R = torch.from_numpy(position_R).to(device)
        place_S = place_R.repeat_interleave(num_kv)
        hidden_ST = torch.arange(int(position_R.max()) + 1, device=device) > place_S[:, None]
        mask_ST = torch.zeros(hidden_ST.shape, device=device, dtype=cache[0].dtype).masked_fill_(
            hidden_ST, float("-inf")
        )
        now = _Now(
            self._turns_TC2.index_select(0, place_R)[:, None],
            torch.arange(2 * num_rows * num_kv, device=device).mul_(width).view(2, -1).add_(place_S).flatten(),
            mask_ST[:, None],
        )
        x_RD = model.word_embeddings(token_R)
        for layer, layer_cache in zip(self._layers, cache, strict=True):
            x_RD += _attend(layer, self._normalised(x_RD), layer_cache, now)
            x_RD += self._mix(layer, self._normalised(x_RD))
        return model.norm(x_RD)

    def _normalised(self, x_RD: Tensor) -> Tensor:
        """Rows over the root of (sum of squares + D eps); the root of D is in the matrices behind."""
        norm_R1 = torch.linalg.vector_norm(x_RD, dim=1, keepdim=True)
        return (x_RD / torch.hypot(norm_R1, self._least_norm)).to(self._head_VD.dtype)

    def _mix(self, layer: _Prepared, x_RD: Tensor) -> Tensor:
        """The experts' output, routed and shared."""
        config = self._model.config
        logits_RE, gate_up_RS = product(x_RD, layer.mlp_XD).tensor_split((config.num_experts,), dim=1)
        weight_RK, expert_RK = choose_experts(
            logits_RE.float().softmax(dim=1), k=config.num_experts_per_tok, normalise=config.norm_topk_prob
        )
        plan = dispatch(expert_RK, num_experts=config.num_experts)
        sum_RD, *_ = routed_experts(plan, x_RD, weight_RK.to(x_RD.dtype), layer.gate_up_EGD, layer.down_EDF)
        if layer.shared_down_DS is not None:
            add_product(sum_RD, gated(gate_up_RS)[1], layer.shared_down_DS)
        return sum_RD


def _attend(layer: _Prepared, x_RD: Tensor, cache: Tensor, now: _Now) -> Tensor:
    """One-token attention of a layer by plain products; S = R x KV heads."""
    num_kv, _, width = cache.shape[2:]
    heads_RHW = product(x_RD, layer.qkv_CD).float().unflatten(1, (-1, width))
    torch.view_as_complex(heads_RHW[:, :-num_kv].unflatten(2, (-1, 2))).mul_(now.turns_R1C2)
    heads_RHW = heads_RHW.to(cache.dtype)
    q_RHW, kv_RHW = heads_RHW[:, : -2 * num_kv], heads_RHW[:, -2 * num_kv :]
    cache.view(-1, width).index_copy_(0, now.place_X, kv_RHW.unflatten(1, (2, -1)).transpose(0, 1).reshape(-1, width))
    keys_STW, values_STW = cache[:, :, :, : now.mask_S1T.shape[2]].flatten(1, 2).unbind(0)
    q_SHW = q_RHW.reshape(len(keys_STW), -1, width)
    scores_SHT = torch.baddbmm(now.mask_S1T, q_SHW, keys_STW.transpose(1, 2), alpha=width**-0.5)
    mixed_SHW = torch.bmm(scores_SHT.softmax(dim=2), values_STW)
    return product(mixed_SHW.view(len(x_RD), -1), layer.dense_DD)
