"""`ring run` from checkpoints of other architectures than ours: the same stages, with transformers' model inside."""

import json
import struct
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM

from tests.flows.conftest import Ring
from tests.ring_model.tiny_causal_lm import save_causal_lm

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)
ARMS = '[{kind="rl", name="mixed", phases=[{name="all", steps=2, mixture={math=1.0}, max_total_tokens=400}]}]'
FEW = (
    "sft.training.epochs=1",
    "sft.training.max_total_tokens=400",
    "selection.sampling.max_new_tokens=8",
    "rl.sampling.max_new_tokens=8",
    "rl.sampling.engine=transformers",
    f"rl.arms={ARMS}",
    "evaluation.sampling.max_new_tokens=8",
)


def ran(folder: Path, kind: str, *settings: str) -> Path:
    """The home of a smoke chain from a model of this kind."""
    released = save_causal_lm(folder / "released", kind, positions=512, template=TEMPLATE)
    ring = Ring(folder / "home")
    stated = [f"--set={setting}" for setting in (f"base.checkpoint={released}", *FEW, *settings)]
    ring("run", "smoke", *stated)
    return ring.home


def one(home: Path, stage: str) -> Path:
    (found,) = (path.parent for path in (home / "artifacts" / stage).glob("*/manifest.json"))
    return found


def tensors(folder: Path) -> list[str]:
    """Names in a safetensors file, by its header."""
    with (folder / "model.safetensors").open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return [name for name in json.loads(file.read(size)) if name != "__metadata__"]


def require_a_chain(home: Path, kind: str) -> None:
    """Every stage has its result; models open in transformers; an arm was trained on samples of the policy that it has."""
    for folder in (one(home, "sft") / "epoch-01", one(home, "rl") / "model"):
        assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == kind
        assert (folder / "tokenizer.json").is_file()
    steps = [json.loads(line) for line in (one(home, "rl") / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["mismatch/max_abs_difference"] < 1e-4 for step in steps)
    assert all(step["train/gradient_norm"] > 0 for step in steps)
    assert len(pq.read_table(one(home, "evaluation") / "samples.parquet")) > 0
    assert (one(home, "report") / "report.html").is_file()


def test_a_dense_model_goes_through_the_whole_chain_and_has_no_router_figures(tmp_path: Path) -> None:
    home = ran(tmp_path, "qwen2")
    require_a_chain(home, "qwen2")
    for stage in ("sft", "rl"):
        lines = (one(home, stage) / "steps.jsonl").read_text().splitlines()
        assert not any(name.startswith("router/") for line in lines for name in json.loads(line))
    assert "lm_head.weight" not in tensors(one(home, "rl") / "model")  # it is tied


def test_a_mixture_of_experts_trains_by_adapters_and_keeps_them_beside_the_merged_weights(tmp_path: Path) -> None:
    home = ran(tmp_path, "qwen3_moe", "sft.training.lora={rank=4}", "rl.lora={rank=2, targets=['q_proj','v_proj']}")
    require_a_chain(home, "qwen3_moe")
    for folder, rank in ((one(home, "sft") / "epoch-01", 4), (one(home, "rl") / "model", 2)):
        assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["r"] == rank
        assert not any("lora" in name for name in tensors(folder))
    steps = [json.loads(line) for line in (one(home, "sft") / "steps.jsonl").read_text().splitlines()]
    assert all(step["router/balance_loss"] >= 0.9 for step in steps)


def test_our_own_generator_for_another_architecture_is_refused_with_what_to_set(tmp_path: Path) -> None:
    released = save_causal_lm(tmp_path / "released", "llama", positions=512, template=TEMPLATE)
    ring = Ring(tmp_path / "home")
    stated = [f"--set={one_}" for one_ in (f"base.checkpoint={released}", *FEW, "rl.sampling.engine=workers")]
    said = ring("run", "smoke", *stated, code=2).stderr
    assert "draws from our own architecture alone" in said and "set it to 'transformers', or to 'vllm'" in said
