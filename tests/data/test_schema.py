import hashlib

import pyarrow as pa
import pytest

from data.schema import PROBLEM_SCHEMA, Problem, problems_from_table, read_table, table_from_problems, write_table

ROWS = [
    Problem(id="a/0", domain="math", split="rl", prompt="2 × 3 = ?", answer="6", meta='{"level": 3}'),
    Problem(id="a/1", domain="code", split="sft", prompt="Write f.", tests='{"type": "stdin"}', solution="x"),
]


def test_problems_survive_the_way_through_a_file(tmp_path):
    write_table(table_from_problems(ROWS), tmp_path / "some.parquet")
    assert problems_from_table(read_table(tmp_path / "some.parquet")) == ROWS


def test_the_same_rows_give_the_same_bytes(tmp_path):
    digests = set()
    for name in ("a", "b"):
        write_table(table_from_problems(ROWS), tmp_path / f"{name}.parquet")
        digests.add(hashlib.sha256((tmp_path / f"{name}.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_nulls_and_further_columns_are_read_as_nothing(tmp_path):
    table = table_from_problems(ROWS).set_column(4, "answer", pa.array([None, "1"], pa.string()))
    write_table(table.append_column("more", pa.array([1, 2])), tmp_path / "some.parquet")
    assert [row.answer for row in problems_from_table(read_table(tmp_path / "some.parquet"))] == ["", "1"]


def test_the_level_is_that_of_the_meta_data():
    assert [row.level for row in ROWS] == [3, None]


def test_an_empty_table_has_every_column():
    assert table_from_problems([]).schema == PROBLEM_SCHEMA


def test_a_column_of_a_wrong_type_is_refused_by_name(tmp_path):
    write_table(table_from_problems(ROWS).set_column(3, "prompt", pa.array([["a"], ["b"]])), tmp_path / "odd.parquet")
    with pytest.raises(ValueError, match=r"odd\.parquet: cannot be read"):
        read_table(tmp_path / "odd.parquet")
