"""An arm as a chain runs it, in processes of its own: the step as a function of files, on one rank and on two."""

import json
import os
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from data.schema import ROLLOUT_SCHEMA, read_table, write_table
from ring_model.checkpoint import load_model
from ring_model.configuration import BailingMoeConfig
from stages.config import Objective, PartialRollouts, RlConfig
from stages.rl.samples import with_columns
from stages.training.compute import forward_flops, row_work, sampling_work
from tests.stages.conftest import Ended, arm_config, arm_job, run_arm, start_arm
from tests.stages.rl.killing import files_of, kill, rows_of, steps_of, wait_for_step

pytestmark = pytest.mark.slow
CONFIG = arm_config(probe_every=2, probe_problems=3)
KILLS = {1: 6, 2: 4}  # by ranks; RING_KILLS sets more
# A model that has learnt nothing is never right: responses differ by what their length costs.
LIVE = {"overlong_share": 1.0, "sampling": {"max_new_tokens": 24, "chunk_problems": 2, "max_rows": 4}}
WAYS = {
    "ahead": arm_config(**LIVE, max_lag=1),
    "partial": arm_config(**LIVE, partial_rollouts=PartialRollouts(pool_rows=8, round_tokens=6, max_updates=1)),
    "carry": arm_config(**LIVE, left_over="carry", updates_per_batch=2),
    "all": arm_config(
        **LIVE,
        max_lag=1,
        left_over="carry",
        updates_per_batch=2,
        mismatch="tis",
        probe_every=2,
        probe_problems=3,
        partial_rollouts=PartialRollouts(pool_rows=8, round_tokens=6, max_updates=2),
    ),
}


def weights(out: Path, folder: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / folder / "model.safetensors")


