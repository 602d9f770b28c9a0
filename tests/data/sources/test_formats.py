import gzip
import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.sources.formats import cell_text, problem_files, read_batches, read_head, stem_of


def cells(path, column="answer"):
    return [cell_text(value) for batch in read_batches(path, [column]) for value in batch[column]]


@pytest.fixture
def write(tmp_path):
    def make(name, content):
        path = tmp_path / name
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return make


CSV = 'question,answer\n"6, 7",42\nx,42.0\ny,\n'
ROWS = '{"question": "a", "answer": 42}\n\n{"question": "b", "answer": 42.0}\n{"question": "c", "answer": null}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("a.csv.gz", CSV),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("dos.csv", CSV.replace("\n", "\r\n")),
        ("semicolons.csv", "question;answer\na;42\nb;42.0\nc;\n"),
        ("a.tsv", "question\tanswer\na\t42\nb\t42.0\nc\t\n"),
        ("a.jsonl", ROWS),
        ("a.jsonl.gz", ROWS),
        ("bom.jsonl", b"\xef\xbb\xbf" + ROWS.encode()),
        ("lines.json", ROWS),
        ("list.json", "\n [" + ",\n".join(ROWS.split("\n\n")[0:1] + ROWS.split("\n")[2:4]) + "]\n"),
    ],
)
def test_numbers_are_kept_as_written_in_every_format(write, name, content):
    found = [cell.decode() if isinstance(cell, bytes) else cell or "" for cell in cells(write(name, content))]
    assert found == ["42", "42.0", ""]
    assert read_head(write(name, content)).columns == ("question", "answer")


def test_values_of_several_types_in_one_column_stay_what_they_are(write):
    values = ["text", 1e400, True, ["only"], [1, 2], {"a": 1.5}, "0.10", 12345678901234567890]
    lines = [json.dumps({"answer": value}) for value in values]
    lines[1] = '{"answer": 1e400}'
    assert cells(write("mixed.jsonl", "\n".join(lines))) == [
        "text",
        "1e400",
        "true",
        "only",
        "[1, 2]",
        '{"a": 1.5}',
        "0.10",
        "12345678901234567890",
    ]


def test_parquet_of_any_type_is_text(tmp_path):
    pq.write_table(pa.table({"answer": pa.array([42.0, None, float("nan")])}), tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet") == ["42", None, None]
    pq.write_table(pa.table({"answer": pa.array(["a", "b"]).dictionary_encode()}), tmp_path / "b.parquet")
    assert cells(tmp_path / "b.parquet") == ["a", "b"]
    prices = pa.array([Decimal("42.50"), Decimal("-7.00")], pa.decimal128(10, 2))
    days = pa.array([date(2024, 2, 29), None])
    pq.write_table(pa.table({"answer": prices, "day": days}), tmp_path / "c.parquet")
    assert cells(tmp_path / "c.parquet") == ["42.50", "-7.00"]
    assert cells(tmp_path / "c.parquet", "day") == ["2024-02-29", None]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()])
