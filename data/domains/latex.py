r"""LaTeX of formulas, read into a tree that can be evaluated with numbers: no symbolic algebra, so nothing can hang.

In: text as `\frac{1}{2} m v^2`. Out: an `Expression` whose value at given values of its symbols is one complex number. Some notation has
two readings (`\sin \omega t`, `a/bc`); `Reading` chooses. What is not a formula raises `UnreadableError`.
"""

import cmath
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from data.domains.quantities import is_unit, precision_of

MAX_DEPTH, _MAX_POSTFIXES = 60, 10
_UPRIGHT_TEXT = r"\\(?:text|mathrm|operatorname|textbf|textit|mbox|mathsf|textrm)\s*\{"
_UPRIGHT = re.compile(_UPRIGHT_TEXT + r"([^{}]*)\}", re.DOTALL)
_KET = re.compile(r"(?:\\left\s*)?(?:\||\\lvert|\\vert)([^|]*?)(?:\\right\s*)?\\rangle", re.DOTALL)
_TOKEN = re.compile(
    _UPRIGHT_TEXT
    + r"[^{}]*\}|"
    + _KET.pattern.replace("([^|]", "(?:[^|]")
    + r"|\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\\.|\S",
    re.DOTALL,
)

_IGNORED = frozenset(
    r"\left \right \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \displaystyle \textstyle \limits \rm \, \; \: \! ~ $ & \otimes".split()  # noqa: SIM905  shorter to read
) | {"\\ "}
_FONTS = frozenset(r"\mathbf \boldsymbol \vec \bm \mathcal \mathit \mathbb \pmb \ensuremath \underline".split())  # noqa: SIM905  shorter to read
_ACCENTS = {
    "\\dot": "dot", "\\ddot": "ddot", "\\bar": "bar", "\\overline": "bar", "\\tilde": "tilde", "\\hat": "hat", "\\widehat": "hat",
}  # fmt: skip
_SAME_PAIRS = r"""
    \varepsilon:\epsilon \varphi:\phi \hslash:\hbar \vartheta:\theta \varrho:\rho \dfrac:\frac \tfrac:\frac \cfrac:\frac
    \lvert:| \rvert:| \vert:| \lbrace:\{ \rbrace:\} \lbrack:[ \rbrack:] \ast:* \div:/ \degree:° \prime:'
    −:- ×:\times ·:\cdot ∗:* ÷:/ ’:' π:\pi ħ:\hbar ω:\omega θ:\theta λ:\lambda μ:\mu α:\alpha β:\beta γ:\gamma ρ:\rho σ:\sigma
    ε:\epsilon φ:\phi Ω:\Omega Δ:\Delta
"""
_SAME: dict[str, str] = {pair[: pair.index(":")]: pair[pair.index(":") + 1 :] for pair in _SAME_PAIRS.split()}
_ANGSTROM = re.compile(r"\\(?:overset\s*\{?\\circ\}?\s*\{A\}|mathring\s*\{A\}|AA\b)")
_MICRO = re.compile(r"\\mu\s*\\(?:text|mathrm)\s*\{\s*(?=[A-Z]|[a-z]+\s*\})")
_HALVES = re.compile(r"\\frac\{(\d+)\}\{(\d+)\}")
_THIN_SPACE = re.compile(r"\\[ ,;:]|~")
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_UNIT_VECTORS = frozenset({"x", "y", "z", "r", "n", "\\theta", "\\phi", "\\rho"})
_NO_UNITS = frozenset({"d", "e"})  # the differential and the base of logarithms, not the day and the charge
_NO_FORMULA = frozenset(
    {"\\in", "\\notin", "\\cup", "\\cap", "\\subset", "\\ne", "\\neq", "\\mid", "\\forall", "\\exists", "\\pm", "\\mp"}
)
_MARKS = frozenset({"*", "+", "-", "'", "\\dagger", "\\pm", "\\circ"})


