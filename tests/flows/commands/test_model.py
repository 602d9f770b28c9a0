"""`ring model info` computes what a model needs from its config.json, and checks the weights that are there."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.commands.model import _size
from flows.models import find_model
from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise
from ring_model.tokenizer import build_word_tokenizer
from stages.records.artifact import Store

SMALL = BailingMoeConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=5,
    num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, eos_token_id=0, pad_token_id=0,
)  # fmt: skip


def ring(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "flows.cli", "model", "info", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ling_lite_has_its_published_sizes(tmp_path: Path) -> None:
    BailingMoeConfig().save(tmp_path)
    document = json.loads(ring(str(tmp_path), "--json").stdout)
    assert round(document["parameters"] / 1e9, 1) == 16.8
    assert round(document["active_parameters"] / 1e9, 2) == 2.75
    assert document["weights"] is None
    assert sum(part["parameters"] for part in document["parts"]) == document["parameters"]
    sizes = [row["bytes"] for row in document["training"]]
    assert sizes[:4] == sorted(sizes[:4], reverse=True)


def test_weights_are_counted_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    save_model(initialise(BailingMoe(SMALL), seed=0), tmp_path)
    document = json.loads(ring(str(tmp_path), "--json").stdout)
    assert document["weights"]["bytes"] > 4 * SMALL.num_parameters
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "vocab_size": 21}))
    wrong = ring(str(tmp_path))
    assert wrong.returncode == 2
    assert "lm_head.weight has shape (20, 16), not (21, 16)" in wrong.stderr


def test_the_template_the_thinking_and_the_end_tokens_are_told(tmp_path: Path) -> None:
    tokenizer = build_word_tokenizer(["solve 8 x"])
    sizes = {**asdict(SMALL), "vocab_size": tokenizer.vocab_size}
    save_model(initialise(BailingMoe(BailingMoeConfig(**sizes)), seed=0), tmp_path, end_ids=[0, 3])
    tokenizer.save(tmp_path)
    document = json.loads(ring(str(tmp_path), "--json").stdout)["tokenizer"]
    ends = [{"id": 0, "token": "<|endoftext|>"}, {"id": 3, "token": "<role>ASSISTANT</role>"}]
    assert document == {"template": "tokenizer_config.json", "opens_thinking": True, "end_tokens": ends}
    (tmp_path / "chat_template.jinja").write_text("<role>HUMAN</role>{{ messages[0].content }}<role>ASSISTANT</role>")
    said = ring(str(tmp_path)).stdout
    assert "chat template: chat_template.jinja, 'default'\n" in said
    assert "thinking: opened by the model: its responses begin with <think>\n" in said
    assert (
        "end tokens: <|endoftext|> (0), <role>ASSISTANT</role> (3), of which the first ends what is trained on\n"
        in said
    )
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }} {{ strftime_now('%Y') }}")
    refused = ring(str(tmp_path))
    assert refused.returncode == 2
    assert "asks for the date" in refused.stderr


def test_a_missing_folder_and_an_impossible_number_are_told(tmp_path: Path) -> None:
    missing = ring(str(tmp_path / "nowhere"))
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False)
    BailingMoeConfig().save(tmp_path)
    assert "--ranks = 0 must be at least 1" in ring(str(tmp_path), "--ranks", "0").stderr


def test_a_model_is_found_by_id_by_result_and_by_folder(seal, home) -> None:
    arm = seal("rl", arm="mixed", models=["model"])
    model, store = arm.folder / "model", Store(home)
    for name in (arm.fingerprint, arm.fingerprint[:8], str(arm.folder), str(model)):
        assert find_model(name, store=store).resolve() == model


def test_the_models_of_an_arms_phases_and_its_best_are_named_and_its_last_is_meant(seal, home) -> None:
    arm, store = seal("rl", arm="phased", models=["model", "phase-01-math", "best"]), Store(home)
    for name in ("phase-01-math", "best"):
        assert find_model(f"{arm.fingerprint[:8]}/{name}", store=store) == arm.folder / name
    assert find_model(arm.fingerprint[:8], store=store).resolve() == arm.folder / "model"


def test_of_several_models_one_must_be_named(seal, home) -> None:
    sft, store = seal("sft", models=["epoch-01", "epoch-02"]), Store(home)
    assert find_model(f"{sft.fingerprint[:8]}/epoch-01", store=store) == sft.folder / "epoch-01"
    for name in (sft.fingerprint[:8], f"{sft.fingerprint[:8]}/epoch-09"):
        with pytest.raises(ValueError, match=rf"epoch-01, epoch-02: name one, as {sft.fingerprint[:8]}/epoch-02"):
            find_model(name, store=store)


def test_checkpoints_of_an_epochs_middle_and_their_mean_are_named_like_others(seal, home) -> None:
    names = ["epoch-00+1of2", "epoch-01", "mean-of-last-2"]
    sft, store = seal("sft", models=names), Store(home)
    for name in names:
        assert find_model(f"{sft.fingerprint[:8]}/{name}", store=store) == sft.folder / name
    with pytest.raises(ValueError, match=re.escape("holds epoch-00+1of2, epoch-01, mean-of-last-2: name one")):
        find_model(sft.fingerprint[:8], store=store)


def test_a_selection_stands_for_the_checkpoint_that_it_chose(seal, home) -> None:
    sft = seal("sft", models=["epoch-01", "epoch-02"])
    chosen = seal("selection", sft, files={"choice.json": '{"checkpoint": "epoch-01"}'})
    assert find_model(chosen.fingerprint[:8], store=Store(home)) == sft.folder / "epoch-01"


@pytest.mark.parametrize("name", ["nowhere", "a/b", "zzzz"])
def test_a_name_of_nothing_says_what_may_be_given(home, name: str) -> None:
    with pytest.raises(ValueError, match="an id of `ring ls`"):
        find_model(name, store=Store(home))


def test_a_result_without_a_model_is_refused(seal, home) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        find_model(seal("report").fingerprint[:8], store=Store(home))


def test_sizes_are_never_zero_for_being_small() -> None:
    assert [_size(size) for size in (638_000, 2**30, 5 * 2**30 // 2)] == ["0.6 MB", "1.00 GiB", "2.50 GiB"]
