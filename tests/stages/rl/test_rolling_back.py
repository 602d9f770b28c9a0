"""Arms that their rules stop or take back, in processes of their own: an attempt is a function of files, whatever is killed."""

import json
import os
import random
import shutil
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from stages.config import RlConfig
from tests.stages.conftest import Ended, arm_config, arm_job, run_arm, start_arm
from tests.stages.rl.killing import files_of, kill, rows_of, steps_of, wait_for_step, wait_until

pytestmark = pytest.mark.slow
PROBED = {"probe_every": 2, "probe_problems": 3}
KILLS = {1: 5, 2: 3}  # by ranks; RING_KILLS sets more


def plain_config(**values: Any) -> RlConfig:
    return arm_config(**PROBED, **values)


def rolling_config(plain: Path, **values: Any) -> RlConfig:
    """Rules that take back the worst two steps of the second phase of an arm without rules, by responses that were cut off."""
    cut_off = [row["response/truncated_share"] for row in steps_of(plain) if row["phase"] == "two"]
    worst = max((one + two) / 2 for one, two in pairwise(cut_off))
    rule = {"kind": "truncated_share", "limit": worst - 1e-3, "window": 2, "action": "roll_back"}
    warning = {"kind": "entropy_floor", "limit": 100.0, "window": 1}
    watch = {"rules": [rule, warning], "checkpoint_every": 2, "keep": 2, "max_attempts": 20}
    return plain_config(watch=watch, **values)


