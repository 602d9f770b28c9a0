"""The gradient of an RL step a second time, in float64: loops over responses, tokens, heads and experts, straight from the paper.

The model is section 1, the loss eq. 1 to 6. Of the code under test it knows the released names of weights and the journal's columns.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ring_model.configuration import BailingMoeConfig

Weights = Mapping[str, Tensor]  # released name -> float64
Loads = Sequence[Sequence[float]]  # by layer and expert


# ---------------------------------------------------------------- section 1


def norm(x_D: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    return x_D / torch.sqrt((x_D * x_D).mean() + eps) * weight_D


def rotate(x_W: Tensor, position: int, theta: float) -> Tensor:
    half = len(x_W) // 2
    angles = torch.tensor([position * theta ** (-2 * i / len(x_W)) for i in range(half)], dtype=torch.float64)
    left, right = x_W[:half], x_W[half:]
    turned = (left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin())
    return torch.cat(turned)


def mlp(weights: Weights, prefix: str, x_D: Tensor) -> Tensor:
    gate, up = weights[f"{prefix}.gate_proj.weight"] @ x_D, weights[f"{prefix}.up_proj.weight"] @ x_D
    return weights[f"{prefix}.down_proj.weight"] @ (gate / (1 + torch.exp(-gate)) * up)


def attention(weights: Weights, prefix: str, xs: Sequence[Tensor], config: BailingMoeConfig) -> list[Tensor]:
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    parts = [(weights[f"{prefix}.query_key_value.weight"] @ x_D).split(width) for x_D in xs]
    turned = [[rotate(x_W, t, config.rope_theta) for x_W in part[: heads + groups]] for t, part in enumerate(parts)]
    outs = []
    for t in range(len(xs)):
        mixed = []
        for head in range(heads):
            group = head // (heads // groups)
            scores = [turned[t][head] @ turned[s][heads + group] / math.sqrt(width) for s in range(t + 1)]
            shares = [torch.exp(score) for score in scores]
            values = [parts[s][heads + groups + group] for s in range(t + 1)]
            mixed.append(sum(share * x_W for share, x_W in zip(shares, values, strict=True)) / sum(shares))
        outs.append(weights[f"{prefix}.dense.weight"] @ torch.cat(mixed))
    return outs


def experts(weights: Weights, prefix: str, x_D: Tensor, config: BailingMoeConfig) -> tuple[Tensor, Tensor]:
    """Output [D] and router logits [E]."""
    router_E = weights[f"{prefix}.gate.weight"] @ x_D
    probability_E = torch.exp(router_E) / torch.exp(router_E).sum()
    chosen = sorted(range(config.num_experts), key=lambda expert: -probability_E[expert].item())[
        : config.num_experts_per_tok
    ]
    total = sum(probability_E[expert] for expert in chosen)
    out_D = mlp(weights, f"{prefix}.shared_experts", x_D)
    for expert in chosen:
        out_D = out_D + probability_E[expert] / total * mlp(weights, f"{prefix}.experts.{expert}", x_D)
    return out_D, router_E


def forward(
    weights: Weights, tokens: Sequence[int], config: BailingMoeConfig
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Of every token its logits [V], and by layer of every token the router's logits [E]."""
    xs = [weights["model.word_embeddings.weight"][token] for token in tokens]
    routers: list[list[Tensor]] = [[] for _ in range(config.num_hidden_layers)]
    eps = config.rms_norm_eps
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = [norm(x_D, weights[f"{prefix}.input_layernorm.weight"], eps) for x_D in xs]
        mixed = attention(weights, f"{prefix}.attention", normed, config)
        xs = [x_D + mixed_D for x_D, mixed_D in zip(xs, mixed, strict=True)]
        for t, x_D in enumerate(xs):
            normed_D = norm(x_D, weights[f"{prefix}.post_attention_layernorm.weight"], eps)
            out_D, router_E = experts(weights, f"{prefix}.mlp", normed_D, config)
            xs[t] = x_D + out_D
            routers[layer].append(router_E)
    head_VD = weights["lm_head.weight"]
    constant_D = torch.sqrt((head_VD * head_VD).sum(dim=0)).detach() + 1e-7
    return [head_VD / constant_D @ norm(x_D, weights["model.norm.weight"], eps) for x_D in xs], routers


# ---------------------------------------------------------------- eq. 1 to 6


@dataclass(frozen=True)
class Settings:
    """Symbols of the paper, and what other objectives have in their place."""

    beta: float
    a_ent: float
    a_bal: float
    a_z: float
    temperature: float
    eps_low: float = 0.2
    eps_high: float = 0.2
    unit: str = "token"  # of the ratio: token, sequence, sentence
    ends: tuple[int, ...] = ()  # ids that end a sentence
    kept: Callable[[float], float] = lambda k: 1.0  # M(k)


@dataclass(frozen=True)
class Slow:
    """What a whole update gives."""

    gradient: dict[str, Tensor]  # by released name
    loss: float
    kl: float  # sum over tokens
    num_clipped: int
    num_tokens: int


