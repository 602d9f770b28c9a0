"""Grading by two real models, each trained to give one answer to everything: the checkpoint says 8, the stronger model 7."""

import io
import json
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data.schema import SAMPLE_SCHEMA, Problem, read_table, table_from_problems, write_table
from ring_model.tokenizer import Tokenizer
from stages.config import Phase, RlArm, Runtime, Sampling, SelectionConfig
from stages.rl.prompts import Pool, load_pool
from stages.sampling.scores import GRADED_SCHEMA, count_solved
from stages.selection.run import run
from stages.stage import StageLog, StageRecord
from stages.training.checkpoints import Checkpoint, write_checkpoints
from tests.stages.conftest import arm_config
from tests.stages.saying import save_model_that_says, says, tokenizer_of

NAMES = ("plums", "pears", "figs", "limes", "dates", "nuts")
ANSWERS = {"eight": "8", "seven": "7", "nine": "9"}
PROBLEMS = [
    Problem(id=f"{kind}-{name}", domain="math", split="rl", prompt=f"{kind} {name}", answer=answer)
    for kind, answer in ANSWERS.items()
    for name in NAMES
]
SAMPLING = Sampling(max_new_tokens=12, top_p=0.5, chunk_problems=4)


def trained(name: str, **figures: float) -> Checkpoint:
    return Checkpoint(name, **{"epoch": 1, "steps": 1, "tokens_trained": 1, "validation_loss": None, **figures})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A curation, an sft with one checkpoint, and the folder of the stronger model."""
    root = tmp_path_factory.mktemp("inputs")
    tokenizer = tokenizer_of(PROBLEMS, answers=ANSWERS.values())
    write_table(table_from_problems(PROBLEMS), root / "curation" / "rl.parquet")
    write_table(table_from_problems(PROBLEMS[:2]), root / "curation" / "probe.parquet")
    save_model_that_says("8", PROBLEMS, tokenizer, root / "sft" / "epoch-01")
    save_model_that_says("7", PROBLEMS, tokenizer, root / "stronger")
    write_checkpoints(root / "sft", [trained("epoch-01")])
    return {name: root / name for name in ("curation", "sft", "stronger")}


def selected(
    inputs: dict[str, Path], out: Path, *, stronger: bool, workers: int = 1, log: StageLog | None = None
) -> StageRecord:
    config = SelectionConfig(
        grading_samples=2, sampling=SAMPLING, stronger=str(inputs["stronger"]) if stronger else None
    )
    return run(config, inputs=inputs, runtime=Runtime(workers=workers), out=out, log=log or StageLog(None))


@pytest.fixture(scope="module")
def graded(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageRecord]:
    out = tmp_path_factory.mktemp("with-stronger")
    return out, selected(inputs, out, stronger=True)


@pytest.fixture(scope="module")
def graded_alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageRecord]:
    out = tmp_path_factory.mktemp("alone")
    return out, selected(inputs, out, stronger=False)


def counts(out: Path, *columns: str) -> dict[str, set[tuple[int | None, ...]]]:
    """Kind of problem -> the counts that its problems have."""
    table = read_table(out / "graded.parquet", GRADED_SCHEMA)
    found: dict[str, set[tuple[int | None, ...]]] = {}
    for problem_id, *values in zip(*(table[name].to_pylist() for name in ("problem_id", *columns)), strict=True):
        found.setdefault(problem_id.partition("-")[0], set()).add(tuple(values))
    return found


def test_the_stronger_model_is_asked_what_the_checkpoint_never_solves_and_nothing_else(graded) -> None:
    out, record = graded
    assert counts(out, "num_correct", "num_samples") == {"eight": {(2, 2)}, "seven": {(0, 2)}, "nine": {(0, 2)}}
    stronger = {"eight": {(None, None)}, "seven": {(2, 2)}, "nine": {(0, 2)}}
    assert counts(out, "stronger_correct", "stronger_samples") == stronger
    assert len(pq.read_table(out / "stronger_samples.parquet")) == 2 * 12  # of 18 problems, 6 need no asking
    assert [(row["model"], row["asked"], row["solved"]) for row in record.tables["grading"]] == [
        ("epoch-01", 18, 6),
        ("stronger", 12, 6),
    ]
    assert record.metrics["grading/stronger_asked"] == 12
    assert record.metrics["grading/stronger_solved"] == 6


def test_without_a_stronger_model_grading_is_the_same_but_for_a_column_of_nulls(graded, graded_alone) -> None:
    (out, _), (alone, record) = graded, graded_alone
    assert (alone / "graded_samples.parquet").read_bytes() == (out / "graded_samples.parquet").read_bytes()
    one, other = (pq.read_table(folder / "graded.parquet") for folder in (alone, out))
    columns = ["stronger_correct", "stronger_samples"]
    assert one.drop(columns) == other.drop(columns)
    assert [one[name].null_count for name in columns] == [18, 18]
    assert not (alone / "stronger_samples.parquet").exists()
    assert "grading/stronger_asked" not in record.metrics
    assert [row["model"] for row in record.tables["grading"]] == ["epoch-01"]


def test_what_the_stronger_model_solves_stays_for_rl_and_the_hopeless_goes(inputs, graded, graded_alone) -> None:
    pool = rl_pool(inputs, graded[0])
    assert {row.id for row in pool.problems["math"]} == {f"seven-{name}" for name in NAMES}
    assert pool.left_out == {
        "always solved": 6,
        "never solved, by the checkpoint, the stronger model or the teacher": 6,
    }
    with pytest.raises(
        ValueError, match=r"left out: 6 always solved, 12 never solved, by the checkpoint or the teacher\)"
    ):
        rl_pool(inputs, graded_alone[0])


def rl_pool(inputs: dict[str, Path], selection: Path) -> Pool:
    config = arm_config()
    arm = RlArm(kind="rl", name="a", phases=(Phase(name="p", steps=1, mixture={"math": 1.0}, max_total_tokens=64),))
    tokenizer = Tokenizer.from_folder(inputs["sft"] / "epoch-01")
    return load_pool(inputs["curation"], selection, arm=arm, config=config, tokenizer=tokenizer)


def test_killed_while_the_stronger_model_answers_selection_goes_on_and_ends_with_the_same_bytes(
    inputs, graded, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(graded[0], out)
    for file in ("graded.parquet", "stronger_samples.parquet", "choice.json"):
        (out / file).unlink()
    *_, last = sorted((out / ".state/samples/grading.stronger").iterdir())
    last.unlink()
    events = io.StringIO()
    selected(inputs, out, stronger=True, workers=2, log=StageLog(events))
    assert "2 of 3 chunks of responses are there" in events.getvalue()
    for file in ("graded.parquet", "graded_samples.parquet", "stronger_samples.parquet", "choice.json"):
        assert (out / file).read_bytes() == (graded[0] / file).read_bytes(), file


def test_kept_samples_are_all_that_grading_by_another_rule_needs(graded, tmp_path: Path) -> None:
    out, _ = graded
    own, stronger = (read_table(out / f"{name}_samples.parquet", SAMPLE_SCHEMA) for name in ("graded", "stronger"))
    assert set(own["status"].to_pylist()) == {"correct", "wrong"}
    assert set(own["response"].to_pylist()) == {says("8")}
    write_table(count_solved(own, num_samples=2, stronger=stronger), tmp_path / "graded.parquet")
    assert (tmp_path / "graded.parquet").read_bytes() == (out / "graded.parquet").read_bytes()
    first = own.filter(pc.equal(own["sample"], 0))  # the rule of a recipe that asks once
    assert count_solved(first, num_samples=1)["num_samples"].to_pylist() == [1] * len(PROBLEMS)


# ---------------------------------------------------------------- the rule that is applied


@pytest.fixture
def two(inputs: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """An sft with two checkpoints: the first says 8, which is right on the probe set, the second 7, at a lower validation loss."""
    sft = tmp_path / "two"
    sft.mkdir()
    (sft / "epoch-00+1of2").symlink_to(inputs["sft"] / "epoch-01")
    (sft / "epoch-01").symlink_to(inputs["stronger"])
    half = trained("epoch-00+1of2", epoch=0.5, tokens_trained=10, validation_loss=0.5)
    write_checkpoints(sft, [half, trained("epoch-01", tokens_trained=40, validation_loss=0.25)])
    return {**inputs, "sft": sft}


def ruled(inputs: dict[str, Path], out: Path, rule: str) -> StageRecord:
    config = SelectionConfig.model_validate(
        {"rule": rule, "grading_samples": 1, "sampling": SAMPLING, "entropy_window": [1, 2]}
    )
    return run(config, inputs=inputs, runtime=Runtime(workers=1), out=out, log=StageLog(None))


def test_the_rule_of_the_recipe_chooses_who_grades_and_the_record_says_what_the_others_would(
    two: dict[str, Path], tmp_path: Path
) -> None:
    record = ruled(two, tmp_path / "out", "validation-loss")
    choice = json.loads((tmp_path / "out" / "choice.json").read_text(encoding="utf-8"))
    assert (choice["checkpoint"], choice["rule"], choice["inside_window"]) == ("epoch-01", "validation-loss", False)
    assert choice["why"] == "lowest validation loss (0.250 nats per token) of the 2 checkpoints"
    assert choice["rules"] == record.tables["rules"]
    window, highest, lowest = record.tables["rules"]
    assert window["why"].startswith("NO CHECKPOINT INSIDE THE WINDOW [1, 2]: nearest entropy")
    assert highest == {
        "rule": "highest-pass@k",
        "checkpoint": "epoch-00+1of2",
        "why": "highest pass@2 (1.000) of the 2 checkpoints",
        "applied": False,
    }
    assert (lowest["checkpoint"], lowest["applied"]) == ("epoch-01", True)
    assert counts(tmp_path / "out", "num_correct") == {"eight": {(0,)}, "seven": {(1,)}, "nine": {(0,)}}
    assert record.notes == ()  # no window was asked for


def test_the_record_has_every_figure_that_a_rule_goes_by(two: dict[str, Path], tmp_path: Path) -> None:
    record = ruled(two, tmp_path / "out", "highest-pass@k")
    figures = ("checkpoint", "pass@1", "pass@2", "validation_loss", "sft_tokens", "share of SFT", "chosen")
    assert [tuple(row[name] for name in figures) for row in record.tables["candidates"]] == [
        ("epoch-00+1of2", 1.0, 1.0, 0.5, 10, 0.25, True),
        ("epoch-01", 0.0, 0.0, 0.25, 40, 1.0, False),
    ]
    metrics = record.metrics
    assert (metrics["selection/epoch"], metrics["selection/pass@2"], metrics["selection/validation_loss"]) == (
        0.5,
        1,
        0.5,
    )
    assert (metrics["rule/highest-pass@k_epoch"], metrics["rule/validation-loss_epoch"]) == (0.5, 1)
    assert metrics["rule/num_choices"] == 2


def test_a_rule_that_cannot_choose_says_why_and_hinders_no_other(graded) -> None:
    out, record = graded
    *_, lowest = record.tables["rules"]
    assert lowest["checkpoint"] is None
    assert lowest["why"].startswith("no validation loss to go by for epoch-01 (None): give curation a source")
    assert "rule/validation-loss_epoch" not in record.metrics and "selection/validation_loss" not in record.metrics
    assert record.metrics["rule/num_choices"] == 1
    assert json.loads((out / "choice.json").read_text(encoding="utf-8"))["checkpoint"] == "epoch-01"


def test_without_a_validation_loss_the_rule_that_needs_it_is_refused_before_anything_is_sampled(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no validation loss to go by for epoch-01"):
        ruled(inputs, tmp_path / "out", "validation-loss")
    assert not (tmp_path / "out").exists()


def test_a_broken_folder_of_the_stronger_model_is_refused_before_anything_is_sampled(inputs, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(inputs["stronger"], broken)
    (broken / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json"):
        selected({**inputs, "stronger": broken}, tmp_path / "out", stronger=True)
    assert not (tmp_path / "out").exists()
