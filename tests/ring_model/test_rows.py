"""What rows share is computed once, and every number and gradient is that of the rows by themselves."""

import pytest
import torch
from torch import Tensor

from ring_model.modelling import BailingMoe
from ring_model.policy import PackedRows, pack_rows, response_logprobs
from ring_model.rows import RowLayout, SharedPrompts, token_mean

PROMPTS = [[5, 1, 36], [3], [5, 1, 36], [11, 4], [3], [5, 1, 36]]
RESPONSES = [[7, 7, 2, 9], [8], [30, 8, 0], [12, 13], [8, 9, 10, 11, 12, 7, 2], [7]]


def alone(rows: PackedRows) -> PackedRows:
    """The same rows, none of which shares its prompt."""
    return PackedRows(rows.tokens_BT, rows.lengths_B, rows.prompt_lengths_B, torch.arange(len(rows.lengths_B)))


def loss_and_gradients(model: BailingMoe, rows: PackedRows) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A loss of every kind of number that comes out, with a weight of its own for each response token."""
    model.zero_grad()
    found = response_logprobs(model, rows, entropy="gradient", temperature=0.7)
    assert found.entropies_M is not None
    weights_M = torch.linspace(-1.0, 2.0, rows.num_response_tokens)
    load_LE = torch.rand(found.router.load_LE.shape, generator=torch.Generator().manual_seed(1))
    terms = [(weights_M * found.logprobs_M).sum(), 0.1 * found.entropies_M.square().sum()]
    loss = sum([*terms, 3.0 * found.router.balance_loss(load_LE), 0.5 * found.router.z_loss])
    loss.backward()
    return loss.detach(), found.logprobs_M.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("checkpoints_layers", [False, True])
def test_sharing_prompts_changes_neither_loss_nor_any_gradient(model: BailingMoe, checkpoints_layers: bool) -> None:
    model.checkpoints_layers = checkpoints_layers
    rows = pack_rows(PROMPTS, RESPONSES)
    assert rows.first_row_B.tolist() == [0, 1, 0, 3, 1, 0]
    loss, logprobs_M, gradients = loss_and_gradients(model, rows)
    loss_alone, logprobs_alone_M, gradients_alone = loss_and_gradients(model, alone(rows))
    assert torch.allclose(loss, loss_alone, rtol=1e-5)
    assert torch.allclose(logprobs_M, logprobs_alone_M, atol=1e-5)
    for name, gradient in gradients_alone.items():
        assert (gradients[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


def test_router_statistics_count_a_shared_token_in_every_row(model: BailingMoe) -> None:
    rows = pack_rows(PROMPTS, RESPONSES)
    shared, by_themselves = (response_logprobs(model, some, entropy="none").router for some in (rows, alone(rows)))
    assert torch.allclose(shared.load_LE, by_themselves.load_LE, atol=1e-6)
    assert torch.allclose(shared.probability_LE, by_themselves.probability_LE, atol=1e-6)
    assert torch.allclose(shared.entropy_L, by_themselves.entropy_L, atol=1e-6)
    assert torch.allclose(shared.z_loss, by_themselves.z_loss, rtol=1e-6)


def test_only_one_row_of_a_prompt_computes_it(model: BailingMoe) -> None:
    rows = pack_rows(PROMPTS, RESPONSES)
    prompts = SharedPrompts(rows.first_row_B, rows.prompt_lengths_B)
    output = model(rows.tokens_BT, lengths_B=rows.lengths_B, prompts=prompts)
    assert len(output.hidden_ND) == 3 + 1 + 2 + sum(map(len, RESPONSES))


def test_layout_by_hand() -> None:
    tokens_BT = torch.zeros(3, 4, dtype=torch.int64)
    prompts = SharedPrompts(torch.tensor([0, 1, 0]), torch.tensor([2, 1, 2]))
    layout = RowLayout.of(tokens_BT, torch.tensor([3, 2, 4]), prompts)
    # tokens: 0 1 2 of row 0, 3 4 of row 1, 5 6 of row 2, which begins with 0 1
    assert layout.place_N.tolist() == [0, 1, 2, 4, 5, 10, 11]
    assert [layout.token_P.tolist()[place] for place in (0, 1, 2, 4, 5, 8, 9, 10, 11)] == [0, 1, 2, 3, 4, 0, 1, 5, 6]
    assert layout.counts.tolist() == [2, 2, 1, 1, 1, 1, 1]
    x_N1 = torch.arange(7.0)[:, None].requires_grad_()
    rows_BT1 = layout.to_rows(x_N1)
    assert rows_BT1[2].flatten().tolist() == [0, 1, 5, 6]
    assert layout.to_tokens(rows_BT1).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    rows_BT1.backward(torch.arange(12.0).view(3, 4, 1))
    assert x_N1.grad.flatten().tolist() == [0 + 8, 1 + 9, 2, 4, 5, 10, 11]


def test_rows_without_padding_or_a_common_prompt_have_no_layout() -> None:
    prompts = SharedPrompts(torch.tensor([0, 1]), torch.tensor([1, 1]))
    layout = RowLayout.of(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 3]), prompts)
    assert layout == RowLayout(2, 3)


def test_a_mean_over_tokens_counts_each_so_often() -> None:
    assert token_mean(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).item() == pytest.approx(2.0)
    assert token_mean(torch.tensor([[1.0], [4.0]]), None).tolist() == [2.5]
