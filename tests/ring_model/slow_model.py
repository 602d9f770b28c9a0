"""A second, slow BailingMoE in float64: loops over tokens, heads and experts, straight from paper section 1.

Reads the released parameter names, so it also checks the mapping between names and stacked parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ring_model.configuration import BailingMoeConfig

SMALL = BailingMoeConfig(
    vocab_size=37,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=5,
    num_experts_per_tok=2,
    num_shared_experts=2,
    moe_intermediate_size=8,
    initializer_range=0.3,
    eos_token_id=0,
    pad_token_id=0,
    max_position_embeddings=256,
)

DENSE = {"num_hidden_layers": 3, "first_k_dense_replace": 1, "intermediate_size": 26}
BIASES = {"use_qkv_bias": True, "use_bias": True}
TIED = {"tie_word_embeddings": True}
VARIANTS = {
    "dense": replace(SMALL, **DENSE),
    "qkv bias": replace(SMALL, use_qkv_bias=True),
    "bias": replace(SMALL, use_bias=True),
    "tied": replace(SMALL, norm_head=False, **TIED),
    "tied, divided by norms": replace(SMALL, **TIED),
    "all": replace(SMALL, norm_head=False, rope_theta=10.0, **{**DENSE, "first_k_dense_replace": 2}, **BIASES, **TIED),
}
"""What configurations of the family may have beside Ling-lite's. What the bias of a key adds to scores is alike for all keys where a pair
of columns hardly turns: its gradient is next to nothing, and AdamW divides rounding by rounding. With base 10 all pairs turn."""


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / math.sqrt((x * x).mean() + eps) * weight


def rotate(x: np.ndarray, position: int, theta: float) -> np.ndarray:
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position * theta ** (-2 * i / len(x))
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def mlp(weights: dict[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    gate, up = weights[f"{prefix}.gate_proj.weight"] @ x, weights[f"{prefix}.up_proj.weight"] @ x
    return weights[f"{prefix}.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)


def linear(weights: dict[str, np.ndarray], prefix: str, x_TD: np.ndarray, *, has_bias: bool) -> np.ndarray:
    out = x_TD @ weights[f"{prefix}.weight"].T
    return out + weights[f"{prefix}.bias"] if has_bias else out


def attention(weights: dict[str, np.ndarray], prefix: str, x_TD: np.ndarray, config: BailingMoeConfig) -> np.ndarray:
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    qkv = linear(weights, f"{prefix}.query_key_value", x_TD, has_bias=config.use_qkv_bias)
    out = np.zeros_like(x_TD)
    for t in range(len(x_TD)):
        for head in range(heads):
            group = head // (heads // groups)
            query = rotate(qkv[t, head * width : (head + 1) * width], t, config.rope_theta)
            scores, values = [], []
            for s in range(t + 1):
                key = qkv[s, (heads + group) * width : (heads + group + 1) * width]
                scores.append(query @ rotate(key, s, config.rope_theta) / math.sqrt(width))
                values.append(qkv[s, (heads + groups + group) * width : (heads + groups + group + 1) * width])
            share = np.exp(np.array(scores) - max(scores))
            out[t, head * width : (head + 1) * width] = share / share.sum() @ np.array(values)
    return linear(weights, f"{prefix}.dense", out, has_bias=config.use_bias)


def experts(weights: dict[str, np.ndarray], prefix: str, x: np.ndarray, config: BailingMoeConfig) -> np.ndarray:
    logits = weights[f"{prefix}.gate.weight"] @ x
    probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    chosen = np.argsort(-probability)[: config.num_experts_per_tok]
    total = probability[chosen].sum() if config.norm_topk_prob else 1.0
    out = mlp(weights, f"{prefix}.shared_experts", x) if config.num_shared_experts else np.zeros_like(x)
    for expert in chosen:
        out = out + probability[expert] / total * mlp(weights, f"{prefix}.experts.{expert}", x)
    return out


def head_norm(weights: Mapping[str, np.ndarray], config: BailingMoeConfig) -> np.ndarray:
    """Divisor [D] of the columns of the output matrix."""
    head = weights["model.word_embeddings.weight" if config.tie_word_embeddings else "lm_head.weight"]
    return np.sqrt((head * head).sum(axis=0)) + 1e-7 if config.norm_head else np.ones(head.shape[1])


def logits(
    weights: dict[str, np.ndarray], tokens: list[int], config: BailingMoeConfig, *, divisor: np.ndarray | None = None
) -> np.ndarray:
    """Logits [T, V] of one row; `divisor` of the output matrix's columns is `head_norm` unless it is held fast."""
    x_TD = weights["model.word_embeddings.weight"][tokens]
    eps = config.rms_norm_eps
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = np.stack([norm(x, weights[f"{prefix}.input_layernorm.weight"], eps) for x in x_TD])
        x_TD = x_TD + attention(weights, f"{prefix}.attention", normed, config)
        normed = np.stack([norm(x, weights[f"{prefix}.post_attention_layernorm.weight"], eps) for x in x_TD])
        if layer < config.first_k_dense_replace:
            x_TD = x_TD + np.stack([mlp(weights, f"{prefix}.mlp", x) for x in normed])
        else:
            x_TD = x_TD + np.stack([experts(weights, f"{prefix}.mlp", x, config) for x in normed])
    x_TD = np.stack([norm(x, weights["model.norm.weight"], eps) for x in x_TD])
    head = weights["model.word_embeddings.weight" if config.tie_word_embeddings else "lm_head.weight"]
    return x_TD @ (head / (head_norm(weights, config) if divisor is None else divisor)).T
