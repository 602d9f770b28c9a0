import base64
import json
import pickle
import zlib

import pytest

from data.benchmarks import find_benchmark
from data.benchmarks.forms import problem_of
from data.domains import verify
from data.domains.choices import num_options

LCB = {
    "question_content": "Print the sum of two numbers.",
    "platform": "atcoder",
    "question_id": "abc999_a",
    "contest_id": "abc999",
    "contest_date": "2024-09-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "4 5\n", "output": "9\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
CALLED = {
    "testtype": "functional",
    "input": "[1, 2]\n3",
    "output": "[4, 5]",
}
GPQA = {
    "Record ID": "rec1",
    "Question": "Which planet is the largest?",
    "Correct Answer": "Jupiter",
    "Incorrect Answer 1": "Mars",
    "Incorrect Answer 2": "Venus",
    "Incorrect Answer 3": "Earth",
    "Explanation": "It is.",
    "High-level domain": "Physics",
}


def _problem(name, row, number=0):
    return problem_of(row, find_benchmark(name), number)


def packed(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


# ---------------------------------------------------------------- mathematics


def test_math500_has_problem_answer_and_an_id_of_its_own():
    row = {
        "problem": "What is $1+1$?",
        "solution": r"It is \boxed{2}.",
        "answer": "2",
        "subject": "Algebra",
        "level": 1,
    }
    problem = _problem("math500", row | {"unique_id": "test/algebra/1.json"})
    assert (problem.id, problem.prompt, problem.answer) == ("math500/test/algebra/1.json", "What is $1+1$?", "2")
    assert (problem.domain, problem.split, problem.source, problem.licence) == ("math", "eval", "math500", "MIT")
    assert problem.metadata == {"subject": "Algebra", "level": 1}
    assert problem.solution == r"It is \boxed{2}."


@pytest.mark.parametrize(
    ("name", "row", "answer"),
    [
        ("aime24", {"id": 60, "problem": "p", "answer": "025", "url": "u", "year": "2024"}, "025"),
        ("aime25", {"problem": "p", "answer": 7, "id": "0"}, "7"),
        ("cnmo24", {"question": "p", "answer": "$\\frac12$", "question_type": "problem-solving"}, "$\\frac12$"),
        ("minerva_math", {"question": "p", "answer": "4.5e33"}, "4.5e33"),
        ("gsm8k", {"question": "p", "answer": "6*7 = 42\n#### 42"}, "42"),
        ("mgsm_zh", {"question": "p", "answer": None, "answer_number": 18}, "18"),
        ("theoremqa", {"Question": "p", "Answer": "True", "Answer_type": "bool"}, "True"),
    ],
)
def test_a_question_and_its_answer_are_found_under_their_usual_names(name, row, answer):
    problem = _problem(name, row, 3)
    assert (problem.prompt, problem.answer) == ("p", answer)


def test_a_row_without_an_id_has_its_number():
    assert _problem("minerva_math", {"question": "p", "answer": "1"}, 7).id == "minerva_math/7"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "p", "answer": "1"},
            "has no field 'problem' or 'Problem' or 'question' or 'Question'; it has text, answer",
        ),
        ({"problem": "p"}, "has no field 'answer_number' or 'final_answer' or 'answer'"),
        ({"problem": " ", "answer": "1"}, "the question is empty"),
        ({"problem": "p", "answer": ""}, "neither an answer nor a test"),
    ],
)
def test_a_row_that_is_none_of_the_form_says_what_is_missing(row, message):
    with pytest.raises(ValueError, match=message):
        _problem("math500", row)


