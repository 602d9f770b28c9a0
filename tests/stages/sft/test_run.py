"""SFT and selection as stages: checkpoints of an epoch's middle, the mean of the last ones, and what selection makes of them.

A process can join a group of ranks once, so each run of SFT has one of its own.
"""

import io
import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from data.schema import table_from_problems, write_table
from data.sources.procedural import propose_trace
from ring_model.checkpoint import load_model
from ring_model.policy import pack_rows, response_logprobs
from ring_model.tokenizer import Tokenizer
from stages.config import Runtime, SelectionConfig, SftConfig, Training
from stages.sampling.prompting import CHOICE, chosen_model
from stages.selection.run import run as run_selection
from stages.sft.run import rows_of
from stages.sft.run import run as run_sft
from stages.stage import STATE, StageLog
from stages.training.checkpoints import CHECKPOINTS, checkpoint_folders, checkpoints_of
from stages.training.ledger import steps_of
from stages.training.model_card import CARD
from tests.stages.conftest import MORE, PROBLEMS, lines_of, save_tiny_model

WEIGHTS = "model.safetensors"
KEPT = ["epoch-00+1of2", "epoch-01", "epoch-01+1of2", "epoch-02"]
MEAN = "mean-of-last-2"
TRAINING = Training(
    epochs=2,
    learning_rate=1e-2,
    final_learning_rate_share=1.0,
    warmup_share=0.1,
    batch_tokens=300,
    max_total_tokens=128,
)
HALVES = TRAINING.model_copy(update={"checkpoints_per_epoch": 2, "mean_of_last": 2})
Inputs = dict[str, Path]


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A curation whose rows have solutions, and the base that SFT starts from."""
    root = tmp_path_factory.mktemp("inputs")
    solved = [
        replace(row, solution=propose_trace(row, styles={"long": 1.0}, slips={"long": 0.0}, seed=0)) for row in PROBLEMS
    ]
    splits = {"sft": solved[:20], "validation": solved[20:], "probe": PROBLEMS[:4], "rl": PROBLEMS}
    for split, rows in splits.items():
        write_table(table_from_problems(list(rows)), root / "curation" / f"{split}.parquet")
    (root / "base").mkdir()
    (root / "base" / "model").symlink_to(tiny_model)
    return {name: root / name for name in ("curation", "base")}


# ---------------------------------------------------------------- a run of SFT in a process of its own


@dataclass(frozen=True)
class Moment:
    """An event of SFT's log at which its process is killed."""

    step: int
    metric: str

    def is_there(self, event: dict[str, Any]) -> bool:
        return event.get("step") == self.step and self.metric in event["values"]


