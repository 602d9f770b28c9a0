"""The supervised loss and its schedule, by hand and against another way of cutting the batch."""

import pytest
import torch

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import pack_rows, response_logprobs
from stages.config import Training
from stages.sft.batches import Row, Rows, plan_steps
from stages.sft.training import packed_micro_batches, supervised_loss
from stages.training.dealing import share_of_rank
from stages.training.routing import uniform_load

CONFIG = BailingMoeConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts=4,
    num_experts_per_tok=2,
    num_shared_experts=1,
    moe_intermediate_size=8,
    initializer_range=0.3,
    eos_token_id=0,
    pad_token_id=0,
    max_position_embeddings=64,
)
ROWS = [Row(prompt=(1, 2, 3), response=tuple(range(4, 4 + length))) for length in (3, 9, 5, 12, 7)]
TRAINING = Training(balance_coefficient=0.5, z_coefficient=0.1, batch_tokens=100, max_total_tokens=64)


def gradients(micro_batch_tokens: int, num_ranks: int) -> list[torch.Tensor]:
    model = initialise(BailingMoe(CONFIG), seed=0)
    total = sum(row.num_tokens for row in ROWS)
    load_LE = torch.tensor(uniform_load(CONFIG.shape.routers)) + torch.tensor([0.1, -0.1, 0.05, -0.05])
    for rank in range(num_ranks):
        mine = share_of_rank([row.num_tokens for row in ROWS], rank=rank, num_ranks=num_ranks)
        for rows in packed_micro_batches([ROWS[i] for i in mine], micro_batch_tokens=micro_batch_tokens, device="cpu"):
            scored = response_logprobs(model, rows, entropy="none")
            share = int(rows.lengths_B.sum()) / total
            supervised_loss(scored, loss_tokens=36.0, token_share=share, load_LE=load_LE, training=TRAINING).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("micro_batch_tokens", "num_ranks"), [(16, 1), (40, 1), (1000, 2), (16, 3)])
def test_neither_micro_batches_nor_ranks_change_the_gradient(micro_batch_tokens: int, num_ranks: int) -> None:
    for one, two in zip(gradients(micro_batch_tokens, num_ranks), gradients(1000, 1), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_every_response_token_weighs_the_same() -> None:
    model = initialise(BailingMoe(CONFIG), seed=0)
    plain = Training(balance_coefficient=0.0, z_coefficient=0.0, batch_tokens=100, max_total_tokens=64)
    rows = pack_rows([row.prompt for row in ROWS], [row.response for row in ROWS])
    scored = response_logprobs(model, rows, entropy="none")
    load_LE = torch.tensor(uniform_load(CONFIG.shape.routers))
    loss = supervised_loss(scored, loss_tokens=10.0, token_share=1.0, load_LE=load_LE, training=plain)
    assert loss.item() == pytest.approx(-scored.logprobs_M.sum().item() / 10.0)


def test_a_plan_sees_every_row_once_an_epoch_within_the_budget() -> None:
    rows = Rows(tuple(ROWS), num_too_long=0, num_without_solution=0)
    plan = plan_steps(rows, num_epochs=3, batch_tokens=25, seed=1)
    for epoch in (1, 2, 3):
        steps = [step for step in plan.steps if step.epoch == epoch]
        assert sorted(index for step in steps for index in step.batch) == [0, 1, 2, 3, 4]
        assert [step.ends_epoch for step in steps] == [False] * (len(steps) - 1) + [True]
    assert all(sum(ROWS[i].num_tokens for i in step.batch) <= 25 for step in plan.steps)
    assert plan.loss_tokens == pytest.approx(3 * 36 / len(plan.steps))


def test_parts_of_an_epoch_are_equally_many_steps_to_one_and_change_no_batch() -> None:
    rows = Rows(tuple(ROWS), num_too_long=0, num_without_solution=0)
    whole = plan_steps(rows, num_epochs=2, batch_tokens=1, seed=1)  # a row a step: five an epoch
    parts = plan_steps(rows, num_epochs=2, batch_tokens=1, seed=1, parts_per_epoch=3)
    assert [step.ends_part for step in parts.steps] == [1, 0, 2, 0, 3] * 2  # after 5/3, 10/3 and 5 steps, rounded down
    assert [step.ends_part for step in whole.steps] == [0, 0, 0, 0, 1] * 2
    assert [(step.epoch, step.batch, step.ends_epoch) for step in parts.steps] == [
        (step.epoch, step.batch, step.ends_epoch) for step in whole.steps
    ]
    assert parts.loss_tokens == whole.loss_tokens


def test_more_parts_than_steps_of_an_epoch_are_refused() -> None:
    rows = Rows(tuple(ROWS), num_too_long=0, num_without_solution=0)
    assert all(
        step.ends_part for step in plan_steps(rows, num_epochs=1, batch_tokens=1, seed=1, parts_per_epoch=5).steps
    )
    with pytest.raises(ValueError, match="an epoch of 5 steps has no room for checkpoints_per_epoch = 6"):
        plan_steps(rows, num_epochs=1, batch_tokens=1, seed=1, parts_per_epoch=6)


def test_rows_that_cannot_be_trained_on_are_a_clear_message() -> None:
    with pytest.raises(ValueError, match="4 are longer than max_total_tokens and 2 have no solution"):
        plan_steps(Rows((), num_too_long=4, num_without_solution=2), num_epochs=1, batch_tokens=10, seed=0)
