"""BailingMoE (paper section 1): the architecture of Ling-lite and Ring-lite, with float32 parameters.

In: right-padded rows of token ids. Out: the hidden state of every valid token and the router's losses.
Everything but attention is computed on the valid tokens alone, row after row: padding costs nothing and enters
neither experts nor router losses. Attention sees rectangular rows, where a causal mask alone hides the padding, and one row never
sees another: documents are rows, so nothing need be packed. On a GPU that has it, products are computed in bfloat16 (autocast).

Axes: B rows, T tokens of a row, N valid tokens (row-major), M chosen tokens, D hidden, H heads of width W,
G = query + key heads, E experts, K experts per token, L layers, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ring_model.configuration import BailingMoeConfig
from ring_model.experts import experts, gated
from ring_model.head import Head
from ring_model.products import Linear, float32_linear, linear
from ring_model.rows import RowLayout, SharedPrompts, token_mean


@dataclass(frozen=True, slots=True)
class RouterOutput:
    """What the routers report on the valid tokens of one forward pass; the L of its axes are the layers that have one."""

    probability_LE: Tensor
    """P: mean router probability of each expert, with its gradient; each row sums to 1."""
    load_LE: Tensor
    """F: share of the selections that went to each expert, detached; each row sums to 1."""
    entropy_L: Tensor
    """Mean over tokens of the entropy of the router's choice among all experts, in nats, detached; ln E when undecided."""
    z_loss: Tensor
    """Scalar: mean over layers of Z, the mean over tokens of logsumexp(router logits) squared."""
    expert_LNK: Tensor
    """Chosen experts of every token, int64."""

    def balance_loss(self, load_LE: Tensor) -> Tensor:
        """`balance_loss` of these probabilities."""
        return balance_loss(self.probability_LE, load_LE)


def balance_loss(probability_LE: Tensor, load_LE: Tensor) -> Tensor:
    """Load-balance loss B of paper eq. 6 against loads F, mean over the layers that have a router.

    P_i is the mean router probability of expert i and F_i its share of the selections (both sum to 1). We read
    B = (1/Ne) sum_i P_i F_i Ne as (1/Ne) sum_i (Ne P_i)(Ne F_i) = Ne sum_i P_i F_i: uniform routing gives 1 whatever
    Ne, a single expert taking all gives Ne / K or more. The literal product, where both Ne cancel, is B / Ne.

    With F of the same pass it is eq. 6 for these tokens. With F known beforehand it is linear in P, so that the parts
    of a batch add up however they are cut: that is what training does (F of the step before).
    """
    return load_LE.shape[1] * (probability_LE * load_LE).sum(dim=1).mean()


@dataclass(frozen=True)  # DeepSpeed looks into the __dict__ of what a module gives
class ModelOutput:
    """Result of one forward pass."""

    hidden_ND: Tensor
    """Final normalised hidden states of the valid tokens, row after row; `BailingMoe.logits` turns them to logits."""
    router: RouterOutput
    """Router losses and loads."""
    keys_values: list[tuple[Tensor, Tensor]] | None
    """Per layer the rotated keys and the values, each [B, T, KV heads, W], without a meaning in the padding; only when asked for."""
    layout: RowLayout
    """Where the tokens lie in the rows."""


class _RMSNorm(torch.autograd.Function):
    """torch has no fused kernel for this on a CPU: its composed backward pass takes 2.7 times as long (2048 tokens of 128)."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:  # noqa: ANN401 - torch gives it no type
        norm_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
        scale_N1 = norm_N1.square_().div_(x_ND.shape[1]).add_(eps).rsqrt_()
        scaled_ND = x_ND * scale_N1
        ctx.save_for_backward(scaled_ND, scale_N1, weight_D)
        return scaled_ND * weight_D

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401  # ty: ignore[incompatible-method-override]
        scaled_ND, scale_N1, weight_D = ctx.saved_tensors
        product_ND = grad_ND * scaled_ND
        mean_N1 = torch.mv(product_ND, weight_D).div_(-len(weight_D))[:, None]
        grad_x_ND = torch.addcmul(grad_ND * weight_D, scaled_ND, mean_N1).mul_(scale_N1)
        return grad_x_ND, product_ND.sum(0), None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_ND: Tensor) -> Tensor:
        """Normalise; same shape."""
        weight_D = self.weight.to(x_ND.dtype)
        if x_ND.device.type == "cpu":
            return _RMSNorm.apply(x_ND, weight_D, self.eps)
        return F.rms_norm(x_ND, weight_D.shape, weight_D, self.eps)


def turns(position_T: Tensor, config: BailingMoeConfig) -> Tensor:
    """Complex factors [T, W / 2] that turn the pairs of a query or key head by their token's position."""
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-torch.arange(half, device=position_T.device, dtype=torch.float32) / half)
    angle = position_T[:, None].float() * frequency
    return torch.polar(torch.ones_like(angle), angle)


