"""`ring model info` computes what a model needs from its config.json, and checks the weights that are there."""

import json
import subprocess
import sys
from pathlib import Path

from ring_model.checkpoint import save_model
from ring_model.configuration import BailingMoeConfig
from ring_model.modelling import BailingMoe, initialise

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


def test_a_missing_folder_and_an_impossible_number_are_told(tmp_path: Path) -> None:
    missing = ring(str(tmp_path / "nowhere"))
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False)
    BailingMoeConfig().save(tmp_path)
    assert "--ranks = 0 must be at least 1" in ring(str(tmp_path), "--ranks", "0").stderr
