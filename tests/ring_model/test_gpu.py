"""On a GPU the model computes what it computes on the CPU."""

import copy

import numpy as np
import pytest
import torch

from ring_model.engine import Engine, OptimizerSettings
from ring_model.generation import generate
from ring_model.modelling import BailingMoe
from ring_model.policy import pack_rows, response_logprobs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]

PROMPTS = [[5, 1, 36], [3], [11, 4, 30, 8]]
RESPONSES = [[7, 7, 2], [9, 1, 1, 4, 5], [8]]


def logprobs(model: BailingMoe) -> torch.Tensor:
    rows = pack_rows(PROMPTS, RESPONSES, device=model.device)
    return response_logprobs(model, rows, entropy="none").logprobs_M


def test_float32_log_probabilities_and_gradients_equal_the_cpus(model: BailingMoe) -> None:
    there = copy.deepcopy(model).cuda()
    there.compute_dtype = torch.float32
    logprobs(model).sum().backward()
    logprobs(there).sum().backward()
    assert torch.allclose(logprobs(there).cpu(), logprobs(model), atol=1e-4)
    for one, two in zip(model.parameters(), there.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad.cpu(), rtol=1e-3, atol=1e-3)


def test_bfloat16_is_the_default_and_stays_near(model: BailingMoe) -> None:
    there = copy.deepcopy(model).cuda()
    assert there.product_dtype == torch.bfloat16
    assert (logprobs(there).cpu() - logprobs(model)).abs().mean() < 0.2


def test_generated_log_probabilities_equal_teacher_forcing(model: BailingMoe) -> None:
    there = copy.deepcopy(model).cuda()
    there.compute_dtype = torch.float32
    made = generate(there, PROMPTS, seeds=[0, 1, 2], max_new_tokens=12, temperature=1.0, eos_id=0, max_rows=2)
    rows = pack_rows(PROMPTS, [completion.token_ids for completion in made], device="cuda")
    with torch.no_grad():
        forced = response_logprobs(there, rows).logprobs_M.cpu().numpy()
    assert np.abs(np.concatenate([completion.logprobs for completion in made]) - forced).max() < 1e-4


def test_an_engine_step_with_checkpointed_layers_lowers_the_loss(model: BailingMoe) -> None:
    optimizer = OptimizerSettings(learning_rate=1e-2)
    engine = Engine.start(model, optimizer=optimizer, device="cuda", checkpoints_layers=True)
    losses = []
    for _ in range(5):
        loss = -logprobs(model).sum()
        losses.append(float(loss.detach()))
        engine.backward(loss, denominator=9.0)
        engine.step()
    engine.close()
    assert losses[-1] < losses[0]