def rotary_table(position_T: Tensor, config: BailingMoeConfig) -> Tensor:
    """Complex factors [T, C / 2] of all query and key columns; 1 for values."""
    turned = turns(position_T, config)
    ones = turned.new_ones(len(turned), config.num_key_value_heads * turned.shape[1])
    return torch.cat((turned.repeat(1, config.num_attention_heads + config.num_key_value_heads), ones), dim=1)


def rotate(x_BTC: Tensor, table_TC2: Tensor) -> Tensor:
    """Turn pairs of neighbouring columns as complex numbers: one pass, float32, where the halves of heads took five."""
    pairs = torch.view_as_complex(x_BTC.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table_TC2).flatten(-2)


def pair_order(config: BailingMoeConfig) -> Tensor:
    """Rows of the fused matrix, int64 [C], such that the two that a rotation mixes are neighbours.

    The released layout pairs column i of a query or key head with column i + W / 2. Attention is the same in any order that queries
    and keys share.
    """
    num_rotated, width = config.num_attention_heads + config.num_key_value_heads, config.head_dim
    row_C = torch.arange(config.qkv_size)
    rotated, values = row_C.split((num_rotated * width, config.num_key_value_heads * width))
    return torch.cat((rotated.view(num_rotated, 2, width // 2).transpose(1, 2).flatten(), values))


class Attention(nn.Module):
    """Grouped-query attention with one fused matrix: all query rows, then key rows, then value rows."""

    pair_order_C: Tensor

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.query_key_value = Linear(config.hidden_size, config.qkv_size, has_bias=config.use_qkv_bias)
        self.dense = Linear(config.hidden_size, config.hidden_size, has_bias=config.use_bias)
        self.register_buffer("pair_order_C", pair_order(config), persistent=False)

    def forward(self, x_ND: Tensor, *, layout: RowLayout, rotary: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend within each row; returns the output [N, D] and the (keys, values) [B, T, KV heads, W]."""
        fused = self.query_key_value
        qkv_NC = linear(x_ND, fused.weight, bias_N=fused.bias, order_N=self.pair_order_C)
        q_BTHW, k_BTHW, v_BTHW = self.split(rotate(layout.to_rows(qkv_NC), rotary))
        mixed_BHTW = F.scaled_dot_product_attention(
            q_BTHW.transpose(1, 2), k_BTHW.transpose(1, 2), v_BTHW.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.dense(layout.to_tokens(mixed_BHTW.transpose(1, 2))), (k_BTHW, v_BTHW)

    def split(self, qkv_C: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each [..., heads, W], of rotated columns [..., C]."""
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        return qkv_C.unflatten(-1, (-1, self.head_dim)).split(heads, dim=-2)


class SharedExperts(nn.Module):
    """The experts that every token uses: one SwiGLU MLP as wide as all of them."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(2 * config.shared_size, config.hidden_size))
        self.down = nn.Parameter(torch.empty(config.hidden_size, config.shared_size))


@dataclass(frozen=True, slots=True)
class Routing:
    """A router's choice for N tokens."""

    logits_NE: Tensor
    """Router logits, float32."""
    probability_NE: Tensor
    """Softmax of the logits over all experts, float32."""
    weight_NK: Tensor
    """Weight of each chosen expert."""
    expert_NK: Tensor
    """Chosen experts, int64, most probable first."""


def route(logits_NE: Tensor, *, k: int, normalise: bool) -> Routing:
    """Softmax in float32 over all experts, take the k largest, and divide them by their sum when `normalise`."""
    logits_NE = logits_NE.float()
    probability_NE = logits_NE.softmax(dim=1)
    return Routing(logits_NE, probability_NE, *choose_experts(probability_NE, k=k, normalise=normalise))


def choose_experts(probability_NE: Tensor, *, k: int, normalise: bool) -> tuple[Tensor, Tensor]:
    """Weights [N, K] and ids of the k most probable experts; the weights sum to 1 when `normalise`."""
    weight_NK, expert_NK = probability_NE.topk(k, dim=1)
    return weight_NK / weight_NK.sum(dim=1, keepdim=True) if normalise else weight_NK, expert_NK


def expert_load(routing: Routing, *, count_N: Tensor | None = None) -> Tensor:
    """Share F_i of the N * K selections that went to expert i, shape [E], summing to 1; no gradient."""
    num_experts = routing.logits_NE.shape[1]
    expert_A = routing.expert_NK.flatten()
    if count_N is None:
        return torch.bincount(expert_A, minlength=num_experts).float() / max(expert_A.numel(), 1)
    k = routing.expert_NK.shape[1]
    counts_E = torch.bincount(expert_A, weights=count_N.repeat_interleave(k), minlength=num_experts)
    return (counts_E / (k * count_N.sum())).float()


def max_violation(load_LE: Tensor) -> Tensor:
    """By how much the busiest expert of each layer exceeds a uniform load, as a share of it, [L]: 0 is balanced."""
    return load_LE.max(dim=1).values * load_LE.shape[1] - 1.0


def dead_experts(load_LE: Tensor) -> Tensor:
    """Number of experts of each layer that no token chose, int64 [L]."""
    return (load_LE == 0.0).sum(dim=1)


def router_entropy(routing: Routing, *, count_N: Tensor | None = None) -> Tensor:
    """Mean over tokens of the entropy in nats of the softmax over all experts; no gradient."""
    logits_NE = routing.logits_NE.detach()
    entropy_N = logits_NE.logsumexp(dim=1) - (routing.probability_NE.detach() * logits_NE).sum(dim=1)
    return token_mean(entropy_N, count_N)


def z_loss(routing: Routing, *, count_N: Tensor | None = None) -> Tensor:
    """Z of paper eq. 6: mean over tokens of the squared logsumexp of the router logits."""
    return token_mean(routing.logits_NE.logsumexp(dim=1).square(), count_N)


class MoeBlock(nn.Module):
    """Router, routed experts (stacked parameters) and shared experts of one layer."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.num_experts, self.k = config.num_experts, config.num_experts_per_tok
        self.normalise = config.norm_topk_prob
        self.gate = Linear(config.hidden_size, config.num_experts)
        self.gate_up = nn.Parameter(
            torch.empty(config.num_experts, 2 * config.moe_intermediate_size, config.hidden_size)
        )
        self.down = nn.Parameter(torch.empty(config.num_experts, config.hidden_size, config.moe_intermediate_size))
        self.shared_experts = SharedExperts(config) if config.num_shared_experts else None

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Routing]:
        """Output [N, D] and the routing behind it."""
        routing = route(float32_linear(x_ND, self.gate.weight), k=self.k, normalise=self.normalise)
        shared = self.shared_experts
        out_ND = experts(
            x_ND,
            weight_NK=routing.weight_NK,
            expert_NK=routing.expert_NK,
            routed=(self.gate_up, self.down),
            shared=None if shared is None else (shared.gate_up, shared.down),
        )
        return out_ND, routing


class DenseMlp(nn.Module):
    """The one SwiGLU MLP of a layer without experts."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(2 * config.intermediate_size, config.hidden_size))
        self.down = nn.Parameter(torch.empty(config.hidden_size, config.intermediate_size))

    def forward(self, x_ND: Tensor) -> tuple[Tensor, None]:
        """Output [N, D], and no routing."""
        _, product_NF = gated(linear(x_ND, self.gate_up))
        return linear(product_NF, self.down), None


class Layer(nn.Module):
    """Pre-norm attention and experts, or a dense MLP in their place, each added to the residual stream."""

    def __init__(self, config: BailingMoeConfig, *, is_dense: bool) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = DenseMlp(config) if is_dense else MoeBlock(config)

    def forward(
        self, x_ND: Tensor, *, layout: RowLayout, rotary: Tensor
    ) -> tuple[Tensor, Routing | None, tuple[Tensor, Tensor]]:
        """Next residual stream [N, D], the routing where there is a router, and the layer's (keys, values)."""
        mixed_ND, keys_values = self.attention(self.input_layernorm(x_ND), layout=layout, rotary=rotary)
        x_ND = x_ND + mixed_ND
        mlp_ND, routing = self.mlp(self.post_attention_layernorm(x_ND))
        return x_ND + mlp_ND, routing, keys_values


class Embedding(nn.Module):
    """Token ids to vectors, float32. Unset until someone fills it."""

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))

    def forward(self, token_N: Tensor) -> Tensor:
        """Vectors [N, D]."""
        return F.embedding(token_N, self.weight).float()


class BailingMoe(nn.Module):
    """The whole model. Parameters are unset until `initialise` or `checkpoint.load_model` fills them.

    `checkpoints_layers = True` keeps only the input of each layer for the backward pass and computes the rest again: same
    numbers, about a third more time, far less memory. `compute_dtype` is that of the large products; None means bfloat16
    on a GPU that has it and float32 elsewhere (bfloat16 is 7 to 150 times slower on a CPU without its instructions).
    """

    def __init__(self, config: BailingMoeConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoints_layers = False
        self.compute_dtype: torch.dtype | None = None
        self.word_embeddings = Embedding(config)
        self.lm_head = Head(config)  # here, since weights are drawn and norms summed in this order
        if config.tie_word_embeddings:
            self.lm_head.weight = self.word_embeddings.weight
        num_dense = config.first_k_dense_replace
        self.layers = nn.ModuleList(
            Layer(config, is_dense=index < num_dense) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.lm_head.weight.device

    @property
    def product_dtype(self) -> torch.dtype:
        """Dtype of the large products, see `compute_dtype`."""
        has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.compute_dtype or (torch.bfloat16 if has_bfloat16 else torch.float32)

    def autocast(self) -> torch.autocast:
        """The context in which products are computed in `product_dtype`."""
        enabled = self.product_dtype == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        lengths_B: Tensor | None = None,
        prompts: SharedPrompts | None = None,
        keep_keys_values: bool = False,
    ) -> ModelOutput:
        """Hidden states of the valid tokens of right-padded rows.

        tokens_BT: int64 ids; row b is valid up to lengths_B[b] >= 1 (None: all of T). The ids of the padding are
        never read. What rows begin with alike (`prompts`) is one token of the result.
        """
        layout = RowLayout.of(tokens_BT, lengths_B, prompts)
        token_N = layout.to_tokens(tokens_BT[..., None]).squeeze(1)
        rotary = rotary_table(torch.arange(layout.width, device=tokens_BT.device), self.config)
        x_ND = self.word_embeddings(token_N)
        routings: list[Routing] = []
        keys_values: list[tuple[Tensor, Tensor]] = []
        with self.autocast():
            for layer in self.layers:
                x_ND, routing, layer_keys_values = self._run_layer(layer, x_ND, layout=layout, rotary=rotary)
                if routing is not None:
                    routings.append(routing)
                if keep_keys_values:
                    keys_values.append(layer_keys_values)
            hidden_ND = self.norm(x_ND)
        router = router_output(routings, count_N=layout.counts)
        return ModelOutput(hidden_ND, router, keys_values if keep_keys_values else None, layout)

    def _run_layer(
        self,
        layer: nn.Module,
        x_ND: Tensor,
        **rest: Any,  # noqa: ANN401 - the layer's own
    ) -> tuple[Tensor, Routing | None, tuple[Tensor, Tensor]]:
        if self.checkpoints_layers and torch.is_grad_enabled():
            return checkpoint(layer, x_ND, use_reentrant=False, preserve_rng_state=False, **rest)
        return layer(x_ND, **rest)

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Logits [M, V] of final hidden states, float32."""
        return self.lm_head.logits(hidden_MD)


def router_output(routings: list[Routing], *, count_N: Tensor | None = None) -> RouterOutput:
    """Gather what the routers report, each token as often as it counts."""
    return RouterOutput(
        probability_LE=torch.stack([token_mean(routing.probability_NE, count_N) for routing in routings]),
        load_LE=torch.stack([expert_load(routing, count_N=count_N) for routing in routings]),
        entropy_L=torch.stack([router_entropy(routing, count_N=count_N) for routing in routings]),
        z_loss=torch.stack([z_loss(routing, count_N=count_N) for routing in routings]).mean(),
        expert_LNK=torch.stack([routing.expert_NK for routing in routings]),
    )


@torch.no_grad()
def initialise(model: BailingMoe, *, seed: int) -> BailingMoe:
    """Fill a model from one seed: matrices normal(0, initializer_range) in parameter order, norm weights one, biases zero.

    The numbers are drawn on the CPU, so they are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * model.config.initializer_range)
    return model
