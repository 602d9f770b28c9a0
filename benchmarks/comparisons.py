"""Whether two readings are surely different or surely the same, by values at random points.

Exact where both are rational. Unions of intervals are compared by membership, equations at roots of the one, inequalities by
truth at points. Neither `different` nor `same` answers yes where it is unsure, so that one is no negation of the other.
"""

import cmath
import itertools
import math
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from benchmarks.readings import Node, names, read, walk

Value = Fraction | float | complex
NUM_POINTS, NUM_SAMPLES, MAX_EXPONENT, MAX_FACTORIAL = 3, 200, 5000, 2500
ABSOLUTE, RELATIVE, SMALL, SMALL_RELATIVE = 2e-6, 1e-5, 1e-3, 1e-3  # beyond what the judge's policy takes for equal
EQUAL = 1e-9  # relative, of what is the same
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "ln": cmath.log, "exp": cmath.exp,
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
}  # fmt: skip
_CONSTANTS: dict[str, Value] = {"π": complex(math.pi), "e": complex(math.e), "i": 1j}
_LESS = {"<": lambda a, b: a < b, "≤": lambda a, b: a <= b, ">": lambda a, b: a > b, "≥": lambda a, b: a >= b}
_FAILURES = (ZeroDivisionError, OverflowError, ValueError, TypeError)


def are_different(gold: str, answer: str) -> bool:
    """Surely different as texts of answers."""
    left, right = read(gold), read(answer)
    return left is not None and right is not None and different(left, right)


def are_same(gold: str, answer: str) -> bool:
    """Surely the same as texts of answers."""
    left, right = read(gold), read(answer)
    return left is not None and right is not None and same(left, right)


# ---------------------------------------------------------------- values


def point(index: int, *, signed: bool = False) -> Callable[[str], Fraction]:
    """A coordinate for every name, the same in every run; the first three positive unless `signed`."""

    def coordinate(name: str) -> Fraction:
        number = zlib.crc32(f"{index}/{name}".encode())
        size = Fraction(600 + number % 1300, 1000)
        return -size if signed and number & 4096 else size

    return coordinate


def value(node: Node, at: Callable[[str], Value], sign: int = 1) -> Value:
    """The value of a formula at a point, `sign` standing for every plus-minus."""
    parts = [value(part, at, sign) for part in node.parts]
    return _VALUES[node.kind](node, parts, at, sign)


def _sum(node: Node, parts: list[Value], _: object, sign: int) -> Value:
    signs = [{"+": 1, "-": -1, "±": sign}[mark] for mark in node.mark]
    return sum((one * part for one, part in zip(signs, parts, strict=True)), start=Fraction(0))


def _product(node: Node, parts: list[Value], _: object, __: int) -> Value:
    result = parts[0]
    for mark, part in zip(node.mark, parts[1:], strict=True):
        result = result / part if mark == "/" else result * part
    return result


def _power(_: Node, parts: list[Value], __: object, ___: int) -> Value:
    base, exponent = parts
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if abs(exponent) > MAX_EXPONENT:
            raise OverflowError(str(exponent))
        return base ** int(exponent)
    return complex(base) ** complex(exponent)


def _root(_: Node, parts: list[Value], __: object, ___: int) -> Value:
    inner, index = complex(parts[0]), parts[1] if len(parts) > 1 else Fraction(2)
    if inner.imag == 0 and inner.real < 0 and isinstance(index, Fraction) and index.denominator == 1 and index % 2:
        return complex(-((-inner.real) ** float(1 / index)))
    return inner ** complex(1 / index)


def _call(node: Node, parts: list[Value], _: object, __: int) -> Value:
    result = _FUNCTIONS[node.mark](complex(parts[0]))
    return result ** complex(parts[1]) if len(parts) > 1 else result


def _log(_: Node, parts: list[Value], __: object, ___: int) -> Value:
    base = complex(parts[1]) if len(parts) > 1 else complex(math.e)
    return cmath.log(complex(parts[0])) / cmath.log(base)


def _factorial(number: Value) -> Value:
    if isinstance(number, Fraction) and number.denominator == 1 and number <= MAX_FACTORIAL:
        return Fraction(math.factorial(int(number)))
    if complex(number).imag:
        raise ValueError("a factorial of a complex number")
    return complex(math.gamma(complex(number).real + 1))


def _binomial(_: Node, parts: list[Value], __: object, ___: int) -> Value:
    above, below = parts
    return _factorial(above) / _factorial(below) / _factorial(above - below)


def _no_value(node: Node, *_: object) -> Value:
    raise ValueError(f"{node.kind} has no value")


