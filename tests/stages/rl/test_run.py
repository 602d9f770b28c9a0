"""Which configurations an arm of RL is run with."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.schema import ROLLOUT_SCHEMA, read_table
from ring_model.checkpoint import load_model, save_model
from ring_model.modelling import initialise
from ring_model.tokenizer import Tokenizer
from stages.config import RlConfig, Runtime
from stages.rl.run import run
from stages.sampling.answering import next_token_logprobs
from stages.stage import StageLog
from tests.stages.conftest import MORE, arm_config, run_arm, save_tiny_model

RL: dict[str, Any] = {
    "kind": "rl",
    "phases": ({"name": "p", "steps": 1, "mixture": {"math": 1.0}, "max_total_tokens": 64},),
}
SFT: dict[str, Any] = {"kind": "sft", "name": "sft", "training": {}}


@pytest.mark.parametrize(
    "arms", [({**RL, "name": "a"}, {**RL, "name": "b"}), ({**RL, "name": "a"}, SFT), (SFT,), (SFT, {**RL, "name": "a"})]
)
def test_it_takes_exactly_one_arm_of_rl(arms: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    config: RlConfig = arm_config(arms=arms)
    with pytest.raises(ValueError, match=r"exactly one arm of kind 'rl'; got \[\("):
        run(config, inputs={}, runtime=Runtime(), out=tmp_path, log=StageLog(io.StringIO()))


def test_with_one_arm_it_looks_for_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="selection"):
        run(arm_config(), inputs={}, runtime=Runtime(), out=tmp_path, log=StageLog(io.StringIO()))


# ---------------------------------------------------------------- the start


def started(start: str | None) -> RlConfig:
    config = arm_config()
    arm = config.arms[0].model_copy(update={"start": start})
    return config.model_copy(update={"arms": (arm,)})


def test_a_start_that_sft_did_not_keep_is_told_with_those_that_it_kept(arm_inputs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an arm starts from epoch-02, but SFT kept epoch-01;"):
        run(started("epoch-02"), inputs=arm_inputs, runtime=Runtime(), out=tmp_path, log=StageLog(io.StringIO()))


def test_a_start_is_the_folder_of_an_epoch() -> None:
    with pytest.raises(ValidationError, match="start"):
        arm_config(arms=({**RL, "name": "a", "start": "../base/model"},))


@pytest.fixture(scope="module")
def two_epochs(arm_inputs, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The inputs of an arm with a second checkpoint, which was not chosen and differs from the first."""
    sft = tmp_path_factory.mktemp("two") / "sft"
    sft.mkdir()
    (sft / "epoch-01").symlink_to(tiny_model)
    model = load_model(tiny_model)
    save_model(initialise(model, seed=1), sft / "epoch-02")
    Tokenizer.from_folder(tiny_model).save(sft / "epoch-02")
    return {**arm_inputs, "sft": sft}


@pytest.mark.slow
def test_an_arm_starts_from_the_checkpoint_that_it_names_and_says_so(two_epochs, tmp_path: Path) -> None:
    still = {"optimizer": {"learning_rate": 1e-12, "warmup_steps": 0}}  # so that its end is its start
    arm = {**RL, "name": "arm", "start": "epoch-02"}
    done = run_arm(arm_config(arms=(arm,), **still), two_epochs, tmp_path / "arm")
    assert done.code == 0, done.errors
    ends, first, second = (
        load_model(folder).word_embeddings.weight.detach()
        for folder in (tmp_path / "arm" / "model", two_epochs["sft"] / "epoch-01", two_epochs["sft"] / "epoch-02")
    )
    assert float((ends - second).abs().max()) < 1e-6 < float((ends - first).abs().max())
    record = json.loads((tmp_path / "arm" / ".state" / "record.json").read_text())
    assert record["notes"][0] == (
        "the arm starts from epoch-02; epoch-01 was chosen, and graded the problems that may be asked"
    )
    first_rows = read_table(tmp_path / "arm" / "rollouts" / "step-000001.parquet", ROLLOUT_SCHEMA)
    row = first_rows.to_pylist()[0]
    own = next_token_logprobs(load_model(two_epochs["sft"] / "epoch-02"), [*row["prompt_ids"], *row["token_ids"]])
    assert own[-row["num_tokens"] :] == pytest.approx(row["logprobs"], abs=1e-4)


@pytest.mark.slow
def test_an_arm_trains_a_model_with_a_dense_layer_biases_and_a_tied_head(arm_inputs, tmp_path: Path) -> None:
    start = save_tiny_model(tmp_path / "sft" / "epoch-01", **MORE)
    arm = {**RL, "name": "arm", "start": "epoch-01"}
    done = run_arm(arm_config(arms=(arm,)), {**arm_inputs, "sft": tmp_path / "sft"}, tmp_path / "arm")
    assert done.code == 0, done.errors
    before, after = (load_model(folder) for folder in (start, tmp_path / "arm" / "model"))
    assert after.config == before.config
    moved = {
        name
        for (name, one), two in zip(before.named_parameters(), after.parameters(), strict=True)
        if (one != two).any()
    }
    assert {"word_embeddings.weight", "layers.0.mlp.gate_up", "layers.0.attention.dense.bias"} <= moved
    record = json.loads((tmp_path / "arm" / ".state" / "record.json").read_text())
    assert {row["layer"] for row in record["tables"]["router"]} == {1}
    rows = read_table(tmp_path / "arm" / "rollouts" / "step-000001.parquet", ROLLOUT_SCHEMA)
    row = rows.to_pylist()[0]
    own = next_token_logprobs(before, [*row["prompt_ids"], *row["token_ids"]])
    assert own[-row["num_tokens"] :] == pytest.approx(row["logprobs"], abs=1e-4)