class KilledAt(io.StringIO):
    """Events of a stage, whose process is killed before the one of a moment is written."""

    def __init__(self, moment: Moment | None) -> None:
        super().__init__()
        self._moment = moment

    def write(self, text: str) -> int:
        if self._moment is not None and self._moment.is_there(json.loads(text)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(text)


def sft_process(inputs: Inputs, out: Path, training: Training, moment: Moment | None) -> None:
    stream = KilledAt(moment)
    runtime = Runtime(checkpoint_seconds=3600)  # resume points stand at checkpoints alone
    record = run_sft(SftConfig(training=training), inputs=inputs, runtime=runtime, out=out, log=StageLog(stream))
    said = {"metrics": record.metrics, "tables": record.tables, "events": lines_of(stream)}
    out.with_name(f"{out.name}.json").write_text(json.dumps(said), encoding="utf-8")


def sft(inputs: Inputs, out: Path, training: Training = HALVES, moment: Moment | None = None) -> int:
    """Exit code."""
    out.mkdir(exist_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=sft_process, args=(inputs, out, training, moment))
    process.start()
    process.join(timeout=120)
    assert process.exitcode is not None
    return process.exitcode


def said(out: Path) -> dict[str, Any]:
    """What a run of SFT recorded."""
    return json.loads(out.with_name(f"{out.name}.json").read_text(encoding="utf-8"))


def files(out: Path) -> dict[str, bytes]:
    """What would be sealed."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if STATE not in path.parts}


@pytest.fixture(scope="module")
def halves(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT with two checkpoints an epoch and the mean of the last two."""
    out = tmp_path_factory.mktemp("sft") / "halves"
    assert sft(inputs, out) == 0
    return out


# ---------------------------------------------------------------- what SFT keeps


@pytest.mark.slow
def test_checkpoints_stand_in_the_middle_of_epochs_and_the_mean_comes_last(halves: Path) -> None:
    assert [folder.name for folder in checkpoint_folders(halves)] == [*KEPT, MEAN]
    found = checkpoints_of(halves)
    assert [*found] == [*KEPT, MEAN]
    assert [checkpoint.epoch for checkpoint in found.values()] == [0.5, 1, 1.5, 2, 2]
    assert found[MEAN].mean_of == ("epoch-01+1of2", "epoch-02")
    steps = {row["step"]: row for row in steps_of(halves)}
    for checkpoint in found.values():
        assert checkpoint.tokens_trained == steps[checkpoint.steps]["tokens/trained"]
    last_of = {epoch: max(step for step, row in steps.items() if row["epoch"] == epoch) for epoch in (1, 2)}
    assert (found["epoch-01"].steps, found["epoch-02"].steps) == (last_of[1], last_of[2])
    assert (found["epoch-00+1of2"].steps, found["epoch-01+1of2"].steps) == (
        last_of[1] // 2,
        last_of[1] + (last_of[2] - last_of[1]) // 2,
    )


@pytest.mark.slow
def test_keeping_more_checkpoints_changes_no_weight_and_no_line(inputs: Inputs, halves: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert sft(inputs, whole, TRAINING) == 0
    assert [folder.name for folder in checkpoint_folders(whole)] == [*checkpoints_of(whole)] == ["epoch-01", "epoch-02"]
    kept, more = files(whole), files(halves)
    assert {name for name in kept if name != CHECKPOINTS} < set(more)
    assert all(more[name] == kept[name] for name in kept if name != CHECKPOINTS)
    assert all(checkpoints_of(halves)[name] == row for name, row in checkpoints_of(whole).items())
    rows = {row["checkpoint"]: row for row in said(halves)["tables"]["epochs"]}
    assert [rows[row["checkpoint"]] for row in said(whole)["tables"]["epochs"]] == said(whole)["tables"]["epochs"]
    assert "validation/mean_of_last_loss" not in said(whole)["metrics"]


def slow_loss(folder: Path, curation: Path) -> float:
    """Mean over the response tokens of the validation rows of -log p, row by row."""
    model, tokenizer = load_model(folder), Tokenizer.from_folder(folder)
    rows = rows_of(curation / "validation.parquet", tokenizer, TRAINING).rows
    with torch.no_grad():
        nll = [
            -response_logprobs(model, pack_rows([row.prompt], [row.response]), entropy="none").logprobs_M
            for row in rows
        ]
    return float(torch.cat(nll).double().mean())


@pytest.mark.slow
def test_every_checkpoint_and_the_mean_have_the_validation_loss_of_their_own_weights(
    inputs: Inputs, halves: Path
) -> None:
    losses = {name: checkpoint.validation_loss for name, checkpoint in checkpoints_of(halves).items()}
    assert losses == pytest.approx({name: slow_loss(halves / name, inputs["curation"]) for name in losses}, rel=1e-6)
    assert len(set(losses.values())) == len(losses)
    metrics = said(halves)["metrics"]
    assert metrics["validation/mean_of_last_loss"] == losses[MEAN]
    assert metrics["validation/final_loss"] == losses["epoch-02"]


@pytest.mark.slow
def test_the_mean_is_a_model_folder_of_half_the_sum_of_the_last_two(halves: Path) -> None:
    one, two, mean = (load_file(halves / name / WEIGHTS) for name in ("epoch-01+1of2", "epoch-02", MEAN))
    assert set(mean) == set(one)
    for name, tensor in mean.items():
        assert torch.equal(tensor, ((one[name].double() + two[name].double()) / 2).float()), name
    others = {path.name for path in (halves / "epoch-02").iterdir()}
    assert {path.name for path in (halves / MEAN).iterdir()} == others >= {CARD, "config.json", "tokenizer.json"}


@pytest.mark.slow
def test_the_rate_of_a_run_whose_mean_stands_for_the_decay_is_constant_after_warm_up(halves: Path) -> None:
    rates = [row["train/learning_rate"] for row in steps_of(halves)]
    assert set(rates[-(-len(rates) // 10) - 1 :]) == {1e-2}  # the first tenth of the steps warms up


@pytest.mark.slow
def test_killed_behind_a_checkpoint_of_an_epochs_middle_and_at_the_last_one_sft_ends_with_the_same_bytes(
    inputs: Inputs, halves: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    middle, last = (checkpoints_of(halves)[name].steps for name in ("epoch-01+1of2", "epoch-02"))
    assert sft(inputs, out, moment=Moment(middle + 1, "train/loss")) == -signal.SIGKILL
    assert [folder.name for folder in checkpoint_folders(out)] == KEPT[:3]
    assert sft(inputs, out, moment=Moment(last, "validation/loss")) == -signal.SIGKILL
    assert not (out / MEAN).exists() and not (out / CHECKPOINTS).exists()
    assert sft(inputs, out) == 0
    events = said(out)["events"]
    assert events[0] == {"event": "resumed", "text": f"step {middle} of {last}"}
    assert files(out) == files(halves)
    assert {name: said(out)[name] for name in ("metrics", "tables")} == {
        name: said(halves)[name] for name in ("metrics", "tables")
    }


# ---------------------------------------------------------------- what selection makes of them


@pytest.mark.slow
def test_selection_probes_every_checkpoint_and_the_mean_and_the_rule_of_the_recipe_is_applied(
    inputs: Inputs, halves: Path, tmp_path: Path
) -> None:
    rule, sampling = "validation-loss", {"max_new_tokens": 12}
    config = SelectionConfig.model_validate(
        {"rule": rule, "entropy_window": [0.0, 9.0], "grading_samples": 1, "sampling": sampling}
    )
    inputs = {**inputs, "sft": halves, "selection": tmp_path}
    record = run_selection(config, inputs=inputs, runtime=Runtime(workers=1), out=tmp_path, log=StageLog(None))
    candidates = {row["checkpoint"]: row for row in record.tables["candidates"]}
    assert [*candidates] == [*KEPT, MEAN]
    probed = pq.read_table(tmp_path / "probe.parquet")["checkpoint"].to_pylist()
    assert {name: probed.count(name) for name in candidates} == dict.fromkeys(candidates, 4 * (1 + 2))
    losses = {name: row["validation_loss"] for name, row in candidates.items()}
    assert losses == {name: checkpoint.validation_loss for name, checkpoint in checkpoints_of(halves).items()}
    best = {
        "entropy-window": max(candidates, key=lambda name: candidates[name]["pass@1"]),
        "highest-pass@k": max(candidates, key=lambda name: candidates[name]["pass@2"]),
        "validation-loss": min(losses, key=lambda name: losses[name]),
    }
    assert {row["rule"]: row["checkpoint"] for row in record.tables["rules"]} == best
    assert [row["rule"] for row in record.tables["rules"] if row["applied"]] == [rule]
    choice = json.loads((tmp_path / CHOICE).read_text(encoding="utf-8"))
    assert (choice["checkpoint"], choice["rule"], choice["rules"]) == (best[rule], rule, record.tables["rules"])
    assert record.metrics["selection/epoch"] == checkpoints_of(halves)[best[rule]].epoch
    assert chosen_model(inputs) == halves / best[rule]


@pytest.mark.slow
def test_rl_starts_from_the_mean_where_it_was_chosen(inputs: Inputs, halves: Path, tmp_path: Path) -> None:
    (tmp_path / CHOICE).write_text(json.dumps({"checkpoint": MEAN}), encoding="utf-8")
    start = chosen_model({"sft": halves, "selection": tmp_path})
    assert start == halves / MEAN
    assert load_model(start).config == load_model(halves / "epoch-02").config
    assert Tokenizer.from_folder(start).vocab_size == Tokenizer.from_folder(halves / "epoch-02").vocab_size


# ---------------------------------------------------------------- dense layers, biases, a tied head


def test_a_model_with_a_dense_layer_biases_and_a_tied_head_learns_and_is_kept_as_such(
    inputs: Inputs, tmp_path: Path
) -> None:
    base = save_tiny_model(tmp_path / "base" / "model", **MORE)
    out = tmp_path / "sft"
    assert sft({**inputs, "base": tmp_path / "base"}, out, TRAINING) == 0
    values = [event["values"] for event in said(out)["events"] if "train/loss" in event.get("values", {})]
    assert values[-1]["train/loss"] < values[0]["train/loss"]
    routers = {name for one in values for name in one if name.startswith("router/entropy_layer")}
    assert routers == {"router/entropy_layer_01"}
    before, after = load_file(base / WEIGHTS), load_file(out / "epoch-02" / WEIGHTS)
    assert before.keys() == after.keys() and "lm_head.weight" not in after
    assert load_model(out / "epoch-02").config == load_model(base).config
    for name in ("mlp.up_proj.weight", "attention.dense.bias", "attention.query_key_value.bias"):
        assert not torch.equal(before[f"model.layers.0.{name}"], after[f"model.layers.0.{name}"]), name