class UnreadableError(ValueError):
    """The text is not a formula of the notation that is read here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read what has two readings."""

    long_arguments: bool = True  # \\sin a b is sin(ab), else sin(a) b
    long_divisors: bool = True  # a/bc is a/(bc), else (a/b)c


READINGS = tuple(Reading(arguments, divisors) for arguments in (True, False) for divisors in (True, False))

Values = Mapping[str, complex]
Node = Callable[[Values], complex]


@dataclass(frozen=True)
class Expression:
    """A formula: its value at values of its symbols, and the symbols."""

    node: Node
    symbols: frozenset[str]
    precision: (
        float  # half a unit of the last digit of the roughest rounded number in it, relative; 0 where none is rounded
    )

    def at(self, values: Values) -> complex:
        """Raises ArithmeticError or ValueError where the formula has no value."""
        return self.node(values)


def tokens(text: str) -> list[str]:
    """The tokens of a formula, without what only changes its look."""
    found = [
        _SAME.get(token, token) for token in _TOKEN.findall(_ANGSTROM.sub(r"\\text{Å}", _MICRO.sub(r"\\text{µ", text)))
    ]
    return [token for token in found if token not in _IGNORED]


@lru_cache(maxsize=4096)
def read(text: str, reading: Reading) -> Expression:
    """Parse a formula. Raises UnreadableError."""
    parser = _Parser(text, reading)
    try:
        node = parser.sum()
    except UnreadableError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deep, or a number that is none
        raise UnreadableError(f"{error}") from None
    if parser.position < len(parser.tokens):
        raise UnreadableError(f"unexpected {parser.peek()!r}")
    return Expression(node, frozenset(parser.symbols), parser.precision)


# ---------------------------------------------------------------- numbers


def _gamma(value: complex) -> complex:
    if abs(value.imag) > 1e-9 or value.real > 170:
        raise ValueError("no factorial of a complex or large number")
    return math.gamma(value.real)


def _power(base: complex, exponent: complex) -> complex:
    return base**exponent


@lru_cache(maxsize=256)
def _zeta(value: complex) -> complex:
    if value.imag or value.real <= 1:
        raise ValueError("the zeta function is read for numbers above 1 only")
    import mpmath

    return complex(mpmath.zeta(value.real))


def _erf(value: complex) -> complex:
    return math.erf(value.real)


FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "exp": cmath.exp,
    "ln": cmath.log, "log": cmath.log, "lg": cmath.log10, "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan,
    "asin": cmath.asin, "acos": cmath.acos, "atan": cmath.atan, "arcsinh": cmath.asinh, "arccosh": cmath.acosh, "arctanh": cmath.atanh,
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
    "sech": lambda x: 1 / cmath.cosh(x), "csch": lambda x: 1 / cmath.sinh(x), "coth": lambda x: 1 / cmath.tanh(x),
    "erf": _erf, "erfc": lambda x: 1 - _erf(x), "zeta": _zeta,
}  # fmt: skip
_INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
CONSTANTS: dict[str, complex] = {"\\pi": math.pi, "e": math.e, "i": 1j, "°": math.pi / 180, "\\%": 0.01}


def stable_fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on its arguments alone, the same in every process."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def _constant(value: complex) -> Node:
    return lambda _: value


def _multiply(nodes: list[Node]) -> Node:
    if len(nodes) == 1:
        return nodes[0]

    def product(values: Values) -> complex:
        result: complex = 1.0
        for node in nodes:
            result *= node(values)
        return result

    return product


def _call(function: Callable[..., complex], *nodes: Node) -> Node:
    return lambda values: function(*(node(values) for node in nodes))


def _weighted(nodes: list[Node], label: str) -> Node:
    """A vector, matrix or list as one number: each place has a weight of its own."""
    weights = [0.5 + stable_fraction(label, place) for place in range(len(nodes))]
    return lambda values: sum(weight * node(values) for weight, node in zip(weights, nodes, strict=True))


