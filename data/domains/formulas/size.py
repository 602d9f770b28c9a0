"""Whether a formula is small enough to be given to a computer algebra system, which may never come back from a large one."""

from data.domains.formulas.nodes import Node
from data.domains.formulas.values import exact

MAX_NODES, MAX_EXPONENT, MAX_TERMS, MAX_ARGUMENT = 150, 100, 200, 200


def is_modest(node: Node) -> bool:
    """Few parts, and no large power, factorial, binomial or series in it."""
    return sum(1 for _ in node.walk()) <= MAX_NODES and all(map(_is_modest, node.walk()))


def _is_modest(node: Node) -> bool:
    if node.head == "power":
        return _within(node.parts[1], MAX_EXPONENT)
    if node.head == "call" and node.label in ("factorial", "double factorial", "binomial"):
        return _within(node.parts[0], MAX_ARGUMENT)
    if node.head == "series":
        low, high = exact(node.parts[1]), exact(node.parts[2])
        return low is None or high is None or abs(high - low) <= MAX_TERMS
    return True


def _within(node: Node, limit: int) -> bool:
    value = exact(node)
    return value is None or abs(value) <= limit
