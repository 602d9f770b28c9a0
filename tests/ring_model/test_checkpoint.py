"""Model folders have the released layout and come back bit by bit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from slow_model import SMALL

from ring_model.checkpoint import check_folder, load_model, save_model, write_mean
from ring_model.configuration import end_ids_of
from ring_model.modelling import BailingMoe, initialise


def released_names(num_layers: int, num_experts: int) -> set[str]:
    names = {"model.word_embeddings.weight", "model.norm.weight", "lm_head.weight"}
    for layer in range(num_layers):
        prefix = f"model.layers.{layer}"
        parts = ["input_layernorm", "attention.query_key_value", "attention.dense", "post_attention_layernorm"]
        parts += ["mlp.gate"]
        for owner in [*(f"mlp.experts.{expert}" for expert in range(num_experts)), "mlp.shared_experts"]:
            parts += [f"{owner}.gate_proj", f"{owner}.up_proj", f"{owner}.down_proj"]
        names |= {f"{prefix}.{part}.weight" for part in parts}
    return names


@pytest.mark.parametrize("max_shard_bytes", [10**9, 3000])
def test_round_trip_is_bit_equal(model: BailingMoe, tmp_path: Path, max_shard_bytes: int) -> None:
    save_model(model, tmp_path, max_shard_bytes=max_shard_bytes)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_bytes == 3000)


def test_names_and_shapes_are_the_released_ones(model: BailingMoe, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    config = model.config
    assert set(tensors) == released_names(config.num_hidden_layers, config.num_experts)
    assert tensors["model.layers.0.attention.query_key_value.weight"].shape == ((4 + 2 * 2) * 4, 16)
    assert tensors["model.layers.1.mlp.experts.4.gate_proj.weight"].shape == (8, 16)
    assert tensors["model.layers.1.mlp.shared_experts.down_proj.weight"].shape == (16, 16)
    ids = json.loads((tmp_path / "generation_config.json").read_text())
    assert ids == {"eos_token_id": 0, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("own", "end_ids", "expected"),
    [(0, (), 0), (0, (3,), 3), (0, (3, 0), [3, 0]), ((2, 5), (), [2, 5]), (None, (), None), (None, (4, 1), [4, 1])],
)
def test_the_end_tokens_stand_in_generation_config_and_those_of_the_config_stay(
    model: BailingMoe, tmp_path: Path, own: int | tuple[int, ...] | None, end_ids: tuple[int, ...], expected: object
) -> None:
    model.config = replace(model.config, eos_token_id=own)
    save_model(model, tmp_path, end_ids=end_ids)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "eos_token_id": expected,
        "pad_token_id": 0,
    }
    assert load_model(tmp_path).config == model.config
    assert end_ids_of(tmp_path) == (
        () if expected is None else tuple(expected) if isinstance(expected, list) else (expected,)
    )


def test_same_weights_give_the_same_bytes(model: BailingMoe, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(model, tmp_path / name)
    save_model(load_model(tmp_path / "one"), tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_bfloat16_tensors_are_read_into_float32(model: BailingMoe, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    assert torch.equal(load_model(tmp_path).lm_head.weight, model.lm_head.weight.bfloat16().float())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"1 tensors are missing: model\.norm\.weight"),
        (lambda t: t.update({"lm_head.bias": torch.zeros(3)}), r"unknown tensors lm_head\.bias"),
        (
            lambda t: t.update({"model.norm.weight": torch.zeros(17)}),
            r"model\.norm\.weight has shape \(17,\), not \(16",
        ),
    ],
)
def test_a_wrong_tensor_is_named(model: BailingMoe, tmp_path: Path, edit, message: str) -> None:
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    edit(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


LOAD = """
import sys
from ring_model.checkpoint import load_model
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
model = load_model(sys.argv[1])
print(1024 * (peak() - before) - sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.mark.slow
def test_loading_takes_the_model_and_one_tensor(tmp_path: Path) -> None:
    sizes = {"vocab_size": 9000, "hidden_size": 512, "moe_intermediate_size": 512, "num_experts": 16}
    model = BailingMoe(replace(SMALL, **sizes, num_hidden_layers=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    save_model(model, tmp_path, max_shard_bytes=80_000_000)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    beyond = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(beyond.stdout) < 4 * 9000 * 512 + 12_000_000  # the largest tensor, and room for the allocator


# ---------------------------------------------------------------- the mean of several


def saved(folder: Path, *, seed: int, max_shard_bytes: int = 10**9) -> Path:
    save_model(initialise(BailingMoe(SMALL), seed=seed), folder, max_shard_bytes=max_shard_bytes)
    return folder


def test_the_mean_of_two_is_tensor_by_tensor_half_their_sum(tmp_path: Path) -> None:
    folders = [saved(tmp_path / "one", seed=1), saved(tmp_path / "two", seed=2)]
    tensors = load_file(folders[0] / "model.safetensors")
    tensors["model.norm.weight"][:3] = torch.tensor([1.0, -2.0, 0.25])
    save_file(tensors, folders[0] / "model.safetensors")
    other = load_file(folders[1] / "model.safetensors")
    other["model.norm.weight"][:3] = torch.tensor([2.0, 2.0, 0.0])
    save_file(other, folders[1] / "model.safetensors")
    write_mean(folders, tmp_path / "mean")
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    assert mean["model.norm.weight"][:3].tolist() == [1.5, 0.0, 0.125]
    assert set(mean) == set(tensors)
    for name, tensor in mean.items():
        by_hand = (tensors[name].double().numpy() + other[name].double().numpy()) / 2
        assert torch.equal(tensor, torch.from_numpy(by_hand).float()), name


@pytest.mark.parametrize("max_shard_bytes", [10**9, 4000])
def test_a_mean_is_taken_in_float64_whatever_the_shards(tmp_path: Path, max_shard_bytes: int) -> None:
    sizes = (10**9, 3000, 5000)
    folders = [saved(tmp_path / str(seed), seed=seed, max_shard_bytes=size) for seed, size in enumerate(sizes)]
    write_mean(folders, tmp_path / "mean", max_shard_bytes=max_shard_bytes)
    model = load_model(tmp_path / "mean")
    assert len(list((tmp_path / "mean").glob("*.safetensors"))) == (1 if max_shard_bytes > 4000 else 10)
    heads = [load_model(folder).lm_head.weight.detach() for folder in folders]
    in_float64 = (sum(head.double().numpy() for head in heads) / 3).astype("float32")
    assert torch.equal(model.lm_head.weight, torch.from_numpy(in_float64))
    assert not torch.equal(model.lm_head.weight, (heads[0] + heads[1] + heads[2]) / 3)


def test_the_mean_with_a_model_of_other_sizes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    save_model(initialise(BailingMoe(replace(SMALL, num_experts=3)), seed=0), tmp_path / "other")
    with pytest.raises(ValueError, match=r"one: .* is not there, or of another shape"):
        write_mean([saved(tmp_path / "one", seed=1), tmp_path / "other"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


MEAN = """
import sys
from ring_model.checkpoint import write_mean
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
write_mean([sys.argv[1]] * 4, sys.argv[1] + "/mean", max_shard_bytes=20_000_000)
print(1024 * (peak() - before))
"""


@pytest.mark.slow
def test_a_mean_takes_a_shard_and_a_tensor_at_a_time(tmp_path: Path) -> None:
    sizes = {"vocab_size": 9000, "hidden_size": 512, "moe_intermediate_size": 512, "num_experts": 16}
    model = initialise(BailingMoe(replace(SMALL, **sizes, num_hidden_layers=3)), seed=0)
    save_model(model, tmp_path)
    returns = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed goes back at once
    command = [sys.executable, "-c", MEAN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=returns)
    beyond, whole = int(done.stdout), sum(parameter.nbytes for parameter in model.parameters())
    assert whole > 200_000_000
    # a shard of 20 MB, a tensor of 18 MB as it is read, in float64, and the sum; the model were all of it
    assert beyond < 0.6 * whole


def test_a_damaged_file_and_an_empty_folder_are_refused(model: BailingMoe, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="holds neither"):
        load_model(tmp_path)


def test_a_model_in_bfloat16_is_written_as_it_is_and_says_so(model: BailingMoe, tmp_path: Path) -> None:
    save_model(model.bfloat16(), tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert torch.equal(load_model(tmp_path).lm_head.weight, model.lm_head.weight.float())


def test_an_index_may_not_name_a_file_elsewhere(model: BailingMoe, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="not a file of that folder"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("change", [{"num_experts": 10_000}, {"num_hidden_layers": 10_000}, {"vocab_size": 10**9}])
def test_a_config_that_asks_for_more_than_its_weights_hold_is_refused_before_it_is_built(
    model: BailingMoe, tmp_path: Path, change: dict[str, int]
) -> None:
    save_model(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    for read in (load_model, check_folder):
        with pytest.raises(
            ValueError, match=r"config\.json asks for [\d,]+ parameters, and its weights have [\d,]+ bytes"
        ):
            read(tmp_path)