# ---------------------------------------------------------------- the parser


class _Parser:
    def __init__(self, text: str, reading: Reading) -> None:
        self.tokens = tokens(text)
        self.position = 0
        self.depth = self.num_open = 0
        self.reading = reading
        self.symbols: set[str] = set()
        self.precision = 0.0
        self.has_number = False  # so that an upright m is a metre
        self.differential = ""  # the sign of a derivative, below its line
        self.bars = 0  # open |

    def peek(self, ahead: int = 0) -> str:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        if not token:
            raise UnreadableError("ends too early")
        self.position += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise UnreadableError(f"{token!r} is missing")

    def close_group(self) -> None:
        """A brace that the text's end cuts off counts as there."""
        if self.peek():
            self.expect("}")

    def raw_group(self) -> list[str]:
        """The tokens of `{...}`, or one token."""
        if self.peek() != "{":
            return [self.next()]
        depth, start = 0, self.position + 1
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return self.tokens[start : self.position - 1]

    # -------------------------------------------------------- sums and products

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError(f"nested deeper than {MAX_DEPTH}")
        terms, sign = [], 1
        if self.peek() in ("+", "-"):
            sign = -1 if self.next() == "-" else 1
        while True:
            term = self.product()
            terms.append(term if sign > 0 else _multiply([_constant(-1), term]))
            if self.peek() not in ("+", "-"):
                break
            sign = -1 if self.next() == "-" else 1
        self.depth -= 1
        return terms[0] if len(terms) == 1 else lambda values: sum(term(values) for term in terms)

    def product(self) -> Node:
        factors = [self.factor()]
        while True:
            token = self.peek()
            if token in ("\\cdot", "\\times", "*"):
                self.next()
                if self.peek() in ("+", "-"):
                    factors.append(_constant(-1 if self.next() == "-" else 1))
                factors.append(self.factor())
            elif token in ("/", "\\over"):
                self.next()
                factors.append(_call(lambda x: 1 / x, self.divisor()))
            elif self.starts_factor():
                factors.append(self.factor())
            else:
                return _multiply(factors)

    def divisor(self) -> Node:
        factors = [self.factor()]
        while self.reading.long_divisors and self.starts_factor():
            factors.append(self.factor())
        return _multiply(factors)

    def starts_factor(self) -> bool:
        token = self.peek()
        if token == "|":
            return not self.bars
        return bool(token) and token not in _STOPS and token not in _CLOSING.values()

    def factor(self) -> Node:
        self.num_open += 1
        if self.num_open > 2 * MAX_DEPTH:
            raise UnreadableError(f"nested deeper than {MAX_DEPTH}")
        node = self.factor_with_powers()
        self.num_open -= 1
        return node

    def factor_with_powers(self) -> Node:
        node = self.atom()
        for _ in range(_MAX_POSTFIXES):
            token = self.peek()
            if token == "^":
                self.next()
                node = self.exponent(node)
            elif token == "!":
                self.next()
                node = _call(lambda x: _gamma(x + 1), node)
            elif token == "°":
                self.next()
                node = _multiply([node, _constant(CONSTANTS["°"])])
            elif token == "_":
                self.next()
                node = _multiply([node, self.symbol(f"_{self.label(self.raw_group())}")])
            else:
                return node
        raise UnreadableError(f"more than {_MAX_POSTFIXES} powers and marks at one symbol")

    def exponent(self, base: Node) -> Node:
        raw = [self.peek()] if self.peek() != "{" else self.tokens[self.position + 1 : self.position + 2]
        if raw == ["\\circ"]:
            self.raw_group()
            return _multiply([base, _constant(CONSTANTS["°"])])
        if self.peek() == "{":
            self.next()
            power = self.sum()
            self.close_group()
        else:
            power = self.atom()
        return _call(_power, base, power)

    # -------------------------------------------------------- atoms

    def atom(self) -> Node:
        token = self.next()
        if token[0].isdecimal() or token[0] == ".":
            return self.number(token)
        if token in _CLOSING:
            return self.group(token)
        if token == "|":
            return self.absolute()
        if ket := _KET.fullmatch(token):
            state = "".join(tokens(ket[1]))
            return self.symbol("ket " + _HALVES.sub(r"\1/\2", state))
        if token == "^":
            return self.symbol(f"^{self.label(self.raw_group())}")
        if token in _FONTS:
            return self.accented("") if self.peek() == "{" else self.atom()
        if token in _ACCENTS:
            return self.accented(_ACCENTS[token])
        if upright := _UPRIGHT.fullmatch(token):
            return self.word(upright[1])
        if token in ("+", "-"):
            sign = -1 if token == "-" else 1
            return _multiply([_constant(sign), self.factor()])
        match token:
            case "\\frac":
                return self.fraction()
            case "\\sqrt":
                return self.root()
            case "\\binom":
                above, below = self.argument(), self.argument()
                return _call(lambda n, k: _gamma(n + 1) / _gamma(k + 1) / _gamma(n - k + 1), above, below)
            case "\\begin":
                return self.environment()
            case "\\langle":
                return self.bracket()
        if token == self.differential and self.peek() not in ("^", "_", "}"):
            start = self.position
            self.atom()
            return self.symbol(f"{token} {''.join(self.tokens[start : self.position])}")
        name = token.removeprefix("\\")
        if name in FUNCTIONS and len(token) > 1:
            return self.function(name)
        if token in _NO_FORMULA:
            raise UnreadableError(f"{token!r} is no operation on numbers")
        if token.isalpha() or (token.startswith("\\") and name.isalpha()) or token in ("∂", "\\%", "%"):
            return self.named("\\%" if token == "%" else token)
        raise UnreadableError(f"cannot read {token!r}")

    def fraction(self) -> Node:
        """In a derivative, dx below the line is one symbol: d x^2 is (dx)^2, and d does not cancel."""
        sign = self.peek(1)
        above = self.argument()
        self.differential = sign if self.peek(1) == sign and sign in ("d", "\\partial", "∂") else ""
        below = self.argument()
        self.differential = ""
        return lambda values: above(values) / below(values)

    def argument(self) -> Node:
        r"""`{...}`, or one token: \frac12 is a half."""
        if self.peek() == "{":
            self.next()
            node = self.sum()
            self.close_group()
            return node
        token = self.peek()
        if len(token) > 1 and token.isdecimal():
            self.tokens[self.position : self.position + 1] = [token[0], token[1:]]
        return self.atom()

    def number(self, token: str) -> Node:
        while re.fullmatch(r"\d+", token) and self.peek() == "," and re.fullmatch(r"\d{3}(\.\d+)?", self.peek(1)):
            token += self.tokens[self.position + 1]
            self.position += 2
        has_power = self.peek() in ("\\times", "\\cdot") and self.peek(1) == "10" and self.peek(2) == "^"
        self.precision = max(self.precision, precision_of(token, is_rounded="." in token or has_power))
        self.has_number = True
        return _constant(float(token))

    def group(self, opening: str) -> Node:
        if opening == "{" and self.peek() == "}":
            self.next()
            return self.atom() if self.peek() == "^" else _constant(1)
        bars, self.bars = self.bars, 0
        items = [self.sum()]
        while self.peek() in (",", ";"):
            self.next()
            items.append(self.sum())
        self.expect(_CLOSING[opening])
        self.bars = bars
        return items[0] if len(items) == 1 else _weighted(items, "list")

    def absolute(self) -> Node:
        self.bars += 1
        node = self.sum()
        self.expect("|")
        self.bars -= 1
        return _call(lambda x: complex(abs(x)), node)

    def root(self) -> Node:
        degree = _constant(2)
        if self.peek() == "[":
            self.next()
            degree = self.sum()
            self.expect("]")
        node = self.argument()
        return lambda values: node(values) ** (1 / degree(values))

    def environment(self) -> Node:
        name = "".join(self.raw_group())
        if "matrix" not in name:
            raise UnreadableError(f"the environment {name}")
        items = [self.sum()]
        while self.peek() != "\\end":
            self.expect("\\\\")
            if self.peek() != "\\end":
                items.append(self.sum())
        self.next()
        self.raw_group()
        return _weighted(items, "matrix")

    def bracket(self) -> Node:
        """The mean value <...>, as a symbol."""
        start, num_open = self.position, 1
        while num_open:
            token = self.next()
            num_open += (token == "\\langle") - (token == "\\rangle")
        return self.symbol(f"mean {''.join(self.tokens[start : self.position - 1])}")

    def function(self, name: str) -> Node:
        power = None
        if self.peek() == "_" and name in ("log", "lg"):
            self.next()
            base = self.argument()
            node = self.function_argument()
            return lambda values: cmath.log(node(values)) / cmath.log(base(values))
        if self.peek() == "^":
            self.next()
            if (
                self.peek() == "{"
                and self.tokens[self.position + 1 : self.position + 4] == ["-", "1", "}"]
                and name in _INVERSES
            ):
                self.raw_group()
                name = _INVERSES[name]
            else:
                power = self.argument()
        node = _call(FUNCTIONS[name], self.function_argument())
        return _call(_power, node, power) if power else node

    def function_argument(self) -> Node:
        token = self.peek()
        if token in _CLOSING or token == "|":
            node = self.atom()
            while self.peek() == "!":
                self.next()
                node = _call(lambda x: _gamma(x + 1), node)
            return node
        factors = [self.factor()]
        if token != "\\frac":
            while self.reading.long_arguments and self.continues_argument():
                factors.append(self.factor())
            if factors and self.peek() == "/" and self.reading.long_arguments:
                self.next()
                factors.append(_call(lambda x: 1 / x, self.divisor()))
        return _multiply(factors)

    def continues_argument(self) -> bool:
        token = self.peek()
        if (
            not self.starts_factor()
            or token in _CLOSING
            or _UPRIGHT.fullmatch(token)
            or token in _ACCENTS
            or token in _FONTS
        ):
            return False
        if token == "e" and self.peek(1) in ("_", "^"):
            return False
        return (
            token not in ("\\frac", "\\sqrt", "|", "\\langle", "\\begin") and token.removeprefix("\\") not in FUNCTIONS
        )

    # -------------------------------------------------------- names

    def word(self, text: str) -> Node:
        """Upright letters: a function, a unit, or a name."""
        name = _THIN_SPACE.sub(" ", text).strip()
        if name.strip("0123456789.-") == "":
            return _constant(float(name))
        if name in FUNCTIONS:
            return self.function(name)
        if self.has_number and name not in _NO_UNITS and is_unit(name):
            return self.symbol(f"[{name}]")
        if len(name) == 1 and name.isalpha():
            return self.named(name)
        if re.fullmatch(r"e_.", name) and name[2:] in _UNIT_VECTORS:
            return self.symbol(f"unit {name[2:]}")
        if re.fullmatch(r"[A-Za-zµÅ]{1,12}\.?", name):
            if name.lower().startswith("const"):
                return self.symbol("constant")
            is_counted = self.has_number and len(name) > 2 and self.peek() not in ("_", "^")
            return self.symbol(f"count {name}") if is_counted else self.named(name)
        raise UnreadableError(f"the words {name!r}")

    def accented(self, accent: str) -> Node:
        """A letter below an accent, or in bold."""
        raw = [token for token in self.raw_group() if token not in _FONTS and token not in ("{", "}")]
        if not accent and (len(raw) != 1 or raw[0].isdecimal()):
            return _Parser_of(raw, self)
        name = self.label(raw)
        if name.startswith("e_") and name[2:] in _UNIT_VECTORS:
            return self.symbol(f"unit {name[2:]}")
        if accent == "hat":
            return self.symbol(f"unit {name}") if name in _UNIT_VECTORS else self.operator(name)
        if not accent and raw == ["e"] and self.peek() == "_":
            return self.named("e")
        return self.named(f"{accent} {name}".strip())

    def operator(self, name: str) -> Node:
        """An operator does not cancel against its inverse."""
        if self.tokens[self.position : self.position + 5] == ["^", "{", "-", "1", "}"]:
            self.position += 5
            return self.symbol(f"inverse {name}")
        return self.named(name)

    def named(self, name: str) -> Node:
        """A symbol with its subscript and the marks that are no powers."""
        subscript = marks = ""
        while self.peek() == "'" or (self.peek() == "_" and not subscript):
            if self.next() == "'":
                marks += "'"
            else:
                subscript = self.label(self.raw_group())
        if name == "e" and subscript in _UNIT_VECTORS:
            return self.symbol(f"unit {subscript}")
        if self.peek() == "^" and self.is_mark():
            self.next()
            marks += self.label(self.raw_group())
            if self.peek() == "_" and not subscript:
                self.next()
                subscript = self.label(self.raw_group())
        if name in ("\\int", "\\sum", "\\prod", "\\oint", "\\lim", "\\iint", "\\iiint") and self.peek() == "^":
            self.next()
            marks += self.label(self.raw_group())
        if not subscript and not marks and name in CONSTANTS:
            return _constant(CONSTANTS[name])
        if self.peek() == "(" and (values := self.plain_arguments()):
            return self.symbol(f"{name}_{subscript}{marks}({values})")
        return self.symbol(name + (f"_{subscript}" if subscript else "") + marks)

    def plain_arguments(self) -> str:
        """Takes the arguments of f(0) or f(1, 2), which are no factors; empty for anything else."""
        rest = self.tokens[self.position + 1 :]
        inside = rest[: rest.index(")")] if ")" in rest else []
        if inside != ["0"] and not ("," in inside and all(token == "," or token.isdecimal() for token in inside)):
            return ""
        self.position += len(inside) + 2
        return "".join(inside)

    def is_mark(self) -> bool:
        """Whether the superscript is a mark, as the star of x^*, and no power."""
        after = self.tokens[self.position + 1 :]
        if after[:1] == ["{"]:
            group = after[1 : after.index("}")] if "}" in after else []
            return bool(group) and (
                all(token in _MARKS for token in group) or group[0] == "(" or bool(_UPRIGHT.fullmatch(group[0]))
            )
        return bool(after) and after[0] in _MARKS and after[0] != "\\circ"

    def label(self, raw: list[str]) -> str:
        """A name as text, without braces and fonts."""
        shown = (_UPRIGHT.sub(r"\1", token).replace(" ", "") for token in raw)
        return "".join(token for token in shown if token not in _FONTS and token not in ("{", "}", ","))

    def symbol(self, name: str) -> Node:
        self.symbols.add(name)
        return lambda values: values[name]


def _Parser_of(raw: list[str], parent: _Parser) -> Node:  # noqa: N802  a constructor
    """A formula within the parser of another."""
    inner = _Parser("", parent.reading)
    inner.tokens, inner.depth = raw, parent.depth + 1
    node = inner.sum()
    if inner.position < len(inner.tokens):
        raise UnreadableError(f"unexpected {inner.peek()!r}")
    parent.symbols |= inner.symbols
    parent.precision = max(parent.precision, inner.precision)
    return node


_STOPS = frozenset(
    {
        "+",
        "-",
        "=",
        "/",
        ",",
        ";",
        "<",
        ">",
        "^",
        "_",
        "!",
        ".",
        ":",
        "\\cdot",
        "\\times",
        "*",
        "\\over",
        "\\end",
        "\\\\",
        "\\rangle",
    }
)
