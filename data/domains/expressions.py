"""Formulas of science as functions of their symbols: units are symbols, too, and an upright word behind a number may be one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from data.domains.formulas.cursor import READINGS as _MATHEMATICAL
from data.domains.formulas.cursor import Reading
from data.domains.formulas.grammar import parsed
from data.domains.formulas.nodes import Node, precision_in, symbols_of
from data.domains.formulas.values import Point, floats

READINGS = tuple(replace(reading, units=True) for reading in _MATHEMATICAL)
Values = Mapping[str, complex]


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
        return Point(floats(), values).at(self.node)


@lru_cache(maxsize=4096)
def read(text: str, reading: Reading) -> Expression:
    """Parse a normalised formula. Raises UnreadableError."""
    node = parsed(text, reading).node
    return Expression(node, symbols_of(node), precision_in(node))
