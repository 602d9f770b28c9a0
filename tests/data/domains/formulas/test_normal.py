"""One spelling for what only looks different."""

import pytest

from data.domains.formulas.normal import normalised


@pytest.mark.parametrize(
    "spellings",
    [
        (
            "\\frac{1}{2}",
            "\\dfrac{1}{2}",
            "\\tfrac{1}{2}",
            "$\\frac{1}{2}$",
            "\\left.\\frac{1}{2}\\right.",
            "½",
            "\\displaystyle\\frac{1}{2}",
            "\\\\frac{1}{2}",
        ),
        ("x^{2}+1", "x²+1", "$x^{2}+1$.", "**x^{2}+1**", "\\boxed{x^{2}+1}"),
        ("1000000", "1,000,000", "1 000 000", "1\\,000\\,000", "1{,}000{,}000", "１,０００,０００", "1,\\!000,\\!000"),
        ("(7+\\frac{3}{8})", "7 3/8"),
        ("\\frac{15}{90}", "0.1\\overline{6}", "0.1\\dot{6}", "0.1\\dot 6", "0.1(6)", "0.1\\bar{6}"),
        ("\\frac{142857}{999999}", "0.\\overline{142857}", "0.\\dot{1}4285\\dot{7}"),
        (
            "25",
            "答案是25",
            "答案为：25。",
            "The answer is 25.",
            "\\text{The answer is } 25",
            "\\text{25}",
            "\\mathbf{25}",
            "`25`",
        ),
        ("(5,8)", "（5，8）", "$(5,8)$"),
        ("4 , 9", "4或9", "4 \\text{ or } 9", "4 and 9", "4\\text{ and }9"),
        ("\\sqrt{2}", "√2", "\\sqrt{2}."),
        ("t \\le 9", "t ≤ 9", "t \\leqslant 9", "t \\leq 9"),
        ("\\pi r^{2}", "π r²", "\\pi r^{2} \\ "),
        ("7", "7.", "7 ", "$7$", "7,"),
        ("(7)", "(((7)))"),
    ],
)
def test_spellings_of_one_answer_become_one_text(spellings):
    assert {normalised(text) for text in spellings} == {normalised(spellings[0])}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1, 2, ...", "1, 2, \\dots"),
        ("\\begin{pmatrix} 1 \\\\ 4 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 4 \\end{pmatrix}"),
        ("32, 349", "32, 349"),
        ("(12,102)", "(12,102)"),
        ("1,2345", "1,2345"),
        ("12,34", "12,34"),
        ("3.0.(3)", "3.0.(3)"),
    ],
)
def test_what_says_something_is_kept(text, kept):
    assert normalised(text) == kept


def test_a_comma_between_digits_may_also_part_two_numbers():
    assert normalised("5,123") == "5123"
    assert normalised("5,123", grouped=False) == "5,123"


@pytest.mark.parametrize(
    "text",
    [
        "\\frac{1}{2}",
        "x²",
        "答案是25",
        "4或9",
        "0.1\\overline{6}",
        "7 3/8",
        "1,000",
        "\\text{ m/s}",
        "x_{1}=3,\\quadx_{2}=4",
    ],
)
def test_a_normalised_text_stays_as_it_is(text):
    once = normalised(text)
    assert normalised(once) == once
