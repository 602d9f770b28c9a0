r"""An answer as statements: `a = 1, \quad b = 2 \text{ for } r > 0` is two, each with the sides between its relation signs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.domains.formulas.lexer import tokens

_EQUAL = frozenset(
    {"=", "≈", "\\approx", "\\simeq", "\\sim", "\\equiv", "\\cong", "\\doteq", "\\to", "\\rightarrow", "\\longrightarrow", "\\Rightarrow"}
    | {"\\implies"}
)  # fmt: skip
LESS = {
    "<": 1, "\\le": 1, "\\leq": 1, "\\ll": 1, "\\lt": 1, "\\leqslant": 1,
    ">": -1, "\\ge": -1, "\\geq": -1, "\\gg": -1, "\\gt": -1, "\\geqslant": -1,
}  # fmt: skip
_PROPORTIONAL = frozenset({"\\propto"})
_RELATIONS = _EQUAL | LESS.keys() | _PROPORTIONAL
_SEPARATORS = frozenset({",", ";", "\\quad", "\\qquad", "\\\\"})
_OPEN, _CLOSE = frozenset({"(", "[", "{", "\\{"}), frozenset({")", "]", "}", "\\}"})
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:aligned|align\*?|split|gathered|equation\*?)\}")
_LABELLED = re.compile(r"\\text ?\{ ?\([a-h]\) ?:? ?([^{}]*)\}")
_LABEL = re.compile(r"(?:\\text ?\{ ?)?\(?[a-h]\) ?:?(?: ?\})?|\\text ?\{[^{}:]*: ?\}")
_CONDITION = re.compile(
    r"(?<![_^{])\(?\\text ?\{ ?,? ?(?:(?:for|at|when|where|if|with|as|in|and the|implies|which|valid) |where|\()|\(\\text ?\{"
)
_SPACING = re.compile(r"\\text ?\{ ?(?:,|and|or|;)? ?\}")
_EDGES = (" ", ",", "\\quad")


@dataclass(frozen=True, slots=True)
class Part:
    """One statement of an answer: its sides, and the relation signs between them."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]

    @property
    def value(self) -> str:
        return self.sides[-1]

    @property
    def is_order(self) -> bool:
        return any(relation in LESS for relation in self.relations)


def parts(text: str) -> list[Part]:
    """The statements of a normalised answer, without labels, conditions and words around them."""
    if (labelled := _LABELLED.fullmatch(text)) is not None:
        text = f"\\text{{{labelled[1]}}}"
    text = _SPACING.sub(" , ", _ENVIRONMENT.sub("", text).replace("&", " ")).strip()
    if (label := _LABEL.match(text)) is not None:
        text = text[label.end() :].strip()
    text = _unconditional(text)
    found = [_part(chunk) for piece in _split(tokens(text)) if (chunk := _without_condition(piece))]
    statements = [part for part in found if not _is_condition(part)] or found[:1]
    return [expanded for part in statements for expanded in _both_signs(part)]


def _unconditional(text: str) -> str:
    """Up to the first condition, and without the separators before it."""
    condition = _CONDITION.search(text)
    if condition is None:
        return text
    text = text[: condition.start()]
    while text.endswith(_EDGES):
        text = text.removesuffix("\\quad").rstrip(" ,")
    return text


def _split(items: Sequence[str]) -> Iterator[list[str]]:
    """Pieces between separators outside all brackets."""
    depth, piece = 0, list[str]()
    for item in items:
        depth += (item in _OPEN or item == "\\begin") - (item in _CLOSE or item == "\\end")
        if depth <= 0 and item in _SEPARATORS:
            yield piece
            piece = []
        else:
            piece.append(item)
    yield piece


def _without_condition(piece: list[str]) -> list[str]:
    """Without a closing bracket that holds a condition, as (r > R), and the full stop."""
    while piece and piece[-1] in (".", ",", ":"):
        piece = piece[:-1]
    if piece and piece[-1] == ")":
        depth = 0
        for start in range(len(piece) - 1, -1, -1):
            depth += (piece[start] in _CLOSE) - (piece[start] in _OPEN)
            if depth == 0:
                inside = piece[start:]
                if (
                    start
                    and any(item in LESS or item in _EQUAL for item in inside)
                    and any(i in _EQUAL for i in piece[:start])
                ):
                    return _without_condition(piece[:start])
                break
    return piece


def _part(piece: Sequence[str]) -> Part:
    sides, relations, depth = [[]], [], 0
    for item in piece:
        depth += (item in _OPEN) - (item in _CLOSE)
        if depth == 0 and item in _RELATIONS:
            relations.append(item)
            sides.append([])
        else:
            sides[-1].append(item)
    texts = [" ".join(side) for side in sides]
    if relations and not texts[0]:  # as in "≈ 3"
        texts, relations = texts[1:], relations[1:]
    return Part(tuple(texts), tuple(relations))


def _is_condition(part: Part) -> bool:
    if len(part.sides) == 1 and part.value.startswith("(") and any(item in LESS for item in part.value.split()):
        return True
    return part.is_order or "\\ldots" in part.value or "\\dots" in part.value or "..." in part.value.replace(" ", "")


def _both_signs(part: Part) -> list[Part]:
    if not any("\\pm" in side or "\\mp" in side for side in part.sides[-1:]):
        return [part]

    def signed(plus: str, minus: str) -> Part:
        sides = [side.replace("\\pm", plus).replace("\\mp", minus) for side in part.sides]
        return Part(tuple(sides), part.relations)

    return [signed("+", "-"), signed("-", "+")]