def furthest(one: Path, two: Path) -> float:
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.fixture(scope="module")
def undisturbed(arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    done = run_arm(CONFIG, arm_inputs, tmp_path_factory.mktemp("undisturbed") / "arm")
    assert done.code == 0, done.errors
    return done


@pytest.fixture(scope="module")
def replayed(undisturbed: Ended, arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """The same arm on two ranks, by ZeRO stage, given the journal of one."""
    done = {}
    for stage in (0, 1, 3):
        out = tmp_path_factory.mktemp("replayed") / "arm"
        for folder in ("rollouts", "probes"):
            shutil.copytree(undisturbed.out / folder, out / folder)
        done[stage] = run_arm(CONFIG, arm_inputs, out, ranks=2, zero_stage=stage)
        assert done[stage].code == 0, done[stage].errors
    return done


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize("stage", [0, 1, 3])
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


def test_flops_are_those_of_the_responses_and_of_the_rows_that_were_trained_on(undisturbed) -> None:
    model = BailingMoeConfig.from_folder(undisturbed.out / "model").shape
    steps, sampled, scored, trained = steps_of(undisturbed.out), 0, 0, 0
    for step in range(1, 6):
        rows = [row for row in rows_of(undisturbed.out).to_pylist() if row["step"] == step]
        per_group = CONFIG.samples_per_prompt
        groups = [rows[start : start + per_group] for start in range(0, len(rows), per_group)]
        for group in groups:
            prompt = len(group[0]["prompt_ids"])
            lengths = [len(row["token_ids"]) for row in group]
            sampled += forward_flops(sampling_work(prompt, lengths), model)
            scored += sum(forward_flops(row_work(prompt, length), model) for length in lengths)
            kept = [row["kept_tokens"] for row in group if row["kept_tokens"]]
            trained += sum(forward_flops(row_work(prompt, tokens), model) for tokens in kept)
        assert steps[step - 1]["compute/sampling_flops"] == sampled
        assert steps[step - 1]["compute/training_flops"] == 3 * trained
        assert steps[step - 1]["compute/reference_flops"] == scored
    metrics = json.loads((undisturbed.out / ".state" / "record.json").read_text())["metrics"]
    assert metrics["compute/total_flops"] == sampled + scored + 3 * trained


def test_the_model_at_the_end_of_each_phase_is_kept(undisturbed) -> None:
    out = undisturbed.out
    models = {path.name for path in out.iterdir() if (path / "config.json").exists()}
    assert models == {"model", "phase-01-one", "best"}
    assert any(not torch.equal(value, weights(out)[name]) for name, value in weights(out, "phase-01-one").items())


def test_the_probe_is_asked_at_the_start_every_second_step_and_at_the_end(undisturbed) -> None:
    record = json.loads((undisturbed.out / ".state" / "record.json").read_text())
    assert [row["step"] for row in record["tables"]["probes"]] == [0, 2, 4, 5]
    assert sorted(path.name for path in (undisturbed.out / "probes").iterdir()) == [
        f"step-{step:06d}.parquet" for step in (0, 2, 4, 5)
    ]
    probed = [step["step"] for step in steps_of(undisturbed.out) if "probe/greedy" in step]
    assert probed == [2, 4, 5]
    logged = [event for event in undisturbed.events if event["event"] == "metrics"]
    assert [event["step"] for event in logged] == [0, 1, 2, 3, 4, 5]
    assert [event["step"] for event in logged if "probe/greedy" in event["values"]] == [0, 2, 4, 5]
    assert {"time/wait_seconds", "time/train_seconds", "time/generate_seconds", "speed/idle_rows_share"} <= logged[1][
        "values"
    ].keys()
    assert all(0 <= event["values"]["speed/idle_rows_share"] < 1 for event in logged[1:])


def test_the_model_with_the_best_probe_is_kept_with_its_step(arm_inputs, undisturbed) -> None:
    record = json.loads((undisturbed.out / ".state" / "record.json").read_text())
    scores = {row["step"]: row["greedy"] for row in record["tables"]["probes"]}
    best = json.loads((undisturbed.out / "best" / "best.json").read_text())
    assert best == {
        "step": max(scores, key=lambda step: (scores[step], -step)),
        "attempt": 0,
        "score": max(scores.values()),
    }
    assert (record["metrics"]["probe/best"], record["metrics"]["probe/best_step"]) == (best["score"], best["step"])
    assert best["step"] == 0  # so that its weights are known
    start = load_file(arm_inputs["sft"] / "epoch-01" / "model.safetensors")
    assert all(torch.equal(value, start[name]) for name, value in weights(undisturbed.out, "best").items())


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


# ---------------------------------------------------------------- kills


def test_an_arm_killed_over_and_over_ends_with_the_same_bytes_and_makes_nothing_twice(
    arm_inputs, undisturbed, tmp_path: Path
) -> None:
    number = int(os.environ.get("RING_KILLS", KILLS[1]))
    done = killed_arm(CONFIG, arm_inputs, tmp_path / "arm", ranks=1, number=number)
    assert done.code == 0, done.errors
    assert files_of(done.out) == files_of(undisturbed.out)


def test_two_ranks_killed_over_and_over_end_with_the_bytes_of_two_that_were_not(arm_inputs, tmp_path: Path) -> None:
    straight = run_arm(WAYS["all"], arm_inputs, tmp_path / "straight", ranks=2)
    number = int(os.environ.get("RING_KILLS", KILLS[2]))
    done = killed_arm(WAYS["all"], arm_inputs, tmp_path / "arm", ranks=2, number=number)
    assert (straight.code, done.code) == (0, 0), done.errors
    assert files_of(done.out) == files_of(straight.out)


def killed_arm(config: RlConfig, inputs: Mapping[str, Path], out: Path, *, ranks: int, number: int) -> Ended:
    """An arm that is killed so many times, each a little after something of a seeded step was written, and then left alone."""
    moments = random.Random(ranks)
    plan = sorted((moments.randint(1, 5), moments.uniform(0.0, 0.3)) for _ in range(number))
    made: dict[Path, tuple[int, int]] = {}
    for step, delay in plan:
        process = start_arm(arm_job(config, inputs, out, ranks=ranks))
        wait_for_step(out, step, process)
        time.sleep(delay)
        kill(process, out)
        made = unchanged(made, out)
    done = run_arm(config, inputs, out, ranks=ranks)
    unchanged(made, out)
    return done


def unchanged(made: dict[Path, tuple[int, int]], out: Path) -> dict[Path, tuple[int, int]]:
    """What was sampled and judged before is the same file still, unless it went into a step that is complete; all there is now."""
    there = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for pattern in (
            "rollouts/step-*.parquet",
            ".state/chunks/*/*.arrow",
            ".state/chunks/*/*.answers",
            "probes/*.parquet",
        )
        for path in out.glob(pattern)
    }
    for path, state in made.items():
        if path in there:
            assert there[path] == state, f"{path} was made twice"
        else:
            assert ".state" in path.parts, f"{path} went"
    return there


# ---------------------------------------------------------------- ahead, in rounds, carried over


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> RlConfig:
    return WAYS[request.param]


@pytest.fixture(scope="module")
def straight(way: RlConfig, arm_inputs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    done = run_arm(way, arm_inputs, tmp_path_factory.mktemp("straight") / "arm")
    assert done.code == 0, done.errors
    return done


def test_killed_over_and_over_an_arm_of_any_way_ends_with_the_same_bytes(way, straight, arm_inputs, tmp_path) -> None:
    number = int(os.environ.get("RING_KILLS", "3"))
    done = killed_arm(way, arm_inputs, tmp_path / "arm", ranks=1, number=number)
    assert done.code == 0, done.errors
    assert files_of(done.out) == files_of(straight.out)


def test_a_journal_of_any_way_tells_rows_apart_and_adds_up_to_the_ledger(way, straight) -> None:
    rows, steps = rows_of(straight.out), steps_of(straight.out)
    keys = list(zip(*(rows[name].to_pylist() for name in ("step", "group", "sample")), strict=True))
    assert keys == sorted(set(keys))
    assert sum(rows["new_tokens"].to_pylist()) == steps[-1]["tokens/generated"]
    assert sum(rows["kept_tokens"].to_pylist()) == steps[-1]["tokens/trained"]
    assert sum(rows["kept_tokens"].to_pylist()) == 5 * 40 * way.objective.updates_per_batch  # every Phi was filled
    whole = dict(zip(rows["seed"].to_pylist(), rows["num_tokens"].to_pylist(), strict=True))
    assert sum(whole.values()) == steps[-1]["tokens/generated"]
    for tokens, versions, first in zip(
        *(rows[name].to_pylist() for name in ("num_tokens", "token_versions", "policy_version")), strict=True
    ):
        assert len(versions) == tokens
        assert versions == sorted(versions) and versions[0] == first
    behind = [
        asked - 1 - version
        for asked, version in zip(rows["asked_step"].to_pylist(), rows["policy_version"].to_pylist(), strict=True)
    ]
    lag = way.objective.max_lag
    assert behind == [min(asked - 1, lag) for asked in rows["asked_step"].to_pylist()]
    assert ("partial/unfinished" in steps[0]) == (way.objective.partial_rollouts is not None)
    ages = {
        step - born for step, born in zip(rows["step"].to_pylist(), rows["born_step"].to_pylist(), strict=True) if born
    }
    assert ages == ({0, 1} if way.objective.left_over == "carry" else {0})


def slow_differences(rows: pa.Table, model: Path) -> list[float]:
    """Of every token that entered the loss, |log p0 - log q|, p0 from a row of logits after the other of the trainer's weights."""
    policy, found = load_model(model), []
    for row in rows.to_pylist():
        tokens, prompt = row["token_ids"][: row["kept_tokens"]], row["prompt_ids"]
        if not tokens:
            continue
        with torch.no_grad():
            logits_NV = policy.logits(policy(torch.tensor([prompt + tokens])).hidden_ND).double()
        for place, (token, logprob) in enumerate(zip(tokens, row["logprobs"], strict=False), start=len(prompt) - 1):
            found.append(abs(float(logits_NV[place].log_softmax(dim=0)[token]) - logprob))
    return found


def test_weights_one_version_old_show_as_the_difference_that_the_journal_tells(arm_inputs, tmp_path: Path) -> None:
    done = run_arm(WAYS["ahead"], arm_inputs, tmp_path / "arm")
    assert done.code == 0, done.errors
    steps, rows = steps_of(done.out), rows_of(done.out)
    assert [step["mismatch/mean_abs_difference"] > 1e-3 for step in steps] == [False, True, True, True, True]
    third = rows.filter(pa.array([step == 3 for step in rows["step"].to_pylist()]))
    assert set(third["policy_version"].to_pylist()) == {1}
    slow = slow_differences(third, done.out / "phase-01-one")  # the trainer's weights in step 3
    assert len(slow) == 40
    assert steps[2]["mismatch/mean_abs_difference"] == pytest.approx(sum(slow) / 40, abs=1e-5)
    assert steps[2]["mismatch/max_abs_difference"] == pytest.approx(max(slow), abs=1e-5)
    # log k is against what drew a token: against the weights that it was trained with there is a difference, against its own none
    first = rows.filter(pa.array([step == 1 for step in rows["step"].to_pylist()]))
    assert max(slow_differences(first, arm_inputs["sft"] / "epoch-01")) < 1e-5


def test_a_sampler_with_the_trainers_weights_differs_by_rounding(undisturbed) -> None:
    assert max(step["mismatch/max_abs_difference"] for step in steps_of(undisturbed.out)) < 1e-4


# ---------------------------------------------------------------- numbers that are not finite


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_that_is_not_finite_stops_the_arm_with_its_step_and_leaves_the_last_good_point(
    arm_inputs, undisturbed, tmp_path: Path, ranks: int
) -> None:
    out = tmp_path / "arm"
    shutil.copytree(undisturbed.out / "rollouts", out / "rollouts")
    path = out / "rollouts" / "step-000003.parquet"
    rows = read_table(path, ROLLOUT_SCHEMA)
    write_table(with_columns(rows, weight=[float("inf")] * len(rows)), path)
    done = run_arm(CONFIG, arm_inputs, out, ranks=ranks)
    assert done.code != 0
    said = done.error.removeprefix("rank 1: ")  # whichever is first: both find it
    assert said.startswith("step 3 of 5: the loss is ") and "(learning rate" in said
    assert [step["step"] for step in steps_of(out)] == [1, 2]
    assert not (out / "model").exists()
    shutil.copy(undisturbed.out / "rollouts" / path.name, path)
    again = run_arm(CONFIG, arm_inputs, out, ranks=ranks)
    assert again.code == 0, again.errors
    assert any(event["event"] == "resumed" and event["text"] == "step 2 of 5" for event in again.events)
    assert furthest(out, undisturbed.out) < 1e-6


@pytest.mark.parametrize("checkpoint_seconds", [0, 1000])  # found when it should be saved, or when it is asked
def test_a_learning_rate_without_sense_ends_with_one_message_of_step_and_norm_and_no_model(
    arm_inputs, tmp_path: Path, checkpoint_seconds: float
) -> None:
    config = arm_config(optimizer={"learning_rate": 1e30, "warmup_steps": 1})
    done = run_arm(config, arm_inputs, tmp_path / "arm", checkpoint_seconds=checkpoint_seconds)
    assert done.code == 2
    assert "step 1 of 5: its update (gradient norm " in done.error and "learning rate 1e+30" in done.error
    assert sum(event["event"] == "error" for event in done.events) == 1
    assert not (done.out / "model").exists() and not (done.out / "phase-01-one").exists()
    assert not (done.out / ".state" / "training").exists()


def test_a_broken_model_to_start_from_is_told_as_such(arm_inputs, tmp_path: Path) -> None:
    shutil.copytree(arm_inputs["sft"] / "epoch-01", tmp_path / "sft" / "epoch-01")
    path = tmp_path / "sft" / "epoch-01" / "model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)
    done = run_arm(CONFIG, {**arm_inputs, "sft": tmp_path / "sft"}, tmp_path / "arm")
    assert (done.code, done.error.partition(":")[0]) == (2, "the model that RL starts from is broken")


# ---------------------------------------------------------------- what is refused, and options


def test_a_phase_longer_than_the_models_positions_is_refused_before_anything_is_sampled(arm_inputs, tmp_path) -> None:
    phases = ({"name": "p", "steps": 1, "mixture": {"math": 1.0}, "max_total_tokens": 129},)
    done = run_arm(arm_config(arms=({"kind": "rl", "name": "a", "phases": phases},)), arm_inputs, tmp_path / "arm")
    assert done.code == 2
    assert "phase p: max_total_tokens = 129 is more than the 128 positions" in done.error
    assert not (done.out / "rollouts").exists()


def test_virtual_ranks_are_each_cut_to_their_own_budget(arm_inputs, tmp_path: Path) -> None:
    objective = Objective(token_budget=15, budget_scope="rank", budget_ranks=3)
    done = run_arm(arm_config(objective=objective, extra_prompts_share=0), arm_inputs, tmp_path / "arm")
    assert done.code == 0, done.errors
    rows = rows_of(done.out).to_pylist()
    for step in range(1, 6):
        by_rank = [
            sum(row["kept_tokens"] for row in rows if (row["step"], row["budget_rank"]) == (step, rank))
            for rank in range(3)
        ]
        assert by_rank == [15, 15, 15]
    assert {row["weight"] for row in rows} == {0.0, 1 / 45}
    assert {row["group"] % 3 == row["budget_rank"] for row in rows} == {True}