def advantages(rewards: Sequence[float | None], std_eps: float) -> list[float]:
    """Eq. 1 of one group; None: the judge failed."""
    counted = [reward for reward in rewards if reward is not None]
    if not counted:
        return [0.0] * len(rewards)
    mean = sum(counted) / len(counted)
    std = math.sqrt(sum((reward - mean) ** 2 for reward in counted) / len(counted))
    return [0.0 if reward is None else (reward - mean) / (std + std_eps) for reward in rewards]


def centred(rewards: Sequence[float | None]) -> list[float]:
    """Without the standard deviation."""
    counted = [reward for reward in rewards if reward is not None]
    return [0.0 if reward is None else reward - sum(counted) / len(counted) for reward in rewards]


def units(response: Sequence[int], settings: Settings) -> list[list[int]]:
    """Places of the tokens of every unit."""
    if settings.unit == "token":
        return [[place] for place in range(len(response))]
    if settings.unit == "sequence":
        return [list(range(len(response)))]
    found: list[list[int]] = [[]]
    for place, token in enumerate(response):
        found[-1].append(place)
        if token in settings.ends and place < len(response) - 1:
            found.append([])
    return found


def response_gain(
    logits: Sequence[Tensor],
    olds: Sequence[Tensor],
    others: Sequence[Tensor],
    row: Mapping,
    response: Sequence[int],
    settings: Settings,
) -> tuple[Tensor, float, int]:
    """What is maximised of a response's kept tokens before their weight, its sum of KL, and how many tokens are clipped.

    Logits of policy, old policy and reference before every token.
    """

    def of(scores: Sequence[Tensor]) -> list[Tensor]:
        return [
            torch.log_softmax(logits_V / settings.temperature, dim=0)[drawn]
            for logits_V, drawn in zip(scores, response, strict=True)
        ]

    now, old, reference = of(logits), of(olds), of(others)
    gain, kl_sum, num_clipped = torch.zeros((), dtype=torch.float64), 0.0, 0
    for places in units(response, settings):
        ratio = torch.exp(sum(now[place] - old[place] for place in places) / len(places))
        low, high = 1 - settings.eps_low, 1 + settings.eps_high
        cut = min(max(ratio.item(), low), high) * row["advantage"]
        is_clipped = cut < ratio.item() * row["advantage"]
        for place in places:
            k = math.exp(old[place].item() - row["logprobs"][place])
            kl = torch.exp(reference[place] - now[place]) - (reference[place] - now[place]) - 1
            full_V = torch.log_softmax(logits[place], dim=0)
            entropy = -(torch.exp(full_V) * full_V).sum()
            surrogate = cut if is_clipped else ratio * row["advantage"]
            own = math.exp(now[place].item() - old[place].item())
            gain = gain + settings.kept(k) * surrogate - settings.beta * own * kl + settings.a_ent * entropy
            kl_sum, num_clipped = kl_sum + kl.item(), num_clipped + is_clipped
    return gain, kl_sum, num_clipped


def router_loss(texts: Sequence[Sequence[Sequence[Tensor]]], loads: Loads, settings: Settings) -> Tensor:
    """a_bal B + a_z Z, the mean over layers of means over all tokens, prompts among them; `texts`: by text, layer and token."""
    total = torch.zeros((), dtype=torch.float64)
    for layer, load_E in enumerate(loads):
        routers = [router_E for text in texts for router_E in text[layer]]
        for router_E in routers:
            probability_E = torch.exp(router_E) / torch.exp(router_E).sum()
            balance = len(load_E) * sum(load * probability_E[expert] for expert, load in enumerate(load_E))
            z = torch.log(torch.exp(router_E).sum()) ** 2
            total = total + (settings.a_bal * balance + settings.a_z * z) / len(routers) / len(loads)
    return total


def step(
    weights: Weights,
    old: Weights,
    reference: Weights,
    rows: Sequence[Mapping],
    *,
    config: BailingMoeConfig,
    loads: Loads,
    settings: Settings,
) -> Slow:
    """Of the rows: prompt_ids, token_ids, of which the first `kept_tokens` count, logprobs, advantage, and `weight` of a token."""
    weights = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    texts, gains, kl, num_clipped, num_tokens = [], [], 0.0, 0, 0
    for row in rows:
        if not row["kept_tokens"]:
            continue
        prompt, response = list(row["prompt_ids"]), list(row["token_ids"])[: row["kept_tokens"]]
        before = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        logits, routers = forward(weights, prompt + response, config)
        with torch.no_grad():
            olds, others = (forward(model, prompt + response, config)[0] for model in (old, reference))
        gain, kl_sum, clipped = response_gain(logits[before], olds[before], others[before], row, response, settings)
        texts.append(routers)
        gains.append(row["weight"] * gain)
        kl, num_clipped, num_tokens = kl + kl_sum, num_clipped + clipped, num_tokens + len(response)
    loss = router_loss(texts, loads, settings) - sum(gains)
    loss.backward()
    gradient = {name: tensor.grad for name, tensor in weights.items() if tensor.grad is not None}
    return Slow(gradient, loss.item(), kl, num_clipped, num_tokens)
