"""Values of formulas: exact where all is rational, else at points, with floats or with as many digits as are asked for.

What has no value of its own (an unknown function, a union, an interval inside a formula) gets one from its arguments' values, by a smooth
function that depends on its name: equal arguments give equal values, others do not. Every step has limits before it, so nothing can hang.
"""

import cmath
import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import mpmath

from data.domains.formulas.nodes import Node
from data.domains.formulas.notation import COMMUTING

MAX_BITS = 1 << 16  # of an exact number
MAX_FACTORIAL, MAX_TERMS = 3000, 2000
_NUM_PLACES = 3  # at which the body of a series is taken
_LINEAR = frozenset({"\\sum", "\\int", "\\oint", "\\iint", "\\iiint", "\\lim"})
_SPECIAL_WORK = 1000  # nodes that a special function counts as
_LARGEST_LOG = 10_000.0  # natural logarithm of the largest value
_MAX_ANGLE = 1e12


class NoValueError(ArithmeticError):
    """No value at this point, or none within the limits."""


class ExhaustedError(Exception):
    """A comparison has used its work; no ArithmeticError, so that it ends the whole comparison and not one point."""


class _Work(threading.local):
    """What a comparison may still do, in nodes that are evaluated."""

    left = 0


_WORK = _Work()


def allow(num_nodes: int) -> None:
    """Begin a comparison that may evaluate so many nodes."""
    _WORK.left = num_nodes


# ---------------------------------------------------------------- exact


def exact(node: Node) -> Fraction | None:
    """The rational number that a node is; None where it is another one, or beyond the limits."""
    if node.head == "number":
        return node.number
    rule = _EXACT.get(node.head)
    value = rule(node) if rule else None
    return value if value is None or _num_bits(value) <= MAX_BITS else None


def _num_bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _exact_parts(node: Node) -> list[Fraction] | None:
    found = []
    for part in node.parts:
        value = exact(part)
        if value is None:
            return None
        found.append(value)
    return found


def _exact_sum(node: Node) -> Fraction | None:
    values = _exact_parts(node)
    return None if values is None else sum(values, Fraction(0))


def _exact_product(node: Node) -> Fraction | None:
    result = Fraction(1)
    for value in _exact_parts(node) or [None]:
        if value is None or _num_bits(result) + _num_bits(value) > 2 * MAX_BITS:
            return None
        result *= value
    return result


def _exact_quotient(node: Node) -> Fraction | None:
    values = _exact_parts(node)
    return values[0] / values[1] if values and values[1] else None


def _exact_power(node: Node) -> Fraction | None:
    values = _exact_parts(node)
    if values is None:
        return None
    base, exponent = values
    if exponent.denominator != 1:
        root = _exact_root(base, exponent.denominator)
        return None if root is None else _to_whole_power(root, exponent.numerator)
    return _to_whole_power(base, exponent.numerator)


