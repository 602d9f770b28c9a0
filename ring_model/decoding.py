"""One more token for each of many rows: `model.forward` of a single position, over a cache and over prepared weights.

In: a token and its position for each row, and the cache of what came before. Out: final hidden states; keys and values go into
the cache. Weights do not change while responses are sampled, so `Decoder` copies them once: in the dtype of products, in the
order in which MKL multiplies few rows fastest (columns first: up to twice the speed for 16 rows of 128), norm weights multiplied
into the matrices behind them, and matrices that read the same numbers joined. The copies take as much memory as the layers
(half as much in bfloat16) and are freed with the decoder.

Axes: R rows, T positions of the cache, L layers, W head width, D hidden, C = query, key and value columns, E experts,
K experts per token, F expert width, S shared width, G = 2F.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ring_model.experts import dispatch, gated, routed_experts
from ring_model.modelling import Attention, BailingMoe, Layer, choose_experts, rotary_table, rotate
from ring_model.products import add_product, product


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One layer's matrices."""

    attention: Attention
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
        qkv_CD = attention.query_key_value.weight.index_select(0, attention.pair_order_C)
        return cls(
            attention,
            _columns_first(qkv_CD * before, dtype),
            _columns_first(attention.dense.weight, dtype),
            _columns_first(torch.cat(mlp_rows) * between, dtype),
            _columns_first(mlp.gate_up * between, dtype),
            _columns_first(mlp.down, dtype),
            None if shared is None else _columns_first(shared.down, dtype),
        )


def _columns_first(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype).mT.contiguous().mT


class Decoder:
    """A model's weights, prepared for `step`; to be made anew when the weights have changed."""

    def __init__(self, model: BailingMoe) -> None:
        self._model = model
        self._layers = [_Prepared.of(layer, model.product_dtype) for layer in model.layers if isinstance(layer, Layer)]

    def step(self, token_R: Tensor, *, position_R: np.ndarray, cache: Tensor) -> Tensor:
        """Final hidden states [R, D] after one more token a row, whose keys and values go into the cache at `position_R`.

        cache: [L, 2, R, KV heads, T, W]; positions beyond a row's own are hidden from it.
        """
        model = self._model
        place_R = torch.from_numpy(position_R).to(token_R.device)
        rotary = rotary_table(place_R, model.config)
        hidden_RT = torch.arange(int(position_R.max()) + 1, device=token_R.device) > place_R[:, None]
        mask_RT = torch.zeros(hidden_RT.shape, device=token_R.device, dtype=cache.dtype)
        mask_RT.masked_fill_(hidden_RT, float("-inf"))
        mask_S1T = mask_RT.repeat_interleave(model.config.num_key_value_heads, dim=0)[:, None]
        place = (torch.arange(len(token_R), device=token_R.device), place_R)
        x_RD = F.embedding(token_R, model.word_embeddings)
        for layer, layer_cache in zip(self._layers, cache, strict=True):
            x_RD += _attend(layer, self._normalised(x_RD), rotary, layer_cache, place, mask_S1T)
            x_RD += self._mix(layer, self._normalised(x_RD))
        return model.norm(x_RD)

    def _normalised(self, x_RD: Tensor) -> Tensor:
        config = self._model.config
        return F.rms_norm(x_RD, (config.hidden_size,), eps=config.rms_norm_eps).to(self._model.product_dtype)

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


def _attend(
    layer: _Prepared, x_RD: Tensor, rotary: Tensor, cache: Tensor, place: tuple[Tensor, Tensor], mask_S1T: Tensor
) -> Tensor:
    """One-token attention of a layer by plain products; S = R x KV heads."""
    q_RHW, k_RHW, v_RHW = layer.attention.split(rotate(product(x_RD, layer.qkv_CD), rotary).to(cache.dtype))
    num_kv, width = k_RHW.shape[1:]
    cache.permute(1, 3, 0, 2, 4).index_put_(place, torch.stack((k_RHW, v_RHW), dim=1))
    keys_STW, values_STW = cache[:, :, :, : mask_S1T.shape[2]].flatten(1, 2).unbind(0)
    q_SHW = q_RHW.reshape(len(x_RD) * num_kv, -1, width)
    scores_SHT = torch.baddbmm(mask_S1T, q_SHW, keys_STW.transpose(1, 2), alpha=width**-0.5)
    mixed_SHW = torch.bmm(scores_SHT.softmax(dim=2), values_STW)
    return product(mixed_SHW.view(len(x_RD), -1), layer.dense_DD)
