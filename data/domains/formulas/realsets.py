r"""Sets of real numbers by their ends: intervals, unions, `\mathbb{R} \setminus \{0\}`, inequalities, as one sorted list of pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

import mpmath

from data.domains.formulas.nodes import Node, negative, symbols_of
from data.domains.formulas.sameness import same_value
from data.domains.formulas.values import Point, digits, exact
from data.domains.policy import Policy

_EXACT = Policy(rounded_places=0)
_INFINITY = Node("constant", (), "infinity")
_ORDER = frozenset({"<", "\\le", ">", "\\ge"})
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_MAX_PIECES = 60


@dataclass(frozen=True, slots=True)
class End:
    """An end of a piece: where it is, and whether it belongs to the piece."""

    node: Node
    place: float
    closed: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """The numbers between two ends."""

    low: End
    high: End


RealSet = tuple[Piece, ...]


def real_set(node: Node) -> RealSet | None:
    """The set that a node stands for; None for what is none, or has ends with symbols."""
    rule = _RULES.get(node.head)
    pieces = rule(node) if rule else None
    return None if pieces is None or len(pieces) > _MAX_PIECES else _merged(pieces)


def same_real_set(gold: RealSet, answer: RealSet) -> bool:
    """The same pieces."""
    return len(gold) == len(answer) and all(
        _same_end(g.low, a.low) and _same_end(g.high, a.high) for g, a in zip(gold, answer, strict=True)
    )


def _same_end(gold: End, answer: End) -> bool:
    return gold.closed == answer.closed and (
        gold.node == answer.node or same_value(gold.node, answer.node, _EXACT, positive=False)
    )


def _end(node: Node, *, closed: bool) -> End | None:
    if symbols_of(node):
        return None
    for infinite, place in ((_INFINITY, mpmath.inf), (negative(_INFINITY), -mpmath.inf)):
        if node == infinite:
            return End(infinite, float(place), closed=False)
    value = exact(node)
    try:
        if value is None:
            with mpmath.workdps(50):
                number = Point(digits(), {}).at(node)
            return None if getattr(number, "imag", 0) else End(node, float(number), closed)
        return End(node, float(value), closed)
    except (ArithmeticError, ValueError, TypeError, KeyError):
        return None


def _piece(low: Node, high: Node, closed: Sequence[bool]) -> RealSet | None:
    ends = _end(low, closed=closed[0]), _end(high, closed=closed[1])
    if ends[0] is None or ends[1] is None:
        return None
    if ends[0].place > ends[1].place or (ends[0].place == ends[1].place and not (ends[0].closed and ends[1].closed)):
        return ()
    return (Piece(ends[0], ends[1]),)


_ALL = Piece(End(negative(_INFINITY), -mpmath.inf, closed=False), End(_INFINITY, mpmath.inf, closed=False))


def _brackets(node: Node) -> RealSet | None:
    if node.label == "{}":
        points = [_piece(part, part, (True, True)) for part in node.parts]
        return None if any(not point for point in points) else tuple(piece for point in points for piece in point or ())
    if len(node.parts) != 2:
        return None
    return _piece(*node.parts, (node.label[0] == "[", node.label[-1] == "]"))


def _symbol(node: Node) -> RealSet | None:
    return {"bb R": (_ALL,), "\\emptyset": ()}.get(node.label)


def _apply(node: Node) -> RealSet | None:
    if node.label not in ("\\cup", "\\cap", "\\setminus", "\\vee", "\\wedge"):
        return None
    sets = [real_set(part) for part in node.parts]
    if any(found is None for found in sets):
        return None
    if node.label in ("\\cup", "\\vee"):
        return tuple(piece for found in sets for piece in found or ())
    result = sets[0] or ()
    for other in sets[1:]:
        result = _intersected(result, (other or ()) if node.label in ("\\cap", "\\wedge") else complement(other or ()))
    return result


def _relation(node: Node) -> RealSet | None:
    """An inequality, a chain, or membership of one symbol."""
    signs = node.label.split()
    if signs == ["\\in"]:
        return real_set(node.parts[1]) if node.parts[0].head == "symbol" else None
    if signs == ["\\ne"] and node.parts[0].head == "symbol":
        point = _piece(node.parts[1], node.parts[1], (True, True))
        return complement(point) if point else None
    if not set(signs) <= _ORDER or len(signs) > 2:
        return None
    result: RealSet = (_ALL,)
    for left, sign, right in zip(node.parts, signs, node.parts[1:], strict=False):
        piece = _half_line(left, sign, right)
        if piece is None:
            return None
        result = _intersected(result, piece)
    return result


def _half_line(left: Node, sign: str, right: Node) -> RealSet | None:
    closed = sign in ("\\le", "\\ge")
    if right.head == "symbol":
        left, right, sign = right, left, _TURNED[sign]
    if right.head == "call" and right.label == "abs":
        left, right, sign = right, left, _TURNED[sign]
    if left.head == "call" and left.label == "abs" and left.parts[0].head == "symbol" and sign in ("<", "\\le"):
        return _piece(negative(right), right, (closed, closed))
    if left.head == "call" and left.label == "abs" and left.parts[0].head == "symbol":
        inside = _piece(negative(right), right, (not closed, not closed))
        return None if inside is None else complement(inside)
    if left.head != "symbol" or symbols_of(right):
        return None
    return (
        _piece(negative(_INFINITY), right, (False, closed))
        if sign in ("<", "\\le")
        else _piece(right, _INFINITY, (closed, False))
    )


def _list(node: Node) -> RealSet | None:
    """Inequalities of one symbol: all of them, or any where all together leave nothing."""
    if len({name for name in symbols_of(node) if not name.startswith("bb ")}) != 1 or any(
        part.head != "relation" for part in node.parts
    ):
        return None
    sets = [real_set(part) for part in node.parts]
    if any(found is None for found in sets):
        return None
    together: RealSet = (_ALL,)
    for found in sets:
        together = _intersected(together, found or ())
    return together or tuple(piece for found in sets for piece in found or ())


def _builder(node: Node) -> RealSet | None:
    what, *conditions = node.parts
    name = what.parts[0] if what.head == "relation" and what.label == "\\in" else what
    if name.head != "symbol" or symbols_of(*conditions) - {"bb R"} != {name.label}:
        return None
    result = (real_set(what) if what.head == "relation" else (_ALL,)) or ()
    for condition in conditions:
        found = real_set(condition)
        if found is None:
            return None
        result = _intersected(result, found)
    return result


_RULES = {
    "brackets": _brackets,
    "symbol": _symbol,
    "apply": _apply,
    "relation": _relation,
    "list": _list,
    "builder": _builder,
}


# ---------------------------------------------------------------- pieces


def _merged(pieces: Sequence[Piece]) -> RealSet:
    """Sorted, with pieces that touch joined."""
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.low.place, not p.low.closed)):
        if merged and (piece.low.place < merged[-1].high.place or _touch(merged[-1].high, piece.low)):
            last = merged.pop()
            piece = Piece(last.low, max(last.high, piece.high, key=lambda end: (end.place, end.closed)))
        merged.append(piece)
    return tuple(merged)


def _touch(high: End, low: End) -> bool:
    return high.place == low.place and (high.closed or low.closed)


def _intersected(left: RealSet, right: RealSet) -> RealSet:
    found = []
    for a in left:
        for b in right:
            low = max(a.low, b.low, key=lambda end: (end.place, not end.closed))
            high = min(a.high, b.high, key=lambda end: (end.place, end.closed))
            if low.place < high.place or (low.place == high.place and low.closed and high.closed):
                found.append(Piece(low, high))
    return _merged(found)


def complement(pieces: RealSet) -> RealSet:
    """All other real numbers."""
    found, low = [], _ALL.low
    for piece in _merged(pieces):
        if piece.low.place > low.place or (piece.low.place == low.place and low.closed and not piece.low.closed):
            found.append(Piece(low, End(piece.low.node, piece.low.place, not piece.low.closed)))
        low = End(piece.high.node, piece.high.place, not piece.high.closed)
    if low.place < mpmath.inf:
        found.append(Piece(low, _ALL.high))
    return tuple(found)
