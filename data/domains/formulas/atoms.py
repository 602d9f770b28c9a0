"""What stands in brackets, bars and environments, and series: each takes its tokens from the parser."""

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from data.domains.formulas.cursor import outside
from data.domains.formulas.lexer import UPRIGHT
from data.domains.formulas.nodes import LETTERS, Node, UnreadableError, number, product
from data.domains.formulas.notation import (
    CLOSING,
    FENCES,
    MATRICES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_EXPONENT,
    MAX_SERIES,
    WORDS_OF_CONDITIONS,
    WRAPPERS,
)
from data.domains.quantities import precision_of

if TYPE_CHECKING:
    from data.domains.formulas.grammar import Parser


def numeral(parser: "Parser", token: str) -> Node:
    """A number as it is written, within the limits of digits and exponent."""
    mantissa, _, exponent = token.replace("E", "e").partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise UnreadableError(f"a number of more than {MAX_DIGITS} digits, or beyond 10^{MAX_EXPONENT}")
    has_power = parser.peek() in ("\\times", "\\cdot") and parser.peek(1) == "10" and parser.peek(2) == "^"
    parser.has_number = True
    is_rounded = "." in token or has_power or bool(exponent)
    value = Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
    return number(value, token, precision_of(mantissa, is_rounded=is_rounded) if parser.reading.units else 0.0)


def bracketed(parser: "Parser", opening: str) -> Node:
    """Brackets: a group, a pair, an interval, a set; `{}` of TeX groups, and with commas it is a set."""
    if opening == "{":
        parser.position -= 1
        raw = parser.raw_group()
        if not raw:
            return parser.factor() if parser.peek() == "^" else number(1)
        node = parser.inner_list(raw)
        return Node("brackets", node.parts, "{}") if node.head == "list" else node
    if opening not in ("(", "[", "\\{", "]"):
        raise UnreadableError(f"unexpected {opening!r}")
    items, closing = parser.within(opening)
    if opening == "\\{":
        return braces(parser, items)
    node = parser.inner_list(items) if items else Node("list", (), ",")
    if node.head != "list" and opening in ("(", "[") and closing == CLOSING[opening]:
        return Node("brackets", (node,), "()") if node.head == "relation" else _grouped(node)
    parts = node.parts if node.head == "list" else (node,)
    if opening in "[]" and closing in "[]" and (opening, closing) != ("[", "]"):  # as ]0,1[ is written in French
        opening, closing = ("(" if opening == "]" else "["), (")" if closing == "[" else "]")
    elif opening == "]":
        opening = "("
    return Node("brackets", parts, opening + closing)


def braces(parser: "Parser", items: list[str]) -> Node:
    """A set by its items, or by what is collected under conditions."""
    if not items:
        return Node("symbol", (), "\\emptyset")
    bar = next((place for place in outside(items, ("\\mid", "|", ":"))), None)
    if bar and (items[bar] != "|" or items.count("|") == 1):
        what = parser.inner_item(items[:bar])
        conditions = parser.inner_list(items[bar + 1 :])
        return Node("builder", (what, *(conditions.parts if conditions.head == "list" else (conditions,))))
    node = parser.inner_list(items)
    if parser.reading.units and node.head != "list":  # braces that only group
        return node
    return Node("brackets", node.parts if node.head == "list" else (node,), "{}")


def absolute(parser: "Parser") -> Node:
    """Up to the next bar outside all brackets; one that opens stands behind a sign or a function."""
    parser.bars += 1
    if parser.bars > MAX_DEPTH:
        raise UnreadableError(f"nested deeper than {MAX_DEPTH}")
    node = parser.sum()
    parser.expect("|")
    parser.bars -= 1
    return Node("call", (node,), "abs")


def fenced(parser: "Parser", opening: str) -> Node:
    """Between signs such as those of the floor, a mean value or a norm."""
    closing, name = FENCES[opening]
    start, depth = parser.position, 0
    while True:
        token = parser.next()
        if token == closing and depth == 0:
            break
        depth += (token == opening) - (token == closing)
    items = parser.tokens[start : parser.position - 1]
    if name == "mean" and not outside(items, (",",)):
        return Node("symbol", (), f"mean {''.join(items)}")
    node = parser.inner_list(items)
    if name == "mean":
        return Node("brackets", node.parts, "()")
    return Node("call", (node,), name)


def fraction(parser: "Parser") -> Node:
    """In a derivative, dx below the line is one symbol: d x^2 is (dx)^2, and d does not cancel."""
    sign = parser.peek(1)
    above = parser.argument()
    parser.differential = sign if parser.peek(1) == sign and sign in ("d", "\\partial") else ""
    below = parser.argument()
    parser.differential = ""
    return Node("quotient", (above, below))


def root(parser: "Parser") -> Node:
    """A root of any degree; brackets in place of braces are read as meant."""
    degree = number(2)
    if parser.peek() == "[":
        parser.next()
        items, _ = parser.within("[")
        degree = parser.inner_sum(items)
    radicand = bracketed(parser, parser.next()) if parser.peek() == "(" else parser.argument()
    return Node("root", (radicand, degree))


