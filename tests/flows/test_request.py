"""A request that cannot be met is told before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.schema import Problem, table_from_problems, write_table
from flows.request import Request, plan_request

NAMED = ("curation.benchmarks=['aime24', 'aime25']", "evaluation.benchmarks=['aime24', 'aime25']")
ROW = Problem("aime24/0", "math", "eval", "2 + 3 mod 7 = ?", "5", source="aime24")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rows = [ROW, replace(ROW, id="a", split="train", source="own")]
    write_table(table_from_problems(rows), tmp_path / "sets" / "rows.parquet")
    return tmp_path / "sets"


def test_changed_rows_of_a_benchmark_are_told_before_any_training_unless_they_are_meant(data_dir: Path) -> None:
    asked = Request("smoke", overrides=NAMED, data_dir=data_dir)
    with pytest.raises(ValueError, match="benchmark aime24: row aime24/0 is not the row of the frozen manifest"):
        plan_request(asked)
    plan_request(replace(asked, overrides=(*NAMED, "evaluation.another_version=true")))


def test_rows_that_no_stage_will_ask_are_not_looked_at(data_dir: Path) -> None:
    plan_request(Request("smoke", overrides=NAMED, data_dir=data_dir, until="sft"))
    plan_request(Request("smoke", overrides=NAMED[:1], data_dir=data_dir))
