"""Values: exact within limits, and nothing that runs away."""

from fractions import Fraction

import pytest

from data.domains.formulas.cursor import Reading
from data.domains.formulas.grammar import parsed
from data.domains.formulas.normal import normalised
from data.domains.formulas.values import MAX_BITS, ExhaustedError, NoValueError, Point, allow, exact, floats


def node_of(text: str):
    return parsed(normalised(text), Reading()).node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1-\\frac{1}{3^{70}}", 1 - Fraction(1, 3**70)),
        ("\\frac{2004!}{2002!}", Fraction(2004 * 2003)),
        ("\\sqrt{\\frac{49}{4}}", Fraction(7, 2)),
        ("8^{2/3}", Fraction(4)),
        ("(-8)^{1/3}", Fraction(-2)),
        ("2\\frac{3}{4}", Fraction(11, 4)),
        ("-2\\frac{3}{4}", Fraction(-11, 4)),
        ("1.5\\times 10^{-4}", Fraction(3, 20000)),
        ("4.5e3", Fraction(4500)),
        ("37.5\\%", Fraction(3, 8)),
        ("7!!", Fraction(105)),
        ("0^0", None),
        ("\\frac{1}{0}", None),
        ("\\sqrt{2}", None),
        ("9^{9^{9^9}}", None),
        ("100000000!", None),
        ("2^{99999999}", None),
        ("\\binom{10^9}{5 \\cdot 10^8}", None),
    ],
)
def test_rational_numbers_are_exact_within_limits(text, value):
    assert exact(node_of(text)) == value


def test_the_limit_of_exact_numbers_is_that_of_their_bits():
    assert exact(node_of(f"2^{{{MAX_BITS // 2}}}")) == 2 ** (MAX_BITS // 2)
    assert exact(node_of(f"2^{{{MAX_BITS}}}")) is None


def test_a_series_within_a_series_ends_with_the_work_that_is_allowed():
    node = node_of("\\sum_{k=1}^{99}" * 4 + " k")
    allow(10_000)
    with pytest.raises(ExhaustedError):
        Point(floats(), {}).at(node)


@pytest.mark.parametrize("text", ["\\exp(\\exp(\\exp(99)))", "(10^9)!", "\\sum_{k=1}^{10^9} k", "x^{x^{x^{999}}}"])
def test_a_value_beyond_the_limits_is_none(text):
    allow(10_000)
    with pytest.raises((NoValueError, OverflowError)):
        Point(floats(), {"x": 9.5}).at(node_of(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\sin \\frac{\\pi}{6} + x^2", 4.5),
        ("\\frac{x!}{2}", 1.0),
        ("|3 - 5x|", 7.0),
        ("\\log_x 8", 3.0),
        ("\\sqrt[3]{-x^3}", -2.0),
    ],
)
def test_a_formula_has_the_value_that_is_worked_by_hand(text, value):
    allow(10_000)
    assert Point(floats(), {"x": 2.0}).at(node_of(text)) == pytest.approx(value, abs=1e-12)


def test_a_cross_product_turns_its_sign_and_is_linear():
    values = {"a": 1.5, "a twin": 0.4, "b": -0.7, "b twin": 2.0, "c": 0.3, "c twin": 0.9, "k": 3.0}
    allow(10_000)
    point = Point(floats(), values)
    left, right = (point.at(node_of(text)) for text in ("\\vec a \\times \\vec b", "\\vec b \\times \\vec a"))
    assert left == -right == 1.5 * 2.0 - 0.4 * -0.7
    whole = point.at(node_of("k \\vec a \\times (\\vec b + \\vec c)"))
    assert whole == pytest.approx(3.0 * (left + point.at(node_of("\\vec a \\times \\vec c"))))