_VALUES: dict[str, Callable[..., Value]] = {
    **dict.fromkeys(("heading", "relation", "list", "set", "tuple", "union", "empty", "matrix", "row"), _no_value),
    "number": lambda node, *_: Fraction(node.mark),
    "based": lambda node, *_: Fraction(int(*_based(node))),
    "name": lambda node, _, at, __: at(node.mark),
    "unit": lambda node, _, at, __: at(f"unit {node.mark}"),
    "constant": lambda node, *_: _CONSTANTS[node.mark],
    "infinity": lambda *_: math.inf,
    "group": lambda _, parts, *__: parts[0],
    "absolute": lambda _, parts, *__: abs(parts[0]) if isinstance(parts[0], Fraction) else complex(abs(parts[0])),
    "fraction": lambda _, parts, *__: parts[0] / parts[1],
    "factorial": lambda _, parts, *__: _factorial(parts[0]),
    "sum": _sum, "product": _product, "power": _power, "root": _root, "call": _call, "log": _log, "binomial": _binomial,
}  # fmt: skip


def _based(node: Node) -> tuple[str, int]:
    digits, _, base = node.mark.partition("_")
    return digits, int(base)


def number(node: Node) -> Value | None:
    """The value of a formula without variables; None when it has some, or none can be computed."""
    if names(node) or any(part.kind in ("unit", "infinity") for part in walk(node)):
        return None
    try:
        found = value(node, point(0))
    except _FAILURES:
        return None
    return found if isinstance(found, Fraction) or cmath.isfinite(found) else None


# ---------------------------------------------------------------- different


def different(left: Node, right: Node) -> bool:
    """Surely not the same answer."""
    if _is_formula(left) and _is_formula(right):
        return _formulas_differ(left, right)
    if left.kind == right.kind and left.kind in _DIFFERENT:
        return _DIFFERENT[left.kind](left, right)
    if "list" in (left.kind, right.kind) or "set" in (left.kind, right.kind):
        return _lists_differ(left, right)
    return False


def _is_formula(node: Node) -> bool:
    return all(_VALUES[part.kind] is not _no_value for part in walk(node))


def _variants(node: Node) -> tuple[int, ...]:
    return (1, -1) if any("±" in part.mark for part in walk(node) if part.kind == "sum") else (1,)


def _formulas_differ(left: Node, right: Node) -> bool:
    """For every choice of the signs of the one there is none of the other with the same values, or the other way round."""
    try:
        lefts, rights = ([_values(node, sign) for sign in _variants(node)] for node in (left, right))
    except _FAILURES:
        return False
    return any(all(map(_apart, itertools.repeat(one), rights)) for one in lefts) or any(
        all(map(_apart, itertools.repeat(one), lefts)) for one in rights
    )


def _values(node: Node, sign: int) -> list[Value]:
    found = [value(node, point(index), sign) for index in range(NUM_POINTS)]
    if any(not isinstance(one, Fraction) and cmath.isnan(one) for one in found):
        raise ValueError("not a number")
    return found


def _apart(lefts: list[Value], rights: list[Value]) -> bool:
    return any(numbers_differ(left, right) for left, right in zip(lefts, rights, strict=True))


def numbers_differ(left: Value, right: Value) -> bool:
    """By more than any tolerance: whole numbers exactly, others beyond what rounding explains."""
    exact = isinstance(left, Fraction) and isinstance(right, Fraction)
    if exact and left.denominator == right.denominator == 1:
        return left != right
    if not exact:
        try:
            left, right = complex(left), complex(right)
        except OverflowError:
            return False
        if not (cmath.isfinite(left) and cmath.isfinite(right)):
            return left != right
    size, gap = max(abs(left), abs(right)), abs(left - right)
    return gap > Fraction(SMALL_RELATIVE) * size if size < SMALL else gap > max(ABSOLUTE, Fraction(RELATIVE) * size)


def _lists_differ(left: Node, right: Node) -> bool:
    """Some item of the one is none of the other."""
    lefts, rights = _items(left), _items(right)
    return any(all(different(one, other) for other in rights) for one in lefts) or any(
        all(different(one, other) for other in lefts) for one in rights
    )


def _items(node: Node) -> tuple[Node, ...]:
    return node.parts if node.kind in ("list", "set") else (node,)


def _tuples_differ(left: Node, right: Node) -> bool:
    if is_interval(left) and is_interval(right):
        return _unions_differ(left, right)
    return left.mark == right.mark and _rows_differ(left, right)


def is_interval(node: Node) -> bool:
    """Surely one: of two ends, with brackets of two kinds or an infinite end."""
    infinite = any(part.kind == "infinity" for part in walk(node))
    return node.kind == "tuple" and len(node.parts) == 2 and (node.mark in ("(]", "[)") or infinite)


