"""What a formula is made of: one record for every construct, told apart by its head.

| head | parts | label |
| --- | --- | --- |
| number | | its text; `number` is its exact value |
| symbol, vector, operator | | the name, with subscript, accent and marks |
| constant | | pi, e, i, degree, infinity |
| sum, product, quotient, power, root | terms, factors, (above, below), (base, exponent), (radicand, degree) | |
| call | arguments | a function that has values: sin, log, abs, floor, binomial, ... |
| apply | arguments | an unknown function, as f or P, or an operator without a value, as the union |
| series | variable, from, to, body | sum, prod, int, lim |
| signed | the term behind it | ± or ∓ |
| cross | left, right | |
| percent | the number before the sign | |
| quantity | the value | its unit, or what is counted |
| compound | quantities side by side | |
| relation | sides | the signs between them, joined by blanks |
| congruence | left, right, modulus | |
| ratio | terms | |
| brackets | items | `()`, `[)`, `{}`, ... |
| builder | what is collected, conditions | |
| list | items without brackets | `,` or `;` |
| matrix | entries by rows | rows x columns |
| cases | value and condition in turn | |
| based | | digits_base |
| words | | the words, in lower case |
| dots | | |
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LETTERS = frozenset({"symbol", "vector", "operator"})  # heads that are one name


class UnreadableError(ValueError):
    """The text is not a formula of the grammar."""


@dataclass(frozen=True, slots=True)
class Node:
    """One construct."""

    head: str
    parts: tuple["Node", ...] = ()
    label: str = ""
    number: Fraction | None = None
    precision: float = 0.0  # of a rounded number: half a unit of its last digit, relative
    real: float = 0.0  # the number as a float; infinite where it is beyond one

    def walk(self) -> Iterator["Node"]:
        """This node and all below it."""
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.parts)


def depth_of(node: Node) -> int:
    """The longest way from a node down."""
    deepest, level = 0, [node]
    while level:
        deepest += 1
        level = [part for above in level for part in above.parts]
    return deepest


def number(value: Fraction | int, label: str = "", precision: float = 0.0) -> Node:
    """A number; its text where it was written as one."""
    exact = Fraction(value)
    size = exact.numerator.bit_length() - exact.denominator.bit_length()
    return Node("number", (), label or str(value), exact, precision, float(exact) if size < 1000 else math.inf)


def product(factors: list[Node]) -> Node:
    """Of one factor, the factor."""
    return factors[0] if len(factors) == 1 else Node("product", tuple(factors))


def negative(node: Node) -> Node:
    """Minus a node; a quantity keeps its unit."""
    if node.head == "quantity":
        return Node("quantity", (negative(node.parts[0]),), node.label)
    if node.number is not None and node.head == "number" and not node.label.startswith("-"):
        return number(-node.number, f"-{node.label}", node.precision)
    return Node("product", (number(-1), node))


def symbols_of(*nodes: Node) -> frozenset[str]:
    """The names in formulas."""
    return frozenset(part.label for node in nodes for part in node.walk() if part.head in LETTERS and part.label)


def precision_in(*nodes: Node) -> float:
    """Of the roughest rounded number; 0 where none is rounded."""
    return max((part.precision for node in nodes for part in node.walk()), default=0.0)