def test_a_number_that_was_never_written_is_the_shortest_text_that_gives_it(tmp_path, kind):
    values = [0.5, -3.0, 0.1, None, 2048.0] if kind == pa.float16() else [0.5, -3.0, 0.1, None, 1e-7, 1e19, 1e30]
    shown = ["0.5", "-3", "0.1", None, "0.0000001", "1" + "0" * 19, "1e+30"]
    pq.write_table(pa.table({"answer": pa.array(values, pa.float64()).cast(kind)}), tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet") == [*shown[:4], *(["2048"] if kind == pa.float16() else shown[4:])]


def test_fields_of_nested_columns_have_names(write):
    head = read_head(write("a.jsonl", '{"q": {"en": "x", "zh": {"t": "y"}}, "answer": 1}\n'))
    assert head.names == ("q", "q.en", "q.zh", "q.zh.t", "answer")
    assert head.columns == ("q", "answer")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "blank lines only"),
        ("a.csv", "question,answer\n", "holds no row, only the column names question, answer"),
        ("a.csv", "question,question\na,b\n", "names the column 'question' twice"),
        (
            "a.csv",
            "question,answer\na,1\nb,1,2\n",
            "Row #3: Expected 2 columns, got 3: b,1,2; put fields that hold ','",
        ),
        ("a.csv", "question,answer\na,1\ncaf\xe9,2\n".encode("latin-1"), "byte 0xe9 in line 3; .*iconv -f LATIN1"),
        ("a.csv", "question,answer\n".encode("utf-16"), "iconv -f UTF-16"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2: is no JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "line 2: is a list, no object"),
        ("a.jsonl", '{"a": 1} {"a": 2}\n', "line 1: something stands behind the object"),
        ("a.json", '[{"a": 1}, 3]', "element 2: is a int"),
        ("a.json", '[{"a": 1}, {"a"', "element 2: is no JSON"),
        ("a.json", '[{"a": 1}', "after element 1 a comma or `]` is missing"),
        ("a.json", "[]", "holds no row"),
        ("a.parquet", "hello", "cannot be read as parquet"),
    ],
)
def test_a_mistake_names_the_file_the_place_and_what_to_do(write, name, content, message):
    path = write(name, content)
    with pytest.raises(ValueError, match=message) as error:
        read_head(path)
    assert str(error.value).startswith(str(path))


def test_what_is_no_gzip_is_told(tmp_path):
    (tmp_path / "a.csv.gz").write_text(CSV)
    with pytest.raises(ValueError, match=r"a\.csv\.gz: cannot be read .* no gzip file"):
        read_head(tmp_path / "a.csv.gz")


def test_a_text_behind_the_first_megabyte_that_is_no_utf8_is_bytes_in_csv_and_has_its_line_in_json(write):
    many = "question,answer\n" + "a question of some length,1\n" * 50_000
    assert cells(write("a.csv", many.encode() + b"x,caf\xe9\n"))[-1] == b"caf\xe9"
    rows = ('{"answer": "a question of some length"}\n' * 40_000).encode() + b'{"answer": "caf\xe9"}\n'
    with pytest.raises(ValueError, match="0xe9 in line 40001"):
        cells(write("a.jsonl", rows))


def test_half_a_pair_is_no_text(write):
    (cell,) = cells(write("a.jsonl", '{"answer": "\\ud83d"}'))
    assert isinstance(cell, bytes)


def test_a_field_may_be_large_and_one_that_is_too_large_is_told(write, monkeypatch):
    assert len(cells(write("a.csv", f"question,answer\na,{'x' * 3_000_000}\n"))[0]) == 3_000_000
    monkeypatch.setattr("data.sources.formats._CSV_BLOCK_BYTES", 1_000)
    with pytest.raises(ValueError, match="is a quote left open"):
        cells(write("a.csv", f"question,answer\na,{'x' * 3_000}\nb,1\n"))


def test_a_folder_gives_its_tables_in_order_and_nothing_else(write, tmp_path):
    for name in ("b.csv", "a.jsonl.gz", "README.md", ".hidden.csv", "c.parquet.gz"):
        write(name, CSV)
    (tmp_path / "folder.csv").mkdir()
    assert [path.name for path in problem_files(tmp_path, what="--data-dir")] == ["a.jsonl.gz", "b.csv"]
    assert stem_of(tmp_path / "a.jsonl.gz") == "a"


@pytest.mark.parametrize(("name", "hint"), [("notes.txt", "only notes.txt"), ("sheet.xlsx", "Save the sheet as CSV")])
def test_a_folder_and_a_file_of_another_kind_are_refused(write, tmp_path, name, hint):
    path = write(name, "x")
    with pytest.raises(ValueError, match=hint):
        problem_files(tmp_path, what="--data-dir")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        problem_files(path, what="--data-dir")
