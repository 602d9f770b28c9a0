"""Names: functions with their arguments, upright words, letters with accents, subscripts and marks."""

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from data.domains.formulas.cursor import Cursor, outside
from data.domains.formulas.lexer import FUNCTION_NAMES, GREEK, UPRIGHT
from data.domains.formulas.nodes import Node, UnreadableError, negative, number, product
from data.domains.formulas.notation import (
    ACCENTS,
    CLOSING,
    CONSTANTS,
    FENCES,
    FONTS,
    FUNCTION_LETTERS,
    INVERSES,
    KEPT_FONTS,
    MARKS,
    NO_UNITS,
    SAME_FUNCTIONS,
    SERIES,
    SPECIAL,
    UNIT_VECTORS,
)
from data.domains.quantities import is_unit

if TYPE_CHECKING:
    from data.domains.formulas.grammar import Parser


def figure(parser: "Parser", name: str) -> Node:
    """A triangle or an angle by the letters of its corners."""
    letters = ""
    while len(parser.peek()) == 1 and parser.peek().isalpha():
        letters += parser.next()
    return Node("symbol", (), f"{name} {letters}")


def function(parser: "Parser", name: str) -> Node:
    """A function with its base or power and its argument."""
    power = base = None
    if name in ("min", "max", "gcd", "lcm", "det", "dim", "deg", "rank", "tr"):
        return operator_name(parser, name)
    while parser.peek() in ("_", "^"):
        if parser.next() == "_":
            base = parser.argument()
        elif parser.tokens[parser.position : parser.position + 4] == ["{", "-", "1", "}"] and name in INVERSES:
            parser.raw_group()
            name = INVERSES[name]
        else:
            power = parser.braced() if parser.peek() == "{" else parser.argument()
    argument = function_argument(parser)
    node = Node("call", (argument, base) if base else (argument,), name)
    return Node("power", (node, power)) if power else node


def operator_name(parser: "Parser", name: str) -> Node:
    """A function of several values, as gcd, or an operator before what it is applied to, as det."""
    if parser.peek() == "(":
        node = parser.atom()
        parts = node.parts if node.head == "brackets" else (node,)
        return Node("call", parts, name)
    index = label(parser, parser.raw_group()) if parser.take("_") else ""
    if parser.peek() == "\\{":
        node = parser.atom()
        return Node("call", node.parts, name) if not index else Node("apply", (node,), f"{name}_{index}")
    if parser.starts_factor():
        return Node("apply", (parser.factor(),), f"{name} {index}".strip())
    return Node("symbol", (), name + (f"_{index}" if index else ""))


def function_argument(parser: "Parser") -> Node:
    r"""What a function without brackets is of: `\\sin 2 x` is of both factors, or by another reading of the first."""
    token = parser.peek()
    if token in ("(", "[", "\\{", "|"):
        node = parser.atom()
        while parser.take("!"):
            node = Node("call", (node,), "factorial")
        if parser.peek() == "^" and token != "|":
            parser.is_ambiguous = True
        return node
    if parser.take("-"):
        return negative(function_argument(parser))
    factors = [parser.factor()]
    while continues_argument(parser):
        parser.is_ambiguous = True
        if not parser.reading.long_arguments:
            break
        factors.append(parser.factor())
    if parser.peek() == "/" and parser.peek(1):
        parser.is_ambiguous = True
        if parser.reading.long_arguments:
            parser.next()
            return Node("quotient", (product(factors), parser.divisor()))
    return product(factors)


def continues_argument(parser: "Parser") -> bool:
    """Whether the next factor belongs to the argument of a function without brackets."""
    token = parser.peek()
    name = token.removeprefix("\\")
    if not parser.starts_factor() or token in CLOSING or UPRIGHT.fullmatch(token) or token in ACCENTS or token in FONTS:
        return False
    if token == "e" and parser.peek(1) in ("_", "^"):
        return False
    return (
        token not in ("\\frac", "\\sqrt", "|", "\\begin")
        and token not in FENCES
        and token not in SERIES
        and name not in FUNCTION_NAMES
    )


def word(parser: "Parser", text: str) -> Node:
    """Upright letters: a number, a function, a unit, or a name."""
    name = " ".join(text.replace("\\", " ").split())
    if re.fullmatch(r"[+-]?\d{1,30}(?:\.\d{1,30})?", name):
        return number(Fraction(name), name)
    if name in FUNCTION_NAMES:
        return function(parser, SAME_FUNCTIONS.get(name, name))
    if parser.reading.units and parser.has_number and name not in NO_UNITS and is_unit(name):
        return Node("symbol", (), f"[{name}]")
    if len(name) == 1 and name.isalpha():
        return named(parser, name)
    if re.fullmatch(r"e_.", name) and name[2:] in UNIT_VECTORS:
        return Node("symbol", (), f"unit {name[2:]}")
    if re.fullmatch(r"[A-Za-zµμÅ]{1,12}\.?", name):
        if name.lower().startswith("const"):
            return Node("symbol", (), "constant")
        is_counted = parser.reading.units and parser.has_number and len(name) > 2 and parser.peek() not in ("_", "^")
        return Node("symbol", (), f"count {name}") if is_counted else named(parser, f"text {name}")
    raise UnreadableError(f"the words {name!r}")


