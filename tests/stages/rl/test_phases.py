"""Phases with values of their own, and phases that end at a plateau of the probe, in processes of their own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stages.conftest import Ended, arm_config, arm_job, run_arm, start_arm
from tests.stages.rl.killing import files_of, kill, rows_of, steps_of, wait_for_step

pytestmark = pytest.mark.slow
Inputs = Mapping[str, Path]


def phase(name: str, steps: int, **values: Any) -> dict[str, Any]:
    return {"name": name, "steps": steps, "mixture": {"math": 1.0}, "max_total_tokens": 64, **values}


def config_of(*phases: dict[str, Any], **values: Any):
    return arm_config(arms=({"kind": "rl", "name": "arm", "phases": phases},), **values)


def done(ended: Ended) -> Ended:
    assert ended.code == 0, ended.errors
    return ended


def test_a_phase_takes_its_own_budget_and_learning_rate_on_the_schedule_of_the_arm(
    arm_inputs: Inputs, tmp_path
) -> None:
    optimizer = {"learning_rate": 1e-3, "warmup_steps": 2, "final_learning_rate_share": 0.5}
    phases = (phase("one", 3), phase("two", 3, token_budget=20, learning_rate=4e-3))
    ended = done(run_arm(config_of(*phases, optimizer=optimizer), arm_inputs, tmp_path / "arm"))
    steps = steps_of(ended.out)
    assert [step["budget/tokens_used"] for step in steps] == [40, 40, 40, 20, 20, 20]
    assert [step["budget/fill"] for step in steps] == [1.0] * 6
    # warm-up 1/2 and 1, then down to 1/2 in four steps: the shares .875, .75, .625, .5
    shares = [0.5, 1.0, 0.875, 0.75, 0.625, 0.5]
    peaks = [1e-3] * 3 + [4e-3] * 3
    wanted = [peak * share for peak, share in zip(peaks, shares, strict=True)]
    assert [step["train/learning_rate"] for step in steps] == pytest.approx(wanted)
    weights = {(row["step"] > 3, row["weight"]) for row in rows_of(ended.out).to_pylist() if row["kept_tokens"]}
    assert weights == {(False, 1 / 40), (True, 1 / 20)}


def test_an_optimiser_is_reset_where_its_phase_begins_and_nowhere_else(arm_inputs: Inputs, tmp_path: Path) -> None:
    """From one journal: the same model at the end of the first phase, whose own reset changes nothing, and another at the end."""
    kept = done(run_arm(config_of(phase("one", 2), phase("two", 2)), arm_inputs, tmp_path / "kept"))
    shutil.copytree(kept.out / "rollouts", tmp_path / "reset" / "rollouts")
    phases = (phase("one", 2, optimizer="reset"), phase("two", 2, optimizer="reset"))
    reset = done(run_arm(config_of(*phases), arm_inputs, tmp_path / "reset"))
    before, after = files_of(kept.out), files_of(reset.out)
    assert after["phase-01-one/model.safetensors"] == before["phase-01-one/model.safetensors"]
    assert after["model/model.safetensors"] != before["model/model.safetensors"]
    assert [step["train/gradient_norm"] for step in steps_of(reset.out)][:3] == [
        step["train/gradient_norm"] for step in steps_of(kept.out)
    ][:3]  # the third is of weights that the reset has not moved yet


# ---------------------------------------------------------------- plateaus


FLAT = {
    "until": {"patience": 1}
}  # the tiny model never finds an answer, so its second probe gains nothing over the first


@pytest.mark.parametrize(
    ("max_lag", "taken"),
    [(0, 1), (1, 2)],  # with a lag the step that was asked already still belongs to the phase
)
def test_a_phase_ends_at_a_plateau_and_the_steps_that_are_left_are_not_taken(
    arm_inputs: Inputs, tmp_path: Path, max_lag: int, taken: int
) -> None:
    config = config_of(phase("one", 4, **FLAT), phase("two", 2), probe_every=1, probe_problems=2, max_lag=max_lag)
    ended = done(run_arm(config, arm_inputs, tmp_path / "arm"))
    num_steps = taken + 2
    steps = steps_of(ended.out)
    assert [step["phase"] for step in steps] == ["one"] * taken + ["two"] * 2
    assert rows_of(ended.out)["step"].unique().to_pylist() == list(range(1, num_steps + 1))
    rows = [json.loads(line) for line in (ended.out / "watch.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "attempt": 0, "event": "hand over", "phase": "one", "steps": taken}]
    record = json.loads((ended.out / ".state" / "record.json").read_text())
    assert [row["steps"] for row in record["tables"]["phases"]] == [taken, 2]
    assert record["metrics"]["train/steps"] == num_steps
    trained = 40 * num_steps
    assert record["metrics"]["tokens/trained"] == trained
    assert record["notes"][-1] == (
        f"phase one ended at a plateau of the probe after {taken} of 4 steps; the others were not taken, and the arm trained on "
        f"{trained} tokens"
    )
    assert {path.name for path in ended.out.iterdir() if (path / "config.json").exists()} == {
        "model",
        "phase-01-one",
        "best",
    }
    # killed after the hand-over, and from its journal alone, the arm takes the same course
    process = start_arm(arm_job(config, arm_inputs, tmp_path / "killed"))
    wait_for_step(tmp_path / "killed", num_steps, process)
    kill(process, tmp_path / "killed")
    killed = done(run_arm(config, arm_inputs, tmp_path / "killed"))
    assert files_of(killed.out) == files_of(ended.out)
    for folder in ("rollouts", "probes"):
        shutil.copytree(ended.out / folder, tmp_path / "replayed" / folder)
    replayed = done(run_arm(config, arm_inputs, tmp_path / "replayed"))
    assert files_of(replayed.out) == files_of(ended.out)


def test_the_last_phase_ends_at_a_plateau_with_the_model_of_that_step(arm_inputs: Inputs, tmp_path: Path) -> None:
    config = config_of(phase("one", 1, **FLAT), phase("two", 4, **FLAT), probe_every=2, probe_problems=2)
    ended = done(run_arm(config, arm_inputs, tmp_path / "arm"))
    # the first phase is over before its plateau; the second has probes after steps 2 and 4
    assert [step["phase"] for step in steps_of(ended.out)] == ["one", "two", "two", "two"]
    assert sorted(path.name for path in (ended.out / "probes").iterdir()) == [
        f"step-{n:06d}.parquet" for n in (0, 2, 4)
    ]
    assert (ended.out / "model" / "config.json").exists()
    assert [event["step"] for event in ended.events if event["event"] == "metrics"] == [0, 1, 2, 3, 4]
