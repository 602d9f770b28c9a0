"""Computed memory is what torch really holds."""

from dataclasses import replace

import pytest
import torch
from slow_model import SMALL

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import activation_bytes, cache_bytes, training_state_bytes
from ring_model.modelling import BailingMoe, initialise

CONFIG = replace(SMALL, hidden_size=64, moe_intermediate_size=48, num_hidden_layers=3, num_experts=8)
NUM_TOKENS = 100  # too few for experts one by one, which are filled up a little


def kept_bytes(model: BailingMoe) -> int:
    """Bytes of distinct storages that autograd keeps, without parameters and integers."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.randint(0, 37, (2, NUM_TOKENS // 2), generator=torch.Generator().manual_seed(0)))
        alive = (output.hidden_ND.sum(), output.router)
    assert alive
    return sum(kept.values())


@pytest.mark.parametrize(
    "change",
    [{}, {"first_k_dense_replace": 2, "intermediate_size": 200}, {"use_qkv_bias": True, "use_bias": True, "tie_word_embeddings": True}],
)  # fmt: skip
def test_activations_are_those_that_autograd_keeps(change: dict[str, object]) -> None:
    config = replace(CONFIG, **change)
    model = initialise(BailingMoe(config), seed=0)
    computed = activation_bytes(config, num_tokens=NUM_TOKENS, checkpoints_layers=False)
    assert computed == pytest.approx(kept_bytes(model), rel=0.05)


def test_checkpointed_layers_keep_their_inputs_and_the_largest_layer() -> None:
    sizes = {
        width: activation_bytes(
            replace(CONFIG, first_k_dense_replace=1, intermediate_size=width), num_tokens=1, checkpoints_layers=True
        )
        for width in (4, 40_000, 40_001)
    }
    assert sizes[4] == activation_bytes(CONFIG, num_tokens=1, checkpoints_layers=True)
    assert sizes[40_001] - sizes[40_000] == 4 * 4  # four numbers of four bytes


@pytest.mark.parametrize(("stage", "bytes_per_parameter"), [(0, 16), (1, 8 + 8 / 8), (2, 4 + 12 / 8), (3, 16 / 8)])
def test_zero_shards_moments_then_gradients_then_parameters(stage: int, bytes_per_parameter: float) -> None:
    config = BailingMoeConfig()
    state = training_state_bytes(config, zero_stage=stage, num_ranks=8)
    assert state == pytest.approx(bytes_per_parameter * config.num_parameters, abs=32)


def test_one_rank_holds_everything_at_any_stage() -> None:
    assert {training_state_bytes(CONFIG, zero_stage=stage, num_ranks=1) for stage in range(4)} == {
        16 * CONFIG.num_parameters
    }


def test_ling_lites_cache_takes_57_kilobytes_a_token() -> None:
    assert cache_bytes(BailingMoeConfig(), num_tokens=1) == 2 * 28 * 4 * 128 * 2


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_stage = 4"):
        training_state_bytes(CONFIG, zero_stage=4, num_ranks=1)
