"""What two formulas have to share to be one answer: each construct by its own rule."""

import pytest

from data.domains import Policy
from data.domains.formulas.comparison import Rules
from data.domains.formulas.normal import normalised
from data.domains.mathematics import formulas_agree


def agree(gold: str, answer: str, *, positive: bool = False, **policy: object) -> bool | None:
    """True, False, or None where one is no formula."""
    return formulas_agree(normalised(gold), normalised(answer), Rules(Policy(**policy), positive=positive))[0]


SAME = {
    "relations turn round with their signs": [
        ("y \\ge -1", "-1 \\le y"),
        ("0 < t \\le 5", "5 \\ge t > 0"),
        ("a \\ne b", "b \\ne a"),
        ("A \\subset B", "B \\supset A"),
    ],
    "relations are multiples of each other": [
        ("2u - 6v = 8", "u - 3v = 4"),
        ("x < 4", "-3x > -12"),
        ("\\frac{x^2}{2}+y^2=3", "x^2+2y^2=6"),
    ],
    "residues differ by the modulus": [
        ("k \\equiv 2 \\pmod{5}", "k \\equiv -3 \\pmod 5"),
        ("2 \\pmod 9", "11 \\pmod{9}"),
    ],
    "operators that commute": [
        ("A \\cup B", "B \\cup A"),
        ("p \\wedge q", "q \\wedge p"),
        ("p \\leftrightarrow q", "q \\leftrightarrow p"),
    ],
    "sets have no order": [("\\{4, 9, 1\\}", "\\{9, 1, 4\\}"), ("\\{2, 5\\}", "5, 2")],
    "a set by its ends": [
        ("(-\\infty, 2) \\cup (2, \\infty)", "\\mathbb{R} \\setminus \\{2\\}"),
        ("[1, 4)", "1 \\le x < 4"),
        ("x \\ge 7", "[7, +\\infty)"),
        ("(0, 3]", "\\{t \\mid 0 < t \\le 3\\}"),
        ("x < -1 \\text{ or } x > 1", "(-\\infty,-1)\\cup(1,\\infty)"),
        ("(-2, 2)", "|x| < 2"),
        ("[0, 5]", "[0, 2] \\cup (1, 5]"),
    ],
    "matrices by entry": [
        (
            "\\begin{pmatrix} 1/2 & x \\\\ 0 & 3 \\end{pmatrix}",
            "\\begin{bmatrix} 0.5 & x \\\\ 0 & \\frac{6}{2} \\end{bmatrix}",
        ),
        ("\\frac{1}{2}\\begin{pmatrix} 2 \\\\ 4 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1, 2)"),
    ],
    "cases by branch": [
        (
            "\\begin{cases} t^2, & t < 0 \\\\ 3t, & t \\ge 0 \\end{cases}",
            "\\begin{cases} 3t & \\text{for } 0 \\le t \\\\ t^2 & \\text{if } t < 0 \\end{cases}",
        )
    ],
    "sums of any length by their terms": [
        ("\\sum_{k=1}^{100} k", "5050"),
        ("\\sum_{k=1}^{n} a_k", "\\sum_{j=1}^{n} a_j"),
        ("\\sum_{k=1}^n 3 b_k", "3 \\sum_{k=1}^n b_k"),
        ("\\int_0^1 f(x) dx", "\\int_0^1 f(t) \\, dt"),
        ("\\int_a^b g(x) dx", "-\\int_b^a g(x) dx"),
    ],
    "identities of both signs": [
        ("\\sqrt{x^2}", "|x|"),
        ("\\tan^2 y + 1", "\\sec^2 y"),
        ("\\frac{x^2-1}{x-1}", "x+1"),
        ("e^{i t}", "\\cos t + i \\sin t"),
        ("z \\overline{z}", "|z|^2"),
        ("\\sqrt{1/m}", "\\frac{1}{\\sqrt{m}}"),
        ("x^{2/3}", "\\sqrt[3]{x^2}"),
        ("\\sqrt[3]{-27}", "-3"),
        ("\\sqrt[5]{-32}", "-2"),
    ],
    "exact numbers": [
        ("2^{10}", "1024"),
        ("\\binom{10}{3}", "120"),
        ("\\frac{7!}{5!}", "42"),
        ("0.125", "\\frac18"),
        ("\\sqrt{50}", "5\\sqrt{2}"),
        ("17 \\bmod 5", "2"),
        ("\\lfloor 3.7 \\rfloor", "3"),
        ("\\gcd(12, 18)", "6"),
        ("\\log_2 8", "3"),
        ("\\sin 30^\\circ", "0.5"),
        ("\\zeta(2)", "\\frac{\\pi^2}{6}"),
        ("\\Gamma(5)", "24"),
    ],
    "several values": [
        ("x = 3 \\text{ or } x = -1", "-1, 3"),
        ("1 \\pm \\sqrt{7}", "1 - \\sqrt 7, 1 + \\sqrt 7"),
        ("x = 2, y = 5", "(2, 5)"),
        ("a=1,b=2;a=3,b=4", "(1,2),(3,4)"),
    ],
    "names on the left": [
        ("m = 3", "3"),
        ("g(x) = 2x", "2x"),
        ("y = x + 1", "f(x) = x + 1"),
        ("5", "1 + 4 = 5"),
        ("w = \\frac13 \\approx 0.33", "\\frac{1}{3}"),
        ("|AB| = 6", "6"),
    ],
    "units": [
        ("12\\pi \\text{ cm}^2", "12\\pi"),
        ("\\frac{3}{2} \\text{ meters}", "\\frac32 \\text{ meter}"),
        ("\\sqrt{3} \\text{ m}", "100\\sqrt{3} \\text{ cm}"),
        ("36 \\text{ percent}", "36\\%"),
    ],
    "a unit behind a sign or a sum is that of the whole": [
        ("-2", "-2 \\text{ units}"),
        ("-\\frac{3}{4} \\text{ cm}", "-\\frac{3}{4}"),
        ("18+2\\pi", "18+2\\pi \\text{ meters}"),
        ("11\\sqrt{5} + 11 \\text{ units}", "11 + 11\\sqrt{5}"),
        ("-3 + \\sqrt{2} \\text{ m}", "100\\sqrt{2} - 300 \\text{ cm}"),
    ],
    "an equation between numbers that holds, or that rounding makes hold, gives its value": [
        ("20", "18 + 2 = 20"),
        ("0.667", "\\frac{2}{3} = 0.667"),
        ("204", "x = 204"),
    ],
    "ratios in proportion": [("2:6", "1:3"), ("1:2:3", "2:4:6"), ("08:30", "08:30")],
    "cross products turn their sign": [
        ("\\vec a \\times \\vec b", "-\\vec b \\times \\vec a"),
        ("\\vec u \\cdot \\vec v", "\\vec v \\cdot \\vec u"),
    ],
    "indices where they may stand": [("x_1^2 + y", "y + x^2_1"), ("a_{n+1}", "a_{n + 1}")],
}

