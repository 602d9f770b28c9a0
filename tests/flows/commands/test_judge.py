"""`ring judge`: one verdict a row, in order; a broken line is told with its number and the rest go on."""

import json
from pathlib import Path

import pytest

from flows.commands.judge import judge

ROWS = [
    {"id": "a", "response": "so \\boxed{3}", "gold": "3"},
    {"id": "b", "response": "<think> \\boxed{3} </think> \\boxed{4}", "gold": "3"},
    {"id": "c", "response": "<think> \\boxed{3}", "gold": "3"},
    {"id": "d", "response": "\\boxed{3}", "gold": ""},
]


def written(folder: Path, lines: list[str]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_each_row_has_its_verdict_in_order(tmp_path, capsys):
    assert judge(written(tmp_path, [json.dumps(row) for row in ROWS]), domain="math") == 0
    told = capsys.readouterr()
    verdicts = [json.loads(line) for line in told.out.splitlines()]
    assert [(verdict["id"], verdict["status"]) for verdict in verdicts] == [
        ("a", "correct"),
        ("b", "wrong"),
        ("c", "no_answer"),
        ("d", "bad_gold"),
    ]
    assert set(verdicts[0]) == {"id", "status", "score", "extracted", "reason", "seconds"}
    assert "4 rows" in told.err


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object"),
        ('{"id": "x", "gold": "3"}', 'a text "response" is needed'),
        ('{"id": "x", "response": "\\\\boxed{3}"}', 'a "gold" is needed'),
        ('{"id": "x", "response": "\\\\boxed{3}", "gold": [3]}', '"gold" must be'),
        ('{"id": "x", "response": 3, "gold": "3"}', 'a text "response" is needed'),
    ],
)
def test_a_broken_line_is_told_with_its_number_and_the_rest_go_on(tmp_path, capsys, line, mistake):
    good = json.dumps(ROWS[0])
    assert judge(written(tmp_path, [good, line, good]), domain="math") == 1
    told = capsys.readouterr()
    assert [json.loads(row)["status"] for row in told.out.splitlines()] == ["correct", "judge_error", "correct"]
    assert f"rows.jsonl:2: {mistake}" in told.err


def test_a_code_row_may_hold_the_code_itself(tmp_path, capsys):
    tests = {"type": "call", "function": "f", "inputs": [[3]], "outputs": [9]}
    row = {"id": "p", "code": "def f(x): return x * x", "response": None, "tests": tests, "limits": {"time_s": 2}}
    assert judge(written(tmp_path, [json.dumps(row)]), domain="code") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "correct"


def test_a_list_of_inputs_and_outputs_is_what_a_program_reads_and_prints(tmp_path, capsys):
    tests = [{"input": "3", "output": "9"}, {"input": "4", "output": "16"}]
    rows = [{"id": code, "code": code, "tests": tests} for code in ("print(int(input()) ** 2)", "print(9)")]
    assert judge(written(tmp_path, [json.dumps(row) for row in rows]), domain="code") == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["correct", "wrong"]


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        (
            [{"input": "3", "output": "9"}, {"input": 3, "output": "9"}],
            'item 2 of the list is {"input": 3, "output": "9"}',
        ),
        ([{"in": "3"}], "item 1"),
        (3, "this is a int"),
    ],
)
def test_tests_of_another_shape_are_told_with_line_item_and_the_shapes_that_are_read(tmp_path, capsys, tests, said):
    assert judge(written(tmp_path, ["", json.dumps({"id": "a", "code": "", "tests": tests})]), domain="code") == 1
    told = capsys.readouterr().err
    assert 'rows.jsonl:2: "tests" must be' in told and said in told and '"type": "stdin"' in told


def test_the_help_says_where_an_answer_must_stand_and_what_tests_are(ring):
    said = " ".join(ring("judge", "--help", env={"COLUMNS": "200"}).stdout.split())
    assert "\\boxed{}" in said and "no_answer" in said
    assert all(name in said for name in ('"stdin"', '"call"', '"asserts"', '"input"'))


def test_a_file_that_is_not_there_is_a_users_mistake(ring, tmp_path):
    done = ring("judge", "--domain", "math", str(tmp_path / "none.jsonl"), code=2)
    assert "none.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_domain_is_a_users_mistake(ring, tmp_path):
    done = ring("judge", "--domain", "poetry", str(written(tmp_path, ["{}"])), code=2)
    assert "there are math, code, science" in done.stderr


def test_answers_of_code_import_the_packages_that_are_offered_and_no_other(tmp_path, capsys):
    pytest.importorskip("numpy")
    tests = {"type": "stdin", "inputs": ["4 9\n"], "outputs": ["9\n"]}
    row = {"id": "n", "code": "import numpy\nprint(max(numpy.array(input().split(), dtype=int)))", "tests": tests}
    file = written(tmp_path, [json.dumps(row)])
    for packages, status in (((), "wrong"), (("numpy",), "correct")):
        assert judge(file, domain="code", packages=packages) == 0
        assert json.loads(capsys.readouterr().out)["status"] == status, packages