@pytest.fixture(scope="module")
def plain(arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return done(run_arm(plain_config(), arm_inputs, tmp_path_factory.mktemp("plain") / "arm"))


@pytest.fixture(scope="module")
def config(plain: Ended) -> RlConfig:
    return rolling_config(plain.out)


@pytest.fixture(scope="module")
def rolled(config: RlConfig, arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return done(run_arm(config, arm_inputs, tmp_path_factory.mktemp("rolled") / "arm"))


def done(ended: Ended) -> Ended:
    assert ended.code == 0, ended.errors
    return ended


def watched(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "watch.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- what a roll back leaves


def test_the_first_attempt_is_the_arm_without_rules_and_is_kept_beside(plain: Ended, rolled: Ended) -> None:
    first = next(row for row in watched(rolled.out) if row["event"] == "roll back")
    assert (first["attempt"], first["to"]) == (0, 2)
    assert first["since"] == first["step"] - 1
    before, after = files_of(plain.out), files_of(rolled.out)
    for step in (1, 2):
        name = f"rollouts/step-{step:06d}.parquet"
        assert after[name] == before[name]
    left = {
        name.removeprefix("rollouts-abandoned/attempt-00/"): text
        for name, text in after.items()
        if "attempt-00" in name
    }
    lines = before["steps.jsonl"].splitlines(keepends=True)
    assert left.pop("steps.jsonl") == b"".join(lines[2 : first["step"]])
    wanted = [f"step-{step:06d}.parquet" for step in range(3, first["step"] + 1)]
    probes = [f"probes/step-{step:06d}.parquet" for step in (4, 5) if step <= first["step"]]
    assert sorted(left) == sorted([*wanted, *probes])
    assert all(left[name] == before[f"rollouts/{name}"] for name in wanted)
    assert all(left[name] == before[name] for name in probes)


def test_what_stays_is_whole_and_within_the_rules(config: RlConfig, rolled: Ended) -> None:
    steps, rows = steps_of(rolled.out), rows_of(rolled.out)
    assert [step["step"] for step in steps] == rows["step"].unique().to_pylist() == [1, 2, 3, 4, 5]
    assert sum(rows["kept_tokens"].to_pylist()) == steps[-1]["tokens/trained"]
    shares = [step["response/truncated_share"] for step in steps if step["phase"] == "two"]
    assert all((one + two) / 2 <= config.watch.rules[0].limit for one, two in pairwise(shares))
    record = json.loads((rolled.out / ".state" / "record.json").read_text())
    backs = [row for row in watched(rolled.out) if row["event"] == "roll back"]
    assert record["metrics"]["watch/roll_backs"] == len(backs) >= 1
    assert record["metrics"]["watch/abandoned_steps"] == sum(row["step"] - row["to"] for row in backs)
    assert [row["step"] for row in record["tables"]["probes"]] == [0, 2, 4, 5]
    assert record["tables"]["phases"][1]["steps"] == 3


def test_another_attempt_asks_other_problems_in_other_words(plain: Ended, rolled: Ended) -> None:
    mine, theirs = (rows_of(out).filter(pc.field("step") > 2) for out in (plain.out, rolled.out))
    assert mine["problem_id"].to_pylist() != theirs["problem_id"].to_pylist()
    assert not set(mine["seed"].to_pylist()) & set(theirs["seed"].to_pylist())
    assert len(set(theirs["seed"].to_pylist())) == len(theirs)


def test_the_journal_and_its_decisions_give_the_arm_again(
    arm_inputs, config: RlConfig, rolled: Ended, tmp_path: Path
) -> None:
    """From nothing else: no resume point, no model."""
    out = tmp_path / "arm"
    for folder in ("rollouts", "rollouts-abandoned", "probes", "best"):
        shutil.copytree(rolled.out / folder, out / folder)
    shutil.copy(rolled.out / "watch.jsonl", out)
    done(run_arm(config, arm_inputs, out))
    assert files_of(out) == files_of(rolled.out)


# ---------------------------------------------------------------- kills


@pytest.mark.parametrize("max_lag", [0, 1])
def test_an_arm_that_rolls_back_ends_with_the_same_bytes_however_often_it_is_killed(
    arm_inputs, tmp_path: Path, max_lag: int
) -> None:
    plain = done(run_arm(plain_config(max_lag=max_lag), arm_inputs, tmp_path / "plain"))
    config = rolling_config(plain.out, max_lag=max_lag)
    straight = done(run_arm(config, arm_inputs, tmp_path / "straight"))
    killed = killed_arm(config, arm_inputs, tmp_path / "killed", ranks=1)
    assert files_of(killed.out) == files_of(straight.out)


def test_two_ranks_that_roll_back_end_with_the_bytes_of_two_that_were_not_killed(
    arm_inputs, config: RlConfig, tmp_path: Path
) -> None:
    straight = done(run_arm(config, arm_inputs, tmp_path / "straight", ranks=2))
    assert any(row["event"] == "roll back" for row in watched(straight.out))
    killed = killed_arm(config, arm_inputs, tmp_path / "killed", ranks=2)
    assert files_of(killed.out) == files_of(straight.out)


def killed_arm(config: RlConfig, inputs: Mapping[str, Path], out: Path, *, ranks: int) -> Ended:
    """An arm that is killed in its first attempt, about the moment of its first roll back, and in the attempt after; then left alone."""
    number = int(os.environ.get("RING_KILLS", KILLS[ranks]))
    moments = random.Random(ranks)
    made: set[tuple[int, int]] = set()
    for turn in range(number):
        process = start_arm(arm_job(config, inputs, out, ranks=ranks))
        if turn % 3 == 0:
            wait_for_step(out, moments.randint(2, 5), process)
            time.sleep(moments.uniform(0.0, 0.2))
        elif turn % 3 == 1:
            wait_until(
                lambda: (out / "watch.jsonl").exists() and "roll back" in (out / "watch.jsonl").read_text(), process
            )
            time.sleep(moments.uniform(0.0, 0.02))
        else:
            wait_until(lambda: (out / "rollouts-abandoned" / "attempt-00").exists(), process)
            wait_for_step(out, moments.randint(3, 5), process)
            time.sleep(moments.uniform(0.0, 0.2))
        kill(process, out)
        made = kept(made, out)
    ended = done(run_arm(config, inputs, out, ranks=ranks))
    kept(made, out)
    return ended


def kept(made: set[tuple[int, int]], out: Path) -> set[tuple[int, int]]:
    """What was trained on before is the same file still, wherever it lies; all of that there is now, by inode and time."""
    last = len(steps_of(out)) if (out / "steps.jsonl").exists() else 0
    trained = {out / "rollouts" / f"step-{step:06d}.parquet" for step in range(1, last + 1)}
    files = trained | {
        path for folder in ("probes", "rollouts-abandoned") for path in (out / folder).rglob("*.parquet")
    }
    there = {(path.stat().st_ino, path.stat().st_mtime_ns) for path in files if path.exists()}
    everything = {(path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.parquet")}
    assert made <= everything, "something was made twice"
    return there


# ---------------------------------------------------------------- the end of an arm


def test_a_stop_keeps_everything_and_comes_again_at_the_same_step(arm_inputs, plain: Ended, tmp_path: Path) -> None:
    rule = {"kind": "truncated_share", "limit": 0.0, "window": 3, "action": "stop"}  # three steps of a phase: step 5
    config = plain_config(watch={"rules": [rule]})
    for _ in range(2):
        ended = run_arm(config, arm_inputs, tmp_path / "arm")
        assert ended.code == 2
        assert ended.error.startswith("step 5: truncated_share is ") and "above its limit of 0." in ended.error
    out = tmp_path / "arm"
    assert any(event["event"] == "resumed" and event["text"] == "step 4 of 5" for event in ended.events)
    assert files_of(out)["steps.jsonl"] == files_of(plain.out)["steps.jsonl"]
    assert files_of(out / "rollouts") == files_of(plain.out / "rollouts")
    assert [(row["event"], row["step"], row["since"]) for row in watched(out)] == [("stop", 5, 3)]
    assert not (out / "model").exists()


def test_the_last_attempt_stops(arm_inputs, tmp_path: Path) -> None:
    rule = {"kind": "truncated_share", "limit": 0.0, "window": 1, "action": "roll_back"}
    ended = run_arm(plain_config(watch={"rules": [rule], "max_attempts": 3}), arm_inputs, tmp_path / "arm")
    assert ended.code == 2
    assert "because rl.watch.max_attempts = 3 attempts came to this" in ended.error
    rows = watched(tmp_path / "arm")
    assert [(row["event"], row["step"], row["attempt"]) for row in rows] == [
        ("roll back", 1, 0), ("roll back", 1, 1), ("stop", 1, 2)
    ]  # fmt: skip
    abandoned = sorted(path.name for path in (tmp_path / "arm" / "rollouts-abandoned").iterdir())
    assert abandoned == ["attempt-00", "attempt-01"]
