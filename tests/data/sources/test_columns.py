import json
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.domain_names import domain_names
from data.domains import DOMAINS as JUDGED
from data.schema import PROBLEM_COLUMNS
from data.sources.columns import SPLITS, reading_of
from stages.config import Split


@pytest.fixture
def reading(tmp_path):
    def make(rows, asked=None, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return reading_of(path, asked or {})

    return make


def test_domains_and_splits_are_those_of_the_recipe():
    assert domain_names() == tuple(JUDGED)
    assert set(get_args(Split)) < set(SPLITS)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"question": "a", "answer": "1"}, {"prompt": "question", "answer": "answer"}),
        ({"Problem": "a", "Final Answer": "1"}, {"prompt": "Problem", "answer": "Final Answer"}),
        ({"instruction": "a", "target": 1}, {"prompt": "instruction", "answer": "target"}),
        ({"problem": "a", "solution": r"so \boxed{1}"}, {"prompt": "problem", "solution": "solution"}),
        ({"problem": "a", "solution": "1"}, {"prompt": "problem", "answer": "solution"}),
        ({"instruction": "a", "output": "x\n#### 1"}, {"prompt": "instruction", "solution": "output"}),
        (
            {"problem": "a", "solution": "long", "answer": "1"},
            {"prompt": "problem", "answer": "answer", "solution": "solution"},
        ),
        (
            {"prompt": "a", "tests": "{}", "license": "MIT"},
            {"prompt": "prompt", "tests": "tests", "licence": "license"},
        ),
    ],
)
def test_common_names_are_recognised(reading, row, columns):
    assert reading([row]).columns == columns


def test_what_is_absent_is_stated_and_what_is_not_read_is_named(reading):
    found = reading([{"question": "a", "answer": "1", "grade": 3}])
    assert found.describe() == (
        'prompt = question, answer = answer; for all rows: domain "math", source "mine", licence "unknown",'
        " split by curation.splits; not read: grade"
    )


def test_a_value_that_no_column_is_called_is_that_of_all_rows(reading):
    asked = {"domain": "science", "split": "heldout", "licence": "MIT"}
    found = reading([{"question": "a", "answer": "1", "domain": "physics"}], asked)
    assert found.constants == {"source": "mine", **asked}
    assert found.unread == ("domain",)


def test_what_is_asked_for_goes_before_what_is_recognised_and_may_be_nested(reading):
    rows = [{"question": "a", "extra": {"value": "1"}, "answer": "no"}]
    assert reading(rows, {"answer": "extra.value"}).columns == {"prompt": "question", "answer": "extra.value"}


def test_a_table_in_our_schema_is_read_as_it_stands_but_for_what_is_asked(tmp_path):
    pq.write_table(pa.table({name: ["x"] for name in (*PROBLEM_COLUMNS, "question")}), tmp_path / "a.parquet")
    plain, asked = (reading_of(tmp_path / "a.parquet", asked) for asked in ({}, {"split": "heldout"}))
    assert plain.is_uniform and plain.columns == {name: name for name in PROBLEM_COLUMNS} and not plain.constants
    assert asked.constants == {"split": "heldout"} and "split" not in asked.columns


@pytest.mark.parametrize(
    ("row", "asked", "message"),
    [
        ({"question": "a", "answer": "1"}, {"prompt": "questoin"}, "no column 'questoin' .*did you mean 'question'"),
        ({"question": "a", "answer": "1"}, {"promt": "question"}, "'promt' is none of ours; did you mean 'prompt'"),
        (
            {"question": "a", "answer": "1"},
            {"domain": "mathematics"},
            "neither a column .* nor one of math, code, science",
        ),
        ({"question": "a", "answer": "1"}, {"split": "test"}, "nor one of train"),
        ({"What is 2+2?": "a", "4": "1"}, {}, "put a line such as `question,answer` before it"),
        ({"question": "a", "grade": "1"}, {}, "no column is known as the answer"),
        (
            {"question": {"en": "a"}, "answer": "1"},
            {},
            "holds records with en; name a field: --columns prompt=question.en",
        ),
        ({"question": ["a", "b"], "answer": "1"}, {}, r'holds lists such as \["a", "b"\]; needed is one text a row'),
        ({"question": "a", "answer": "1", "domain": "algebra"}, {}, "holds 'algebra'.*--columns domain=math"),
        ({"question": "a", "answer": "1", "split": "test"}, {}, "holds 'test'.*--columns split=rl"),
    ],
)
def test_a_mistake_says_what_is_there_and_what_to_do(reading, row, asked, message):
    with pytest.raises(ValueError, match=message):
        reading([row], asked)