def test_olympiadbench_answers_are_a_list():
    row = {
        "id": 1606,
        "question": "q",
        "final_answer": ["$2$"],
        "answer_type": "Numerical",
        "is_multiple_answer": False,
    }
    problem = _problem("olympiadbench_math_en", row | {"solution": ["so"], "subfield": "Algebra", "unit": None})
    assert (problem.id, problem.answer, problem.solution) == ("olympiadbench_math_en/1606", "2", "so")
    assert problem.metadata == {"answer_type": "Numerical", "multiple": False, "subfield": "Algebra"}
    assert _problem("olympiadbench_math_en", row | {"final_answer": ["$1$", "$3$"]}).answer == "1, 3"
    with pytest.raises(ValueError, match="asks for a proof"):
        _problem("olympiadbench_math_en", row | {"final_answer": None})


def test_a_gaokao_question_has_points_and_letters_as_one_text():
    row = {
        "question": "哪些正确?\nA. a\nB. b\nC. c\nD. d",
        "answer": ["C", "A"],
        "score": 6,
        "year": "2025",
        "index": 3,
    }
    problem = _problem("gaokao25_physics", row | {"category": "（新课标）", "analysis": "因为"})
    assert (problem.id, problem.answer, problem.solution) == ("gaokao25_physics/3", "AC", "因为")
    assert problem.metadata == {"score": 6, "year": "2025", "paper": "（新课标）"}
    assert _problem("gaokao25_math", row | {"answer": "$\\frac{1}{2}$"}).answer == "$\\frac{1}{2}$"
    assert _problem("gaokao25_math", row | {"answer": "BCD"}).answer == "BCD"


@pytest.mark.parametrize("points", [None, 0, -5, "5", True])
def test_a_gaokao_question_without_points_is_refused(points):
    with pytest.raises(ValueError, match=r"'score' is .*; needed is the number of points"):
        _problem("gaokao25_math", {"question": "q", "answer": "1", "score": points})


# ---------------------------------------------------------------- choices


def test_gpqa_choices_stand_below_the_question_in_an_order_that_stays():
    problem = _problem("gpqa_diamond", GPQA)
    assert problem.prompt.startswith("Which planet is the largest?\n\n(A) ")
    assert f"({problem.answer}) Jupiter" in problem.prompt.splitlines()
    assert {line[4:] for line in problem.prompt.splitlines()[2:]} == {"Jupiter", "Mars", "Venus", "Earth"}
    assert problem == _problem("gpqa_diamond", GPQA)
    assert num_options(problem.prompt) == 4
    assert verify(f"\\boxed{{{problem.answer}}}", domain="science", gold=problem.answer).score == 1.0


def test_gpqa_right_answers_stand_at_all_letters():
    answers = [_problem("gpqa_diamond", GPQA | {"Question": f"Question {number}?"}).answer for number in range(400)]
    assert all(70 <= answers.count(letter) <= 130 for letter in "ABCD")  # 100 each, 3.5 standard deviations


def test_gpqa_with_two_equal_choices_is_refused():
    with pytest.raises(ValueError, match="two of the choices are the same"):
        _problem("gpqa_diamond", GPQA | {"Incorrect Answer 2": "Jupiter "})


# ---------------------------------------------------------------- code


def test_livecodebench_programs_pass_the_public_and_the_private_tests():
    problem = _problem("livecodebench", LCB)
    assert problem.id == "livecodebench/abc999_a"
    assert json.loads(problem.tests) == {"type": "stdin", "inputs": ["1 2\n", "4 5\n"], "outputs": ["3\n", "9\n"]}
    assert problem.prompt.startswith("Print the sum of two numbers.\n\nThe program reads from standard input")
    assert problem.metadata["contest_date"] == "2024-09-01T00:00:00"


def test_livecodebench_functions_are_called_as_the_starter_code_names_them():
    row = LCB | {
        "public_test_cases": json.dumps([CALLED]),
        "private_test_cases": "[]",
        "metadata": json.dumps({"func_name": "shifted"}),
        "starter_code": "class Solution:\n    def shifted(self, xs, by):\n        ",
    }
    problem = _problem("livecodebench", row)
    assert json.loads(problem.tests)["function"] == "shifted"
    assert "```python\nclass Solution:\n    def shifted(self, xs, by):\n```" in problem.prompt
    with pytest.raises(ValueError, match="no 'func_name' in its 'metadata'"):
        _problem("livecodebench", row | {"metadata": "{}"})


