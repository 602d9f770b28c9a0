r"""A second, stricter reading of answers, with which the benchmark of the judge proves what it changed.

In: the text of an answer. Out: a tree of `Node`s that know their places in the text, or None wherever a convention would have
to be guessed (`1/2x`, `\sin x/2`, `f(x+1)`, sums, integrals). It shares nothing with the judge's own parser.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MAX_CHARACTERS = 240

_TOKEN = re.compile(
    r"""(?P<space>\s+|~|\\(?:left|right|[bB]ig[lr]?|displaystyle)(?![A-Za-z])|\\[,;:!\ ])
    |(?P<number>\d+(?:(?:,\\!|\{,\}|\\[,!])\s?\d{3})+(?!\d)(?:\.\d+)?|(?<=\\frac)\d|(?<=\\sqrt)\d|\d+\.\d+|\.\d+|\d+)
    |(?P<text>\\(?:text|mathrm|mbox|textbf|textrm|textnormal)\s*\{[^{}]*\})
    |(?P<command>\\[A-Za-z]+)
    |(?P<escaped>\\[%$#&{}|\\])
    |(?P<word>[A-Za-z]{3,}|cm|mm|km|kg|mg|ml|ft|in|or|is|hr|lb|oz|Hz|eV|kJ|nm|mL|mi|no|ln)
    |(?P<letter>[A-Za-z])
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_AMBIGUOUS = re.compile(
    r"\d,\d{3}(?!\d)|\d\s+\d|^-?0,\d+$"
)  # thousands or a list, side by side, a decimal comma or a list
_POWER_OF_TEN = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_RELATIONS = {
    "<": "<", ">": ">", "=": "=", "\\lt": "<", "\\gt": ">", "\\le": "≤", "\\leq": "≤", "\\leqslant": "≤", "\\ge": "≥",
    "\\geq": "≥", "\\geqslant": "≥", "\\ne": "≠", "\\neq": "≠",
}  # fmt: skip
_TIMES = {"\\cdot", "\\times", "*"}
_GREEK = set(
    re.findall(
        r"\\\w+",
        r"\alpha\beta\gamma\delta\epsilon\varepsilon\zeta\eta\theta\vartheta\kappa\lambda\mu\nu\xi\rho\sigma\tau\phi\varphi\chi\psi"
        r"\omega\Gamma\Delta\Theta\Lambda\Sigma\Phi\Psi\Omega\ell\hbar",
    )
)
FUNCTIONS = (  # `\log` has its own node, with a base
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "ln", "exp",
)  # fmt: skip
_CONSTANTS = {"\\pi": "π", "e": "e", "i": "i"}
_FRACTIONS = {"\\frac", "\\dfrac", "\\tfrac"}
_SEPARATING = re.compile(r"\\text\s*\{\s*(?:and|or)\s*\}")
_CLOSING = {"(": ")", "[": "]", "\\lvert": "\\rvert", "|": "|"}
_SIZE = re.compile(r"\\(?:left|right|[bB]ig[lr]?)")
_MATRIX = re.compile(r"\\begin\{([pb]matrix)\}(.*?)\\end\{\1\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    """A token, with the `\\left` or `\\right` before it."""

    text: str
    group: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an answer: `text[start:end]`; `mark` holds its signs, operators, brackets or name."""

    kind: str
    start: int
    end: int
    parts: tuple["Node", ...] = ()
    mark: str = ""


class UnsureError(ValueError):
    """The text has no reading that everybody shares."""


@lru_cache(maxsize=50_000)
def read(text: str) -> Node | None:
    """The tree of an answer; None where unsure."""
    if len(text) > MAX_CHARACTERS:
        return None
    plain = _plain(text)
    if plain is not None:
        return plain
    if _AMBIGUOUS.search(text):
        return None
    try:
        parser = _Parser(text)
        node = parser.statement()
        parser.expect("")
    except (UnsureError, RecursionError):
        return None
    return node


def _plain(text: str) -> Node | None:
    """Numbers that the grammar has no rule for: with commas in them, or with an `e`."""
    if _THOUSANDS.fullmatch(text) or _POWER_OF_TEN.fullmatch(text):
        number = Node("number", len(text) - len(text.lstrip("-")), len(text), mark=text.lstrip("-").replace(",", ""))
        return Node("sum", 0, len(text), (number,), "-") if text.startswith("-") else number
    return None


def walk(node: Node) -> list[Node]:
    """The node and all below it, from the top."""
    found = [node]
    for part in node.parts:
        found += walk(part)
    return found


def has_unit(node: Node) -> bool:
    """Whether it is a unit, or holds one, as `km^2`."""
    return any(part.kind == "unit" for part in walk(node))


def names(node: Node) -> set[str]:
    """The variables in it."""
    return {part.mark for part in walk(node) if part.kind == "name"}


def _tokens(text: str) -> Iterator[_Token]:
    start = None
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            yield _Token(match[0], match.lastgroup or "", match.start() if start is None else start, match.end())
            start = None
        elif _SIZE.fullmatch(match[0]):
            start = match.start()
        elif not match[0].isspace():
            start = None


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0
        self.open_bars = 0

    # ------------------------------------------------------------ tokens

    @property
    def token(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    @property
    def group(self) -> str:
        return self.tokens[self.at].group if self.at < len(self.tokens) else ""

    @property
    def start(self) -> int:
        return self.tokens[self.at].start if self.at < len(self.tokens) else len(self.text)

    @property
    def end(self) -> int:
        """Where the last token that was taken ends."""
        return self.tokens[self.at - 1].end if self.at else 0

    def take(self) -> str:
        token = self.token
        if not token:
            raise UnsureError("ends too early")
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.token != token:
            raise UnsureError(f"{self.token!r} for {token!r}")
        self.at += bool(token)

    def node(self, kind: str, start: int, parts: tuple[Node, ...] = (), mark: str = "") -> Node:
        return Node(kind, start, self.end, parts, mark)

    # ------------------------------------------------------------ statements

    def statement(self, closing: str = "") -> Node:
        """Items between commas; one alone is itself."""
        start, items = self.start, [self.item()]
        while self.token and self.token != closing:
            if not (self.token == "," or _SEPARATING.fullmatch(self.token)):
                raise UnsureError(self.token)
            self.take()
            if _SEPARATING.fullmatch(self.token):
                self.take()
            items.append(self.item())
        return items[0] if len(items) == 1 else self.node("list", start, tuple(items))

    def item(self) -> Node:
        start, sides, signs = self.start, [self.heading() or self.union()], ""
        while self.token in _RELATIONS:
            signs += _RELATIONS[self.take()]
            sides.append(self.union())
        return self.node("relation", start, tuple(sides), signs) if signs else sides[0]

    def heading(self) -> Node | None:
        """`f(x)` or `f(x, y)` before an equals sign."""
        match = re.match(r"\s*[A-Za-z]\s*(?:\\left)?\(\s*[a-z](?:\s*,\s*[a-z])*\s*(?:\\right)?\)\s*(?==)", self.text)
        if match is None or self.at:
            return None
        while self.start < match.end() and self.token != "=":
            self.take()
        return Node("heading", match.start(), self.end, mark="".join(match[0].split()))

    def union(self) -> Node:
        start, parts = self.start, [self.operand()]
        while self.token == "\\cup":
            self.take()
            parts.append(self.operand())
        return self.node("union", start, tuple(parts)) if len(parts) > 1 else parts[0]

    def operand(self) -> Node:
        start = self.start
        if self.token in ("\\emptyset", "\\varnothing"):
            self.take()
            return self.node("empty", start)
        if self.token == "\\{":
            self.take()
            inner = self.statement("\\}")
            self.expect("\\}")
            return self.node("set", start, inner.parts if inner.kind == "list" else (inner,))
        if self.token in ("(", "[") and self.has_comma():
            return self.tuple()
        if self.token == "\\begin":
            return self.matrix()
        return self.sum()

    def has_comma(self) -> bool:
        """Whether the bracket that opens here holds a comma of its own."""
        depth = 0
        for token in self.tokens[self.at :]:
            depth += (token.text in ("(", "[", "{", "\\{")) - (token.text in (")", "]", "}", "\\}"))
            if depth == 0:
                return False
            if depth == 1 and token.text == ",":
                return True
        return False

    def tuple(self) -> Node:
        start, opening = self.start, self.take()
        parts = [self.operand()]
        while self.token == ",":
            self.take()
            parts.append(self.operand())
        if self.token not in (")", "]"):
            raise UnsureError(self.token)
        return self.node("tuple", start, tuple(parts), opening + self.take())

    def matrix(self) -> Node:
        """A matrix as rows of formulas, each read by a parser of its own."""
        start = self.start
        match = _MATRIX.match(self.text, start)
        if match is None or "\\begin" in match[2]:
            raise UnsureError("an environment")
        rows, place = [], match.start(2)
        for row in re.split(r"(\\\\)", match[2]):
            if row != "\\\\" and row.strip():
                rows.append(self._row(place, row))
            place += len(row)
        while self.start < match.end() and self.token:
            self.take()
        return Node("matrix", start, match.end(), tuple(rows), match[1])

    def _row(self, place: int, row: str) -> Node:
        cells, start = [], place
        for cell in re.split(r"(&)", row):
            if cell != "&":
                inner = _Parser(cell)
                node = inner.sum()
                inner.expect("")
                cells.append(_moved(node, place))
            place += len(cell)
        return Node("row", start, place, tuple(cells))

    # ------------------------------------------------------------ formulas

    def sum(self) -> Node:
        start, signs, terms = self.start, "", []
        while not terms or self.token in ("+", "-", "\\pm"):
            signs += {"-": "-", "\\pm": "±"}.get(self.token, "+")
            if self.token in ("+", "-", "\\pm"):
                self.take()
            elif terms:
                break
            terms.append(self.product())
        if len(terms) > 1 and any(_is_of_units(term) for term in terms):
            raise UnsureError("a hyphen between units")
        return terms[0] if signs == "+" and terms[0].start == start else self.node("sum", start, tuple(terms), signs)

    def product(self) -> Node:
        start, parts, signs = self.start, [self.factor()], ""
        while True:
            sign = "*" if self.token in _TIMES else "/" if self.token == "/" else " " if self.starts_factor() else ""
            if not sign:
                return self.node("product", start, tuple(parts), signs) if signs else parts[0]
            if sign != " ":
                self.take()
            part = self.factor()
            _check_neighbours(parts[-1], sign, part, signs)
            signs += sign
            parts.append(part)

    def starts_factor(self) -> bool:
        if self.token == "|":
            return not self.open_bars
        if _SEPARATING.fullmatch(self.token):
            return False
        known = _GREEK | _FRACTIONS | {f"\\{name}" for name in FUNCTIONS}
        known |= {"\\sqrt", "\\log", "\\binom", "\\pi", "\\lvert", "(", "[", "{", "\\%", "%", "\\infty"}
        return self.group in ("number", "letter", "text") or self.token in known

    def factor(self) -> Node:
        start, node = self.start, self.base()
        while self.token in ("^", "!", "_", "'"):
            sign = self.take()
            if sign == "!" and self.token != "!" and node.kind in ("number", "name", "group"):
                node = self.node("factorial", start, (node,))
            elif sign == "^" and node.kind not in ("power", "call", "log", "factorial"):
                node = self.power(start, node)
            else:
                raise UnsureError(sign)
        return node

    def power(self, start: int, base: Node) -> Node:
        if self.token == "\\circ" or self.text[self.start :].replace(" ", "").startswith("{\\circ}"):
            while self.take() != "\\circ":
                pass
            if self.token == "}":
                self.take()
            return self.node("product", start, (base, Node("unit", base.end, self.end, mark="°")), " ")
        exponent = self.argument()
        if exponent.mark == "T":
            raise UnsureError("a transpose")
        return self.node("power", start, (base, exponent))

    def argument(self) -> Node:
        """`{...}`, or one character."""
        if self.token == "{":
            self.take()
            node = self.sum()
            self.expect("}")
            return node
        if self.group not in ("number", "letter") and self.token not in _GREEK | {"\\pi"}:
            raise UnsureError(self.token)
        if len(self.token) > 1 and self.group == "number":
            raise UnsureError("a number of several digits without braces")
        return self.base()

    def base(self) -> Node:
        start, group, token = self.start, self.group, self.take()
        if group == "number":
            return self.number(start, token)
        if group == "text" or token in ("\\%", "%", "\\$"):
            return self.unit(start, token)
        if token in _CONSTANTS and self.token != "_":
            return self.node("constant", start, mark=_CONSTANTS[token])
        if group == "letter" or token in _GREEK:
            return self.name(start, token)
        if token in ("(", "[", "|", "\\lvert", "{"):
            return self.bracket(start, token)
        if token == "\\infty":
            return self.node("infinity", start)
        return self.command(start, token)

    def number(self, start: int, token: str) -> Node:
        if self.token != "_":
            return self.node("number", start, mark=re.sub(r"[^\d.]", "", token))
        self.take()
        base = self.argument_text()
        if not base.isdigit() or not 2 <= int(base) <= 36 or not token.isdigit():
            raise UnsureError("a number with an index")
        return self.node("based", start, mark=f"{token}_{base}")

    def argument_text(self) -> str:
        """What an index holds, without white space."""
        if self.token != "{":
            return self.take() if len(self.token) == 1 else ""
        self.take()
        start = self.start
        while self.token not in ("}", "{", ""):
            self.take()
        end = self.start
        self.expect("}")
        return "".join(self.text[start:end].split())

    def unit(self, start: int, token: str) -> Node:
        inner = re.sub(r"^\\\w+\s*\{|\}$", "", token) if token.endswith("}") else token
        if inner in ("e", "i"):
            return self.node("constant", start, mark=inner)
        if token == "\\$":
            return self.node("product", start, (Node("unit", start, self.end, mark="$"), self.base()), " ")
        return self.node("unit", start, mark=inner.strip("\\~ "))

    def name(self, start: int, token: str) -> Node:
        index = ""
        if self.token == "_":
            self.take()
            index = self.argument_text()
            if not index:
                raise UnsureError("an index")
        if ((token in "fgh" or token.isupper()) and self.token == "(") or (token == "d" and self.group == "letter"):
            raise UnsureError("a function or a differential")
        return self.node("name", start, mark=f"{token}_{index}" if index else token)

    def bracket(self, start: int, token: str) -> Node:
        if token in ("|", "\\lvert"):
            self.open_bars += 1
            inner = self.sum()
            self.expect(_CLOSING[token])
            self.open_bars -= 1
            return self.node("absolute", start, (inner,))
        bars, self.open_bars = self.open_bars, 0
        inner = self.sum()
        self.open_bars = bars
        self.expect(_CLOSING.get(token, "}"))
        return self.node("group", start, (inner,), token)

    def command(self, start: int, token: str) -> Node:
        if token in _FRACTIONS:
            return self.node("fraction", start, (self.argument(), self.argument()))
        if token == "\\binom":
            return self.node("binomial", start, (self.argument(), self.argument()))
        if token == "\\sqrt":
            return self.root(start)
        if token == "\\log" or token[1:] in FUNCTIONS:
            return self.call(start, token[1:])
        raise UnsureError(token)

    def root(self, start: int) -> Node:
        if self.token != "[":
            return self.node("root", start, (self.argument(),))
        self.take()
        index = self.sum()
        self.expect("]")
        return self.node("root", start, (self.argument(), index))

    def call(self, start: int, name: str) -> Node:
        """A function, its argument, and the base of a logarithm or the power in `\\sin^2 x`."""
        extra: tuple[Node, ...] = ()
        if self.token == ("_" if name == "log" else "^"):
            self.take()
            extra = (self.argument(),)
        if name != "log" and extra and extra[0].kind != "number":
            raise UnsureError("an inverse function or its reciprocal")
        inner = self.bracketed() if self.token in ("(", "[", "{", "|") else self.bare()
        return self.node("log" if name == "log" else "call", start, (inner, *extra), name)

    def bracketed(self) -> Node:
        start = self.start
        inner = self.bracket(start, self.take())
        if self.token in ("^", "!", "'"):
            raise UnsureError("a power of a function")
        return inner

    def bare(self) -> Node:
        """An argument without brackets, as in `\\sin 2x`: numbers and Greek letters, and at most one other letter."""
        start, parts = self.start, [self.factor()]
        simple = ("number", "name", "constant", "fraction", "root", "power", "unit")
        while self.starts_factor() and self.token not in ("(", "[", "{", "|") and not self.ends_argument():
            parts.append(self.factor())
        if self.token in ("(", "[", "{", "/", "|") or any(part.kind not in simple for part in parts):
            raise UnsureError("where the argument ends")
        letters = sum(len(names(part)) for part in parts)
        if letters > 1 or any(part.kind in ("number", "fraction", "root") for part in parts[1:]):
            raise UnsureError("where the argument ends")
        return self.node("product", start, tuple(parts), " " * (len(parts) - 1)) if len(parts) > 1 else parts[0]

    def ends_argument(self) -> bool:
        """Before another function or a unit."""
        return self.group == "text" or self.token in ("\\log", "\\%", "%") or self.token[1:] in FUNCTIONS


def _check_neighbours(left: Node, sign: str, right: Node, signs: str) -> None:
    """No number after a factor without a sign, no mixed numbers, nothing after a quotient: `1/2x`."""
    if "/" in signs and not (sign == " " and right.kind == "unit"):
        raise UnsureError("after a quotient")
    mixed = right.kind == "fraction" and left.kind == "number" and all(part.kind == "number" for part in right.parts)
    if sign == " " and (right.kind == "number" or mixed or "infinity" in (left.kind, right.kind)):
        raise UnsureError("side by side")
    base = left.parts[0] if left.kind == "power" else left
    if sign == " " and right.kind == "group" and right.mark == "{" and base.kind == "number":
        raise UnsureError("braces after a number")
    if sign == " " and right.kind == "group" and base.kind == "name" and right.parts[0].kind in ("name", "constant"):
        raise UnsureError("a function or a product")


def _is_of_units(node: Node) -> bool:
    return all(part.kind == "unit" for part in walk(node) if not part.parts)


def _moved(node: Node, by: int) -> Node:
    return Node(node.kind, node.start + by, node.end + by, tuple(_moved(part, by) for part in node.parts), node.mark)


# ---------------------------------------------------------------- places in the text


def nodes(text: str, *kinds: str) -> list[Node]:
    """All nodes of these kinds in an answer; none where it is unsure."""
    tree = read(text)
    return [node for node in walk(tree) if node.kind in kinds] if tree else []


def values(text: str) -> list[Node]:
    """The formulas an answer consists of: of an equation the last side, of lists and tuples each item."""
    tree = read(text)
    return list(_values(tree)) if tree else []


def _values(node: Node) -> Iterator[Node]:
    if node.kind == "relation":
        yield from _values(node.parts[-1])
    elif node.kind in ("list", "set", "tuple", "matrix", "row", "union"):
        for part in node.parts:
            yield from _values(part)
    elif not any(part.kind in ("infinity", "unit", "empty") for part in walk(node)):
        yield node


def parents(text: str, node: Node) -> list[Node]:
    """The nodes around one."""
    return [one for one in walk(read(text) or node) if one.start <= node.start and node.end <= one.end and one != node]


def spelled(text: str, node: Node) -> str:
    """How a node is written."""
    return text[node.start : node.end].strip()


def edited(text: str, node: Node, new: str) -> str:
    """The text with something else in a node's place; a command is kept apart from a letter after it."""
    before, after = text[: node.start], text[node.end :]
    if re.search(r"\\[A-Za-z]+$", before) and new[:1].isalpha():
        before += " "
    joined = before + new
    return joined + (" " if re.search(r"\\[A-Za-z]+$", joined) and after[:1].isalpha() else "") + after
