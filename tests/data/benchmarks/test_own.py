"""A file of one's own as a set: which rows are asked, which are not and why, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.benchmarks.catalogue import OWN_SAMPLES, measured_set
from data.benchmarks.own import columns_asked, load_own_set
from data.schema import Problem, table_from_problems, write_table


@pytest.fixture
def write(tmp_path):
    def make(text, name="quiz.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def asked(place, **columns):
    return load_own_set(place, columns=columns)


def test_every_row_is_asked_as_a_set_called_after_its_file(write):
    found = asked(write("question,answer\nWhat is 6 times 7?,42\nWhat is 6 times 8?,048\n"))
    assert found.name == "quiz"
    assert [(row.prompt, row.answer, row.domain, row.split, row.source) for row in found.problems] == [
        ("What is 6 times 7?", "42", "math", "eval", "quiz"),
        ("What is 6 times 8?", "048", "math", "eval", "quiz"),
    ]
    assert (found.left_out, found.describe()) == ((), "")


def test_columns_and_values_for_all_rows_are_as_asked(write):
    found = asked(
        write("text,result\nHow fast?,3 m/s\n"), prompt="text", answer="result", domain="science", licence="MIT"
    )
    (row,) = found.problems
    assert (row.prompt, row.answer, row.domain, row.licence) == ("How fast?", "3 m/s", "science", "MIT")


def test_the_end_of_a_worked_answer_is_the_gold(write):
    rows = [{"question": "a?", "answer": "48/2 = 24\n#### 72"}, {"question": "b?", "answer": r"so it is \boxed{5}"}]
    found = asked(write("\n".join(map(json.dumps, rows)), "quiz.jsonl"))
    assert [row.answer for row in found.problems] == ["72", "5"]


def test_numbers_of_a_parquet_file_are_exact_text_and_an_empty_cell_is_no_answer(tmp_path):
    for name, kind in (("double", pa.float64()), ("single", pa.float32())):
        answers = pa.array([42.0, 0.1, None, float("nan"), 1e-7, 12345678.0], kind)
        pq.write_table(pa.table({"question": [*"abcdef"], "answer": answers}), tmp_path / f"{name}.parquet")
        found = asked(tmp_path / f"{name}.parquet")
        assert [row.answer for row in found.problems] == ["42", "0.1", "0.0000001", "12345678"]
        assert [one.where for one in found.left_out] == [f"{name}.parquet, row 3", f"{name}.parquet, row 4"]


def test_rows_that_cannot_be_asked_are_counted_with_their_reason(write):
    rows = [
        {"id": 1, "question": "What is 6 times 7?", "answer": "42"},
        {"id": 2, "question": "", "answer": "1"},
        {"id": 3, "question": "Why?", "answer": ""},
        {"id": 4, "question": "What is 6 times 7?", "answer": "42"},
        {"id": 5, "question": "How long?", "answer": "1" * 2001},
        {"id": 6, "question": "Which?", "answer": "a } b"},
    ]
    found = asked(write("\n".join(map(json.dumps, rows)), "quiz.jsonl"))
    assert [row.id for row in found.problems] == ["1"]
    assert [(one.where, one.id, one.reason) for one in found.left_out] == [
        ("quiz.jsonl, row 2", "2", "no question"),
        ("quiz.jsonl, row 3", "3", "no answer"),
        ("quiz.jsonl, row 4", "4", "copy of another row"),
        ("quiz.jsonl, row 5", "5", "gold answer does not verify"),
        ("quiz.jsonl, row 6", "6", "gold answer does not verify"),
    ]
    assert found.describe().startswith(
        "quiz: 5 of 6 rows are left out: 2 gold answer does not verify (quiz.jsonl, row 5, "
    )
    assert "1 no answer (quiz.jsonl, row 3)" in found.describe()
    assert found.left_out[2].evidence == "says what quiz.jsonl, row 1 says"


def test_tests_of_programs_must_be_readable(tmp_path):
    good = '{"type": "stdin", "inputs": ["3"], "outputs": ["9"]}'
    rows = [Problem(str(n), "code", "", f"{n}: square it", tests=tests) for n, tests in enumerate((good, "{}", ""))]
    write_table(table_from_problems(rows), tmp_path / "programs.parquet")
    found = asked(tmp_path / "programs.parquet")
    assert [row.id for row in found.problems] == ["0"]
    assert [(one.id, one.reason) for one in found.left_out] == [("1", "bad gold"), ("2", "no answer")]


def test_a_folder_is_one_set_called_after_it(write, tmp_path):
    for name in ("a.csv", "b.csv"):
        write(f"question,answer\nIn {name}?,1\n", name)
    found = asked(tmp_path)
    assert found.name == tmp_path.name
    assert [row.prompt for row in found.problems] == ["In a.csv?", "In b.csv?"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "quiz.csv: is empty"),
        ("question,answer\n", {}, "holds no row"),
        ("question,grade\na,1\n", {}, "no column is known as the answer"),
        ("question,answer\na,1\n", {"prompt": "frage"}, "has no column 'frage'"),
        ("question,answer\na,1\n", {"domain": "maths"}, "'maths' .* nor one of math, code, science"),
        ("question,answer\na,1\n", {"split": "train"}, "every row of --problems is asked"),
        (
            "question,answer,domain\na,1,math\nb,1,maths\n",
            {},
            r"quiz\.csv, row 2: the domain 'maths' is none of math, ",
        ),
        (
            "id,question,answer\n1,a,1\n2,b,2\n1,c,3\n",
            {},
            r"quiz\.csv, row 1 and quiz\.csv, row 3 have the same id '1'",
        ),
        ("question,answer\na,1\nb,1,2\n", {}, "Row #3: Expected 2 columns, got 3"),
        ("question,answer\na,caf\xe9\n".encode("latin-1"), {}, "byte 0xe9 in line 2; .*iconv -f LATIN1"),
        (
            b"question,answer\n" + b"a question of some length,1\n" * 40_000 + b"b,caf\xe9\n",
            {},
            r"quiz\.csv, row 40001: invalid UTF-8: .*the answer is no text.*mend the row",
        ),
        ("question,answer\nWhy?,\nHow?,\n", {}, r"none of its 2 rows can be asked: 2 no answer \(quiz\.csv, row 1, "),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused_with_what_and_where(write, text, columns, message):
    with pytest.raises(ValueError, match=message):
        asked(write(text), **columns)


def test_nested_questions_are_refused_with_what_to_do(write):
    chat = {"question": [{"role": "user", "content": "a"}], "answer": "1"}
    with pytest.raises(ValueError, match=r"holds lists such as .*needed is one text a row"):
        asked(write(json.dumps(chat), "quiz.jsonl"))


def test_a_file_is_not_taken_for_a_benchmark(write):
    with pytest.raises(ValueError, match=r"gsm8k is the name of a benchmark.*rename the file"):
        asked(write("question,answer\na,1\n", "gsm8k.csv"))


def test_a_set_of_ones_own_has_a_protocol_and_benchmarks_keep_theirs():
    assert (measured_set("quiz").samples, measured_set("aime24").samples) == (OWN_SAMPLES, 64)
    assert columns_asked({"answer": "result"}) == {"answer": "result", "split": "eval"}
