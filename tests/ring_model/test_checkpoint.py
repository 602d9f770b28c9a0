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
from slow_model import SMALL, VARIANTS

from ring_model.checkpoint import check_folder, load_model, refill, save_model, save_parameters, write_mean
from ring_model.configuration import BailingMoeConfig, end_ids_of
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


# ---------------------------------------------------------------- dense layers, biases, a tied head


def released_shapes(config: BailingMoeConfig) -> dict[str, tuple[int, ...]]:
    """Tensors of a released folder, by hand."""
    hidden, width = config.hidden_size, config.moe_intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"model.word_embeddings.weight": (config.vocab_size, hidden)}

    def mlp(prefix: str, inner: int) -> dict[str, tuple[int, ...]]:
        wide = {f"{prefix}.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        return {**wide, f"{prefix}.down_proj.weight": (hidden, inner)}

    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        norms = ("input_layernorm", "post_attention_layernorm")
        shapes |= {f"{at}.{name}.weight": (hidden,) for name in norms}
        rows = (config.num_attention_heads + 2 * config.num_key_value_heads) * hidden // config.num_attention_heads
        shapes |= {
            f"{at}.attention.query_key_value.weight": (rows, hidden),
            f"{at}.attention.dense.weight": (hidden, hidden),
        }
        if config.use_qkv_bias:
            shapes[f"{at}.attention.query_key_value.bias"] = (rows,)
        if config.use_bias:
            shapes[f"{at}.attention.dense.bias"] = (hidden,)
        if layer < config.first_k_dense_replace:
            shapes |= mlp(f"{at}.mlp", config.intermediate_size)
            continue
        shapes[f"{at}.mlp.gate.weight"] = (config.num_experts, hidden)
        for expert in range(config.num_experts):
            shapes |= mlp(f"{at}.mlp.experts.{expert}", width)
        shapes |= mlp(f"{at}.mlp.shared_experts", config.num_shared_experts * width)
    shapes["model.norm.weight"] = (hidden,)
    return shapes if config.tie_word_embeddings else {**shapes, "lm_head.weight": (config.vocab_size, hidden)}


def released_folder(folder: Path, config: BailingMoeConfig) -> Path:
    """A folder as it is released, of which nothing is written by the code under test."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(6)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in released_shapes(config).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "num_experts",
        "num_experts_per_tok", "num_shared_experts", "moe_intermediate_size", "intermediate_size", "first_k_dense_replace", "use_bias",
        "use_qkv_bias", "tie_word_embeddings", "norm_head", "norm_topk_prob", "rope_theta", "initializer_range", "max_position_embeddings",
    )  # fmt: skip
    values = {
        "model_type": "bailing_moe",
        "hidden_act": "silu",
        "rope_scaling": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    values |= {name: getattr(config, name) for name in names}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_a_released_folder_comes_back_byte_by_byte(tmp_path: Path, name: str) -> None:
    folder, config = released_folder(tmp_path / "released", VARIANTS[name]), VARIANTS[name]
    assert check_folder(folder) == config.num_parameters
    model = load_model(folder)
    assert model.config == config
    save_model(model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    before, after = (json.loads((at / "config.json").read_text()) for at in (folder, tmp_path / "out"))
    assert after.items() >= before.items()
    save_model(model, tmp_path / "shards", max_shard_bytes=3000)
    again = load_model(tmp_path / "shards")
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_for_another_process_and_a_mean_have_each_tensor_once(tmp_path: Path, name: str) -> None:
    config = VARIANTS[name]
    folder = released_folder(tmp_path / "released", config)
    model = load_model(folder)
    save_parameters(model, tmp_path / "parameters")
    other = BailingMoe(config)
    refill(other, tmp_path / "parameters")
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert (other.lm_head.weight is other.word_embeddings.weight) == config.tie_word_embeddings
    write_mean([folder, folder], tmp_path / "mean")
    assert (tmp_path / "mean" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tie_word_embeddings": True}, "unknown tensors lm_head.weight"),
        ({"use_bias": True}, r"2 tensors are missing: model\.layers\.0\.attention\.dense\.bias"),
        ({"first_k_dense_replace": 1, "intermediate_size": 26}, r"unknown tensors model\.layers\.0\.mlp\.experts\.0"),
    ],
)
def test_a_config_that_says_otherwise_than_the_weights_is_refused(tmp_path: Path, values: dict, message: str) -> None:
    folder = released_folder(tmp_path / "released", SMALL)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | values))
    for read in (load_model, check_folder):
        with pytest.raises(ValueError, match=message):
            read(folder)
