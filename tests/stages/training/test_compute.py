"""FLOPs, by hand on a tiny model and against torch's own counter."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import pack_rows, response_logprobs
from ring_model.products import ROWS as ROWS_OF_ONEDNN
from stages.training.compute import (
    REFERENCE,
    SAMPLING,
    TOTAL,
    TRAINING,
    Work,
    compute_metrics,
    forward_flops,
    row_work,
    sampling_work,
    training_flops,
)

TINY = BailingMoeConfig(
    vocab_size=10,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    num_experts=4,
    num_experts_per_tok=2,
    num_shared_experts=1,
    moe_intermediate_size=4,
    eos_token_id=0,
    pad_token_id=0,
)
# A layer: heads are 4 wide, so queries, keys and values have (2 + 2 x 1) x 4 = 16 rows: 16 x 8, and 8 x 8 behind them; the router 4 x 8;
# an expert 3 x 8 x 4 = 96, of which two routed and one shared.
LAYER = 16 * 8 + 8 * 8 + 4 * 8 + 3 * 96


def test_active_parameters_are_those_of_the_matrices_that_a_token_goes_through() -> None:
    assert LAYER == 512
    assert TINY.shape.active_parameters == 2 * 512


def test_active_parameters_are_ling_lites_without_the_vocabulary_and_the_norms() -> None:
    config = BailingMoeConfig()
    beside = 2 * 126_464 * 2048 + 57 * 2048
    assert config.shape.active_parameters == config.num_active_parameters - beside


def test_a_row_attends_to_all_before_and_has_logits_for_its_response() -> None:
    assert row_work(2, 3) == Work(tokens=5, logits=3, pairs=1 + 2 + 3 + 4 + 5)


def test_a_prompt_is_read_once_for_its_samples_and_no_last_token_is_read() -> None:
    # The prompt's pairs are 1 + 2; of the response of three tokens two are read, with 3 and 4 to attend to, of that of one none.
    assert sampling_work(2, [3, 1]) == Work(tokens=2 + 2, logits=4, pairs=3 + 3 + 4)


def test_one_response_costs_a_forward_pass_over_all_but_its_last_token() -> None:
    row, sampled = row_work(7, 4), sampling_work(7, [5])
    assert (sampled.tokens, sampled.pairs, sampled.logits) == (row.tokens, row.pairs, row.logits + 1)


def test_flops_by_hand() -> None:
    # Multiply-adds: 1024 a token of the layers, 10 x 8 = 80 for logits, and a pair 8 for its score and 8 for the mixture in 2 layers.
    work = Work(tokens=5, logits=3, pairs=15)
    assert forward_flops(work, TINY.shape) == 2 * (1024 * 5 + 80 * 3 + 32 * 15) == 11_680
    assert training_flops(work, TINY.shape) == 3 * 11_680


def test_metrics_are_what_was_spent_and_their_sum() -> None:
    assert compute_metrics({TRAINING: 3}) == {TRAINING: 3.0, TOTAL: 3.0}
    assert compute_metrics({TRAINING: 3, SAMPLING: 4, REFERENCE: 5})[TOTAL] == 12.0


# ---------------------------------------------------------------- torch's counter


def _grouped(x: tuple[int, int], weight: tuple[int, ...], *_: object, **__: object) -> int:
    """Rows by any expert's matrix, or the outer products of an expert's rows: each row of C meets every entry of one matrix once."""
    rows = x[0] if len(weight) == 3 else x[1]
    return 2 * rows * weight[-1] * (x[1] if len(weight) == 3 else x[0])


def _addmm(into: tuple[int, int], a: tuple[int, int], b: tuple[int, int], **_: object) -> int:
    return 2 * a[0] * a[1] * b[1]


def _sdpa(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


OPERATIONS = {
    torch.ops.aten._grouped_mm: _grouped,
    torch.ops.aten.addmm_: _addmm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa,
}
"""Operations of the model that torch's counter does not know, by shapes."""


def _counted(run: Callable[[], object]) -> tuple[int, int]:
    """FLOPs of matrices and of attention."""
    with FlopCounterMode(display=False, custom_mapping=OPERATIONS) as counter:
        run()
    found = counter.get_flop_counts()["Global"]
    attention = found.pop(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, 0)
    return sum(found.values()), attention


@pytest.fixture
def model() -> BailingMoe:
    return initialise(BailingMoe(TINY), seed=0)


ROWS = [(3, 4), (2, 6), (5, 1)]  # prompt and response
assert sum(map(sum, ROWS)) < ROWS_OF_ONEDNN  # so that products are torch's own everywhere, which the counter knows


def test_matrices_cost_what_torch_counts_in_the_forward_and_in_the_backward_pass(model: BailingMoe) -> None:
    rows = pack_rows([[1] * prompt for prompt, _ in ROWS], [[2] * response for _, response in ROWS])
    work = sum((row_work(*lengths) for lengths in ROWS), Work())
    expected = forward_flops(Work(work.tokens, work.logits), TINY.shape)
    assert _counted(lambda: response_logprobs(model, rows, entropy="none"))[0] == expected
    scored = response_logprobs(model, rows, entropy="none").logprobs_M
    assert _counted(lambda: scored.sum().backward())[0] == 2 * expected


def test_attention_costs_what_torch_counts_of_the_whole_square_where_it_is_causal(model: BailingMoe) -> None:
    rows = pack_rows([[1] * 3] * 2, [[2] * 4] * 2)
    pairs = 2 * row_work(3, 4).pairs
    _, square = _counted(lambda: response_logprobs(model, rows, entropy="none"))
    assert forward_flops(Work(pairs=pairs), TINY.shape) * 7 * 2 == square * 8  # T (T + 1) / 2 of T x T