DIFFERENT = {
    "an equation between numbers that does not hold gives no value": [
        ("204", "5 = 204"),
        ("204", "4 + 1 = 204"),
        ("x = 204", "x = 3 = 204"),
        ("1001", "1000 = 1001"),
    ],
    "a quantity is not its negative, nor a sum its last term": [
        ("2", "-2 \\text{ units}"),
        ("2\\pi", "18+2\\pi \\text{ meters}"),
    ],
    "a relation is not its reverse": [
        ("y \\ge -1", "-1 \\ge y"),
        ("x < 4", "x \\le 4"),
        ("x = 4", "x \\ne 4"),
        ("7 \\in S", "7 \\notin S"),
        ("A \\subset B", "B \\subset A"),
        ("x<4", "3x>12"),
    ],
    "a congruence is not its modulus": [
        ("k \\equiv 2 \\pmod{5}", "k \\equiv 5 \\pmod 2"),
        ("k \\equiv 2 \\pmod 5", "k \\equiv 3 \\pmod 5"),
        ("m \\bmod n", "n \\bmod m"),
    ],
    "operators that do not commute": [
        ("S \\setminus T", "T \\setminus S"),
        ("h \\circ k", "k \\circ h"),
        ("p \\to q", "q \\to p"),
        ("\\neg p \\vee q", "p \\vee \\neg q"),
        ("A \\cup B", "A \\cap B"),
        ("\\vec a \\times \\vec b", "\\vec b \\times \\vec a"),
        ("\\mathbf{A} \\times \\mathbf{B}", "\\mathbf{B} \\times \\mathbf{A}"),
        ("A \\times B", "B \\times A"),
    ],
    "brackets of another kind": [
        ("[2, 7]", "(2, 7)"),
        ("(2, 7)", "\\{2, 7\\}"),
        ("[2, 7)", "(2, 7]"),
        ("(2, 7)", "(7, 2)"),
    ],
    "entries in other places": [
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}."),
        ("\\begin{pmatrix} 2 & 5 \\end{pmatrix}", "10"),
    ],
    "cases with another branch or condition": [
        (
            "\\begin{cases} t^2, & t < 0 \\\\ 3t, & t \\ge 0 \\end{cases}",
            "\\begin{cases} t^2, & t \\ge 0 \\\\ 3t, & t < 0 \\end{cases}",
        )
    ],
    "arguments are no factors": [
        ("g(-x)", "-g(x)"),
        ("f(2x)", "2f(x)"),
        ("P(-x)", "-P(x)"),
        ("f(x)", "f(y)"),
        ("\\phi(-t)", "-\\phi(t)"),
    ],
    "identities of positive numbers alone": [
        ("\\sqrt{x^2}", "x"),
        ("|x|", "x"),
        ("\\ln(x^2)", "2\\ln x"),
        ("\\sqrt{x^2 y}", "x\\sqrt{y}"),
        ("|x - 1|", "x - 1"),
    ],
    "large numbers that differ by little": [
        ("1-2^{-100}", "1-2^{-99}"),
        ("\\frac{1}{3^{80}}", "\\frac{1}{3^{81}}"),
        ("\\sqrt{2}+10^{-30}", "\\sqrt{2}"),
        ("2^{200}+1", "2^{200}"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
    ],
    "other words": [
        ("7 \\text{ euros}", "7 \\text{ cents}"),
        ("\\sqrt{5}s", "\\sqrt{5}"),
        ("\\pi r^2 h", "\\pi r^2"),
        ("3 \\text{ hours } 20 \\text{ minutes}", "3"),
    ],
    "lists of other items": [
        ("n = 2, 3, 4", "n = 1, 2, 3"),
        ("1, 2, 3", "1, 2"),
        ("\\pm 5", "5"),
        ("2:4:6:\\ldots", "2:4:8:\\ldots"),
        ("07:05", "7:50"),
        ("x=2,y=5", "x=5,y=2"),
    ],
    "sums with other bounds": [
        ("\\sum_{k=0}^{n-1} a_k b_{n-k-1}", "\\sum_{k=0}^{n-2} a_k b_{n-k-2}"),
        ("\\int_0^1 f(x) dx", "\\int_0^2 f(x) dx"),
    ],
    "numbers in another base": [("2516_8", "2516_7"), ("1A_{16}", "A1_{16}"), ("101_2", "5")],
    "a trivial equation": [("1", "x = x"), ("7", "x")],
}