def environment(parser: "Parser") -> Node:
    """A matrix, cases, or lines that are one list."""
    name = "".join(parser.raw_group())
    if name in ("array", "alignedat") and parser.peek() == "{":
        parser.raw_group()
    rows = cells(parser, name)
    if name in WRAPPERS:
        lines = [[token for cell in row for token in cell] for row in rows]
        return parser.inner_list([token for line in lines for token in (*line, "\\quad")][:-1])
    if name == "cases":
        return cases(parser, rows)
    if name not in MATRICES or len({len(row) for row in rows}) != 1:
        raise UnreadableError(f"the environment {name}")
    entries = tuple(parser.inner_sum(cell) for row in rows for cell in row)
    label = f"{len(rows)}x{len(rows[0])}"
    node = Node("matrix", entries, label)
    return Node("call", (node,), "det") if name == "vmatrix" else node


def cells(parser: "Parser", name: str) -> list[list[list[str]]]:
    r"""Cells of the rows up to `\end{name}`."""
    rows: list[list[list[str]]] = [[[]]]
    depth = 0
    while True:
        token = parser.next()
        if token == "\\end" and depth == 0:
            if "".join(parser.raw_group()) != name:
                raise UnreadableError(f"the environment {name} is closed by another")
            return [row for row in rows if any(row)]
        depth += (token == "\\begin") - (token == "\\end")
        if token == "&" and depth == 0:
            rows[-1].append([])
        elif token == "\\\\" and depth == 0:
            rows.append([[]])
        elif token != "\\hline":
            rows[-1][-1].append(token)


def cases(parser: "Parser", rows: list[list[list[str]]]) -> Node:
    """Value and condition of each branch; equations without conditions are a system, which is a list."""
    parts = []
    for row in rows:
        items = [token for cell in row for token in cell]
        comma = next(iter(outside(items, (",", "\\quad"))), None)
        words = next((place for place, token in enumerate(items) if UPRIGHT.fullmatch(token)), None)
        cut = (
            len(row[0]) if len(row) > 1 else comma if comma is not None else words if words is not None else len(items)
        )
        parts.append((items[:cut], [token for token in items[cut:] if not _is_filling(token)]))
    if all(not condition for _, condition in parts):
        return parser.inner_list([token for value, _ in parts for token in (*value, ",")][:-1])
    nodes = []
    for value, condition in parts:
        while value and value[-1] in (",", "\\quad"):
            value = value[:-1]
        nodes += [
            parser.inner_item(value),
            parser.inner_list(condition) if condition else Node("words", (), "otherwise"),
        ]
    return Node("cases", tuple(nodes))


def series(parser: "Parser", token: str) -> Node:
    """A sum, product, integral, limit with its bounds and what is behind it."""
    bounds: dict[str, Node] = {}
    variable = Node("symbol", (), "")
    while parser.peek() in ("_", "^") and parser.peek() not in bounds:
        sign = parser.next()
        node = parser.argument()
        if sign == "_" and node.head in ("relation", "apply") and len(node.parts) == 2:
            variable, node = (
                node.parts[0],
                Node("brackets", (node.parts[1],), node.label) if node.head == "apply" else node.parts[1],
            )
        bounds[sign] = node
    body = parser.product()
    none = Node("words")
    if token in ("\\int", "\\oint", "\\iint", "\\iiint"):
        body, variable = _integrand(body)
    elif (
        not variable.label and bounds.get("_", none).head in ("symbol", "constant") and bounds["_"].label != "infinity"
    ):
        variable = bounds.pop("_")
    if variable.label and variable.head in ("symbol", "constant"):
        num_inside = sum(part.head == "series" for part in body.walk())
        if num_inside >= MAX_SERIES:
            raise UnreadableError(f"more than {MAX_SERIES} series within each other")
        bound = f"bound{num_inside}"
        body = _bound(body, variable.label, bound)
        variable = Node("symbol", (), bound)
    return Node("series", (variable, bounds.get("_", none), bounds.get("^", none), body), token)


def _grouped(node: Node) -> Node:
    """Brackets around one thing change nothing, but two numbers side by side are no product without them."""
    return replace(node, label=f"({node.label})") if node.head == "number" else node


def _is_filling(token: str) -> bool:
    upright = UPRIGHT.fullmatch(token)
    return token in (",", "\\quad") or bool(upright and WORDS_OF_CONDITIONS.fullmatch(upright[1]))


def _integrand(body: Node) -> tuple[Node, Node]:
    """What is integrated, without its differential, and the variable."""
    factors = list(body.parts) if body.head == "product" else [body]
    for place, factor in enumerate(factors[:-1]):
        if factor == Node("symbol", (), "d") and factors[place + 1].head == "symbol":
            rest = factors[:place] + factors[place + 2 :]
            return (product(rest) if rest else number(1)), factors[place + 1]
    raise UnreadableError("an integral without a differential")


def _bound(node: Node, name: str, bound: str) -> Node:
    """With a bound variable by a name of its own, also as a subscript."""
    parts = tuple(_bound(part, name, bound) for part in node.parts)
    label = node.label
    if node.head in ("symbol", "constant") and label == name:
        return Node("symbol", (), bound)
    if node.head in LETTERS and label.endswith(f"_{name}"):
        label = f"{label.removesuffix(name)}{bound}"
    return replace(node, parts=parts, label=label)
