import json

import pytest

from data.schema import problems_from_table
from stages.config import CurationConfig
from stages.curation.choices import is_converted, open_question, parse, with_open_forms
from stages.curation.cleansing import cleanse

OPTIONS = "A. 41\nB. 42\nC. 43\nD. 44"


@pytest.mark.parametrize(
    ("prompt", "answer", "stem", "value"),
    [
        (f"What is 6 x 7?\n{OPTIONS}", "B", "What is 6 x 7?", "42"),
        ("Compute $6^2$. (A) $36$ (B) $12$ (C) $\\frac{1}{36}$", "(C)", "Compute $6^2$.", r"\frac{1}{36}"),
        (
            "Find x. Choose the correct answer from the following options:\n(a) \\(1\\)\n(b) \\(2\\)\n(c) \\(3\\)",
            "b",
            "Find x.",
            "2",
        ),
        ("Evaluate the sum and choose the right option. A) 1 B) 2 C) 3", "A", "Evaluate the sum", "1"),
        ("若 $x=1$, 则 $x+1=$ ( )\nA. 1\nB. 2\nC. 3", "B", "若 $x=1$, 则 $x+1=$ ____", "2"),
        ("若 $x=1$, 则 $x+1=(\\quad)$\nA. $1$\nB. $2$\nC. $3$", "B", "若 $x=1$, 则 $x+1=$ ____", "2"),
        (
            "椭圆的离心率为（ ）\nA．$1$；\nB．$\\frac{1}{2}$；\nC．$\\sqrt{3}$",
            r"\text{B}",
            "椭圆的离心率为 ____",
            r"\frac{1}{2}",
        ),
    ],
)
def test_a_question_that_stands_without_its_options_becomes_open(problem, prompt, answer, stem, value):
    row = open_question(problem(prompt, answer=answer, meta='{"year": 2020}'))
    assert (row.prompt, row.answer) == (stem, value)
    notes = {"converted_from": "multiple choice", "answer_before": answer}
    assert json.loads(row.meta) == {"year": 2020, "annotations": notes}
    assert is_converted(row.meta) and not is_converted('{"converted_from": "elsewhere"}')


@pytest.mark.parametrize(
    ("prompt", "answer", "why"),
    [
        (f"What is 6 x 7?\n{OPTIONS}", "AB", "the answer is no single letter"),
        (f"What is 6 x 7?\n{OPTIONS}", "E", "no option E"),
        ("What is 6 x 7?\nA. 41\nC. 42\nB. 43", "A", "its options cannot be told apart"),
        (f"Which of these is even?\n{OPTIONS}", "B", "the stem says 'Which'"),
        (f"What could be the size of a prime?\n{OPTIONS}", "A", "the stem says 'could'"),
        ("下列各数是质数的是( )\nA. 41\nB. 42\nC. 44", "A", "the stem says '下列'"),
        (f"The number is such\n{OPTIONS}", "A", "the stem asks for no value"),
        ("What is it?\nA. 1\nB. 2\nC. none of the above", "A", "option C is a statement"),
        ("What is true of x?\nA. $x<1$\nB. $x>1$\nC. $x=1$", "A", "option A is a relation"),
        ("What is $f(xy)$?\nA. $f(x)+f(y)$\nB. $2$\nC. $xy$", "A", "option A is a form among others or a list"),
        ("单位时间内不变的是( )\nA. 1\nB. 2\nC. 3", "A", "the stem says '的是'"),
        ("What is it?\nA. 中位数\nB. 平均数\nC. 方差", "A", "option A is a word"),
        ("What is it?\nA. 偶函数，最大值为 1\nB. 2\nC. 3", "A", "option A is a text"),
        ("What is it?\nA. 1\nB. 2\nC. 3\n\nWrite the letter 3.", "A", "option C is empty, long or of several lines"),
        ("What is it?\nA. 1\nB. 2\nC. 2", "A", "two options are the same"),
        ("Find $x.\nA. 1\nB. 2\nC. 3", "A", "a formula of the stem is not closed"),
        ("若 ( ) 成立, 则 $x$ 为 ( )\nA. 1\nB. 2\nC. 3", "A", "a blank inside the stem"),
    ],
)
def test_what_would_have_more_than_one_answer_says_why_it_stays_as_it_is(problem, prompt, answer, why):
    assert open_question(problem(prompt, answer=answer)) == why


def test_letters_of_a_triangle_are_no_options(problem):
    question = parse(f"In a triangle with corners A, B and C, what is the sum of the angles at A. and B.?\n{OPTIONS}")
    assert list(question.options) == ["A", "B", "C", "D"] and question.stem.endswith("B.?")


def test_each_rule_for_choice_questions(problem, batch, worker):
    rows = batch(
        problem(f"What is 6 x 7?\n{OPTIONS}", id="open", answer="B"),
        problem(f"Which of these is even?\n{OPTIONS}", id="closed", answer="B"),
        problem("Is 7 prime?", id="two", answer="yes"),
        problem(id="plain"),
    )
    found = {
        rule: cleanse(worker, (rows, CurationConfig(choice_questions=rule))) for rule in ("keep", "drop", "convert")
    }
    assert [[drop.row for drop in sifted.drops] for sifted in found.values()] == [[], [0, 1, 2], [1, 2]]
    assert found["convert"].drops[0].evidence.endswith("; not converted: the stem says 'Which'")
    changed = found["convert"].changed
    assert changed["prompt"][0] == "What is 6 x 7?" and changed["answer"] == ["42", "B", "yes", "42"]
    assert changed["prompt"][3] == problems_from_table(rows)[3].prompt and not found["drop"].changed


def test_a_benchmark_row_that_can_be_converted_is_compared_in_both_forms(problem):
    rows = [problem(f"What is 6 x 7?\n{OPTIONS}", id="b/0", answer="B"), problem(id="b/1")]
    forms = with_open_forms({"some": rows, "none": []})
    assert [(row.id, row.answer) for row in forms["some"]] == [("b/0", "B"), ("b/1", "42"), ("b/0", "42")]
    assert forms["none"] == []
