"""Letters of a multiple choice: every dress is the letter, a formula is none, and no text takes long."""

import time

import pytest

from data.domains.choices import letters, num_options, same_choice

DRESSES = [
    "C", "(C)", "（C）", "C.", "C。", "C: 12", r"\text{C: }12", r"\text{C}: 5", r"\textbf{(C)}\ 12", r"\textbf{(C)}12",
    r"\textbf{(C) } x+2",
    r"(C)\ -5", r"\text{(C) }\frac{1}{2}", "C：线粒体", "C、12", "C) 12", "C. mitochondria", r"\text{C. 5 m/s}", r"\text{C - 5}",
    r"\text{C - energy}", r"\mathrm{C}", r"\textbf{C}", r"\boldsymbol{C}", "**C**", "$C$", "[C]", r"\left(C\right)", "Option C",
    "option (C)",
    "Option C: foo", "Answer: C", "The correct answer is (C).", "C is correct", "选C", "故选C", "选项C", "答案：C",
]  # fmt: skip
LISTS = [
    "AC", "A, C", "A、C", "A;C", "A；C", "A，C", "A.C", "A C", "A and C", "A & C", "A和C", "C, A", "(A)(C)", "（A）（C）",
    "(A), (C)", "选AC",
    r"\text{(A) and (C)}", r"\text{A}, \text{C}", "Options A and C", "A. C.",
]  # fmt: skip
FORMULAS = [
    "C = 5", "C=5", "C + 1", "C x + 2", "Cx", "C x", "C - 5", "C-5", "A + B", "C^2", "C_1", "2C", "C(x)", "C!", "-C", "C/2 + x",
    "(C) + 5", "(C)x",
    "(C)^2", "C:D", "C.5", "C 12", r"\overline{C}", r"C\cdot 2", "f(C)", r"\mathcal{C}", "Clay", "CAB", "BAD", "", "E - mc^2",
]  # fmt: skip


def same(gold: str, answer: str, options: int | None = None) -> bool | None:
    return same_choice(gold, answer, num_options=options)


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("options", [None, 4])
def test_a_letter_in_any_dress_is_the_letter(dress, options):
    assert same("C", dress, options) is same(dress, "C", options) is True
    assert same("D", dress, options) is False
    assert letters(dress) == {"C"}


@pytest.mark.parametrize("text", LISTS)
def test_several_letters_are_a_set(text):
    assert same("AC", text) is same("C, A", text) is True
    assert same("ACD", text) is same("A", text) is False
    assert letters(text) == {"A", "C"}


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_or_word_is_no_choice(text):
    assert same("C", text) is same(text, "C") is None
    assert letters(text) is None


def test_letters_that_stand_close_must_ascend():
    assert letters("ABD") == {"A", "B", "D"}
    assert letters("DAB") is letters("AAB") is None
    assert letters("D, A, B") == {"A", "B", "D"}


def test_a_letter_beyond_the_options_is_a_choice_only_beside_one_in_dress():
    assert same("J", r"\text{J. 5 m/s}") is same("J", "(J)") is True
    assert same("J", r"\text{(I)}") is False
    assert same("J", "I") is same("J", "J") is same("C", "K") is None
    assert same("C", "(K)") is False
    assert letters("J") is None


def test_as_many_letters_count_as_the_problem_has_options():
    assert same("J", "J", 10) is True
    assert same("J", "I", 10) is False
    assert same("E", "E", 4) is None
    assert same("C", "E", 4) is False
    assert letters("J", options=10) == {"J"}


def test_small_letters_count_only_where_the_problem_has_options():
    assert same("C", "(c)", 4) is same("C", "c", 4) is True
    assert same("C", "(b)", 4) is False
    assert same("C", "c") is None


@pytest.mark.parametrize(
    ("prompt", "number"),
    [
        ("Which? (A) x (B) y (C) z", 3), ("Which?\nA. 1\nB. 2\nC. 3\nD. 4", 4), ("A、红\nB、蓝\nC、绿", 3), ("A：红 B：蓝", 2),
        ("（A）12（B）13（C）14", 3),
        (r"$\textbf{(A)}\ 1\qquad\textbf{(B)}\ 2\qquad\textbf{(C)}\ 3$", 3), ("A．1　B．2　C．3　D．4", 4), ("A) 1\nB) 2", 2),
        ("A.1 B.2", 2),
        ("(A) both (B) none (C) (A) and (B) (D) x", 4), (r"\text{A. } 1 \text{B. } 2", 2), ("A: red\nB: blue\nC: green", 3),
        ("D is where?\nA. x\nB. y\nC.\n\n$z$", 3), ("".join(f"({chr(65 + n)}) {n} " for n in range(26)), 26),
        (r"which\n（A） 3\n（B） 2", 2),
    ],
)  # fmt: skip
def test_options_are_counted_however_they_are_marked(prompt, number):
    assert num_options(prompt) == number


@pytest.mark.parametrize(
    "prompt",
    [
        "What is x?",
        "P(A) and P(B)",
        "点A、B、C、D四点",
        "Let A. Then",
        "A:B:C = 1:2:3",
        "(B) x (C) y",
        "[asy] f(A,(A),(B)); [/asy]",
        "(3x + A)(x + B) (1)",
        "",
    ],
)
def test_a_prompt_without_options_has_none(prompt):
    assert num_options(prompt) is None


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "A",
        "(A)",
        "A,",
        "A ",
        "A.",
        "(",
        "\\",
        "{",
        "1",
        "A、",
        "A:",
        "\\text{",
        "A and ",
        "选",
        "[A]",
        "AB ",
        "the ",
        "[asy]",
    ],
)
@pytest.mark.parametrize("length", [1990, 50_000])
def test_a_hostile_text_costs_little(piece, length):
    text = piece * (length // len(piece))
    started = time.perf_counter()
    letters(text)
    num_options(text)
    same("C", text)
    same(text, text, 5)
    assert time.perf_counter() - started < 0.5
