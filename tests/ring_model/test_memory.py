"""Computed memory is what torch really holds, and what a process grows by."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from slow_model import SMALL

from ring_model.configuration import BailingMoeConfig
from ring_model.memory import (
    LOGITS_PIECE,
    PRECISIONS,
    activation_bytes,
    cache_bytes,
    gathered_bytes,
    layer_parameters,
    logits_bytes,
    state_by_part,
    step_bytes,
    training_state_bytes,
)
from ring_model.modelling import BailingMoe, initialise
from ring_model.policy import MAX_LOGITS

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


def test_activations_are_those_that_autograd_keeps() -> None:
    model = initialise(BailingMoe(CONFIG), seed=0)
    computed = activation_bytes(CONFIG, num_tokens=NUM_TOKENS, checkpoints_layers=False)
    assert computed == pytest.approx(kept_bytes(model), rel=0.05)


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


# ---------------------------------------------------------------- known figures of 16.8 B parameters

LITE = BailingMoeConfig()
GB = 1e9


def test_ling_lite_has_its_published_sizes() -> None:
    assert (round(LITE.num_parameters / 1e9, 1), round(LITE.num_active_parameters / 1e9, 2)) == (16.8, 2.75)


@pytest.mark.parametrize(
    ("stage", "ranks", "gigabytes"), [(1, 8, 151), (1, 256, 135), (3, 8, 33.6), (3, 256, 1.05), (0, 1, 269)]
)
def test_float32_training_of_it_takes_what_was_worked_out_by_hand(stage: int, ranks: int, gigabytes: float) -> None:
    assert training_state_bytes(LITE, zero_stage=stage, num_ranks=ranks) / GB == pytest.approx(gigabytes, rel=0.005)


def test_its_reference_in_float32_takes_67_gigabytes() -> None:
    assert round(4 * LITE.num_parameters / GB) == 67


@pytest.mark.parametrize(("tokens", "gigabytes"), [(24_576, 361), (32_768, 481)])
def test_a_dense_cache_of_256_rows_takes_hundreds_of_gigabytes(tokens: int, gigabytes: int) -> None:
    assert round(cache_bytes(LITE, num_tokens=256 * tokens) / GB) == gigabytes


def test_a_block_of_it_is_half_a_billion_parameters_of_experts_and_little_more() -> None:
    assert 3 * 64 * 2048 * 1408 < layer_parameters(LITE) < 1.1 * 3 * 64 * 2048 * 1408


# ---------------------------------------------------------------- DeepSpeed

BFLOAT16_TRAINING, FLOAT32_TRAINING = PRECISIONS["bfloat16"], PRECISIONS["float32"]


@pytest.mark.parametrize("stage", range(4))
def test_bfloat16_training_takes_16_bytes_a_parameter_and_float32_too(stage: int) -> None:
    for precision in (BFLOAT16_TRAINING, FLOAT32_TRAINING):
        parts = state_by_part(CONFIG, precision, zero_stage=stage, num_ranks=1)
        assert sum(parts.values()) == 16 * CONFIG.num_parameters


@pytest.mark.parametrize("ranks", [2, 8, 256])
def test_stage_2_in_bfloat16_is_deepspeeds_own_estimate(ranks: int) -> None:
    # deepspeed.runtime.zero.stage_1_and_2, estimate_zero2_model_states_mem_needs: 2 bytes a parameter, and 18 shared by the ranks
    count = LITE.num_parameters
    ours = sum(state_by_part(LITE, BFLOAT16_TRAINING, zero_stage=2, num_ranks=ranks).values())
    ours += step_bytes(LITE, BFLOAT16_TRAINING, zero_stage=2, num_ranks=ranks)
    assert ours == pytest.approx(2 * count + 18 * count / ranks, abs=100)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_a_higher_stage_keeps_no_more(precision) -> None:
    sizes = [sum(state_by_part(LITE, precision, zero_stage=stage, num_ranks=8).values()) for stage in range(4)]
    # in float32 stage 1 trains a copy of its shard, and is still below stage 0
    assert sizes == sorted(sizes, reverse=True)


def test_one_rank_gathers_nothing() -> None:
    assert {gathered_bytes(LITE, BFLOAT16_TRAINING, zero_stage=stage, num_ranks=1) for stage in range(4)} == {0}


def test_pieces_of_logits_are_the_policys() -> None:
    assert LOGITS_PIECE == MAX_LOGITS
    whole = logits_bytes(LITE, num_logits=10**6, has_entropy=False)
    assert whole == 3 * 4 * (MAX_LOGITS // LITE.vocab_size) * LITE.vocab_size
    assert logits_bytes(LITE, num_logits=2, has_entropy=True) == 5 * 4 * 2 * LITE.vocab_size


# ---------------------------------------------------------------- against measured memory

MEASURED = replace(
    SMALL, vocab_size=16_000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=2, num_experts=16,
    num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=512, eos_token_id=0, pad_token_id=0,
)  # fmt: skip
ROWS, LENGTH = 8, 256


def measured(folder: Path, *, stage: int, ranks: int, checkpoints_layers: bool) -> list[int]:
    """Bytes by which the memory of each rank grew at most, from before the model was made."""
    (folder / "config.json").write_text(json.dumps(asdict(MEASURED)))
    script = str(Path(__file__).with_name("memory_script.py"))
    arguments = [str(folder / "config.json"), *map(str, (stage, ROWS, LENGTH, int(checkpoints_layers)))]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def planned(*, stage: int, ranks: int, checkpoints_layers: bool) -> int:
    """The same as it is computed."""
    of_ranks = {"zero_stage": stage, "num_ranks": ranks}
    training = activation_bytes(MEASURED, num_tokens=ROWS * LENGTH, checkpoints_layers=checkpoints_layers)
    training += logits_bytes(MEASURED, num_logits=ROWS * (LENGTH - 1), has_entropy=False)
    training += gathered_bytes(MEASURED, FLOAT32_TRAINING, **of_ranks)
    stays = sum(state_by_part(MEASURED, FLOAT32_TRAINING, **of_ranks).values())
    return stays + max(training, step_bytes(MEASURED, FLOAT32_TRAINING, **of_ranks))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "ranks", "checkpoints_layers"), [(0, 1, False), (0, 1, True), (1, 2, False)])
def test_a_process_that_trains_100_million_parameters_grows_by_what_is_computed(
    tmp_path: Path, stage: int, ranks: int, checkpoints_layers: bool
) -> None:
    assert MEASURED.num_parameters > 95e6
    found = measured(tmp_path, stage=stage, ranks=ranks, checkpoints_layers=checkpoints_layers)
    computed = planned(stage=stage, ranks=ranks, checkpoints_layers=checkpoints_layers)
    assert len(found) == ranks
    assert [computed / growth for growth in found] == [pytest.approx(1, abs=0.1)] * ranks
