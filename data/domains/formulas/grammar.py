r"""The grammar: normalised LaTeX into a tree. What it does not know whole is no formula, and raises UnreadableError.

Some notation has two readings (`\sin a b`, `a/bc`, a letter before brackets); `Reading` chooses, the same for gold and answer.
Levels, loosest first: list, logic, relation, ratio, set operators, sum, product, power.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data.domains.formulas import atoms, names
from data.domains.formulas.cursor import Cursor, Reading
from data.domains.formulas.lexer import FUNCTION_NAMES, KET, UPRIGHT, tokens
from data.domains.formulas.nodes import Node, UnreadableError, depth_of, negative, number, product
from data.domains.formulas.notation import (
    ACCENTS,
    ARROWS,
    CLOSERS,
    CLOSING,
    COMMUTING,
    FENCES,
    FONTS,
    MAX_DEPTH,
    MAX_POSTFIXES,
    MAX_TREE_DEPTH,
    NAMES,
    NO_UNITS,
    OPERATORS,
    PERCENT,
    RELATIONS,
    SAME_FUNCTIONS,
    SERIES,
    SET_OPERATORS,
    STOPS,
)


@dataclass(frozen=True, slots=True)
class Formula:
    """A tree, and whether another reading would give another one."""

    node: Node
    is_ambiguous: bool


def parsed(text: str, reading: Reading) -> Formula:
    """Parse a whole normalised text. Raises UnreadableError."""
    found = _parsed(text, reading)
    if isinstance(found, str):
        raise UnreadableError(found)
    return found


@lru_cache(maxsize=8192)
def _parsed(text: str, reading: Reading) -> Formula | str:
    """The formula, or why there is none: what cannot be read is asked for as often as what can."""
    try:
        parser = Parser(tokens(text), reading)
        node = parser.listed()
    except UnreadableError as error:
        return str(error)
    except RecursionError:
        return "nested too deep"
    if parser.peek():
        return f"unexpected {parser.peek()!r}"
    if depth_of(node) > MAX_TREE_DEPTH:
        return f"nested deeper than {MAX_TREE_DEPTH}"
    return Formula(node, parser.is_ambiguous)


class Parser(Cursor):
    """Recursive descent over tokens."""

    def inner(self, items: list[str], parse: "Callable[[Parser], Node]") -> Node:
        """Parse a run of tokens whole, one level deeper."""
        if self.depth >= MAX_DEPTH:
            raise UnreadableError(f"nested deeper than {MAX_DEPTH}")
        parser = Parser(items, self.reading, depth=self.depth + 1)
        parser.has_number = self.has_number
        parser.differential = self.differential
        node = parse(parser)
        if parser.peek():
            raise UnreadableError(f"unexpected {parser.peek()!r}")
        self.is_ambiguous |= parser.is_ambiguous
        self.has_number |= parser.has_number
        return node

    def inner_list(self, items: list[str]) -> Node:
        return self.inner(items, Parser.listed)

    def inner_item(self, items: list[str]) -> Node:
        return self.inner(items, Parser.item)

    def inner_sum(self, items: list[str]) -> Node:
        return self.inner(items, Parser.sum)

    def listed(self) -> Node:
        """`a, b; c, d`: groups between semicolons, or one item."""
        groups = [self.group_of_items()]
        while self.take(";", "\\\\"):
            if self.peek():
                groups.append(self.group_of_items())
        if len(groups) == 1:
            return groups[0]
        return Node("list", tuple(groups), ";" if any(group.head == "list" for group in groups) else ",")

    def group_of_items(self) -> Node:
        items = [self.item()]
        while self.take(",", "\\quad"):
            while self.take(",", "\\quad"):
                pass
            if not self.peek() or self.peek() in CLOSERS or self.peek() == ";":
                break
            items.append(self.item())
        return items[0] if len(items) == 1 else Node("list", tuple(items), ",")

    def item(self) -> Node:
        """Logic: implications bind loosest, then or, then and."""
        return self.operated(ARROWS, lambda: self.operated({"\\vee"}, lambda: self.operated({"\\wedge"}, self.negated)))

    def operated(self, signs: "frozenset[str] | set[str]", operand: Callable[[], Node]) -> Node:
        """Operands between operators of one level, from the left."""
        node = operand()
        while self.peek() in signs:
            sign = self.next()
            right = operand()
            same = node.head == "apply" and node.label == sign and sign in COMMUTING
            node = Node("apply", (*node.parts, right) if same else (node, right), sign)
        return node

    def negated(self) -> Node:
        if self.take("\\neg"):
            return Node("apply", (self.negated(),), "\\neg")
        if self.peek() in ("\\forall", "\\exists"):
            quantifier = self.next()
            return Node("apply", (self.relation(),), quantifier)
        return self.relation()

    def relation(self) -> Node:
        if self.peek() in ("=", "\\approx") and self.peek(1):
            self.next()
        sides, signs = [self.ratio()], []
        while self.peek() in RELATIONS or self.peek() == "\\not":
            sign = self.next()
            signs.append({"=": "\\ne", "\\in": "\\notin"}.get(self.next(), "\\not") if sign == "\\not" else sign)
            sides.append(self.ratio())
        if self.peek() == "\\pmod" or (self.peek() == "(" and self.peek(1) in ("\\mod", "\\bmod")):
            return self.congruence(sides, signs)
        return sides[0] if not signs else Node("relation", tuple(sides), " ".join(signs))

    def congruence(self, sides: list[Node], signs: list[str]) -> Node:
        modulus = self.argument() if self.take("\\pmod") else None
        if modulus is None:
            self.position += 2
            modulus = self.sum()
            self.expect(")")
        if len(sides) == 2 and signs[0] in ("\\equiv", "="):
            return Node("congruence", (*sides, modulus))
        if len(sides) == 1:
            return Node("congruence", (sides[0], sides[0], modulus), "residue")
        raise UnreadableError("a modulus without a congruence")

    def ratio(self) -> Node:
        terms = [self.set_expression()]
        while self.peek() == ":":
            self.next()
            terms.append(self.set_expression())
        return terms[0] if len(terms) == 1 else Node("ratio", tuple(terms))

    def set_expression(self) -> Node:
        return self.operated(SET_OPERATORS, self.sum)

    def sum(self) -> Node:
        terms = [self.term()]
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else _summed(terms)

    def term(self) -> Node:
        """A product with the signs before it."""
        signs = []
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            signs.append(self.next())
            if len(signs) > 4:
                raise UnreadableError("too many signs")
        node = self.product()
        for sign in reversed(signs):
            if sign == "-":
                node = negative(node)
            elif sign != "+":
                node = Node("signed", (node,), sign)
        return node

    def product(self) -> Node:
        factors = [self.factor()]
        while True:
            token = self.peek()
            if token in ("\\cdot", "*", "\\times"):
                self.next()
                self.multiply(factors, token)
            elif token in ("/", "\\over"):
                self.next()
                factors = [Node("quotient", (product(factors), self.divisor()))]
            elif token in OPERATORS:
                self.next()
                factors = [Node("apply", (product(factors), self.factor()), "\\bmod" if token == "\\mod" else token)]
            elif not self.reading.units and (unit := self.unit()):
                return self.quantity(product(factors), unit)
            elif self.starts_factor():
                factor, is_added = self.adjacent(factors[-1])
                factors[-1:] = [Node("sum", (factors[-1], factor))] if is_added else [factors[-1], factor]
            else:
                return _in_order(factors, matrices=not self.reading.units)

    def unit(self) -> str:
        """Takes upright or spelled words behind a value: its unit, or what is counted; empty where there is none."""
        words: list[str] = []
        while (word := _unit_word(self.peek())) and (len(word) > 1 or self.has_number):
            self.next()
            if self.peek() == "^" and self.peek(1) != "\\circ":
                self.next()
                word += f"^{''.join(self.raw_group())}"
            words.append(word)
            if self.peek() in ("/", "\\cdot", "*") and _unit_word(self.peek(1)):
                words.append("/" if self.next() == "/" else "*")
        return " ".join(words)

    def quantity(self, value: Node, unit: str) -> Node:
        """A value with its unit; several side by side, as hours and minutes, are one."""
        if unit.lower() in PERCENT:
            return Node("percent", (value,))
        if unit.lower() in ("degree", "degrees", "deg"):
            return _degrees(value)
        node = Node("quantity", (value,), unit)
        if not self.starts_factor():
            return node
        rest = self.product()
        if rest.head not in ("quantity", "compound"):
            raise UnreadableError("a unit within a formula")
        return Node("compound", (node, *(rest.parts if rest.head == "compound" else (rest,))))

    def multiply(self, factors: list[Node], sign: str) -> None:
        """Take the factor behind a sign; between vectors a cross, between sets a Cartesian product."""
        negatives = 0
        while self.peek() in ("+", "-") and negatives < 4:
            negatives += self.next() == "-"
        factor = self.factor()
        if sign == "\\times" and _is_vector(factors[-1]) and _is_vector(factor):
            factors[-1] = Node("cross", (factors[-1], factor))
        elif sign == "\\times" and not self.reading.units and _is_set(factors[-1]) and _is_set(factor):
            factors[-1] = Node("apply", (factors[-1], factor), "\\times")
        else:
            factors.append(factor)
        if negatives % 2:
            factors.insert(0, number(-1))

    def adjacent(self, before: Node) -> tuple[Node, bool]:
        """The factor behind another one without a sign, and whether it is added: a fraction behind a whole number."""
        is_fraction = self.peek() == "\\frac"
        factor = self.factor()
        if before.head == factor.head == "number" and "(" not in before.label + factor.label:
            raise UnreadableError("two numbers side by side")
        if is_fraction and before.head == "number" and before.number is not None and before.number.denominator == 1:
            above, below = factor.parts if factor.head == "quotient" else (factor, factor)
            if (
                above is not below
                and above.number is not None
                and below.number is not None
                and 0 < above.number < below.number
            ):
                return factor, True
        return factor, False

    def divisor(self) -> Node:
        sign = self.take("-")
        factors = [self.factor()]
        while self.starts_factor():
            self.is_ambiguous = True
            if not self.reading.long_divisors:
                break
            factors.append(self.factor())
        node = product(factors)
        return negative(node) if sign else node

    def starts_factor(self) -> bool:
        token = self.peek()
        if token == "|":
            return not self.bars
        return bool(token) and token not in STOPS

    def factor(self) -> Node:
        node = self.atom()
        for _ in range(MAX_POSTFIXES):
            token = self.peek()
            if token == "^":
                self.next()
                node = self.exponent(node)
            elif token == "!":
                self.next()
                double = self.take("!")
                node = Node("call", (node,), "double factorial" if double else "factorial")
            elif token in ("\\%", "%"):
                self.next()
                node = Node("percent", (node,))
            elif token == "_":
                self.next()
                node = self.indexed(node, self.raw_group())
            elif token == "'" and node.head in ("apply", "brackets"):
                self.next()
                node = Node("apply", (node,), "derivative")
            else:
                return node
        raise UnreadableError(f"more than {MAX_POSTFIXES} powers and marks at one symbol")

    def indexed(self, node: Node, raw: list[str]) -> Node:
        """Digits with a base, or an index of something longer than a letter."""
        base = "".join(UPRIGHT.sub(r"\1", token) for token in raw).strip()
        if node.head == "number" and base.isdecimal() and len(base) <= 2:
            return Node("based", (), f"{node.label}_{base}")
        return Node("apply", (node,), f"index {names.label(self, raw)}")

    def exponent(self, base: Node) -> Node:
        raw = self.tokens[self.position + 1 : self.position + 2] if self.peek() == "{" else [self.peek()]
        if raw in (["\\circ"], ["\\prime"]):
            self.raw_group()
            return _degrees(base) if raw == ["\\circ"] else Node("apply", (base,), "derivative")
        if raw in (["\\top"], ["T"], ["*"], ["\\dagger"], ["c"], ["C"], ["\\complement"]) and base.head in (
            "matrix",
            "brackets",
            "cross",
        ):
            return Node("apply", (base,), f"^{names.label(self, self.raw_group())}")
        sign = self.take("-")
        power = self.braced() if self.peek() == "{" else self.atom()
        return Node("power", (base, negative(power) if sign else power))

    def atom(self) -> Node:
        token = self.next()
        if token[0].isdecimal() or (token[0] == "." and token != "."):
            return atoms.numeral(self, token)
        if token in CLOSING or token in CLOSERS:
            return atoms.bracketed(self, token)
        if token == "|":
            return atoms.absolute(self)
        if token in FENCES:
            return atoms.fenced(self, token)
        if ket := KET.fullmatch(token):
            return Node("symbol", (), f"ket {_plain(ket[1])}")
        if token == "^" and self.reading.units:
            return Node("symbol", (), f"^{names.label(self, self.raw_group())}")
        if token in FONTS or token in ACCENTS:
            return names.accented(self, token)
        if upright := UPRIGHT.fullmatch(token):
            return names.word(self, upright[1])
        if token in ("+", "-"):
            node = self.factor()
            return negative(node) if token == "-" else node
        return self.command(token)

    def command(self, token: str) -> Node:
        name = token.removeprefix("\\")
        match token:
            case "\\frac":
                return atoms.fraction(self)
            case "\\sqrt":
                return atoms.root(self)
            case "\\binom":
                return Node("call", (self.argument(), self.argument()), "binomial")
            case "\\begin":
                return atoms.environment(self)
            case "\\dots":
                return Node("dots")
            case "\\mathrm" | "\\text":
                return self.inner_sum(self.raw_group())
            case "\\dollar":
                return self.factor()
        if name in FUNCTION_NAMES and token != name:
            return names.function(self, SAME_FUNCTIONS.get(name, name))
        if token in SERIES:
            return atoms.series(self, token)
        if token == self.differential and self.peek() not in ("^", "_", "}", ""):
            start = self.position
            self.atom()
            return Node("symbol", (), f"{token} {''.join(self.tokens[start : self.position])}")
        if token in ("\\triangle", "\\angle") and self.peek().isalpha():
            return names.figure(self, name)
        if (
            token in ("\\partial", "\\nabla", "\\Delta")
            or name in NAMES
            or (len(token) == 1 and token.isalpha() and token.isascii())
        ):
            return names.named(self, token)
        raise UnreadableError(f"cannot read {token!r}")

    def braced(self) -> Node:
        """`{...}` of TeX, which groups and is no set."""
        raw = self.raw_group()
        if not raw:
            return number(1)
        return self.inner_list(raw)

    def argument(self) -> Node:
        r"""`{...}`, or one token: \frac12 is a half."""
        if self.peek() == "{":
            raw = self.raw_group()
            return self.inner_item(raw)
        token = self.peek()
        if len(token) > 1 and token.isdecimal():
            self.tokens[self.position : self.position + 1] = [token[0], token[1:]]
        return self.atom()


# ---------------------------------------------------------------- trees


def _unit_word(token: str) -> str:
    """The word that a token is, where it may be a unit; empty for functions, constants and anything else."""
    upright = UPRIGHT.fullmatch(token)
    word = (
        " ".join(upright[1].replace("\\", " ").split())
        if upright
        else token
        if token.isalpha() and (len(token) > 1 or not token.isascii())
        else ""
    )
    if (
        (word in FUNCTION_NAMES and word not in ("min", "sec"))
        or word in NO_UNITS
        or word in ("and", "or", "mod", "if", "for", "T", "when", "where")
        or word[:1].isdecimal()
    ):
        return ""
    return word


def _in_order(factors: list[Node], *, matrices: bool) -> Node:
    """A product; operators, and capital letters of which one is inverted or transposed (`matrices`), keep their order."""
    letters = [_operator(factor) or (_capital(factor) if matrices else "") for factor in factors]
    is_ordered = len(set(filter(None, letters))) > 1 and (
        any(map(_operator, factors))
        or any(x and factor.head == "power" for x, factor in zip(letters, factors, strict=True))
    )
    if not is_ordered:
        return product(factors)
    ordered = [factor for letter, factor in zip(letters, factors, strict=True) if letter]
    rest = [factor for letter, factor in zip(letters, factors, strict=True) if not letter]
    return product([*rest, Node("apply", tuple(ordered), "in order")])


def _operator(factor: Node) -> str:
    """The name of a letter below a hat; empty for another factor."""
    base = factor.parts[0] if factor.head == "power" else factor
    return base.label if base.head == "operator" else ""


def _capital(factor: Node) -> str:
    """The letter of a factor such as A, or A^{-1}; empty for another one."""
    is_inverse = factor.head == "power" and factor.parts[1] in (negative(number(1)), Node("symbol", (), "T"))
    base = factor.parts[0] if is_inverse else factor
    return base.label if base.head == "symbol" and len(base.label) == 1 and base.label.isupper() else ""


def _summed(terms: Sequence[Node]) -> Node:
    r"""A sum; a unit behind its last term alone is that of the whole, as in `18+2\pi\text{ cm}`."""
    *others, last = terms
    if last.head == "quantity" and not any(
        part.head in ("quantity", "compound") for term in others for part in term.walk()
    ):
        return Node("quantity", (Node("sum", (*others, *last.parts)),), last.label)
    return Node("sum", tuple(terms))


def _degrees(node: Node) -> Node:
    return Node("product", (node, Node("constant", (), "degree")))


def _is_vector(node: Node) -> bool:
    if node.head in ("sum", "product", "cross"):
        return any(_is_vector(part) for part in node.parts)
    return node.head == "vector" or (node.head == "symbol" and node.label.startswith("\\nabla"))


def _is_set(node: Node) -> bool:
    return (
        node.head == "symbol" and (node.label.startswith("bb ") or (len(node.label) == 1 and node.label.isupper()))
    ) or (node.head == "brackets" and len(node.parts) > 1)


def _plain(text: str) -> str:
    return re.sub(r"\\frac ?\{(\d+)\}\{(\d+)\}", r"\1/\2", "".join(text.split()))
