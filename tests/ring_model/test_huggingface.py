"""transformers opens the released folder and computes what `ring_model` computes."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slow_model
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ring_model.checkpoint import load_model, released_tensors, save_model
from ring_model.generation import generate
from ring_model.modelling import BailingMoe
from stages.records.code_digest import reached_modules

ROOT = Path(__file__).resolve().parents[2]
CONFIG = slow_model.SMALL
ROWS = [[5, 1, 36, 2, 2, 9, 30], [3, 8], [11, 4, 30, 8], [20, 21, 7, 7, 7]]
LENGTHS = torch.tensor([len(row) for row in ROWS])


@pytest.fixture
def folder(model: BailingMoe, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def ported(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder)


def padded(side: str) -> tuple[Tensor, Tensor]:
    """Token ids and mask of ROWS; the padding holds a token that would show."""
    width = int(LENGTHS.max())
    fill = lambda row, value: [value] * (width - len(row))  # noqa: E731
    ids = [fill(row, 13) + row if side == "left" else row + fill(row, 13) for row in ROWS]
    mask = [fill(row, 0) + [1] * len(row) if side == "left" else [1] * len(row) + fill(row, 0) for row in ROWS]
    return torch.tensor(ids), torch.tensor(mask)


def our_logits(model: BailingMoe) -> Tensor:
    """Logits of every valid token of ROWS, row after row."""
    return model.logits(model(padded("right")[0], lengths_B=LENGTHS).hidden_ND)


def assert_close(got: Tensor, expected: Tensor, *, relative: float = 1e-5) -> None:
    assert (got - expected).abs().max() <= relative * expected.abs().max()


def test_logits_equal_the_slow_reference_in_float64(ported: PreTrainedModel, weights: dict[str, np.ndarray]) -> None:
    for row in ROWS:
        with torch.no_grad():
            logits = ported(torch.tensor([row])).logits[0]
        assert_close(logits, torch.from_numpy(slow_model.logits(weights, row, CONFIG)))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_on_either_side_changes_nothing(model: BailingMoe, folder: Path, side: str, attention: str) -> None:
    ported = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    ids, mask = padded(side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        assert_close(ported(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()], our_logits(model))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_packed_in_one_row_do_not_see_each_other(
    model: BailingMoe, folder: Path, attention: str, use_cache: bool
) -> None:
    ported = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    ids = torch.tensor([[token for row in ROWS for token in row]])
    positions = torch.tensor([[place for row in ROWS for place in range(len(row))]])
    with torch.no_grad():
        assert_close(ported(ids, position_ids=positions, use_cache=use_cache).logits[0], our_logits(model))


@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
def test_every_way_to_multiply_experts_agrees(model: BailingMoe, folder: Path, experts: str) -> None:
    ported = AutoModelForCausalLM.from_pretrained(folder, experts_implementation=experts)
    ids, mask = padded("right")
    with torch.no_grad():
        assert_close(ported(ids, attention_mask=mask).logits[mask.bool()], our_logits(model))


@pytest.mark.parametrize("cache", [{}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_greedy_generation_equals_ours_whatever_the_cache(
    model: BailingMoe, ported: PreTrainedModel, cache: dict
) -> None:
    ids, mask = padded("left")
    out = ported.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False, **cache)[:, ids.shape[1] :]
    ours = generate(model, ROWS, seeds=range(4), max_new_tokens=20, temperature=0.0, eos_id=0)
    for row, made in zip(out.tolist(), ours, strict=True):
        assert row[: len(made.token_ids)] == made.token_ids
        assert set(row[len(made.token_ids) :]) <= {CONFIG.pad_token_id}


def test_generation_ends_at_each_of_several_end_tokens_as_ours_does(model: BailingMoe, tmp_path: Path) -> None:
    seen = generate(model, ROWS, seeds=range(4), max_new_tokens=20, temperature=0.0, eos_id=0)
    ends = [0, *dict.fromkeys(made.token_ids[6] for made in seen if len(made.token_ids) > 6)]
    assert len(ends) > 2
    model.config = replace(model.config, eos_token_id=(0, 1))
    save_model(model, tmp_path, end_ids=ends)
    ported = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert ported.config.eos_token_id == [0, 1]
    assert ported.config.released() == model.config
    ours = generate(model, ROWS, seeds=range(4), max_new_tokens=20, temperature=0.0, eos_id=ends)
    for row, made in zip(ROWS, ours, strict=True):
        ids = torch.tensor([row])
        out = ported.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        assert out[0, len(row) :].tolist() == made.token_ids
    assert any(made.finished and made.token_ids[-1] != 0 for made in ours)


def test_a_left_padded_batch_generates_what_each_row_does_alone(ported: PreTrainedModel) -> None:
    ids, mask = padded("left")
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    together = ported.generate(ids, attention_mask=mask, **settings)[:, ids.shape[1] :]
    for row, made in zip(ROWS, together, strict=True):
        alone = ported.generate(torch.tensor([row]), attention_mask=torch.ones(1, len(row)), **settings)
        assert alone[0, len(row) :].tolist() == made.tolist()


def our_gradients(model: BailingMoe) -> dict[str, Tensor]:
    """Gradients, under transformers' stacked names, of the mean loss of every next token of ROWS."""
    next_tokens = torch.tensor([token for row in ROWS for token in [*row[1:], -100]])
    torch.nn.functional.cross_entropy(our_logits(model), next_tokens).backward()
    gradients = {
        "model.word_embeddings.weight": model.word_embeddings.weight.grad,
        "lm_head.weight": model.lm_head.weight.grad,
        "model.norm.weight": model.norm.weight.grad,
    }
    for index, layer in enumerate(model.layers):
        gradients |= {
            f"model.layers.{index}.attention.query_key_value.weight": layer.attention.query_key_value.weight.grad,
            f"model.layers.{index}.input_layernorm.weight": layer.input_layernorm.weight.grad,
            f"model.layers.{index}.mlp.gate.weight": layer.mlp.gate.weight.grad,
            f"model.layers.{index}.mlp.experts.gate_up_proj": layer.mlp.gate_up.grad,
            f"model.layers.{index}.mlp.experts.down_proj": layer.mlp.down.grad,
            f"model.layers.{index}.mlp.shared_experts.down_proj.weight": layer.mlp.shared_experts.down.grad,
        }
    return gradients


