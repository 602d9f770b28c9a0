"""`ring evaluate`'s stage: a model that says one thing, and a server, on small sets in the form of the benchmarks."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.schema import Problem, table_from_problems, write_table
from stages.config import ModelEvaluationConfig, Runtime, Sampling
from stages.evaluation.one_model import run
from stages.local_files import DATA_DIR, TRAINED_ON
from stages.stage import StageLog
from tests.stages.sampling.serving import Script, served
from tests.stages.saying import save_model_that_says, tokenizer_of

LONG = "how many of the nine small dogs in the old yard bark"


def question(number: int, answer: str, source: str, **meta: object) -> Problem:
    prompt = f"{LONG} {number}"
    return Problem(f"{source}/{number}", "math", "eval", prompt, answer, source=source, meta=json.dumps(meta))


AIME = [question(number, "8" if number < 2 else "7", "aime24") for number in range(4)]
GAOKAO = [question(0, "8", "gaokao_math", score=5), question(1, "7", "gaokao_math", score=15)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers 8, whatever it is asked."""
    folder = tmp_path_factory.mktemp("model") / "eight"
    rows = [*AIME, *GAOKAO]
    save_model_that_says("8", rows, tokenizer_of(rows, answers=("7", "8")), folder)
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_table(table_from_problems([*AIME, *GAOKAO]), tmp_path / "sets" / "rows.parquet")
    return tmp_path / "sets"


def config(model: str, *benchmarks: str, **changes: object) -> ModelEvaluationConfig:
    given = {"model": model, "name": "eight", "benchmarks": benchmarks, "samples": 2, "another_version": True}
    return ModelEvaluationConfig(**{**given, "sampling": Sampling(max_new_tokens=12, top_p=0.5), **changes})


def evaluated(wanted: ModelEvaluationConfig, out: Path, **inputs: Path):
    named = {name.replace("_", "-"): folder for name, folder in inputs.items()}
    assert named.keys() <= {DATA_DIR, TRAINED_ON}
    return run(wanted, inputs=named, runtime=Runtime(workers=1), out=out, log=StageLog(None))


@pytest.mark.slow
def test_each_benchmark_has_its_metrics_its_points_and_its_leaks(model: Path, data_dir: Path, tmp_path: Path) -> None:
    leaked = replace(AIME[1], id="t", split="sft", source="training")
    write_table(table_from_problems([leaked]), tmp_path / "curation" / "sft.parquet")
    out = tmp_path / "out"
    record = evaluated(
        config(str(model), "aime24", "gaokao_math"), out, data_dir=data_dir, trained_on=tmp_path / "curation"
    )
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {name: (entry["value"], entry["n"]) for name, entry in results.items()} == {
        **{f"eight/aime24/{metric}": (0.5, 4) for metric in ("greedy", "pass@1", "pass@2")},
        **{f"eight/gaokao_math/{metric}": (0.5, 2) for metric in ("greedy", "pass@1", "pass@2")},
    }
    greedy, _ = record.tables["points"]
    assert greedy["points"] == 150 * 5 / 20
    assert [
        (row["benchmark"], row["problems"], row["trained_on"], row["trained_on_ids"])
        for row in record.tables["benchmarks"]
    ] == [
        ("aime24", 4, 1, "aime24/1"),
        ("gaokao_math", 2, 0, ""),
    ]
    assert len(pq.read_table(out / "problems.parquet")) == 6
    assert pq.read_table(out / "samples.parquet")["model"].to_pylist() == ["eight"] * 6 * 3
    assert not record.notes


@pytest.mark.slow
def test_of_a_model_that_is_not_ours_leaks_are_not_known(model: Path, data_dir: Path, tmp_path: Path) -> None:
    record = evaluated(config(str(model), "aime24"), tmp_path / "out", data_dir=data_dir)
    assert [row["trained_on"] for row in record.tables["benchmarks"]] == [None]
    assert any("is not known here" in note for note in record.notes)


@pytest.mark.slow
def test_a_server_is_evaluated_as_a_folder_is(data_dir: Path, tmp_path: Path) -> None:
    with served(Script()) as server:
        record = evaluated(config(server.address, "aime24"), tmp_path / "out", data_dir=data_dir)
    rows = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    assert [row["extracted"] for row in rows] == ["1"] * 12
    assert record.metrics["eight/aime24/greedy"] == 0


def test_a_prompt_that_fills_the_model_is_told_before_anything_is_asked(model: Path, tmp_path: Path) -> None:
    long = replace(AIME[0], prompt=" ".join([LONG] * 12))
    write_table(table_from_problems([long]), tmp_path / "sets" / "rows.parquet")
    with pytest.raises(
        ValueError, match=r"benchmark aime24: the prompt of aime24/0 has \d+ tokens, and the model 128 positions"
    ):
        evaluated(config(str(model), "aime24"), tmp_path / "out", data_dir=tmp_path / "sets")
    assert not (tmp_path / "out" / ".state").exists()


def test_rows_that_are_not_the_frozen_ones_are_refused(model: Path, data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="benchmark aime24: rows aime24/"):
        evaluated(config(str(model), "aime24", another_version=False), tmp_path / "out", data_dir=data_dir)
