"""A step's routing figures do not depend on how its tokens were cut."""

import pytest
import torch

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from stages.training.routing import no_routing, routing_metrics, step_load, weighed_routing

CONFIG = BailingMoeConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=5,
    num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, initializer_range=0.3, eos_token_id=0, pad_token_id=0,
)  # fmt: skip


def test_parts_weighed_by_their_tokens_give_the_figures_of_the_whole() -> None:
    model = initialise(BailingMoe(CONFIG), seed=0)
    rows = torch.arange(1, 13).view(3, 4)
    totals = no_routing(CONFIG)
    for part, share in ((rows[:1], 1 / 3), (rows[1:], 2 / 3)):
        for name, value in weighed_routing(model(part).router, share).items():
            totals[name] += value
    whole = model(rows).router
    assert torch.allclose(torch.tensor(step_load(totals, CONFIG)), whole.load_LE, atol=1e-6)
    metrics = routing_metrics(totals, CONFIG)
    assert metrics["router/entropy_layer_01"] == pytest.approx(float(whole.entropy_L[1]), rel=1e-5)
    assert metrics["router/max_violation_layer_00"] == pytest.approx(float(whole.load_LE[0].max()) * 5 - 1, abs=1e-5)
    assert metrics["router/dead_experts_layer_00"] == float((whole.load_LE[0] == 0).sum())