def _rows_differ(left: Node, right: Node) -> bool:
    if len(left.parts) != len(right.parts):
        return True
    return any(different(one, other) for one, other in zip(left.parts, right.parts, strict=True))


def _unions_differ(left: Node, right: Node) -> bool:
    """Membership at the ends, beside them and between them."""
    try:
        lefts, rights = _intervals(left), _intervals(right)
    except _FAILURES:
        return False
    ends = sorted({end for low, high, _ in lefts + rights for end in (low, high) if math.isfinite(end)})
    if any(0 < high - low < SMALL for low, high in itertools.pairwise(ends)):
        return False
    near = [end + shift for end in ends for shift in (-1e-4, 0.0, 1e-4)]
    return any(_contain(lefts, place) != _contain(rights, place) for place in near)


def _intervals(node: Node) -> list[tuple[float, float, str]]:
    found = []
    for part in node.parts if node.kind == "union" else (node,):
        if part.kind != "tuple" or len(part.parts) != 2 or names(part):
            raise ValueError("no interval")
        low, high = (complex(value(end, point(0))) for end in part.parts)
        if (low.imag and cmath.isfinite(low)) or (high.imag and cmath.isfinite(high)) or not low.real < high.real:
            raise ValueError("no interval of real numbers")
        found.append((low.real, high.real, part.mark))
    return found


def _contain(intervals: list[tuple[float, float, str]], place: float) -> bool:
    return any(
        low < place < high or (place == low and mark[0] == "[") or (place == high and mark[1] == "]")
        for low, high, mark in intervals
    )


def _relations_differ(left: Node, right: Node) -> bool:
    """By the right sides of a name, at roots of an equation, by truth at points."""
    if left.mark == right.mark == "=":
        if _spelled(left.parts[0]) is not None and _spelled(left.parts[0]) == _spelled(right.parts[0]):
            return different(left.parts[1], right.parts[1])
        return _roots_differ(left, right) or _roots_differ(right, left)
    if {"=", "≠"} & set(left.mark + right.mark):
        return False
    return _truth_differs(left, right)


def _spelled(node: Node) -> str | None:
    """A name, a heading, or a tuple of names."""
    if node.kind in ("name", "heading"):
        return node.mark
    marks = [_spelled(part) for part in node.parts]
    return ",".join(filter(None, marks)) if node.kind == "tuple" and None not in marks else None


def _roots_differ(left: Node, right: Node) -> bool:
    """A real solution of the one is none of the other."""
    if not all(_is_formula(part) for part in (*left.parts, *right.parts)):
        return False
    generator, variables = random.Random(0), sorted(names(left))
    for name in variables * 3:
        others = {other: generator.uniform(-4, 4) for other in variables}
        for root in _real_roots(left, name, others):
            if abs(_gap(left, others | {name: root})) < 1e-9 and abs(_gap(right, others | {name: root})) > 1e-3:
                return True
    return False


def _gap(relation: Node, at: Mapping[str, float]) -> complex:
    """The sides' difference, relative to their size; 0 where it has no value, which claims nothing."""
    try:
        sides = [complex(value(side, lambda name: complex(at.get(name, math.pi)))) for side in relation.parts]
    except _FAILURES:
        return 0
    gap = (sides[0] - sides[1]) / max(1.0, abs(sides[0]), abs(sides[1]))
    return gap if cmath.isfinite(gap) else 0


def _real_roots(relation: Node, name: str, others: Mapping[str, float]) -> list[float]:
    """Roots between places of opposite sign, by bisection."""
    places = [-8 + 0.37 * step for step in range(45)]
    gaps = [_gap(relation, {**others, name: place}) for place in places]
    found = []
    for low, high, first, last in zip(places, places[1:], gaps, gaps[1:], strict=False):
        if abs(first.imag) + abs(last.imag) < 1e-12 and first.real * last.real < 0:
            found.append(_bisected(relation, name, others, low, high))
    return found[:3]


def _bisected(relation: Node, name: str, others: Mapping[str, float], low: float, high: float) -> float:
    rises = _gap(relation, {**others, name: high}).real > 0
    for _ in range(60):
        middle = (low + high) / 2
        if (_gap(relation, {**others, name: middle}).real > 0) == rises:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _truth_differs(left: Node, right: Node) -> bool:
    generator, variables = random.Random(0), sorted(names(left) | names(right))
    ends = [found.real for side in (*left.parts, *right.parts) if (found := _real(side)) is not None]
    for _ in range(NUM_SAMPLES):
        near = [generator.uniform(-10, 10), *ends, *(end + shift for end in ends for shift in (-0.01, 0.01))]
        at = {name: generator.choice(near) for name in variables}
        truths = [_truth(relation, at) for relation in (left, right)]
        if None not in truths and truths[0] != truths[1]:
            return True
    return False