@pytest.mark.parametrize("checkpointing", [True, False])
def test_gradients_equal_ours_with_the_head_norm_a_constant(
    model: BailingMoe, ported: PreTrainedModel, checkpointing: bool
) -> None:
    """Ours takes `norm_head` as a constant (test_modelling), so the gradient of lm_head shows that this model does too."""
    if checkpointing:
        ported.gradient_checkpointing_enable()
    ids, mask = padded("right")
    ported.train()(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    gradients = {name: parameter.grad for name, parameter in ported.named_parameters()}
    for name, expected in our_gradients(model).items():
        assert_close(gradients[name], expected)


def test_router_logits_and_hidden_states_are_recorded(ported: PreTrainedModel) -> None:
    out = ported(torch.tensor([ROWS[0]]), output_router_logits=True, output_hidden_states=True)
    assert [tuple(logits.shape) for logits in out.router_logits] == [(7, CONFIG.num_experts)] * 2
    assert [tuple(hidden.shape) for hidden in out.hidden_states] == [(1, 7, CONFIG.hidden_size)] * 3


def test_an_export_is_the_same_model_to_the_bit(model: BailingMoe, ported: PreTrainedModel, tmp_path: Path) -> None:
    ported.save_pretrained(tmp_path / "export", max_shard_size="20KB")
    assert len(list((tmp_path / "export").glob("model-*.safetensors"))) > 1
    again = load_model(tmp_path / "export")
    assert again.config == model.config
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert one.detach().numpy().tobytes() == two.detach().numpy().tobytes()


def test_an_export_keeps_the_keys_that_older_readers_want(
    ported: PreTrainedModel, folder: Path, tmp_path: Path
) -> None:
    path = folder / "config.json"
    code = {"AutoModelForCausalLM": "modeling_bailing_moe.BailingMoeForCausalLM"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": code, "rope_theta": 12345.0}))
    AutoConfig.from_pretrained(folder).save_pretrained(tmp_path / "export")
    written = json.loads((tmp_path / "export" / "config.json").read_text())
    assert "auto_map" not in written
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 12345.0
    assert {key: written[key] for key in ported.config.released().to_dict()} == {
        **ported.config.released().to_dict(),
        "rope_theta": 12345.0,
    }


def test_the_window_that_released_files_name_but_do_not_use_is_not_used(model: BailingMoe, folder: Path) -> None:
    path = folder / "config.json"
    unused = {"sliding_window": 4, "use_sliding_window": False, "max_window_layers": 2, "torch_dtype": "bfloat16"}
    path.write_text(json.dumps(json.loads(path.read_text()) | unused))
    ported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for cache in ({}, {"cache_implementation": "static"}):
        out = ported.generate(torch.tensor([ROWS[0]]), max_new_tokens=20, do_sample=False, **cache)
        ours = generate(model, [ROWS[0]], seeds=[0], max_new_tokens=20, temperature=0.0, eos_id=0)
        assert out[0, len(ROWS[0]) :].tolist() == ours[0].token_ids


def test_ling_lites_sizes_give_its_16_8_billion_parameters() -> None:
    config = AutoConfig.for_model("bailing_moe")
    with torch.device("meta"):
        ported = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in ported.parameters()) == config.released().num_parameters
    assert round(config.released().num_parameters / 1e9, 1) == 16.8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("use_qk_norm", True),
        ("score_function", "sigmoid"),
        ("hidden_act", "gelu"),
        ("quantization_config", {"quant_method": "fp8"}),
        ("a_new_gate", 2),
    ],
)
def test_a_value_that_would_change_the_arithmetic_is_refused_by_name(folder: Path, key: str, value: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"config.json: .*{key}"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_bfloat16_weights_give_the_rounded_models_logits(model: BailingMoe, folder: Path) -> None:
    ported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in ported.parameters()} == {torch.bfloat16}
    ids, mask = padded("right")
    with torch.no_grad():
        rounded = ported.float()(ids, attention_mask=mask).logits[mask.bool()]
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    assert_close(rounded, our_logits(model))


