"""An arm as a chain runs it, in processes of its own: the step as a function of files, on one rank and on two."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from data.schema import ROLLOUT_SCHEMA, read_table
from tests.stages.conftest import Ended, arm_config, run_arm

pytestmark = pytest.mark.slow
CONFIG = arm_config(probe_every=2, probe_problems=3)
KILLS = 20
SAMPLED = ("step", "group", "sample", "problem_id", "token_ids", "logprobs", "status", "score", "seed")


def files_of(out: Path) -> dict[str, bytes]:
    """What would be sealed."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file() and ".state" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def weights(out: Path, folder: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / folder / "model.safetensors")


def furthest(one: Path, two: Path) -> float:
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def steps_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]


def rows_of(out: Path) -> pa.Table:
    return pa.concat_tables([read_table(path, ROLLOUT_SCHEMA) for path in sorted((out / "rollouts").iterdir())])


@pytest.fixture(scope="module")
def undisturbed(arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    done = run_arm(CONFIG, arm_inputs, tmp_path_factory.mktemp("undisturbed") / "arm")
    assert done.code == 0, done.errors
    return done


@pytest.fixture(scope="module")
def replayed(undisturbed: Ended, arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """The same arm on two ranks, by ZeRO stage, given the journal of one."""
    done = {}
    for stage in (0, 1):
        out = tmp_path_factory.mktemp("replayed") / "arm"
        for folder in ("rollouts", "probes"):
            shutil.copytree(undisturbed.out / folder, out / folder)
        done[stage] = run_arm(CONFIG, arm_inputs, out, ranks=2, zero_stage=stage)
        assert done[stage].code == 0, done[stage].errors
    return done


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize("stage", [0, 1])
def test_two_ranks_take_from_the_same_journal_the_selection_and_the_weights_of_one(
    undisturbed, replayed, stage
) -> None:
    one, two = undisturbed.out, replayed[stage].out
    assert files_of(two / "rollouts") == files_of(one / "rollouts")
    assert 0 < furthest(one, two) < 1e-6
    for mine, theirs in zip(steps_of(one), steps_of(two), strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert theirs[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-5)), name


def test_two_ranks_without_a_journal_make_one_that_trains_both_alike(arm_inputs, tmp_path: Path) -> None:
    done = run_arm(CONFIG, arm_inputs, tmp_path / "two", ranks=2)
    assert done.code == 0, done.errors
    rows = rows_of(done.out)
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert len(set(keys)) == len(keys)
    out = tmp_path / "one"
    shutil.copytree(done.out / "rollouts", out / "rollouts")
    again = run_arm(CONFIG, arm_inputs, out)
    assert again.code == 0, again.errors
    assert furthest(done.out, out) < 1e-6


# ---------------------------------------------------------------- what is sealed


def test_the_journal_holds_the_responses_of_the_steps_of_the_ledger_once_each(undisturbed) -> None:
    rows, steps = rows_of(undisturbed.out), steps_of(undisturbed.out)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert rows["step"].unique().to_pylist() == [1, 2, 3, 4, 5]
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert keys == sorted(set(keys))
    assert len(rows) == sum(step["response/count"] for step in steps)
    assert sum(rows["num_tokens"].to_pylist()) == steps[-1]["tokens/generated"]
    assert sum(rows["kept_tokens"].to_pylist()) == steps[-1]["tokens/trained"]
    assert rows["policy_version"].to_pylist() == [step - 1 for step in rows["step"].to_pylist()]
    assert not [path for path in (undisturbed.out / ".state").rglob("*.arrow") if "probes" not in path.parts]


def test_trained_tokens_are_the_budget_less_what_is_reported_missing(undisturbed) -> None:
    steps = steps_of(undisturbed.out)
    missing = sum(step["budget/tokens_missing"] for step in steps)
    assert steps[-1]["tokens/trained"] == 5 * 40 - missing
    record = json.loads((undisturbed.out / ".state" / "record.json").read_text())
    assert record["metrics"]["budget/tokens_missing"] == missing
    assert record["metrics"]["tokens/trained"] == steps[-1]["tokens/trained"]


def test_the_model_at_the_end_of_each_phase_is_kept(undisturbed) -> None:
    out = undisturbed.out
    assert {path.name for path in out.iterdir() if (path / "config.json").exists()} == {"model", "phase-01-one"}
    assert any(not torch.equal(value, weights(out)[name]) for name, value in weights(out, "phase-01-one").items())


def test_the_probe_is_asked_at_the_start_every_second_step_and_at_the_end(undisturbed) -> None:
    record = json.loads((undisturbed.out / ".state" / "record.json").read_text())
    assert [row["step"] for row in record["tables"]["probes"]] == [0, 2, 4, 5]
    assert sorted(path.name for path in (undisturbed.out / "probes").iterdir()) == [
        f"step-{step:06d}.parquet" for step in (0, 2, 4, 5)
    ]
    probed = [step["step"] for step in steps_of(undisturbed.out) if "probe/greedy" in step]
    assert probed == [2, 4, 5]


def test_what_is_no_step_of_the_arm_is_removed_and_told(arm_inputs, undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "arm"
    shutil.copytree(undisturbed.out / "rollouts", out / "rollouts")
    (out / "rollouts" / "step-000003.parquet").rename(out / "rollouts" / "step-000006.parquet")
    (out / "rollouts" / "step-000001.0.1.parquet").write_bytes(b"of another rank")
    done = run_arm(CONFIG, arm_inputs, out)
    assert done.code == 0, done.errors
    told = [event["text"] for event in done.events if event["event"] == "message"]
    names = "step-000001.0.1.parquet, step-000004.parquet, step-000005.parquet, step-000006.parquet"
    assert any(names in text for text in told), told
    assert files_of(out)["rollouts/step-000003.parquet"] == files_of(undisturbed.out)["rollouts/step-000003.parquet"]
    assert files_of(out) == files_of(undisturbed.out)


def test_samples_do_not_depend_on_the_number_of_workers(arm_inputs, undisturbed, tmp_path: Path) -> None:
    done = run_arm(CONFIG, arm_inputs, tmp_path / "arm", workers=3)
    assert done.code == 0, done.errors
    assert files_of(done.out) == files_of(undisturbed.out)