@pytest.mark.slow
def test_livecodebench_functions_are_judged_by_their_values():
    row = LCB | {
        "public_test_cases": json.dumps([CALLED]),
        "private_test_cases": "[]",
        "metadata": {"func_name": "shifted"},
    }
    tests = _problem("livecodebench", row).tests
    right = "```python\nclass Solution:\n    def shifted(self, xs, by):\n        return [x + by for x in xs]\n```"
    assert verify(right, domain="code", tests=tests).status == "correct"
    assert verify(right.replace("+", "-"), domain="code", tests=tests).status == "wrong"


def test_packed_tests_are_read_without_being_unpickled(monkeypatch):
    private = [{"input": "7 8\n", "output": "15\n", "testtype": "stdin"}]
    row = LCB | {"private_test_cases": packed(json.dumps(private))}
    monkeypatch.setattr(pickle, "loads", None)
    assert json.loads(_problem("livecodebench", row).tests)["inputs"] == ["1 2\n", "7 8\n"]


class _Evil:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    "value",
    [_Evil(), ["[]"], ("[]", "[]"), 7, b"[]", {"[]": 1}],
    ids=["code", "list", "tuple", "number", "bytes", "record"],
)
def test_a_pickle_of_anything_but_one_text_is_refused_and_not_carried_out(value, capsys):
    with pytest.raises(ValueError, match=r"something else than one JSON text .*never unpickled here: convert"):
        _problem("livecodebench", LCB | {"private_test_cases": packed(value)})
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no base64!", "is neither JSON nor JSON packed as base64 of zlib of a pickle"),
        (base64.b64encode(b"no zlib").decode(), "is neither JSON nor JSON packed"),
        (base64.b64encode(zlib.compress(b"no pickle")).decode(), "the packed tests are damaged"),
        (packed("[1"), "'private_test_cases' is no JSON"),
        ("[1]", "no list of records with 'input' and 'output'"),
        ('[{"input": "1"}]', "no list of records with 'input' and 'output'"),
        ('[{"input": "1", "output": "2", "testtype": "functional"}]', r"of the types \['functional', 'stdin'\]"),
        (None, "has no field 'private_test_cases'"),
    ],
)
def test_tests_of_another_form_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        _problem("livecodebench", LCB | {"private_test_cases": text})


def test_packed_tests_are_unpacked_up_to_a_size(monkeypatch):
    monkeypatch.setattr("data.benchmarks.forms.MAX_TESTS_BYTES", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes when unpacked"):
        _problem("livecodebench", LCB | {"private_test_cases": packed("[" + " " * 5000 + "]")})


def test_codeelo_examples_are_the_tests_and_the_contest_is_kept():
    row = {
        "problem_id": "2000A1",
        "title": "t",
        "rating": 800,
        "div": "Div. 2",
        "description": "Double it.",
        "input": "A number.",
    }
    row |= {"output": "Its double.", "examples": [["2", "4"], ["5", "10"]], "note": "", "interaction": None}
    problem = _problem("codeforces", row)
    assert problem.id == "codeforces/2000A1"
    assert json.loads(problem.tests) == {"type": "stdin", "inputs": ["2", "5"], "outputs": ["4", "10"]}
    expected = {"contest": "2000", "index": "A1", "sample_tests_only": True, "rating": 800, "div": "Div. 2"}
    assert problem.metadata == expected
    assert "Input\nA number." in problem.prompt
    assert "Note" not in problem.prompt
    with pytest.raises(ValueError, match="'problem_id' is 'A'; needed is one such as 2000A"):
        _problem("codeforces", row | {"problem_id": "A"})
