import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema import Problem, table_from_problems, write_table
from data.sources.files import Row, load_files

MAX_ROW_BYTES = 1_000_000


def rows_of(folder) -> list[Row]:
    return list(load_files(folder, columns={}, max_row_bytes=MAX_ROW_BYTES))


def test_rows_come_in_the_order_of_the_file_names(tmp_path):
    for name in ("b", "a"):
        rows = [Problem(id=f"{name}/{i}", domain="math", split="train", prompt="What?", answer="1") for i in range(2)]
        write_table(table_from_problems(rows), tmp_path / f"{name}.parquet")
    (tmp_path / "README.md").write_text("not a source", encoding="utf-8")
    assert [row.problem.id for row in rows_of(tmp_path)] == ["a/0", "a/1", "b/0", "b/1"]


def test_a_missing_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder or file"):
        rows_of(tmp_path / "nowhere")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \*\.parquet, "):
        rows_of(tmp_path)


def test_a_file_without_a_column_is_refused_by_name(tmp_path):
    pq.write_table(pa.table({"id": ["0"]}), tmp_path / "odd.parquet")
    with pytest.raises(ValueError, match=r"odd\.parquet: no column is known as the prompt .* among 'id'"):
        rows_of(tmp_path)


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path):
    (tmp_path / "odd.parquet").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.parquet: cannot be read"):
        rows_of(tmp_path)


def test_a_row_that_is_too_large_or_no_text_is_given_with_its_fault(tmp_path):
    rows = [
        Problem(id=name, domain="math", split="train", prompt=prompt, answer="1")
        for name, prompt in (("good", "What?"), ("large", "x" * (MAX_ROW_BYTES + 1)), ("bytes", "What now?"))
    ]
    table = table_from_problems(rows)
    prompts = pa.array([b"What?", b"x" * (MAX_ROW_BYTES + 1), b"caf\xe9"], pa.binary()).cast(pa.string(), safe=False)
    position = table.schema.get_field_index("prompt")
    pq.write_table(table.set_column(position, "prompt", prompts), tmp_path / "odd.parquet")
    assert [row.fault for row in rows_of(tmp_path)] == ["", "row too large", "invalid UTF-8"]


def written(tmp_path, *rows, name="mine.jsonl"):
    (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    return [row.problem for row in rows_of(tmp_path / name)]


def test_a_row_gets_what_its_file_does_not_say(tmp_path):
    (row,) = written(tmp_path, {"question": "What is 6 times 7?", "answer": 42})
    assert (row.prompt, row.answer, row.domain, row.split) == ("What is 6 times 7?", "42", "math", "")
    assert (row.source, row.licence, row.metadata) == ("mine", "unknown", {"file": "mine.jsonl", "row": 1})


def test_ids_do_not_depend_on_the_rows_before(tmp_path):
    rows = [{"question": f"What is {n}?", "answer": n} for n in range(3)]
    before, after = ({row.prompt: row.id for row in written(tmp_path, *more)} for more in (rows[1:], rows))
    assert before.items() < after.items() and len(set(after.values())) == 3
    (kept,) = written(tmp_path, {"id": 7, "question": "a", "answer": 1})
    assert kept.id == "7"


@pytest.mark.parametrize(
    ("row", "answer", "solution"),
    [
        ({"answer": "48/2 = 24\n#### 72"}, "72", "48/2 = 24\n#### 72"),
        ({"answer": "#### 72"}, "72", ""),
        ({"answer": r"$\boxed{72}$."}, "72", ""),
        ({"answer": r"So it is \boxed{72}."}, "72", r"So it is \boxed{72}."),
        ({"answer": r"\boxed{72}", "solution": "by heart"}, "72", "by heart"),
        ({"solution": r"So it is \boxed{72}."}, "72", r"So it is \boxed{72}."),
        ({"solution": "72"}, "72", ""),
        ({"answer": "72"}, "72", ""),
        ({"answer": None}, "", ""),
    ],
)
def test_a_worked_answer_is_a_solution_and_its_end_the_answer(tmp_path, row, answer, solution):
    (found,) = written(tmp_path, {"question": "How many?", **row})
    assert (found.answer, found.solution) == (answer, solution)


def test_of_each_file_and_split_only_the_first_rows_are_read_where_a_number_is_given(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("question,answer,split\n1?,1,train\n2?,2,train\n3?,3,eval\n4?,4,train\n")
    rows = load_files(tmp_path, columns={}, max_row_bytes=MAX_ROW_BYTES, max_rows=2)
    assert [row.problem.prompt for row in rows] == ["1?", "2?", "3?"] * 2
