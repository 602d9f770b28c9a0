import json

import pytest

from stages.config import CurationConfig
from stages.curation.cleansing import RULES, cleanse, cleansed, first_objection


def _tests(**parts):
    return json.dumps({"type": "stdin", "inputs": ["1\n"], "outputs": ["2\n"], **parts})


def _check(text):
    return json.dumps({"type": "function", "setup": "", "check": text, "entry_point": ""})


DROPPED = [  # reason, columns, a part of the evidence
    ("unknown domain", {"domain": "poetry"}, "'poetry'"),
    ("empty prompt", {"prompt": " \n"}, "2 characters"),
    ("prompt too long", {"prompt": "What is 1? " * 100}, "1100 characters, 1000 allowed"),
    ("invalid characters", {"prompt": "What is \ufffd + 1?"}, "U+FFFD at character 8 of the prompt"),
    ("invalid characters", {"prompt": "What is 2\x00?"}, "U+0000"),
    ("invalid characters", {"solution": "so \x1b[0m 42"}, "of the solution"),
    (
        "wrong language",
        {"prompt": "Сколько будет шестью семь, если считать внимательно?"},
        "other; the recipe keeps en, zh",
    ),
    ("image or figure", {"prompt": "How large is it? <image>"}, "<image>"),
    ("image or figure", {"prompt": "How large is it? ![](a.b)"}, "![]("),
    ("image or figure", {"prompt": "How large? [asy] draw((0,0)--(1,1)); [/asy]"}, "[asy]"),
    ("image or figure", {"prompt": "In the figure below, find x."}, "In the figure"),
    ("image or figure", {"prompt": "See https://a.org/b/c.png and find x."}, "c.png"),
    ("image or figure", {"prompt": "如图，求x。"}, "如图"),
    ("image or figure", {"prompt": "Find x. Graph: https://a.org/calculator/b"}, "https://a.org"),
    ("no answer or tests", {"answer": " "}, "neither"),
    ("malformed tests", {"domain": "code", "tests": "{'a'"}, "not JSON"),
    ("malformed tests", {"domain": "code", "tests": '["a"]'}, "neither of type"),
    ("malformed tests", {"domain": "code", "tests": '{"type": ' + "9" * 5000 + "}"}, "not JSON"),
    ("malformed tests", {"domain": "code", "tests": "[" * 100_000}, "not JSON"),
    ("malformed tests", {"domain": "code", "tests": _tests(inputs=[], outputs=[])}, "no test"),
    ("malformed tests", {"domain": "code", "tests": _tests(inputs=["1", "2"])}, "2 inputs, 1 outputs"),
    ("malformed tests", {"domain": "code", "tests": _tests(inputs=["3\n1 2 3 ..."])}, "test 0 has"),
    ("malformed tests", {"domain": "code", "tests": _tests(outputs=["1 2 3 ... 100\n"])}, "3 ... 1"),
    ("malformed tests", {"domain": "code", "tests": _check(" ")}, "no test"),
    ("malformed tests", {"domain": "code", "tests": _check("assert f([1, 2")}, "not Python"),
    ("malformed tests", {"domain": "code", "tests": _check("assert f([1, 2, ...]) == 3")}, "ellipsis"),
    ("malformed tests", {"domain": "code", "tests": _check("x = 1")}, "no assertion"),
    ("multiple choice", {"prompt": "What is 6 x 7?\nA. 41\nB. 42\nC. 43\nD. 44", "answer": "B"}, "A. 41"),
    ("multiple choice", {"prompt": r"It is $\textbf{(A)}\ 1 \qquad \textbf{(B)}\ 2 \qquad \textbf{(C)}\ 3$"}, "(A)"),
    ("multiple choice", {"prompt": "What is 6 x 7? (a) 41 (b) 42 (c) 43", "answer": "b"}, "(a) 41"),
    (
        "multiple choice",
        {"prompt": "Which of the following is even: 1, 2 or 3?", "answer": "2"},
        "Which of the following",
    ),
    ("multiple choice", {"prompt": "What is it?\\nA. 41\\nB. 42\\nC. 43", "answer": "B"}, "A. 41"),
    ("multiple choice", {"prompt": "It is ( a ) larger. ( b ) smaller. ( c ) about the same.", "answer": "a"}, "( a )"),
    (
        "multiple choice",
        {"prompt": "How long is it? (a) 6 km. (b) 480 m. (c) 5 m.", "answer": r"L = 480 \, \text{m}"},
        "(a) 6",
    ),
    ("multiple choice", {"prompt": "What holds here?", "answer": "①③"}, "①③"),
    ("multiple choice", {"prompt": "What holds here?", "answer": "All of the above"}, "All of the above"),
    ("multiple choice", {"prompt": "Select the correct option: 1. It is. 2. It is not.", "answer": "B"}, "Select the"),
    ("true/false or yes/no", {"prompt": "Is 7 prime?", "answer": "Yes"}, "'Yes'"),
    ("true/false or yes/no", {"prompt": "Is 7 prime? Answer true or false.", "answer": "A"}, "true or false"),
    ("true/false or yes/no", {"prompt": 'Is it? Answer with "Yes" or "No."', "answer": "A"}, 'Yes" or "No'),
    ("true/false or yes/no", {"prompt": "Is 7 prime?", "answer": r"\text{True}"}, "True"),
    ("true/false or yes/no", {"prompt": "Is 7 prime?", "answer": "Yes, it is."}, "Yes, it is."),
    ("true/false or yes/no", {"prompt": "True or false: 7 is prime.", "answer": "T"}, "True or false"),
    ("several sub-questions", {"prompt": "(a) Find x if x = 1. (b) Find y if y = 2."}, "(a) Find x"),
    (
        "several sub-questions",
        {"prompt": "A ball falls.\n(1) How fast is it?\n(2) How far does it fall?"},
        "(1) How fast",
    ),
    ("several sub-questions", {"prompt": "(Ⅰ) 求a的值；（Ⅱ）求b的值。"}, "(Ⅰ)"),
    ("several sub-questions", {"prompt": "Let x be 2.\n1. Find 2x.\n2. Find 3x."}, "1. Find"),
    ("several sub-questions", {"prompt": "Part A: what is x? Part B: what is y?"}, "Part A"),
    ("several sub-questions", {"prompt": "What are x and y?", "answer": '["1", "2"]'}, "2 answers"),
    ("proof", {"prompt": "Prove that there are infinitely many primes."}, "Prove that"),
    ("proof", {"prompt": "Let n be odd. Show that n + 1 is even."}, "Show that"),
    ("proof", {"prompt": "Show analytically that the mean is equal to 2."}, "Show analytically"),
    ("answer in the prompt", {"prompt": r"Find x. As x = 40 + 2, it is \boxed{042}."}, r"\boxed{042}"),
    ("prompt cut off", {"prompt": "Find the sum of all the..."}, "the..."),
    ("prompt cut off", {"prompt": "Find the sum of x,"}, "x,"),
    ("prompt cut off", {"prompt": "compute left to right mod 7 : 6 * 2 *"}, "6 * 2 *"),
    ("prompt cut off", {"prompt": r"Find $x$ if $x = 3 \times"}, r"\times"),
    ("prompt cut off", {"domain": "science", "prompt": "find energy : mass = 9 -"}, "9 -"),
    ("prompt cut off", {"domain": "science", "prompt": "find energy : mass = 9 kg , distance ="}, "distance ="),
    ("prompt cut off", {"prompt": "solve 4 ( x + 5"}, "( x + 5"),
    ("prompt cut off", {"prompt": "solve 4 x + 5 ="}, "+ 5 ="),
    ("prompt cut off", {"prompt": r"Solve \begin{array}{c} x = 1"}, r"1 \begin, 0 \end"),
]
KEPT = [
    {"prompt": "What is the value?", "answer": '["a", ' + "9" * 5000 + "]"},
    {"prompt": "What is x? *Proposed by S. Berlov*"},
    {"prompt": "Compute: 3 + 4 ="},
    {"prompt": "Express it as a decimal (not as a percent."},
    {"prompt": r"Find its values on $[1, +\infty[$."},
    {"prompt": "A picture 10 inches wide has a frame. How wide is that?"},
    {"prompt": "Find all x.", "answer": "no solution"},
    {"prompt": "What is 6 times 7?\n\tGive a number."},
    {"prompt": "Round 2.345 to two significant figures."},
    {"prompt": "How many graphs have 4 nodes?"},
    {
        "prompt": "A rectangle is called basic if\n(i) all four sides are drawn, and\n(ii) no segment lies inside. Find the most."
    },
    {"prompt": "A monic p has p(1) = 1, p(2) = 2 and p(3) = 3. Find p(4)."},
    {"prompt": "Let A. B. be a man. What is his age?"},
    {"prompt": "A test has 5 true or false questions. In how many ways can it be answered?"},
    {
        "prompt": "A quiz has yes or no questions, and each is answered at random. How likely is it that all are right?",
        "answer": "1/32",
    },
    {
        "prompt": "(a) Each block is red, (b) no two are alike, and (c) there are 42 on the table. How many are in the box?",
        "answer": "7",
    },
    {"prompt": r"Let \boxed{n} be the number of divisors of n. Find \boxed{12}. Give it as \boxed{}.", "answer": "6"},
    {"domain": "code", "answer": "", "prompt": "Shorten https://a.org/b.", "tests": _check("assert f() == 1")},
    {"prompt": "Show that n is even, and find n."},
    {"prompt": "What is the next term of 1, 2, 4, ..."},
    {"prompt": r"Which letter comes last in MATHLETEMATHLETE..."},
    {"domain": "code", "answer": "", "prompt": "(a) Find x. (b) Find y.", "tests": _check("assert f() == '...'")},
    {
        "domain": "code",
        "answer": "",
        "prompt": "Print yes or no.",
        "tests": _tests(inputs=["3\n..#\n..."], outputs=["yes"]),
    },
    *(
        {"domain": "code", "answer": "", "prompt": "Count.", "tests": _tests(inputs=[grid])}
        for grid in ("2 6\n..1...\n......", "1 4\n1...", "3 3\n.#.\n..2\n#..\n2..")
    ),
    *(
        {"domain": "code", "answer": "", "prompt": "Add.", "tests": json.dumps(tests)}
        for tests in (
            {"type": "functional", "fn_name": "add", "inputs": ["1\n2"], "outputs": ["3"]},
            {
                "type": "asserts",
                "check": "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): self.assertEqual(add(1, 2), 3)",
            },
            {"type": "function", "check": ["def test_x():", "    assert add(1, 2) == 3"]},
        )
    ),
    {"domain": "code", "answer": "8 4 6 6", "prompt": "program rev rot : 3 6 8 1"},
    {"domain": "science", "answer": "5 N", "prompt": "find force : speed = 4 m/s , time = 12 s"},
]