def _real(node: Node) -> complex | None:
    found = number(node)
    return None if found is None or complex(found).imag else complex(found)


def _truth(relation: Node, at: Mapping[str, float]) -> bool | None:
    try:
        sides = [complex(value(side, lambda name: complex(at.get(name, math.pi)))) for side in relation.parts]
    except _FAILURES:
        return None
    if any(side.imag for side in sides):
        return None
    gaps = zip(relation.mark, sides, sides[1:], strict=False)
    return all(_LESS[mark](one.real, other.real) for mark, one, other in gaps)


_DIFFERENT: dict[str, Callable[[Node, Node], bool]] = {
    "list": _lists_differ,
    "set": _lists_differ,
    "tuple": _tuples_differ,
    "union": _unions_differ,
    "matrix": _rows_differ,
    "row": _rows_differ,
    "relation": _relations_differ,
}


# ---------------------------------------------------------------- the same


def same(left: Node, right: Node) -> bool:
    """Surely the same answer: the same structure, and the same values at points."""
    if _is_formula(left) and _is_formula(right):
        return names(left) == names(right) and _values_agree(left, right)
    if {left.kind, right.kind} == {"list", "set"}:
        return len(left.parts) == len(right.parts) and _items_agree(left.parts, list(right.parts))
    if left.kind != right.kind or len(left.parts) != len(right.parts):
        return False
    if left.kind in ("heading", "empty"):
        return left.mark == right.mark
    if left.kind == "relation":
        return _relations_agree(left, right)
    if left.kind in ("list", "set", "union"):
        return _items_agree(left.parts, list(right.parts))
    matches = left.kind in ("matrix", "row") or left.mark == right.mark
    return matches and all(map(same, left.parts, right.parts))


def _relations_agree(left: Node, right: Node) -> bool:
    flipped = right.mark[::-1].translate(str.maketrans("<>≤≥", "><≥≤"))
    return (left.mark == right.mark and all(map(same, left.parts, right.parts))) or (
        left.mark == flipped and all(map(same, left.parts, right.parts[::-1]))
    )


def _items_agree(lefts: Sequence[Node], rights: list[Node]) -> bool:
    """In any order."""
    for left in lefts:
        partner = next((right for right in rights if same(left, right)), None)
        if partner is None:
            return False
        rights.remove(partner)
    return True


def _values_agree(left: Node, right: Node) -> bool:
    if len(_variants(left)) != len(_variants(right)):
        return False
    try:
        pairs = [
            (value(left, point(index), sign), value(right, point(index), sign))
            for index in range(NUM_POINTS)
            for sign in _variants(left)
        ]
    except _FAILURES:
        return False
    return all(_agree(one, other) for one, other in pairs)


def _agree(left: Value, right: Value) -> bool:
    if left == right or (isinstance(left, Fraction) and isinstance(right, Fraction)):
        return left == right
    try:
        return abs(complex(left) - complex(right)) <= EQUAL * abs(complex(left))
    except OverflowError:
        return False


def has_free_constants(text: str) -> bool:
    r"""Whether letters may stand for any number (`c_1`, `C`, `k` beside pi), so that other texts say the same."""
    node = read(text)
    if node is None:
        return False
    letters = {name.partition("_")[0] for name in names(node)}
    alone = {part.mark for one in walk(node) if one.kind == "sum" for part in one.parts if part.kind == "name"}
    if (
        letters & {"c", "C", "K"}
        or alone & {"k", "D"}
        or letters >= {"A", "B"}
        or (letters & {"k", "n", "m", "t"} and re.search(r"\\pi|\\circ", text))
    ):
        return True
    whole = _is_formula(node) or (node.kind == "relation" and node.mark == "=" and _is_formula(node.parts[-1]))
    return not whole and bool(letters & {"t", "s", "r", "k", "n", "m", "\\lambda", "\\mu", "a", "b"})


def differs_below_zero(gold: str, answer: str) -> bool:
    """Surely different formulas, where letters may be negative too."""
    left, right = read(gold), read(answer)
    if left is None or right is None or not (_is_formula(left) and _is_formula(right)):
        return False
    try:
        return any(
            numbers_differ(value(left, point(index, signed=True)), value(right, point(index, signed=True)))
            for index in range(2 * NUM_POINTS)
        )
    except _FAILURES:
        return False
