"""Response log-probabilities are those of the whole row's softmax, at the response places only."""

import numpy as np
import pytest
import slow_model
import torch

from ring_model import head
from ring_model.modelling import BailingMoe
from ring_model.policy import micro_batches, pack_rows, response_logprobs

PROMPTS = [[5, 1, 36], [3], [11, 4]]
RESPONSES = [[7, 7, 2, 9], [8], [30, 8, 0]]


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def test_logprobs_and_entropies_equal_the_slow_reference(model: BailingMoe, weights: dict[str, np.ndarray]) -> None:
    found = response_logprobs(model, pack_rows(PROMPTS, RESPONSES))
    logprobs, entropies = [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        table = log_softmax(slow_model.logits(weights, prompt + response, model.config))[len(prompt) - 1 : -1]
        logprobs += list(table[np.arange(len(response)), response])
        entropies += list(-(np.exp(table) * table).sum(axis=1))
    assert np.abs(found.logprobs_M.detach().numpy() - logprobs).max() < 1e-5
    assert np.abs(found.entropies_M.numpy() - entropies).max() < 1e-5


def test_response_rows_name_the_row_of_every_number() -> None:
    rows = pack_rows(PROMPTS, RESPONSES)
    assert rows.response_rows().tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    assert rows.num_response_tokens == 8


def test_entropy_has_a_gradient_only_when_asked_for(model: BailingMoe) -> None:
    rows = pack_rows(PROMPTS, RESPONSES)
    assert response_logprobs(model, rows, entropy="none").entropies_M is None
    assert not response_logprobs(model, rows, entropy="detached").entropies_M.requires_grad
    response_logprobs(model, rows, entropy="gradient").entropies_M.sum().backward()
    assert model.layers[0].mlp.gate.weight.grad.abs().sum() > 0


def test_computing_in_pieces_changes_neither_numbers_nor_gradients(
    model: BailingMoe, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for limit in (head.MAX_LOGITS, 3 * model.config.vocab_size):
        monkeypatch.setattr(head, "MAX_LOGITS", limit)
        model.zero_grad()
        found = response_logprobs(model, pack_rows(PROMPTS, RESPONSES), entropy="gradient")
        (found.logprobs_M.sum() + found.entropies_M.sum()).backward()
        results.append((found.logprobs_M.detach(), model.lm_head.weight.grad.clone()))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-5)


def test_micro_batches_are_rectangles_within_the_budget() -> None:
    lengths = [5, 40, 7, 7, 12, 3, 90, 12]
    batches = micro_batches(lengths, token_budget=40)
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 40
    assert batches == [[5, 0, 2, 3], [4, 7], [1], [6]]


def test_a_bad_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget = 0"):
        micro_batches([1], token_budget=0)
    with pytest.raises(ValueError, match="prompt has no tokens"):
        pack_rows([[]], [[1]])
    with pytest.raises(ValueError, match="2 prompts and 1 responses"):
        pack_rows([[1], [2]], [[1]])