@pytest.mark.parametrize(("reason", "columns", "evidence"), DROPPED)
def test_a_rule_drops_its_row_with_its_reason_and_evidence(problem, reason, columns, evidence):
    found = first_objection(problem(**columns), CurationConfig(max_prompt_characters=1000, languages=("en", "zh")))
    assert found is not None and found[0] == reason
    assert evidence in found[1]


@pytest.mark.parametrize("columns", KEPT)
def test_a_sound_row_passes_every_rule(problem, columns):
    assert first_objection(problem(**columns), CurationConfig()) is None


def test_every_rule_has_a_dropped_row_here():
    assert {reason for reason, _ in RULES} == {reason for reason, _, _ in DROPPED}


def test_choice_questions_stay_where_the_recipe_keeps_them(problem):
    row = problem("Is 7 prime?", answer="yes")
    assert first_objection(row, CurationConfig(choice_questions="keep")) is None


def test_the_dropped_rows_are_named_by_their_place_in_the_batch(problem, batch, worker):
    rows = [problem(id=f"a/{i}", answer="" if i % 3 == 0 else "1") for i in range(9)]
    sifted = cleanse(worker, (batch(*rows), CurationConfig()))
    assert [drop.row for drop in sifted.drops] == [0, 3, 6]
    assert {drop.reason for drop in sifted.drops} == {"no answer or tests"}


@pytest.mark.parametrize(
    ("mark", "reason"),
    [("(A) (B) ", None), ("(a) (b) ", None), ("(A) (B) (C) ", "multiple choice"), ("choose an option, ", None)],
)
def test_a_long_prompt_of_marks_is_read_once(problem, mark, reason):
    """With all marks in one pattern this took minutes."""
    row = problem(f"{mark * (20_000 // len(mark))}\nHow many?", answer="7")
    _, objection = cleansed(row, CurationConfig(choice_questions="convert", max_prompt_characters=30_000))
    assert (objection and objection[0]) == reason