def accented(parser: "Parser", token: str) -> Node:
    """A letter below an accent, or in another font."""
    accent = ACCENTS.get(token, "")
    raw = parser.raw_group()
    letters = [item for item in raw if item not in FONTS and item not in ("{", "}")]
    if accent == "bar" and ({"z", "w", "i", "+", "-"} & set(letters)):
        return Node("call", (parser.inner_sum(raw),), "conjugate")
    if (
        not accent
        and (len(letters) != 1 or letters[0].isdecimal())
        and not all(len(x) == 1 and x.isalpha() for x in letters)
    ):
        return parser.inner_list(raw)
    name = label(parser, raw)
    if name.startswith("e_") and name[2:] in UNIT_VECTORS:
        return Node("symbol", (), f"unit {name[2:]}")
    if accent == "hat":
        return Node("vector", (), f"unit {name}") if name in UNIT_VECTORS else operator(parser, name)
    if not accent and letters == ["e"] and parser.peek() == "_":
        return named(parser, "e")
    font = KEPT_FONTS.get(token, accent)
    node = named(parser, f"{font} {name}".strip())
    is_vector = token in ("\\vec", "\\mathbf") or any(item in ("\\vec", "\\mathbf") for item in raw)
    return Node("vector", (), node.label) if is_vector and node.head == "symbol" else node


def operator(parser: "Parser", name: str) -> Node:
    """An operator does not cancel against its inverse."""
    if parser.tokens[parser.position : parser.position + 5] == ["^", "{", "-", "1", "}"]:
        parser.position += 5
        return Node("symbol", (), f"inverse {name}")
    node = named(parser, name)
    return Node("operator", (), node.label) if node.head == "symbol" else node


def named(parser: "Parser", name: str) -> Node:
    """A symbol with its subscript and the marks that are no powers."""
    subscript = marks = ""
    while parser.peek() == "'" or (parser.peek() == "_" and not subscript):
        if parser.next() == "'":
            marks += "'"
        else:
            subscript = label(parser, parser.raw_group())
    if name == "e" and subscript in UNIT_VECTORS:
        return Node("symbol", (), f"unit {subscript}")
    if parser.peek() == "^" and is_mark(parser):
        parser.next()
        marks += label(parser, parser.raw_group())
    if parser.peek() == "^" and not subscript:
        subscript = late_subscript(parser)
    if not subscript and not marks and name in CONSTANTS:
        return Node("constant", (), CONSTANTS[name])
    full = name + (f"_{subscript}" if subscript else "") + marks
    if parser.peek() == "(" and is_applied(parser, name, bool(marks)):
        return applied(parser, full)
    return Node("symbol", (), full)


def applied(parser: "Parser", name: str) -> Node:
    """A function of what stands in the brackets: arguments, or an event below a condition as in P(A | B)."""
    parser.next()
    items, _ = parser.within("(")
    bars = outside(items, ("\\mid", "|"))
    if len(bars) == 1 and bars[0]:
        event, condition = (parser.inner_list(part) for part in (items[: bars[0]], items[bars[0] + 1 :]))
        return Node("apply", (event, condition), f"{name} given")
    node = parser.inner_list(items)
    if name in SPECIAL and node.head != "list":
        return Node("call", (node,), SPECIAL[name])
    return Node("apply", node.parts if node.head == "list" else (node,), name)


def late_subscript(parser: "Parser") -> str:
    """`x^2_1` is x_1^2: the subscript behind a power belongs to the letter."""
    start = parser.position
    parser.next()
    parser.raw_group()
    end = parser.position
    subscript = ""
    if parser.take("_"):
        subscript = label(parser, parser.raw_group())
        parser.tokens[start : parser.position] = parser.tokens[start:end]
    parser.position = start
    return subscript


def is_applied(parser: "Parser", name: str, has_marks: bool) -> bool:
    """Whether the brackets hold arguments: of a name for functions, or such as no factor is written."""
    if name in CONSTANTS:
        return False
    try:
        inside, _ = Cursor(parser.tokens[parser.position + 1 :], parser.reading).within("(")
    except UnreadableError:
        return False
    is_function = name == "f" if parser.reading.units else name in FUNCTION_LETTERS
    if is_function or name in SPECIAL or has_marks or outside(inside, (",", "\\mid")) or inside.count("|") == 1:
        return True
    behind = parser.tokens[parser.position + len(inside) + 2 : parser.position + len(inside) + 3]
    if behind == ["^"]:
        return False
    core = inside[1:] if inside[:1] == ["-"] else inside
    return inside == ["0"] or (_is_one_letter(core) and core[0] != name)


def _is_one_letter(tokens: list[str]) -> bool:
    """A letter, perhaps with an index."""
    if not tokens or len(tokens) > 6 or (len(tokens) > 1 and tokens[1] != "_") or {"+", "-", "*", "/"} & set(tokens):
        return False
    return tokens[0].isalpha() or tokens[0].removeprefix("\\") in GREEK


def is_mark(parser: "Parser") -> bool:
    """Whether the superscript is a mark, as the star of x^*, and no power."""
    after = parser.tokens[parser.position + 1 :]
    if after[:1] == ["{"]:
        return _is_mark(after[1 : after.index("}")]) if "}" in after else False
    if after[:1] in (["+"], ["-"]):
        return not after[1:2] if not parser.reading.units else not (after[1:2] and after[1][0].isdecimal())
    return bool(after) and after[0] in MARKS and after[0] != "\\circ"


def label(parser: "Parser", raw: list[str]) -> str:
    """A name as text, without braces and fonts."""
    shown = (UPRIGHT.sub(r"\1", token).replace(" ", "") for token in raw)
    return "".join(token for token in shown if token not in FONTS and token not in ("{", "}", ","))


def _is_mark(group: list[str]) -> bool:
    """Whether a superscript in braces is a mark: signs, an order of derivatives as (4), or a word that is no function."""
    if not group or group == ["\\circ"]:
        return False
    if all(token in MARKS for token in group) or (group[0] == "(" and group[-1] == ")" and len(group) == 3):
        return True
    upright = UPRIGHT.fullmatch(group[0]) if len(group) == 1 else None
    return upright is not None and upright[1].strip() not in FUNCTION_NAMES and not upright[1].strip().isdecimal()