def _to_whole_power(base: Fraction, exponent: int) -> Fraction | None:
    if base in (0, 1, -1):
        if not base and exponent <= 0:
            return None
        return base ** (exponent % 2 + 2)
    return base**exponent if abs(exponent) * _num_bits(base) <= MAX_BITS else None


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The real root, where it is rational; of negative numbers for odd degrees."""
    if degree > 64 or (value < 0 and degree % 2 == 0):
        return None
    roots = [_whole_root(abs(value.numerator), degree), _whole_root(value.denominator, degree)]
    if None in roots:
        return None
    return Fraction(roots[0], roots[1]) * (1 if value >= 0 else -1)  # ty: ignore[invalid-argument-type]


def _whole_root(value: int, degree: int) -> int | None:
    root = math.isqrt(value) if degree == 2 else _newton_root(value, degree)
    return root if root**degree == value else None


def _newton_root(value: int, degree: int) -> int:
    """The whole part of a root, from above."""
    if value < 2:
        return value
    root = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * root + value // root ** (degree - 1)) // degree
        if better >= root:
            return root
        root = better


def _exact_call(node: Node) -> Fraction | None:
    rule = _EXACT_CALLS.get(node.label)
    values = _exact_parts(node) if rule else None
    if rule is None or values is None or not values:
        return None
    try:
        return rule(*values)
    except TypeError:  # another number of arguments
        return None


def _factorial(value: Fraction, step: int = 1) -> Fraction | None:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        return None
    return Fraction(math.prod(range(value.numerator, 0, -step)))


def _binomial(above: Fraction, below: Fraction) -> Fraction | None:
    if above.denominator != 1 or below.denominator != 1 or not 0 <= below <= MAX_FACTORIAL or not 0 <= above <= 10**9:
        return None
    if min(below, above - below) * max(above.numerator.bit_length(), 1) > MAX_BITS:
        return None
    return Fraction(math.comb(above.numerator, below.numerator))


def _whole(function: Callable[..., int]) -> Callable[..., Fraction | None]:
    return lambda *values: Fraction(function(*map(int, values))) if all(v.denominator == 1 for v in values) else None


_EXACT_CALLS: dict[str, Callable[..., Fraction | None]] = {
    "abs": abs,
    "floor": lambda x: Fraction(math.floor(x)),
    "ceil": lambda x: Fraction(math.ceil(x)),
    "factorial": _factorial,
    "double factorial": lambda x: _factorial(x, 2),
    "binomial": _binomial,
    "min": lambda *x: min(x),
    "max": lambda *x: max(x),
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "conjugate": lambda x: x,
    "Re": lambda x: x,
    "Im": lambda x: Fraction(0),
    "norm": abs,
}


def _exact_modulo(node: Node) -> Fraction | None:
    values = _exact_parts(node) if node.label == "\\bmod" else None
    return values[0] % values[1] if values and values[1] else None


def _exact_based(node: Node) -> Fraction | None:
    digits, _, base = node.label.partition("_")
    try:
        return Fraction(int(digits, int(base))) if len(digits) <= 300 else None
    except ValueError:
        return None


_EXACT: dict[str, Callable[[Node], Fraction | None]] = {
    "number": lambda node: node.number,
    "sum": _exact_sum,
    "product": _exact_product,
    "quotient": _exact_quotient,
    "power": _exact_power,
    "root": lambda node: _exact_power(
        Node("power", (node.parts[0], Node("quotient", (Node("number", (), "1", Fraction(1)), node.parts[1]))))
    ),
    "call": _exact_call,
    "percent": lambda node: None if (x := exact(node.parts[0])) is None else x / 100,
    "apply": _exact_modulo,
}


# ---------------------------------------------------------------- at points


def stable_fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on its arguments alone, the same in every process."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The functions of one kind of number."""

    number: Callable[[Fraction], Any]
    constants: Mapping[str, Any]
    functions: Mapping[str, Callable[[Any], Any]]
    power: Callable[[Any, Any], Any]


def _guarded(function: Callable[[Any], Any], limit: float) -> Callable[[Any], Any]:
    def bounded(x: Any) -> Any:  # noqa: ANN401  a number of the arithmetic
        if abs(x) > limit:
            raise NoValueError("an argument beyond the limit")
        return function(x)

    return bounded


