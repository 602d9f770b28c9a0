"""Whether two scalars are equal: exactly where they are rational, else with rising precision, with symbols at points of both signs."""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath
from mpmath.libmp import NoConvergence

from data.domains.formulas.nodes import Node, negative, symbols_of
from data.domains.formulas.values import SPECIAL, Point, digits, exact, stable_fraction
from data.domains.policy import Policy

PRECISIONS = (50, 400)  # decimal digits of a first look, and of a second where digits may have cancelled
PRECISION_OF_SPECIAL = 100  # in place of the second: the gamma function takes a second at 400 digits
_NUM_POINTS, _NUM_NEEDED, _MAX_TRIES = 6, 3, 14
_COMPLEX_CALLS = frozenset({"conjugate", "Re", "Im", "arg"})
_COMPLEX_NAMES = re.compile(r"[zw](?:_.*)?|\\omega")


def same_value(gold: Node, answer: Node, policy: Policy, *, positive: bool) -> bool:
    """Whether two scalars are equal; a decimal may stand for what it is the rounding of."""
    left, right = exact(gold), exact(answer)
    if left is not None and right is not None:
        return left == right or _is_rounding(gold, answer, left, right, policy)
    symbols = symbols_of(gold, answer) | _names(gold) | _names(answer)
    if not symbols:
        return _same_number(gold, answer, left, right, policy)
    return _same_at_points(gold, answer, positive=positive)


def _names(node: Node) -> frozenset[str]:
    return frozenset(part.label for part in node.walk() if part.head == "apply" and not part.parts)


# ---------------------------------------------------------------- numbers


def decimal_places(node: Node) -> int | None:
    """The digits behind the point of a plain decimal; None for another node."""
    while node.head == "product" and len(node.parts) == 2 and exact(node.parts[0]) in (1, -1):
        node = node.parts[1]
    if node.head != "number" or "." not in node.label or "e" in node.label.lower():
        return None
    return len(node.label.strip("()").partition(".")[2])


def _is_rounding(gold: Node, answer: Node, left: Fraction, right: Fraction, policy: Policy) -> bool:
    """One is a decimal of enough places, and the other rounded to as many is that decimal."""
    for decimal, value, other in ((answer, right, left), (gold, left, right)):
        places = decimal_places(decimal)
        if places is None or not policy.rounded_places or places < policy.rounded_places:
            continue
        others = decimal_places(gold if decimal is answer else answer)
        if others is not None and others < places:
            continue
        scale = Fraction(10) ** places
        has_digits = abs(value) * scale >= 10 ** (policy.rounded_places - 1)
        if has_digits and abs(value - other) * scale <= Fraction(1, 2):
            return True
    return False


def _same_number(gold: Node, answer: Node, left: Fraction | None, right: Fraction | None, policy: Policy) -> bool:
    """Numbers that are not both rational."""
    with mpmath.workdps(PRECISIONS[0]):
        pair = _pair(gold, answer, _NAMES)
        if pair is None:
            return False
        if _close(pair, PRECISIONS[0]):
            return _is_close_again(gold, answer, _NAMES)
        value, other, decimal = (left, pair[1], gold) if left is not None else (right, pair[0], answer)
    places = decimal_places(decimal) if value is not None else None
    if (
        value is None
        or places is None
        or not policy.rounded_places
        or places < policy.rounded_places
        or getattr(other, "imag", 0)
    ):
        return False
    with mpmath.workdps(PRECISIONS[0] + places):
        scale = mpmath.mpf(10) ** places
        difference = abs(
            mpmath.mpf(value.numerator) / value.denominator - _value(answer if decimal is gold else gold, _NAMES)
        )
        return abs(value) * 10**places >= 10 ** (policy.rounded_places - 1) and bool(difference * scale <= 0.5000001)


def _is_close_again(gold: Node, answer: Node, values: dict[str, Any]) -> bool:
    """At a precision at which a chance agreement would be seen, and digits that cancelled are there again."""
    is_slow = any(part.head == "call" and part.label in SPECIAL for node in (gold, answer) for part in node.walk())
    precision = PRECISION_OF_SPECIAL if is_slow else PRECISIONS[1]
    with mpmath.workdps(precision):
        pair = _pair(gold, answer, values)
        return pair is not None and _close(pair, precision)