@pytest.mark.parametrize(("gold", "answer"), [pair for pairs in SAME.values() for pair in pairs])
def test_the_same_written_otherwise_agrees(gold, answer):
    assert agree(gold, answer) is True
    assert agree(gold, gold) is True


@pytest.mark.parametrize(("gold", "answer"), [pair for pairs in DIFFERENT.values() for pair in pairs])
def test_another_answer_does_not_agree_in_either_order(gold, answer):
    assert agree(gold, answer) is not True
    assert agree(answer, gold) is not True


def test_what_holds_for_positive_numbers_is_accepted_where_the_problem_says_so():
    assert agree("\\sqrt{x^2}", "x") is False
    assert agree("\\sqrt{x^2}", "x", positive=True) is True


@pytest.mark.parametrize(
    "text",
    [
        "\\foo x",
        "x \\foo 3",
        "\\begin{tikzpicture} x \\end{tikzpicture}",
        "true",
        "speed + 3",
        "x @ 3",
        "(1, 2",
        "\\frac{1}",
        "3 4",
        "x^^2",
    ],
)
def test_what_the_grammar_does_not_know_whole_is_no_formula(text):
    assert agree("x + 3", text) is None


def test_letters_of_a_word_are_no_product():
    assert agree("listen", "silent") is None
    assert agree("xyz", "zyx") is True