def _functions(m: Any, log: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:  # noqa: ANN401  cmath or mpmath
    """Elementary functions from a module that has them; arguments are bounded where they must be."""
    table: dict[str, tuple[Callable[[Any], Any], float]] = {
        "exp": (m.exp, _LARGEST_LOG),
        "sinh": (m.sinh, _LARGEST_LOG),
        "cosh": (m.cosh, _LARGEST_LOG),
        "tanh": (m.tanh, _LARGEST_LOG),
        "sin": (m.sin, _MAX_ANGLE),
        "cos": (m.cos, _MAX_ANGLE),
        "tan": (m.tan, _MAX_ANGLE),
        "arcsin": (m.asin, _MAX_ANGLE),
        "arccos": (m.acos, _MAX_ANGLE),
        "arctan": (m.atan, math.inf),
        "arcsinh": (m.asinh, math.inf),
        "arccosh": (m.acosh, math.inf),
        "arctanh": (m.atanh, math.inf),
        "ln": (log, math.inf),
        "log": (log, math.inf),
        "lg": (lambda x: log(x) / math.log(10) if m is cmath else log(x) / m.ln10, math.inf),
        "cot": (lambda x: 1 / m.tan(x), _MAX_ANGLE),
        "sec": (lambda x: 1 / m.cos(x), _MAX_ANGLE),
        "csc": (lambda x: 1 / m.sin(x), _MAX_ANGLE),
        "sech": (lambda x: 1 / m.cosh(x), _LARGEST_LOG),
        "csch": (lambda x: 1 / m.sinh(x), _LARGEST_LOG),
        "coth": (lambda x: 1 / m.tanh(x), _LARGEST_LOG),
        "arccot": (lambda x: m.atan(1 / x), math.inf),
        "arcsec": (lambda x: m.acos(1 / x), math.inf),
        "arccsc": (lambda x: m.asin(1 / x), math.inf),
        "arccoth": (lambda x: m.atanh(1 / x), math.inf),
        "arcsech": (lambda x: m.acosh(1 / x), math.inf),
        "arccsch": (lambda x: m.asinh(1 / x), math.inf),
    }
    return {name: _guarded(function, limit) for name, (function, limit) in table.items()}


def _float_power(base: complex, exponent: complex) -> complex:
    return base**exponent


def _float_special(name: str) -> Callable[[complex], complex]:
    def value(x: complex) -> complex:
        return complex(_special(name, mpmath.mpc(x)))

    return value


def _special(name: str, x: Any) -> Any:  # noqa: ANN401  an mpmath number
    """Factorials, zeta and the error function, within limits."""
    _WORK.left -= _SPECIAL_WORK
    if abs(x) > 200:
        raise NoValueError(f"{name} of a large number")
    if name in ("factorial", "gamma"):
        return mpmath.gamma(x + (name == "factorial"))
    if name == "double factorial":
        return mpmath.fac2(x)
    if name == "zeta":
        return mpmath.zeta(x)
    return mpmath.erf(x) if name == "erf" else mpmath.erfc(x)


SPECIAL = ("factorial", "gamma", "double factorial", "zeta", "erf", "erfc")


@cache
def floats() -> Arithmetic:
    """Complex floats: microseconds a formula."""
    functions = _functions(cmath, cmath.log) | {name: _float_special(name) for name in SPECIAL}
    constants = {"pi": math.pi, "e": math.e, "i": 1j, "degree": math.pi / 180}
    return Arithmetic(
        lambda value: float(value) if abs(value) < 10**300 else _too_large(), constants, functions, _float_power
    )


def _too_large() -> float:
    raise NoValueError("a number beyond the limit")


@cache
def digits() -> Arithmetic:
    """Numbers of mpmath at the precision that is set when they are used."""
    m = mpmath.mp
    functions = _functions(m, m.log) | {name: (lambda x, name=name: _special(name, x)) for name in SPECIAL}
    return Arithmetic(
        lambda value: m.mpf(value.numerator) / value.denominator,
        {"pi": m.pi, "e": m.e, "i": m.mpc(0, 1), "degree": m.degree},
        functions,
        lambda base, exponent: base**exponent,
    )


@dataclass
class Point:
    """Values of symbols, in one arithmetic; `signs` lets symbols be negative."""

    arithmetic: Arithmetic
    values: Mapping[str, Any]
    twin: bool = False  # vectors have their other component
    bound: dict[str, Any] = field(default_factory=dict)

    def at(self, node: Node) -> Any:  # noqa: ANN401  a number of the arithmetic
        """Raises ArithmeticError or ValueError where the node has no value here, ExhaustedError where the work is used up."""
        _WORK.left -= 1
        if _WORK.left < 0:
            raise ExhaustedError("too much to compute")
        rule = _AT.get(node.head)
        if rule is None:
            return self.opaque(node.head + node.label, node.parts)
        return rule(self, node)

    def symbol(self, node: Node) -> Any:  # noqa: ANN401  as above
        if node.label in self.bound:
            return self.bound[node.label]
        if self.twin and node.head == "vector":
            return self.values[f"{node.label} twin"]
        return self.values[node.label]

    def constant(self, node: Node) -> Any:  # noqa: ANN401  as above
        value = self.arithmetic.constants.get(node.label)
        if value is None:
            return self.values[f"constant {node.label}"]
        return +value if callable(value) else value

    def number(self, node: Node) -> Any:  # noqa: ANN401  as above
        if self.arithmetic is floats():
            return node.real
        assert node.number is not None
        return self.arithmetic.number(node.number)

    def sum(self, node: Node) -> Any:  # noqa: ANN401  as above
        return sum(self.at(part) for part in node.parts)

    def product(self, node: Node) -> Any:  # noqa: ANN401  as above
        result: Any = 1
        for part in node.parts:
            result = result * self.at(part)
        if self.arithmetic is floats() and not abs(result) < 1e300:
            raise NoValueError("a value beyond the limit")
        return result

    def quotient(self, node: Node) -> Any:  # noqa: ANN401  as above
        return self.at(node.parts[0]) / self.at(node.parts[1])

    def power(self, node: Node) -> Any:  # noqa: ANN401  as above
        base, exponent = self.at(node.parts[0]), self.at(node.parts[1])
        return self.raised(base, exponent, exact(node.parts[1]))

    def root(self, node: Node) -> Any:  # noqa: ANN401  as above
        degree = exact(node.parts[1])
        base = self.at(node.parts[0])
        share = self.arithmetic.number(1 / degree) if degree else 1 / self.at(node.parts[1])
        return self.raised(base, share, 1 / degree if degree else None)

    def raised(self, base: Any, exponent: Any, share: Fraction | None) -> Any:  # noqa: ANN401  as above
        """A power within limits; with an odd denominator, the real root of a negative number."""
        if not base:
            if not exponent or complex(exponent).real <= 0:
                raise NoValueError("zero to no positive power")
            return base * 0
        is_whole = share is not None and share.denominator == 1
        angle = 0.0 if is_whole or (_is_real(base) and _real(base) > 0) else math.pi
        size = (abs(_log(abs(base))) + angle) * float(abs(exponent))
        if not size <= (700 if self.arithmetic is floats() else _LARGEST_LOG) or (
            is_whole and share.numerator.bit_length() > 4096
        ):
            raise NoValueError("a power beyond the limit")
        if share is not None and share.denominator % 2 and share.denominator > 1 and _is_real(base) and _real(base) < 0:
            root = self.arithmetic.power(-_real(base), exponent)
            return -root if share.numerator % 2 else root
        if is_whole:
            return base ** int(share)
        return self.arithmetic.power(base, exponent)

    def call(self, node: Node) -> Any:  # noqa: ANN401  as above
        name = node.label
        if name in ("log", "ln", "lg") and len(node.parts) == 2:
            log = self.arithmetic.functions["ln"]
            return log(self.at(node.parts[0])) / log(self.at(node.parts[1]))
        if name in self.arithmetic.functions and len(node.parts) == 1:
            return self.arithmetic.functions[name](self.at(node.parts[0]))
        rule = _CALLS.get(name)
        if rule is None:
            return self.opaque(name, node.parts)
        return rule(self, *(self.at(part) for part in node.parts))

    def cross(self, node: Node) -> Any:  # noqa: ANN401  as above
        """Of two components; it changes its sign with the order."""
        other = Point(self.arithmetic, self.values, not self.twin, self.bound)
        left, right = node.parts
        return self.at(left) * other.at(right) - other.at(left) * self.at(right)

    def series(self, node: Node) -> Any:  # noqa: ANN401  as above
        """A finite sum or product by its terms; anything else by its bounds and its body at a few places, linear in the body."""
        variable, low, high, body = node.parts
        first, last = exact(low), exact(high)
        if (
            node.label in ("\\sum", "\\prod")
            and first is not None
            and last is not None
            and first.denominator == last.denominator == 1
        ):
            if last - first > MAX_TERMS:
                raise NoValueError("a series of too many terms")
            return self.terms(node, int(first), int(last))
        values = [
            Point(self.arithmetic, self.values, self.twin, self.bound | {variable.label: self.place(place)}).at(body)
            for place in range(_NUM_PLACES)
        ]
        if node.label not in _LINEAR:
            return self.mixed(node.label, [self.at(low), self.at(high), *values])
        weights = [self.weight(node.label, low, high, place) for place in range(_NUM_PLACES)]
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    def place(self, place: int) -> Any:  # noqa: ANN401  as above
        return self.arithmetic.number(Fraction(round(1e6 * (0.2 + stable_fraction("bound", place))), 10**6))

    def weight(self, name: str, low: Node, high: Node, place: int) -> Any:  # noqa: ANN401  as above
        """Of the body's value at one place: linear in the body, and of integrals and sums between bounds the difference of two ends."""
        name = f"{name} {place}"
        if high.head == "words" or name.startswith("\\lim"):
            return self.mixed(name, [self.at(low), self.at(high)])
        last = self.at(high) + (1 if name.startswith("\\sum") else 0)
        return self.mixed(name, [last]) - self.mixed(name, [self.at(low)])

    def terms(self, node: Node, first: int, last: int) -> Any:  # noqa: ANN401  as above
        variable, _, _, body = node.parts
        size = sum(1 for _ in body.walk())
        if (last - first) * size > 20 * MAX_TERMS:
            raise NoValueError("a series of too many terms")
        result = self.arithmetic.number(Fraction(node.label == "\\prod"))
        for index in range(first, last + 1):
            bound = self.bound | {variable.label: self.arithmetic.number(Fraction(index))}
            value = Point(self.arithmetic, self.values, self.twin, bound).at(body)
            result = result * value if node.label == "\\prod" else result + value
        return result

    def apply(self, node: Node) -> Any:  # noqa: ANN401  as above
        value = _exact_modulo(node)
        if value is not None:
            return self.arithmetic.number(value)
        return self.opaque(node.label, node.parts, commutes=node.label in COMMUTING)

    def unordered(self, node: Node) -> Any:  # noqa: ANN401  as above
        ordered = node.head != "list" and node.label != "{}"
        return self.opaque(node.head + node.label, node.parts, commutes=not ordered)

    def opaque(self, name: str, parts: tuple[Node, ...], *, commutes: bool = False) -> Any:  # noqa: ANN401  as above
        values = [self.at(part) for part in parts]
        if not commutes:
            return self.mixed(name, values)
        return self.mixed(
            name, [sum(self.mixed(name, [value]) for value in values), self.arithmetic.number(Fraction(len(values)))]
        )

    def mixed(self, name: str, values: list[Any]) -> Any:  # noqa: ANN401  as above
        """A value that depends on a name and on each value at its place, smoothly; without values it is a symbol's."""
        if not values:
            return self.values[f"name {name}"]
        result = _coefficient(self.arithmetic, name, len(values), "constant")
        for place, value in enumerate(values):
            a, b, c = (_coefficient(self.arithmetic, name, place, which) for which in "abc")
            if abs(value) > 1e9:  # large ones by their logarithm, so that none is lost
                value = self.arithmetic.functions["ln"](value)
            result = (
                result
                + a * value
                + b * value * value / (7 + abs(value))
                + c * self.arithmetic.functions["arctan"](value + a)
            )
        return result


@lru_cache(maxsize=4096)
def _share(name: str, place: object, which: str) -> Fraction:
    return Fraction(round((0.3 + stable_fraction(name, place, which)) * 2**40), 2**40)


@lru_cache(maxsize=4096)
def _float_share(name: str, place: object, which: str) -> float:
    return float(_share(name, place, which))


def _coefficient(arithmetic: Arithmetic, name: str, place: object, which: str) -> Any:  # noqa: ANN401  a number of the arithmetic
    return _float_share(name, place, which) if arithmetic is floats() else arithmetic.number(_share(name, place, which))


def _log(size: Any) -> float:  # noqa: ANN401  a positive number
    try:
        return math.log(size)
    except (OverflowError, ValueError):
        return float(mpmath.log(size))


def _is_real(value: Any) -> bool:  # noqa: ANN401  a number of an arithmetic
    return not getattr(value, "imag", 0)


def _real(value: Any) -> Any:  # noqa: ANN401  as above
    return getattr(value, "real", value)


def _rounded(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def value(point: Point, x: Any) -> Any:  # noqa: ANN401  as above
        if not _is_real(x):
            raise NoValueError("no whole part of a complex number")
        return function(_real(x))

    return value


def _conjugate(_: Point, x: Any) -> Any:  # noqa: ANN401  as above
    return x.conjugate() if hasattr(x, "conjugate") else x


def _binomial_value(point: Point, n: Any, k: Any) -> Any:  # noqa: ANN401  as above
    factorial = point.arithmetic.functions["factorial"]
    return factorial(n) / factorial(k) / factorial(n - k)


_CALLS: dict[str, Callable[..., Any]] = {
    "abs": lambda _, x: abs(x),
    "conjugate": _conjugate,
    "Re": lambda _, x: _real(x),
    "Im": lambda point, x: point.mixed("Im", [x]) if _is_real(x) else x.imag,
    "floor": _rounded(lambda x: mpmath.floor(x) if isinstance(x, mpmath.mpf) else math.floor(x)),
    "ceil": _rounded(lambda x: mpmath.ceil(x) if isinstance(x, mpmath.mpf) else math.ceil(x)),
    "binomial": _binomial_value,
    "sgn": _rounded(lambda x: (x > 0) - (x < 0)),
    "arg": lambda point, x: getattr(point.arithmetic.functions["ln"](x), "imag", 0 * x),
    "norm": lambda point, x: point.mixed("norm", [x * x]),
}

_AT: dict[str, Callable[[Point, Node], Any]] = {
    "number": Point.number,
    "symbol": Point.symbol,
    "vector": Point.symbol,
    "operator": Point.symbol,
    "constant": Point.constant,
    "sum": Point.sum,
    "product": Point.product,
    "quotient": Point.quotient,
    "power": Point.power,
    "root": Point.root,
    "call": Point.call,
    "cross": Point.cross,
    "series": Point.series,
    "apply": Point.apply,
    "percent": lambda point, node: point.at(node.parts[0]) / 100,
    "quantity": lambda point, node: point.at(node.parts[0]) * point.values[f"[{node.label}]"],
    "list": Point.unordered,
    "brackets": Point.unordered,
    "based": lambda point, node: (
        point.values[f"name {node.label}"]
        if (value := _exact_based(node)) is None
        else point.mixed(f"base {node.label.partition('_')[2]}", [point.arithmetic.number(value)])
    ),
}
