"""A step's routing figures do not depend on how its tokens were cut, and are those of eq. 6 by hand.

Axes: L layers, N tokens, E experts.
"""

import math

import pytest
import torch

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise, route, router_output
from ring_model.policy import PackedRows, pack_rows, response_logprobs
from ring_model.shape import Routers
from stages.training.routing import (
    domain_metrics,
    load_by_domain,
    load_rows,
    no_routing,
    no_selections,
    router_losses,
    routing_metrics,
    selections_by_domain,
    step_load,
    uniform_load,
    weighed_routing,
)

CONFIG = BailingMoeConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=5,
    num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, initializer_range=0.3, eos_token_id=0, pad_token_id=0,
)  # fmt: skip
LOGITS_LNE = 2 * torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
CUTS = ((7,), (1, 6), (3, 2, 2), (1, 1, 1, 1, 1, 1, 1))


def totals_of(cut: tuple[int, ...]) -> dict[str, float]:
    """Sums over micro-batches of so many tokens."""
    totals, start = no_routing(CONFIG.shape.routers), 0
    for num_tokens in cut:
        logits_LNE = LOGITS_LNE[:, start : start + num_tokens]
        router = router_output([route(logits_NE, k=2, normalise=True) for logits_NE in logits_LNE])
        for name, value in weighed_routing(router, num_tokens / 7).items():
            totals[name] += value
        start += num_tokens
    return totals


def by_hand() -> tuple[list[list[float]], float, float]:
    """Loads F, B = Ne sum_i P_i F_i and Z = mean logsumexp squared, both means over layers, one number after the other."""
    loads, balance, z = [], 0.0, 0.0
    for layer in LOGITS_LNE.double().tolist():
        probability, load = [0.0] * 5, [0.0] * 5
        for logits in layer:
            exponentials = [math.exp(logit) for logit in logits]
            z += math.log(sum(exponentials)) ** 2 / (2 * 7)
            for expert in range(5):
                probability[expert] += exponentials[expert] / sum(exponentials) / 7
            for expert in sorted(range(5), key=lambda expert: -logits[expert])[:2]:
                load[expert] += 1 / (2 * 7)
        balance += 5 * sum(p * f for p, f in zip(probability, load, strict=True)) / 2
        loads.append(load)
    return loads, balance, z


@pytest.mark.parametrize("cut", CUTS)
def test_b_and_z_are_those_of_the_whole_batch_by_hand_however_it_was_cut(cut: tuple[int, ...]) -> None:
    loads, balance, z = by_hand()
    totals = totals_of(cut)
    assert router_losses(totals, CONFIG.shape.routers) == {
        "router/balance_loss": pytest.approx(balance, rel=1e-5),
        "router/z_loss": pytest.approx(z, rel=1e-5),
    }
    assert torch.allclose(torch.tensor(step_load(totals, CONFIG.shape.routers)), torch.tensor(loads), atol=1e-6)


def test_routing_metrics_are_those_of_the_whole_batch_by_hand() -> None:
    loads, _, _ = by_hand()
    metrics = routing_metrics(totals_of((3, 4)), CONFIG.shape.routers)
    probability_LNE = LOGITS_LNE.double().softmax(dim=2)
    entropy_L = -(probability_LNE * probability_LNE.log()).sum(dim=2).mean(dim=1)
    for layer in (0, 1):
        assert metrics[f"router/entropy_layer_0{layer}"] == pytest.approx(float(entropy_L[layer]), rel=1e-5)
        assert metrics[f"router/max_violation_layer_0{layer}"] == pytest.approx(max(loads[layer]) * 5 - 1, abs=1e-5)
        assert metrics[f"router/dead_experts_layer_0{layer}"] == loads[layer].count(0.0)
    assert len(metrics) == 6


def test_parts_weighed_by_their_tokens_give_the_figures_of_the_whole() -> None:
    model = initialise(BailingMoe(CONFIG), seed=0)
    rows = torch.arange(1, 13).view(3, 4)
    totals = no_routing(CONFIG.shape.routers)
    for part, share in ((rows[:1], 1 / 3), (rows[1:], 2 / 3)):
        for name, value in weighed_routing(model(part).router, share).items():
            totals[name] += value
    whole = model(rows).router
    assert torch.allclose(torch.tensor(step_load(totals, CONFIG.shape.routers)), whole.load_LE, atol=1e-6)
    losses = router_losses(totals, CONFIG.shape.routers)
    assert losses["router/balance_loss"] == pytest.approx(float(whole.balance_loss(whole.load_LE).detach()), rel=1e-5)
    assert losses["router/z_loss"] == pytest.approx(float(whole.z_loss.detach()), rel=1e-5)
    metrics = routing_metrics(totals, CONFIG.shape.routers)
    assert metrics["router/entropy_layer_01"] == pytest.approx(float(whole.entropy_L[1]), rel=1e-5)
    assert metrics["router/max_violation_layer_00"] == pytest.approx(float(whole.load_LE[0].max()) * 5 - 1, abs=1e-5)
    assert metrics["router/dead_experts_layer_00"] == float((whole.load_LE[0] == 0).sum())