def _close(pair: Sequence[Any], precision: int) -> bool:
    """Equal up to the last tenth of the digits."""
    left, right = pair
    size = max(abs(left), abs(right))
    return bool(abs(left - right) <= size * mpmath.mpf(10) ** -(precision * 4 // 5))


# ---------------------------------------------------------------- points


class _Values(dict[str, Any]):
    """Values of symbols at one point, as numbers of mpmath, made when asked for."""

    def __init__(self, point: int, *, positive: bool, complexes: frozenset[str]) -> None:
        self.point, self.positive, self.complexes = point, positive, complexes

    def __missing__(self, name: str) -> Any:  # noqa: ANN401  a number of mpmath
        value = mpmath.mpf(self.part(name, "real"))
        if name in self.complexes:
            value = mpmath.mpc(value, mpmath.mpf(self.part(name, "imaginary")))
        return value

    def part(self, name: str, which: str) -> float:
        scale = (0.9, 2.7, 5.3)[self.point % 3]
        size = 0.07 + scale * stable_fraction(name, self.point, which)
        is_negative = not self.positive and stable_fraction(name, self.point, which, "sign") < 0.5
        return -size if is_negative and self.point else size


_NAMES = _Values(1, positive=True, complexes=frozenset())  # of what has a name and no value, as infinity


def _value(node: Node, values: Any) -> Any:  # noqa: ANN401  a number of mpmath
    return Point(digits(), values).at(node)


def _pair(gold: Node, answer: Node, values: Any) -> tuple[Any, Any] | None:  # noqa: ANN401  as above
    """Both values at a point; None where one has none."""
    try:
        left, right = _value(gold, values), _value(answer, values)
        return (left, right) if mpmath.isfinite(left) and mpmath.isfinite(right) else None
    except (ArithmeticError, ValueError, TypeError, RecursionError, KeyError, NoConvergence):
        return None


def _complexes(*nodes: Node) -> frozenset[str]:
    """Symbols that stand for complex numbers: by their letter, or below a sign that only these need."""
    parts = [part for node in nodes for part in node.walk()]
    is_complex = any(
        (part.head == "constant" and part.label == "i") or (part.head == "call" and part.label in _COMPLEX_CALLS)
        for part in parts
    )
    if not is_complex:
        return frozenset()
    below = [
        name for part in parts if part.head == "call" and part.label in _COMPLEX_CALLS for name in symbols_of(part)
    ]
    return frozenset([name for name in symbols_of(*nodes) if _COMPLEX_NAMES.fullmatch(name)] + below)


def _has_unit(*nodes: Node) -> bool:
    return any(part.head == "constant" and part.label == "i" for node in nodes for part in node.walk())


def _same_at_points(gold: Node, answer: Node, *, positive: bool) -> bool:
    """Equal wherever both have a value; where both are real for positive values alone, these decide."""
    complexes = _complexes(gold, answer)
    is_complex = bool(complexes) or _has_unit(gold, answer)
    for only_positive in (False, True):
        num_agreeing = 0
        for point in range(_MAX_TRIES):
            values = _Values(point, positive=positive or only_positive, complexes=complexes)
            agree = _agree(gold, answer, values, is_complex=is_complex)
            if agree is False:
                return False
            num_agreeing += agree is True
            if num_agreeing == _NUM_POINTS:
                return True
        if num_agreeing >= _NUM_NEEDED:
            return True
    return _same_at_integers(gold, answer)


def _agree(gold: Node, answer: Node, values: Any, *, is_complex: bool) -> bool | None:  # noqa: ANN401  as above
    """Whether both values are equal at a point; None where it says nothing: none has a value, or none is real."""
    with mpmath.workdps(PRECISIONS[0]):
        pair = _pair(gold, answer, values)
        if pair is None:
            return None
        is_real = [not is_complex and not getattr(value, "imag", 0) for value in pair]
        if not is_complex and not any(is_real):
            return None
        if _close(pair, PRECISIONS[0]):
            return True
    return _is_close_again(gold, answer, values)


def _same_at_integers(gold: Node, answer: Node) -> bool:
    """For what has values at whole numbers alone, as (-1)^n."""
    num_agreeing = 0
    names = sorted(symbols_of(gold, answer))
    for point in range(_MAX_TRIES):
        values = {name: mpmath.mpf(1 + int(9 * stable_fraction(name, point, "whole"))) for name in names}
        agree = _agree(gold, answer, _Integers(values, point), is_complex=False)
        if agree is False:
            return False
        num_agreeing += agree is True
    return num_agreeing >= _NUM_NEEDED


class _Integers(_Values):
    """Whole numbers for symbols, and any for names."""

    def __init__(self, values: dict[str, Any], point: int) -> None:
        super().__init__(point, positive=True, complexes=frozenset())
        self.update(values)


# ---------------------------------------------------------------- equations


def constant_ratio(
    golds: Sequence[Node], answers: Sequence[Node], *, positive: bool
) -> Fraction | float | complex | None:
    """Of the difference of two sides to that of two others; None where it is none, or one difference is zero."""
    left, right = (Node("sum", (sides[0], negative(sides[1]))) for sides in (golds, answers))
    if symbols_of(left) != symbols_of(right):
        return None
    complexes = _complexes(left, right)
    first: Any = None
    num = 0
    with mpmath.workdps(PRECISIONS[0]):
        for point in range(_MAX_TRIES):
            pair = _pair(left, right, _Values(point, positive=positive, complexes=complexes))
            if pair is None:
                continue
            sizes = [
                _pair(*sides, _Values(point, positive=positive, complexes=complexes)) for sides in (golds, answers)
            ]
            if any(_is_zero(value, size) for value, size in zip(pair, sizes, strict=True)):
                return None
            ratio = pair[0] / pair[1]
            if first is not None and not _close((first, ratio), PRECISIONS[0]):
                return None
            first = ratio
            num += 1
            if num == _NUM_POINTS:
                break
    if num < _NUM_NEEDED:
        return None
    return complex(first) if getattr(first, "imag", 0) else float(first)


def _is_zero(value: Any, sides: tuple[Any, Any] | None) -> bool:  # noqa: ANN401  as above
    size = max(map(abs, sides)) if sides else 0
    return bool(abs(value) <= size * mpmath.mpf(10) ** -(PRECISIONS[0] // 2))