def test_dense_layers_biases_and_a_tied_head_are_computed_and_generated_as_ours(
    variant: BailingMoe, tmp_path: Path
) -> None:
    save_model(variant, tmp_path)
    ported = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask = padded("right")
    with torch.no_grad():
        out = ported(ids, attention_mask=mask, output_router_logits=True)
        assert_close(out.logits[mask.bool()], our_logits(variant))
    assert len(out.router_logits) == variant.config.shape.routers.num_layers
    ids, mask = padded("left")
    made = ported.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False)[:, ids.shape[1] :]
    ours = generate(variant, ROWS, seeds=range(4), max_new_tokens=20, temperature=0.0, eos_id=0)
    for row, one in zip(made.tolist(), ours, strict=True):
        assert row[: len(one.token_ids)] == one.token_ids


def test_a_variants_gradients_equal_ours(variant: BailingMoe, tmp_path: Path) -> None:
    save_model(variant, tmp_path)
    ported = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask = padded("right")
    ported.train()(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    next_tokens = torch.tensor([token for row in ROWS for token in [*row[1:], -100]])
    torch.nn.functional.cross_entropy(our_logits(variant), next_tokens).backward()
    probe = BailingMoe(variant.config)
    for source, target in zip(variant.parameters(), probe.parameters(), strict=True):
        target.data.copy_(source.grad)
    expected = released_tensors(probe)
    found = {name: parameter.grad for name, parameter in ported.named_parameters() if "experts.gate_up" not in name}
    compared = found.keys() & expected.keys()
    wanted = {"model.word_embeddings.weight", "model.layers.0.attention.query_key_value.weight"}
    wanted |= {name for name in expected if name.endswith(".bias") or name.startswith("model.layers.0.mlp.gate")}
    assert compared >= wanted
    for name in compared:
        assert_close(found[name], expected[name])


def test_a_variants_export_is_the_same_model_to_the_bit(variant: BailingMoe, tmp_path: Path) -> None:
    save_model(variant, tmp_path / "model")
    ported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert sum(parameter.numel() for parameter in ported.parameters()) == variant.config.num_parameters
    ported.save_pretrained(tmp_path / "export")
    again = load_model(tmp_path / "export")
    assert again.config == variant.config
    names = load_file(tmp_path / "export" / "model.safetensors").keys()
    assert names == load_file(tmp_path / "model" / "model.safetensors").keys()
    for one, two in zip(variant.parameters(), again.parameters(), strict=True):
        assert one.detach().numpy().tobytes() == two.detach().numpy().tobytes()


def need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install -e '.[lora]'")


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_a_device_map_places_the_same_model(model: BailingMoe, folder: Path, device_map: str) -> None:
    need("accelerate")
    ported = AutoModelForCausalLM.from_pretrained(folder, device_map=device_map)
    ids, mask = padded("right")
    with torch.no_grad():
        logits = ported(ids.to(ported.device), attention_mask=mask.to(ported.device)).logits.cpu()
    assert_close(logits[mask.bool()], our_logits(model))


def test_a_lora_adapter_learns_saves_and_reloads(ported: PreTrainedModel, folder: Path, tmp_path: Path) -> None:
    need("peft")
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    stacks = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    settings = LoraConfig(r=4, target_modules=["query_key_value", "dense"], target_parameters=stacks)
    adapted = get_peft_model(ported, settings)
    ids = torch.tensor([ROWS[0]])
    before = adapted(ids).logits.detach()
    optimizer = torch.optim.SGD([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=1.0)
    for _ in range(2):
        adapted(ids, labels=ids).loss.backward()
        optimizer.step()
    after = adapted.eval()(ids).logits.detach()
    assert (after - before).abs().max() > 1e-2
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    assert_close(again(ids).logits.detach(), after, relative=1e-6)


def run_python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "imports",
    [
        "import ring_model\nfrom transformers import AutoModelForCausalLM",
        "from transformers import AutoModelForCausalLM\nimport ring_model",
        "import ring_model\nfrom transformers import LlamaForCausalLM, AutoModelForCausalLM",  # auto classes load midway
    ],
)
def test_auto_classes_know_the_model_in_any_order_of_imports(folder: Path, imports: str) -> None:
    code = f"import sys\n{imports}\nprint(type(AutoModelForCausalLM.from_pretrained(sys.argv[1])).__module__)"
    assert run_python(code, str(folder)).strip() == "ring_model.huggingface"


def test_the_package_loads_nothing_of_transformers_until_it_is_wanted() -> None:
    unwanted = "print(any(name.partition('.')[0] == 'transformers' for name in sys.modules))"
    assert run_python(f"import sys, ring_model.modelling, ring_model.checkpoint\n{unwanted}").strip() == "False"
    heavy = "print([name in sys.modules for name in ('transformers.modeling_utils', 'ring_model.huggingface')])"
    assert (
        run_python(f"import sys, ring_model\nfrom transformers import AutoTokenizer\n{heavy}").strip()
        == "[False, False]"
    )


def test_the_port_is_no_part_of_any_stages_code() -> None:
    reached = reached_modules("ring_model.engine") | reached_modules("ring_model.generation")
    assert "ring_model" in reached
    assert not any("huggingface" in name for name in reached)