def test_a_rank_without_tokens_gives_the_names_of_the_others_and_nothing() -> None:
    nothing = no_routing(CONFIG.shape.routers)
    assert nothing.keys() == totals_of((7,)).keys()
    assert set(nothing.values()) == {0.0}
    assert list(nothing) == list(
        weighed_routing(router_output([route(x, k=2, normalise=True) for x in LOGITS_LNE]), 1.0)
    )


def test_before_the_first_step_every_expert_has_the_same_load() -> None:
    assert uniform_load(CONFIG.shape.routers) == [[0.2] * 5, [0.2] * 5]


# ---------------------------------------------------------------- by domain

DOMAINS = ["math", "code", "math"]
PROMPTS, RESPONSES = [[5, 1, 3], [4], [5, 1, 3]], [[7, 2], [8, 9, 1], [6]]  # first and last share a prompt


@pytest.mark.parametrize("are_shared", [True, False])
def test_selections_by_domain_are_those_of_its_rows_by_themselves_and_a_shared_prompt_counts_in_each(
    are_shared: bool,
) -> None:
    model = initialise(BailingMoe(CONFIG), seed=0)
    rows = pack_rows(PROMPTS, RESPONSES)
    if not are_shared:
        rows = PackedRows(rows.tokens_BT, rows.lengths_B, rows.prompt_lengths_B, torch.arange(3))
    scored = response_logprobs(model, rows)
    found = selections_by_domain(scored.router, scored.layout, DOMAINS, CONFIG.shape.routers)
    slow = dict.fromkeys(found, 0.0)
    for domain, prompt, response in zip(DOMAINS, PROMPTS, RESPONSES, strict=True):
        alone = response_logprobs(model, pack_rows([prompt], [response])).router
        for layer, expert_NK in enumerate(alone.expert_LNK.tolist()):
            for expert in (one for chosen in expert_NK for one in chosen):
                slow[f"{domain}/{layer * 5 + expert}"] += 1.0
    assert found == slow
    assert sum(count for name, count in found.items() if name.startswith("math")) == 2 * 2 * (5 + 4)


def test_loads_of_a_domain_are_shares_of_its_own_selections_and_one_without_tokens_has_none() -> None:
    totals = no_selections(("code", "math"), CONFIG.shape.routers) | {"math/0": 3.0, "math/4": 1.0, "math/5": 4.0}
    loads = load_by_domain(totals, ("code", "math"), CONFIG.shape.routers)
    assert loads == {"math": [[0.75, 0.0, 0.0, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0, 0.0]]}
    # the busiest has .75 of a fifth's 1: 3.75 times; three of five are dead
    assert domain_metrics(loads, CONFIG.shape.routers) == {
        "router/max_violation_layer_00_math": 2.75,
        "router/max_violation_layer_01_math": 4.0,
        "router/dead_experts_layer_00_math": 3.0,
        "router/dead_experts_layer_01_math": 4.0,
    }
    assert load_rows([[0.5, 0.5]], {"math": [[1.0, 0.0]]}, Routers(1, 2, 1)) == [
        {"layer": 0, "expert": 0, "load": 0.5, "math": 1.0},
        {"layer": 0, "expert": 1, "load": 0.5, "math": 0.0},
    ]


def test_behind_dense_layers_figures_bear_the_number_that_their_layer_has_in_the_model() -> None:
    routers = Routers(num_layers=2, num_experts=5, num_chosen=2, first_layer=3)
    totals = totals_of((7,))
    expected = {
        name.replace("layer_01", "layer_04").replace("layer_00", "layer_03"): value
        for name, value in routing_metrics(totals, CONFIG.shape.routers).items()
    }
    assert routing_metrics(totals, routers) == expected
    assert set(domain_metrics({"math": [[1.0] + [0.0] * 4] * 2}, routers)) == {
        f"router/{name}_layer_0{layer}_math" for name in ("max_violation", "dead_experts") for layer in (3, 4)
    }
    assert [row["layer"] for row in load_rows([[0.5, 0.5], [1.0, 0.0]], {}, routers)] == [3, 3, 4, 4]
