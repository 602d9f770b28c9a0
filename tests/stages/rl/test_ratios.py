"""The units over which a ratio is a mean, by hand."""

import math

import pytest
import torch

from stages.config import Objective
from stages.rl.ratios import ends_sentence, mean_over_units, unit_of_tokens

RESPONSES = [[5, 9, 5, 5], [9], [5, 5, 9]]  # 9 ends a sentence


def units(ratio: str) -> list[int]:
    return unit_of_tokens(RESPONSES, objective=Objective.model_validate({"ratio": ratio}), ends={9})


def test_a_token_a_response_or_a_sentence_is_a_unit_and_none_crosses_responses() -> None:
    assert units("token") == list(range(8))
    assert units("sequence") == [0, 0, 0, 0, 1, 2, 2, 2]
    assert units("sentence") == [0, 0, 1, 1, 2, 3, 3, 3]


def test_two_ends_in_a_row_are_two_sentences() -> None:
    found = unit_of_tokens([[9, 9, 5]], objective=Objective(ratio="sentence"), ends={9})
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "ends"),
    [(".", True), ("so.", True), (" \n", True), ("。", True), ("; ", True), (",", False), ("3", False), ("", False)],
)
def test_a_sentence_ends_with_a_mark_or_a_line(text: str, ends: bool) -> None:
    assert ends_sentence(text) == ends


def test_the_mean_over_a_unit_stands_at_all_its_tokens_and_its_gradient_goes_to_all() -> None:
    values_M = torch.tensor([1.0, 3.0, 10.0], requires_grad=True)
    mean_M = mean_over_units(values_M, torch.tensor([0, 0, 1]))
    assert mean_M.tolist() == [2.0, 2.0, 10.0]
    mean_M[0].backward()
    assert values_M.grad is not None
    assert values_M.grad.tolist() == [0.5, 0.5, 0.0]


def test_units_of_one_token_change_no_bit() -> None:
    values_M = torch.tensor([math.pi, -1e-9, 3.3])
    assert torch.equal(mean_over_units(values_M, torch.arange(3)), values_M)


def test_no_token_has_no_unit() -> None:
    assert unit_of_tokens([], objective=Objective(ratio="sentence"), ends=()) == []
    assert mean_over_units(torch.zeros(0), torch.zeros(0, dtype=torch.int64)).tolist() == []
